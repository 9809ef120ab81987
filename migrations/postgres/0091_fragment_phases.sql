-- A sender may count the pieces of each phase by themselves.
alter table foreign_fragment drop constraint foreign_fragment_pkey;
alter table foreign_fragment add primary key (id, attempt, kind, phase, number);
