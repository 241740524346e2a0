-- Which client claimed a namespace, and with which `expires` a claim brought its end nearer. Both are unknown of what was claimed
-- before.

ALTER TABLE namespace ADD COLUMN claimed_by TEXT;
ALTER TABLE namespace ADD COLUMN end_asked INTEGER;

CREATE INDEX namespace_claimed_by ON namespace (claimed_by) WHERE gone_since IS NULL;
