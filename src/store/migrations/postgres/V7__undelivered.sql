-- Notices that nobody got, and why.

CREATE TABLE undelivered (
    id TEXT COLLATE "C" PRIMARY KEY,
    namespace TEXT NOT NULL,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    created BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    due BIGINT NOT NULL,
    given_up BIGINT NOT NULL,
    why TEXT NOT NULL
);

CREATE INDEX undelivered_given_up ON undelivered (given_up);
CREATE INDEX undelivered_namespace ON undelivered (namespace, given_up);
