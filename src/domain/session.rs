//! A person who is signed in to the console.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::owner::Owner;
use crate::domain::rights::Subject;

/// How long after sign-in a session ends, used or not.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// That a session is in use is noted so often at most.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// A session that began so much later than now was begun by a clock that was ahead, and is none.
const AHEAD: Duration = Duration::from_secs(3600);

/// A person, as the identity provider told at sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Tells this person from all others, of other providers too.
    pub subject: String,
    /// The address that the provider has verified, in lower case; `None` where it told none.
    pub address: Option<String>,
    /// The groups that the provider puts the person in.
    pub groups: Vec<String>,
    /// The scopes of somebody who signed in by Taskcluster.
    pub scopes: Vec<String>,
}

impl Person {
    /// The name in the audit trail and on pages.
    pub fn name(&self) -> &str {
        self.address.as_deref().unwrap_or(&self.subject)
    }

    /// Who asks, where `administrators` are those of the deployment.
    pub fn subject<'a>(&'a self, administrators: &[Owner]) -> Subject<'a> {
        let named = Subject {
            scopes: &self.scopes,
            address: self.address.as_deref(),
            groups: &self.groups,
            person: true,
            administrator: false,
        };
        Subject { administrator: named.is_among(administrators), ..named }
    }
}

/// A person who may not sign in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BarredPerson {
    /// The one of [`Person`].
    pub subject: String,
    /// The name at that time.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
    /// Who said so.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// A session of a person. It is known by a hash of its id, which the person's browser alone has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Who signed in.
    pub person: Person,
    /// When.
    pub created: Timestamp,
    /// When it was last used, to within a minute.
    pub seen: Timestamp,
    /// When it ends.
    pub expires: Timestamp,
}

impl Session {
    /// One that begins now.
    pub fn begin(person: Person, now: Timestamp) -> Session {
        Session { person, created: now, seen: now, expires: now.plus(LIFETIME) }
    }

    /// Whether it holds now.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires && self.created.since(now) < AHEAD
    }

    /// Whether its use now is to be noted.
    pub fn is_news(&self, now: Timestamp) -> bool {
        now.since(self.seen) >= NOTED_EVERY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(address: Option<&str>, groups: &[&str]) -> Person {
        let groups = groups.iter().map(|&group| group.to_owned()).collect();
        Person { subject: "test|1".to_owned(), address: address.map(str::to_owned), groups, scopes: Vec::new() }
    }

    #[test]
    fn a_session_ends_after_twelve_hours_used_or_not() {
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let session = Session::begin(person(None, &[]), at(0));
        assert!(session.is_live(at(0)) && session.is_live(at(719)) && !session.is_live(at(720)));
        assert!(session.is_live(at(-59)) && !session.is_live(at(-60)), "a clock was set back");
        assert!(!session.is_news(Timestamp::from_millis(59_999)) && session.is_news(at(1)));
    }

    #[test]
    fn administrators_are_known_by_address_or_group_and_by_nothing_else() {
        let all = ["boss@example.com", "group:releng"].map(|text| Owner::parse(text).unwrap());
        let is = |person: Person| person.subject(&all).administrator;
        assert!(is(person(Some("Boss@example.com"), &[])) && is(person(None, &["x", "releng"])));
        for other in [person(None, &[]), person(Some("releng"), &["boss@example.com", "group:releng"])] {
            assert!(!is(other));
        }
        assert!(!person(Some("boss@example.com"), &[]).subject(&[]).administrator);
        assert_eq!((person(Some("a@b.c"), &[]).name(), person(None, &[]).name()), ("a@b.c", "test|1"));
    }
}
