//! Adoption: makes accounts of users of the broker that somebody else made, PulseGuardian say, and leaves them as they are. A
//! user can be adopted that has no tags, rights in our virtual host alone, and there those of the form that PulseGuardian and
//! Taskcluster give.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::Timestamp;
use crate::domain::account::Account;
use crate::domain::barred::Barred;
use crate::domain::exemption::{Exempted, MOST_EXEMPTIONS, check_pattern};
use crate::domain::inventory::{BrokerUser, Inventory};
use crate::domain::ladder::Exemption;
use crate::domain::name::{Name, Names, Permissions};
use crate::domain::namespace::{Namespace, Version};
use crate::domain::owner::{MOST_OWNERS, Owner};
use crate::domain::rotation::{NEVER, Rotation};

/// A user that is to be adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name, which becomes that of the account.
    pub user: String,
    /// Who is to own it.
    pub owners: Vec<Owner>,
    /// Its queues that may grow without a bound.
    pub unbounded: Vec<String>,
}

/// What becomes of users that are to be adopted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adoption {
    /// The accounts to be written.
    pub taken: Vec<Namespace>,
    /// Those that were adopted before.
    pub known: usize,
    /// What is not taken, and why.
    pub left: Vec<(String, String)>,
}

/// Why a user can't be adopted, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// It has tags.
    #[error("it has the tags {0}")]
    Tags(String),
    /// It has no rights in our virtual host.
    #[error("it has no permissions in the virtual host")]
    NoPermissions,
    /// It has others there than accounts have.
    #[error("its permissions are not of the form ^(queue/<user>/.*|exchange/<user>/.*): {0}")]
    Permissions(String),
    /// It has rights elsewhere.
    #[error("it has rights on topics or on other virtual hosts")]
    Elsewhere,
}

/// Whether a user is one that can be adopted, or that was, and that nobody changed since into something else.
///
/// # Errors
/// Why it is not.
pub fn fits(user: &BrokerUser, permissions: Option<&Permissions>, elsewhere: bool) -> Result<(), Misfit> {
    if !user.tags.is_empty() {
        return Err(Misfit::Tags(user.tags.join(", ")));
    }
    if elsewhere {
        return Err(Misfit::Elsewhere);
    }
    let Permissions { configure, write, read } = permissions.ok_or(Misfit::NoPermissions)?;
    for (given, form) in [
        (configure, ["^(queue/", "/.*|exchange/", "/.*)"]),
        (write, ["^(queue/", "/.*|exchange/", "/.*)"]),
        (read, ["^(queue/", "/.*|exchange/.*)", ""]),
    ] {
        if !has_form(given, form, &user.name) {
            return Err(Misfit::Permissions(given.clone()));
        }
    }
    Ok(())
}

/// Whether `given` is `form` with the name, escaped or not, after the first part, and after the second where a third follows.
fn has_form(given: &str, [before, between, after]: [&str; 3], name: &str) -> bool {
    let middle =
        given.strip_prefix(before).and_then(|rest| rest.strip_suffix(if after.is_empty() { between } else { after }));
    let Some(middle) = middle else { return false };
    let is_name = |text: &str| {
        // As PulseGuardian escapes it, and as Taskcluster does not.
        text.replace('\\', "") == name
    };
    match after {
        "" => is_name(middle),
        _ => middle.split_once(between).is_some_and(|(one, two)| is_name(one) && is_name(two)),
    }
}

