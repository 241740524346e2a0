-- What the last runs counted is lost; the next ones count anew.
ALTER TABLE task_run DROP COLUMN figures;
ALTER TABLE task_run DROP COLUMN good_at;
