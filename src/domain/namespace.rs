//! A namespace as the store keeps it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::account::{Account, Adopted, Schedule};
use crate::domain::barred::Barred;
use crate::domain::exemption::{Exempted, Requested};
use crate::domain::name::Name;
use crate::domain::owner;
use crate::domain::rotation::Rotation;
use crate::domain::share::Owner;

/// Counts the writes of a record. A record is written only over the version at which it was read. So if two processes
/// write, one loses and reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

impl Version {
    /// The version of a record that was never written. Versions begin with the time `now`. So if a record is removed
    /// and made again, it shares no version with the former record, and a process that still holds a former version
    /// loses.
    pub fn new_at(now: Timestamp) -> Version {
        Version(now.millis().saturating_neg())
    }

    /// Whether the record was never written.
    pub fn is_new(self) -> bool {
        self.0 <= 0
    }

    /// After one more write.
    pub fn next(self) -> Version {
        if self.0 < 0 { Version(self.0.saturating_neg()) } else { Version(self.0 + 1) }
    }
}

/// One namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name, which is also the key of its record.
    pub name: Name,
    /// The e-mail address that gets warnings; empty for nobody.
    pub contact: String,
    /// When it was first claimed, or claimed again after it was gone.
    pub created: Timestamp,
    /// From this time on, an expiry run may end it.
    pub expires: Timestamp,
    /// Its passwords.
    pub rotation: Rotation,
    /// Set once it has expired: the record is then a tombstone, and we are removing what belongs to it at the broker.
    pub gone: Option<Gone>,
    /// The `expires` that we last warned its contact of.
    pub warned: Option<Timestamp>,
    /// The client whose claim created it, or created it again after it was gone. With temporary credentials, the client
    /// that issued them. `None` if unknown: it was last claimed before the service stored this.
    pub claimed_by: Option<String>,
    /// The `expires` with which a claim last moved the end nearer. If it equals `expires`, the namespace ends because
    /// somebody asked for it, and not because nobody claims it.
    pub end_asked: Option<Timestamp>,
    /// The [served time](crate::domain::hold) at which its life is over. We remove nothing of it before. `None` if the
    /// process that set its date did not know the served time.
    pub matures: Option<Duration>,
    /// Who manages it, beside its contact, in order and each once.
    pub owners: Vec<owner::Owner>,
    /// Which of its queues may grow.
    pub exemptions: Vec<Exempted>,
    /// For which of its queues an owner has asked that.
    pub requests: Vec<Requested>,
    /// Who is kept from logging in.
    pub barred: Barred,
    /// What it is beyond that if it is an account; `None` for what programs claim.
    pub account: Option<Box<Account>>,
    /// The version at which the record was read, or a new one.
    pub version: Version,
}

impl Namespace {
    /// Whether its password changes when an owner asks for it, and not by schedule.
    pub fn is_on_demand(&self) -> bool {
        self.account.as_ref().is_some_and(|account| account.schedule == Schedule::OnDemand)
    }

    /// The user of somebody else that it was made of, as long as that is there.
    pub fn adopted(&self) -> Option<&Adopted> {
        self.account.as_ref().and_then(|account| account.adopted.as_ref())
    }

    /// Its rotation with the pending password promoted, which the broker has by `now`; see [`Rotation::settle`].
    pub fn settled(&self, now: Timestamp, every: Duration) -> Rotation {
        match self.is_on_demand() {
            true => self.rotation.settle_until_asked(),
            false => self.rotation.settle(now, every),
        }
    }

    /// Who manages it: its owners, and its contact, which counts as one.
    pub fn managers(&self) -> Vec<owner::Owner> {
        owner::with_contact(&self.owners, &self.contact)
    }

    /// The addresses of all who are told of its troubles, each once.
    pub fn told(&self, groups: &owner::Groups) -> Vec<String> {
        let contact = Some(self.contact.as_str()).filter(|contact| !contact.is_empty());
        let owners = self.owners.iter().filter_map(|owner| owner.told_at(groups));
        let mut told: Vec<String> = Vec::new();
        for address in contact.into_iter().chain(owners) {
            if !told.iter().any(|known| known.eq_ignore_ascii_case(address)) {
                told.push(address.to_owned());
            }
        }
        told
    }

