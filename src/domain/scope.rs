//! What a scope satisfies. The rule is Taskcluster's.

/// Whether someone who has `pattern` has `scope`: it ends in `*` and `scope` begins with what stands before that one star, or
/// it is `scope` itself.
pub fn satisfies(pattern: &str, scope: &str) -> bool {
    pattern == scope || pattern.strip_suffix('*').is_some_and(|prefix| scope.starts_with(prefix))
}

/// Whether someone who has `scopes` has `scope`.
pub fn any_satisfies(scopes: &[String], scope: &str) -> bool {
    scopes.iter().any(|held| satisfies(held, scope))
}
