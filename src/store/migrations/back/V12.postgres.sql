-- Loses accounts of people, whose users are left as they are: SELECT count(*) FROM namespace WHERE account IS NOT NULL
DELETE FROM namespace WHERE account IS NOT NULL;
DROP INDEX namespace_account;
ALTER TABLE namespace
    DROP CONSTRAINT namespace_name_check,
    ADD CONSTRAINT namespace_name_check CHECK (name ~ '^[A-Za-z0-9_-]{1,64}$');
ALTER TABLE namespace DROP COLUMN account;
