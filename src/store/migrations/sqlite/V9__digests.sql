-- What a notice says in a mail that tells of many queues; addresses that refuse our mail for good; and whose reminders are muted.

ALTER TABLE notice ADD COLUMN brief TEXT;
ALTER TABLE undelivered ADD COLUMN brief TEXT;

CREATE TABLE refusal (
    address TEXT PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL
) STRICT;

CREATE TABLE mute (
    target TEXT PRIMARY KEY NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER
) STRICT;
