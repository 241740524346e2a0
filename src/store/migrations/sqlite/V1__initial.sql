-- Moments are milliseconds since 1970-01-01T00:00:00Z. Columns whose names end in _password hold sealed text.

CREATE TABLE namespace (
    name TEXT PRIMARY KEY NOT NULL CHECK (length(name) BETWEEN 1 AND 64 AND name NOT GLOB '*[^A-Za-z0-9_-]*'),
    contact TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    active_slot INTEGER CHECK (active_slot IN (1, 2)),
    active_password TEXT,
    previous_slot INTEGER CHECK (previous_slot IN (1, 2)),
    previous_password TEXT,
    pending_slot INTEGER CHECK (pending_slot IN (1, 2)),
    pending_password TEXT,
    pending_since INTEGER,
    due INTEGER NOT NULL,
    grace INTEGER NOT NULL CHECK (grace >= 0),
    gone_since INTEGER,
    cleaning_until INTEGER,
    warned INTEGER,
    version INTEGER NOT NULL CHECK (version > 0),
    CHECK ((active_slot IS NULL) = (active_password IS NULL)),
    CHECK ((previous_slot IS NULL) = (previous_password IS NULL)),
    CHECK ((pending_slot IS NULL) = (pending_password IS NULL)),
    CHECK ((pending_slot IS NULL) = (pending_since IS NULL)),
    -- Neither the password that is being put in force nor the former one may be that of the active user.
    CHECK (pending_slot <> active_slot),
    CHECK (previous_slot <> active_slot),
    CHECK (cleaning_until IS NULL OR gone_since IS NOT NULL)
) STRICT;

CREATE INDEX namespace_due ON namespace (due, name) WHERE gone_since IS NULL;

CREATE TABLE alert (
    queue TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('watched', 'warning', 'deleting')),
    since INTEGER NOT NULL,
    messages INTEGER NOT NULL CHECK (messages >= 0),
    seen INTEGER NOT NULL,
    growth INTEGER,
    told INTEGER,
    version INTEGER NOT NULL CHECK (version > 0)
) STRICT;

CREATE TABLE notice (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    due INTEGER NOT NULL
) STRICT;

CREATE INDEX notice_due ON notice (due, id);

CREATE TABLE lease (
    task TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    until INTEGER NOT NULL
) STRICT;
