//! Kinds of values that limit something, or nothing where they are left out.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;

use super::kinds::{Kind, SPAN, Wrong, count, from_words, names, only};

fn left_out(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.trim().is_empty())
}

/// At most so many.
pub(super) const MOST: Kind<Option<u64>> = Kind {
    expected: "a whole number of at least 1, or nothing for no limit",
    secret: false,
    parse: |value| {
        const COUNT: Kind<u64> = count();
        if left_out(value) { Ok(None) } else { (COUNT.parse)(value).map(Some) }
    },
};

/// At most so many bytes.
pub(super) const MOST_BYTES: Kind<Option<u64>> = Kind {
    expected: "a size such as `512 MiB`, in `B`, `KiB`, `MiB` or `GiB`, or nothing for no limit",
    secret: false,
    parse: |value| if left_out(value) { Ok(None) } else { from_words(value, bytes).map(Some) },
};

/// At most so long.
pub(super) const LONGEST: Kind<Option<Duration>> = Kind {
    expected: "a duration of at least `1 s` and at most a year, such as `90 s` or `1 day`, or nothing for no limit",
    secret: false,
    parse: |value| {
        let long_enough = |span: Duration| (span >= Duration::from_secs(1)).then_some(Some(span));
        if left_out(value) { Ok(None) } else { long_enough((SPAN.parse)(value)?).ok_or(Wrong::Unexpected) }
    },
};

/// Namespaces.
pub(super) const NAMESPACES: Kind<BTreeSet<String>> = Kind {
    expected: "names of namespaces, separated by commas, such as `taskcluster-a, taskcluster-b`",
    secret: false,
    parse: |value| names(value, |name| (1..=64).contains(&name.len()) && only(name, "_-")),
};

fn bytes(text: &str) -> Option<u64> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let factor = match text[unit_at..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    let bytes = text[..unit_at].parse::<u64>().ok()?.checked_mul(factor)?;
    // RabbitMQ, too, reads whole numbers only as far as JSON's are exact.
    (1..1 << 53).contains(&bytes).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_no_limit_and_zero_is_a_mistake() {
        let text = |text: &str| Value::String(text.to_owned());
        assert_eq!((MOST.parse)(&text("")).ok(), Some(None));
        assert_eq!((MOST.parse)(&text("7")).ok(), Some(Some(7)));
        assert!((MOST.parse)(&text("0")).is_err() && (MOST_BYTES.parse)(&text("0 B")).is_err());
        assert_eq!((MOST_BYTES.parse)(&text("3 GiB")).ok(), Some(Some(3 << 30)));
        assert!((MOST_BYTES.parse)(&text("3 GB")).is_err() && (MOST_BYTES.parse)(&text("99999999999 GiB")).is_err());
        assert_eq!((LONGEST.parse)(&text("1 day")).ok(), Some(Some(Duration::from_secs(86_400))));
        assert!((LONGEST.parse)(&text("500 ms")).is_err());
    }

    #[test]
    fn exceptions_are_names_of_namespaces_alone() {
        let read = |text: &str| (NAMESPACES.parse)(&Value::String(text.to_owned())).ok();
        assert_eq!(read(""), Some(BTreeSet::new()));
        assert_eq!(read("b, a,b"), Some(["a".to_owned(), "b".to_owned()].into()));
        for bad in ["a,", "a|b", "a.*", "a b"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert_eq!((NAMESPACES.parse)(&serde_json::json!(["a"])).ok(), Some(["a".to_owned()].into()));
        assert!((NAMESPACES.parse)(&serde_json::json!([1])).is_err());
    }
}
