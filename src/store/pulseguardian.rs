//! Reads a PulseGuardian database, on PostgreSQL or SQLite, as its own migrations made it. Nothing in it is changed.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use tokio::time::timeout;

use crate::store::error::StoreError;
use crate::store::limits::StoreLimits;
use crate::store::postgres::{failure, tls};
use crate::store::url::{DatabaseUrl, Server};

/// What a PulseGuardian database holds that is of use after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PulseGuardian {
    /// Its accounts, each of which is a user of the broker, in the order of their names.
    pub accounts: Vec<Guarded>,
    /// The addresses of its administrators.
    pub administrators: Vec<String>,
    /// Queues that may grow without a bound, and belong to no account.
    pub stray: Vec<String>,
}

/// An account of PulseGuardian.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guarded {
    /// The user of the broker.
    pub user: String,
    /// The addresses of its owners.
    pub owners: Vec<String>,
    /// Its queues that may grow without a bound.
    pub unbounded: Vec<String>,
}

/// Pairs of the id of an account, where there is one, and a text.
type Pairs = Vec<(Option<i64>, String)>;

const ACCOUNTS: &str = "SELECT CAST(id AS bigint), username FROM pulse_users ORDER BY username";
const OWNERS: &str = "SELECT CAST(o.pulse_users_id AS bigint), u.email FROM pulse_user_owners o \
                      JOIN users u ON u.id = o.users_id ORDER BY u.email";
const UNBOUNDED: &str = "SELECT CAST(owner_id AS bigint), name FROM queues WHERE unbounded ORDER BY name";
const ADMINISTRATORS: &str = "SELECT CAST(id AS bigint), email FROM users WHERE admin ORDER BY email";

/// Reads the PulseGuardian database that `url` names.
///
/// # Errors
/// [`StoreError::Setup`] where it is none, and those of the database.
pub async fn read_pulseguardian(url: &DatabaseUrl, limits: StoreLimits) -> Result<PulseGuardian, StoreError> {
    let [accounts, owners, unbounded, administrators] = match url {
        DatabaseUrl::Postgres(server) => postgres(server, limits).await?,
        DatabaseUrl::Sqlite(path) => {
            let path = path.clone();
            let read = tokio::task::spawn_blocking(move || sqlite(&path, limits));
            read.await.map_err(|error| StoreError::Failed(error.to_string()))??
        }
    };
    let mut guarded: BTreeMap<_, _> =
        accounts.into_iter().map(|(id, user)| (id, Guarded { user, ..Guarded::default() })).collect();
    for (id, owner) in owners {
        if let Some(account) = guarded.get_mut(&id) {
            account.owners.push(owner);
        }
    }
    let mut stray = Vec::new();
    for (id, queue) in unbounded {
        match guarded.get_mut(&id) {
            Some(account) => account.unbounded.push(queue),
            None => stray.push(queue),
        }
    }
    let mut accounts: Vec<_> = guarded.into_values().collect();
    accounts.sort_by(|one, other| one.user.cmp(&other.user));
    Ok(PulseGuardian { accounts, administrators: administrators.into_iter().map(|(_, email)| email).collect(), stray })
}

fn none_there(why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Setup(format!("this is no PulseGuardian database: {why}"))
}

async fn postgres(server: &Server, limits: StoreLimits) -> Result<[Pairs; 4], StoreError> {
    let reading = async {
        let (mut client, connection) = server.config.connect(tls(server)?).await.map_err(|error| failure(&error))?;
        let connection = tokio::spawn(connection);
        let read = async {
            let transaction = client.build_transaction().read_only(true);
            let transaction = transaction.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
            let transaction = transaction.start().await.map_err(|error| failure(&error))?;
            let mut found = [const { Vec::new() }; 4];
            for (found, sql) in found.iter_mut().zip([ACCOUNTS, OWNERS, UNBOUNDED, ADMINISTRATORS]) {
                let rows = transaction.query(sql, &[]).await.map_err(|error| match failure(&error) {
                    StoreError::Failed(why) => none_there(&why),
                    other => other,
                })?;
                let pairs = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                let pairs: Result<Pairs, tokio_postgres::Error> = pairs.collect();
                *found = pairs.map_err(|error| none_there(&error))?;
            }
            Ok(found)
        };
        let found = read.await;
        drop(client);
        connection.abort();
        found
    };
    // Four queries, and the connection.
    let patience = limits.timeout * 5;
    let late = |_| StoreError::Unavailable(format!("PulseGuardian's database did not answer within {patience:?}"));
    timeout(patience, reading).await.map_err(late)?
}

fn sqlite(path: &Path, limits: StoreLimits) -> Result<[Pairs; 4], StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)
        .map_err(|error| none_there(&format!("{}: {error}", path.display())))?;
    connection.busy_timeout(limits.timeout)?;
    let transaction = connection.transaction().map_err(|error| none_there(&error))?;
    let mut found = [const { Vec::new() }; 4];
    for (found, sql) in found.iter_mut().zip([ACCOUNTS, OWNERS, UNBOUNDED, ADMINISTRATORS]) {
        let read = || -> rusqlite::Result<Pairs> {
            let mut statement = transaction.prepare(sql)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        *found = read().map_err(|error| none_there(&error))?;
    }
    Ok(found)
}
