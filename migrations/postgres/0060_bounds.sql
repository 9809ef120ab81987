-- Within which queues, priorities and times a token works; JSON, nothing for no bounds.
alter table token add column bounds text;
