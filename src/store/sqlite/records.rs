//! Writing records to SQLite, row by row, in one transaction.

use async_trait::async_trait;
use rusqlite::{Connection, TransactionBehavior, params, params_from_iter};

use super::Sqlite;
use super::rows::execute;
use crate::clock::Timestamp;
use crate::domain::renewal::Renewal;
use crate::store::audits::AuditRow;
use crate::store::error::StoreError;
use crate::store::namespaces::row::NamespaceRow;
use crate::store::notices::NoticeRow;
use crate::store::records::{self, Batch, Change, Making, Records, Write};
use crate::store::table::{Table, TableChanges, millis};

const OTHERS: &str = "SELECT count(*) FROM (SELECT 1 FROM namespace \
     WHERE claimed_by = ?1 AND gone_since IS NULL AND name <> ?2 LIMIT ?3)";

const RENEW: &str = "UPDATE namespace SET (expires, end_asked, matures, version) = (?1, ?2, ?3, ?4) \
     WHERE name = ?5 AND version = ?6 AND due = ?7";

/// Inserts `row`, unless one with its key is there; whether it did.
fn insert<R: Table>(db: &Connection, row: &R) -> Result<bool, StoreError> {
    Ok(execute(db, &R::sql().insert, params_from_iter(row.cells()))? == 1)
}

/// Makes the changes of one table, and notes in `done` which of them were made.
fn apply<R: Table>(db: &Connection, changes: &TableChanges<R>, done: &mut [bool]) -> Result<(), StoreError> {
    for (change, row) in &changes.inserted {
        done[*change] = insert(db, row)?;
    }
    for (change, row) in &changes.replaced {
        done[*change] = execute(db, &R::sql().replace, params_from_iter(row.cells()))? == 1;
    }
    for (change, key, version) in &changes.removed {
        done[*change] = execute(db, &R::sql().remove, params![key, version])? == 1;
    }
    Ok(())
}

/// Whether fewer than `most` live namespaces but this one were claimed by its client.
fn has_room(db: &Connection, claimed_by: Option<&str>, name: &str, most: i64) -> Result<bool, StoreError> {
    let mut others = db.prepare_cached(OTHERS)?;
    let others: i64 = others.query_row(params![claimed_by, name, most], |row| row.get(0))?;
    Ok(claimed_by.is_none() || others < most)
}

#[async_trait]
impl Records for Sqlite {
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let batch = Batch::of(changes, &self.keys)?;
        let notices: Vec<Vec<NoticeRow>> =
            changes.iter().map(|change| change.notices.iter().map(NoticeRow::from).collect()).collect();
        let audits: Vec<Vec<AuditRow>> =
            changes.iter().map(|change| change.audits.iter().map(AuditRow::from).collect()).collect();
        self.change(move |db| {
            // Immediate: a transaction that first reads and then writes would fail where another one wrote in between.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut done = vec![false; notices.len()];
            apply(&transaction, &batch.namespaces, &mut done)?;
            apply(&transaction, &batch.watches, &mut done)?;
            for ((notices, audits), _) in notices.iter().zip(&audits).zip(&done).filter(|(_, done)| **done) {
                for notice in notices {
                    insert(&transaction, notice)?;
                }
                for audit in audits {
                    insert(&transaction, audit)?;
                }
            }
            transaction.commit()?;
            Ok(done.into_iter().map(records::outcome).collect())
        })
        .await
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        let renewals = renewals.to_vec();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut written = Vec::with_capacity(renewals.len());
            for Renewal { name, expires, end_asked, matures, due, version } in &renewals {
                let (expires, end_asked) = (expires.millis(), end_asked.map(Timestamp::millis));
                let (matures, next) = (matures.map(millis), version.next().0);
                let params = params![expires, end_asked, matures, next, name.as_str(), version.0, due.millis()];
                written.push(records::outcome(execute(&transaction, RENEW, params)? == 1));
            }
            transaction.commit()?;
            Ok(written)
        })
        .await
    }

    async fn write_within(&self, makings: &[Making], most: usize) -> Result<Vec<Option<Write>>, StoreError> {
        let seal = |making: &Making| {
            let audits: Vec<_> = making.audits.iter().map(AuditRow::from).collect();
            let mut changes = TableChanges::default();
            changes.put(0, making.namespace.version, NamespaceRow::seal(&making.namespace, &self.keys)?);
            Ok((making.namespace.claimed_by.clone(), making.namespace.name.clone(), changes, audits))
        };
        let makings: Vec<_> = makings.iter().map(seal).collect::<Result<_, StoreError>>()?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut written = Vec::with_capacity(makings.len());
            for (claimed_by, name, changes, audits) in &makings {
                if !has_room(&transaction, claimed_by.as_deref(), name.as_str(), most)? {
                    written.push(None);
                    continue;
                }
                let mut done = [false];
                apply(&transaction, changes, &mut done)?;
                for audit in audits.iter().filter(|_| done[0]) {
                    insert(&transaction, audit)?;
                }
                written.push(Some(records::outcome(done[0])));
            }
            transaction.commit()?;
            Ok(written)
        })
        .await
    }
}
