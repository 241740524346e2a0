-- Signed requests that were seen. They count for half an hour, so that they may be lost with a server that crashes, and
-- are not worth a flush each.

CREATE UNLOGGED TABLE sighting (
    request BYTEA PRIMARY KEY,
    body BYTEA NOT NULL,
    seen BIGINT NOT NULL
);

CREATE INDEX sighting_seen ON sighting (seen);