    /// The owner that it counts for.
    pub fn owner(&self) -> Owner {
        self.claimed_by.clone().map_or_else(|| Owner::Namespace(self.name.clone()), Owner::Client)
    }

    /// When the active password replaced another one, by a switch or by a revocation. `None` for the first password.
    pub fn switched(&self) -> Option<Timestamp> {
        self.rotation.switched().max(self.barred.revoked.map(|revoked| revoked.from))
    }

    /// Whether a password is on its way to the broker that no process handed out yet, as for a first claim.
    pub fn is_beginning(&self) -> bool {
        self.gone.is_none() && self.rotation.active.is_none() && self.rotation.pending.is_some()
    }

    /// Whether a claim asked for its present end.
    pub fn ends_as_asked(&self) -> bool {
        self.end_asked == Some(self.expires)
    }

    /// Until when a claim that returns the active password at `now` may rely on it: until a rotation replaces it, or
    /// until [`promised_end`].
    pub fn reclaim_at(&self, now: Timestamp, delay: Duration) -> Timestamp {
        self.rotation.reclaim_at(now).min(promised_end(self.expires, delay))
    }

    /// Whether the record was a tombstone before the namespace was claimed as new. The versions of a record begin with
    /// the time at which it was first made.
    pub fn came_back(&self) -> bool {
        self.version.0 > 0 && self.version.0 < self.created.millis()
    }

    /// Until when the active password works, whatever other processes did since this record was read, unless a claim
    /// asked for an earlier end. `None` if no password is active. [`Namespace::reclaim_at`] is never earlier than this.
    /// No switch begins before the password is due, and the switch after that, which overwrites it, comes two `grace`
    /// later. One `grace` of these is left for clocks that differ. See [`Rotation::settle`].
    pub fn certain_until(&self, delay: Duration) -> Option<Timestamp> {
        let live = self.gone.is_none() && self.rotation.active.is_some();
        live.then(|| self.rotation.reclaim_at(self.rotation.due).min(promised_end(self.expires, delay)))
    }
}

/// How long a namespace lives at least after a claim, whatever `expires` the claim asks for, so that its caller can use
/// the result.
const LEAST_LIFE: Duration = Duration::from_secs(2);

/// The `expires` of a namespace whose claim at `now` asks for `asked`, if namespaces are removed `delay` after they
/// expire. A date in the past means now, or a moment later if `delay` is almost zero.
pub fn held_expires(asked: Timestamp, now: Timestamp, delay: Duration) -> Timestamp {
    asked.max(now.plus(LEAST_LIFE.saturating_sub(delay)))
}

/// Until when we may promise to keep a namespace that expires at `expires` and is removed `delay` later. Half of the
/// delay is left for clocks that differ. With an `expires` from [`held_expires`], the result is always later than the
/// claim.
pub fn promised_end(expires: Timestamp, delay: Duration) -> Timestamp {
    expires.plus(delay).minus(delay.max(LEAST_LIFE) / 2)
}

/// The contents of a tombstone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// When the namespace was marked as gone. It lies in the future for a namespace that only the broker knows: it is
    /// the time at which it will be gone.
    pub since: Timestamp,
    /// Until when the process that is cleaning up has the tombstone to itself. A claim may revive the namespace only
    /// after that, so that no clean-up removes what the claim creates.
    pub cleaning_until: Option<Timestamp>,
}

/// No process reserves a tombstone for longer than this. If one seems to, its clock was ahead, and we ignore the
/// reservation.
const LONGEST_CLEANING: Duration = Duration::from_secs(86_400);

impl Gone {
    /// Until when a process is cleaning up, or `None` if none is.
    pub fn cleaning(&self, now: Timestamp) -> Option<Timestamp> {
        self.cleaning_until.filter(|until| *until <= now.plus(LONGEST_CLEANING))
    }

