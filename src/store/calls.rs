//! What is counted of calls to the store: whether they read or write, and how they end.

use super::error::StoreError;
use crate::telemetry::metrics::{Calls, LATE};

/// A call that reads.
pub(super) const READ: &str = "read";
/// A call that writes.
pub(super) const WRITE: &str = "write";

/// Nothing counted yet.
pub(super) fn counted() -> Calls {
    let outcomes =
        &["ok", LATE, "unavailable", "unwritable", "sealed", "unmigrated", "schema", "setup", "failed", "other"];
    Calls::new(&[READ, WRITE, "other"], outcomes)
}

/// How a call ended.
pub(super) fn outcome<T>(done: &Result<T, StoreError>) -> &'static str {
    match done {
        Ok(_) => "ok",
        Err(StoreError::Unavailable(_)) => "unavailable",
        Err(StoreError::Unwritable(_)) => "unwritable",
        Err(StoreError::Sealed(_)) => "sealed",
        Err(StoreError::Unmigrated(_)) => "unmigrated",
        Err(StoreError::Schema(_)) => "schema",
        Err(StoreError::Setup(_)) => "setup",
        Err(StoreError::Failed(_)) => "failed",
    }
}
