//! Opens and migrates the database that a [`DatabaseUrl`] names.

use std::sync::Arc;

use crate::store::Store;
use crate::store::error::StoreError;
use crate::store::limits::StoreLimits;
use crate::store::postgres::{self, Postgres};
use crate::store::rekey::{self, Rekeyed};
use crate::store::seal::KeyRing;
use crate::store::sqlite::{self, Sqlite};
use crate::store::url::{DatabaseUrl, Server};

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
pub async fn open(url: &DatabaseUrl, keys: Option<KeyRing>, limits: StoreLimits) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(Arc::new(Sqlite::open(path, keys, limits.timeout).await?)),
        DatabaseUrl::Postgres(server) => Ok(Arc::new(open_postgres(server, keys, limits).await?)),
    }
}

async fn open_postgres(server: &Server, keys: Option<KeyRing>, limits: StoreLimits) -> Result<Postgres, StoreError> {
    let keys = keys.ok_or_else(|| {
        StoreError::Setup(
            "with PostgreSQL, set DB_CRYPTO_KEYS to the keys under which passwords are stored: \
             [{\"id\": \"<name>\", \"algo\": \"aes-256\", \"key\": \"<what `openssl rand -base64 32` prints>\"}]"
                .to_owned(),
        )
    })?;
    let store = Postgres::new(server, keys, limits)?;
    match store.ping().await {
        Err(StoreError::Unavailable(_) | StoreError::Unmigrated(_)) | Ok(()) => Ok(store),
        Err(error) => Err(error),
    }
}

/// Seals what is sealed under an older key of the key ring under the newest one. Others may read and write meanwhile.
///
/// # Errors
/// As for [`open`], and those of each call. What is sealed anew by then stays so.
pub async fn rekey(url: &DatabaseUrl, keys: Option<KeyRing>, limits: StoreLimits) -> Result<Rekeyed, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => rekey::rekey(&Sqlite::open(path, keys, limits.timeout).await?).await,
        DatabaseUrl::Postgres(server) => rekey::rekey(&open_postgres(server, keys, limits).await?).await,
    }
}

/// Brings the schema of the database at `url` up to what this program needs, and gives the names of the migrations that it
/// applied. Any number of processes may call it at once.
///
/// # Errors
/// [`StoreError::Schema`] for a schema that this program does not know: a newer one, or somebody else's. Nothing is changed
/// then, neither in the database nor about its file.
pub async fn migrate(url: &DatabaseUrl) -> Result<Vec<String>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::migrate(path).await,
        DatabaseUrl::Postgres(server) => postgres::migrate(server).await,
    }
}

/// Takes the schema of the database at `url` back to version `to`, and gives the names of the migrations that were taken out, the
/// newest first. `forced` does so where data is lost by that. No process of this program may use the database meanwhile or afterwards.
///
/// # Errors
/// [`StoreError::Schema`] for a schema that this program does not know, a version that is none to go back to, and where data would be
/// lost. Nothing is changed then.
pub async fn migrate_back(url: &DatabaseUrl, to: u32, forced: bool) -> Result<Vec<String>, StoreError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::migrate_back(path, to, forced).await,
        DatabaseUrl::Postgres(server) => postgres::migrate_back(server, to, forced).await,
    }
}
