//! Writing many rows at once: one statement for each kind of change, whatever the number of rows.
//!
//! A batch locks the rows that it replaces or removes in the order of their keys before it writes, tables in one order too,
//! so that two batches wait for each other in one direction only. One change without notices needs no transaction.

use std::borrow::Cow;
use std::collections::HashMap;

use deadpool_postgres::Object;
use tokio::time::timeout_at;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::escaped;
use super::pool::{Database, Repeat};
use crate::domain::notice::Notice;
use crate::store::changes::RowChange;
use crate::store::rows::{AlertRow, NamespaceRow, alert_columns, namespace_columns, notice_columns};
use crate::store::{Change, StoreError};

const LOCK_NAMESPACES: &str = "SELECT name FROM namespace WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE";
const LOCK_ALERTS: &str = "SELECT queue FROM alert WHERE queue = ANY($1::text[]) ORDER BY queue FOR UPDATE";

macro_rules! new_namespaces {
    () => {
        "unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[], $6::text[], $7::smallint[], $8::text[], \
         $9::smallint[], $10::text[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bigint[], \
         $16::bigint[], $17::bigint[])"
    };
}
const INSERT_NAMESPACES: &str = concat!(
    "INSERT INTO namespace (",
    namespace_columns!(),
    ") SELECT * FROM ",
    new_namespaces!(),
    " ON CONFLICT (name) DO NOTHING RETURNING name"
);
const REPLACE_NAMESPACES: &str = concat!(
    "UPDATE namespace AS old SET contact = new.contact, created = new.created, expires = new.expires, ",
    "active_slot = new.active_slot, active_password = new.active_password, previous_slot = new.previous_slot, ",
    "previous_password = new.previous_password, pending_slot = new.pending_slot, ",
    "pending_password = new.pending_password, pending_since = new.pending_since, due = new.due, grace = new.grace, ",
    "gone_since = new.gone_since, cleaning_until = new.cleaning_until, warned = new.warned, version = new.version ",
    "FROM ",
    new_namespaces!(),
    " AS new (",
    namespace_columns!(),
    ") WHERE old.name = new.name AND old.version = new.version - 1 RETURNING old.name"
);
const REMOVE_NAMESPACES: &str = "DELETE FROM namespace AS old USING unnest($1::text[], $2::bigint[]) AS read (name, version) \
     WHERE old.name = read.name AND old.version = read.version RETURNING old.name";

macro_rules! new_alerts {
    () => {
        "unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[], \
         $9::bigint[])"
    };
}
const INSERT_ALERTS: &str = concat!(
    "INSERT INTO alert (",
    alert_columns!(),
    ") SELECT * FROM ",
    new_alerts!(),
    " ON CONFLICT (queue) DO NOTHING RETURNING queue"
);
const REPLACE_ALERTS: &str = concat!(
    "UPDATE alert AS old SET namespace = new.namespace, level = new.level, since = new.since, messages = new.messages, ",
    "seen = new.seen, growth = new.growth, told = new.told, version = new.version FROM ",
    new_alerts!(),
    " AS new (",
    alert_columns!(),
    ") WHERE old.queue = new.queue AND old.version = new.version - 1 RETURNING old.queue"
);
const REMOVE_ALERTS: &str = "DELETE FROM alert AS old USING unnest($1::text[], $2::bigint[]) AS read (queue, version) \
     WHERE old.queue = read.queue AND old.version = read.version RETURNING old.queue";

const INSERT_NOTICES: &str = concat!(
    "INSERT INTO notice (",
    notice_columns!(),
    ") SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], ",
    "$8::bigint[]) ON CONFLICT (id) DO NOTHING"
);

type Column<'a> = Box<dyn ToSql + Sync + Send + 'a>;

/// One statement for all changes of one kind. It gives back the keys of the rows that it wrote.
struct Statement<'a> {
    sql: &'static str,
    columns: Vec<Column<'a>>,
    /// Which change the row with this key belongs to.
    changes: HashMap<String, usize>,
}

