//! Roles: what `assume:<role>` brings with it. Pure.
//!
//! A role whose id ends in `*` is granted by every scope that begins with `assume:` and the id without its star, and
//! `<..>` in its scopes stands for the rest of that scope. A scope that ends in a star grants all roles that it
//! reaches, as `assume:a*`, `assume*` and `*` do. The rules are Taskcluster's.

use std::collections::BTreeSet;

use super::scope;

/// A role: its id, without `assume:`, and the scopes that it grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its id; one that ends in `*` stands for all that begin so.
    pub id: String,
    /// What it grants.
    pub scopes: Vec<String>,
}

/// The roles that there are.
#[derive(Debug, Clone, Default)]
pub struct Roles(Vec<Rule>);

/// A scope's text that grants, and what it grants.
#[derive(Debug, Clone)]
struct Rule {
    pattern: String,
    scopes: Vec<String>,
}

/// Why there can be no such role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRole {
    /// A scope holds `<..>` twice; there is one rest only, and Taskcluster allows it in one place.
    #[error("role '{role}': the scope '{scope}' holds <..> more than once; use it once")]
    TwoParameters {
        /// The role.
        role: String,
        /// The scope.
        scope: String,
    },
    /// A scope ends in `*<..>`: with an empty rest its star would become one that satisfies more.
    #[error("role '{role}': the scope '{scope}' ends in *<..>, whose star is ambiguous; put no star before <..>")]
    AmbiguousStar {
        /// The role.
        role: String,
        /// The scope.
        scope: String,
    },
    /// The role leads to more scopes than [`MOST_GRANTED`], most likely because it grants an ever longer name of
    /// itself.
    #[error(
        "role '{0}' leads to more than 256 KiB of scopes; does it, by way of others, grant a longer name of itself?"
    )]
    TooMuch(String),
}

/// The most that one expansion adds, in bytes of text. Roles may name each other, and with `<..>` they can do so
/// without an end; this is what ends it.
pub const MOST_GRANTED: usize = 256 * 1024;

const PARAMETER: &str = "<..>";

impl Roles {
    /// These roles. It is an error if one is not allowed in Taskcluster or leads to more than [`MOST_GRANTED`].
    pub fn new(roles: Vec<Role>) -> Result<Roles, BadRole> {
        for Role { id, scopes } in roles.iter().filter(|role| role.id.ends_with('*')) {
            for scope in scopes {
                let (role, scope) = (id.clone(), scope.clone());
                if scope.matches(PARAMETER).count() > 1 {
                    return Err(BadRole::TwoParameters { role, scope });
                } else if scope.strip_suffix(PARAMETER).is_some_and(|before| before.ends_with('*')) {
                    return Err(BadRole::AmbiguousStar { role, scope });
                }
            }
        }
        let names: Vec<String> = roles.iter().map(|role| role.id.replace('*', "x")).collect();
        let rule = |role: Role| Rule { pattern: format!("assume:{}", role.id), scopes: role.scopes };
        let roles = Roles(roles.into_iter().map(rule).collect());
        match names.into_iter().find(|name| roles.follow(&[format!("assume:{name}")]).is_none()) {
            Some(endless) => Err(BadRole::TooMuch(endless)),
            None => Ok(roles),
        }
    }

    /// The set of `scopes` and all that they grant. Where that is more than [`MOST_GRANTED`], nothing is granted.
    pub fn expand(&self, scopes: &[String]) -> Vec<String> {
        scope::normalize(self.follow(scopes).unwrap_or_else(|| scopes.to_vec()))
    }

    fn follow(&self, scopes: &[String]) -> Option<Vec<String>> {
        let mut known: BTreeSet<String> = scopes.iter().cloned().collect();
        let mut unfollowed: Vec<String> = known.iter().cloned().collect();
        let mut room = MOST_GRANTED;
        while let Some(held) = unfollowed.pop() {
            for granted in self.0.iter().flat_map(|rule| rule.grants(&held)) {
                if !known.contains(&granted) {
                    room = room.checked_sub(granted.len() + 1)?;
                    known.insert(granted.clone());
                    unfollowed.push(granted);
                }
            }
        }
        Some(known.into_iter().collect())
    }
}

