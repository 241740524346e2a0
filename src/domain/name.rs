//! Names of namespaces, and of the users, queues and exchanges at the broker that belong to them.
//!
//! [`Names::owner_of_queue`], [`Names::owner_of_exchange`] and [`Names::owner_of_user`] are the only functions that
//! decide by name whether something is ours. We never touch what they do not assign to a namespace. A user must also
//! have our tag; see [`identity`](super::identity).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a namespace: 1 to 64 characters of `[A-Za-z0-9_-]`, beginning with the configured prefix, or that of an
/// account. Only [`Names::namespace`] and [`Name::of_account`] make one from outside text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// A name from the store, which was checked before it was stored.
    pub fn from_stored(text: String) -> Name {
        Name(text)
    }

    /// The name of an account: a letter, and then up to 127 of `[A-Za-z0-9._-]`, as PulseGuardian allowed them. `None` where the
    /// text is none.
    pub fn of_account(text: &str) -> Option<Name> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
        (begins && text.len() <= LONGEST_ACCOUNT && text.bytes().all(allowed)).then(|| Name(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is not the name of a namespace. The messages are those of the 2018 service, except that they don't
/// mention a colon, which that service never allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// It is empty or too long, or has a character that is not allowed.
    #[error("Invalid namespace provided.  Namespaces must be at most 64 bytes and contain only [A-Za-z0-9_-]")]
    Malformed,
    /// It does not begin with our prefix.
    #[error("Invalid namespace provided.  Namespaces must begin with '{0}'")]
    Prefix(String),
}

/// One of the two broker users of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// The user whose name ends in `-1`; it is active first.
    One,
    /// The user whose name ends in `-2`.
    Two,
}

impl Slot {
    /// Both, in order.
    pub const BOTH: [Slot; 2] = [Slot::One, Slot::Two];

    /// The other one.
    pub fn other(self) -> Slot {
        match self {
            Slot::One => Slot::Two,
            Slot::Two => Slot::One,
        }
    }

    /// 1 or 2, as in the user's name.
    pub fn number(self) -> u8 {
        match self {
            Slot::One => 1,
            Slot::Two => 2,
        }
    }

    /// The slot that [`Slot::number`] names.
    pub fn from_number(number: i64) -> Option<Slot> {
        Slot::BOTH.into_iter().find(|slot| i64::from(slot.number()) == number)
    }
}

/// The permissions of a user at the broker: three regular expressions over names of queues and exchanges (RabbitMQ
/// docs, "Access Control").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// The names that it may declare and delete.
    pub configure: String,
    /// The names that it may publish to and bind.
    pub write: String,
    /// The names that it may consume from and bind to.
    pub read: String,
}

/// Which users of the broker belong to an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// Whether the two that we make belong to it.
    pub own: bool,
    /// Whether one was adopted, which has the name of the account, and is somebody else's.
    pub adopted: bool,
}

/// The accounts in the store. Whatever their names begin with, these and no others are known to be ours.
pub type Accounts = BTreeMap<Name, Users>;

/// How namespaces and their users are named in this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    namespace_prefix: String,
    username_prefix: String,
    accounts: Arc<Accounts>,
}

/// The longest name, in bytes.
const LONGEST: usize = 64;
/// The longest name of an account, in bytes.
const LONGEST_ACCOUNT: usize = 128;

impl Names {
    /// Every namespace begins with `namespace_prefix`. The names of broker users begin with `username_prefix`, followed
    /// by the namespace.
    pub fn new(namespace_prefix: impl Into<String>, username_prefix: impl Into<String>) -> Names {
        let accounts = Arc::default();
        Names { namespace_prefix: namespace_prefix.into(), username_prefix: username_prefix.into(), accounts }
    }

    /// The same, where the store has these accounts.
    #[must_use]
    pub fn knowing(&self, accounts: Accounts) -> Names {
        Names { accounts: Arc::new(accounts), ..self.clone() }
    }

    /// What the names of namespaces begin with.
    pub fn prefix(&self) -> &str {
        &self.namespace_prefix
    }

