//! Records of namespaces, each written over the version that it carries.

use super::together::{Made, each};
use super::{Service, ServiceError};
use crate::domain::audit::Audit;
use crate::domain::namespace::Namespace;
use crate::store::{Change, Making, Record, StoreError, Write};

/// Another process wrote first.
pub(super) struct Lost;

/// The change that writes this record, of which nobody is told.
fn untold(namespace: &Namespace) -> Change {
    Change { record: Record::Namespace(namespace.clone()), notices: Vec::new(), audits: Vec::new() }
}

impl Service {
    /// Writes the record of a namespace that is made, or made anew, if its client may have one more; `None` where another
    /// process wrote first.
    pub(super) async fn make(&self, namespace: Namespace, audit: Audit) -> Result<Option<Namespace>, ServiceError> {
        let making = Making { namespace, audits: vec![audit] };
        let written = self.write_within(&making).await?;
        let Making { namespace, audits } = making;
        match (written, namespace.claimed_by) {
            (Some(Write::Done), claimed_by) => {
                audits.iter().for_each(|audit| self.log(audit));
                let version = namespace.version.next();
                Ok(Some(Namespace { version, claimed_by, ..namespace }))
            }
            (None, Some(client)) => {
                Err(ServiceError::TooManyNamespaces { client, most: self.policy.namespaces_per_client })
            }
            (Some(Write::Lost) | None, _) => Ok(None),
        }
    }

    /// Stores one that is made together with those that others make meanwhile. What is lost or has no room together may have been
    /// so for the sake of another one, and is written once more alone.
    async fn write_within(&self, making: &Making) -> Result<Option<Write>, StoreError> {
        let most = self.policy.namespaces_per_client;
        let write = async |makings: Vec<Making>| {
            let count = makings.len();
            let written = each(self.store.write_within(&makings, most).await, count);
            let doubtful = |made: &Made<_>| count > 1 && matches!(made, Made::Answer(Ok(None | Some(Write::Lost))));
            written.into_iter().map(|made| if doubtful(&made) { Made::Apart } else { made }).collect()
        };
        let written = match self.renewals.makings.ask(making.clone(), write).await {
            Made::Answer(answer) => answer?,
            Made::Apart => {
                let written = self.store.write_within(std::slice::from_ref(making), most).await?;
                written.into_iter().next().unwrap_or(Some(Write::Lost))
            }
        };
        self.memory.store_works();
        Ok(written)
    }

    /// Writes the record over the version that it carries, and gives it back as it is stored; `None` where another
    /// process wrote first.
    pub(super) async fn replace(&self, namespace: Namespace) -> Result<Option<Namespace>, ServiceError> {
        self.replace_noting(namespace, None).await
    }

    /// The same, with what the audit trail has of it.
    pub(super) async fn replace_noting(
        &self,
        namespace: Namespace,
        audits: impl IntoIterator<Item = Audit>,
    ) -> Result<Option<Namespace>, ServiceError> {
        let change = Change { audits: audits.into_iter().collect(), ..untold(&namespace) };
        let written = self.write(&[change]).await?;
        self.memory.store_works();
        match written.first() {
            Some(Write::Done) => Ok(Some(Namespace { version: namespace.version.next(), ..namespace })),
            _ => Ok(None),
        }
    }

    /// Writes all records, each over the version that it carries, and gives them back as they are stored.
    pub(super) async fn replace_all(
        &self,
        namespaces: Vec<Namespace>,
    ) -> Result<Vec<Result<Namespace, Lost>>, ServiceError> {
        let written = self.store.write(&namespaces.iter().map(untold).collect::<Vec<_>>()).await?;
        let as_stored = |(namespace, write): (Namespace, Write)| match write {
            Write::Done => Ok(Namespace { version: namespace.version.next(), ..namespace }),
            Write::Lost => Err(Lost),
        };
        Ok(namespaces.into_iter().zip(written).map(as_stored).collect())
    }
}
