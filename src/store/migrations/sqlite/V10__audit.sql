-- Who owns a namespace, and which of its queues may grow: lists as JSON.
ALTER TABLE namespace ADD COLUMN owners TEXT NOT NULL DEFAULT '[]';
ALTER TABLE namespace ADD COLUMN exemptions TEXT NOT NULL DEFAULT '[]';

-- Who did what to whose things, and why.
CREATE TABLE audit (
    id TEXT PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    request TEXT,
    action TEXT NOT NULL,
    namespace TEXT,
    object TEXT NOT NULL,
    reason TEXT NOT NULL
) STRICT;

CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_namespace ON audit (namespace, at, id);
CREATE INDEX audit_actor ON audit (actor, at, id);
CREATE INDEX audit_action ON audit (action, at, id);
