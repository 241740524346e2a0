//! Writing records to PostgreSQL: one statement for each kind of change, whatever the number of rows.
//!
//! A batch locks the rows that it replaces or removes in the order of their keys before it writes, tables in one order too,
//! so that two batches wait for each other in one direction only. One change with which nothing else is stored needs no
//! transaction.

use std::collections::HashSet;

use async_trait::async_trait;
use deadpool_postgres::Object;
use tokio::time::timeout_at;
use tokio_postgres::Error;

use super::Postgres;
use super::param::{Param, run, run_in};
use super::pool::{Database, Repeat};
use super::statements::{Statement, add_audits, put, statements};
use super::within;
use crate::clock::Timestamp;
use crate::domain::renewal::Renewal;
use crate::store::error::StoreError;
use crate::store::namespaces::row::NamespaceRow;
use crate::store::notices::NoticeRow;
use crate::store::records::{self, Batch, Change, Making, Records, Write};
use crate::store::table::{Table as _, millis};

/// Moves ends of namespaces, over their versions and due switches.
const RENEW_ONE: &str = "UPDATE namespace AS old SET expires = new.expires, end_asked = new.end_asked, \
     matures = new.matures, version = new.version \
     FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
     AS new (name, expires, end_asked, matures, version, due) \
     WHERE old.name = new.name AND old.version = new.version - 1 AND old.due = new.due RETURNING old.name";
/// The same, of the rows that nobody holds. It waits for none, so that no other can wait for it in turn.
const RENEW: &str = "WITH free AS MATERIALIZED (\
     SELECT name FROM namespace WHERE name = ANY($1::text[]) FOR UPDATE SKIP LOCKED) \
     UPDATE namespace AS old SET expires = new.expires, end_asked = new.end_asked, \
     matures = new.matures, version = new.version \
     FROM free JOIN unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
     AS new (name, expires, end_asked, matures, version, due) USING (name) \
     WHERE old.name = free.name AND old.version = new.version - 1 AND old.due = new.due RETURNING old.name";

#[async_trait]
impl Records for Postgres {
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let batch = Batch::of(changes, &self.keys)?;
        Ok(write(&self.database, &batch, changes).await?.into_iter().map(records::outcome).collect())
    }

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        let sql = if renewals.len() == 1 { RENEW_ONE } else { RENEW };
        let names: Vec<_> = renewals.iter().map(|renewal| renewal.name.as_str()).collect();
        let expires: Vec<_> = renewals.iter().map(|renewal| renewal.expires.millis()).collect();
        let asked: Vec<_> = renewals.iter().map(|renewal| renewal.end_asked.map(Timestamp::millis)).collect();
        let matures: Vec<_> = renewals.iter().map(|renewal| renewal.matures.map(millis)).collect();
        let next: Vec<_> = renewals.iter().map(|renewal| renewal.version.next().0).collect();
        let due: Vec<_> = renewals.iter().map(|renewal| renewal.due.millis()).collect();
        let params: [&dyn Param; 6] = [&names, &expires, &asked, &matures, &next, &due];
        let rows = self.database.query(Repeat::Never, sql, &params).await?;
        let written: HashSet<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        Ok(names.iter().map(|name| records::outcome(written.contains(name))).collect())
    }

    async fn write_within(&self, makings: &[Making], most: usize) -> Result<Vec<Option<Write>>, StoreError> {
        let seal = |making: &Making| NamespaceRow::seal(&making.namespace, &self.keys);
        let rows: Vec<_> = makings.iter().map(seal).collect::<Result<_, _>>()?;
        let done = within::write(&self.database, makings, &rows, i64::try_from(most).unwrap_or(i64::MAX)).await?;
        Ok(done.into_iter().map(|done| done.map(records::outcome)).collect())
    }
}

/// Writes the `batch` of `changes`; which of them are written.
async fn write(database: &Database, batch: &Batch, changes: &[Change]) -> Result<Vec<bool>, StoreError> {
    let alone = matches!(changes, [change] if change.notices.is_empty() && change.audits.is_empty());
    let namespaces = statements(&batch.namespaces, !alone);
    let statements: Vec<_> = namespaces.chain(statements(&batch.watches, !alone)).collect();
    if statements.is_empty() {
        return Ok(vec![false; changes.len()]);
    }
    let mut call = database.call(Repeat::Never);
    loop {
        let mut client = call.connection().await?;
        let work = async {
            match &statements[..] {
                [statement] if alone => {
                    let mut done = vec![false];
                    let written = run(&client, database.is_pooled(), statement.sql, &statement.params()).await?;
                    statement.note(&written, &mut done)?;
                    Ok(done)
                }
                statements => transact(&mut client, database.is_pooled(), statements, changes).await,
            }
        };
        let worked = timeout_at(call.deadline, work).await;
        if let Some(done) = call.settle(client, worked)? {
            return Ok(done);
        }
    }
}

async fn transact(
    client: &mut Object,
    pooled: bool,
    statements: &[Statement<'_>],
    changes: &[Change],
) -> Result<Vec<bool>, Error> {
    let transaction = client.transaction().await?;
    let mut done = vec![false; changes.len()];
    for statement in statements {
        let written = run_in(&transaction, pooled, statement.sql, &statement.params()).await?;
        statement.note(&written, &mut done)?;
    }
    let told = changes.iter().zip(&done).filter(|(_, done)| **done).flat_map(|(change, _)| &change.notices);
    let told: Vec<_> = told.map(|notice| (0, NoticeRow::from(notice))).collect();
    if let Some(notices) = put(&NoticeRow::sql().insert_all, &told) {
        run_in(&transaction, pooled, notices.sql, &notices.params()).await?;
    }
    let audits = changes.iter().zip(&done).filter(|(_, done)| **done).flat_map(|(change, _)| &change.audits);
    add_audits(&transaction, pooled, audits).await?;
    transaction.commit().await?;
    Ok(done)
}