/// What becomes of `wanted`. `stored` are all namespaces, and `inventory` has all users and permissions.
pub fn plan_adoption(
    wanted: &[Wanted],
    inventory: &Inventory,
    names: &Names,
    stored: &[Namespace],
    now: Timestamp,
) -> Adoption {
    let users: BTreeMap<_, _> = inventory.users.iter().map(|user| (user.name.as_str(), user)).collect();
    let granted: BTreeMap<_, _> = inventory.permissions.iter().map(|of| (of.user.as_str(), &of.permissions)).collect();
    let elsewhere: BTreeSet<_> = inventory.elsewhere.iter().map(|right| right.user.as_str()).collect();
    let stored: BTreeMap<_, _> = stored.iter().map(|found| (found.name.as_str(), found)).collect();
    let (mut adoption, mut seen) = (Adoption::default(), BTreeSet::new());
    for one in wanted.iter().filter(|one| seen.insert(&one.user)) {
        let user = one.user.as_str();
        let known = stored.get(user).copied();
        if known.is_some_and(|found| found.gone.is_none() && found.account.is_some()) {
            adoption.known += 1;
            continue;
        }
        let why = match users.get(user) {
            None => Some("RabbitMQ has no such user".to_owned()),
            Some(found) => {
                fits(found, granted.get(user).copied(), elsewhere.contains(user)).err().map(|why| why.to_string())
            }
        };
        let why = why.or_else(|| in_the_way(user, known, names, &stored)).or_else(|| {
            let many = one.owners.len();
            (many > MOST_OWNERS).then(|| {
                format!("it has {many} owners, and {MOST_OWNERS} is the most: let a group or a mailing list own it")
            })
        });
        match (why, Name::of_account(user)) {
            (Some(why), _) => adoption.left.push((user.to_owned(), why)),
            (None, None) => {
                let why = "its name does not begin with a letter, is too long, or has others than [A-Za-z0-9._-]";
                adoption.left.push((user.to_owned(), why.to_owned()));
            }
            (None, Some(name)) => {
                let account = account(name, one, now, &mut adoption.left);
                adoption.taken.push(account);
            }
        }
    }
    adoption
}

/// What else there is under this name.
fn in_the_way(
    user: &str,
    known: Option<&Namespace>,
    names: &Names,
    stored: &BTreeMap<&str, &Namespace>,
) -> Option<String> {
    match known {
        Some(found) if found.gone.is_some() => return Some("what had this name before is being removed".to_owned()),
        Some(_) => return Some("the database has a namespace of this name, which programs claim".to_owned()),
        None => {}
    }
    let (of, _) = names.parts_of_user(user)?;
    stored.contains_key(of.as_str()).then(|| format!("it stands where a user of the namespace {of} belongs"))
}

