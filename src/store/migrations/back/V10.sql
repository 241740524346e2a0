-- Loses lists of owners: SELECT count(*) FROM namespace WHERE owners <> '[]'
-- Loses lists of exemptions: SELECT count(*) FROM namespace WHERE exemptions <> '[]'
-- Loses records of the audit trail: SELECT count(*) FROM audit
DROP TABLE audit;
ALTER TABLE namespace DROP COLUMN exemptions;
ALTER TABLE namespace DROP COLUMN owners;
