//! Scopes and roles: nothing that they expand to is without bounds.

use taskcluster_pulse::access::roles::{MOST_GRANTED, Role, Roles};
use taskcluster_pulse::access::scope::{self, Expression};

use crate::driver::{Random, fuzz};

const PARTS: &[&str] = &["a", "b", ":", "*", "assume:", "assume:a", "assume:b:", "<..>", "x", "/"];

fn scope_of(random: &mut Random) -> String {
    if random.once_in(4) {
        return random.text(&["assume:", "*", "a", "assume"], 2);
    }
    random.text(PARTS, 5)
}

fn scopes_of(random: &mut Random, most: usize) -> Vec<String> {
    (0..random.below(most + 1)).map(|_| scope_of(random)).collect()
}

#[test]
fn roles_grant_no_more_than_their_bound_and_always_the_same() {
    fuzz(40, |random| {
        let role = |random: &mut Random| Role { id: random.text(PARTS, 4), scopes: scopes_of(random, 4) };
        let roles = (0..random.below(12)).map(|_| role(random)).collect();
        let Ok(roles) = Roles::new(roles) else { return };
        let held = scopes_of(random, 6);
        let granted = roles.expand(&held);
        let size = |scopes: &[String]| scopes.iter().map(|scope| scope.len() + 1).sum::<usize>();
        assert!(size(&granted) <= size(&held) + MOST_GRANTED, "{held:?} grants {} bytes", size(&granted));
        assert!(held.iter().all(|scope| scope::any_satisfies(&granted, scope)), "{held:?} is not within {granted:?}");
        assert_eq!(scope::normalize(granted.clone()), granted, "{held:?} expands to no set");
    });
}

#[test]
fn an_expression_is_satisfied_or_lacks_something_that_would_satisfy_it() {
    fuzz(20, |random| {
        let expression = expression(random, 3);
        let held = scopes_of(random, 6);
        match (expression.satisfying(&held), expression.missing(&held)) {
            (Some(used), None) => assert!(used.iter().all(|scope| scope::any_satisfies(&held, scope))),
            (None, Some(missing)) => assert_eq!(missing.satisfying(&held), None, "{expression} of {held:?}"),
            both => panic!("{expression} of {held:?}: {both:?}"),
        }
        let json = serde_json::to_string(&expression).unwrap();
        assert_eq!(serde_json::from_str::<Expression>(&json).unwrap(), expression);
        // What is no expression is no panic.
        let _ = serde_json::from_slice::<Expression>(
            &random.mutated(json.as_bytes(), &["{\"AllOf\":[", "[[[[", "\"<x>\""]),
        );
        let _ = expression.with(&[("a", "b")]);
    });
}

fn expression(random: &mut Random, depth: usize) -> Expression {
    let some = |random: &mut Random| (0..random.below(4)).map(|_| expression(random, depth - 1)).collect();
    match random.below(if depth == 0 { 1 } else { 3 }) {
        0 => Expression::Scope(scope_of(random)),
        1 => Expression::AllOf(some(random)),
        _ => Expression::AnyOf(some(random)),
    }
}
