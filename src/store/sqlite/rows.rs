//! Statements of SQLite and the rows that they give.

use rusqlite::{Connection, ErrorCode};

use crate::store::error::StoreError;
use crate::store::table::{Field, Row};

/// Says what SQLite said.
pub(super) fn failure(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::ReadOnly) => {
            StoreError::Unwritable(error.to_string())
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        failure(&error)
    }
}

impl Row for rusqlite::Row<'_> {
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError> {
        Ok(self.get(at)?)
    }

    fn text(&self, at: usize) -> Result<String, StoreError> {
        self.field(at)
    }
}

/// All rows that `sql` gives, read by `read`.
pub(in crate::store) fn query<T>(
    connection: &Connection,
    sql: &str,
    params: impl rusqlite::Params,
    read: impl Fn(&rusqlite::Row<'_>) -> Result<T, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// How many rows `sql` changed.
pub(super) fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}
