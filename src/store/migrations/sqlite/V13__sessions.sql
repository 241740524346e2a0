-- People who are signed in, by the hash of the id that their browsers have; groups and scopes are lists as JSON.
CREATE TABLE session (
    id TEXT PRIMARY KEY NOT NULL,
    subject TEXT NOT NULL,
    address TEXT,
    member_of TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    expires INTEGER NOT NULL
) STRICT;

CREATE INDEX session_subject ON session (subject);
CREATE INDEX session_expires ON session (expires);

-- How the last run of each task went.
CREATE TABLE task_run (
    task TEXT PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    good INTEGER NOT NULL,
    summary TEXT NOT NULL
) STRICT;
