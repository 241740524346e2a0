-- When the API was within its clients' reach: when that was noted last, and since when there was no long pause. One row,
-- written by whichever web process comes by.

CREATE TABLE heartbeat (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last INTEGER NOT NULL,
    since INTEGER NOT NULL
) STRICT;
