-- Signed requests that were seen.

CREATE TABLE sighting (
    request BLOB PRIMARY KEY NOT NULL,
    body BLOB NOT NULL,
    seen INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sighting_seen ON sighting (seen);
