-- For how long the API was within its clients' reach, all heartbeats together, in milliseconds; and at how much of that the
-- life of a namespace is over. Claims by earlier programs note nothing.

ALTER TABLE heartbeat ADD COLUMN served BIGINT NOT NULL DEFAULT 0;
ALTER TABLE namespace ADD COLUMN matures BIGINT;

-- How far the calendar is ahead of the uptime of a host, in milliseconds, by the last heartbeat from that boot of it.

CREATE TABLE boot (
    boot TEXT PRIMARY KEY,
    ahead BIGINT NOT NULL,
    seen BIGINT NOT NULL
);
