//! Ends on demand: what releasing, revoking, disabling and enabling make of a namespace's record.
//!
//! A revocation takes the path of a first claim: nothing is active, and a fresh password is pending. So old passwords leave the store at
//! once, nobody gets a new one before the broker has it, and whoever finds the record goes on with it.
//!
//! A process that read the record before may still write an old password to the broker: a sweep that repairs a user, or a claim that
//! finishes what another one began. Each notes that first ([`Barred::writing_until`]). A revocation is done only after that time, and so
//! is the first claim after it. A process that rotates writes a password that was never handed out, to the user that gets no
//! new one here.
//!
//! The credentials of an account are given when an owner asks for them. So there, nobody can log in after a revocation until then.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::barred::{Barred, Disabled, Revoked};
use crate::domain::claim::DEFAULT_LIFETIME;
use crate::domain::name::Slot;
use crate::domain::namespace::{Gone, Namespace};
use crate::domain::rotation::{Login, Pending, Rotation};
use crate::secret::Password;

/// A rotation in which nobody can log in. It still tells by `grace` whether a password was in force before.
fn nobody(found: &Namespace, now: Timestamp) -> Rotation {
    // What is on demand is never due.
    let due = if found.is_on_demand() { found.rotation.due } else { now };
    Rotation { active: None, previous: None, pending: None, due, ..found.rotation }
}

/// The same, with `fresh` on its way to the user in `slot`.
fn anew(found: &Namespace, slot: Slot, fresh: Password, since: Timestamp) -> Rotation {
    let login = Login { slot, password: fresh };
    Rotation { pending: Some(Pending { login, since }), ..nobody(found, since) }
}

/// The record whose credentials are revoked at `now`; `None` where it has none, or where that is stored already. Whoever reads it acts on
/// that for `budget` at most.
pub fn revoke(found: &Namespace, fresh: Password, now: Timestamp, budget: Duration) -> Option<Namespace> {
    let from = found.barred.quiet_from(now);
    let Rotation { active, previous, pending, .. } = &found.rotation;
    let rotation = match (active, previous, pending) {
        (None, None, None) => return None,
        _ if found.is_on_demand() => nobody(found, now),
        (Some(active), ..) => anew(found, active.slot, fresh, from),
        // Passwords were lost: what was handed out before goes, and what comes in their place was not handed out yet.
        (None, Some(_), Some(pending)) => anew(found, pending.login.slot, pending.login.password.clone(), from),
        (None, Some(last), None) => anew(found, last.slot.other(), fresh, from),
        // The broker may still have passwords from before it was claimed anew. Whoever claims it gives it the new one, too.
        (None, None, Some(_)) if !found.barred.is_pending() => {
            let barred =
                Barred { revoked: Some(Revoked { from, done: false }), ..found.barred.with_writer(now.plus(budget)) };
            return Some(Namespace { barred, ..found.clone() });
        }
        (None, None, Some(_)) => return None,
    };
    let barred = Barred { revoked: Some(Revoked { from, done: false }), ..found.barred.clone() };
    Some(Namespace { rotation, barred, ..found.clone() })
}

/// The record of a namespace that nobody may claim any more, and that nobody can log in to; `None` where it is disabled already.
/// Whoever reads it acts on that for `budget` at most.
pub fn disable(found: &Namespace, disabled: Disabled, now: Timestamp, budget: Duration) -> Option<Namespace> {
    if found.barred.disabled.is_some() {
        return None;
    }
    let from = found.barred.quiet_from(now);
    // Whoever blocks its users, and whoever put a password in force, must not come after it was enabled.
    let barred = Barred {
        disabled: Some(disabled.into()),
        revoked: Some(Revoked { from, done: found.gone.is_some() }),
        ..found.barred.with_writer(now.plus(budget * 2))
    };
    Some(Namespace { rotation: nobody(found, now), barred, ..found.clone() })
}

