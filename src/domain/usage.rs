//! Plans what follows from whether accounts are used: the end of one that is not comes nearer and is warned of, and an adopted
//! user whose owner has moved on is retired once nobody uses it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::account::{Account, AccountPolicy, Adopted, Schedule, Uses};
use crate::domain::action::{AccountStep, Entry, Operation};
use crate::domain::name::{Names, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::owner::Groups;
use crate::domain::plan::{Plan, Withheld};
use crate::domain::words::count;

/// How many days before its end the owners of an account are told, each once.
const WARNED_BEFORE: [u16; 3] = [30, 7, 1];
/// The use of an account is written down so often at most.
const USED_EVERY: Duration = Duration::from_secs(86_400 / 2);
/// So often, at most, owners are told that a user that they have moved on from is still in use.
const TOLD_EVERY: Duration = Duration::from_secs(7 * 86_400);
/// So long after they moved on they are told for the first time.
const TOLD_AFTER: Duration = Duration::from_secs(86_400);

fn days(count: u16) -> Duration {
    Duration::from_secs(u64::from(count) * 86_400)
}

/// The users whose connections decide about something: those that are looked at one by one where the list of all shows none.
pub fn decisive_users(namespaces: &[Namespace], names: &Names, now: Timestamp) -> Vec<String> {
    let mut users = Vec::new();
    for namespace in namespaces.iter().filter(|found| found.gone.is_none()) {
        let name = &namespace.name;
        match namespace.adopted() {
            Some(Adopted { moved: Some(_), retired: None, .. }) => users.push(name.as_str().to_owned()),
            Some(_) => {}
            None if namespace.is_on_demand() && namespace.expires < now.plus(days(WARNED_BEFORE[0] + 1)) => {
                users.extend(Slot::BOTH.map(|slot| names.user(name, slot)));
            }
            None => {}
        }
    }
    users
}

/// What a sweep saw of accounts, and how it decides.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub uses: &'a Uses,
    pub names: &'a Names,
    pub now: Timestamp,
    pub policy: &'a AccountPolicy,
    pub groups: &'a Groups,
    pub withheld: &'a Withheld,
}

/// Adds to `plan` what is due of accounts.
pub(super) fn plan_accounts(plan: &mut Plan, namespaces: &[Namespace], seen: Seen<'_>) {
    for namespace in namespaces.iter().filter(|found| found.gone.is_none()) {
        let Some(account) = &namespace.account else { continue };
        match &account.adopted {
            Some(adopted) => plan_adopted(plan, namespace, account, adopted, seen),
            None if account.schedule == Schedule::OnDemand => plan_end(plan, namespace, account, seen),
            None => {}
        }
    }
}

/// Puts off the end of an account that is used, and warns of that of another one.
fn plan_end(plan: &mut Plan, namespace: &Namespace, account: &Account, seen: Seen<'_>) {
    let Seen { uses, names, now, policy, groups, .. } = seen;
    let used = Slot::BOTH.iter().any(|slot| uses.contains_key(&names.user(&namespace.name, *slot)));
    let changed = |account: Account, expires| {
        let matures = if expires == namespace.expires { namespace.matures } else { None };
        Namespace { account: Some(account.into()), expires, matures, ..namespace.clone() }
    };
    if namespace.ends_as_asked() {
        return;
    }
    if used {
        if account.warned.is_some() || now.since(account.used) >= USED_EVERY {
            let expires = now.plus(policy.lifetime).max(namespace.expires);
            let seen = changed(account.used_at(now), expires);
            plan.push(Entry::Account(Box::new(seen), AccountStep::Seen, None), "it is in use");
        }
        return;
    }
    let due = |before: &u16| namespace.expires <= now.plus(days(*before)) && days(*before) < policy.lifetime;
    // Of several that are due at once, after an outage, the last one counts.
    let Some(before) = WARNED_BEFORE.into_iter().rfind(due) else { return };
    if account.warned.is_some_and(|warned| warned <= before) || namespace.told(groups).is_empty() {
        return;
    }
    // Nobody loses an account without a day's notice.
    let expires = namespace.expires.max(now.plus(days(1)));
    let warned = changed(Account { warned: Some(before), ..account.clone() }, expires);
    let event = Event::AccountEnding { expires, used: account.used, lifetime: policy.lifetime, at: now };
    let reason = format!("it was not used since {}, and ends at {expires}", account.used);
    plan.push(Entry::Account(Box::new(warned), AccountStep::WarnOfEnd, Some(Box::new(event))), reason);
}

