//! Scopes: what one satisfies, expressions over them, and sets of them. Pure.
//!
//! A scope is a text of printable ASCII characters. One that ends in `*` satisfies every scope that begins with what
//! stands before that one star; any other satisfies itself alone. The rules, the order and the texts are Taskcluster's.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use crate::domain::scope::{any_satisfies, satisfies};

/// Whether `scope` is a scope: printable ASCII and blanks only. The empty text is one.
pub fn is_valid(scope: &str) -> bool {
    scope.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// The order of scopes in a set: by their text, where a star at the end comes before everything that it satisfies.
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_stem, b_stem) = (a.strip_suffix('*'), b.strip_suffix('*'));
    let by_text = a_stem.unwrap_or(a).cmp(b_stem.unwrap_or(b));
    by_text.then(b_stem.is_some().cmp(&a_stem.is_some()))
}

/// The set of `scopes`: in order, without those that another satisfies.
pub fn normalize(mut scopes: Vec<String>) -> Vec<String> {
    scopes.sort_by(|a, b| compare(a, b));
    merge(&scopes, &[])
}

/// The union of two sets, without what another scope satisfies. Both are expected in order; what isn't keeps its place
/// within its list, as it does in Taskcluster.
pub fn merge(mut a: &[String], mut b: &[String]) -> Vec<String> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    loop {
        let next = match (a.first(), b.first()) {
            (Some(x), Some(y)) if compare(x, y).is_lt() => x,
            (_, Some(y)) => y,
            (Some(x), None) => x,
            (None, None) => return merged,
        };
        (a, b) = (skip_satisfied(a, next), skip_satisfied(b, next));
        merged.push(next.clone());
    }
}

fn skip_satisfied<'a>(scopes: &'a [String], by: &str) -> &'a [String] {
    let kept = scopes.iter().position(|scope| !satisfies(by, scope)).unwrap_or(scopes.len());
    &scopes[kept..]
}

/// What a request needs. In JSON a text, `{"AllOf": [..]}` or `{"AnyOf": [..]}`.
///
/// A text may hold parameters, such as `pulse:namespace:<namespace>`; [`Expression::with`] puts their values in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expression {
    /// Each of these; satisfied where there are none.
    AllOf(Vec<Expression>),
    /// At least one of these; never satisfied where there are none.
    AnyOf(Vec<Expression>),
    /// This scope.
    #[serde(untagged)]
    Scope(String),
}

/// A parameter of an expression that has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the scope expression needs a value for <{0}>")]
pub struct MissingParameter(String);

impl Expression {
    /// This expression with values for its parameters: pairs of a name (`[a-zA-Z][a-zA-Z0-9_]*`) and a value. Values
    /// are put in as they are; a `<..>` in one is no parameter.
    pub fn with(&self, params: &[(&str, &str)]) -> Result<Expression, MissingParameter> {
        let each = |all: &[Expression]| all.iter().map(|one| one.with(params)).collect::<Result<Vec<_>, _>>();
        Ok(match self {
            Expression::Scope(template) => Expression::Scope(fill(template, params)?),
            Expression::AllOf(all) => Expression::AllOf(each(all)?),
            Expression::AnyOf(any) => Expression::AnyOf(each(any)?),
        })
    }

    /// Which scopes of this expression `scopes` satisfies, as a set; `None` where that is not enough. Of `AnyOf` these
    /// are all that are satisfied, not only the first. This is what Taskcluster logs as `satisfyingScopes`.
    pub fn satisfying(&self, scopes: &[String]) -> Option<Vec<String>> {
        let mut used = Vec::new();
        self.collect(scopes, &mut used).then(|| normalize(used))
    }

    /// Adds to `used` what is satisfied. It adds nothing where this expression as a whole isn't.
    fn collect(&self, scopes: &[String], used: &mut Vec<String>) -> bool {
        let before = used.len();
        let satisfied = match self {
            Expression::Scope(scope) => {
                used.push(scope.clone());
                any_satisfies(scopes, scope)
            }
            Expression::AllOf(all) => all.iter().all(|one| one.collect(scopes, used)),
            Expression::AnyOf(any) => any.iter().filter(|one| one.collect(scopes, used)).count() > 0,
        };
        if !satisfied {
            used.truncate(before);
        }
        satisfied
    }

