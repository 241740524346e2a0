//! A namespace as the store keeps it.

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::rotation::Rotation;

/// Which writing of a record this is. A record is written only over the version at which it was read, so that of two
/// writers one loses and reads again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

impl Version {
    /// Of a record that was never written.
    pub const NEW: Version = Version(0);

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
    /// The value of `expires` that its contact was last warned of.
    pub warned: Option<Timestamp>,
    /// The version at which the record was read, or a new one.
    pub version: Version,
}

/// What a tombstone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone {
    /// When the namespace was marked as gone.
    pub since: Timestamp,
    /// Until when the process that is cleaning up has the tombstone for itself. A claim may revive the namespace
    /// only outside that time, so that no clean-up removes what the revival makes.
    pub cleaning_until: Option<Timestamp>,
}
