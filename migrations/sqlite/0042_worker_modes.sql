-- Who wanted a worker's mode, since when, why and until when.
alter table worker add column mode_by text;
alter table worker add column mode_why text;
alter table worker add column mode_since integer;
alter table worker add column mode_until integer;
