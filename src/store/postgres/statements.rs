//! Statements for the changes of records: one for each kind of change, whatever the number of rows.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use tokio_postgres::Error;

use super::param::{Param, run_in};
use super::text::escaped;
use crate::domain::audit::Audit;
use crate::store::audits::AuditRow;
use crate::store::table::{Array, Table, TableChanges};

/// One statement for all changes of one kind. It gives back the keys of the rows that it wrote.
pub(super) struct Statement<'a> {
    pub(super) sql: &'static str,
    arrays: Vec<Array<'a>>,
    /// Which change the row with this key belongs to.
    changes: HashMap<String, usize>,
}

impl Statement<'_> {
    pub(super) fn params(&self) -> Vec<&dyn Param> {
        self.arrays.iter().map(|array| &**array as &dyn Param).collect()
    }

    /// Notes in `done` which changes the `written` rows belong to.
    pub(super) fn note(&self, written: &[tokio_postgres::Row], done: &mut [bool]) -> Result<(), Error> {
        for row in written {
            if let Some(change) = self.changes.get(row.try_get::<_, &str>(0)?) {
                done[*change] = true;
            }
        }
        Ok(())
    }
}

/// A statement that writes `rows`, each of which belongs to the change of that number; `None` without any.
pub(super) fn put<'a, R: Table>(sql: &'static str, rows: &'a [(usize, R)]) -> Option<Statement<'a>> {
    if rows.is_empty() {
        return None;
    }
    let mut rows: Vec<_> = rows.iter().map(|(change, row)| (escaped(row.key()), *change, row)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let arrays = R::arrays(&rows.iter().map(|(_, _, row)| *row).collect::<Vec<_>>());
    let changes = rows.into_iter().map(|(key, change, _)| (key.into_owned(), change)).collect();
    Some(Statement { sql, arrays, changes })
}

/// A statement that removes the rows with these keys and versions; `None` without any.
fn remove<'a>(sql: &'static str, rows: &'a [(usize, String, i64)]) -> Option<Statement<'a>> {
    if rows.is_empty() {
        return None;
    }
    let mut rows: Vec<_> = rows.iter().map(|(change, key, version)| (escaped(key), *change, *version)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let changes = rows.iter().map(|(key, change, _)| (key.to_string(), *change)).collect();
    let (keys, versions): (Vec<_>, Vec<_>) = rows.into_iter().map(|(key, _, version)| (key, version)).unzip();
    let arrays: Vec<Array<'a>> = vec![Box::new(keys), Box::new(versions)];
    Some(Statement { sql, arrays, changes })
}

/// Locks the rows that are replaced and removed; `None` without any.
fn lock<'a, R: Table>(sql: &'static str, changes: &'a TableChanges<R>) -> Option<Statement<'a>> {
    let replaced = changes.replaced.iter().map(|(_, row)| escaped(row.key()));
    let keys: Vec<_> = replaced.chain(changes.removed.iter().map(|(_, key, _)| escaped(key))).collect();
    (!keys.is_empty()).then(|| Statement { sql, arrays: vec![Box::new(keys)], changes: HashMap::new() })
}

/// The statements that write to one table, in order; with the one that locks its rows first, where they run in one
/// transaction.
pub(super) fn statements<R: Table>(changes: &TableChanges<R>, locking: bool) -> impl Iterator<Item = Statement<'_>> {
    let sql = R::sql();
    let lock = locking.then(|| lock(&sql.lock_all, changes)).flatten();
    let inserted = put(&sql.insert_all, &changes.inserted);
    let replaced = put(&sql.replace_all, &changes.replaced);
    let removed = remove(&sql.remove_all, &changes.removed);
    [lock, inserted, replaced, removed].into_iter().flatten()
}

/// Adds records to the audit trail, if there are any.
pub(super) async fn add_audits(
    transaction: &Transaction<'_>,
    pooled: bool,
    audits: impl IntoIterator<Item = &Audit>,
) -> Result<(), Error> {
    let audits: Vec<_> = audits.into_iter().map(|audit| (0, AuditRow::from(audit))).collect();
    if let Some(audits) = put(&AuditRow::sql().insert_all, &audits) {
        run_in(transaction, pooled, audits.sql, &audits.params()).await?;
    }
    Ok(())
}
