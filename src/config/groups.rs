//! Where groups that own namespaces are told.

use super::clients::parsed;
use super::kinds::{Kind, Wrong};
use crate::domain::owner::{Groups, Owner};

/// The addresses of groups.
pub(super) const GROUPS: Kind<Groups> = Kind {
    expected: "a map, or a JSON object, of the names of groups to e-mail addresses, such as `{\"releng\": \"releng@example.com\"}`",
    secret: false,
    parse: |value| {
        let value = parsed(value)?;
        let (mut groups, mut problems) = (Vec::new(), Vec::new());
        for (group, address) in value.as_object().ok_or(Wrong::Unexpected)? {
            let owner = Owner::parse(&format!("group:{group}"));
            let address = address.as_str().and_then(|text| Owner::parse(text).ok()).filter(|to| to.address().is_some());
            match (owner, address) {
                (Ok(Owner::Group(group)), Some(Owner::Address(address))) => groups.push((group, address)),
                (Ok(_), _) => problems.push(format!("the address of {group} must be one such as you@example.com")),
                (Err(_), _) => {
                    problems.push(format!("{group:?} is not the name of a group; write it without `group:`"))
                }
            }
        }
        if problems.is_empty() { Ok(groups.into_iter().collect()) } else { Err(Wrong::Because(problems)) }
    },
};

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_are_the_same_as_yaml_and_as_json() {
        let map = json!({"releng": "Releng@example.com", "org/team": "team@example.com"});
        let read = (GROUPS.parse)(&map).ok().unwrap();
        assert_eq!(Some(&read), (GROUPS.parse)(&json!(map.to_string())).ok().as_ref());
        assert_eq!(read.address("releng"), Some("releng@example.com"));
        assert_eq!(read.address("Releng"), None);
        assert_eq!((GROUPS.parse)(&json!("{}")).ok(), Some(Groups::default()));
    }

    #[test]
    fn each_wrong_entry_is_told() {
        let map = json!({"": "a@example.com", "group:x y": "a@example.com", "b": "nobody", "c": 5, "d": "group:e"});
        let Err(Wrong::Because(problems)) = (GROUPS.parse)(&map) else { panic!("that is wrong") };
        assert_eq!(problems.len(), 5, "{problems:?}");
        assert!(matches!((GROUPS.parse)(&json!(["a@example.com"])), Err(Wrong::Unexpected)));
    }
}