impl Rule {
    /// What someone who has the scope `held` gets by this rule.
    fn grants(&self, held: &str) -> Vec<String> {
        let reach = held.strip_suffix('*');
        let reaches = |name: &str| reach.is_some_and(|reach| name.starts_with(reach));
        match self.pattern.strip_suffix('*') {
            None if held == self.pattern || reaches(&self.pattern) => self.scopes.clone(),
            None => Vec::new(),
            Some(prefix) if reach.unwrap_or(held).starts_with(prefix) => self.filled(&held[prefix.len()..]),
            Some(prefix) if reaches(prefix) => self.filled("*"),
            Some(_) => Vec::new(),
        }
    }

    /// This rule's scopes with `rest` in place of `<..>`. A `rest` that ends in a star cuts a scope off behind it, so
    /// that the star is the last character and stands for whatever follows.
    fn filled(&self, rest: &str) -> Vec<String> {
        let fill = |scope: &String| match scope.split_once(PARAMETER) {
            None => scope.clone(),
            Some((before, _)) if rest.ends_with('*') => format!("{before}{rest}"),
            Some((before, after)) => format!("{before}{rest}{after}"),
        };
        self.scopes.iter().map(fill).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(of: &[(&str, &[&str])]) -> Result<Roles, BadRole> {
        let role = |(id, scopes): &(&str, &[&str])| Role {
            id: (*id).to_owned(),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        };
        Roles::new(of.iter().map(role).collect())
    }

    fn expand(roles: &Roles, scope: &str) -> Vec<String> {
        roles.expand(&[scope.to_owned()])
    }

    #[test]
    fn roles_that_grant_each_other_grant_the_same() {
        let both = roles(&[("a", &["A", "assume:b"]), ("b", &["B", "assume:a"])]).unwrap();
        for scope in ["assume:a", "assume:b"] {
            assert_eq!(expand(&both, scope), ["A", "B", "assume:a", "assume:b"]);
        }
    }

    #[test]
    fn a_role_that_grants_ever_more_is_refused() {
        let longer = roles(&[("a*", &["assume:a<..>x"])]).unwrap_err();
        assert!(longer.to_string().starts_with("role 'ax' leads to more than 256 KiB"), "{longer}");
        let (steps, mut doubling) = (20, Vec::new());
        for step in 0..steps {
            let next = |letter| format!("assume:{}:<..>{letter}", step + 1);
            doubling.push(Role { id: format!("{step}:*"), scopes: vec![next('a'), next('b')] });
        }
        assert!(matches!(Roles::new(doubling), Err(BadRole::TooMuch(role)) if role == "0:x"));
    }

    #[test]
    fn a_scope_that_leads_too_far_grants_nothing() {
        let copied = roles(&[("a:*", &["b:<..>", "c:<..>"])]).unwrap();
        let long = format!("assume:a:{}", "x".repeat(MOST_GRANTED));
        assert_eq!(expand(&copied, &long).join(" "), long);
    }

    #[test]
    fn what_taskcluster_does_not_allow_in_a_role_is_refused() {
        let twice = roles(&[("a*", &["x<..>y<..>"])]).unwrap_err();
        assert_eq!(twice.to_string(), "role 'a*': the scope 'x<..>y<..>' holds <..> more than once; use it once");
        let star = roles(&[("a*", &["x*<..>"])]).unwrap_err();
        assert!(matches!(star, BadRole::AmbiguousStar { .. }), "{star}");
    }

    #[test]
    fn without_a_star_in_its_id_a_role_has_no_parameter() {
        let plain = roles(&[("a", &["x<..>y<..>"])]).unwrap();
        assert_eq!(expand(&plain, "assume:a"), ["assume:a", "x<..>y<..>"]);
    }

    #[test]
    fn a_star_within_the_id_is_a_character_like_any_other() {
        let odd = roles(&[("a**", &["S<..>"])]).unwrap();
        assert_eq!(expand(&odd, "assume:a*b"), ["Sb", "assume:a*b"]);
        assert_eq!(expand(&odd, "assume:ab"), ["assume:ab"]);
        assert_eq!(expand(&odd, "assume:a*"), ["S*", "assume:a*"]);
    }
}