/// The array of one column of all `rows`.
fn column<'a, R, T: ToSql + Sync + Send + 'a>(rows: &[&'a R], of: impl Fn(&'a R) -> T) -> Column<'a> {
    Box::new(rows.iter().map(|row| of(row)).collect::<Vec<T>>())
}

fn namespace_columns<'a>(rows: &[&'a NamespaceRow]) -> Vec<Column<'a>> {
    vec![
        column(rows, |row| row.name.as_str()),
        column(rows, |row| escaped(&row.contact)),
        column(rows, |row| row.created),
        column(rows, |row| row.expires),
        column(rows, |row| row.active.slot),
        column(rows, |row| row.active.password.as_deref()),
        column(rows, |row| row.previous.slot),
        column(rows, |row| row.previous.password.as_deref()),
        column(rows, |row| row.pending.slot),
        column(rows, |row| row.pending.password.as_deref()),
        column(rows, |row| row.pending_since),
        column(rows, |row| row.due),
        column(rows, |row| row.grace),
        column(rows, |row| row.gone_since),
        column(rows, |row| row.cleaning_until),
        column(rows, |row| row.warned),
        column(rows, |row| row.version.next().0),
    ]
}

fn alert_columns<'a>(rows: &[&'a AlertRow]) -> Vec<Column<'a>> {
    vec![
        column(rows, |row| escaped(&row.queue)),
        column(rows, |row| row.namespace.as_str()),
        column(rows, |row| row.level),
        column(rows, |row| row.since),
        column(rows, |row| row.messages),
        column(rows, |row| row.seen),
        column(rows, |row| row.growth),
        column(rows, |row| row.told),
        column(rows, |row| row.version.next().0),
    ]
}

fn removal_columns<'a>(rows: &[(&'a String, i64)]) -> Vec<Column<'a>> {
    vec![
        Box::new(rows.iter().map(|(key, _)| escaped(key)).collect::<Vec<_>>()),
        Box::new(rows.iter().map(|(_, version)| *version).collect::<Vec<_>>()),
    ]
}

fn notice_columns<'a>(notices: &[&'a Notice]) -> Vec<Column<'a>> {
    vec![
        column(notices, |notice| notice.id.as_str()),
        column(notices, |notice| notice.namespace.as_str()),
        column(notices, |notice| escaped(&notice.to)),
        column(notices, |notice| escaped(&notice.subject)),
        column(notices, |notice| escaped(&notice.text)),
        column(notices, |notice| notice.created.millis()),
        column(notices, |notice| i64::from(notice.attempts)),
        column(notices, |notice| notice.due.millis()),
    ]
}

impl Statement<'_> {
    fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.columns.iter().map(|column| &**column as &(dyn ToSql + Sync)).collect()
    }

    /// Notes in `done` which changes the `written` rows belong to.
    fn note(&self, written: &[tokio_postgres::Row], done: &mut [bool]) -> Result<(), Error> {
        for row in written {
            if let Some(change) = self.changes.get(row.try_get::<_, &str>(0)?) {
                done[*change] = true;
            }
        }
        Ok(())
    }
}

type Keyed<'a, R> = Vec<(Cow<'a, str>, usize, R)>;

/// `rows` are keyed, and belong each to the change of that number.
fn statement<'a, R: Copy>(
    sql: &'static str,
    mut rows: Keyed<'a, R>,
    columns: impl FnOnce(&[R]) -> Vec<Column<'a>>,
) -> Option<Statement<'a>> {
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    let changes = rows.iter().map(|(key, change, _)| (key.to_string(), *change)).collect();
    let rows: Vec<R> = rows.into_iter().map(|(_, _, row)| row).collect();
    (!rows.is_empty()).then(|| Statement { sql, columns: columns(&rows), changes })
}

/// Locks the rows with the keys of `replaced` and `removed`.
fn lock<'a, A, B>(sql: &'static str, replaced: &Keyed<'a, A>, removed: &Keyed<'a, B>) -> Option<Statement<'a>> {
    let replaced = replaced.iter().map(|(key, ..)| key.to_string());
    let keys: Vec<String> = replaced.chain(removed.iter().map(|(key, ..)| key.to_string())).collect();
    (!keys.is_empty()).then(|| Statement { sql, columns: vec![Box::new(keys)], changes: HashMap::new() })
}

