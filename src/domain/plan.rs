//! Plans: what a run is going to do, each action with its reason. A plan is made by a pure function from what was seen; a
//! dry run stops there.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::action::Action;
use crate::domain::guard::HistoryChange;
use crate::domain::share::Owner;

/// An action and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub action: Action,
    /// Why: for the log, the plan that a dry run prints, and what RabbitMQ shows a client whose connection is closed.
    pub reason: String,
    /// Whose thing it decides to remove. `None` where it decides nothing: what is kept is kept, what was decided before is worked
    /// off, what its owner asked to end is ended, and connections that are too old are closed. A run does no more of that
    /// than it may, and leaves the rest to the next ones.
    pub decided_for: Option<Owner>,
}

/// What a run is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it was planned.
    pub actions: Vec<Planned>,
    /// What was noticed and is left alone.
    pub reports: Vec<String>,
    /// What is to be kept of what was seen of queues.
    pub histories: Vec<HistoryChange>,
    /// What is shown of queues that are not fine: name, verdict, and what is done or kept from being done.
    pub verdicts: Vec<Judged>,
    /// How many things of ours were seen.
    pub seen: usize,
    /// What it would have decided too much of, and does not do.
    pub refused: Vec<TooDrastic>,
    /// What it would have decided to remove then.
    pub withheld: Vec<Planned>,
    /// What was counted of what was seen, by name, for metrics.
    pub figures: Vec<(&'static str, usize)>,
}

impl Plan {
    /// Adds an action that decides nothing.
    pub(super) fn push(&mut self, action: impl Into<Action>, reason: impl Into<String>) {
        self.actions.push(Planned { action: action.into(), reason: reason.into(), decided_for: None });
    }

    /// Adds an action that decides to remove one of the things of `owner`.
    pub(super) fn decide(&mut self, owner: Owner, action: impl Into<Action>, reason: impl Into<String>) {
        self.actions.push(Planned { action: action.into(), reason: reason.into(), decided_for: Some(owner) });
    }

    /// How many things it removes.
    pub fn removals(&self) -> usize {
        self.actions.iter().map(|planned| planned.action.removals()).sum()
    }

    /// How many things it decides to remove, of each owner.
    fn decisions(&self) -> BTreeMap<&Owner, usize> {
        let mut decisions = BTreeMap::new();
        for owner in self.actions.iter().filter_map(|planned| planned.decided_for.as_ref()) {
            *decisions.entry(owner).or_default() += 1;
        }
        decisions
    }
}

/// What is shown of a queue that is not fine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// Its name.
    pub queue: String,
    /// The verdict in a word.
    pub state: &'static str,
    /// The verdict in a sentence.
    pub verdict: String,
    /// How many messages it has.
    pub messages: u64,
    /// What would be done now if the guard were allowed to.
    pub would: Option<&'static str>,
    /// Where it is above the limit, why it is not removed.
    pub held: Option<String>,
    /// Whether no reminders of it are sent, and until when.
    pub muted: Option<String>,
}

/// How much one run may remove, so that a mistake is seen before it does harm. Where it would decide to remove too many
/// things of one owner, it decides nothing about that owner's, and does the rest; where that is too much still, it decides
/// nothing at all. What needs no decision is rationed, so that nothing wedges and nobody gets all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brakes {
    /// At most this many things.
    pub most: usize,
    /// At most this many of a hundred of what it sees; but [`ALWAYS_ALLOWED`] things may always be removed.
    pub percent: usize,
    /// Of one owner's at most this many of a hundred of those, so that one alone can't use up what there is for all.
    pub owner_percent: usize,
}

/// So many removals are never too large a share, so that a small broker can be kept in order too.
pub const ALWAYS_ALLOWED: usize = 20;

/// Decisions that are too many for one run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TooDrastic {
    /// Those about the things of all.
    #[error(
        "the run would remove {removals} of {seen} things, and may remove at most {allowed}: nothing is removed. If it is \
         right to, raise monitor.maxRemovals (MONITOR_MAX_REMOVALS) or monitor.maxRemovalShare (MONITOR_MAX_REMOVAL_SHARE)"
    )]
    All {
        /// How many things it would remove.
        removals: usize,
        /// Of how many that it sees.
        seen: usize,
        /// How many it may remove.
        allowed: usize,
    },
    /// Those about the things of one owner.
    #[error(
        "the run would remove {removals} things of {owner}, and may remove at most {allowed} of one owner: nothing of that \
         owner is removed. If it is right to, raise monitor.maxRemovals (MONITOR_MAX_REMOVALS), monitor.maxRemovalShare \
         (MONITOR_MAX_REMOVAL_SHARE) or monitor.maxOwnerShare (MONITOR_MAX_OWNER_SHARE)"
    )]
    Of {
        /// Whose.
        owner: Owner,
        /// How many things of that owner it would remove.
        removals: usize,
        /// How many it may remove.
        allowed: usize,
    },
}

/// About whose things a run decides nothing.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    owners: BTreeSet<Owner>,
    /// About nobody's.
    pub all: bool,
}

impl Withheld {
    /// Whether this owner's are among them.
    pub fn has(&self, owner: &Owner) -> bool {
        self.all || self.owners.contains(owner)
    }
}

impl Brakes {
    /// How many things a run may remove that sees so many.
    pub fn allowed(self, seen: usize) -> usize {
        self.most.min((seen * self.percent / 100).max(ALWAYS_ALLOWED))
    }