/// The account of a user. What of it can't be taken goes to `left`.
fn account(name: Name, wanted: &Wanted, now: Timestamp, left: &mut Vec<(String, String)>) -> Namespace {
    let mut owners = wanted.owners.clone();
    owners.sort();
    owners.dedup();
    let mut exemptions = Vec::new();
    for queue in &wanted.unbounded {
        match check_pattern(queue, &name) {
            _ if exemptions.len() == MOST_EXEMPTIONS => {
                left.push((queue.clone(), format!("{name} may have {MOST_EXEMPTIONS} exemptions at most")));
            }
            Err(why) => left.push((queue.clone(), format!("it can't be exempted for {name}: {why}"))),
            Ok(()) => exemptions.push(Exempted {
                queue: queue.clone(),
                exemption: Exemption { up_to: None, until: None },
                reason: "it was unbounded in PulseGuardian".to_owned(),
                by: "adoption".to_owned(),
                since: now,
            }),
        }
    }
    Namespace {
        name,
        contact: String::new(),
        created: now,
        expires: NEVER,
        rotation: Rotation::none(),
        gone: None,
        warned: None,
        claimed_by: None,
        owners,
        exemptions,
        requests: Vec::new(),
        barred: Barred::default(),
        account: Some(Account::of_adopted(now).into()),
        end_asked: None,
        matures: None,
        version: Version::new_at(now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::inventory::{BrokerPermissions, Right};
    use crate::secret::PasswordHash;

    fn permissions(own: &str) -> Permissions {
        let all = format!("^(queue/{own}/.*|exchange/{own}/.*)");
        Permissions { configure: all.clone(), write: all, read: format!("^(queue/{own}/.*|exchange/.*)") }
    }

    fn user(name: &str, tags: &[&str]) -> BrokerUser {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        BrokerUser { name: name.to_owned(), tags, hash: PasswordHash::blocked() }
    }

    #[test]
    fn permissions_fit_as_pulseguardian_and_taskcluster_write_them() {
        for (name, own) in [
            ("joe", "joe"),
            ("a-b", r"a\-b"),
            ("a-b", "a-b"),
            ("a.b_c", r"a\.b_c"),
            ("a.b_c", r"a\.b\_c"),
            ("exchange", "exchange"),
        ] {
            assert_eq!(fits(&user(name, &[]), Some(&permissions(own)), false), Ok(()), "{own}");
        }
        let good = permissions("joe");
        for bad in [
            permissions("jo"),
            permissions(".*"),
            permissions("joe|x"),
            Permissions { read: ".*".into(), ..good.clone() },
            Permissions { configure: "^(queue/joe/.*|exchange/jim/.*)".into(), ..good.clone() },
            Permissions { write: "^(queue/joe/.*|exchange/joe/.*)|.*".into(), ..good.clone() },
            Permissions { write: String::new(), ..good.clone() },
            Permissions { write: "^(queue/joe".into(), ..good.clone() },
        ] {
            assert!(matches!(fits(&user("joe", &[]), Some(&bad), false), Err(Misfit::Permissions(_))), "{bad:?}");
        }
        assert_eq!(fits(&user("joe", &[]), None, false), Err(Misfit::NoPermissions));
        assert_eq!(fits(&user("joe", &[]), Some(&good), true), Err(Misfit::Elsewhere));
        assert!(matches!(fits(&user("joe", &["management"]), Some(&good), false), Err(Misfit::Tags(_))));
    }

    #[test]
    fn what_fits_is_taken_once_and_the_rest_is_told_with_its_reason() {
        let now = Timestamp::from_millis(1_000_000);
        let granted = ["joe", "boss", "wide", "taskcluster-x-1", "0day"];
        let grant = |name: &&str| BrokerPermissions { user: (*name).into(), permissions: permissions(name) };
        let inventory = Inventory {
            users: ["joe", "wide", "bare", "taskcluster-x-1", "0day"].map(|name| user(name, &[])).to_vec(),
            permissions: granted.iter().map(grant).collect(),
            elsewhere: vec![Right { user: "wide".into(), vhost: "/other".into(), topic: false }],
            ..Inventory::default()
        };
        let claimed = |name: &str| {
            let wanted = Wanted { user: name.into(), owners: vec![], unbounded: vec![] };
            let name = Name::from_stored(name.into());
            Namespace { account: None, ..account(name, &wanted, now, &mut Vec::new()) }
        };
        let owner = Owner::parse("joe@example.com").unwrap();
        let wanted: Vec<_> = ["joe", "joe", "gone", "wide", "bare", "taskcluster-x-1", "0day"]
            .map(|user| Wanted {
                user: user.into(),
                owners: vec![owner.clone(), owner.clone()],
                unbounded: vec!["queue/joe/log".into(), "queue/jim/log".into()],
            })
            .to_vec();
        let names = Names::new("taskcluster-", "");
        let mut stored = vec![claimed("taskcluster-x")];
        let adoption = plan_adoption(&wanted, &inventory, &names, &stored, now);
        let [taken] = &adoption.taken[..] else { panic!("{adoption:?}") };
        assert_eq!((taken.name.as_str(), &taken.owners, taken.expires), ("joe", &vec![owner], NEVER));
        assert_eq!(taken.exemptions.iter().map(|one| one.queue.as_str()).collect::<Vec<_>>(), ["queue/joe/log"]);
        let left: Vec<_> =
            adoption.left.iter().map(|(user, why)| (user.as_str(), why.split(':').next().unwrap())).collect();
        assert_eq!(
            left,
            [
                ("queue/jim/log", "it can't be exempted for joe"),
                ("gone", "RabbitMQ has no such user"),
                ("wide", "it has rights on topics or on other virtual hosts"),
                ("bare", "it has no permissions in the virtual host"),
                ("taskcluster-x-1", "it stands where a user of the namespace taskcluster-x belongs"),
                ("0day", "its name does not begin with a letter, is too long, or has others than [A-Za-z0-9._-]"),
            ]
        );
        stored.push(taken.clone());
        let again = plan_adoption(&wanted[..1], &inventory, &names, &stored, now);
        assert_eq!((again.taken.len(), again.known, again.left.len()), (0, 1, 0));
    }
}
