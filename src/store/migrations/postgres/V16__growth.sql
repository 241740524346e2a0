-- With the name, so that those of a client are counted by the index alone.
CREATE INDEX namespace_of_client ON namespace (claimed_by, name) WHERE gone_since IS NULL;
DROP INDEX namespace_claimed_by;
