//! Writing records, and what has to be told of a change and what the audit trail has of it, in one transaction.
//!
//! A table whose rows are written over the version at which they were read has a [`Record`] here that writes it, a row in
//! [`Batch`], and a line in `records.rs` of either backend.

use std::collections::{BTreeSet, HashMap};

use async_trait::async_trait;

use crate::domain::audit::Audit;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::notice::Notice;
use crate::domain::renewal::Renewal;
use crate::domain::watched::Watched;
use crate::store::error::StoreError;
use crate::store::namespaces::row::NamespaceRow;
use crate::store::seal::KeyRing;
use crate::store::table::TableChanges;
use crate::store::watches::WatchRow;

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
    /// Write what is remembered of this queue, likewise.
    Watch(Watched),
    /// Remove what is remembered of this queue.
    RemoveWatch(String, Version),
}

/// A change and what has to be told of it: stored both or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What changes.
    pub record: Record,
    /// What is to be told if the change is stored.
    pub notices: Vec<Notice>,
    /// What the audit trail has of it.
    pub audits: Vec<Audit>,
}

/// A namespace that is made, or made anew: stored with what the audit trail has of it, or neither.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Making {
    /// The namespace.
    pub namespace: Namespace,
    /// What the audit trail has of it.
    pub audits: Vec<Audit>,
}

/// The writing of records.
#[async_trait]
pub trait Records: Send + Sync {
    /// Writes many records in one transaction, with the fewest statements that do it. Answers in the order of `changes`;
    /// one that is lost does not hinder the others. A stored record has the version after the one it carried. Where two
    /// changes concern the same record, the second is lost. A notice or a record of the audit
    /// trail whose id is stored already is not stored again.
    ///
    /// After an error it is unknown whether anything was stored (all of it, or nothing): read again.
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError>;

    /// Moves the ends of namespaces in one transaction, each over the record as it was read. Answers in the order of `renewals`; one
    /// that is lost does not hinder the others. Of several, no row is waited for that another transaction holds: such a one counts
    /// as lost, and made alone it is waited for.
    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError>;

    /// Writes namespaces in one transaction as [`Records::write`] does, each if fewer than `most` others that are live were claimed
    /// by the same client; `None` where there are as many. That holds however many processes do it at once. One of which nobody knows
    /// who claimed it is written in any case. Answers in the order of `makings`; those before one count as written, even if they turn
    /// out to be lost.
    async fn write_within(&self, makings: &[Making], most: usize) -> Result<Vec<Option<Write>>, StoreError>;
}

/// The namespaces of one client that a batch makes, counted one after the other.
#[derive(Default)]
pub(super) struct Room<'a>(HashMap<&'a str, i64>);

impl<'a> Room<'a> {
    /// Where each client has this many others already.
    pub(super) fn of(others: impl IntoIterator<Item = (&'a str, i64)>) -> Room<'a> {
        Room(others.into_iter().collect())
    }

    /// Whether there is room for one more of this client, which is taken then.
    pub(super) fn take(&mut self, client: Option<&'a str>, most: i64) -> bool {
        let Some(client) = client else { return true };
        let others = self.0.entry(client).or_default();
        let has_room = *others < most;
        *others += i64::from(has_room);
        has_room
    }
}

/// The clients that claimed these, each once and in one order.
pub(super) fn clients(makings: &[Making]) -> BTreeSet<&str> {
    makings.iter().filter_map(|making| making.namespace.claimed_by.as_deref()).collect()
}

/// A batch of changes, as rows.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) namespaces: TableChanges<NamespaceRow>,
    pub(super) watches: TableChanges<WatchRow>,
}

impl Batch {
    /// The rows of `changes`.
    pub(super) fn of(changes: &[Change], keys: &KeyRing) -> Result<Batch, StoreError> {
        let Batch { mut namespaces, mut watches } = Batch::default();
        for (number, change) in changes.iter().enumerate() {
            match &change.record {
                Record::Namespace(new) => namespaces.put(number, new.version, NamespaceRow::seal(new, keys)?),
                Record::RemoveNamespace(name, version) => namespaces.remove(number, name.as_str(), *version),
                Record::Watch(new) => watches.put(number, new.version, new.into()),
                Record::RemoveWatch(queue, version) => watches.remove(number, queue, *version),
            }
        }
        Ok(Batch { namespaces, watches })
    }
}

/// What became of a write that is `done` or not.
pub(super) fn outcome(done: bool) -> Write {
    if done { Write::Done } else { Write::Lost }
}
