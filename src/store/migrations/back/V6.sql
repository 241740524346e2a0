-- Loses clients that claimed namespaces, and ends that were asked for: SELECT count(*) FROM namespace WHERE claimed_by IS NOT NULL OR end_asked IS NOT NULL
DROP INDEX namespace_claimed_by;
ALTER TABLE namespace DROP COLUMN end_asked;
ALTER TABLE namespace DROP COLUMN claimed_by;
