-- What is remembered of queues in trouble, what was seen of queues, and which queue a notice is about. The table `alert` is left
-- for the programs before this one.

CREATE TABLE watch (
    queue TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    messages INTEGER NOT NULL CHECK (messages >= 0),
    first_seen INTEGER NOT NULL,
    fingerprint INTEGER NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('watched', 'warned', 'removing')),
    since INTEGER NOT NULL,
    told INTEGER,
    told_cause TEXT,
    told_messages INTEGER,
    mail TEXT CHECK (mail IN ('nobody', 'waiting', 'accepted')),
    accepted INTEGER,
    last_told INTEGER,
    warned INTEGER,
    quiet INTEGER,
    relapses INTEGER NOT NULL CHECK (relapses >= 0),
    changes INTEGER NOT NULL CHECK (changes >= 0),
    closings INTEGER NOT NULL CHECK (closings >= 0),
    closed INTEGER,
    kept_out INTEGER NOT NULL CHECK (kept_out IN (0, 1)),
    decided INTEGER NOT NULL CHECK (decided IN (0, 1)),
    failure_told INTEGER,
    version INTEGER NOT NULL CHECK (version > 0),
    CHECK ((told IS NULL) = (told_cause IS NULL) AND (told IS NULL) = (told_messages IS NULL) AND (told IS NULL) = (mail IS NULL))
) STRICT;

CREATE TABLE history (
    queue TEXT PRIMARY KEY NOT NULL,
    looks BLOB NOT NULL
) STRICT;

ALTER TABLE notice ADD COLUMN about TEXT;
ALTER TABLE undelivered ADD COLUMN about TEXT;
