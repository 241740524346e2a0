//! Sightings in PostgreSQL.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::Postgres;
use super::param::Param;
use super::pool::Repeat;
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::sightings::{self, Digest, Sighting, Sightings};
use crate::store::table::Row as _;

const SIGHT: &str = "INSERT INTO sighting (body, seen, request) \
     SELECT * FROM unnest($1::bytea[], $2::bigint[], $3::bytea[]) \
     ON CONFLICT (request) DO UPDATE SET seen = sighting.seen RETURNING body, seen, request";
const FORGET: &str = "DELETE FROM sighting WHERE request = ANY(ARRAY(SELECT request FROM sighting \
     WHERE seen <= $1 ORDER BY seen LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING seen";

#[async_trait]
impl Sightings for Postgres {
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        // Each once, and in one order, so that two batches wait for each other in one direction only.
        let mut first = BTreeMap::new();
        for (request, sighting) in seen {
            first.entry(request.as_slice()).or_insert(*sighting);
        }
        let requests: Vec<_> = first.keys().copied().collect();
        let bodies: Vec<_> = first.values().map(|sighting| sighting.body.as_slice()).collect();
        let moments: Vec<_> = first.values().map(|sighting| sighting.seen.millis()).collect();
        let params: [&dyn Param; 3] = [&bodies, &moments, &requests];
        let found = self.database.query(Repeat::Safe, SIGHT, &params).await?;
        let mut known = BTreeMap::new();
        for row in &found {
            known.insert(row.field::<Vec<u8>>(2)?, sightings::sighting(row)?);
        }
        Ok(seen.iter().map(|(request, new)| known.get(request.as_slice()).copied().unwrap_or(*new)).collect())
    }

    async fn forget_sightings(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        let params: [&dyn Param; 2] = [&before.millis(), &i64::from(most)];
        Ok(self.database.query(Repeat::Safe, FORGET, &params).await?.len())
    }
}
