-- Notices that nobody got, and why.

CREATE TABLE undelivered (
    id TEXT PRIMARY KEY NOT NULL,
    namespace TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created INTEGER NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    due INTEGER NOT NULL,
    given_up INTEGER NOT NULL,
    why TEXT NOT NULL
) STRICT;

CREATE INDEX undelivered_given_up ON undelivered (given_up);
CREATE INDEX undelivered_namespace ON undelivered (namespace, given_up);
