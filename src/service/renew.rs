//! Renewing: a claim of a known namespace, which moves its end and nothing else. All that are under way at the same moment share
//! one read, and one write with its commit.
//!
//! A namespace that is remembered is not even read: the end is moved over the record as it is remembered, and if that is not what
//! is stored, the write is lost.

use super::together::{Made, each};
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::claim::{Claim, ClaimRequest, decide_claim};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::renewal::Renewal;
use crate::secret::Password;
use crate::store::{Named, StoreError, Write};

/// A namespace as a claim has left it, without the passwords that are not handed out.
pub(super) struct Renewed {
    pub(super) namespace: Namespace,
    pub(super) switched: Option<Timestamp>,
}

impl Service {
    /// The record of a namespace, read together with those of other claims.
    pub(super) async fn look_up(&self, name: &Name) -> Named {
        let read = async |names: Vec<Name>| match &names[..] {
            [name] => vec![Made::Answer(Ok(self.store.namespace(name).await))],
            names => each(self.store.named(names).await, names.len()),
        };
        match self.renewals.reads.ask(name.clone(), read).await {
            Made::Answer(answer) => answer?,
            Made::Apart => self.store.namespace(name).await,
        }
    }

    /// Moves the end of a namespace over the record as it was read, together with other claims. What is lost together may just have
    /// been held by somebody else, and is made once more alone.
    pub(super) async fn renew(&self, renewal: &Renewal) -> Result<Write, StoreError> {
        let write = async |renewals: Vec<Renewal>| {
            let count = renewals.len();
            let written = each(self.store.renew(&renewals).await, count);
            let lost = |made: &Made<Write>| count > 1 && matches!(made, Made::Answer(Ok(Write::Lost)));
            written.into_iter().map(|made| if lost(&made) { Made::Apart } else { made }).collect()
        };
        let written = match self.renewals.writes.ask(renewal.clone(), write).await {
            Made::Answer(answer) => answer?,
            Made::Apart => {
                let written = self.store.renew(std::slice::from_ref(renewal)).await?;
                written.first().copied().unwrap_or(Write::Lost)
            }
        };
        self.memory.store_works();
        Ok(written)
    }

    /// Moves the end of a namespace that is remembered as `asked`; `None` where the claim asks for anything else, or where the record
    /// is no longer as it is remembered.
    pub(super) async fn renew_known(
        &self,
        asked: &ClaimRequest,
        now: Timestamp,
    ) -> Result<Option<Renewed>, ServiceError> {
        let Some((known, switched)) = self.memory.settled(&asked.name) else { return Ok(None) };
        let ends = |expires| self.matures(expires, now);
        let decided = decide_claim(Some(&known), asked, now, self.policy.claims(), Password::random, ends);
        let Claim::Change(moved) = decided else { return Ok(None) };
        let Some(renewal) = Renewal::between(&known, &moved) else { return Ok(None) };
        if self.renew(&renewal).await? == Write::Lost {
            return Ok(None);
        }
        let namespace = renewal.applied_to(&known);
        self.remember_renewed(&namespace, switched);
        Ok(Some(Renewed { namespace, switched }))
    }
}
