-- Who is kept from logging in to a namespace: why nobody may claim it (JSON), since when earlier credentials are refused, whether
-- that is still to be carried out, and until when a process may give its users passwords from an earlier version of the row.
ALTER TABLE namespace ADD COLUMN disabled text;
ALTER TABLE namespace ADD COLUMN revoked_from bigint;
ALTER TABLE namespace ADD COLUMN revoking boolean NOT NULL DEFAULT false;
ALTER TABLE namespace ADD COLUMN writing_until bigint;
