//! Queues in SQLite.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::{TransactionBehavior, params};

use super::Sqlite;
use super::rows::{execute, query};
use crate::domain::guard::HistoryChange;
use crate::domain::history::History;
use crate::domain::watched::Watched;
use crate::store::error::StoreError;
use crate::store::table::Table as _;
use crate::store::watches::{self, SeenOf, WatchRow, Watches};

static WATCHES: LazyLock<String> = LazyLock::new(|| WatchRow::select("ORDER BY queue"));
static WATCH: LazyLock<String> = LazyLock::new(|| WatchRow::select("WHERE queue = ?1"));
const HISTORY: &str = "SELECT queue, looks FROM history WHERE queue = ?1";
const PUT_HISTORY: &str = "INSERT INTO history (queue, looks) VALUES (?1, ?2) \
     ON CONFLICT (queue) DO UPDATE SET looks = excluded.looks";

#[async_trait]
impl Watches for Sqlite {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        self.read(|db| query(db, &WATCHES, [], |row| watches::watched(row))).await
    }

    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        let sql = "SELECT queue, looks FROM history";
        let found = self.read(move |db| query(db, sql, [], |row| watches::history(row))).await?;
        Ok(watches::readable(found))
    }

    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError> {
        let queues = queues.to_vec();
        let (watches, histories) = self
            .read(move |db| {
                let (mut found, mut seen) = (Vec::new(), Vec::new());
                for queue in &queues {
                    found.extend(query(db, &WATCH, [queue], |row| watches::watched(row))?);
                    seen.extend(query(db, HISTORY, [queue], |row| watches::history(row))?);
                }
                Ok((found, seen))
            })
            .await?;
        Ok((watches, watches::readable(histories)))
    }

    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let bytes = |(queue, history): &HistoryChange| (queue.clone(), history.as_ref().map(History::to_bytes));
        let rows: Vec<_> = changes.iter().map(bytes).collect();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (queue, looks) in rows {
                match looks {
                    Some(looks) => execute(&transaction, PUT_HISTORY, params![queue, looks])?,
                    None => execute(&transaction, "DELETE FROM history WHERE queue = ?1", [queue])?,
                };
            }
            Ok(transaction.commit()?)
        })
        .await
    }
}