/// Notes who uses an adopted user, tells the owners who moved on, and retires it once nobody does.
fn plan_adopted(plan: &mut Plan, namespace: &Namespace, account: &Account, adopted: &Adopted, seen: Seen<'_>) {
    let Seen { uses, now, policy, groups, withheld, .. } = seen;
    let user = namespace.name.as_str();
    if let Some(since) = adopted.retired {
        plan.push(Operation::Retire(namespace.name.clone()), format!("it is retired since {since}"));
        return;
    }
    let nobody = BTreeSet::new();
    let found = uses.get(user).unwrap_or(&nobody);
    let looked = adopted.looked_at(found.iter(), now);
    let changed = |adopted: Adopted| {
        let account = Account { adopted: Some(adopted), ..account.clone() };
        Box::new(Namespace { account: Some(account.into()), ..namespace.clone() })
    };
    let idle = looked.idle_since().filter(|since| now.since(*since) >= policy.retire_after);
    if let Some(since) = idle {
        if withheld.has(&namespace.owner()) {
            return;
        }
        let event = Event::AdoptedRetired { user: user.to_owned(), used: looked.used, at: now };
        let retired = changed(Adopted { retired: Some(now), ..looked });
        let reason = format!("its owner has moved on, and nobody used it since {since}");
        let step = Entry::Account(retired, AccountStep::Retire, Some(Box::new(event)));
        plan.decide(namespace.owner(), step, reason);
        return;
    }
    let again = match (looked.moved, looked.told) {
        (Some(moved), None) => now.since(moved) >= TOLD_AFTER,
        (Some(_), Some(told)) => now.since(told) >= TOLD_EVERY,
        (None, _) => false,
    };
    if again && !found.is_empty() && !namespace.told(groups).is_empty() {
        let addresses = looked.addresses.iter().map(|(address, last)| (address.clone(), *last)).collect();
        let event =
            Event::AdoptedInUse { user: user.to_owned(), addresses, retire_after: policy.retire_after, at: now };
        let reason = format!("its owner has moved on, and it is in use from {}", count_of(found));
        let told = changed(Adopted { told: Some(now), ..looked });
        plan.push(Entry::Account(told, AccountStep::TellOfUse, Some(Box::new(event))), reason);
    } else if adopted.differs(&looked) {
        let reason = format!("it is in use from {}", count_of(found));
        plan.push(Entry::Account(changed(looked), AccountStep::Seen, None), reason);
    }
}

