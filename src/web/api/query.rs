//! Parameters of queries: which an endpoint takes, and which are given.

use std::collections::BTreeMap;

use url::form_urlencoded;

use super::error::{ApiError, complaints, excerpt};

/// How many parameters a query may have.
const MOST_PARAMETERS: usize = 100;

/// A parameter in the query that an endpoint accepts.
#[derive(Debug, Clone, Copy)]
pub struct QueryRule {
    /// Its name.
    pub name: &'static str,
    /// The regular expression that its value must match, as it is shown in errors.
    pub pattern: &'static str,
    /// Whether a value matches it.
    pub accepts: fn(&str) -> bool,
}

/// The parameters of a query, by their names.
pub type Query = BTreeMap<String, String>;

/// The parameters of the query, all of which must be known, given once, and match their rules. A `bewit` is part of
/// authentication and always allowed.
pub(super) fn check(query: &str, rules: &[QueryRule]) -> Result<Query, ApiError> {
    // What follows looks through those that it has for each one, so they must be few.
    if form_urlencoded::parse(query.as_bytes()).nth(MOST_PARAMETERS).is_some() {
        let message = format!("The query-string must not have more than {MOST_PARAMETERS} parameters.");
        return Err(ApiError::invalid_arguments(message));
    }
    let mut given: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "bewit") {
        match given.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into_owned()),
            None => given.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    let (mut accepted, mut wrong) = (BTreeMap::new(), Vec::new());
    for (name, mut values) in given {
        match (rules.iter().find(|rule| rule.name == name), values.pop()) {
            (None, _) => wrong.push(format!("Query-string parameter: {} is not supported!", excerpt(&name))),
            (Some(rule), Some(value)) if values.is_empty() => {
                if !(rule.accepts)(&value) {
                    let (value, pattern) = (excerpt(&value), rule.pattern);
                    wrong.push(format!(
                        "Query-string parameter: {name}=\"{value}\" does not match expression: {pattern}"
                    ));
                }
                accepted.insert(name, value);
            }
            _ => wrong.push(format!("Query-string parameter: {name} must be a string!")),
        }
    }
    if wrong.is_empty() { Ok(accepted) } else { Err(ApiError::invalid_arguments(complaints(wrong))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[QueryRule] = &[QueryRule { name: "limit", pattern: "/[0-9]+/", accepts: |value| value != "x" }];

    #[test]
    fn every_fault_of_a_query_is_named_in_its_order() {
        let complaints = |query| check(query, RULES).unwrap_err().message;
        assert_eq!(
            complaints("foo=1&bar=2&limit=x&bewit=abc"),
            "Query-string parameter: foo is not supported!\nQuery-string parameter: bar is not supported!\n\
             Query-string parameter: limit=\"x\" does not match expression: /[0-9]+/"
        );
        assert_eq!(
            complaints("limit=1&foo=&limit=2&foo="),
            "Query-string parameter: limit must be a string!\nQuery-string parameter: foo is not supported!"
        );
        assert_eq!(check("limit=1&bewit=a&bewit=b", RULES), Ok(BTreeMap::from([("limit".into(), "1".into())])));
        assert_eq!(check("", RULES), Ok(BTreeMap::new()));
    }
}
