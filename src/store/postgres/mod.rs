//! The store in a PostgreSQL database, which any number of processes share.
//!
//! Nothing is connected before it is needed, so that the service can start before its database. A call on one row is one
//! statement and one round trip.

mod audits;
mod deployment;
mod encryption;
mod figures;
mod heartbeats;
mod leases;
mod namespaces;
mod notices;
mod param;
mod pool;
mod reach;
mod recipients;
mod records;
mod sessions;
mod sightings;
mod statements;
pub(super) mod text;
mod watches;
mod within;

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Client;

use crate::store::Store;
use crate::store::back;
use crate::store::error::StoreError;
use crate::store::limits::StoreLimits;
use crate::store::namespaces::unreadable::Told;
use crate::store::schema::{self, Standing};
use crate::store::seal::KeyRing;
use crate::store::table::{Field, Row};
use crate::store::url::Server;
use crate::telemetry::metrics::Calls;
use pool::{Database, Repeat};

pub(super) use encryption::tls;
pub(super) use param::Param;
pub(super) use pool::failure;

/// How long connecting, waiting for another process' migrations, and migrating may take together.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// Locks out other processes' migrations of the same database: "pulse" in ASCII.
const MIGRATION_LOCK: i64 = 0x70_75_6c_73_65;

/// What stands where our tables would, but for what extensions have put there.
const OTHERS: &str = "SELECT relname::text FROM pg_class WHERE relnamespace = (\
     SELECT oid FROM pg_namespace WHERE nspname = current_schema()) AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') \
     AND relname <> $1 AND NOT EXISTS (SELECT FROM pg_depend \
     WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype = 'e') ORDER BY relname LIMIT 4";

/// A [`Store`] in a PostgreSQL database.
pub(super) struct Postgres {
    database: Database,
    keys: KeyRing,
    told: Told,
}

impl Postgres {
    /// Connects to nothing yet.
    pub(super) fn new(server: &Server, keys: KeyRing, limits: StoreLimits) -> Result<Postgres, StoreError> {
        Ok(Postgres { database: Database::new(server, limits)?, keys, told: Told::default() })
    }
}

/// Takes the schema back to version `to`; the names of the migrations that were taken out.
pub(super) async fn migrate_back(server: &Server, to: u32, forced: bool) -> Result<Vec<String>, StoreError> {
    locked(server, async |client| {
        let ways = back::ways(back::Backend::Postgres, &pool::applied(client).await?, to)?;
        let gone_back = async {
            let transaction = client.transaction().await?;
            let mut lost = Vec::new();
            for way in &ways {
                for (what, query) in &way.loses {
                    lost.push((transaction.query_one(*query, &[]).await?.get(0), *what));
                }
                transaction.batch_execute(way.sql).await?;
            }
            if let Err(refused) = back::require_no_loss(&lost, forced) {
                return Ok(Err(refused));
            }
            let version = i32::try_from(to).unwrap_or(i32::MAX);
            transaction.execute(schema::FORGET, &[&version]).await?;
            transaction.commit().await.map(Ok)
        };
        let gone_back: Result<_, tokio_postgres::Error> = gone_back.await;
        gone_back.map_err(|error| pool::failure(&error))??;
        Ok(ways.into_iter().map(|way| way.name).collect())
    })
    .await
}

/// Applies the migrations that the database lacks; their names.
pub(super) async fn migrate(server: &Server) -> Result<Vec<String>, StoreError> {
    let runner = schema::postgres::migrations::runner().set_grouped(true);
    locked(server, async |client| {
        let applied = pool::applied(client).await?;
        if schema::standing(&runner, &applied)? == Standing::Current {
            return Ok(Vec::new());
        }
        if applied.is_empty() {
            let others = client.query(OTHERS, &[&schema::HISTORY_TABLE]).await;
            let others = others.map_err(|error| pool::failure(&error))?;
            schema::require_empty(others.iter().map(|row| row.get::<_, String>(0)))?;
        }
        let report = runner.run_async(client).await;
        let report = report.map_err(|error| schema::failure(&error, pool::failure))?;
        Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
    })
    .await
}

/// Does `work` on the schema while no other process does. The lock belongs to the connection and goes with it.
async fn locked<T>(
    server: &Server,
    work: impl AsyncFnOnce(&mut Client) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("migrating took longer than {MIGRATION_TIMEOUT:?}"));
    let work = async {
        let pooled = reach::is_pooled(&server.hosts, tls(server)?, MIGRATION_TIMEOUT).await;
        if pooled.map_err(|error| pool::failure(&error))? {
            // A lock that belongs to a connection would be another client's at once.
            return Err(StoreError::Setup(
                "a pooler such as pgbouncer stands in front of PostgreSQL, through which the schema can't be changed: give \
                 this command a DATABASE_URL that leads to PostgreSQL itself"
                    .to_owned(),
            ));
        }
        let connected = server.config.connect(tls(server)?).await;
        let (mut client, connection) = connected.map_err(|error| pool::failure(&error))?;
        let work = async {
            let locked = client.execute("SELECT pg_advisory_lock($1)", &[&MIGRATION_LOCK]).await;
            locked.map_err(|error| pool::failure(&error))?;
            work(&mut client).await
        };
        tokio::select! {
            done = work => done,
            ended = connection => Err(match ended {
                Err(error) => pool::failure(&error),
                Ok(()) => StoreError::Unavailable("PostgreSQL closed the connection".to_owned()),
            }),
        }
    };
    tokio::time::timeout(MIGRATION_TIMEOUT, work).await.map_err(late)?
}

impl Row for tokio_postgres::Row {
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError> {
        self.try_get(at).map_err(|error| StoreError::Failed(error.to_string()))
    }

    fn text(&self, at: usize) -> Result<String, StoreError> {
        self.field(at).map(text::unescaped)
    }
}

/// What always gives a row gave none.
fn no_row() -> StoreError {
    StoreError::Failed("PostgreSQL gave no row where there is always one".to_owned())
}

#[async_trait]
impl Store for Postgres {
    async fn ping(&self) -> Result<(), StoreError> {
        self.database.query(Repeat::Safe, "SELECT 1", &[]).await?;
        Ok(())
    }

    fn calls(&self) -> Option<&Calls> {
        Some(&self.database.calls)
    }
}
