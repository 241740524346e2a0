-- What the last run of each task counted, as an object of JSON, and when a run of it came to its end last.
ALTER TABLE task_run ADD COLUMN figures text NOT NULL DEFAULT '{}';
ALTER TABLE task_run ADD COLUMN good_at bigint;