    /// How many of them of one owner.
    pub fn allowed_of_one(self, seen: usize) -> usize {
        let allowed = self.allowed(seen);
        (allowed * self.owner_percent / 100).max(1).min(allowed)
    }

    /// How many things that need no decision `plan` may remove yet: what its decisions leave, but half of all at least, so that
    /// new decisions in each run keep nothing else from being done.
    pub(super) fn room(self, plan: &Plan) -> usize {
        let allowed = self.allowed(plan.seen);
        allowed.saturating_sub(plan.removals()).max(allowed / 2)
    }

    /// Passes the plan that `make` makes where nothing is withheld. Where that would decide to remove too much, passes the one
    /// that it makes without what is too much, with the refusal noted.
    pub(super) fn hold(self, make: impl Fn(&Withheld) -> Plan) -> Plan {
        let plan = make(&Withheld::default());
        let (seen, decisions) = (plan.seen, plan.decisions());
        let (allowed, allowed_of_one) = (self.allowed(seen), self.allowed_of_one(seen));
        let (over, others): (Vec<_>, Vec<_>) =
            decisions.into_iter().partition(|(_, removals)| *removals > allowed_of_one);
        let withheld = Withheld {
            all: others.iter().map(|(_, removals)| removals).sum::<usize>() > allowed,
            owners: over.iter().map(|(owner, _)| (*owner).clone()).collect(),
        };
        if !withheld.all && withheld.owners.is_empty() {
            return plan;
        }
        let refused = if withheld.all {
            let removals = over.iter().chain(&others).map(|(_, removals)| removals).sum();
            vec![TooDrastic::All { removals, seen, allowed }]
        } else {
            let of = |(owner, removals): (&Owner, usize)| TooDrastic::Of {
                owner: owner.clone(),
                removals,
                allowed: allowed_of_one,
            };
            over.into_iter().map(of).collect()
        };
        let is_withheld = |step: &Planned| step.decided_for.as_ref().is_some_and(|owner| withheld.has(owner));
        Plan { refused, withheld: plan.actions.into_iter().filter(is_withheld).collect(), ..make(&withheld) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::action::Removal;
    use crate::domain::history::Incarnation;
    use crate::domain::ladder::Watch;
    use crate::domain::name::Name;
    use crate::domain::namespace::Version;
    use crate::domain::watched::Watched;

    const BRAKES: Brakes = Brakes { most: 500, percent: 25, owner_percent: 50 };

    /// A plan to remove so many things of each owner, but for what is withheld.
    fn plan(removals: &[usize], seen: usize, withheld: &Withheld) -> Plan {
        let at = Timestamp::from_millis(0);
        let watched = |n: usize| Watched {
            queue: n.to_string(),
            namespace: Name::from_stored("taskcluster-x".into()),
            messages: 1,
            watch: Watch::new(Incarnation { first_seen: at, fingerprint: 0 }, at),
            decided: true,
            failure_told: None,
            version: Version(1),
        };
        let mut plan = Plan { seen, ..Plan::default() };
        for (owner, removals) in removals.iter().enumerate() {
            let owner = Owner::Client(owner.to_string());
            for n in (0..*removals).filter(|_| !withheld.has(&owner)) {
                plan.decide(owner.clone(), Action::Remove(watched(n), Removal::Delete { tried: false }), "because");
            }
        }
        plan
    }

    /// How many things are removed, how many withheld, and how many owners are named.
    fn held(removals: &[usize], seen: usize) -> (usize, usize, usize) {
        let held = BRAKES.hold(|withheld| plan(removals, seen, withheld));
        let named = held.refused.iter().filter(|refused| matches!(refused, TooDrastic::Of { .. })).count();
        assert_eq!(held.refused.is_empty(), held.withheld.is_empty());
        (held.removals(), held.withheld.len(), named)
    }

    #[test]
    fn a_run_removes_at_most_a_number_and_a_share() {
        assert_eq!(held(&[1; 20], 20), (20, 0, 0));
        assert_eq!(held(&[1; 21], 20), (0, 21, 0));
        assert_eq!(held(&[1; 25], 100), (25, 0, 0));
        assert_eq!(held(&[1; 26], 100), (0, 26, 0));
        assert_eq!(held(&[1; 500], 100_000), (500, 0, 0));
        assert_eq!(held(&[1; 501], 100_000), (0, 501, 0));
    }

    #[test]
    fn an_owner_that_is_over_its_share_is_left_out_and_stops_nobody_else() {
        assert_eq!(held(&[10, 1], 20), (11, 0, 0));
        assert_eq!(held(&[11, 1], 20), (1, 11, 1));
        assert_eq!(held(&[60, 1, 1, 60, 3], 20), (5, 120, 2));
        assert_eq!(held(&[250, 1], 100_000), (251, 0, 0));
        assert_eq!(held(&[251, 1], 100_000), (1, 251, 1));
        assert_eq!(held(&[10, 9, 2, 60], 20), (0, 81, 0), "too much without that owner too");
    }

    #[test]
    fn decisions_leave_room_for_what_needs_none() {
        let room = |removals: &[usize]| BRAKES.room(&plan(removals, 20, &Withheld::default()));
        assert_eq!([room(&[]), room(&[4]), room(&[10, 10])], [20, 16, 10]);
    }
}
