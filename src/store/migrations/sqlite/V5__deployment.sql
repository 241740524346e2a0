-- Which deployment this is: its tag marks its users at the broker. One row, made here and never changed.

CREATE TABLE deployment (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    tag TEXT NOT NULL
) STRICT;

INSERT INTO deployment (id, tag) VALUES (1, 'taskcluster-pulse-' || lower(hex(randomblob(8))));

-- Users of others that stand where ours should, as they were last seen.

CREATE TABLE foreign_user (
    name TEXT PRIMARY KEY NOT NULL
) STRICT, WITHOUT ROWID;
