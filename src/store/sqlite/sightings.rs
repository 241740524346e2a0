//! Sightings in SQLite.

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params};

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::sightings::{self, Digest, Sighting, Sightings};

const FORGET: &str =
    "DELETE FROM sighting WHERE request IN (SELECT request FROM sighting WHERE seen <= ?1 ORDER BY seen LIMIT ?2)";
const SIGHT: &str = "INSERT INTO sighting (request, body, seen) VALUES (?1, ?2, ?3) \
     ON CONFLICT (request) DO UPDATE SET seen = sighting.seen RETURNING body, seen";

/// Remembers sightings, or gives those that are there.
fn sight(db: &mut Connection, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut firsts = Vec::with_capacity(seen.len());
    for (request, new) in seen {
        let params = params![request, new.body, new.seen.millis()];
        let first = query(&transaction, SIGHT, params, |row| sightings::sighting(row))?;
        firsts.push(first.into_iter().next().unwrap_or(*new));
    }
    transaction.commit()?;
    Ok(firsts)
}

/// Does what is not worth a flush: it may be lost with the host's power, and is flushed with the next record.
fn unflushed<T>(
    db: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    db.execute_batch("PRAGMA synchronous = NORMAL")?;
    let done = work(db);
    db.execute_batch("PRAGMA synchronous = FULL")?;
    done
}

#[async_trait]
impl Sightings for Sqlite {
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        let seen = seen.to_vec();
        self.change(move |db| unflushed(db, |db| sight(db, &seen))).await
    }

    async fn forget_sightings(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.change(move |db| unflushed(db, |db| execute(db, FORGET, params![before.millis(), most]))).await
    }
}
