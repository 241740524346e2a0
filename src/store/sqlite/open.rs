//! Opening a SQLite file: its modes, its migrations, and the key file beside it.

use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior};

use super::files::{self, Files};
use super::rows::failure;
use crate::store::back;
use crate::store::error::StoreError;
use crate::store::schema::{self, Standing};
use crate::store::seal::KeyRing;

/// How often migrating is tried where another process migrates the same file.
const TRIES: u32 = 10;

/// How long migrating waits for another process that has the file.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest wait for the lock of another process; SQLite counts it in milliseconds of 31 bits.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// A file that is opened.
pub(super) struct Opened {
    pub(super) reader: Connection,
    pub(super) writer: Connection,
    pub(super) files: Files,
    pub(super) keys: KeyRing,
}

/// Opens the file at `path`, making and migrating it as needed, and finds its keys.
pub(super) fn open(path: &Path, keys: Option<KeyRing>, timeout: Duration) -> Result<Opened, StoreError> {
    let mut writer = open_file(path, timeout)?;
    migrate_connection(&mut writer)?;
    let keys = keys.map_or_else(|| key_beside(path, &writer), Ok)?;
    let reader = connect(path, timeout)?;
    reader.execute_batch("PRAGMA query_only = ON")?;
    // Both connections have read now, so that all files are there, and stay as long as the connections do.
    applied(&reader)?;
    Ok(Opened { reader, writer, files: Files::of(path), keys })
}

/// Applies the migrations that the file at `path` lacks; their names.
pub(super) fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    migrate_connection(&mut open_file(path, MIGRATION_TIMEOUT)?)
}

/// Takes the schema of the file at `path` back to version `to`; the names of the migrations that were taken out.
pub(super) fn migrate_back(path: &Path, to: u32, forced: bool) -> Result<Vec<String>, StoreError> {
    let mut connection = open_file(path, MIGRATION_TIMEOUT)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ways = back::ways(back::Backend::Sqlite, &applied(&transaction)?, to)?;
    let mut lost = Vec::new();
    for way in &ways {
        for (what, query) in &way.loses {
            lost.push((transaction.query_row(query, [], |row| row.get(0))?, *what));
        }
        transaction.execute_batch(way.sql)?;
    }
    back::require_no_loss(&lost, forced)?;
    transaction.execute(schema::FORGET, [to])?;
    transaction.commit()?;
    Ok(ways.into_iter().map(|way| way.name).collect())
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Opens the file, which is made for its owner alone where it isn't there. One that is not ours is left as it is.
fn open_file(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
            StoreError::Setup(format!("can't make the database's directory {}: {error}", directory.display()))
        })?;
    }
    if files::is_special(path) {
        return Err(StoreError::Setup(format!(
            "{} is no file, but a directory or a device; name a file for the database",
            path.display()
        )));
    }
    files::make(path);
    let connection = connect(path, timeout)?;
    refuse_foreign(&connection, path)?;
    files::close_to_others(path);
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Ok(connection);
    }
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

/// Connects to the file. Where it lies on a file system that can't be written to, and nobody had it open when that became
/// so, it can be read as something that never changes.
fn connect(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    let read = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    let unreadable = |error: &rusqlite::Error| {
        // To read it, SQLite would have to make the files beside it.
        matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
    };
    let connection = match read {
        Err(error) if unreadable(&error) && connection.is_readonly(rusqlite::MAIN_DB)? && files::is_complete(path) => {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let escaped = percent_encode(path.as_os_str().as_bytes(), NON_ALPHANUMERIC);
            Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)?
        }
        _ => connection,
    };
    connection.busy_timeout(timeout.min(LONGEST_WAIT))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Refuses a file that holds something else than our tables, before anything about it is changed.
fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let names = "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name <> ?1 \
                 ORDER BY name LIMIT 4";
    let others = connection.prepare(names).and_then(|mut statement| {
        let names = statement.query_map([schema::HISTORY_TABLE], |row| row.get::<_, String>(0))?;
        names.collect::<Result<Vec<_>, _>>()
    });
    let others = others.map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreError::Setup(format!(
            "{} is not a database of SQLite, and was left as it is: give the path of another file",
            path.display()
        )),
        _ => error.into(),
    })?;
    let applied = applied(connection)?;
    schema::standing(&schema::sqlite::migrations::runner(), &applied)?;
    if applied.is_empty() { schema::require_empty(others.into_iter()) } else { Ok(()) }
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
