-- Loses warnings of queues: SELECT count(*) FROM watch
-- Loses histories of queues: SELECT count(*) FROM history
ALTER TABLE undelivered DROP COLUMN about;
ALTER TABLE notice DROP COLUMN about;
DROP TABLE history;
DROP TABLE watch;
