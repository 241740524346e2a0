-- Who owns a namespace, and which of its queues may grow: lists as JSON.
ALTER TABLE namespace ADD COLUMN owners text NOT NULL DEFAULT '[]';
ALTER TABLE namespace ADD COLUMN exemptions text NOT NULL DEFAULT '[]';

-- Who did what to whose things, and why.
CREATE TABLE audit (
    id text PRIMARY KEY NOT NULL,
    at bigint NOT NULL,
    actor_kind text NOT NULL,
    actor text NOT NULL,
    request text,
    action text NOT NULL,
    namespace text,
    object text NOT NULL,
    reason text NOT NULL
);

CREATE INDEX audit_at ON audit (at, id);
CREATE INDEX audit_namespace ON audit (namespace, at, id);
CREATE INDEX audit_actor ON audit (actor, at, id);
CREATE INDEX audit_action ON audit (action, at, id);