/// The statements that write `rows`, in order; with those that lock rows first, where they run in one transaction.
fn statements(rows: &[Option<RowChange>], locking: bool) -> Vec<Statement<'_>> {
    let (mut new, mut replaced, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    let (mut new_alerts, mut replaced_alerts, mut removed_alerts) = (Vec::new(), Vec::new(), Vec::new());
    for (change, row) in rows.iter().enumerate() {
        match row {
            None => {}
            Some(RowChange::Namespace(row)) => {
                let kind = if row.version.is_new() { &mut new } else { &mut replaced };
                kind.push((Cow::Borrowed(row.name.as_str()), change, row));
            }
            Some(RowChange::Alert(row)) => {
                let kind = if row.version.is_new() { &mut new_alerts } else { &mut replaced_alerts };
                kind.push((escaped(&row.queue), change, row));
            }
            Some(RowChange::RemoveNamespace { name, version }) => {
                removed.push((Cow::Borrowed(name.as_str()), change, (name, *version)));
            }
            Some(RowChange::RemoveAlert { queue, version }) => {
                removed_alerts.push((escaped(queue), change, (queue, *version)));
            }
        }
    }
    let lock_namespaces = lock(LOCK_NAMESPACES, &replaced, &removed).filter(|_| locking);
    let lock_alerts = lock(LOCK_ALERTS, &replaced_alerts, &removed_alerts).filter(|_| locking);
    [
        lock_namespaces,
        statement(INSERT_NAMESPACES, new, namespace_columns),
        statement(REPLACE_NAMESPACES, replaced, namespace_columns),
        statement(REMOVE_NAMESPACES, removed, removal_columns),
        lock_alerts,
        statement(INSERT_ALERTS, new_alerts, alert_columns),
        statement(REPLACE_ALERTS, replaced_alerts, alert_columns),
        statement(REMOVE_ALERTS, removed_alerts, removal_columns),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Writes `rows`, which are those of `changes`; which of them are written.
pub(super) async fn write(
    database: &Database,
    rows: &[Option<RowChange>],
    changes: &[Change],
) -> Result<Vec<bool>, StoreError> {
    let alone = matches!(changes, [change] if change.notices.is_empty());
    let statements = statements(rows, !alone);
    if statements.is_empty() {
        return Ok(vec![false; rows.len()]);
    }
    let mut call = database.call(Repeat::Never);
    loop {
        let mut client = call.connection().await?;
        let work = async {
            match &statements[..] {
                [statement] if alone => {
                    let prepared = client.prepare_cached(statement.sql).await?;
                    let mut done = vec![false];
                    statement.note(&client.query(&prepared, &statement.params()).await?, &mut done)?;
                    Ok(done)
                }
                statements => transact(&mut client, statements, changes).await,
            }
        };
        let worked = timeout_at(call.deadline, work).await;
        if let Some(done) = call.settle(client, worked)? {
            return Ok(done);
        }
    }
}

async fn transact(client: &mut Object, statements: &[Statement<'_>], changes: &[Change]) -> Result<Vec<bool>, Error> {
    let transaction = client.transaction().await?;
    let mut done = vec![false; changes.len()];
    for statement in statements {
        let prepared = transaction.prepare_cached(statement.sql).await?;
        statement.note(&transaction.query(&prepared, &statement.params()).await?, &mut done)?;
    }
    let told = changes.iter().zip(&done).filter(|(_, done)| **done).flat_map(|(change, _)| &change.notices);
    let told: Vec<&Notice> = told.collect();
    if !told.is_empty() {
        let prepared = transaction.prepare_cached(INSERT_NOTICES).await?;
        let notices = Statement { sql: INSERT_NOTICES, columns: notice_columns(&told), changes: HashMap::new() };
        transaction.execute(&prepared, &notices.params()).await?;
    }
    transaction.commit().await?;
    Ok(done)
}
