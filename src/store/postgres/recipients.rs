//! Recipients in PostgreSQL.

use async_trait::async_trait;

use super::Postgres;
use super::pool::Repeat;
use super::text::escaped;
use crate::clock::Timestamp;
use crate::domain::recipients::{Mute, Recipients};
use crate::store::error::StoreError;
use crate::store::recipients::{self, ALL, RecipientRecords};
use crate::store::table::Row as _;

/// Forgets none that another call is just forgetting, and not the one that it writes.
const REFUSE: &str = "WITH forgotten AS (DELETE FROM refusal WHERE address = ANY(ARRAY(\
     SELECT address FROM refusal WHERE at <= $3 AND address <> $1 FOR UPDATE SKIP LOCKED))) \
     INSERT INTO refusal (address, at) VALUES ($1, $2) ON CONFLICT (address) DO UPDATE SET at = excluded.at";
/// Gives back a row where one was there; `xmax` is zero in one that was inserted.
const MUTE: &str = "INSERT INTO mute (target, since, until) VALUES ($1, $2, $3) \
     ON CONFLICT (target) DO UPDATE SET since = excluded.since, until = excluded.until RETURNING xmax <> 0";

#[async_trait]
impl RecipientRecords for Postgres {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        let found = self.database.query(Repeat::Safe, ALL, &[]).await?;
        Ok(recipients::recipients(found.iter().map(recipients::known).collect::<Result<_, _>>()?))
    }

    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError> {
        let (address, at, forget) = (escaped(address), at.millis(), forget.millis());
        self.database.query(Repeat::Safe, REFUSE, &[&address, &at, &forget]).await?;
        Ok(())
    }

    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError> {
        let target = escaped(target);
        let Some(Mute { since, until }) = mute else {
            let sql = "DELETE FROM mute WHERE target = $1 RETURNING target";
            return Ok(!self.database.query(Repeat::Never, sql, &[&target]).await?.is_empty());
        };
        let (since, until) = (since.millis(), until.map(Timestamp::millis));
        let written = self.database.query(Repeat::Never, MUTE, &[&target, &since, &until]).await?;
        written.first().map_or(Ok(false), |row| row.field(0))
    }
}
