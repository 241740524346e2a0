//! Which refusals were stored in the audit trail lately.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::rights::Right;

/// A refusal is stored once in this time, however often the same is asked; and so many of one client, and of all.
const REFUSED_AGAIN: Duration = Duration::from_secs(3600);
const REFUSALS_OF_ONE: usize = 20;
const REFUSALS: usize = 1000;

/// Which refusals were stored lately. Whoever is refused may ask for something else each time, and that must not fill the
/// trail.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Lately>);

/// Since when they are counted, and what each client was refused.
type Lately = (Option<Timestamp>, HashMap<String, HashSet<(Right, Option<Name>)>>);

impl Refusals {
    /// Whether this one is to be stored.
    pub(super) fn is_new(&self, client: &str, right: Right, namespace: Option<&Name>, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, refused) = &mut *known;
        if since.is_none_or(|since| now < since || now.since(since) >= REFUSED_AGAIN) {
            (*since, *refused) = (Some(now), HashMap::new());
        }
        let total: usize = refused.values().map(HashSet::len).sum();
        // Nothing is kept of whom nothing is stored: names of temporary credentials cost nothing.
        if total >= REFUSALS {
            return false;
        }
        let own = refused.entry(client.to_owned()).or_default();
        own.len() < REFUSALS_OF_ONE && own.insert((right, namespace.cloned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_stored_once_an_hour_and_no_client_fills_the_trail() {
        let (refusals, name) = (Refusals::default(), Name::from_stored("taskcluster-x".to_owned()));
        let at = |minutes: i64| Timestamp::from_millis(minutes * 60_000);
        let new = |client: &str, right, minutes| refusals.is_new(client, right, Some(&name), at(minutes));
        assert!(new("a", Right::Claim, 0) && !new("a", Right::Claim, 59) && new("a", Right::Own, 59));
        assert!(new("b", Right::Claim, 59) && new("a", Right::Claim, 60));
        let other = |n: usize| Name::from_stored(format!("taskcluster-{n}"));
        let stored = |client: &str, count: usize| {
            (0..count).filter(|n| refusals.is_new(client, Right::See, Some(&other(*n)), at(61))).count()
        };
        assert_eq!((stored("a", 100), stored("b", 3)), (REFUSALS_OF_ONE - 1, 3));
        assert_eq!((0..200).map(|n| stored(&format!("c{n}"), 10)).sum::<usize>(), REFUSALS - REFUSALS_OF_ONE - 3);
        assert!(refusals.0.lock().unwrap().1.values().all(|own| !own.is_empty()), "clients are kept for nothing");
    }
}
