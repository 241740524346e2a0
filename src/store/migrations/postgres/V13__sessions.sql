-- People who are signed in, by the hash of the id that their browsers have; groups and scopes are lists as JSON.
CREATE TABLE session (
    id text PRIMARY KEY NOT NULL,
    subject text NOT NULL,
    address text,
    member_of text NOT NULL,
    scopes text NOT NULL,
    created bigint NOT NULL,
    seen bigint NOT NULL,
    expires bigint NOT NULL
);

CREATE INDEX session_subject ON session (subject);
CREATE INDEX session_expires ON session (expires);

-- How the last run of each task went.
CREATE TABLE task_run (
    task text PRIMARY KEY NOT NULL,
    at bigint NOT NULL,
    good boolean NOT NULL,
    summary text NOT NULL
);
