-- Which deployment this is: its tag marks its users at the broker. One row, made here and never changed.

CREATE TABLE deployment (
    id SMALLINT PRIMARY KEY CHECK (id = 1),
    tag TEXT NOT NULL
);

INSERT INTO deployment (id, tag)
VALUES (1, 'taskcluster-pulse-' || substr(md5(gen_random_uuid()::text), 1, 16));

-- Users of others that stand where ours should, as they were last seen.

CREATE TABLE foreign_user (
    name TEXT COLLATE "C" PRIMARY KEY
);
