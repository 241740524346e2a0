//! Calls of SQLite, each in a thread of its connection, with a time-out.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::files::Files;
use super::open::{self, LONGEST_WAIT, Opened};
use crate::store::calls::{READ, WRITE, counted, outcome};
use crate::store::error::StoreError;
use crate::store::namespaces::unreadable::Told;
use crate::store::seal::KeyRing;
use crate::telemetry::metrics::Calls;

/// How long a call waits for the lock of another process, once one has waited for it in vain. Whoever holds it for so long may
/// hold it for hours, and each claim that has to write would wait anew.
const BRIEF_WAIT: Duration = Duration::from_millis(100);

/// A [`Store`] in a SQLite file. It has a connection that reads and one that writes, so that no reader waits for a writer
/// that waits for the lock of another process.
pub(in crate::store) struct Sqlite {
    reader: tokio_rusqlite::Connection,
    writer: tokio_rusqlite::Connection,
    files: Arc<Files>,
    pub(super) keys: KeyRing,
    timeout: Duration,
    /// Whether the last call that writes could not.
    locked: Arc<AtomicBool>,
    /// What was told last of rows that can't be opened.
    pub(super) told: Told,
    /// What is counted of the calls.
    pub(super) calls: Calls,
}

impl Sqlite {
    /// Opens the file at `path`, making and migrating it as needed. Without `keys`, the key ring is in the file beside it,
    /// which is made with a new file.
    pub(in crate::store) async fn open(
        path: &Path,
        keys: Option<KeyRing>,
        timeout: Duration,
    ) -> Result<Sqlite, StoreError> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || open::open(&path, keys, timeout)).await;
        let Opened { reader, writer, files, keys } =
            opened.map_err(|error| StoreError::Failed(error.to_string()))??;
        let (reader, writer) = (reader.into(), writer.into());
        let (files, locked) = (Arc::new(files), Arc::default());
        Ok(Sqlite { reader, writer, files, keys, timeout, locked, told: Told::default(), calls: counted() })
    }

    /// Runs `work`, which reads.
    pub(in crate::store) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut counted = self.calls.begin(READ);
        let done = self.run(&self.reader, StoreError::Unavailable, work).await;
        counted.end(outcome(&done));
        done
    }

    /// Runs `work`, which writes.
    pub(in crate::store) async fn change<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let mut counted = self.calls.begin(WRITE);
        let done = self.run(&self.writer, StoreError::Unwritable, work).await;
        counted.end(outcome(&done));
        self.locked.store(matches!(done, Err(StoreError::Unwritable(_))), Ordering::Relaxed);
        done
    }

    /// Runs `work` on the connection's own thread. Where it takes too long, the caller stops waiting. What has begun by then
    /// runs to its end, as it would on a server that answers too late; what has not is dropped, so that a disk which hung is
    /// not followed by all that nobody waits for any more.
    async fn run<T: Send + 'static>(
        &self,
        connection: &tokio_rusqlite::Connection,
        failed: fn(String) -> StoreError,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (until, timeout, files) = (Instant::now() + self.timeout, self.timeout, self.files.clone());
        let locked = self.locked.clone();
        let late = move || failed(format!("no answer within {timeout:?}"));
        let work = move |db: &mut Connection| {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(late());
            }
            files.check()?;
            // It waits for the lock of another process for no longer than somebody waits for it.
            let longest = if locked.load(Ordering::Relaxed) { BRIEF_WAIT } else { LONGEST_WAIT };
            db.busy_timeout(left.min(longest))?;
            let done = survive(db, work)?;
            // Whoever is told of a success must find it in the file that is there now.
            files.check().map(|()| done)
        };
        match tokio::time::timeout(self.timeout, connection.call(work)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(tokio_rusqlite::Error::Error(StoreError::Unwritable(why) | StoreError::Unavailable(why)))) => {
                Err(failed(why))
            }
            Ok(Err(tokio_rusqlite::Error::Error(error))) => Err(error),
            Ok(Err(_)) => Err(StoreError::Failed("the thread of the SQLite connection has ended".to_owned())),
            Err(_) => Err(late()),
        }
    }
}

/// Runs `work`, and survives its panic: the thread would end with it, and with the thread the store.
fn survive<T>(
    db: &mut Connection,
    work: impl FnOnce(&mut Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| work(db)));
    ran.unwrap_or_else(|_| {
        // What was open was rolled back as it was dropped.
        db.execute_batch("PRAGMA synchronous = FULL")?;
        Err(StoreError::Failed("a call to the SQLite store panicked".to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::TransactionBehavior;

    use super::*;
    use crate::clock::Timestamp;
    use crate::store::{Leases as _, Store as _};

    #[tokio::test]
    async fn the_lock_of_another_process_is_waited_for_once_and_anew_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (path, now) = (directory.path().join("x"), Timestamp::from_millis(0));
        let store = Sqlite::open(&path, None, Duration::from_secs(2)).await.unwrap();
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let took = async || {
            let began = Instant::now();
            let written = store.lease("x", "y", now, now).await;
            assert!(matches!(written, Err(StoreError::Unwritable(_))), "{written:?}");
            began.elapsed()
        };
        assert!(took().await > Duration::from_millis(1500));
        for _ in 0..3 {
            assert!(took().await < Duration::from_secs(1), "it waits each time");
        }
        other.execute_batch("ROLLBACK").unwrap();
        store.lease("x", "y", now, now).await.unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let release = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            other.execute_batch("ROLLBACK").unwrap();
        };
        let (written, ()) = tokio::join!(store.lease("x", "y", now, now), release);
        written.expect("it waits again");
    }

    #[tokio::test]
    async fn a_panic_in_one_call_ends_neither_thread_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&directory.path().join("x"), None, Duration::from_secs(20)).await.unwrap();
        for _ in 0..3 {
            let read = store.read::<()>(|_| panic!("as the test wants it")).await;
            let written = store.change::<()>(|db| {
                db.execute_batch("PRAGMA synchronous = NORMAL")?;
                let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
                transaction.execute("INSERT INTO lease VALUES ('x', 'x', 1)", [])?;
                panic!("as the test wants it")
            });
            for failed in [read, written.await] {
                assert!(matches!(&failed, Err(StoreError::Failed(why)) if why.contains("panicked")), "{failed:?}");
            }
        }
        store.ping().await.unwrap();
        let now = Timestamp::from_millis(0);
        assert!(store.lease("x", "y", now, Timestamp::from_millis(9)).await.unwrap(), "it was rolled back");
        let synchronous = store.change(|db| Ok(db.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0))?));
        assert_eq!(synchronous.await.unwrap(), 2, "FULL");
    }
}
