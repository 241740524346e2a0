-- Moments are milliseconds since 1970-01-01T00:00:00Z. Columns whose names end in _password hold sealed text.
-- Names collate as "C", so that their order is that of their bytes, as it is in SQLite.

CREATE TABLE namespace (
    name TEXT COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9_-]{1,64}$'),
    contact TEXT NOT NULL,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    active_slot SMALLINT CHECK (active_slot IN (1, 2)),
    active_password TEXT,
    previous_slot SMALLINT CHECK (previous_slot IN (1, 2)),
    previous_password TEXT,
    pending_slot SMALLINT CHECK (pending_slot IN (1, 2)),
    pending_password TEXT,
    pending_since BIGINT,
    due BIGINT NOT NULL,
    grace BIGINT NOT NULL CHECK (grace >= 0),
    gone_since BIGINT,
    cleaning_until BIGINT,
    warned BIGINT,
    version BIGINT NOT NULL CHECK (version > 0),
    CHECK ((active_slot IS NULL) = (active_password IS NULL)),
    CHECK ((previous_slot IS NULL) = (previous_password IS NULL)),
    CHECK ((pending_slot IS NULL) = (pending_password IS NULL)),
    CHECK ((pending_slot IS NULL) = (pending_since IS NULL)),
    -- Neither the password that is being put in force nor the former one may be that of the active user.
    CHECK (pending_slot <> active_slot),
    CHECK (previous_slot <> active_slot),
    CHECK (cleaning_until IS NULL OR gone_since IS NOT NULL)
);

CREATE INDEX namespace_due ON namespace (due, name) WHERE gone_since IS NULL;

CREATE TABLE alert (
    queue TEXT COLLATE "C" PRIMARY KEY,
    namespace TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('watched', 'warning', 'deleting')),
    since BIGINT NOT NULL,
    messages BIGINT NOT NULL CHECK (messages >= 0),
    seen BIGINT NOT NULL,
    growth BIGINT,
    told BIGINT,
    version BIGINT NOT NULL CHECK (version > 0)
);

CREATE TABLE notice (
    id TEXT COLLATE "C" PRIMARY KEY,
    namespace TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    due BIGINT NOT NULL
);

CREATE INDEX notice_due ON notice (due, id);

CREATE TABLE lease (
    task TEXT COLLATE "C" PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);
