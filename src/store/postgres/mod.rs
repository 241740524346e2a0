//! The store in a PostgreSQL database, which any number of processes share.
//!
//! Nothing is connected before it is needed, so that the service can start before its database. A call on one row is one
//! statement and one round trip.

mod pool;
mod write;

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;

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
use crate::store::schema::{self, Standing};
use crate::store::seal::KeyRing;
use crate::store::url::Server;
use crate::store::{Change, Digest, Limits, Select, Sighting, Store, StoreError, Summary, Write};
use pool::{Database, Repeat};

/// How long connecting, waiting for another process' migrations, and migrating may take together.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Locks out other processes' migrations of the same database: "pulse" in ASCII.
const MIGRATION_LOCK: i64 = 0x70_75_6c_73_65;

/// A [`Store`] in a PostgreSQL database.
pub(super) struct Postgres {
    database: Database,
    keys: KeyRing,
}

impl Postgres {
    /// Connects to nothing yet.
    pub(super) fn new(server: &Server, keys: KeyRing, limits: Limits) -> Result<Postgres, StoreError> {
        Ok(Postgres { database: Database::new(server, limits)?, keys })
    }
}

/// Applies the migrations that the database lacks; their names.
pub(super) async fn migrate(server: &Server) -> Result<Vec<String>, StoreError> {
    let late = |_| StoreError::Unavailable(format!("migrating took longer than {MIGRATION_TIMEOUT:?}"));
    tokio::time::timeout(MIGRATION_TIMEOUT, migrate_locked(server)).await.map_err(late)?
}

/// The lock belongs to the connection and goes with it.
async fn migrate_locked(server: &Server) -> Result<Vec<String>, StoreError> {
    let runner = schema::postgres::migrations::runner().set_grouped(true);
    let connected = server.config.connect(pool::tls(server)?).await;
    let (mut client, connection) = connected.map_err(|error| pool::failure(&error))?;
    let work = async {
        let locked = client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await;
        locked.map_err(|error| pool::failure(&error))?;
        if schema::standing(&runner, &pool::applied(&client).await?)? == Standing::Current {
            return Ok(Vec::new());
        }
        let report = runner.run_async(&mut client).await;
        let report = report.map_err(|error| schema::failure(&error, pool::failure))?;
        Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
    };
    tokio::select! {
        done = work => done,
        ended = connection => Err(match ended {
            Err(error) => pool::failure(&error),
            Ok(()) => StoreError::Unavailable("PostgreSQL closed the connection".to_owned()),
        }),
    }
}

/// What stands for NUL, which PostgreSQL's text can't hold, and for itself. The names of queues may have any character,
/// and one such name must not make the writing of all others fail.
const ESCAPE: char = '\u{1a}';

fn escaped(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', ESCAPE]) {
        Cow::Owned(text.replace(ESCAPE, "\u{1a}1").replace('\0', "\u{1a}0"))
    } else {
        Cow::Borrowed(text)
    }
}

impl Row for tokio_postgres::Row {
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError> {
        self.try_get(at).map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn text(&self, at: usize) -> Result<String, StoreError> {
        let text: String = self.field(at)?;
        let escaped = text.contains(ESCAPE);
        Ok(if escaped { text.replace("\u{1a}0", "\0").replace("\u{1a}1", "\u{1a}") } else { text })
    }
}

const ONE: &str = concat!("SELECT ", namespace_columns!(), " FROM namespace WHERE name = $1");
const ALL: &str = concat!("SELECT ", namespace_columns!(), " FROM namespace ORDER BY name");
const DUE: &str = concat!(
    "SELECT ",
    namespace_columns!(),
    " FROM namespace WHERE gone_since IS NULL AND (due, name) > ($3, $4) ",
    "AND ((pending_since IS NULL AND due <= $1) OR pending_since <= $2) ORDER BY due, name LIMIT $5"
);
const SUMMARIES: &str = concat!(
    "SELECT ",
    summary_columns!(),
    " FROM namespace WHERE gone_since IS NULL AND name > $1 ORDER BY name LIMIT $2"
);
const SUMMARY: &str = concat!("SELECT ", summary_columns!(), " FROM namespace WHERE gone_since IS NULL AND name = $1");
const CHANGED: &str = concat!(
    "SELECT ",
    namespace_columns!(),
    " FROM unnest($1::text[], $2::bigint[]) AS known (name, read_at) LEFT JOIN namespace USING (name) ",
    "WHERE version IS DISTINCT FROM read_at"
);
const ALERTS: &str = concat!("SELECT ", alert_columns!(), " FROM alert ORDER BY queue");
const TAKE_NOTICES: &str = concat!(
    "UPDATE notice SET attempts = attempts + 1, due = $2 WHERE id = ANY(ARRAY(",
    "SELECT id FROM notice WHERE due <= $1 ORDER BY due, id LIMIT $3 FOR UPDATE SKIP LOCKED)) RETURNING ",
    notice_columns!()
);
const LEASE: &str = "INSERT INTO lease (task, holder, until) VALUES ($1, $2, $4) ON CONFLICT (task) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= $3 OR lease.until > $4 \
     RETURNING task";

impl SealedRows for Postgres {
    fn keys(&self) -> &KeyRing {
        &self.keys
    }

