//! The store in a SQLite file, which several processes of one machine may share.
//!
//! The file is in WAL mode, so that readers and the one writer don't wait for each other, and `synchronous` is `FULL`: what
//! was answered as stored survives a power failure. A password that the broker has, but the store forgot, would be dead in
//! the hands of whoever claimed it; one flush a write is a small price.

mod open;
mod write;

use std::path::Path;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::hold::Vitals;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::Notice;
use crate::store::changes;
use crate::store::rekey::SealedRows;
use crate::store::rows::{
    self, DuePages, Field, NamespaceRow, Row, alert_columns, namespace_columns, notice_columns, summary_columns,
};
use crate::store::seal::KeyRing;
use crate::store::{Change, Digest, Select, Sighting, Store, StoreError, Summary, Write};

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
        let opened = tokio::task::spawn_blocking(move || open::open(&path, keys, timeout)).await;
        let (connection, keys) = opened.map_err(|error| StoreError::Failed(error.to_string()))??;
        Ok(Sqlite { connection: connection.into(), keys, timeout })
    }

    /// Runs `work` on the connection's own thread. Where it takes too long, the caller stops waiting. What has begun by then
    /// runs to its end, as it would on a server that answers too late; what has not is dropped, so that a disk which hung is
    /// not followed by all that nobody waits for any more.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (until, late) = (Instant::now() + self.timeout, self.late());
        let work = move |db: &mut Connection| if Instant::now() < until { work(db) } else { Err(late) };
        match tokio::time::timeout(self.timeout, self.connection.call(work)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(tokio_rusqlite::Error::Error(error))) => Err(error),
            Ok(Err(_)) => Err(StoreError::Failed("the thread of the SQLite connection has ended".to_owned())),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> StoreError {
        StoreError::Unavailable(format!("no answer within {:?}", self.timeout))
    }
}

/// Applies the migrations that the file at `path` lacks; their names.
pub(super) async fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    let path = path.to_owned();
    let migrated = tokio::task::spawn_blocking(move || open::migrate(&path)).await;
    migrated.map_err(|error| StoreError::Failed(error.to_string()))?
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
const CHANGED: &str = concat!(
    "SELECT ",
    namespace_columns!(),
    " FROM (SELECT value ->> 0 AS name, value ->> 1 AS read_at FROM json_each(?1)) LEFT JOIN namespace USING (name) ",
    "WHERE version IS NOT read_at"
);
/// As for PostgreSQL, with the caller's time.
const BEAT: &str = "INSERT INTO heartbeat AS old (id, last, since) VALUES (1, ?1, 0) ON CONFLICT (id) DO UPDATE \
     SET last = excluded.last, \
     since = CASE WHEN old.last < excluded.last - ?2 THEN excluded.last ELSE min(old.since, excluded.last) END";
const VITALS: &str = "SELECT ?1, last, since FROM (SELECT 1 AS id) LEFT JOIN heartbeat USING (id)";
const ALERTS: &str = concat!("SELECT ", alert_columns!(), " FROM alert ORDER BY queue");
const TAKE_NOTICES: &str = concat!(
    "UPDATE notice SET attempts = attempts + 1, due = ?2 ",
    "WHERE id IN (SELECT id FROM notice WHERE due <= ?1 ORDER BY due, id LIMIT ?3) RETURNING ",
    notice_columns!()
);
const LEASE: &str = "INSERT INTO lease (task, holder, until) VALUES (?1, ?2, ?4) ON CONFLICT (task) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= ?3 \
     OR lease.until > ?4";
const FORGET: &str =
    "DELETE FROM sighting WHERE request IN (SELECT request FROM sighting WHERE seen <= ?1 ORDER BY seen LIMIT 8)";
const SIGHT: &str = "INSERT INTO sighting (request, body, seen) VALUES (?1, ?2, ?3) \
     ON CONFLICT (request) DO UPDATE SET seen = sighting.seen RETURNING body, seen";

/// Remembers a sighting, or gives the one that is there.
fn sight(db: &mut Connection, request: Digest, new: Sighting, forget: Timestamp) -> Result<Sighting, StoreError> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let params = params![request, new.body, new.seen.millis()];
    let first = query(&transaction, SIGHT, params, |row| rows::sighting(row))?;
    execute(&transaction, FORGET, [forget.millis()])?;
    transaction.commit()?;
    Ok(first.into_iter().next().unwrap_or(new))
}

impl SealedRows for Sqlite {
    fn keys(&self) -> &KeyRing {
        &self.keys
    }

    async fn rows(&self) -> Result<Vec<NamespaceRow>, StoreError> {
        self.run(|db| query(db, ALL, [], |row| rows::namespace(row))).await
    }
}

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
            let rows = self.rows().await?;
            return match select {
                Select::Sealed => rows::sealed(rows, &self.keys),
                _ => Ok(rows::readable(rows, &self.keys).collect()),
            };
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

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        let known: Vec<_> = known.iter().map(|(name, version)| (name.as_str(), version.0)).collect();
        let known = serde_json::json!(known).to_string();
        let found = self.run(move |db| query(db, CHANGED, [known], |row| rows::changed(row))).await?;
        Ok(rows::readable_changes(found, &self.keys))
    }

    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.run(|db| query(db, ALERTS, [], |row| rows::alert(row))).await
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let rows = changes::row_changes(changes, &self.keys)?;
        let notices: Vec<Vec<Notice>> = changes.iter().map(|change| change.notices.clone()).collect();
        self.run(move |db| {
            // Immediate: a transaction that first reads and then writes would fail where another one wrote in between.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut written = Vec::with_capacity(rows.len());
            for (row, notices) in rows.iter().zip(&notices) {
                let done = row.as_ref().map_or(Ok(0), |row| write::apply(&transaction, row))? == 1;
                for notice in notices.iter().filter(|_| done) {
                    write::put_notice(&transaction, notice)?;
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

    async fn beat(&self, now: Timestamp, gap: Duration) -> Result<Timestamp, StoreError> {
        let params = (now.millis(), i64::try_from(gap.as_millis()).unwrap_or(i64::MAX));
        self.run(move |db| execute(db, BEAT, params)).await?;
        Ok(now)
    }

    async fn vitals(&self, now: Timestamp) -> Result<Vitals, StoreError> {
        let found = self.run(move |db| query(db, VITALS, [now.millis()], |row| rows::vitals(row))).await?;
        // It always gives one row.
        Ok(found.into_iter().next().unwrap_or(Vitals { now, heartbeat: None }))
    }

    async fn sight(&self, request: &Digest, sighting: Sighting, forget: Timestamp) -> Result<Sighting, StoreError> {
        let request = *request;
        self.run(move |db| {
            // Not worth a flush: a sighting may be lost with the host's power, and is flushed with the next record.
            db.execute_batch("PRAGMA synchronous = NORMAL")?;
            let first = sight(db, request, sighting, forget);
            db.execute_batch("PRAGMA synchronous = FULL")?;
            first
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.run(|db| query(db, "SELECT 1", [], |_| Ok(()))).await?;
        Ok(())
    }
}
