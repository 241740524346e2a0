-- Loses times for which namespaces are to live: SELECT count(*) FROM namespace WHERE matures IS NOT NULL
ALTER TABLE namespace DROP COLUMN matures;
ALTER TABLE heartbeat DROP COLUMN served;
DROP TABLE boot;
