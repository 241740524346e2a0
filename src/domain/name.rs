//! Names: of a namespace, and of the broker's users, queues and exchanges that belong to it.
//!
//! [`Names::owner_of_queue`], [`Names::owner_of_exchange`] and [`Names::owner_of_user`] are the one answer to "is this ours?". What they don't own is
//! never touched.

use std::fmt;

/// The name of a namespace: 1 to 64 characters of `[A-Za-z0-9_-]`, beginning with the configured prefix.
/// Made by [`Names::namespace`] only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// A name that the store gives back; it was checked before it was stored.
    pub fn from_stored(text: String) -> Name {
        Name(text)
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

/// Why a text is not the name of a namespace. The texts are those of the 2018 service, but for its mention of a colon,
/// which its rule did not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// A character that is not allowed, none at all, or too many.
    #[error("Invalid namespace provided.  Namespaces must be at most 64 bytes and contain only [A-Za-z0-9_-]")]
    Malformed,
    /// Not under our prefix.
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

/// What a user may do at the broker: three regular expressions over names of queues and exchanges (RabbitMQ docs,
/// "Access Control").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to and bind.
    pub write: String,
    /// What it may consume from and bind to.
    pub read: String,
}

/// The tag of every user that we make. It means nothing to RabbitMQ, and shows an operator whose the user is.
pub const USER_TAG: &str = "taskcluster-pulse";

/// How namespaces and their users are named in this deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    namespace_prefix: String,
    username_prefix: String,
}

/// The longest name that is accepted, in bytes.
const LONGEST: usize = 64;

impl Names {
    /// `namespace_prefix` begins every namespace, `username_prefix` is put before it to name the broker's users.
    pub fn new(namespace_prefix: impl Into<String>, username_prefix: impl Into<String>) -> Names {
        Names { namespace_prefix: namespace_prefix.into(), username_prefix: username_prefix.into() }
    }

    /// Checks a namespace's name.
    ///
    /// # Errors
    /// The rule that `text` breaks; the characters first, then the prefix.
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

    /// The namespace and slot that the broker user `user` belongs to by its name; `None` where it isn't ours.
    pub fn owner_of_user(&self, user: &str) -> Option<(Name, Slot)> {
        let (rest, number) = user.strip_prefix(&self.username_prefix)?.rsplit_once('-')?;
        let slot = Slot::BOTH.into_iter().find(|slot| slot.number().to_string() == number)?;
        Some((self.namespace(rest).ok()?, slot))
    }

    /// The namespace that a queue `queue/<namespace>/...` belongs to by its name; `None` where it isn't ours.
    pub fn owner_of_queue(&self, queue: &str) -> Option<Name> {
        self.owner_of_object("queue", queue)
    }

    /// The namespace that an exchange `exchange/<namespace>/...` belongs to by its name; `None` where it isn't ours.
    pub fn owner_of_exchange(&self, exchange: &str) -> Option<Name> {
        self.owner_of_object("exchange", exchange)
    }

    fn owner_of_object(&self, kind: &str, object: &str) -> Option<Name> {
        let (namespace, _) = object.strip_prefix(kind)?.strip_prefix('/')?.split_once('/')?;
        self.namespace(namespace).ok()
    }

    /// What both users of `namespace` may do: declare, publish to and consume from what is theirs, and read from every
    /// namespace's exchanges. No character of a valid name means anything in a regular expression outside brackets, so
    /// a name is its own escaped form.
    pub fn permissions(&self, namespace: &Name) -> Permissions {
        let own = format!("^(queue/{namespace}/.*|exchange/{namespace}/.*)");
        Permissions { configure: own.clone(), write: own, read: format!("^(queue/{namespace}/.*|exchange/.*)") }
    }
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
    fn permissions_cover_the_namespace_and_reading_every_exchange() {
        let given = names().permissions(&names().namespace("taskcluster-a").unwrap());
        assert_eq!(given.configure, "^(queue/taskcluster-a/.*|exchange/taskcluster-a/.*)");
        assert_eq!(given.write, given.configure);
        assert_eq!(given.read, "^(queue/taskcluster-a/.*|exchange/.*)");
    }
}
