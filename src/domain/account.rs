//! Accounts: namespaces of people, whose password changes when an owner asks for it. Some were made of a user of somebody else,
//! which was *adopted*: it keeps its name, password and permissions, and nothing is written to it, until its owner has *moved on*
//! to credentials of the account and it is *retired*.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::exemption::matches;
use crate::domain::name::{Name, Users};

/// When the password of a namespace changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// Every interval, and programs claim it again and again.
    Rotating,
    /// When an owner asks for it.
    OnDemand,
}

impl Schedule {
    /// Its name: in the API and in the database.
    pub fn word(self) -> &'static str {
        match self {
            Schedule::Rotating => "rotating",
            Schedule::OnDemand => "on-demand",
        }
    }

    /// The one of this name.
    pub fn from_word(word: &str) -> Option<Schedule> {
        [Schedule::Rotating, Schedule::OnDemand].into_iter().find(|schedule| schedule.word() == word)
    }
}

/// What a namespace is beyond that, if it is an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// When its password changes.
    pub schedule: Schedule,
    /// When it was last used, as far as sweeps saw it; when it was made, if never.
    pub used: Timestamp,
    /// How many days before its end its owners were told of it last; `None` where they were not since it was used.
    pub warned: Option<u16>,
    /// The user that it was made of, as long as that is there.
    pub adopted: Option<Adopted>,
}

/// A user of somebody else that has the name of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// When it was adopted.
    pub since: Timestamp,
    /// When its owner got other credentials.
    pub moved: Option<Timestamp>,
    /// Since when it is to be deleted.
    pub retired: Option<Timestamp>,
    /// When a connection of it was last seen; `None` if never.
    pub used: Option<Timestamp>,
    /// When it was last looked for connections of it, to within [`NOTED_EVERY`].
    pub looked: Timestamp,
    /// From which addresses it was used, and when last.
    pub addresses: BTreeMap<String, Timestamp>,
    /// When its owners were last told that it is still in use.
    pub told: Option<Timestamp>,
}

/// The addresses from which each user of the broker is connected.
pub type Uses = BTreeMap<String, BTreeSet<String>>;

/// What was seen of an account is written down so often at most, unless it is something new.
pub const NOTED_EVERY: Duration = Duration::from_secs(3600);
/// So many addresses are kept of a user.
const MOST_ADDRESSES: usize = 50;
/// For so long an address is kept that nobody connects from any more.
const ADDRESS_KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Who did not look for so long knows nothing of whether a user is in use.
const LONGEST_GAP: Duration = Duration::from_secs(86_400);

impl Account {
    /// A new one.
    pub fn new(now: Timestamp) -> Account {
        Account { schedule: Schedule::OnDemand, used: now, warned: None, adopted: None }
    }

    /// One that is made of a user of somebody else.
    pub fn of_adopted(now: Timestamp) -> Account {
        let (moved, retired, used, told) = (None, None, None, None);
        let adopted = Adopted { since: now, moved, retired, used, looked: now, addresses: BTreeMap::new(), told };
        Account { adopted: Some(adopted), ..Account::new(now) }
    }

    /// Which users of the broker belong to it.
    pub fn users(&self) -> Users {
        let own = self.adopted.as_ref().is_none_or(|adopted| adopted.moved.is_some());
        Users { own, adopted: self.adopted.is_some() }
    }

    /// The same account, used just now.
    #[must_use]
    pub fn used_at(&self, now: Timestamp) -> Account {
        Account { used: now, warned: None, ..self.clone() }
    }
}

impl Adopted {
    /// The same after a look that found connections from `addresses`. Where nobody looked for long, it counts as used: what was
    /// not seen proves nothing.
    #[must_use]
    pub fn looked_at<'a>(&self, addresses: impl ExactSizeIterator<Item = &'a String>, now: Timestamp) -> Adopted {
        let in_use = addresses.len() > 0;
        let mut kept = self.addresses.clone();
        kept.retain(|_, last| now.since(*last) < ADDRESS_KEPT);
        // An empty one is that of a user of which the broker does not tell.
        kept.extend(addresses.filter(|address| !address.is_empty()).map(|address| (address.clone(), now)));
        while kept.len() > MOST_ADDRESSES {
            let oldest = kept.iter().min_by_key(|(_, last)| **last).map(|(address, _)| address.clone());
            oldest.map(|oldest| kept.remove(&oldest));
        }
        let unknown = now.since(self.looked) > LONGEST_GAP;
        let used = if in_use || unknown { Some(now) } else { self.used };
        Adopted { used, looked: now, addresses: kept, ..self.clone() }
    }

    /// Whether `after`, a later look, says something that is worth writing down.
    pub fn differs(&self, after: &Adopted) -> bool {
        let new = after.addresses.keys().any(|address| !self.addresses.contains_key(address));
        new || after.looked.since(self.looked) >= NOTED_EVERY || self.used.is_some() != after.used.is_some()
    }

    /// Since when nobody has used it, counted from when its owner moved on; `None` where it did not.
    pub fn idle_since(&self) -> Option<Timestamp> {
        Some(self.moved?.max(self.used.unwrap_or(self.since)))
    }
}

