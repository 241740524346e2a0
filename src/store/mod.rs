//! What the service remembers: rows, no opinions.
//!
//! The store has no verb of the domain. The domain computes the next record, and [`Store::write`] writes it over the
//! version at which it was read. A lost race is a value, [`Write::Lost`], and no error.
//!
//! [`open`] gives the [`Store`] that a [`DatabaseUrl`] names: a SQLite file for one machine, or a PostgreSQL database for
//! any number of processes. Passwords are sealed under a [`KeyRing`] before they reach either. One suite of tests,
//! `tests/store.rs`, holds both to what is written here.

mod changes;
mod postgres;
mod rekey;
mod rows;
mod schema;
mod seal;
mod sqlite;
mod url;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::hold::Vitals;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::Notice;

pub use rekey::Rekeyed;
pub use seal::KeyRing;
pub use url::{DatabaseUrl, Server};

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// It is stored.
    Done,
    /// Another process wrote first, and nothing was stored: read again, decide again.
    Lost,
}

/// One record's change. Each is written over the version that it carries, which is the one at which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Write this namespace: insert it where its version is new ([`Version::is_new`]), else replace it.
    Namespace(Namespace),
    /// Remove this namespace's record.
    RemoveNamespace(Name, Version),
    /// Write this alert, likewise.
    Alert(Alert),
    /// Remove the alert of this queue.
    RemoveAlert(String, Version),
}

/// A change and what has to be told of it: stored both or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changes.
    pub record: Record,
    /// What is to be told if the change is stored.
    pub notices: Vec<Notice>,
}

/// What anybody may know of a namespace; it holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: Name,
    /// Who is told of its troubles; empty for nobody.
    pub contact: String,
    /// When it was created.
    pub created: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
}

/// A SHA-256 hash.
pub type Digest = [u8; 32];

/// When a signed request was seen, and with which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The hash of its body.
    pub body: Digest,
    /// When.
    pub seen: Timestamp,
}

/// Which namespaces to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// Every one, tombstones too.
    All,
    /// Those with passwords that can't be opened. Each password is given as an empty one.
    Sealed,
    /// At most `limit` live ones whose rotation is due at `now`, or pending since `abandoned` or earlier; the longest
    /// due first.
    Due {
        /// The current time.
        now: Timestamp,
        /// A password pending since then or earlier belongs to a process that died.
        abandoned: Timestamp,
        /// How many at most.
        limit: u32,
    },
}

/// Why the store could not do what it was asked. It never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or did not answer in time; trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// A sealed password can't be opened: its key is not in the key ring, or the row was changed from outside.
    #[error("a stored secret can't be opened: {0}")]
    Sealed(String),
    /// The database has no schema yet, or an older one, and waits to be migrated. The sentence says how.
    #[error("{0}")]
    Unmigrated(String),
    /// The schema is not one that this version knows. The sentence says what to do.
    #[error("{0}")]
    Schema(String),
    /// The database URL, the keys or the key file are not as they must be. The sentence says what would be right.
    #[error("{0}")]
    Setup(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// What the store may take of time and of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long one call may take, its waiting for a connection included.
    pub timeout: Duration,
    /// How many connections to PostgreSQL this process may have. (A SQLite store has one.)
    pub connections: usize,
}

impl Default for Limits {
    /// Five seconds, and five connections.
    fn default() -> Limits {
        Limits { timeout: Duration::from_secs(5), connections: 5 }
    }
}

/// Opens the store at `url`.
///
/// A SQLite file is made and migrated as needed. Where `keys` are left out, it has a key ring of its own in the file
/// `<path>.key` beside it, which is made together with it.
///
/// PostgreSQL needs `keys`, and a schema that was made by [`migrate`]. Where it can't be reached or was not migrated yet, the
/// store opens all the same, and looks again at each call, which fails until then. [`Store::ping`] tells.
///
/// # Errors
/// [`StoreError::Setup`] for missing or unusable keys, [`StoreError::Schema`] for a schema that this program doesn't know, and
/// whatever else the database refuses.
pub async fn open(url: &DatabaseUrl, keys: Option<KeyRing>, limits: Limits) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(Arc::new(sqlite::Sqlite::open(path, keys, limits.timeout).await?)),
        DatabaseUrl::Postgres(server) => Ok(Arc::new(postgres(server, keys, limits).await?)),
    }
}

