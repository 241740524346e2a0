//! The ends of connection strings that some callers get.

use serde_json::{Map, Value};

use super::clients::parsed;
use super::kinds::{Kind, Wrong, only};
use super::places::SUFFIX;
use crate::service::SuffixRule;

/// Whose connection strings end in what.
pub(super) const SUFFIXES: Kind<Vec<SuffixRule>> = Kind {
    expected: "a list, or a JSON array, of `{namespace, clientId, suffix}` (`namespace` or `clientId` may be left out)",
    secret: false,
    parse: suffixes,
};

fn suffixes(value: &Value) -> Result<Vec<SuffixRule>, Wrong> {
    let value = parsed(value)?;
    let (mut rules, mut problems) = (Vec::new(), Vec::new());
    for (index, entry) in value.as_array().ok_or(Wrong::Unexpected)?.iter().enumerate() {
        match entry.as_object().ok_or_else(|| vec!["is not a map".to_owned()]).and_then(rule) {
            Ok(rule) => rules.push(rule),
            Err(found) => problems.extend(found.into_iter().map(|problem| format!("entry {}: {problem}", index + 1))),
        }
    }
    if problems.is_empty() { Ok(rules) } else { Err(Wrong::Because(problems)) }
}

/// Reads one entry, or tells everything that is wrong with it.
fn rule(entry: &Map<String, Value>) -> Result<SuffixRule, Vec<String>> {
    let mut problems = Vec::new();
    for key in entry.keys().filter(|key| !["namespace", "clientId", "suffix"].contains(&key.as_str())) {
        problems.push(format!("unknown key `{key}`; there are namespace, clientId and suffix"));
    }
    let mut pattern = |key: &str, others: &str| {
        let given = entry.get(key)?;
        let text = given.as_str().filter(|text| !text.is_empty());
        let text = text.filter(|text| only(text.strip_suffix('*').unwrap_or(text), others));
        if text.is_none() {
            problems.push(format!("{key} must be a text of `[A-Za-z0-9{others}]`, to which a `*` may be added"));
        }
        text.map(str::to_owned)
    };
    let (namespace, client) = (pattern("namespace", "_-"), pattern("clientId", "!@/:.+|_-"));
    if !entry.contains_key("namespace") && !entry.contains_key("clientId") {
        problems.push(
            "give a namespace, a clientId, or both; for everybody there is app.connectionStringSuffix".to_owned(),
        );
    }
    match entry.get("suffix").map(SUFFIX.parse) {
        Some(Ok(suffix)) if problems.is_empty() => Ok(SuffixRule { namespace, client, suffix }),
        Some(Ok(_)) => Err(problems),
        _ => {
            problems.push(format!("suffix must be {}", SUFFIX.expected));
            Err(problems)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_the_same_as_yaml_and_as_json() {
        let list = json!([
            {"namespace": "taskcluster-x-*", "suffix": ""},
            {"clientId": "project/*", "namespace": "*", "suffix": "?heartbeat=30"},
        ]);
        let read = suffixes(&list).ok().unwrap();
        assert_eq!(Some(&read), suffixes(&json!(list.to_string())).ok().as_ref());
        let (both, none) = (&read[1], None);
        assert_eq!((both.namespace.as_deref(), both.client.as_deref()), (Some("*"), Some("project/*")));
        assert_eq!((&read[0].client, read[0].suffix.as_str(), both.suffix.as_str()), (&none, "", "?heartbeat=30"));
        assert_eq!(suffixes(&json!("[]")).ok(), Some(Vec::new()));
    }

    #[test]
    fn every_problem_of_every_rule_is_told() {
        let Err(Wrong::Because(told)) = suffixes(&json!([
            {"namespace": "a*b", "clientId": "", "suffix": "heartbeat=30", "client": "x"},
            {"suffix": "?a"},
            {"namespace": "a"},
            "?a",
        ])) else {
            panic!("it is taken")
        };
        let expected = [
            "entry 1: unknown key `client`",
            "entry 1: namespace must",
            "entry 1: clientId must",
            "entry 1: suffix must",
            "entry 2: give a namespace",
            "entry 3: suffix must",
            "entry 4: is not a map",
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told}");
        }
        assert!(matches!(suffixes(&json!({"suffix": "?a"})), Err(Wrong::Unexpected)));
    }
}
