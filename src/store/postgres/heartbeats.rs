//! The heartbeat in PostgreSQL, whose clock it goes by.

use async_trait::async_trait;

use super::pool::Repeat;
use super::{Postgres, no_row};
use crate::clock::Timestamp;
use crate::domain::hold::{Beat, Vitals};
use crate::store::error::StoreError;
use crate::store::heartbeats::{self, Heartbeats};
use crate::store::table::{Row as _, millis};

/// The server's time in milliseconds. It is that of the statement, not of its transaction.
macro_rules! server_time {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}

/// A pause shows only where there was a beat before. The last beat counts even if it is earlier than the one before: then
/// the server's clock was set back, and what it showed before is wrong.
///
/// On the way it forgets hosts that were not heard of for long. One that is there still tells again.
const BEAT: &str = concat!(
    "WITH told AS (INSERT INTO boot (boot, ahead, seen) SELECT $3::text, $4::bigint, ",
    server_time!(),
    " WHERE $3::text IS NOT NULL ON CONFLICT (boot) DO UPDATE SET ahead = excluded.ahead, seen = excluded.seen), ",
    "forgotten AS (DELETE FROM boot WHERE boot <> $3 AND seen < ",
    server_time!(),
    " - 7776000000) INSERT INTO heartbeat AS old (id, last, since, served) VALUES (1, ",
    server_time!(),
    ", 0, 0) ON CONFLICT (id) DO UPDATE SET last = excluded.last, ",
    "served = old.served + greatest(0, least($1, $2, excluded.last - old.last)), ",
    "since = CASE WHEN old.last < excluded.last - $1 THEN excluded.last ELSE least(old.since, excluded.last) END ",
    "RETURNING last"
);
const VITALS: &str = concat!(
    "SELECT ",
    server_time!(),
    ", last, since, served, ahead, seen FROM (VALUES (1)) AS wanted (id) LEFT JOIN heartbeat USING (id) ",
    "LEFT JOIN boot ON boot = $1"
);

#[async_trait]
impl Heartbeats for Postgres {
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError> {
        let (gap, elapsed) = (millis(beat.gap), millis(beat.elapsed));
        let (boot, ahead) = beat.boot.clone().unzip();
        // Repeated after an answer that was lost, it adds no more than has passed since.
        let beat = self.database.query(Repeat::Safe, BEAT, &[&gap, &elapsed, &boot, &ahead]).await?;
        beat.first().ok_or_else(no_row)?.moment(0)
    }

    async fn vitals(&self, _: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError> {
        let found = self.database.query(Repeat::Safe, VITALS, &[&boot]).await?;
        heartbeats::vitals(found.first().ok_or_else(no_row)?)
    }
}
