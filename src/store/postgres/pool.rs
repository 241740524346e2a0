//! Connections to PostgreSQL: made when they are needed, encrypted as the URL says, and replaced when they die.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::{HookError, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Row};

use crate::store::calls::{READ, WRITE, counted, outcome};
use crate::store::error::StoreError;
use crate::store::limits::StoreLimits;
use crate::store::postgres::encryption::tls;
use crate::store::postgres::param::{Param, run};
use crate::store::postgres::reach::Reach;
use crate::store::schema;
use crate::store::url::Server;
use crate::telemetry::metrics::{self, Calls};

/// How often one call is tried where PostgreSQL undid it for the sake of another.
const TRIES: u32 = 3;

/// Whether a call may be made again when it is unknown whether it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Repeat {
    /// It reads, or writes what it would write again.
    Safe,
    /// It would see its own effect as that of somebody else.
    Never,
}

/// The connections of this process. The first one that is used checks the schema, once.
pub(in crate::store) struct Database {
    pool: Pool,
    timeout: Duration,
    schema_is_current: AtomicBool,
    /// Whether a pooler stands in front of PostgreSQL, as far as is known.
    pooled: Arc<AtomicBool>,
    /// Whether there are several hosts.
    several: bool,
    /// What is counted of the calls.
    pub(super) calls: Calls,
}

impl Database {
    /// Connects to nothing yet.
    pub(super) fn new(server: &Server, limits: StoreLimits) -> Result<Database, StoreError> {
        let pooled = Arc::new(AtomicBool::new(false));
        let reach = Reach::new(&server.hosts, tls(server)?, limits.timeout, pooled.clone());
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_connect(*server.config.clone(), reach, recycling);
        let pool = Pool::builder(manager).max_size(limits.connections).runtime(Runtime::Tokio1).build();
        let pool = pool.map_err(|error| StoreError::Failed(error.to_string()))?;
        let (timeout, several) = (limits.timeout, server.hosts.len() > 1);
        let schema_is_current = AtomicBool::new(false);
        Ok(Database { pool, timeout, schema_is_current, pooled, several, calls: counted() })
    }

    /// Whether a pooler stands in front of PostgreSQL. Known as soon as there is a connection.
    pub(super) fn is_pooled(&self) -> bool {
        self.pooled.load(Ordering::Relaxed)
    }

    /// Runs one statement, which is prepared once a connection unless there is a pooler.
    pub(in crate::store) async fn query(
        &self,
        repeat: Repeat,
        sql: &str,
        params: &[&dyn Param],
    ) -> Result<Vec<Row>, StoreError> {
        let mut call = self.begin(repeat, if sql.starts_with("SELECT") { READ } else { WRITE });
        loop {
            let client = call.connection().await?;
            let worked = timeout_at(call.deadline, run(&client, self.is_pooled(), sql, params)).await;
            if let Some(rows) = call.settle(client, worked)? {
                return Ok(rows);
            }
        }
    }

    /// Begins a call that writes, whose time is running from now on.
    pub(super) fn call(&self, repeat: Repeat) -> Call<'_> {
        self.begin(repeat, WRITE)
    }

    fn begin(&self, repeat: Repeat, kind: &str) -> Call<'_> {
        let counted = self.calls.begin(kind);
        Call { database: self, repeat, deadline: Instant::now() + self.timeout, tries: 0, counted }
    }

    async fn connection(&self, deadline: Instant) -> Result<Object, StoreError> {
        let got = timeout_at(deadline, self.pool.get()).await.map_err(|_| self.late())?;
        let client = got.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(HookError::Backend(error)) => failure(&error),
            other => StoreError::Unavailable(other.to_string()),
        })?;
        if !self.schema_is_current.load(Ordering::Relaxed) {
            let Ok(applied) = timeout_at(deadline, applied(&client)).await else {
                drop(Object::take(client));
                return Err(self.late());
            };
            schema::require_current(&schema::postgres::migrations::runner(), &applied?)?;
            self.schema_is_current.store(true, Ordering::Relaxed);
        }
        Ok(client)
    }

    fn late(&self) -> StoreError {
        StoreError::Unavailable(format!("PostgreSQL did not answer within {:?}", self.timeout))
    }
}