/// The record of a namespace that may be claimed again; `None` where it may be as it is. It lives for a while at least: nobody could
/// put off its end meanwhile. `matures` gives the served time at which one with this `expires` is over.
pub fn enable(
    found: &Namespace,
    fresh: Password,
    now: Timestamp,
    matures: impl FnOnce(Timestamp) -> Option<Duration>,
) -> Option<Namespace> {
    found.barred.disabled.as_ref()?;
    let from = found.barred.quiet_from(now);
    let done = !found.barred.is_pending();
    let barred = Barred { disabled: None, revoked: Some(Revoked { from, done }), ..found.barred.clone() };
    let enabled = Namespace { barred, ..found.clone() };
    if found.gone.is_some() {
        return Some(enabled);
    }
    let expires = found.expires.max(now.plus(DEFAULT_LIFETIME));
    let matures = if expires == found.expires { found.matures } else { matures(expires) };
    let rotation = if found.is_on_demand() { found.rotation.clone() } else { anew(found, Slot::One, fresh, from) };
    Some(Namespace { rotation, expires, matures, ..enabled })
}

/// The tombstone of a namespace that ends at `now`. Until `reserved` nobody else cleans it up or claims it.
pub fn release(found: &Namespace, now: Timestamp, reserved: Timestamp) -> Namespace {
    let gone = Some(Gone { since: now, cleaning_until: Some(reserved) });
    Namespace { gone, rotation: nobody(found, now), matures: None, ..found.clone() }
}

