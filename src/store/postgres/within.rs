//! Making namespaces, as many as their clients may have.

use deadpool_postgres::Object;
use tokio::time::timeout_at;
use tokio_postgres::Error;

use super::param::run_in;
use super::pool::{Database, Repeat};
use super::statements::{add_audits, statements};
use crate::store::error::StoreError;
use crate::store::namespaces::row::NamespaceRow;
use crate::store::records::{Making, Room, clients};
use crate::store::table::TableChanges;

/// Lets one process at a time count and add the namespaces of these clients; the first number is "ns" in ASCII. In one order, so that
/// two batches wait for each other in one direction only.
const LOCK_CLIENTS: &str = "SELECT pg_advisory_xact_lock(28275, client) FROM (\
     SELECT DISTINCT hashtext(name) AS client FROM unnest($1::text[]) AS name ORDER BY client) AS clients";
/// How many live namespaces each of these clients has but for those named, as far as that matters.
const OTHERS: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM namespace WHERE claimed_by = client \
     AND gone_since IS NULL AND name <> ALL($2::text[]) LIMIT $3) AS live) \
     FROM unnest($1::text[]) WITH ORDINALITY AS asked (client, number) ORDER BY number";

/// Writes namespaces, whose `rows` these are, but for those whose client has at least `most` other live ones: `None` then. Whether
/// each is written.
pub(super) async fn write(
    database: &Database,
    makings: &[Making],
    rows: &[NamespaceRow],
    most: i64,
) -> Result<Vec<Option<bool>>, StoreError> {
    let mut call = database.call(Repeat::Never);
    loop {
        let mut client = call.connection().await?;
        let worked = timeout_at(call.deadline, transact(&mut client, database.is_pooled(), makings, rows, most)).await;
        if let Some(done) = call.settle(client, worked)? {
            return Ok(done);
        }
    }
}

async fn transact(
    connection: &mut Object,
    pooled: bool,
    makings: &[Making],
    rows: &[NamespaceRow],
    most: i64,
) -> Result<Vec<Option<bool>>, Error> {
    let transaction = connection.transaction().await?;
    let clients: Vec<_> = clients(makings).into_iter().collect();
    let mut room = Room::default();
    if !clients.is_empty() {
        run_in(&transaction, pooled, LOCK_CLIENTS, &[&clients]).await?;
        // A statement of its own, so that it sees what was written until the locks were given.
        let names: Vec<_> = makings.iter().map(|making| making.namespace.name.as_str()).collect();
        let others = run_in(&transaction, pooled, OTHERS, &[&clients, &names, &most]).await?;
        let others = others.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()?;
        room = Room::of(clients.iter().copied().zip(others));
    }
    let mut changes = TableChanges::default();
    let may: Vec<_> = makings.iter().map(|making| room.take(making.namespace.claimed_by.as_deref(), most)).collect();
    for (number, (making, row)) in makings.iter().zip(rows).enumerate().filter(|(number, _)| may[*number]) {
        changes.put(number, making.namespace.version, row.clone());
    }
    let mut done = vec![false; makings.len()];
    for statement in statements(&changes, makings.len() > 1) {
        let written = run_in(&transaction, pooled, statement.sql, &statement.params()).await?;
        statement.note(&written, &mut done)?;
    }
    let made = makings.iter().zip(&done).filter(|(_, done)| **done);
    add_audits(&transaction, pooled, made.flat_map(|(making, _)| &making.audits)).await?;
    transaction.commit().await?;
    Ok(may.into_iter().zip(done).map(|(may, done)| may.then_some(done)).collect())
}