fn count_of(addresses: &BTreeSet<String>) -> String {
    count(addresses.len() as u64, "address", "addresses")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::action::Action;
    use crate::domain::barred::Barred;
    use crate::domain::name::Name;
    use crate::domain::namespace::Version;
    use crate::domain::owner;
    use crate::domain::rotation::Rotation;
    use crate::secret::Password;

    const DAY: Duration = Duration::from_secs(86_400);

    fn at(days: u32) -> Timestamp {
        Timestamp::from_millis(0).plus(DAY * days)
    }

    fn policy() -> AccountPolicy {
        AccountPolicy { names: vec![], reserved: vec![], lifetime: DAY * 365, retire_after: DAY * 30 }
    }

    fn namespace(account: Account) -> Namespace {
        Namespace {
            name: Name::of_account("joe").unwrap(),
            contact: String::new(),
            created: at(0),
            expires: at(365),
            rotation: Rotation::first(Password::random(), at(0)).settle_until_asked(),
            gone: None,
            warned: None,
            claimed_by: None,
            owners: vec![owner::Owner::parse("joe@example.com").unwrap()],
            exemptions: Vec::new(),
            requests: Vec::new(),
            barred: Barred::default(),
            account: Some(account.into()),
            end_asked: None,
            matures: None,
            version: Version(1),
        }
    }

    /// What is planned, and the record after it.
    fn plan(found: &Namespace, user: Option<&str>, now: Timestamp) -> Option<(AccountStep, Namespace)> {
        let addresses = BTreeSet::from(["10.0.0.1".to_owned()]);
        let uses = user.map(|user| (user.to_owned(), addresses)).into_iter().collect();
        let (mut plan, names) = (Plan::default(), Names::new("taskcluster-", ""));
        let (policy, groups, withheld) = (policy(), Groups::default(), Withheld::default());
        let seen = Seen { uses: &uses, names: &names, now, policy: &policy, groups: &groups, withheld: &withheld };
        plan_accounts(&mut plan, std::slice::from_ref(found), seen);
        plan.actions.pop().map(|step| match step.action {
            Action::Store(Entry::Account(after, step, _)) => (step, *after),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn an_account_that_nobody_uses_is_warned_of_three_times_and_use_puts_its_end_off() {
        let mut found = namespace(Account::new(at(0)));
        let mut warned = Vec::new();
        for hours in 0..365 * 24 {
            let now = at(0).plus(Duration::from_secs(3600 * hours));
            if let Some((step, after)) = plan(&found, None, now) {
                assert_eq!(step, AccountStep::WarnOfEnd);
                warned.push(hours);
                found = after;
            }
        }
        assert_eq!(warned, [335, 358, 364].map(|day| day * 24));
        assert_eq!(found.expires, at(365));
        let (step, used) = plan(&found, Some("joe-2"), at(365)).unwrap();
        assert_eq!((step, used.expires), (AccountStep::Seen, at(730)));
        assert_eq!(plan(&used, Some("joe-2"), at(365).plus(DAY / 3)), None, "it is not written down each time");
        assert_eq!(plan(&used, None, at(690)), None);
    }

    #[test]
    fn nobody_loses_an_account_without_a_days_notice() {
        let (step, after) = plan(&namespace(Account::new(at(0))), None, at(500)).unwrap();
        assert_eq!((step, after.expires), (AccountStep::WarnOfEnd, at(501)));
        assert_eq!(after.account.as_ref().unwrap().warned, Some(1));
        assert_eq!(plan(&after, None, at(501)), None);
    }

    #[test]
    fn an_adopted_user_is_retired_when_its_owner_moved_on_and_nobody_used_it_for_long() {
        let mut found = namespace(Account::of_adopted(at(0)));
        let mut steps = Vec::new();
        let mut run = |found: &mut Namespace, user: Option<&str>, from: u32, to: u32| {
            for hours in from * 24..=to * 24 {
                let now = at(0).plus(Duration::from_secs(3600) * hours);
                if let Some((step, after)) = plan(found, user, now) {
                    *found = after;
                    if step != AccountStep::Seen {
                        steps.push((step, hours / 24));
                    }
                }
            }
        };
        run(&mut found, None, 0, 100);
        let moved = |adopted: &mut Adopted| adopted.moved = Some(at(100));
        found.account.as_mut().unwrap().adopted.as_mut().map(moved);
        run(&mut found, Some("joe"), 100, 110);
        run(&mut found, None, 110, 140);
        use AccountStep::{Retire, TellOfUse};
        assert_eq!(steps[..2], [(TellOfUse, 101), (TellOfUse, 108)]);
        assert_eq!(steps[2].0, Retire);
        assert_eq!((steps.len(), steps[2].1), (3, 140));
    }
}