/// The tombstone once its users are gone: others may clean it up, and claim it, as soon as nobody writes its users any more.
/// `found` is the record from before the release.
pub fn give_back(tombstone: &Namespace, found: &Namespace, now: Timestamp) -> Namespace {
    let is_switching = found.rotation.pending.is_some();
    let quiet = Some(found.barred.quiet_from(now)).filter(|quiet| *quiet > now);
    let gone = tombstone
        .gone
        .map(|gone| Gone { cleaning_until: if is_switching { gone.cleaning_until } else { quiet }, ..gone });
    Namespace { gone, ..tombstone.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::Name;
    use crate::domain::namespace::Version;

    const HOUR: Duration = Duration::from_secs(3600);
    const BUDGET: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn live() -> Namespace {
        let first = Rotation::first(Password::random(), at(0)).settle(at(0), HOUR);
        Namespace {
            name: Name::from_stored("taskcluster-x".into()),
            contact: String::new(),
            created: at(0),
            expires: at(20_000),
            rotation: first.begin(Password::random(), at(3600)).settle(at(3600), HOUR),
            gone: None,
            warned: None,
            claimed_by: None,
            owners: Vec::new(),
            exemptions: Vec::new(),
            requests: Vec::new(),
            account: None,
            barred: Barred::default(),
            end_asked: None,
            matures: Some(HOUR),
            version: Version(1),
        }
    }

    fn disabled() -> Disabled {
        Disabled { since: at(4000), by: "person boss@a.com".into(), reason: "it was leaked".into() }
    }

    fn revoked(found: &Namespace, now: i64) -> Option<Namespace> {
        revoke(found, Password::random(), at(now), BUDGET)
    }

    #[test]
    fn a_revocation_leaves_no_earlier_password_and_the_new_one_is_handed_out_once_it_is_in_force() {
        let (found, fresh) = (live(), Password::random());
        let after = revoke(&found, fresh.clone(), at(4000), BUDGET).unwrap();
        let slot = found.rotation.active.as_ref().unwrap().slot;
        assert_eq!((after.rotation.active.as_ref(), after.rotation.password_of(slot.other())), (None, None));
        assert_eq!(after.rotation.password_of(slot), Some(&fresh));
        assert!(after.barred.is_pending() && after.barred.shut_until(at(4000)).is_none());
        assert_eq!(after.certain_until(HOUR), None, "nobody answers with it from memory");
        let settled = Namespace { rotation: after.rotation.settle(at(4001), HOUR), ..after.clone() };
        assert_eq!(settled.rotation.due, at(4001 + 3600));
        assert_eq!(revoked(&after, 4001), None, "it is under way");
        assert!(revoked(&settled, 4002).is_some_and(|again| again.rotation.pending != after.rotation.pending));
    }

    #[test]
    fn while_a_switch_is_under_way_the_user_that_it_writes_gets_no_new_password() {
        let found = live();
        let switching = Namespace { rotation: found.rotation.begin(Password::random(), at(7200)), ..found };
        let after = revoked(&switching, 7201).unwrap();
        assert_ne!(after.rotation.pending.unwrap().login.slot, switching.rotation.pending.unwrap().login.slot);
    }

    #[test]
    fn a_password_that_was_not_handed_out_stays() {
        let begun = Namespace { rotation: Rotation::first(Password::random(), at(0)), ..live() };
        let after = revoked(&begun, 1).unwrap();
        assert!(after.barred.is_pending() && after.rotation == begun.rotation && revoked(&after, 2).is_none());
        assert_eq!(after.barred.writing_until, Some(at(31)), "two may be at it");
        let lost = live().rotation.replace_lost(Some(Password::random()), Password::random(), at(4000));
        let after = revoked(&Namespace { rotation: lost.clone(), ..live() }, 4001).unwrap();
        assert_eq!(
            (after.rotation.previous, after.rotation.pending.unwrap().login),
            (None, lost.pending.unwrap().login)
        );
    }

    #[test]
    fn who_may_still_write_an_old_password_puts_off_the_new_one() {
        let found = Namespace { barred: Barred::default().with_writer(at(4020)), ..live() };
        let after = revoked(&found, 4000).unwrap();
        assert_eq!(after.barred.shut_until(at(4000)), Some(at(4020)));
        assert_eq!((after.barred.shut_until(at(4020)), after.rotation.pending.unwrap().since), (None, at(4020)));
        assert_eq!(found.barred.with_writer(at(4010)).writing_until, Some(at(4020)), "the last one counts");
        let ahead = Namespace { barred: Barred { writing_until: Some(at(90_000)), ..Barred::default() }, ..live() };
        assert_eq!(revoked(&ahead, 4000).unwrap().barred.shut_until(at(4000)), None, "by a clock that was ahead");
    }

    #[test]
    fn a_disabled_namespace_has_no_password_and_lives_on_when_it_is_enabled() {
        let after = disable(&live(), disabled(), at(4000), BUDGET).unwrap();
        assert!(Slot::BOTH.iter().all(|slot| after.rotation.password_of(*slot).is_none()));
        assert!(
            !enable(&after, Password::random(), at(4002), |_| None).unwrap().barred.revoked.unwrap().done,
            "it goes on"
        );
        assert!(after.barred.is_pending() && disable(&after, disabled(), at(4001), BUDGET).is_none());
        assert_eq!(revoked(&after, 4001), None);
        let enable = |found: &Namespace, now| enable(found, Password::random(), at(now), |_| Some(2 * HOUR));
        assert_eq!(enable(&live(), 4000), None);
        let soon = enable(&after, 4001).unwrap();
        assert_eq!((soon.expires, soon.matures), (at(20_000), Some(HOUR)));
        assert_eq!(soon.barred.shut_until(at(4001)), Some(at(4060)), "whoever blocks its users may not be done");
        let late = enable(&after, 90_000).unwrap();
        assert_eq!((late.expires, late.matures), (at(90_000).plus(DEFAULT_LIFETIME), Some(2 * HOUR)));
        assert!(late.barred.shut_until(at(90_000)).is_none() && late.rotation.pending.is_some());
    }

    #[test]
    fn a_release_makes_a_tombstone_that_nobody_claims_while_somebody_may_write_its_users() {
        let found = live();
        let gone = release(&found, at(4000), at(4060));
        assert_eq!(gone.gone.unwrap().blocked_until(at(4001), Duration::ZERO), at(4060));
        assert_eq!(give_back(&gone, &found, at(4001)).gone.unwrap().cleaning_until, None);
        let writing = Namespace { barred: Barred::default().with_writer(at(4020)), ..found.clone() };
        assert_eq!(give_back(&gone, &writing, at(4001)).gone.unwrap().cleaning_until, Some(at(4020)));
        let begun = Namespace { rotation: found.rotation.begin(Password::random(), at(3999)), ..found };
        assert_eq!(give_back(&gone, &begun, at(4001)).gone, gone.gone);
        let after = disable(&gone, disabled(), at(5000), BUDGET).unwrap();
        assert!(after.gone.is_some() && enable(&after, Password::random(), at(6000), |_| None).unwrap().gone.is_some());
    }
}
