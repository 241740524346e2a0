//! The audit trail: records for what is done, each of which is a line of the log, too.

use std::panic::AssertUnwindSafe;
use std::sync::{LazyLock, Mutex};

use uuid::{ContextV7, Uuid};

use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, AuditFilter, By, Deed};
use crate::domain::name::Name;
use crate::domain::rights::Right;
use crate::store::{Change, Write};

/// The longest reason, in code points.
const LONGEST_REASON: usize = 1000;

/// So many records one run forgets at most, in batches of so many.
const FORGOTTEN: usize = 20_000;
const BATCH: u32 = 2_000;

impl Service {
    /// A record of what is done now.
    pub(super) fn audit(
        &self,
        by: &By,
        deed: Deed,
        namespace: Option<&Name>,
        object: impl Into<String>,
        reason: &str,
    ) -> Audit {
        let at = self.now();
        Audit {
            id: id(at),
            at,
            by: by.clone(),
            action: deed.word().to_owned(),
            namespace: namespace.cloned(),
            object: object.into(),
            reason: reason.chars().take(LONGEST_REASON).collect(),
        }
    }

    /// Writes `changes`, and logs what the trail has of those that are stored.
    pub(super) async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, ServiceError> {
        let written = self.store.write(changes).await?;
        let done = changes.iter().zip(&written).filter(|(_, written)| **written == Write::Done);
        done.flat_map(|(change, _)| &change.audits).for_each(|audit| self.log(audit));
        Ok(written)
    }

    /// Notes that somebody was refused who lacks a right; it is logged in any case, and stored beside the answer, which waits
    /// for nothing.
    pub fn note_refusal(&self, by: &By, right: Right, namespace: Option<&Name>, object: &str) {
        let reason = format!("it lacks the right `{}`", right.word());
        let audit = self.audit(by, Deed::Refuse, namespace, object, &reason);
        self.log(&audit);
        let (_, client) = by.actor.parts();
        if !self.refusals.is_new(client, right, namespace, self.now()) {
            return;
        }
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = store.note(&[audit]).await {
                tracing::warn!("a refusal could not be stored in the audit trail: {error}");
            }
        });
    }

    /// At most `limit` records of the trail, the newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.audits(filter, limit).await?)
    }

    /// Forgets records that are older than they are kept; by a calendar that is in doubt, none.
    pub(super) async fn forget_audits(&self, outcome: &mut Outcome) {
        if self.doubt().is_some() {
            return;
        }
        let before = self.now().minus(self.policy.audit_kept);
        for _ in 0..FORGOTTEN / BATCH as usize {
            match self.store.forget_audits(before, BATCH).await {
                Ok(forgotten) if forgotten < BATCH as usize => return,
                Ok(_) => {}
                Err(error) => {
                    return outcome.report(&format!("old records of the audit trail could not be removed: {error}"));
                }
            }
        }
    }
}

/// An id for a record. Those of one process and one millisecond are in the order in which they were made, so that the trail
/// is, too.
fn id(at: Timestamp) -> String {
    static ORDER: LazyLock<Mutex<AssertUnwindSafe<ContextV7>>> =
        LazyLock::new(|| Mutex::new(AssertUnwindSafe(ContextV7::new())));
    let millis = at.millis().unsigned_abs();
    let nanos = u32::try_from(millis % 1000).unwrap_or_default() * 1_000_000;
    Uuid::new_v7(uuid::Timestamp::from_unix(&*ORDER, millis / 1000, nanos)).to_string()
}

impl Service {
    /// Logs a record, as it is stored, and counts it.
    pub(super) fn log(&self, audit: &Audit) {
        self.counts.did(audit);
        log(audit);
    }
}

fn log(audit: &Audit) {
    // The span of the request has its id.
    let Audit { id, at, by: By { actor, .. }, action, namespace, object, reason } = audit;
    let (kind, name) = actor.parts();
    let namespace = namespace.as_ref().map_or("", Name::as_str);
    tracing::info!(
        r#type = "audit", id, at = %at, actorKind = kind, actor = name, action, namespace, object, reason,
        "{actor}: {action} {object}: {reason}"
    );
}
