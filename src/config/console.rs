//! Kinds of values for the console.

use serde_json::Value;

use super::kinds::{Kind, Wrong, from_text, names};
use crate::domain::owner::Owner;

/// Owners.
pub(super) const OWNERS: Kind<Vec<Owner>> = Kind {
    expected: "e-mail addresses and groups, separated by commas, such as `you@example.com, group:releng`",
    secret: false,
    parse: |value: &Value| {
        let read: Vec<String> = names(value, |text| Owner::parse(text).is_ok())?;
        read.iter().map(|text| Owner::parse(text).map_err(|_| Wrong::Unexpected)).collect()
    },
};

/// The address of a person, or nothing.
pub(super) const PERSON: Kind<String> = Kind {
    expected: "an e-mail address, such as `you@example.com`",
    secret: false,
    parse: |value| {
        from_text(value, |text| match Owner::parse(text) {
            Ok(Owner::Address(address)) => Some(address),
            _ => text.is_empty().then(String::new),
        })
    },
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrators_are_addresses_and_groups_and_the_development_account_is_an_address() {
        let owners = |text: &str| (OWNERS.parse)(&Value::from(text)).ok();
        let read = owners("You@example.com, group:releng").unwrap();
        assert_eq!(read.iter().map(Owner::to_string).collect::<Vec<_>>(), ["you@example.com", "group:releng"]);
        assert!(owners("").unwrap().is_empty() && owners("you").is_none() && owners("a@b.c,").is_none());
        let person = |text: &str| (PERSON.parse)(&Value::from(text)).ok();
        assert_eq!(person("You@example.com").as_deref(), Some("you@example.com"));
        assert_eq!((person(""), person("group:x"), person("you")), (Some(String::new()), None, None));
    }
}