    /// Until when nobody may revive the namespace; `now` or earlier if everybody may. `margin` is how long a process
    /// that read the record before it became a tombstone may still act on that.
    pub fn blocked_until(&self, now: Timestamp, margin: Duration) -> Timestamp {
        let outdated = self.since.plus(margin);
        let buried = if self.since > now.plus(margin) { now } else { outdated };
        self.cleaning(now).map_or(buried, |until| until.max(buried))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    const HOUR: Duration = Duration::from_secs(3600);
    const DELAY: Duration = Duration::from_secs(600);

    fn expiring(expires: i64) -> Namespace {
        Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(0),
            expires: at(expires),
            rotation: Rotation::first(Password::random(), at(0)).settle(at(0), HOUR),
            gone: None,
            warned: None,
            claimed_by: None,
            owners: Vec::new(),
            exemptions: Vec::new(),
            requests: Vec::new(),
            barred: Barred::default(),
            account: None,
            end_asked: None,
            matures: None,
            version: Version(1),
        }
    }

    #[test]
    fn a_clean_up_of_the_far_future_keeps_nobody_from_reviving_the_namespace() {
        let gone = |until| Gone { since: at(0), cleaning_until: Some(at(until)) };
        assert_eq!(gone(900).blocked_until(at(100), DELAY / 100), at(900));
        assert!(gone(100_000).blocked_until(at(100), DELAY / 100) <= at(100));
    }

    #[test]
    fn nothing_is_promised_beyond_the_end_of_the_namespace() {
        assert_eq!(expiring(100_000).reclaim_at(at(10), DELAY), at(5400));
        assert_eq!(expiring(3600).reclaim_at(at(10), DELAY), at(3900));
        assert_eq!(expiring(10).reclaim_at(at(10), DELAY), at(310));
    }

    #[test]
    fn whatever_date_is_asked_for_what_is_promised_lies_in_the_future_and_is_kept() {
        for delay in [0, 1, 2, 3, 600, 3600].map(Duration::from_secs) {
            for asked in [-1_000_000, -3601, -600, -300, -1, 0, 1, 600] {
                let expires = held_expires(at(asked), at(0), delay);
                let promised = promised_end(expires, delay);
                assert!(promised >= at(1) && expires >= at(asked), "{asked}, {delay:?}: {promised}");
                assert!(promised.plus(Duration::from_secs(1)) <= expires.plus(delay), "{asked}, {delay:?}: {promised}");
            }
        }
        assert_eq!(held_expires(at(-5), at(0), DELAY), at(0));
    }

    #[test]
    fn what_is_certain_is_the_least_that_was_promised_and_outlived_by_the_password() {
        for expires in [100_000, 3600, 10] {
            let certain = expiring(expires).certain_until(DELAY).unwrap();
            for now in [0, 5, 300, 3000, 3599, 3600, 90_000] {
                assert!(certain <= expiring(expires).reclaim_at(at(now), DELAY), "expires {expires}, now {now}");
            }
        }
        let read = expiring(100_000);
        assert_eq!(read.certain_until(DELAY), Some(at(5400)));
        // A switch at the earliest moment, by a process with a shorter interval, and the one after that.
        let next = read.rotation.begin(Password::random(), at(3600)).settle(at(3600), HOUR / 8);
        assert!(next.due >= at(5400).plus(HOUR / 2), "clocks may differ");
    }

    #[test]
    fn nothing_is_certain_of_what_is_gone_or_has_no_password_or_is_to_end_at_any_moment() {
        let gone = Some(Gone { since: at(1), cleaning_until: None });
        assert_eq!(Namespace { gone, ..expiring(100_000) }.certain_until(DELAY), None);
        let rotation = Rotation::first(Password::random(), at(0));
        assert_eq!(Namespace { rotation, ..expiring(100_000) }.certain_until(DELAY), None);
        assert_eq!(expiring(-300).certain_until(DELAY), Some(at(0)), "which is past");
    }
}
