//! Who may do what to a namespace. Nothing else decides that: endpoints say which right they need, and what is not allowed
//! here is refused.
//!
//! `docs/access.md` has the same as a table, and a test compares the two.

use crate::domain::name::Name;
use crate::domain::owner::Owner;
use crate::domain::scope::any_satisfies;

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Right {
    /// Get its connection string, and with that make it.
    Claim,
    /// See what is in it, and whose it is.
    See,
    /// Empty and delete its queues and exchanges.
    Manage,
    /// Change its owners, replace its credentials, end it.
    Own,
    /// Let its queues grow.
    Exempt,
    /// Look at messages as they are published, to exchanges of anybody: whoever has a namespace may bind to all of them.
    Inspect,
    /// Read what was done to it, or to everything.
    Audit,
    /// What else only administrators may: disable it, act on what belongs to others, override a refusal.
    Administer,
}

impl Right {
    /// All of them, in the order of the table.
    pub const ALL: [Right; 8] = [
        Right::Claim,
        Right::See,
        Right::Manage,
        Right::Own,
        Right::Exempt,
        Right::Inspect,
        Right::Audit,
        Right::Administer,
    ];

    /// Its name in the table, in the log and in the audit trail.
    pub fn word(self) -> &'static str {
        match self {
            Right::Claim => "claim",
            Right::See => "see",
            Right::Manage => "manage",
            Right::Own => "own",
            Right::Exempt => "exempt",
            Right::Inspect => "inspect",
            Right::Audit => "audit",
            Right::Administer => "administer",
        }
    }

    /// Each of these scopes gives this right. In those with `<namespace>`, the name of the namespace stands there, and they
    /// give nothing over everything.
    pub fn scopes(self) -> &'static [&'static str] {
        match self {
            Right::Claim => &[NAMESPACE],
            Right::See => &[NAMESPACE, MANAGE, EXEMPT, ADMIN],
            Right::Manage => &[NAMESPACE, MANAGE, ADMIN],
            Right::Own => &[NAMESPACE, ADMIN],
            Right::Exempt => &[EXEMPT, ADMIN],
            Right::Audit => &[NAMESPACE, AUDIT, ADMIN],
            Right::Inspect | Right::Administer => &[ADMIN],
        }
    }

    /// Whether those who own a namespace have it.
    fn comes_with_owning(self) -> bool {
        matches!(self, Right::See | Right::Manage | Right::Own | Right::Audit)
    }

    /// Whether administrators have it. Nobody but a program claims: a person gets credentials as an owner.
    fn comes_with_administering(self) -> bool {
        self != Right::Claim
    }
}

/// What stands for the name of a namespace in a scope.
pub const PARAMETER: &str = "<namespace>";
const NAMESPACE: &str = "pulse:namespace:<namespace>";
const MANAGE: &str = "pulse:manage:<namespace>";
const EXEMPT: &str = "pulse:exempt:<namespace>";
const AUDIT: &str = "pulse:audit";
const ADMIN: &str = "pulse:admin";

/// Who asks, as far as it is proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Subject<'a> {
    /// The scopes that it has: those of a machine, or of a person who signed in by Taskcluster.
    pub scopes: &'a [String],
    /// The address of a person that its identity provider has verified.
    pub address: Option<&'a str>,
    /// The groups that a person is in.
    pub groups: &'a [String],
    /// Whether it is a person who has signed in.
    pub person: bool,
    /// Whether a person is an administrator.
    pub administrator: bool,
}

impl<'a> Subject<'a> {
    /// A machine with these scopes.
    pub fn machine(scopes: &'a [String]) -> Subject<'a> {
        Subject { scopes, ..Subject::default() }
    }

    /// Whether it is one of these owners.
    pub fn is_among(&self, owners: &[Owner]) -> bool {
        owners.iter().any(|owner| match owner {
            Owner::Address(address) => self.address.is_some_and(|own| own.eq_ignore_ascii_case(address)),
            Owner::Group(name) => self.groups.contains(name),
        })
    }
}

/// What somebody wants to do something to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object<'a> {
    /// A namespace, with its owners; none where nobody has claimed it yet.
    Namespace(&'a Name, &'a [Owner]),
    /// All namespaces, and what belongs to none.
    Everything,
}

