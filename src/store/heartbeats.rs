//! Heartbeats: when the API was within its clients' reach, and what the time is.

use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::hold::{Beat, Heartbeat, Right, Vitals};
use crate::store::error::StoreError;
use crate::store::table::Row;

/// The heartbeat of the service.
#[async_trait]
pub trait Heartbeats: Send + Sync {
    /// Notes that the API is within its clients' reach, and gives the store's time. A pause of more than the beat's `gap` since
    /// it was noted last, by whichever process, begins a new [`since`](crate::domain::hold::Heartbeat::since). The served time
    /// grows by the least of the beat's `elapsed`, its `gap`, and the time since the last beat by the store's clock.
    ///
    /// The store's clock is its server's. A store without a server is on the caller's host, and has its time: `now`.
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError>;

    /// What the time is, and when the API was within its clients' reach, both by the store's clock; `now` as for
    /// [`Heartbeats::beat`]. `boot` is that of the caller's host, of which a beat may have told.
    async fn vitals(&self, now: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError>;
}

/// Reads the store's time, the two moments of the heartbeat and its served time, if there are any, and what was told of the
/// calendar of the host, likewise.
pub(super) fn vitals(row: &impl Row) -> Result<Vitals, StoreError> {
    let (last, since) = (row.moment_or_none(1)?, row.moment_or_none(2)?);
    let served = Duration::from_millis(row.field::<Option<i64>>(3)?.unwrap_or_default().unsigned_abs());
    let heartbeat = last.zip(since).map(|(last, since)| Heartbeat { last, since, served });
    let (ahead, told) = (row.field::<Option<i64>>(4)?, row.moment_or_none(5)?);
    Ok(Vitals { now: row.moment(0)?, heartbeat, right: ahead.zip(told).map(|(ahead, told)| Right { ahead, told }) })
}
