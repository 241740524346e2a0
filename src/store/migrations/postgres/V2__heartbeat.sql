-- When the API was within its clients' reach: when that was noted last, and since when there was no long pause. One row,
-- written by whichever web process comes by.

CREATE TABLE heartbeat (
    id SMALLINT PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL,
    since BIGINT NOT NULL
);
