//! Kinds of values for accounts.

use std::time::Duration;

use super::kinds::{Kind, SPAN, Wrong, names, only};

/// Patterns for names of accounts.
pub(super) const PATTERNS: Kind<Vec<String>> = Kind {
    expected: "names of accounts, separated by commas, in which `*` stands for any characters, such as `people-*, admin`",
    secret: false,
    parse: |value| names(value, |name| (1..=128).contains(&name.len()) && only(name, "._-*")),
};

/// How long something of an account may be without use. Owners are told a day before an account ends.
pub(super) const LIFETIME: Kind<Duration> = Kind {
    expected: "a duration of at least `2 days`, such as `30 days`",
    secret: false,
    parse: |value| {
        let span = (SPAN.parse)(value)?;
        if span >= Duration::from_secs(2 * 86_400) { Ok(span) } else { Err(Wrong::Unexpected) }
    },
};

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn patterns_are_names_with_stars_and_a_lifetime_leaves_time_to_be_told() {
        let read = |text: &str| (PATTERNS.parse)(&Value::String(text.to_owned())).ok();
        assert_eq!(read(""), Some(Vec::new()));
        assert_eq!(read("people-*, a.b"), Some(vec!["people-*".to_owned(), "a.b".to_owned()]));
        for bad in ["a,", "a b", "^a", "a/b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let lifetime = |text: &str| (LIFETIME.parse)(&Value::String(text.to_owned())).is_ok();
        assert!(lifetime("2 days") && lifetime("365 days") && !lifetime("1 day"));
    }
}
