//! Why the store could not do what it was asked.

/// Why the store could not do what it was asked. It never holds a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or did not answer in time; trying again may help.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// It can't be written to, be it read-only, full, or locked by another process. It may still be read.
    #[error("the store can't be written to: {0}")]
    Unwritable(String),
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
