//! Faults that are planted, one at a time, in what surrounds the service, as if the service had them. Each must be found.

use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::name::Names;
use taskcluster_pulse::domain::rotation::Rotation;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::service::Policy;
use taskcluster_pulse::store::{Change, Record};

use super::choose::{EXPIRING, Focus, GUARDING, REPAIRING, ROTATING, WAITING};
use super::state::Records;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// A record that changes the active password is written whatever the version.
    PromotionWithoutCompare,
    /// An alert is written whatever the version, and sweeps run at once.
    AlertWithoutCompare,
    /// A sweep and an expiry read the store before the broker.
    StoreBeforeBroker,
    /// `reclaimAt` is half an interval too late.
    LateReclaim,
    /// A mail is on its way before the record is written, and even if it is not.
    MailBeforeRecord,
    /// Whoever finds the pending password of a first claim takes a fresh one instead.
    FreshPending,
    /// A first password is handed out while it is pending.
    PendingHandedOut,
    /// The broker is told of a password after its promotion.
    ToldAfterPromotion,
    /// A shorter rotation interval counts at once.
    IntervalCut,
    /// A promotion uses the time at which it was begun.
    SettledTooEarly,
    /// What was read is acted on however long ago that was.
    NoDeadline,
    /// A namespace's record is removed as soon as it expires.
    TombstoneTooEarly,
    /// Namespaces of every prefix are ours.
    NoPrefix,
    /// What the store does not know is removed.
    AbsentMeansGone,
    /// A namespace ends without the delay.
    NoDelay,
    /// A queue is deleted without a second look.
    NoSecondLook,
    /// A notice is forgotten before it is delivered.
    NoticeLost,
    /// A notice is not forgotten once it is delivered.
    NoticeTwice,
}

impl Plant {
    pub const ALL: [Plant; 18] = [
        Plant::PromotionWithoutCompare,
        Plant::AlertWithoutCompare,
        Plant::StoreBeforeBroker,
        Plant::LateReclaim,
        Plant::MailBeforeRecord,
        Plant::FreshPending,
        Plant::PendingHandedOut,
        Plant::ToldAfterPromotion,
        Plant::IntervalCut,
        Plant::SettledTooEarly,
        Plant::NoDeadline,
        Plant::TombstoneTooEarly,
        Plant::NoPrefix,
        Plant::AbsentMeansGone,
        Plant::NoDelay,
        Plant::NoSecondLook,
        Plant::NoticeLost,
        Plant::NoticeTwice,
    ];

    /// What the schedules are about that may show it.
    pub fn focus(self) -> &'static Focus {
        match self {
            Plant::PromotionWithoutCompare
            | Plant::LateReclaim
            | Plant::FreshPending
            | Plant::PendingHandedOut
            | Plant::ToldAfterPromotion
            | Plant::IntervalCut
            | Plant::SettledTooEarly => &ROTATING,
            Plant::NoDeadline => &WAITING,
            Plant::StoreBeforeBroker => &REPAIRING,
            Plant::TombstoneTooEarly | Plant::NoPrefix | Plant::AbsentMeansGone | Plant::NoDelay => &EXPIRING,
            Plant::AlertWithoutCompare
            | Plant::MailBeforeRecord
            | Plant::NoSecondLook
            | Plant::NoticeLost
            | Plant::NoticeTwice => &GUARDING,
        }
    }

    pub fn policies(self, policy: &mut Policy, sweep: &mut SweepPolicy, expiry: &mut ExpiryPolicy) {
        match self {
            Plant::NoDeadline => policy.settle_budget = Duration::from_secs(1_000_000),
            Plant::NoPrefix => (sweep.names, expiry.names) = (Names::new("", ""), Names::new("", "")),
            Plant::AbsentMeansGone => expiry.orphans_after = Some(Duration::ZERO),
            Plant::NoDelay => expiry.delay = Duration::ZERO,
            _ => {}
        }
    }

    /// The `reclaimAt` that is handed out instead.
    pub fn reclaim_at(self, reclaim_at: Timestamp, every: Duration) -> Timestamp {
        if self == Plant::LateReclaim { reclaim_at.plus(every / 2) } else { reclaim_at }
    }

    /// The change that is written instead, and whether that is so whatever the version.
    pub fn change(self, change: &Change, found: &Records, every: Duration) -> (Change, bool) {
        let mut change = change.clone();
        let mut forced = false;
        match &mut change.record {
            Record::Alert(_) => forced = self == Plant::AlertWithoutCompare,
            Record::RemoveAlert(..) | Record::RemoveNamespace(..) => {}
            Record::Namespace(namespace) => {
                let before = found.namespaces.get(&namespace.name);
                let (name, version) = (namespace.name.clone(), namespace.version);
                let buried = namespace.gone.is_some() && before.is_some_and(|before| before.gone.is_none());
                match self {
                    Plant::TombstoneTooEarly if buried => change.record = Record::RemoveNamespace(name, version),
                    _ => {
                        if let Some(before) = before.filter(|_| namespace.gone.is_none()) {
                            forced = self.promotion(&mut namespace.rotation, &before.rotation, every);
                        }
                    }
                }
            }
        }
        (change, forced)
    }

    /// Spoils a record that makes another password the active one; whether it is written whatever the version.
    fn promotion(self, rotation: &mut Rotation, before: &Rotation, every: Duration) -> bool {
        let promoted = rotation.pending.is_none() && rotation.active != before.active;
        let span = every.max(before.grace * 2);
        match (self, &before.pending) {
            (Plant::IntervalCut, Some(_)) if promoted => rotation.due = rotation.due.minus(span).plus(every),
            (Plant::SettledTooEarly, Some(pending)) if promoted => rotation.due = pending.since.plus(span),
            _ => {}
        }
        promoted && self == Plant::PromotionWithoutCompare
    }
}
