-- What is remembered of queues in trouble, what was seen of queues, and which queue a notice is about. The table `alert` is left
-- for the programs before this one.

CREATE TABLE watch (
    queue TEXT COLLATE "C" PRIMARY KEY,
    namespace TEXT NOT NULL,
    messages BIGINT NOT NULL CHECK (messages >= 0),
    first_seen BIGINT NOT NULL,
    fingerprint BIGINT NOT NULL,
    stage TEXT NOT NULL CHECK (stage IN ('watched', 'warned', 'removing')),
    since BIGINT NOT NULL,
    told BIGINT,
    told_cause TEXT,
    told_messages BIGINT,
    mail TEXT CHECK (mail IN ('nobody', 'waiting', 'accepted')),
    accepted BIGINT,
    last_told BIGINT,
    warned BIGINT,
    quiet BIGINT,
    relapses BIGINT NOT NULL CHECK (relapses >= 0),
    changes BIGINT NOT NULL CHECK (changes >= 0),
    closings BIGINT NOT NULL CHECK (closings >= 0),
    closed BIGINT,
    kept_out BOOLEAN NOT NULL,
    decided BOOLEAN NOT NULL,
    failure_told BIGINT,
    version BIGINT NOT NULL CHECK (version > 0),
    CHECK ((told IS NULL) = (told_cause IS NULL) AND (told IS NULL) = (told_messages IS NULL) AND (told IS NULL) = (mail IS NULL))
);

CREATE TABLE history (
    queue TEXT COLLATE "C" PRIMARY KEY,
    looks BYTEA NOT NULL
);

ALTER TABLE notice ADD COLUMN about TEXT;
ALTER TABLE undelivered ADD COLUMN about TEXT;
