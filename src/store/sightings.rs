//! Sightings: which signed requests were seen.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::table::Row;

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

/// The signed requests that were seen.
#[async_trait]
pub trait Sightings: Send + Sync {
    /// Remembers that the signed requests with these hashes were seen, unless they were seen before, and gives the first sighting of
    /// each, in their order. A sighting may be lost when the database's host crashes.
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError>;

    /// Forgets up to `most` of those from `before` or earlier, the oldest first; how many. Those that another call is just forgetting
    /// may be left out.
    async fn forget_sightings(&self, before: Timestamp, most: u32) -> Result<usize, StoreError>;
}

/// Reads a body's hash and a moment.
pub(super) fn sighting(row: &impl Row) -> Result<Sighting, StoreError> {
    let no_hash = |bytes: Vec<u8>| StoreError::Failed(format!("no hash has {} bytes", bytes.len()));
    let body: Digest = row.field::<Vec<u8>>(0)?.try_into().map_err(no_hash)?;
    Ok(Sighting { body, seen: row.moment(1)? })
}
