-- What a notice says in a mail that tells of many queues; addresses that refuse our mail for good; and whose reminders are muted.

ALTER TABLE notice ADD COLUMN brief TEXT;
ALTER TABLE undelivered ADD COLUMN brief TEXT;

CREATE TABLE refusal (
    address TEXT COLLATE "C" PRIMARY KEY,
    at BIGINT NOT NULL
);

CREATE TABLE mute (
    target TEXT COLLATE "C" PRIMARY KEY,
    since BIGINT NOT NULL,
    until BIGINT
);
