//! What the store may take of time and of the database.

use std::time::Duration;

/// What the store may take of time and of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// How long one call may take, its waiting for a connection included.
    pub timeout: Duration,
    /// How many connections to PostgreSQL this process may have. (A SQLite store has one.)
    pub connections: usize,
}

impl Default for StoreLimits {
    /// Five seconds, and five connections.
    fn default() -> StoreLimits {
        StoreLimits { timeout: Duration::from_secs(5), connections: 5 }
    }
}
