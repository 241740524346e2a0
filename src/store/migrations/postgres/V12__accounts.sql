-- What a namespace is beyond that if it is an account, as JSON.
ALTER TABLE namespace ADD COLUMN account text;

-- Accounts may have dots in their names, and longer ones.
ALTER TABLE namespace
    DROP CONSTRAINT namespace_name_check,
    ADD CONSTRAINT namespace_name_check CHECK (
        name ~ '^[A-Za-z0-9_-]{1,64}$' OR (account IS NOT NULL AND name ~ '^[A-Za-z0-9._-]{1,128}$')
    );

CREATE INDEX namespace_account ON namespace (name) WHERE account IS NOT NULL;
