-- Loses people who are kept from signing in, who can then: SELECT count(*) FROM barred_person
-- Loses lists of requests for exemptions: SELECT count(*) FROM namespace WHERE requests <> '[]'
DROP TABLE barred_person;
ALTER TABLE task_run DROP COLUMN refused;
ALTER TABLE namespace DROP COLUMN requests;
