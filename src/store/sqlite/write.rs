//! Writing single rows to SQLite.

use rusqlite::{Connection, params};

use super::execute;
use crate::domain::notice::Notice;
use crate::store::StoreError;
use crate::store::changes::RowChange;
use crate::store::rows::{AlertRow, NamespaceRow, alert_columns, namespace_columns, notice_columns};

const INSERT_NAMESPACE: &str = concat!(
    "INSERT INTO namespace (",
    namespace_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?18) ",
    "ON CONFLICT (name) DO NOTHING"
);
const REPLACE_NAMESPACE: &str = concat!(
    "UPDATE namespace SET (",
    namespace_columns!(),
    ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?18) ",
    "WHERE name = ?1 AND version = ?17"
);
const INSERT_ALERT: &str = concat!(
    "INSERT INTO alert (",
    alert_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10) ON CONFLICT (queue) DO NOTHING"
);
const REPLACE_ALERT: &str = concat!(
    "UPDATE alert SET (",
    alert_columns!(),
    ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?10) WHERE queue = ?1 AND version = ?9"
);
const INSERT_NOTICE: &str = concat!(
    "INSERT INTO notice (",
    notice_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING"
);

fn put_namespace(connection: &Connection, row: &NamespaceRow) -> Result<usize, StoreError> {
    let sql = if row.version.is_new() { INSERT_NAMESPACE } else { REPLACE_NAMESPACE };
    let params = params![
        row.name,
        row.contact,
        row.created,
        row.expires,
        row.active.slot,
        row.active.password,
        row.previous.slot,
        row.previous.password,
        row.pending.slot,
        row.pending.password,
        row.pending_since,
        row.due,
        row.grace,
        row.gone_since,
        row.cleaning_until,
        row.warned,
        row.version.0,
        row.version.next().0,
    ];
    execute(connection, sql, params)
}

fn put_alert(connection: &Connection, row: &AlertRow) -> Result<usize, StoreError> {
    let sql = if row.version.is_new() { INSERT_ALERT } else { REPLACE_ALERT };
    let params = params![
        row.queue,
        row.namespace,
        row.level,
        row.since,
        row.messages,
        row.seen,
        row.growth,
        row.told,
        row.version.0,
        row.version.next().0,
    ];
    execute(connection, sql, params)
}

/// Stores a notice.
pub(super) fn put_notice(connection: &Connection, notice: &Notice) -> Result<usize, StoreError> {
    let params = params![
        notice.id,
        notice.namespace.as_str(),
        notice.to,
        notice.subject,
        notice.text,
        notice.created.millis(),
        notice.attempts,
        notice.due.millis(),
    ];
    execute(connection, INSERT_NOTICE, params)
}

/// Applies one change; how many rows it wrote, which is one or none.
pub(super) fn apply(connection: &Connection, change: &RowChange) -> Result<usize, StoreError> {
    match change {
        RowChange::Namespace(row) => put_namespace(connection, row),
        RowChange::Alert(row) => put_alert(connection, row),
        RowChange::RemoveNamespace { name, version } => {
            execute(connection, "DELETE FROM namespace WHERE name = ?1 AND version = ?2", params![name, version])
        }
        RowChange::RemoveAlert { queue, version } => {
            execute(connection, "DELETE FROM alert WHERE queue = ?1 AND version = ?2", params![queue, version])
        }
    }
}
