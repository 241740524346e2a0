//! Faults that are planted, one at a time, in what surrounds the service, as if the service had them. Each must be found.

use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::audit::Deed;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::name::Names;
use taskcluster_pulse::domain::rotation::Rotation;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::service::Policy;
use taskcluster_pulse::store::{Change, Record};

use super::choose::{
    CROWDING, CUTTING, EXPIRING, Focus, GUARDING, JUMPING, PEOPLE, REBOOTING, REPAIRING, ROTATING, TELLING, WAITING,
};
use super::state::{DELAY, Records};

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Of claims that are read together, each gets the record of another one.
    AnswersMixed,
    /// Of claims that are written together, all but the first are answered before they are stored.
    AnsweredUnstored,
    /// A record that changes the active password is written whatever the version.
    PromotionWithoutCompare,
    /// What is remembered of a queue is written whatever the version, and sweeps run at once.
    WatchWithoutCompare,
    /// A warning counts although no mail system accepted it.
    WarningNotAccepted,
    /// The grace time counts from when a warning was stored.
    GraceFromStoring,
    /// A queue that was declared anew is taken for the old one.
    OldIncarnation,
    /// Nobody sees that a queue loses messages.
    DrainingIgnored,
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
    /// A deletion whose outcome is unknown is sent again without a look.
    DeletedTwice,
    /// A notice that was withheld, or refused for now, counts as delivered.
    WithheldDelivered,
    /// A mail that tells of many queues leaves one out.
    DigestLeavesOneOut,
    /// A mail server that is away counts as an address that refuses.
    AwayTakenForRefused,
    /// A user is written without a look at whose it is.
    WriteUnseen,
    /// A user is deleted without a look at whose it is.
    DeleteUnseen,
    /// A notice is forgotten before it is delivered.
    NoticeLost,
    /// A notice is not forgotten once it is delivered.
    NoticeTwice,
    /// `reclaimAt` lies beyond the end: a namespace is stored to end as long ago as a claim asked for.
    PastEnd,
    /// The brakes count what belongs to all owners together.
    BrakesTogether,
    /// A namespace ends by the calendar alone.
    CalendarAlone,
    /// The calendar is not compared with the uptime.
    UptimeUnread,
    /// Nobody hears of requests that are refused for their time alone.
    DeafToClients,
    /// What is done is not in the audit trail.
    AuditLost,
    /// One of several owners is told, and no other.
    OneOwnerTold,
    /// A queue that may grow is taken for any other.
    ExemptionIgnored,
    /// A revocation is answered before the broker refuses the earlier passwords.
    RevokedUnseen,
    /// A revocation leaves connections open.
    ConnectionsLeft,
    /// Nobody heeds that another process may be writing an earlier password.
    WriterUnheeded,
    /// A namespace that is disabled is handed out.
    DisabledHandsOut,
    /// A namespace that is released has no tombstone.
    ReleaseForgets,
    /// An account ends as others do, though the user of somebody else that it was made of is there.
    AdoptedEnds,
    /// That user is retired, though its owner has not moved on.
    AdoptedRetired,
    /// It is retired though it is in use.
    RetiredInUse,
    /// New credentials of an account end those before.
    CredentialsInPlace,
}

