CREATE INDEX namespace_claimed_by ON namespace (claimed_by) WHERE gone_since IS NULL;
DROP INDEX namespace_of_client;
