-- Loses namespaces that are disabled, which can be claimed then: SELECT count(*) FROM namespace WHERE disabled IS NOT NULL
-- Loses revocations that are to be carried out: SELECT count(*) FROM namespace WHERE revoking
ALTER TABLE namespace DROP COLUMN writing_until;
ALTER TABLE namespace DROP COLUMN revoking;
ALTER TABLE namespace DROP COLUMN revoked_from;
ALTER TABLE namespace DROP COLUMN disabled;
