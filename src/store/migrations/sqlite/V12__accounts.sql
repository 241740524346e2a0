-- What a namespace is beyond that if it is an account, as JSON.
ALTER TABLE namespace ADD COLUMN account TEXT;

-- Accounts may have dots in their names, and longer ones. This is what SQLite's manual says of changing a CHECK: the rows stay as
-- they are, and the next change of the schema has every connection read it anew.
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(
    sql,
    'length(name) BETWEEN 1 AND 64 AND name NOT GLOB ''*[^A-Za-z0-9_-]*''',
    '(length(name) BETWEEN 1 AND 64 AND name NOT GLOB ''*[^A-Za-z0-9_-]*'') OR '
    || '(account IS NOT NULL AND length(name) BETWEEN 1 AND 128 AND name NOT GLOB ''*[^A-Za-z0-9._-]*'')'
) WHERE type = 'table' AND name = 'namespace';
PRAGMA writable_schema = RESET;

CREATE INDEX namespace_account ON namespace (name) WHERE account IS NOT NULL;
