-- Loses signed requests that were seen: SELECT count(*) FROM sighting
DROP TABLE sighting;
