//! The store in a SQLite file, which several processes of one machine may share.
//!
//! The file is in WAL mode, so that readers and the one writer don't wait for each other, and `synchronous` is `FULL`: what
//! was answered as stored survives a power failure. A password that the broker has, but the store forgot, would be dead in
//! the hands of whoever claimed it; one flush a write is a small price.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::notice::Notice;
use crate::store::rows::{
    self, AlertRow, DuePages, Field, NamespaceRow, Row, RowChange, alert_columns, namespace_columns, notice_columns,
    summary_columns,
};
use crate::store::schema::{self, Standing};
use crate::store::seal::KeyRing;
use crate::store::{Change, Select, Store, StoreError, Summary, Write};

/// How often migrating is tried where another process migrates the same file.
const TRIES: u32 = 10;

/// A [`Store`] in a SQLite file.
pub(super) struct Sqlite {
    connection: tokio_rusqlite::Connection,
    keys: KeyRing,
    timeout: Duration,
}

impl Sqlite {
    /// Opens the file at `path`, making and migrating it as needed. Without `keys`, the key ring is in the file beside it,
    /// which is made with a new file.
    pub(super) async fn open(path: &Path, keys: Option<KeyRing>, timeout: Duration) -> Result<Sqlite, StoreError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            let connection = connect(&path, timeout)?;
            let keys = keys.map_or_else(|| key_beside(&path, &connection), Ok)?;
            Ok::<_, StoreError>((connection, keys))
        });
        let (connection, keys) = opened.await.map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(Sqlite { connection: connection.into(), keys, timeout })
    }

    /// Runs `work` on the connection's own thread. Where it takes too long, the caller stops waiting; the work itself runs
    /// to its end, as it would on a server that answers too late.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        match tokio::time::timeout(self.timeout, self.connection.call(work)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(tokio_rusqlite::Error::Error(error))) => Err(error),
            Ok(Err(_)) => Err(StoreError::Failed("the thread of the SQLite connection has ended".to_owned())),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }
}

/// Applies the migrations that the file at `path` lacks; their names.
pub(super) async fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    let path = path.to_owned();
    let migrated =
        tokio::task::spawn_blocking(move || migrate_connection(&mut open_file(&path, Duration::from_secs(60))?));
    migrated.await.map_err(|error| StoreError::Failed(error.to_string()))?
}

fn failure(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly,
        ) => StoreError::Unavailable(error.to_string()),
        _ => StoreError::Failed(error.to_string()),
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> StoreError {
        failure(&error)
    }
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

fn connect(path: &Path, timeout: Duration) -> Result<Connection, StoreError> {
    let mut connection = open_file(path, timeout)?;
    migrate_connection(&mut connection)?;
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

impl Row for rusqlite::Row<'_> {
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError> {
        Ok(self.get(at)?)
    }

    fn text(&self, at: usize) -> Result<String, StoreError> {
        self.field(at)
    }
}

/// All rows that `sql` gives, read by `read`.
fn query<T>(
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
fn execute(connection: &Connection, sql: &str, params: impl rusqlite::Params) -> Result<usize, StoreError> {
    Ok(connection.prepare_cached(sql)?.execute(params)?)
}

const INSERT_NAMESPACE: &str = concat!(
    "INSERT INTO namespace (",
    namespace_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17 + 1) ",
    "ON CONFLICT (name) DO NOTHING"
);
const REPLACE_NAMESPACE: &str = concat!(
    "UPDATE namespace SET (",
    namespace_columns!(),
    ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17 + 1) ",
    "WHERE name = ?1 AND version = ?17"
);
const INSERT_ALERT: &str = concat!(
    "INSERT INTO alert (",
    alert_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 + 1) ON CONFLICT (queue) DO NOTHING"
);
const REPLACE_ALERT: &str = concat!(
    "UPDATE alert SET (",
    alert_columns!(),
    ") = (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 + 1) WHERE queue = ?1 AND version = ?9"
);
const INSERT_NOTICE: &str = concat!(
    "INSERT INTO notice (",
    notice_columns!(),
    ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (id) DO NOTHING"
);

fn put_namespace(connection: &Connection, row: &NamespaceRow) -> Result<usize, StoreError> {
    let sql = if row.version == 0 { INSERT_NAMESPACE } else { REPLACE_NAMESPACE };
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
        row.version,
    ];
    execute(connection, sql, params)
}

fn put_alert(connection: &Connection, row: &AlertRow) -> Result<usize, StoreError> {
    let sql = if row.version == 0 { INSERT_ALERT } else { REPLACE_ALERT };
    let params = params![
        row.queue,
        row.namespace,
        row.level,
        row.since,
        row.messages,
        row.seen,
        row.growth,
        row.told,
        row.version,
    ];
    execute(connection, sql, params)
}

