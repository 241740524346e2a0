//! What a claim does to what the store holds.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::namespace::{Namespace, Version};
use crate::domain::rotation::Rotation;
use crate::secret::Password;

/// What a caller asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequest {
    /// The namespace.
    pub name: Name,
    /// When it shall expire. Where left out, [`DEFAULT_LIFETIME`] from now, but never earlier than it already would.
    pub expires: Option<Timestamp>,
    /// Who shall be told of its troubles, empty for nobody. Where left out, whoever is told already.
    pub contact: Option<String>,
}

/// How long a namespace lives whose claim doesn't say (as in 2018).
pub const DEFAULT_LIFETIME: Duration = Duration::from_secs(4 * 3600);

/// What to do about a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has claimed this name: insert this record.
    Create(Namespace),
    /// Something of it changes or is just changing, or it comes back from the dead: write this record over the one that was
    /// found.
    Change(Namespace),
    /// It stands as asked for.
    Keep,
    /// It is being cleaned up; ask again then.
    Wait(Timestamp),
}

/// Decides what `asked` makes of `found`, the record in the store. `fresh` gives the password that a new or revived
/// namespace begins with.
///
/// For `margin`, whoever read the record before it became a tombstone may still act on that, and overwrite the passwords
/// of a namespace that is revived meanwhile.
pub fn decide_claim(
    found: Option<&Namespace>,
    asked: &ClaimRequest,
    now: Timestamp,
    margin: Duration,
    fresh: impl FnOnce() -> Password,
) -> Claim {
    let default = now.plus(DEFAULT_LIFETIME);
    match found {
        Some(namespace) if namespace.gone.is_none() => {
            let claimed = Namespace {
                expires: asked.expires.unwrap_or(namespace.expires.max(default)),
                contact: asked.contact.clone().unwrap_or_else(|| namespace.contact.clone()),
                ..namespace.clone()
            };
            // While the next password is being put in force, the record is written even so: whoever promotes that password
            // with a time read before this claim loses then, and reads the time again. See `Rotation::settle`.
            let switching = namespace.rotation.active.is_some() && namespace.rotation.pending.is_some();
            if claimed == *namespace && !switching { Claim::Keep } else { Claim::Change(claimed) }
        }
        Some(Namespace { gone: Some(gone), .. }) if gone.blocked_until(now, margin) > now => {
            Claim::Wait(gone.blocked_until(now, margin))
        }
        other => {
            let begun = Namespace {
                name: asked.name.clone(),
                contact: asked.contact.clone().unwrap_or_default(),
                created: now,
                expires: asked.expires.unwrap_or(default),
                rotation: Rotation::first(fresh(), now),
                gone: None,
                warned: None,
                version: other.map_or(Version::new_at(now), |tombstone| tombstone.version),
            };
            if other.is_some() { Claim::Change(begun) } else { Claim::Create(begun) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::namespace::Gone;

    const MARGIN: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn asked(expires: Option<i64>, contact: Option<&str>) -> ClaimRequest {
        let name = Name::from_stored("taskcluster-x".into());
        ClaimRequest { name, expires: expires.map(at), contact: contact.map(str::to_owned) }
    }

    fn known() -> Namespace {
        let Claim::Create(namespace) =
            decide_claim(None, &asked(None, Some("a@a.com")), at(0), MARGIN, Password::random)
        else {
            panic!("a claim of an unknown name creates it");
        };
        Namespace { version: Version(1), ..namespace }
    }

    fn decide(found: &Namespace, asked: &ClaimRequest, now: i64) -> Claim {
        decide_claim(Some(found), asked, at(now), MARGIN, || panic!("a live namespace needs no new password"))
    }

    #[test]
    fn a_new_namespace_lives_four_hours_and_warns_nobody() {
        let decided = decide_claim(None, &asked(None, None), at(100), MARGIN, Password::random);
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
    fn what_is_said_counts_even_if_it_shortens_or_is_past_or_clears() {
        let Claim::Change(changed) = decide(&known(), &asked(Some(-5), Some("")), 100) else { panic!() };
        assert_eq!((changed.expires, changed.contact.as_str()), (at(-5), ""));
    }

    #[test]
    fn a_gone_namespace_comes_back_with_fresh_passwords_once_nobody_cleans_it() {
        let gone = |cleaning_until| Namespace { gone: Some(Gone { since: at(50), cleaning_until }), ..known() };
        assert_eq!(decide(&gone(Some(at(200))), &asked(None, None), 199), Claim::Wait(at(200)));
        for cleaning_until in [None, Some(at(200))] {
            let found = gone(cleaning_until);
            let decided = decide_claim(Some(&found), &asked(None, None), at(200), MARGIN, Password::random);
            let Claim::Change(revived) = decided else { panic!() };
            assert_eq!((revived.gone, revived.created, revived.version), (None, at(200), found.version));
            assert_ne!(revived.rotation.pending, found.rotation.pending);
            assert_eq!(revived.contact, "");
        }
    }

    #[test]
    fn a_gone_namespace_stays_so_while_somebody_may_act_on_what_it_was() {
        let buried = |since| Namespace { gone: Some(Gone { since: at(since), cleaning_until: None }), ..known() };
        let decide =
            |since, now| decide_claim(Some(&buried(since)), &asked(None, None), at(now), MARGIN, Password::random);
        assert_eq!(decide(50, 79), Claim::Wait(at(80)));
        assert!(matches!(decide(50, 80), Claim::Change(_)));
        assert_eq!(decide(50, 40), Claim::Wait(at(80)), "the clock of whoever buried it may be ahead");
        assert!(matches!(decide(50_000, 40), Claim::Change(_)), "what nobody claimed is buried ahead of time");
    }
}