    /// Checks a namespace's name.
    ///
    /// # Errors
    /// The rule that `text` breaks. Characters are checked before the prefix.
    pub fn namespace(&self, text: &str) -> Result<Name, BadName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        if text.is_empty() || text.len() > LONGEST || !text.bytes().all(allowed) {
            return Err(BadName::Malformed);
        }
        if !text.starts_with(&self.namespace_prefix) {
            return Err(BadName::Prefix(self.namespace_prefix.clone()));
        }
        Ok(Name(text.to_owned()))
    }

    /// The broker user in `slot` of `namespace`: `<username prefix><namespace>-1` or `-2`.
    pub fn user(&self, namespace: &Name, slot: Slot) -> String {
        format!("{}{namespace}-{}", self.username_prefix, slot.number())
    }

    /// The namespace and slot that the broker user `user` belongs to by its name alone, or `None` if the name is not
    /// ours.
    pub fn owner_of_user(&self, user: &str) -> Option<(Name, Slot)> {
        let (name, slot) = self.parts_of_user(user)?;
        let ours = match self.accounts.get(&name) {
            Some(users) => users.own,
            None => self.namespace(name.as_str()).is_ok(),
        };
        (ours && !self.is_adopted(user)).then_some((name, slot))
    }

    /// Whether an account was made of this user, which is somebody else's.
    pub fn is_adopted(&self, user: &str) -> bool {
        self.accounts.get(&Name(user.to_owned())).is_some_and(|users| users.adopted)
    }

    /// What [`Names::user`] would make this name of, whether or not there is such a namespace.
    pub fn parts_of_user(&self, user: &str) -> Option<(Name, Slot)> {
        let (rest, number) = user.strip_prefix(&self.username_prefix)?.rsplit_once('-')?;
        let slot = Slot::BOTH.into_iter().find(|slot| slot.number().to_string() == number)?;
        Some((Name(rest.to_owned()), slot))
    }

    /// The namespace that a queue `queue/<namespace>/...` belongs to by its name, or `None` if the name is not ours.
    pub fn owner_of_queue(&self, queue: &str) -> Option<Name> {
        self.owner_of_object("queue", queue)
    }

    /// A regular expression that fits the names of all queues that [`Names::owner_of_queue`] gives to a namespace, but for these
    /// namespaces. Lookahead is for RabbitMQ, whose expressions are Perl's.
    pub fn queues_but_of(&self, exceptions: &std::collections::BTreeSet<String>) -> String {
        let exceptions: Vec<_> = exceptions.iter().map(String::as_str).collect();
        let but = match exceptions[..] {
            [] => String::new(),
            _ => format!("(?!(?:{})/)", exceptions.join("|")),
        };
        format!("^queue/{but}{}[A-Za-z0-9_-]*/", self.namespace_prefix)
    }

    /// The namespace that an exchange `exchange/<namespace>/...` belongs to by its name, or `None` if the name is not
    /// ours.
    pub fn owner_of_exchange(&self, exchange: &str) -> Option<Name> {
        self.owner_of_object("exchange", exchange)
    }

    fn owner_of_object(&self, kind: &str, object: &str) -> Option<Name> {
        let name = named(kind, object)?;
        if self.accounts.contains_key(&name) { Some(name) } else { self.namespace(name.as_str()).ok() }
    }

    /// The permissions of both users of `namespace`: they declare, publish to and consume from the namespace's own
    /// queues and exchanges, and read from the exchanges of all namespaces. Of the characters of a valid name, the dot alone
    /// has a meaning in a regular expression outside brackets.
    pub fn permissions(&self, namespace: &Name) -> Permissions {
        let namespace = namespace.as_str().replace('.', r"\.");
        let own = format!("^(queue/{namespace}/.*|exchange/{namespace}/.*)");
        Permissions { configure: own.clone(), write: own, read: format!("^(queue/{namespace}/.*|exchange/.*)") }
    }
}

/// The namespace that the name of a queue or an exchange tells, whether or not there is one.
fn named(kind: &str, object: &str) -> Option<Name> {
    let (namespace, _) = object.strip_prefix(kind)?.strip_prefix('/')?.split_once('/')?;
    Some(Name(namespace.to_owned()))
}

/// The namespace that a queue belongs to if there is one of that name: where it is known that there is.
pub fn named_by_queue(queue: &str) -> Option<Name> {
    named("queue", queue)
}