fn put_notice(connection: &Connection, notice: &Notice) -> Result<usize, StoreError> {
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

fn apply(connection: &Connection, change: &RowChange) -> Result<usize, StoreError> {
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

const ONE: &str = concat!("SELECT ", namespace_columns!(), " FROM namespace WHERE name = ?1");
const ALL: &str = concat!("SELECT ", namespace_columns!(), " FROM namespace ORDER BY name");
const DUE: &str = concat!(
    "SELECT ",
    namespace_columns!(),
    " FROM namespace WHERE gone_since IS NULL AND (due, name) > (?3, ?4) ",
    "AND ((pending_since IS NULL AND due <= ?1) OR pending_since <= ?2) ORDER BY due, name LIMIT ?5"
);
const SUMMARIES: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM namespace WHERE gone_since IS NULL AND name > ?1 ORDER BY name LIMIT ?2"
);
const SUMMARY: &str = concat!("SELECT ", summary_columns!(), " FROM namespace WHERE gone_since IS NULL AND name = ?1");
const ALERTS: &str = concat!("SELECT ", alert_columns!(), " FROM alert ORDER BY queue");
const TAKE_NOTICES: &str = concat!(
    "UPDATE notice SET attempts = attempts + 1, due = ?2 ",
    "WHERE id IN (SELECT id FROM notice WHERE due <= ?1 ORDER BY due, id LIMIT ?3) RETURNING ",
    notice_columns!()
);
const LEASE: &str = "INSERT INTO lease (task, holder, until) VALUES (?1, ?2, ?4) ON CONFLICT (task) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= ?3";

#[async_trait]
impl Store for Sqlite {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let name = name.as_str().to_owned();
        let rows = self.run(move |db| query(db, ONE, [name], |row| rows::namespace(row))).await?;
        rows.into_iter().next().map(|row| row.open(&self.keys)).transpose()
    }

    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        self.run(move |db| query(db, SUMMARIES, params![after, limit], |row| rows::summary(row))).await
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let name = name.as_str().to_owned();
        let found = self.run(move |db| query(db, SUMMARY, [name], |row| rows::summary(row))).await?;
        Ok(found.into_iter().next())
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        let Select::Due { now, abandoned, limit } = select else {
            let rows = self.run(|db| query(db, ALL, [], |row| rows::namespace(row))).await?;
            return Ok(rows::readable(rows, &self.keys).collect());
        };
        let mut pages = DuePages::new(limit);
        loop {
            let (due, name) = pages.after.clone();
            let params = (now.millis(), abandoned.millis(), due, name, limit);
            let page = self.run(move |db| query(db, DUE, params, |row| rows::namespace(row))).await?;
            if let Some(found) = pages.add(page, &self.keys) {
                return Ok(found);
            }
        }
    }

    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.run(|db| query(db, ALERTS, [], |row| rows::alert(row))).await
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let rows = rows::row_changes(changes, &self.keys)?;
        let notices: Vec<Vec<Notice>> = changes.iter().map(|change| change.notices.clone()).collect();
        self.run(move |db| {
            // Immediate: a transaction that first reads and then writes would fail where another one wrote in between.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut written = Vec::with_capacity(rows.len());
            for (row, notices) in rows.iter().zip(&notices) {
                let done = row.as_ref().map_or(Ok(0), |row| apply(&transaction, row))? == 1;
                for notice in notices.iter().filter(|_| done) {
                    put_notice(&transaction, notice)?;
                }
                written.push(if done { Write::Done } else { Write::Lost });
            }
            transaction.commit()?;
            Ok(written)
        })
        .await
    }

    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let params = (now.millis(), retry.millis(), limit);
        let mut taken = self.run(move |db| query(db, TAKE_NOTICES, params, |row| rows::notice(row))).await?;
        taken.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(taken)
    }

    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        let params = (id.to_owned(), retry.millis());
        self.run(move |db| execute(db, "UPDATE notice SET due = ?2 WHERE id = ?1", params)).await?;
        Ok(())
    }

    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.run(move |db| execute(db, "DELETE FROM notice WHERE id = ?1", [id])).await?;
        Ok(())
    }

    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let params = (task.to_owned(), holder.to_owned(), now.millis(), until.millis());
        Ok(self.run(move |db| execute(db, LEASE, params)).await? == 1)
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        let params = (task.to_owned(), holder.to_owned());
        self.run(move |db| execute(db, "DELETE FROM lease WHERE task = ?1 AND holder = ?2", params)).await?;
        Ok(())
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(|db| query(db, "SELECT 1", [], |_| Ok(()))).await?;
        Ok(())
    }
}
