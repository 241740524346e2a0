-- Who is kept from logging in to a namespace: why nobody may claim it (JSON), since when earlier credentials are refused, whether
-- that is still to be carried out, and until when a process may give its users passwords from an earlier version of the row.
ALTER TABLE namespace ADD COLUMN disabled TEXT;
ALTER TABLE namespace ADD COLUMN revoked_from INTEGER;
ALTER TABLE namespace ADD COLUMN revoking INTEGER NOT NULL DEFAULT 0 CHECK (revoking IN (0, 1));
ALTER TABLE namespace ADD COLUMN writing_until INTEGER;
