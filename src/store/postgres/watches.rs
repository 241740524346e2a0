//! Queues in PostgreSQL.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;

use super::Postgres;
use super::pool::Repeat;
use super::text::escaped;
use crate::domain::guard::HistoryChange;
use crate::domain::history::History;
use crate::domain::watched::Watched;
use crate::store::error::StoreError;
use crate::store::table::Table as _;
use crate::store::watches::{self, SeenOf, WatchRow, Watches};

static WATCHES: LazyLock<String> = LazyLock::new(|| WatchRow::select("ORDER BY queue"));
static WATCHES_OF: LazyLock<String> =
    LazyLock::new(|| WatchRow::select("WHERE queue = ANY($1::text[]) ORDER BY queue"));
const HISTORIES_OF: &str = "SELECT queue, looks FROM history WHERE queue = ANY($1::text[])";
const PUT_HISTORIES: &str = "INSERT INTO history (queue, looks) SELECT * FROM unnest($1::text[], $2::bytea[]) \
     ON CONFLICT (queue) DO UPDATE SET looks = excluded.looks";

#[async_trait]
impl Watches for Postgres {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        self.database.query(Repeat::Safe, &WATCHES, &[]).await?.iter().map(watches::watched).collect()
    }

    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        let found = self.database.query(Repeat::Safe, "SELECT queue, looks FROM history", &[]).await?;
        Ok(watches::readable(found.iter().map(watches::history).collect::<Result<_, _>>()?))
    }

    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError> {
        let queues: Vec<_> = queues.iter().map(|queue| escaped(queue)).collect();
        let watches = self.database.query(Repeat::Safe, &WATCHES_OF, &[&queues]).await?;
        let histories = self.database.query(Repeat::Safe, HISTORIES_OF, &[&queues]).await?;
        let watches = watches.iter().map(watches::watched).collect::<Result<_, _>>()?;
        Ok((watches, watches::readable(histories.iter().map(watches::history).collect::<Result<_, _>>()?)))
    }

    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError> {
        // In one order, so that two processes at it wait for each other in one direction only.
        let mut changes: Vec<_> = changes.iter().collect();
        changes.sort_by_key(|(queue, _)| queue);
        let (kept, gone): (Vec<_>, Vec<_>) = changes.into_iter().partition(|(_, history)| history.is_some());
        if !kept.is_empty() {
            let queues: Vec<_> = kept.iter().map(|(queue, _)| escaped(queue)).collect();
            let looks: Vec<_> =
                kept.iter().filter_map(|(_, history)| history.as_ref().map(History::to_bytes)).collect();
            self.database.query(Repeat::Safe, PUT_HISTORIES, &[&queues, &looks]).await?;
        }
        if !gone.is_empty() {
            let queues: Vec<_> = gone.iter().map(|(queue, _)| escaped(queue)).collect();
            let sql = "DELETE FROM history WHERE queue = ANY($1::text[])";
            self.database.query(Repeat::Safe, sql, &[&queues]).await?;
        }
        Ok(())
    }
}
