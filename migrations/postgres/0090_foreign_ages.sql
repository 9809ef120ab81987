-- What jobs of other systems' agents left goes by its age.
create index foreign_fragment_age on foreign_fragment (created_at);
create index foreign_file_age on foreign_file (created_at);
