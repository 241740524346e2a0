//! Decides how a claim changes the record in the store.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::audit::By;
use crate::domain::barred::{Barred, Disabled};
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version, held_expires};
use crate::domain::rotation::Rotation;
use crate::secret::Password;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The namespace.
    pub name: Name,
    /// When it should expire; a time in the past means now. If left out, [`DEFAULT_LIFETIME`] from now, but never
    /// earlier than it already would.
    pub expires: Option<Timestamp>,
    /// Who gets warnings, empty for nobody. If left out, the contact stays.
    pub contact: Option<String>,
    /// Who asks, as the audit trail has it.
    pub by: By,
    /// The client that asks. With temporary credentials, the client that issued them. `None` if unknown.
    pub client: Option<String>,
}

/// The deployment's settings for claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimPolicy {
    /// How long after its date a namespace is removed.
    pub delay: Duration,
    /// How long a process may still act on a record that it read before the record became a tombstone. Until then, it
    /// could overwrite the passwords of a namespace that is revived.
    pub margin: Duration,
    /// How long a process may act on a record that it read.
    pub budget: Duration,
}

/// How long a namespace lives if its claim does not say (as in 2018).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(4 * 3600);

/// What to do with the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has claimed this name before: insert this record.
    Create(Namespace),
    /// The claim changes the record, a switch is under way, or the claim revives a tombstone: write this record over
    /// the one that was found.
    Change(Namespace),
    /// The record is already as asked for.
    Keep,
    /// The namespace is being cleaned up: retry at this time.
    Wait(Timestamp),
    /// Its credentials were revoked, and new ones are not to be had before this time.
    Shut(Timestamp),
    /// Nobody may claim it.
    Refuse(Disabled),
}

