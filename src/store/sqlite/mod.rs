//! The store in a SQLite file, which several processes of one machine may share.
//!
//! The file is in WAL mode, so that readers and the one writer don't wait for each other, and `synchronous` is `FULL`: what
//! was answered as stored survives a power failure. A password that the broker has, but the store forgot, would be dead in
//! the hands of whoever claimed it; one flush a write is a small price.

mod audits;
mod calls;
mod deployment;
mod figures;
mod files;
mod heartbeats;
mod leases;
mod namespaces;
mod notices;
mod open;
mod recipients;
mod records;
mod rows;
mod sessions;
mod sightings;
mod watches;

use std::path::Path;

use async_trait::async_trait;

use crate::store::Store;
use crate::store::error::StoreError;
use crate::telemetry::metrics::Calls;

pub(super) use calls::Sqlite;

/// Applies the migrations that the file at `path` lacks; their names.
pub(super) async fn migrate(path: &Path) -> Result<Vec<String>, StoreError> {
    let path = path.to_owned();
    let migrated = tokio::task::spawn_blocking(move || open::migrate(&path)).await;
    migrated.map_err(|error| StoreError::Failed(error.to_string()))?
}

/// Takes the schema of the file at `path` back to version `to`; the names of the migrations that were taken out.
pub(super) async fn migrate_back(path: &Path, to: u32, forced: bool) -> Result<Vec<String>, StoreError> {
    let path = path.to_owned();
    let migrated = tokio::task::spawn_blocking(move || open::migrate_back(&path, to, forced)).await;
    migrated.map_err(|error| StoreError::Failed(error.to_string()))?
}

#[async_trait]
impl Store for Sqlite {
    async fn ping(&self) -> Result<(), StoreError> {
        self.read(|db| rows::query(db, "SELECT 1", [], |_| Ok(()))).await?;
        Ok(())
    }

    fn calls(&self) -> Option<&Calls> {
        Some(&self.calls)
    }
}
