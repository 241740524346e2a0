-- Loses messages that nobody got: SELECT count(*) FROM undelivered
DROP TABLE undelivered;
