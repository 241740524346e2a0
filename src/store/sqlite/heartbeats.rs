//! The heartbeat in SQLite, which goes by the clock of its host.

use async_trait::async_trait;
use rusqlite::TransactionBehavior;

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::domain::hold::{Beat, Vitals};
use crate::store::error::StoreError;
use crate::store::heartbeats::{self, Heartbeats};
use crate::store::table::millis;

/// As for PostgreSQL, with the caller's time.
const BEAT: &str = "INSERT INTO heartbeat AS old (id, last, since, served) VALUES (1, ?1, 0, 0) \
     ON CONFLICT (id) DO UPDATE SET last = excluded.last, \
     served = old.served + max(0, min(?2, ?3, excluded.last - old.last)), \
     since = CASE WHEN old.last < excluded.last - ?2 THEN excluded.last ELSE min(old.since, excluded.last) END";
/// Forgets hosts that were not heard of for long. One that is there still tells again.
const BOOT: &str = "INSERT INTO boot (boot, ahead, seen) VALUES (?1, ?2, ?3) \
     ON CONFLICT (boot) DO UPDATE SET ahead = excluded.ahead, seen = excluded.seen";
const FORGET_BOOTS: &str = "DELETE FROM boot WHERE seen < ?1 - 7776000000";
const VITALS: &str = "SELECT ?1, last, since, served, ahead, seen \
     FROM (SELECT 1 AS id) LEFT JOIN heartbeat USING (id) LEFT JOIN boot ON boot = ?2";

#[async_trait]
impl Heartbeats for Sqlite {
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError> {
        let Beat { now, gap, elapsed, boot } = beat.clone();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            execute(&transaction, BEAT, (now.millis(), millis(gap), millis(elapsed)))?;
            if let Some((boot, ahead)) = boot {
                execute(&transaction, BOOT, (boot, ahead, now.millis()))?;
                execute(&transaction, FORGET_BOOTS, [now.millis()])?;
            }
            Ok(transaction.commit()?)
        })
        .await?;
        Ok(now)
    }

    async fn vitals(&self, now: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError> {
        let params = (now.millis(), boot.map(str::to_owned));
        let found = self.read(move |db| query(db, VITALS, params, |row| heartbeats::vitals(row))).await?;
        // It always gives one row.
        Ok(found.into_iter().next().unwrap_or(Vitals { now, heartbeat: None, right: None }))
    }
}