/// The deployment's settings for accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPolicy {
    /// What names accounts may be given, as patterns in which `*` stands for any characters.
    pub names: Vec<String>,
    /// What names they may not be given, likewise.
    pub reserved: Vec<String>,
    /// How long after its last use an account ends.
    pub lifetime: Duration,
    /// How long after its last use an adopted user is retired whose owner has moved on.
    pub retire_after: Duration,
}

/// Why an account can't have a name, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAccount {
    /// It has a character that is not allowed, or too many.
    #[error(
        "the name of an account must begin with a letter and have at most 128 of the characters [A-Za-z0-9._-]: {0:?}"
    )]
    Malformed(String),
    /// Accounts have other names here.
    #[error("the name of an account must fit one of these patterns: {0}")]
    Elsewhere(String),
    /// It is reserved.
    #[error("the name {0} is reserved: choose another one")]
    Reserved(Name),
}

impl AccountPolicy {
    /// Checks the name of a new account. Case does not matter for what is reserved.
    ///
    /// # Errors
    /// Why it can't have that name.
    pub fn name(&self, text: &str) -> Result<Name, BadAccount> {
        let name = Name::of_account(text).ok_or_else(|| BadAccount::Malformed(text.chars().take(80).collect()))?;
        if !self.names.iter().any(|pattern| matches(pattern, text)) {
            return Err(BadAccount::Elsewhere(self.names.join(", ")));
        }
        let lower = text.to_ascii_lowercase();
        match self.reserved.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), &lower)) {
            true => Err(BadAccount::Reserved(name)),
            false => Ok(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::from_millis(0).plus(HOUR * hours)
    }

    #[test]
    fn an_account_has_a_name_of_the_configured_form_that_is_not_reserved() {
        let list = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let (names, reserved) = (list(&["people-*", "*-bot"]), list(&["people-admin*", "Root-bot"]));
        let policy = AccountPolicy { names, reserved, lifetime: HOUR, retire_after: HOUR };
        for good in ["people-joe", "people-", "my.own-bot"] {
            assert_eq!(policy.name(good).unwrap().as_str(), good);
        }
        for (bad, why) in [
            ("joe", "must fit one of these patterns: people-*, *-bot"),
            ("people-a/b", "must begin with a letter"),
            ("people-Admins", "people-Admins is reserved"),
            ("root-bot", "reserved"),
        ] {
            let error = policy.name(bad).unwrap_err().to_string();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn an_adopted_user_is_idle_only_as_long_as_somebody_looks() {
        let adopted = Account::of_adopted(at(0)).adopted.unwrap();
        let nobody: [String; 0] = [];
        let seen = adopted.looked_at(["10.0.0.1".to_owned()].iter(), at(2));
        assert_eq!((seen.used, seen.idle_since()), (Some(at(2)), None), "its owner has not moved on");
        let moved = Adopted { moved: Some(at(1)), ..seen };
        assert_eq!(moved.looked_at(nobody.iter(), at(3)).idle_since(), Some(at(2)));
        assert_eq!(moved.looked_at(nobody.iter(), at(26)).idle_since(), Some(at(2)));
        assert_eq!(moved.looked_at(nobody.iter(), at(27)).idle_since(), Some(at(27)), "nobody looked for a day");
        let never = Adopted { moved: Some(at(5)), ..adopted.clone() };
        assert_eq!(never.idle_since(), Some(at(5)));
        assert!(!moved.differs(&moved.looked_at(nobody.iter(), at(2).plus(HOUR / 2))));
        assert!(moved.differs(&moved.looked_at(nobody.iter(), at(3))));
        assert!(moved.differs(&moved.looked_at(["10.0.0.2".to_owned()].iter(), at(2))));
    }

    #[test]
    fn of_many_addresses_the_latest_are_kept_and_for_a_week() {
        let mut adopted = Account::of_adopted(at(0)).adopted.unwrap();
        for hour in 0..60 {
            adopted = adopted.looked_at([format!("10.0.0.{hour}")].iter(), at(hour));
        }
        assert_eq!(adopted.addresses.len(), MOST_ADDRESSES);
        assert!(!adopted.addresses.contains_key("10.0.0.9") && adopted.addresses.contains_key("10.0.0.10"));
        let nobody: [String; 0] = [];
        assert_eq!(adopted.looked_at(nobody.iter(), at(59 + 168)).addresses.len(), 0);
    }
}
