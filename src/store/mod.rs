//! What the service remembers: rows, no opinions.
//!
//! The store has no verb of the domain. The domain computes the next record, and [`Store::write`] writes it over the
//! version at which it was read. A lost race is a value, [`Write::Lost`], and no error.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::alert::Alert;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::Notice;

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
    /// Write this namespace: insert it where its version is [`Version::NEW`], else replace it.
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

/// Which namespaces to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// Every one, tombstones too.
    All,
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
    /// The schema is not one that this version knows.
    #[error("{0}")]
    Schema(String),
    /// Anything else.
    #[error("the store failed: {0}")]
    Failed(String),
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

    /// Many namespaces. A record that can't be opened does not hide the others: it is logged and left out.
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError>;

    /// All alerts.
    async fn alerts(&self) -> Result<Vec<Alert>, StoreError>;

    /// Writes many records in one transaction, with the fewest statements that do it. Answers in the order of `changes`;
    /// one that is lost does not hinder the others. A stored record has the version after the one it carried.
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError>;

    /// Takes at most `limit` notices that are due at `now`, and makes them due again at `retry`, so that nobody else takes
    /// them meanwhile and none is lost if this process dies. Each one's `attempts` counts this time.
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;

    /// Makes a notice due at `retry`, after a failed delivery.
    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError>;

    /// Forgets a notice, which is delivered or can't be.
    async fn remove_notice(&self, id: &str) -> Result<(), StoreError>;

    /// Gives `holder` the sole right to `task` until `until`, if nobody else has it at `now`. The holder itself may extend
    /// it. `false` where somebody else has it.
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives up the right that `holder` has to `task`.
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError>;

    /// Whether the store answers.
    async fn ping(&self) -> Result<(), StoreError>;
}