async fn postgres(server: &Server, keys: Option<KeyRing>, limits: Limits) -> Result<postgres::Postgres, StoreError> {
    let keys = keys.ok_or_else(|| {
        StoreError::Setup(
            "with PostgreSQL, set DB_CRYPTO_KEYS to the keys under which passwords are stored: \
             [{\"id\": \"<name>\", \"algo\": \"aes-256\", \"key\": \"<what `openssl rand -base64 32` prints>\"}]"
                .to_owned(),
        )
    })?;
    let store = postgres::Postgres::new(server, keys, limits)?;
    match store.ping().await {
        Err(StoreError::Unavailable(_) | StoreError::Unmigrated(_)) | Ok(()) => Ok(store),
        Err(error) => Err(error),
    }
}

/// Seals what is sealed under an older key of the key ring under the newest one. Others may read and write meanwhile.
///
/// # Errors
/// As for [`open`], and those of each call. What is sealed anew by then stays so.
pub async fn rekey(url: &DatabaseUrl, keys: Option<KeyRing>, limits: Limits) -> Result<Rekeyed, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => rekey::rekey(&sqlite::Sqlite::open(path, keys, limits.timeout).await?).await,
        DatabaseUrl::Postgres(server) => rekey::rekey(&postgres(server, keys, limits).await?).await,
    }
}

/// Brings the schema of the database at `url` up to what this program needs, and gives the names of the migrations that it
/// applied. Any number of processes may call it at once.
///
/// # Errors
/// [`StoreError::Schema`] for a schema that this program does not know: a newer one, or somebody else's.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::migrate(path).await,
        DatabaseUrl::Postgres(server) => postgres::migrate(server).await,
    }
}

/// The records of the service. Every call has a time-out of its own.
#[async_trait]
pub trait Store: Send + Sync {
    /// The namespace's record, be it a tombstone.
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError>;

    /// Live namespaces in the order of their names, at most `limit`, from the first one after `after` on. Opens no secret.
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError>;

    /// The live namespace's summary. Opens no secret.
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError>;

    /// Many namespaces. A record that can't be opened does not hide the others: it is logged and left out, but by
    /// [`Select::Sealed`].
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError>;

    /// Of namespaces that were read at these versions, those whose record has another one by now; `None` for one whose
    /// record is gone. A record that can't be opened is logged and left out.
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError>;

    /// All alerts.
    async fn alerts(&self) -> Result<Vec<Alert>, StoreError>;

    /// Writes many records in one transaction, with the fewest statements that do it. Answers in the order of `changes`;
    /// one that is lost does not hinder the others. A stored record has the version after the one it carried. Where two
    /// changes concern the same record, the second is lost. A notice whose id is stored already is not stored again.
    ///
    /// After an error it is unknown whether anything was stored (all of it, or nothing): read again.
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError>;

    /// Takes at most `limit` notices that are due at `now`, the longest due first, and makes them due again at `retry`, so that nobody else takes
    /// them meanwhile and none is lost if this process dies. Each one's `attempts` counts this time.
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;

    /// Makes a notice due at `retry`, after a failed delivery.
    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError>;

    /// Forgets a notice, which is delivered or can't be.
    async fn remove_notice(&self, id: &str) -> Result<(), StoreError>;

    /// Gives `holder` the sole right to `task` until `until`, if nobody else has it at `now`. The holder itself may extend
    /// it. `false` where somebody else has it. A lease that ends later than `until` is nobody's: it was taken by a clock that
    /// was ahead, or comes from a time that was undone.
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives up the right that `holder` has to `task`.
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError>;

    /// Notes that the API is within its clients' reach, and gives the store's time. A pause of more than `gap` since it
    /// was noted last, by whichever process, begins a new [`since`](crate::domain::hold::Heartbeat::since).
    ///
    /// The store's clock is its server's. A store without a server is on the caller's host, and has its time: `now`.
    async fn beat(&self, now: Timestamp, gap: Duration) -> Result<Timestamp, StoreError>;

    /// What the time is, and when the API was within its clients' reach, both by the store's clock; `now` as for
    /// [`Store::beat`].
    async fn vitals(&self, now: Timestamp) -> Result<Vitals, StoreError>;

    /// Remembers that the signed request with this hash was seen, unless it was seen before, and gives its first sighting.
    /// On the way it forgets a few of those from `forget` or earlier, more than it adds. A sighting may be lost when the
    /// database's host crashes.
    async fn sight(&self, request: &Digest, sighting: Sighting, forget: Timestamp) -> Result<Sighting, StoreError>;

    /// Whether the store answers, and has the schema that this program needs.
    async fn ping(&self) -> Result<(), StoreError>;
}
