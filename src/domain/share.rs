//! Divides a limited amount fairly: a party that wants much takes nothing from one that wants little, and nothing is
//! left over while any party wants more.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::clock::Timestamp;
use crate::domain::name::Name;

/// Who a thing counts for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// The client that claimed it; with temporary credentials, the client that issued them.
    Client(String),
    /// The namespace itself, if we don't know who claimed it.
    Namespace(Name),
    /// Nobody that the store knows of.
    Nobody,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Client(client) => write!(f, "client {client}"),
            Owner::Namespace(name) => write!(f, "namespace {name}"),
            Owner::Nobody => f.write_str("namespaces that are not in the store"),
        }
    }
}

/// Divides `room` among parties that want this much each. Each gets what it wants, but at most the first result. The
/// second result is how many of the parties that want more get one more, so that nothing is left over.
pub fn level(wants: impl Iterator<Item = usize>, room: usize) -> (usize, usize) {
    let (mut wants, mut room): (Vec<usize>, usize) = (wants.collect(), room);
    wants.sort_unstable();
    let count = wants.len();
    for (at, want) in wants.into_iter().enumerate() {
        let left = count - at;
        if want > room / left {
            return (room / left, room % left);
        }
        room -= want;
    }
    (usize::MAX, 0)
}

/// How much of `room` each gets. The remainder that can't be divided goes to parties that change with `now`, so that
/// each has its turn some day.
pub fn shares<K: Ord + Hash + Clone>(wants: &BTreeMap<K, usize>, room: usize, now: Timestamp) -> BTreeMap<K, usize> {
    let (level, rest) = level(wants.values().copied(), room);
    let mut shares: BTreeMap<K, usize> = wants.iter().map(|(who, want)| (who.clone(), (*want).min(level))).collect();
    let mut eager: Vec<_> = wants.iter().filter(|(_, want)| **want > level).map(|(who, _)| who).collect();
    eager.sort_by_cached_key(|who| place(now, who));
    for who in eager.into_iter().take(rest) {
        *shares.entry(who.clone()).or_default() += 1;
    }
    shares
}

/// The same for owners that want several things each: first each owner gets its share, then each of its things gets a
/// share of that.
pub fn shares_by_owner<K: Ord + Hash + Clone>(
    wants: &BTreeMap<(Owner, K), usize>,
    room: usize,
    now: Timestamp,
) -> BTreeMap<(Owner, K), usize> {
    let mut of_owner: BTreeMap<&Owner, BTreeMap<&K, usize>> = BTreeMap::new();
    for ((owner, what), want) in wants {
        of_owner.entry(owner).or_default().insert(what, *want);
    }
    let totals = of_owner.iter().map(|(owner, wants)| (*owner, wants.values().sum())).collect();
    let rooms = shares(&totals, room, now);
    let of_one = |(owner, wants): (&Owner, BTreeMap<&K, usize>)| {
        let shares = shares(&wants, rooms.get(&owner).copied().unwrap_or_default(), now);
        shares.into_iter().map(|(what, share)| ((owner.clone(), what.clone()), share)).collect::<Vec<_>>()
    };
    of_owner.into_iter().flat_map(of_one).collect()
}

/// Where a run that begins `now` begins with the things of `owner`: as good as random, so that it is each place's turn some
/// day whatever the time between two runs.
pub(super) fn place(now: Timestamp, owner: impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    (now, owner).hash(&mut hasher);
    // What is cut off does not matter.
    hasher.finish() as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn shared(wants: &[usize], room: usize) -> Vec<usize> {
        let wants = wants.iter().copied().enumerate().collect();
        shares(&wants, room, at(0)).into_values().collect()
    }

    #[test]
    fn who_wants_little_gets_it_and_the_others_share_what_is_left() {
        assert_eq!(shared(&[1, 2], 10), [1, 2]);
        assert_eq!(shared(&[1000, 1, 3], 10), [6, 1, 3]);
        assert_eq!(shared(&[1000, 1, 1000], 11), [5, 1, 5]);
        assert_eq!(shared(&[7], 0), [0]);
        assert_eq!(shared(&[], 5), [0; 0]);
        for room in 0..40 {
            let given = shared(&[9, 0, 4, 1, 9, 7], room);
            assert_eq!(given.iter().sum::<usize>(), room.min(30), "{given:?}");
        }
    }

    #[test]
    fn it_is_everybodys_turn_some_day() {
        let wants: BTreeMap<_, _> = (0..20).map(|who| (who, 1)).collect();
        let mut had = [false; 20];
        for run in 0..200 {
            let given = shares(&wants, 2, at(run));
            assert_eq!(given.values().sum::<usize>(), 2);
            given.iter().filter(|(_, share)| **share > 0).for_each(|(who, _)| had[*who] = true);
        }
        assert_eq!(had, [true; 20]);
    }

    #[test]
    fn an_owner_of_many_things_gets_no_more_than_an_owner_of_one() {
        let client = |name: &str| Owner::Client(name.to_owned());
        let mut wants: BTreeMap<_, _> = (0..50).map(|n| ((client("a"), n), 10)).collect();
        wants.insert((client("b"), 0), 10);
        wants.insert((client("b"), 1), 1000);
        let given = shares_by_owner(&wants, 40, at(0));
        let of = |name| given.iter().filter(|((owner, _), _)| *owner == client(name)).map(|(_, n)| n).sum::<usize>();
        assert_eq!((of("a"), of("b")), (20, 20));
        assert_eq!((given[&(client("b"), 0)], given[&(client("b"), 1)]), (10, 10));
    }

    #[test]
    fn runs_that_are_as_far_apart_as_can_be_thought_of_begin_everywhere() {
        for apart in [1, 60, 3600, 3617].map(Duration::from_secs) {
            let at = |run: u32| Timestamp::from_millis(1_700_000_000_000).plus(apart * run);
            let places: BTreeSet<_> = (0..200).map(|run| place(at(run), "taskcluster-x") % 20).collect();
            assert_eq!(places.len(), 20, "{apart:?}");
        }
    }
}