/// The namespace that an exchange belongs to, likewise.
pub fn named_by_exchange(exchange: &str) -> Option<Name> {
    named("exchange", exchange)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::new("taskcluster-", "p-")
    }

    #[test]
    fn a_name_has_allowed_characters_and_our_prefix() {
        assert_eq!(names().namespace("taskcluster-a_B9").unwrap().as_str(), "taskcluster-a_B9");
        for bad in ["", "taskcluster-a.b", "taskcluster-a/b", "taskcluster-ä", "taskcluster-a\n", &"t".repeat(65)] {
            assert_eq!(names().namespace(bad), Err(BadName::Malformed), "{bad}");
        }
        assert_eq!(names().namespace("foo"), Err(BadName::Prefix("taskcluster-".into())));
        let longest = format!("taskcluster-{}", "x".repeat(52));
        assert!(names().namespace(&longest).is_ok());
    }

    #[test]
    fn a_user_is_owned_by_the_namespace_in_its_name() {
        let name = names().namespace("taskcluster-a-1").unwrap();
        assert_eq!(names().user(&name, Slot::Two), "p-taskcluster-a-1-2");
        assert_eq!(names().owner_of_user("p-taskcluster-a-1-2"), Some((name, Slot::Two)));
        for foreign in
            ["taskcluster-a-1", "p-other-1", "p-taskcluster-a-3", "p-taskcluster-a-01", "p-taskcluster-a", "guest"]
        {
            assert_eq!(names().owner_of_user(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_object_is_owned_by_the_namespace_between_its_slashes() {
        let name = names().namespace("taskcluster-a").unwrap();
        assert_eq!(names().owner_of_queue("queue/taskcluster-a/x/y"), Some(name.clone()));
        assert_eq!(names().owner_of_queue("queue/taskcluster-a/"), Some(name.clone()));
        assert_eq!(names().owner_of_exchange("exchange/taskcluster-a/x"), Some(name));
        for foreign in [
            "queue/taskcluster-a",
            "queue/other/x",
            "exchange/taskcluster-a/x",
            "Queue/taskcluster-a/x",
            "",
            "queue//x",
        ] {
            assert_eq!(names().owner_of_queue(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn an_account_is_ours_by_its_exact_name_and_what_was_adopted_is_no_user_of_ours() {
        let users = |own, adopted| Users { own, adopted };
        let name = |text: &str| Name::of_account(text).unwrap();
        let accounts = [("joe", users(true, false)), ("a.b", users(false, true)), ("joe-2", users(true, true))];
        let names = names().knowing(accounts.map(|(text, users)| (name(text), users)).into());
        assert_eq!(names.owner_of_queue("queue/a.b/x"), Some(name("a.b")));
        assert_eq!(names.owner_of_exchange("exchange/joe/x"), Some(name("joe")));
        assert_eq!(names.owner_of_queue("queue/joey/x"), None);
        assert_eq!(names.owner_of_user("p-joe-1"), Some((name("joe"), Slot::One)));
        assert_eq!(names.owner_of_user("p-joe-2-2"), Some((name("joe-2"), Slot::Two)));
        for others in ["joe", "p-joe", "a.b", "p-a.b-1", "joe-2"] {
            assert_eq!(names.owner_of_user(others), None, "{others}");
        }
        let names = Names::new("taskcluster-", "").knowing([(name("joe-2"), users(true, true))].into());
        assert!(names.is_adopted("joe-2") && names.owner_of_user("joe-2").is_none());
        assert_eq!(names.permissions(&name("a.b")).configure, r"^(queue/a\.b/.*|exchange/a\.b/.*)");
        for bad in ["", "1a", ".a", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert_eq!(Name::of_account(bad), None, "{bad}");
        }
    }

    #[test]
    fn permissions_cover_the_namespace_and_reading_every_exchange() {
        let given = names().permissions(&names().namespace("taskcluster-a").unwrap());
        assert_eq!(given.configure, "^(queue/taskcluster-a/.*|exchange/taskcluster-a/.*)");
        assert_eq!(given.write, given.configure);
        assert_eq!(given.read, "^(queue/taskcluster-a/.*|exchange/.*)");
    }
}