    async fn rows(&self) -> Result<Vec<NamespaceRow>, StoreError> {
        self.database.query(Repeat::Safe, ALL, &[]).await?.iter().map(rows::namespace).collect()
    }
}

/// What always gives a row gave none.
fn no_row() -> StoreError {
    StoreError::Failed("PostgreSQL gave no row where there is always one".to_owned())
}

/// The server's time in milliseconds. It is that of the statement, not of its transaction.
macro_rules! server_time {
    () => {
        "floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
    };
}
/// A pause shows only where there was a beat before. The last beat counts even if it is earlier than the one before: then
/// the server's clock was set back, and what it showed before is wrong.
const BEAT: &str = concat!(
    "INSERT INTO heartbeat AS old (id, last, since) VALUES (1, ",
    server_time!(),
    ", 0) ON CONFLICT (id) DO UPDATE SET last = excluded.last, ",
    "since = CASE WHEN old.last < excluded.last - $1 THEN excluded.last ELSE least(old.since, excluded.last) END ",
    "RETURNING last"
);
const VITALS: &str =
    concat!("SELECT ", server_time!(), ", last, since FROM (VALUES (1)) AS wanted (id) LEFT JOIN heartbeat USING (id)");
/// Forgets none that another call is just forgetting, and not the one that it is about to see again.
const SIGHT: &str = "WITH forgotten AS (DELETE FROM sighting WHERE request = ANY(ARRAY(\
     SELECT request FROM sighting WHERE seen <= $4 AND request <> $1 ORDER BY seen LIMIT 8 FOR UPDATE SKIP LOCKED))) \
     INSERT INTO sighting (request, body, seen) VALUES ($1, $2, $3) \
     ON CONFLICT (request) DO UPDATE SET seen = sighting.seen RETURNING body, seen";

#[async_trait]
impl Store for Postgres {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let found = self.database.query(Repeat::Safe, ONE, &[&name.as_str()]).await?;
        found.first().map(|row| rows::namespace(row)?.open(&self.keys)).transpose()
    }

    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        let (after, limit) = (escaped(after.unwrap_or_default()), i64::from(limit));
        let found = self.database.query(Repeat::Safe, SUMMARIES, &[&after, &limit]).await?;
        found.iter().map(rows::summary).collect()
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let found = self.database.query(Repeat::Safe, SUMMARY, &[&name.as_str()]).await?;
        found.first().map(rows::summary).transpose()
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
            let (now, abandoned, limit) = (now.millis(), abandoned.millis(), i64::from(limit));
            let page = self.database.query(Repeat::Safe, DUE, &[&now, &abandoned, &due, &name, &limit]).await?;
            let page = page.iter().map(rows::namespace).collect::<Result<_, _>>()?;
            if let Some(found) = pages.add(page, &self.keys) {
                return Ok(found);
            }
        }
    }

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        let (names, versions): (Vec<_>, Vec<_>) =
            known.iter().map(|(name, version)| (name.as_str(), version.0)).unzip();
        let found = self.database.query(Repeat::Safe, CHANGED, &[&names, &versions]).await?;
        let found = found.iter().map(rows::changed).collect::<Result<_, _>>()?;
        Ok(rows::readable_changes(found, &self.keys))
    }

    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.database.query(Repeat::Safe, ALERTS, &[]).await?.iter().map(rows::alert).collect()
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let rows = changes::row_changes(changes, &self.keys)?;
        let done = write::write(&self.database, &rows, changes).await?;
        Ok(done.into_iter().map(|done| if done { Write::Done } else { Write::Lost }).collect())
    }

    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let (now, retry, limit) = (now.millis(), retry.millis(), i64::from(limit));
        let taken = self.database.query(Repeat::Never, TAKE_NOTICES, &[&now, &retry, &limit]).await?;
        let mut taken = taken.iter().map(rows::notice).collect::<Result<Vec<_>, _>>()?;
        taken.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        Ok(taken)
    }

    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE notice SET due = $2 WHERE id = $1";
        self.database.query(Repeat::Safe, sql, &[&id, &retry.millis()]).await?;
        Ok(())
    }

    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        self.database.query(Repeat::Safe, "DELETE FROM notice WHERE id = $1", &[&id]).await?;
        Ok(())
    }

    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let (now, until) = (now.millis(), until.millis());
        let given = self.database.query(Repeat::Safe, LEASE, &[&task, &holder, &now, &until]).await?;
        Ok(!given.is_empty())
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM lease WHERE task = $1 AND holder = $2";
        self.database.query(Repeat::Safe, sql, &[&task, &holder]).await?;
        Ok(())
    }

    async fn beat(&self, _: Timestamp, gap: Duration) -> Result<Timestamp, StoreError> {
        let gap = i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
        let beat = self.database.query(Repeat::Safe, BEAT, &[&gap]).await?;
        beat.first().ok_or_else(no_row)?.moment(0)
    }

    async fn vitals(&self, _: Timestamp) -> Result<Vitals, StoreError> {
        let found = self.database.query(Repeat::Safe, VITALS, &[]).await?;
        rows::vitals(found.first().ok_or_else(no_row)?)
    }

    async fn sight(&self, request: &Digest, sighting: Sighting, forget: Timestamp) -> Result<Sighting, StoreError> {
        let (request, body) = (request.as_slice(), sighting.body.as_slice());
        let (seen, forget) = (sighting.seen.millis(), forget.millis());
        let first = self.database.query(Repeat::Safe, SIGHT, &[&request, &body, &seen, &forget]).await?;
        first.first().map_or(Ok(sighting), rows::sighting)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.database.query(Repeat::Safe, "SELECT 1", &[]).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_only_where_postgresql_could_not_hold_it() {
        assert_eq!(escaped("queue/\\0"), "queue/\\0");
        assert_eq!(escaped("a\0b\u{1a}c\u{1a}0"), "a\u{1a}0b\u{1a}1c\u{1a}10");
    }
}