    /// What is left of this expression when `scopes` are taken out of it; `None` where nothing is, because they satisfy
    /// it. One that is left alone stands without its `AllOf` or `AnyOf`.
    pub fn missing(&self, scopes: &[String]) -> Option<Expression> {
        let (mut left, wrap): (Vec<_>, fn(Vec<Expression>) -> Expression) = match self {
            Expression::Scope(scope) => return (!any_satisfies(scopes, scope)).then(|| self.clone()),
            Expression::AllOf(all) => match all.iter().filter_map(|one| one.missing(scopes)).collect::<Vec<_>>() {
                left if left.is_empty() => return None,
                left => (left, Expression::AllOf),
            },
            Expression::AnyOf(any) => {
                (any.iter().map(|one| one.missing(scopes)).collect::<Option<Vec<_>>>()?, Expression::AnyOf)
            }
        };
        if left.len() == 1 { left.pop() } else { Some(wrap(left)) }
    }
}

impl fmt::Display for Expression {
    /// As Taskcluster shows it in its errors: a single scope as it is, anything else as JSON, indented by two blanks.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Scope(scope) => f.write_str(scope),
            other => f.write_str(&serde_json::to_string_pretty(other).map_err(|_| fmt::Error)?),
        }
    }
}

fn fill(template: &str, params: &[(&str, &str)]) -> Result<String, MissingParameter> {
    let (mut filled, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once('<') {
        filled.push_str(before);
        match after.split_once('>').filter(|(name, _)| is_parameter(name)) {
            Some((name, tail)) => {
                let value = params.iter().find(|(known, _)| *known == name);
                filled.push_str(value.ok_or_else(|| MissingParameter(name.to_owned()))?.1);
                rest = tail;
            }
            None => {
                filled.push('<');
                rest = after;
            }
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

fn is_parameter(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Expression {
        Expression::Scope(text.to_owned())
    }

    #[test]
    fn parameters_are_filled_in_and_a_missing_one_is_an_error() {
        let claim = Expression::AllOf(vec![scope("pulse:namespace:<namespace>"), scope("a<b<c_1><..><>z")]);
        let filled = claim.with(&[("namespace", "x<y>"), ("c_1", "C")]).unwrap();
        assert_eq!(filled, Expression::AllOf(vec![scope("pulse:namespace:x<y>"), scope("a<bC<..><>z")]));
        let missing = claim.with(&[("namespace", "x")]).unwrap_err();
        assert_eq!(missing.to_string(), "the scope expression needs a value for <c_1>");
    }

    #[test]
    fn what_nobody_can_satisfy_is_shown_as_it_is() {
        let nothing = Expression::AnyOf(vec![]);
        assert_eq!(nothing.satisfying(&["*".into()]), None);
        assert_eq!(nothing.missing(&["*".into()]), Some(nothing.clone()));
        assert_eq!(nothing.to_string(), "{\n  \"AnyOf\": []\n}");
    }

    #[test]
    fn what_an_unsatisfied_branch_needed_is_not_among_what_was_used() {
        let either = Expression::AnyOf(vec![Expression::AllOf(vec![scope("a"), scope("b")]), scope("c")]);
        assert_eq!(either.satisfying(&["a".into(), "c*".into()]), Some(vec!["c".to_owned()]));
    }

    #[test]
    fn an_expression_reads_and_writes_taskclusters_json() {
        let text = r#"{"AnyOf":["a",{"AllOf":["b","c"]}]}"#;
        let read: Expression = serde_json::from_str(text).unwrap();
        assert_eq!(read, Expression::AnyOf(vec![scope("a"), Expression::AllOf(vec![scope("b"), scope("c")])]));
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Expression>(r#"{"Other":[]}"#).is_err());
    }
}