impl Plant {
    pub const ALL: [Plant; 46] = [
        Plant::AnswersMixed,
        Plant::AnsweredUnstored,
        Plant::RevokedUnseen,
        Plant::ConnectionsLeft,
        Plant::WriterUnheeded,
        Plant::DisabledHandsOut,
        Plant::ReleaseForgets,
        Plant::AdoptedEnds,
        Plant::AdoptedRetired,
        Plant::RetiredInUse,
        Plant::CredentialsInPlace,
        Plant::AuditLost,
        Plant::OneOwnerTold,
        Plant::ExemptionIgnored,
        Plant::CalendarAlone,
        Plant::UptimeUnread,
        Plant::DeafToClients,
        Plant::PromotionWithoutCompare,
        Plant::WatchWithoutCompare,
        Plant::WarningNotAccepted,
        Plant::GraceFromStoring,
        Plant::OldIncarnation,
        Plant::DrainingIgnored,
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
        Plant::DeletedTwice,
        Plant::WithheldDelivered,
        Plant::DigestLeavesOneOut,
        Plant::AwayTakenForRefused,
        Plant::WriteUnseen,
        Plant::DeleteUnseen,
        Plant::NoticeLost,
        Plant::NoticeTwice,
        Plant::PastEnd,
        Plant::BrakesTogether,
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
            Plant::WriteUnseen => &REPAIRING,
            Plant::TombstoneTooEarly
            | Plant::NoPrefix
            | Plant::AbsentMeansGone
            | Plant::NoDelay
            | Plant::DeleteUnseen
            | Plant::PastEnd
            | Plant::AdoptedEnds
            | Plant::BrakesTogether => &EXPIRING,
            Plant::WatchWithoutCompare
            | Plant::WarningNotAccepted
            | Plant::GraceFromStoring
            | Plant::OldIncarnation
            | Plant::DrainingIgnored
            | Plant::MailBeforeRecord
            | Plant::NoSecondLook
            | Plant::DeletedTwice
            | Plant::WithheldDelivered
            | Plant::AwayTakenForRefused
            | Plant::NoticeLost
            | Plant::NoticeTwice
            | Plant::AuditLost
            | Plant::OneOwnerTold
            | Plant::AdoptedRetired
            | Plant::ExemptionIgnored => &GUARDING,
            Plant::RevokedUnseen
            | Plant::ConnectionsLeft
            | Plant::WriterUnheeded
            | Plant::DisabledHandsOut
            | Plant::ReleaseForgets => &CUTTING,
            Plant::RetiredInUse | Plant::CredentialsInPlace => &PEOPLE,
            Plant::AnswersMixed | Plant::AnsweredUnstored => &CROWDING,
            Plant::DigestLeavesOneOut => &TELLING,
            Plant::UptimeUnread => &JUMPING,
            Plant::CalendarAlone | Plant::DeafToClients => &REBOOTING,
        }
    }

    /// Whether it shows only where an account was made of a user of somebody else.
    pub fn is_about_adoption(self) -> bool {
        matches!(self, Plant::AdoptedEnds | Plant::AdoptedRetired | Plant::RetiredInUse)
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
        match self {
            Plant::AuditLost => change.audits.clear(),
            Plant::OneOwnerTold => change.notices.truncate(1),
            _ => {}
        }
        match &mut change.record {
            Record::Watch(watched) => {
                forced = self == Plant::WatchWithoutCompare;
                if let Some(told) = watched.watch.told.filter(|_| self == Plant::WarningNotAccepted) {
                    watched.watch.accept(told.at, told.at);
                }
            }
            Record::RemoveWatch(..) | Record::RemoveNamespace(..) => {}
            Record::Namespace(namespace) => {
                let before = found.namespaces.get(&namespace.name);
                // What was read without them is written with them again.
                let exempts = change.audits.iter().any(|audit| audit.action.contains("exempt"));
                if let Some(before) = before.filter(|_| self == Plant::ExemptionIgnored && !exempts) {
                    namespace.exemptions = before.exemptions.clone();
                }
                if self == Plant::AdoptedRetired
                    && let Some(adopted) = namespace.account.as_mut().and_then(|account| account.adopted.as_mut())
                {
                    adopted.retired = Some(adopted.looked);
                }
                let (name, version) = (namespace.name.clone(), namespace.version);
                let has = |deed: Deed| change.audits.iter().any(|audit| audit.action == deed.word());
                if let Some(before) = before.filter(|_| self == Plant::DisabledHandsOut && has(Deed::Disable)) {
                    namespace.rotation = before.rotation.clone();
                }
                // What was read without it is written with it again.
                let ends = has(Deed::Disable) || has(Deed::Enable) || has(Deed::Revoke);
                if let Some(before) = before.filter(|_| self == Plant::DisabledHandsOut && !ends) {
                    namespace.barred.disabled = before.barred.disabled.clone();
                }
                let buried = namespace.gone.is_some() && before.is_some_and(|before| before.gone.is_none());
                match self {
                    Plant::ReleaseForgets if has(Deed::Release) => {
                        change.record = Record::RemoveNamespace(name, version);
                    }
                    Plant::TombstoneTooEarly if buried => change.record = Record::RemoveNamespace(name, version),
                    Plant::PastEnd if namespace.gone.is_none() && namespace.ends_as_asked() => {
                        namespace.expires = namespace.expires.minus(DELAY);
                        namespace.end_asked = Some(namespace.expires);
                    }
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
