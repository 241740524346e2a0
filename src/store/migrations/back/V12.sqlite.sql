-- Loses accounts of people, whose users are left as they are: SELECT count(*) FROM namespace WHERE account IS NOT NULL
DELETE FROM namespace WHERE account IS NOT NULL;
DROP INDEX namespace_account;
PRAGMA writable_schema = ON;
UPDATE sqlite_schema SET sql = replace(
    sql,
    '(length(name) BETWEEN 1 AND 64 AND name NOT GLOB ''*[^A-Za-z0-9_-]*'') OR '
    || '(account IS NOT NULL AND length(name) BETWEEN 1 AND 128 AND name NOT GLOB ''*[^A-Za-z0-9._-]*'')',
    'length(name) BETWEEN 1 AND 64 AND name NOT GLOB ''*[^A-Za-z0-9_-]*'''
) WHERE type = 'table' AND name = 'namespace';
PRAGMA writable_schema = RESET;
ALTER TABLE namespace DROP COLUMN account;
