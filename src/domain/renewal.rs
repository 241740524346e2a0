//! What most claims change: when a namespace ends, and nothing else.

use std::time::Duration;

use super::name::Name;
use super::namespace::{Namespace, Version};
use crate::clock::Timestamp;

/// Moves the end of a namespace, over the record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The namespace.
    pub name: Name,
    /// As [`Namespace::expires`].
    pub expires: Timestamp,
    /// As [`Namespace::end_asked`].
    pub end_asked: Option<Timestamp>,
    /// As [`Namespace::matures`].
    pub matures: Option<Duration>,
    /// When its next switch is due, by the record as it was read: another one has other passwords, even where a database that was
    /// restored counts its versions anew.
    pub due: Timestamp,
    /// The version at which the record was read.
    pub version: Version,
}

impl Renewal {
    /// What makes `before` to `after`; `None` where more than the end is moved.
    pub fn between(before: &Namespace, after: &Namespace) -> Option<Renewal> {
        let Namespace { expires, end_asked, matures, version, .. } = *after;
        let Namespace {
            name,
            contact,
            created,
            expires: _,
            rotation,
            gone,
            warned,
            claimed_by,
            end_asked: _,
            matures: _,
            owners,
            exemptions,
            requests,
            barred,
            account,
            version: _,
        } = before;
        let same = *name == after.name
            && *contact == after.contact
            && *created == after.created
            && *rotation == after.rotation
            && *gone == after.gone
            && *warned == after.warned
            && *claimed_by == after.claimed_by
            && *owners == after.owners
            && *exemptions == after.exemptions
            && *requests == after.requests
            && *barred == after.barred
            && *account == after.account
            && before.version == version
            && !version.is_new();
        same.then(|| Renewal { name: name.clone(), expires, end_asked, matures, due: rotation.due, version })
    }

    /// `before` with its end moved, as it is stored.
    pub fn applied_to(&self, before: &Namespace) -> Namespace {
        let Renewal { expires, end_asked, matures, version, .. } = *self;
        Namespace { expires, end_asked, matures, version: version.next(), ..before.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::barred::Barred;
    use crate::domain::rotation::Rotation;
    use crate::secret::Password;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn known() -> Namespace {
        Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(0),
            expires: at(100),
            rotation: Rotation::first(Password::random(), at(0)).settle(at(0), Duration::from_secs(3600)),
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
            version: Version(7),
        }
    }

    #[test]
    fn it_is_what_moves_the_end_and_nothing_else() {
        let (expires, end_asked, matures) = (at(50), Some(at(50)), Some(Duration::from_secs(9)));
        let moved = Namespace { expires, end_asked, matures, ..known() };
        let before = Namespace { rotation: moved.rotation.clone(), ..known() };
        let renewal = Renewal::between(&before, &moved).unwrap();
        assert_eq!(renewal.applied_to(&before), Namespace { version: Version(8), ..moved.clone() });
        assert_eq!(renewal.due, at(3600));
        for other in [
            Namespace { contact: "a@a.com".into(), ..moved.clone() },
            Namespace { claimed_by: Some("me".into()), ..moved.clone() },
            Namespace { rotation: moved.rotation.begin(Password::random(), at(3600)), ..moved.clone() },
            Namespace { barred: Barred::default().with_writer(at(1)), ..moved.clone() },
            Namespace { version: Version(8), ..moved },
        ] {
            assert_eq!(Renewal::between(&before, &other), None, "{other:?}");
        }
        let new = Namespace { version: Version::new_at(at(1)), ..known() };
        assert_eq!(Renewal::between(&new, &new), None, "what was never written is inserted");
    }
}
