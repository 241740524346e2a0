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
        let (rotated, ends) = (self.rotation.reclaim_at(now), self.expires.plus(delay / 2));
        if ends > now { rotated.min(ends) } else { rotated }
    }
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

    #[test]
    fn nothing_is_promised_beyond_the_end_of_the_namespace() {
        let (hour, delay) = (Duration::from_secs(3600), Duration::from_secs(600));
        let expiring = |expires| Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(0),
            expires: at(expires),
            rotation: Rotation::first(Password::random(), at(0)).settle(at(0), hour),
            gone: None,
            warned: None,
            version: Version(1),
        };
        assert_eq!(expiring(100_000).reclaim_at(at(10), delay), at(5400));
        assert_eq!(expiring(3600).reclaim_at(at(10), delay), at(3900));
        assert_eq!(expiring(10).reclaim_at(at(10), delay), at(310));
        assert_eq!(expiring(-300).reclaim_at(at(10), delay), at(5400), "it is to end at any moment");
    }
}
