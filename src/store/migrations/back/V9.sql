-- Loses addresses that refuse mail: SELECT count(*) FROM refusal
-- Loses mutes of reminders: SELECT count(*) FROM mute
DROP TABLE mute;
DROP TABLE refusal;
ALTER TABLE undelivered DROP COLUMN brief;
ALTER TABLE notice DROP COLUMN brief;
