//! Who may manage a namespace, and is told of its troubles.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The longest address, in bytes (RFC 5321).
const LONGEST_ADDRESS: usize = 254;
/// The longest name of a group, in bytes.
const LONGEST_GROUP: usize = 128;
/// What comes before the name of a group.
const GROUP: &str = "group:";
/// So many owners a namespace may have: each of them gets each mail.
pub const MOST_OWNERS: usize = 20;

/// An owner of a namespace. It is written as `you@example.com` or `group:releng`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The e-mail address of a person or of a mailing list, in lower case.
    Address(String),
    /// Whoever the identity provider says is in this group.
    Group(String),
}

/// Why a text names no owner, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no owner: write an e-mail address, as in you@example.com, or a group, as in group:releng")]
pub struct NoOwner(pub String);

impl Owner {
    /// Reads an owner. Case does not matter in an address, and does in the name of a group.
    ///
    /// # Errors
    /// [`NoOwner`], with the beginning of what was given.
    pub fn parse(text: &str) -> Result<Owner, NoOwner> {
        let owner = match text.strip_prefix(GROUP) {
            Some(name) => is_group(name).then(|| Owner::Group(name.to_owned())),
            None => is_address(text).then(|| Owner::Address(text.to_ascii_lowercase())),
        };
        owner.ok_or_else(|| NoOwner(text.chars().take(80).collect()))
    }

    /// Where it is told: an address itself, or that of a group.
    pub fn told_at<'a>(&'a self, groups: &'a Groups) -> Option<&'a str> {
        match self {
            Owner::Address(address) => Some(address),
            Owner::Group(name) => groups.address(name),
        }
    }

    /// The address, if it is one.
    pub fn address(&self) -> Option<&str> {
        match self {
            Owner::Address(address) => Some(address),
            Owner::Group(_) => None,
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Address(address) => f.write_str(address),
            Owner::Group(name) => write!(f, "{GROUP}{name}"),
        }
    }
}

/// Where groups are told: the address of each that has one, by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Groups(Arc<BTreeMap<String, String>>);

impl Groups {
    /// The address of a group.
    pub fn address(&self, group: &str) -> Option<&str> {
        self.0.get(group).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Groups {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(groups: I) -> Groups {
        Groups(Arc::new(groups.into_iter().collect()))
    }
}

/// `owners`, and a claim's contact, which counts as one where it is an address.
pub fn with_contact(owners: &[Owner], contact: &str) -> Vec<Owner> {
    let mut all = owners.to_vec();
    all.extend(Owner::parse(contact).ok().filter(|contact| contact.address().is_some()));
    all.sort();
    all.dedup();
    all
}

/// One `@` with something before it and a domain with a dot after it, and nothing that has a meaning in the header of a mail.
fn is_address(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !"<>(),;:\\\"[]".contains(c);
    let parts = text.split_once('@').filter(|(_, domain)| !domain.contains('@'));
    let named = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    text.len() <= LONGEST_ADDRESS
        && text.chars().all(plain)
        && parts
            .is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.') && domain.split('.').all(named))
}

fn is_group(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    !name.is_empty() && name.len() <= LONGEST_GROUP && name.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_an_address_or_a_group() {
        for (text, written) in [
            ("you@example.com", "you@example.com"),
            ("You.And+Me@Example.COM", "you.and+me@example.com"),
            ("group:releng", "group:releng"),
            ("group:Moz/All.staff", "group:Moz/All.staff"),
        ] {
            assert_eq!(Owner::parse(text).unwrap().to_string(), written);
        }
        let long = format!("{}@example.com", "x".repeat(250));
        for text in [
            "",
            "you",
            "@example.com",
            "you@",
            "you@localhost",
            "you@example..com",
            "a b@example.com",
            "a@b@example.com",
            "You <you@example.com>",
            "a@example.com,b@example.com",
            "group:",
            "group:a b",
            "group:\n",
            &long,
        ] {
            let error = Owner::parse(text).unwrap_err().to_string();
            assert!(error.contains("is no owner: write an e-mail address"), "{error}");
        }
    }
}