/// Whether `subject` has this `right` over `object`.
pub fn may(subject: &Subject<'_>, right: Right, object: Object<'_>) -> bool {
    let by_scope = right.scopes().iter().any(|scope| match object {
        Object::Namespace(name, _) => any_satisfies(subject.scopes, &scope.replace(PARAMETER, name.as_str())),
        Object::Everything => !scope.contains(PARAMETER) && any_satisfies(subject.scopes, scope),
    });
    let owns = matches!(object, Object::Namespace(_, owners) if subject.is_among(owners));
    let by_signing_in = subject.person && right == Right::Inspect;
    by_scope
        || by_signing_in
        || (owns && right.comes_with_owning())
        || (subject.administrator && right.comes_with_administering())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The subject that a row of the table is about.
    fn subject(row: &str) -> (Vec<String>, Option<&'static str>, Vec<String>, bool) {
        let (mut scopes, mut address, mut groups, mut administrator) = (Vec::new(), None, Vec::new(), false);
        match row {
            "anybody" => {}
            "a person who owns it by address" => address = Some("Owner@example.com"),
            "a person in a group that owns it" => groups.push("releng".to_owned()),
            "another person" => (address, groups) = (Some("other@example.com"), vec!["others".to_owned()]),
            "an administrator" => administrator = true,
            scope => scopes.push(scope.trim_matches('`').replace(PARAMETER, "taskcluster-x")),
        }
        (scopes, address, groups, administrator)
    }

    #[test]
    fn the_page_on_access_and_the_code_agree_in_each_cell() {
        let page = include_str!("../../docs/access.md");
        let (x, y) = (Name::from_stored("taskcluster-x".to_owned()), Name::from_stored("taskcluster-xy".to_owned()));
        let owners = ["owner@example.com", "group:releng"].map(|text| Owner::parse(text).unwrap());
        let cells =
            |line: &'static str| -> Vec<&'static str> { line.trim_matches('|').split('|').map(str::trim).collect() };
        let mut lines = page.lines().skip_while(|line| !line.starts_with("| who |")).map(cells);
        let head = lines.next().expect("the table is there");
        assert_eq!(head[1..], Right::ALL.map(Right::word));
        let mut rows = Vec::new();
        for row in lines.skip(1).take_while(|row| row.len() == head.len()) {
            rows.push(row[0]);
            let (scopes, address, groups, administrator) = subject(row[0]);
            let person = administrator || address.is_some() || !groups.is_empty();
            let who = Subject { scopes: &scopes, address, groups: &groups, person, administrator };
            for (right, cell) in Right::ALL.into_iter().zip(&row[1..]) {
                let allowed = |object| may(&who, right, object);
                let (its, everything) = (allowed(Object::Namespace(&x, &owners)), allowed(Object::Everything));
                let anothers = allowed(Object::Namespace(&y, &[]));
                let found = match (its, anothers, everything) {
                    (false, false, false) => "",
                    (true, false, false) => "yes",
                    (true, true, true) => "all",
                    other => panic!("{}, {}: {other:?}", row[0], right.word()),
                };
                assert_eq!(*cell, found, "{}, {}", row[0], right.word());
            }
        }
        let mut scopes: Vec<_> = Right::ALL.iter().flat_map(|right| right.scopes()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        for scope in scopes {
            assert!(rows.contains(&format!("`{scope}`").as_str()), "{scope} has a row");
        }
        assert_eq!(rows.len(), 10, "{rows:?}");
    }

    #[test]
    fn scopes_satisfy_by_taskclusters_rule_and_nothing_else_gives_a_right() {
        let name = Name::from_stored("taskcluster-x".to_owned());
        let machine = |scope: &str, right| {
            let scopes = [scope.to_owned()];
            may(&Subject::machine(&scopes), right, Object::Namespace(&name, &[]))
        };
        for (scope, right) in [
            ("*", Right::Claim),
            ("pulse:*", Right::Administer),
            ("pulse:manage:*", Right::Manage),
            ("pulse:namespace:taskcluster-*", Right::Own),
            ("pulse:exempt:taskcluster-x", Right::Exempt),
        ] {
            assert!(machine(scope, right), "{scope} {right:?}");
        }
        for (scope, right) in [
            ("", Right::See),
            ("pulse:manage", Right::Manage),
            ("pulse:manage:taskcluster-", Right::Manage),
            ("pulse:manage:*x", Right::Manage),
            ("pulse:namespace:taskcluster-xy", Right::See),
            ("pulse:namespace:taskcluster-x*y", Right::See),
            ("pulse:namespace:*", Right::Exempt),
            ("pulse:manage:*", Right::Own),
            ("pulse:admin", Right::Claim),
        ] {
            assert!(!machine(scope, right), "{scope} {right:?}");
        }
        let empty = [String::new()];
        let nobody = Subject { address: Some(""), groups: &empty, ..Subject::default() };
        let owners = ["owner@example.com", "group:releng"].map(|text| Owner::parse(text).unwrap());
        assert!(Right::ALL.iter().all(|right| !may(&nobody, *right, Object::Namespace(&name, &owners))));
        assert!(Right::ALL.iter().all(|right| !may(&nobody, *right, Object::Everything)));
    }
}
