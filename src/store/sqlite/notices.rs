//! Notices in SQLite.

use std::sync::LazyLock;

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params};

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::domain::notice::{Notice, Undelivered};
use crate::store::error::StoreError;
use crate::store::notices::{self, Accepted, Keep, NoticeRow, Notices};
use crate::store::table::Table as _;

static TAKE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE notice SET attempts = attempts + 1, due = ?2 WHERE id IN (SELECT id FROM notice \
         WHERE due <= ?1 OR due > ?1 + 86400000 ORDER BY due, id LIMIT ?3) RETURNING {}",
        NoticeRow::columns()
    )
});
static TAKE_TO: LazyLock<String> = LazyLock::new(|| {
    format!(
        "UPDATE notice SET attempts = attempts + 1, due = ?2 WHERE id IN (SELECT id FROM notice \
         WHERE (due <= ?1 OR due > ?1 + 86400000) AND recipient = ?4 AND brief IS NOT NULL ORDER BY due, id LIMIT ?3) \
         RETURNING {}",
        NoticeRow::columns()
    )
});
const REMOVE: &str = "DELETE FROM notice WHERE id = ?1";
const ACCEPT: &str = "UPDATE watch SET mail = 'accepted', accepted = ?3, warned = coalesce(warned, max(?3, told)), \
     version = version + 1 WHERE queue = ?1 AND told = ?2 AND mail = 'waiting'";
static GIVE_UP: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO undelivered ({}) SELECT {}, ?2, ?3 FROM notice WHERE id = ?1 ON CONFLICT (id) DO NOTHING",
        notices::undelivered_columns(),
        NoticeRow::columns()
    )
});
const FORGET_UNDELIVERED: &str = "DELETE FROM undelivered WHERE given_up <= ?2 OR id IN (SELECT id FROM undelivered \
     WHERE namespace = (SELECT namespace FROM undelivered WHERE id = ?1) ORDER BY given_up DESC, id LIMIT -1 OFFSET ?3)";
static UNDELIVERED: LazyLock<String> = LazyLock::new(|| {
    format!("SELECT {} FROM undelivered ORDER BY given_up DESC, id LIMIT ?1", notices::undelivered_columns())
});

#[async_trait]
impl Notices for Sqlite {
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let params = (now.millis(), retry.millis(), limit);
        let taken = self.change(move |db| query(db, &TAKE, params, |row| notices::notice(row))).await?;
        Ok(notices::in_order(taken))
    }

    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        let params = (now.millis(), retry.millis(), limit, address.to_owned());
        let taken = self.change(move |db| query(db, &TAKE_TO, params, |row| notices::notice(row))).await?;
        Ok(notices::in_order(taken))
    }

    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError> {
        let (ids, retry) = (ids.to_vec(), retry.millis());
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for id in ids {
                execute(&transaction, "UPDATE notice SET due = ?2 WHERE id = ?1", params![id, retry])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError> {
        let (address, accepted, at) = (address.to_owned(), accepted.to_vec(), at.millis());
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for Accepted { id, warning } in accepted {
                let found = execute(&transaction, REMOVE, [id])? > 0;
                if let Some((queue, told)) = warning.filter(|_| found) {
                    execute(&transaction, ACCEPT, params![queue, told.millis(), at])?;
                }
            }
            execute(&transaction, "DELETE FROM refusal WHERE address = ?1", [address])?;
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn give_up_notice(&self, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError> {
        let (id, why) = (id.to_owned(), why.to_owned());
        self.change(move |db| give_up(db, &id, at, &why, keep)).await
    }

    async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        self.read(move |db| query(db, &UNDELIVERED, [limit], |row| notices::undelivered(row))).await
    }
}

/// Puts a notice among those that nobody got, and forgets what is not to be kept of them.
fn give_up(db: &mut Connection, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    execute(&transaction, &GIVE_UP, params![id, at.millis(), why])?;
    execute(&transaction, REMOVE, [id])?;
    execute(&transaction, FORGET_UNDELIVERED, params![id, keep.since.millis(), keep.most])?;
    Ok(transaction.commit()?)
}