/// Decides what the claim `asked` does to `found`, the record in the store. `fresh` gives the first password of a new
/// or revived namespace. `matures` gives the served time at which a namespace with this `expires` is over, or `None` if
/// that is unknown.
pub fn decide_claim(
    found: Option<&Namespace>,
    asked: &ClaimRequest,
    now: Timestamp,
    policy: ClaimPolicy,
    fresh: impl FnOnce() -> Password,
    matures: impl FnOnce(Timestamp) -> Option<Duration>,
) -> Claim {
    let (default, ClaimPolicy { delay, margin, .. }) = (now.plus(DEFAULT_LIFETIME), policy);
    let expires = asked.expires.map(|expires| held_expires(expires, now, delay));
    let at_once = expires.filter(|_| asked.expires <= Some(now));
    if let Some(disabled) = found.and_then(|found| found.barred.disabled.as_deref()) {
        return Claim::Refuse(disabled.clone());
    }
    match found {
        Some(namespace) if namespace.is_beginning() && namespace.barred.shut_until(now).is_some() => {
            Claim::Shut(namespace.barred.shut_until(now).unwrap_or(now))
        }
        Some(namespace) if namespace.gone.is_none() => {
            // What another process began is finished here, so that two may be at it.
            let finishing = namespace.is_beginning().then(|| namespace.barred.with_writer(now.plus(policy.budget)));
            let until = expires.unwrap_or(namespace.expires.max(default));
            let stays = until == namespace.expires && namespace.matures.is_some();
            let claimed = Namespace {
                expires: until,
                matures: if stays { namespace.matures } else { matures(until) },
                end_asked: at_once.or(expires.filter(|end| *end < namespace.expires)).or(namespace.end_asked),
                contact: asked.contact.clone().unwrap_or_else(|| namespace.contact.clone()),
                claimed_by: namespace.claimed_by.clone().or_else(|| asked.client.clone()),
                barred: finishing.unwrap_or_else(|| namespace.barred.clone()),
                ..namespace.clone()
            };
            // Also written while a switch is under way. A process that promotes the pending password with a time that
            // it read before this claim then loses, and reads the time again. See `Rotation::settle`.
            let switching = namespace.rotation.active.is_some() && namespace.rotation.pending.is_some();
            if claimed == *namespace && !switching { Claim::Keep } else { Claim::Change(claimed) }
        }
        Some(Namespace { gone: Some(gone), .. }) if gone.blocked_until(now, margin) > now => {
            Claim::Wait(gone.blocked_until(now, margin))
        }
        other => {
            let expires = expires.unwrap_or(default);
            let begun = Namespace {
                name: asked.name.clone(),
                contact: asked.contact.clone().unwrap_or_default(),
                created: now,
                expires,
                matures: matures(expires),
                // Its users stay known, should it end before a password is in force again; see `identity::is_known`.
                rotation: Rotation {
                    grace: other.map_or(Duration::ZERO, |tombstone| tombstone.rotation.grace),
                    ..Rotation::first(fresh(), now)
                },
                gone: None,
                warned: None,
                claimed_by: asked.client.clone(),
                end_asked: at_once,
                owners: Vec::new(),
                exemptions: Vec::new(),
                requests: Vec::new(),
                barred: Barred::default(),
                account: None,
                version: other.map_or(Version::new_at(now), |tombstone| tombstone.version),
            };
            if other.is_some() { Claim::Change(begun) } else { Claim::Create(begun) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::barred::Revoked;
    use crate::domain::namespace::Gone;

    const BUDGET: Duration = Duration::from_secs(30);
    const POLICY: ClaimPolicy = ClaimPolicy { delay: Duration::from_secs(3600), margin: BUDGET, budget: BUDGET };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn unknown(_: Timestamp) -> Option<Duration> {
        None
    }

    fn asked(expires: Option<i64>, contact: Option<&str>) -> ClaimRequest {
        let name = Name::from_stored("taskcluster-x".into());
        let client = Some("me".to_owned());
        let by = By::client("me");
        ClaimRequest { name, expires: expires.map(at), contact: contact.map(str::to_owned), by, client }
    }

    fn known() -> Namespace {
        let Claim::Create(namespace) =
            decide_claim(None, &asked(None, Some("a@a.com")), at(0), POLICY, Password::random, unknown)
        else {
            panic!("a claim of an unknown name creates it");
        };
        let rotation = namespace.rotation.settle(at(0), Duration::from_secs(3600));
        Namespace { version: Version(1), rotation, ..namespace }
    }

    fn decide(found: &Namespace, asked: &ClaimRequest, now: i64) -> Claim {
        let fresh = || panic!("a live namespace needs no new password");
        decide_claim(Some(found), asked, at(now), POLICY, fresh, unknown)
    }

    #[test]
    fn a_new_namespace_lives_four_hours_and_warns_nobody() {
        let decided = decide_claim(None, &asked(None, None), at(100), POLICY, Password::random, unknown);
        let Claim::Create(new) = decided else { panic!() };
        assert_eq!((new.expires, new.contact.as_str(), new.version.is_new()), (at(100 + 14_400), "", true));
        assert!(new.rotation.active.is_none() && new.rotation.pending.is_some());
    }

    #[test]
    fn what_is_left_out_shortens_nothing_and_keeps_the_contact() {
        let found = Namespace { expires: at(90_000), ..known() };
        assert_eq!(decide(&found, &asked(None, None), 100), Claim::Keep);
        let Claim::Change(longer) = decide(&known(), &asked(None, None), 100) else { panic!() };
        assert_eq!((longer.expires, longer.contact.as_str()), (at(14_500), "a@a.com"));
    }

    #[test]
    fn a_claim_during_a_switch_writes_the_record_so_that_an_older_promotion_is_lost() {
        let settled = known().rotation.settle(at(0), Duration::from_secs(3600));
        let quiet = Namespace { expires: at(90_000), rotation: settled, ..known() };
        assert_eq!(decide(&quiet, &asked(None, None), 100), Claim::Keep);
        let rotation = quiet.rotation.begin(Password::random(), at(3600));
        let switching = Namespace { rotation, ..quiet };
        assert_eq!(decide(&switching, &asked(None, None), 3700), Claim::Change(switching.clone()));
    }

    #[test]
    fn a_claim_that_moves_the_end_notes_at_which_served_time_that_comes() {
        let decide = |found: Option<&Namespace>, asked| {
            let lives = |expires: Timestamp| Some(expires.since(at(100)));
            decide_claim(found, &asked, at(100), POLICY, Password::random, lives)
        };
        let Claim::Create(new) = decide(None, asked(Some(900), None)) else { panic!() };
        assert_eq!(new.matures, Some(Duration::from_secs(800)));
        let known = Namespace { version: Version(1), rotation: known().rotation, ..new };
        assert_eq!(decide(Some(&known), asked(Some(900), None)), Claim::Keep);
        let Claim::Change(moved) = decide(Some(&known), asked(Some(300), None)) else { panic!() };
        assert_eq!(moved.matures, Some(Duration::from_secs(200)));
        let before = Namespace { matures: None, ..known };
        let Claim::Change(noted) = decide(Some(&before), asked(Some(900), None)) else { panic!() };
        assert_eq!(noted.matures, Some(Duration::from_secs(800)), "which an earlier version did not note");
    }

    #[test]
    fn what_is_said_counts_even_if_it_shortens_or_clears_and_what_is_past_means_now() {
        let Claim::Change(changed) = decide(&known(), &asked(Some(-5), Some("")), 100) else { panic!() };
        assert_eq!((changed.expires, changed.contact.as_str()), (at(100), ""));
        let Claim::Change(changed) = decide(&known(), &asked(Some(200), None), 100) else { panic!() };
        assert_eq!(changed.expires, at(200));
    }

    #[test]
    fn it_is_kept_whether_the_end_was_brought_nearer_by_a_claim() {
        let claim = |found: &Namespace, expires, now| match decide(found, &asked(expires, None), now) {
            Claim::Change(changed) => changed,
            _ => found.clone(),
        };
        let later = claim(&known(), Some(90_000), 100);
        assert!(!known().ends_as_asked() && !later.ends_as_asked());
        let sooner = claim(&later, Some(50_000), 200);
        assert!(sooner.ends_as_asked() && claim(&sooner, Some(50_000), 300).ends_as_asked());
        assert!(!claim(&sooner, Some(50_001), 300).ends_as_asked());
        let ended = claim(&later, Some(-5), 200);
        assert!(ended.ends_as_asked() && claim(&ended, Some(-5), 300).ends_as_asked());
        assert!(!claim(&ended, None, 300).ends_as_asked());
        let begun = decide_claim(None, &asked(Some(-5), None), at(100), POLICY, Password::random, unknown);
        assert!(matches!(begun, Claim::Create(begun) if begun.ends_as_asked()));
    }

    #[test]
    fn a_namespace_is_whose_claim_made_it_until_it_is_made_anew() {
        let by = |client: Option<&str>| ClaimRequest { client: client.map(str::to_owned), ..asked(Some(90_000), None) };
        let owner = |claim| match claim {
            Claim::Create(found) | Claim::Change(found) => found.claimed_by,
            other => panic!("{other:?}"),
        };
        assert_eq!(owner(decide(&known(), &by(Some("you")), 100)).as_deref(), Some("me"));
        let nobodys = Namespace { claimed_by: None, ..known() };
        assert_eq!(owner(decide(&nobodys, &by(Some("you")), 100)).as_deref(), Some("you"));
        let gone = Namespace { gone: Some(Gone { since: at(1), cleaning_until: None }), ..known() };
        let anew = decide_claim(Some(&gone), &by(Some("you")), at(100), POLICY, Password::random, unknown);
        assert_eq!(owner(anew).as_deref(), Some("you"));
    }

    #[test]
    fn a_claim_that_finishes_what_another_process_began_notes_how_long_that_may_take() {
        let begun = Namespace { rotation: Rotation::first(Password::random(), at(0)), ..known() };
        let Claim::Change(claimed) = decide(&begun, &asked(Some(14_400), None), 100) else { panic!() };
        assert_eq!(claimed, Namespace { barred: begun.barred.with_writer(at(130)), matures: None, ..begun });
    }

    #[test]
    fn nobody_claims_what_is_disabled_and_what_was_revoked_is_claimed_once_old_passwords_can_t_come_back() {
        let disabled = Disabled { since: at(1), by: "client boss".into(), reason: "it was leaked".into() };
        let barred = |disabled, until| Barred {
            disabled,
            revoked: Some(Revoked { from: at(until), done: false }),
            writing_until: None,
        };
        for gone in [None, Some(Gone { since: at(1), cleaning_until: None })] {
            let found = Namespace { barred: barred(Some(disabled.clone().into()), 1), gone, ..known() };
            assert_eq!(decide(&found, &asked(None, None), 100), Claim::Refuse(disabled.clone()));
        }
        let begun = Namespace { rotation: Rotation::first(Password::random(), at(0)), ..known() };
        let found = Namespace { barred: barred(None, 120), ..begun };
        assert_eq!(decide(&found, &asked(None, None), 119), Claim::Shut(at(120)));
        assert!(matches!(decide(&found, &asked(None, None), 120), Claim::Change(_)));
        let settled = Namespace { barred: barred(None, 120), ..known() };
        assert!(matches!(decide(&settled, &asked(None, None), 119), Claim::Change(_)));
    }

    #[test]
    fn a_gone_namespace_comes_back_with_fresh_passwords_once_nobody_cleans_it() {
        let gone = |cleaning_until| Namespace { gone: Some(Gone { since: at(50), cleaning_until }), ..known() };
        assert_eq!(decide(&gone(Some(at(200))), &asked(None, None), 199), Claim::Wait(at(200)));
        for cleaning_until in [None, Some(at(200))] {
            let found = gone(cleaning_until);
            let decided = decide_claim(Some(&found), &asked(None, None), at(200), POLICY, Password::random, unknown);
            let Claim::Change(revived) = decided else { panic!() };
            assert_eq!((revived.gone, revived.created, revived.version), (None, at(200), found.version));
            assert_ne!(revived.rotation.pending, found.rotation.pending);
            assert_eq!(revived.rotation.grace, found.rotation.grace);
            assert_eq!(revived.contact, "");
        }
    }

    #[test]
    fn a_gone_namespace_stays_so_while_somebody_may_act_on_what_it_was() {
        let buried = |since| Namespace { gone: Some(Gone { since: at(since), cleaning_until: None }), ..known() };
        let decide = |since, now| {
            decide_claim(Some(&buried(since)), &asked(None, None), at(now), POLICY, Password::random, unknown)
        };
        assert_eq!(decide(50, 79), Claim::Wait(at(80)));
        assert!(matches!(decide(50, 80), Claim::Change(_)));
        assert_eq!(decide(50, 40), Claim::Wait(at(80)), "the clock of whoever buried it may be ahead");
        assert!(matches!(decide(50_000, 40), Claim::Change(_)), "what nobody claimed is buried ahead of time");
    }
}