/// One call, which may take several tries.
pub(super) struct Call<'a> {
    database: &'a Database,
    repeat: Repeat,
    /// When the caller stops waiting.
    pub(super) deadline: Instant,
    tries: u32,
    counted: metrics::Call,
}

impl Call<'_> {
    /// A connection for the next try.
    pub(super) async fn connection(&mut self) -> Result<Object, StoreError> {
        self.tries += 1;
        let connected = self.database.connection(self.deadline).await;
        if connected.is_err() {
            self.counted.end(outcome(&connected));
        }
        connected
    }

    /// What became of a try on `client`: `None` where another one is to be made, because PostgreSQL undid this one for the
    /// sake of another transaction, or because the connection had died while it was idle and the call may be repeated.
    pub(super) fn settle<T>(
        &mut self,
        client: Object,
        worked: Result<Result<T, Error>, Elapsed>,
    ) -> Result<Option<T>, StoreError> {
        let settled = self.judge(client, worked);
        self.counted.end(outcome(&settled));
        settled
    }

    fn judge<T>(&self, client: Object, worked: Result<Result<T, Error>, Elapsed>) -> Result<Option<T>, StoreError> {
        let Ok(worked) = worked else {
            // The connection may hang for ever, so nobody else shall get it.
            drop(Object::take(client));
            return Err(self.database.late());
        };
        let error = match worked {
            Ok(value) => return Ok(Some(value)),
            Err(error) => error,
        };
        let again = if self.database.several && error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            // Another host is the primary by now. Nothing was written. The connections that are idle lead to the former one, too.
            drop(Object::take(client));
            self.database.pool.retain(|_, _| false);
            self.tries < TRIES
        } else if is_broken(&error) {
            // Every connection that was idle may have died with the server, but a new one tells how things are.
            let was_idle = Object::metrics(&client).recycle_count > 0;
            drop(Object::take(client));
            was_idle && self.repeat == Repeat::Safe
        } else {
            was_undone(&error) && self.tries < TRIES
        };
        if again { Ok(None) } else { Err(failure(&error)) }
    }
}

/// What was applied to the database, nothing where it has no history.
pub(super) async fn applied(client: &Client) -> Result<Vec<schema::Applied>, StoreError> {
    // Without a name, for it may be a pooler's connection.
    match client.query_typed(schema::HISTORY, &[]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(Vec::new()),
        Err(error) => Err(failure(&error)),
        Ok(rows) => rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)))
            .collect::<Result<_, Error>>()
            .map_err(|error| StoreError::Failed(error.to_string())),
    }
}

/// Says what PostgreSQL said, but for the details, in which it may show whole rows.
pub(in crate::store) fn failure(error: &Error) -> StoreError {
    let Some(answer) = error.as_db_error() else {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        return StoreError::Unavailable(format!("{error}{cause}"));
    };
    let what = format!("{} ({})", answer.message(), answer.code().code());
    if *answer.code() == SqlState::DISK_FULL {
        return StoreError::Unwritable(what);
    }
    // Classes 08: connection, 25: a read-only standby, 40: undone, 53: out of resources, 55: locked, 57: stopped.
    match answer.code().code().get(..2) {
        Some("25") => StoreError::Unwritable(what),
        Some("08" | "40" | "53" | "55" | "57") => StoreError::Unavailable(what),
        _ => StoreError::Failed(what),
    }
}

/// Whether the connection is of no more use.
fn is_broken(error: &Error) -> bool {
    let stopped = [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT];
    error.as_db_error().is_none_or(|answer| stopped.contains(answer.code()))
}

/// Whether PostgreSQL undid the transaction for the sake of another one.
fn was_undone(error: &Error) -> bool {
    let undone = [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE];
    error.code().is_some_and(|code| undone.contains(code))
}
