//! Opening a SQLite file: its modes, its migrations, and the key file beside it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use super::failure;
use crate::store::StoreError;
use crate::store::schema::{self, Standing};
use crate::store::seal::KeyRing;

/// How often migrating is tried where another process migrates the same file.
const TRIES: u32 = 10;

/// How long migrating waits for another process that has the file.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Opens the file at `path`, making and migrating it as needed, and finds its keys.
pub(super) fn open(path: &Path, keys: Option<KeyRing>, timeout: Duration) -> Result<(Connection, KeyRing), StoreError> {
    let mut connection = open_file(path, timeout)?;
    migrate_connection(&mut connection)?;
    let keys = keys.map_or_else(|| key_beside(path, &connection), Ok)?;
    Ok((connection, keys))
}

/// Applies the migrations that the file at `path` lacks; their names.
pub(super) fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    migrate_connection(&mut open_file(path, MIGRATION_TIMEOUT)?)
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn open_file(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            StoreError::Setup(format!("can't make the database's directory {}: {error}", directory.display()))
        })?;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(timeout)?;
    connection.set_prepared_statement_cache_capacity(32);
    // SQLite does not wait for its busy time-out where two connections switch a new file to WAL at once.
    let deadline = Instant::now() + timeout;
    while let Err(error) = connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL") {
        if !is_busy(&error) || Instant::now() > deadline {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(connection)
}

fn applied(connection: &Connection) -> Result<Vec<schema::Applied>, StoreError> {
    let tables = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?1";
    if connection.query_row(tables, [schema::HISTORY_TABLE], |_| Ok(())).optional()?.is_none() {
        return Ok(Vec::new());
    }
    let mut statement = connection.prepare(schema::HISTORY)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Where two processes start at once, both may try the same migrations. They are one transaction with their entries in the
/// history, whose primary key lets one of the two commit; the other's fails as a whole, and looks again.
fn migrate_connection(connection: &mut Connection) -> Result<Vec<String>, StoreError> {
    let runner = schema::sqlite::migrations::runner().set_grouped(true);
    let mut tries = 1;
    loop {
        if schema::standing(&runner, &applied(connection)?)? == Standing::Current {
            return Ok(Vec::new());
        }
        match runner.run(connection) {
            Ok(report) => return Ok(report.applied_migrations().iter().map(ToString::to_string).collect()),
            Err(error) if tries == TRIES => return Err(schema::failure(&error, failure)),
            Err(_) => tries += 1,
        }
    }
}

/// The key ring in the file beside the database, made where there is nothing yet that an older one would have sealed.
fn key_beside(database: &Path, connection: &Connection) -> Result<KeyRing, StoreError> {
    let path = PathBuf::from(format!("{}.key", database.display()));
    // Asked before the file is looked for: another process makes the file before it writes its first row.
    let used: bool = connection.query_row("SELECT EXISTS (SELECT 1 FROM namespace)", [], |row| row.get(0))?;
    match KeyRing::from_file(&path)? {
        Some(keys) => Ok(keys),
        None if used => Err(StoreError::Setup(format!(
            "the key file {} is missing, and the database holds passwords that only its key opens: bring it back, or set \
             DB_CRYPTO_KEYS to what it held",
            path.display()
        ))),
        None => KeyRing::create_file(&path),
    }
}
