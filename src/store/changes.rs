//! A batch of changes, as rows.

use std::collections::HashSet;

use crate::domain::alert::Alert;
use crate::domain::namespace::Namespace;
use crate::store::rows::{AlertRow, NamespaceRow};
use crate::store::seal::KeyRing;
use crate::store::{Change, Record, StoreError};

/// A [`Record`] as it is stored.
pub(super) enum RowChange {
    Namespace(NamespaceRow),
    RemoveNamespace { name: String, version: i64 },
    Alert(AlertRow),
    RemoveAlert { queue: String, version: i64 },
}

/// The rows of `changes`, one each; `None` for one whose record an earlier change in `changes` writes already, which is
/// therefore lost.
pub(super) fn row_changes(changes: &[Change], keys: &KeyRing) -> Result<Vec<Option<RowChange>>, StoreError> {
    let mut written = HashSet::new();
    let row = |change: &Change| match &change.record {
        Record::Namespace(namespace) => NamespaceRow::seal(namespace, keys).map(RowChange::Namespace),
        Record::RemoveNamespace(name, version) => {
            Ok(RowChange::RemoveNamespace { name: name.as_str().to_owned(), version: version.0 })
        }
        Record::Alert(alert) => Ok(RowChange::Alert(alert.into())),
        Record::RemoveAlert(queue, version) => Ok(RowChange::RemoveAlert { queue: queue.clone(), version: version.0 }),
    };
    let key = |change: &Change| match &change.record {
        Record::Namespace(Namespace { name, .. }) | Record::RemoveNamespace(name, _) => {
            ("namespace", name.as_str().to_owned())
        }
        Record::Alert(Alert { queue, .. }) | Record::RemoveAlert(queue, _) => ("alert", queue.clone()),
    };
    changes.iter().map(|change| written.insert(key(change)).then(|| row(change)).transpose()).collect()
}
