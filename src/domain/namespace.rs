//! A namespace as the store keeps it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::rotation::Rotation;

/// Which writing of a record this is. A record is written only over the version at which it was read, so that of two
/// writers one loses and reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

impl Version {
    /// Of a record that was never written, and whose versions shall begin with the moment `now`. So a record that was
    /// removed and made anew has no version that the former one had, and whoever still holds that one loses.
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
    /// The e-mail address that is told of its troubles; empty for nobody.
    pub contact: String,
    /// When it was first claimed, or claimed again after it was gone.
    pub created: Timestamp,
    /// From when on the next expiry run may take it.
    pub expires: Timestamp,
    /// Its passwords.
    pub rotation: Rotation,
    /// Set once it expired: the record is then a tombstone, and what belongs to it at the broker is being removed.
    pub gone: Option<Gone>,
    /// The `expires` that its contact was last warned of.
    pub warned: Option<Timestamp>,
    /// The version at which the record was read, or a new one.
    pub version: Version,
}

impl Namespace {
    /// Until when a claim that returns the active password at `now` may rely on it: until it is rotated away, or the
    /// namespace may be taken, which is `delay` after it expires; half of that is left for clocks that differ. Whoever
    /// asks for a date so far in the past asks for the end at any moment, and is told what would hold without that.
    pub fn reclaim_at(&self, now: Timestamp, delay: Duration) -> Timestamp {
        let rotated = self.rotation.reclaim_at(now);
        promised_end(self.expires, delay, now).map_or(rotated, |end| rotated.min(end))
    }

    /// Until when the active password is good whatever other processes have done since this record was read, as far as
    /// nobody asked for an earlier end of the namespace; `None` where there is none. It is the least that
    /// [`Namespace::reclaim_at`] may say: no switch begins before the password is due, and the one after that, which
    /// overwrites it, comes two `grace` later, so that one of them is left for clocks that differ. See
    /// [`Rotation::settle`].
    pub fn certain_until(&self, delay: Duration) -> Option<Timestamp> {
        let live = self.gone.is_none() && self.rotation.active.is_some();
        live.then(|| self.rotation.reclaim_at(self.rotation.due).min(self.expires.plus(delay / 2)))
    }
}

/// Until when a namespace may be promised to be kept that `expires` then and is taken `delay` later. Half of the delay is left
/// for clocks that differ, and where that has begun, none of it. `None` where the end may come at any moment.
pub fn promised_end(expires: Timestamp, delay: Duration, now: Timestamp) -> Option<Timestamp> {
    [expires.plus(delay / 2), expires.plus(delay)].into_iter().find(|end| *end > now)
}

/// What a tombstone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// When the namespace was marked as gone; or shall be gone, where the broker holds something of a namespace that the
    /// store didn't know.
    pub since: Timestamp,
    /// Until when the process that is cleaning up has the tombstone for itself. A claim may revive the namespace
    /// only outside that time, so that no clean-up removes what the revival makes.
    pub cleaning_until: Option<Timestamp>,
}

impl Gone {
    /// Until when nobody may revive the namespace; not after `now` where anybody may. `margin` is how long whoever read
    /// the record as it was before may act on that.
    pub fn blocked_until(&self, now: Timestamp, margin: Duration) -> Timestamp {
        let outdated = self.since.plus(margin);
        let buried = if self.since > now.plus(margin) { now } else { outdated };
        self.cleaning_until.map_or(buried, |until| until.max(buried))
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
            version: Version(1),
        }
    }

    #[test]
    fn nothing_is_promised_beyond_the_end_of_the_namespace() {
        assert_eq!(expiring(100_000).reclaim_at(at(10), DELAY), at(5400));
        assert_eq!(expiring(3600).reclaim_at(at(10), DELAY), at(3900));
        assert_eq!(expiring(10).reclaim_at(at(10), DELAY), at(310));
        assert_eq!(expiring(-300).reclaim_at(at(10), DELAY), at(300));
        assert_eq!(expiring(-590).reclaim_at(at(10), DELAY), at(5400), "it is to end at any moment");
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
