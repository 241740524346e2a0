//! Plans: what a run is going to do, each action with its reason. A plan is made by a pure function from what was seen; a
//! dry run stops there.

use std::fmt;

use crate::domain::alert::Alert;
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::Namespace;
use crate::domain::notice::Event;
use crate::domain::snapshot::Remains;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Give the user the password and the tag that the store says, and its permissions.
    RepairUser(Name, Slot),
    /// Give the user its permissions.
    RepairPermissions(Name, Slot),
    /// Store the alert; nobody is told.
    Remember(Alert),
    /// Store the alert, and tell the owner.
    Tell(Alert, Event),
    /// Remove the alert, because the queue has few messages again; tell the owner where it was told before.
    Forget(Alert, Option<Event>),
    /// The queue is not in the listing. If it is really gone, remove the alert, and tell the owner if we were deleting it.
    LookFor(Alert),
    /// Store the alert, and delete the queue that it is about.
    DeleteQueue {
        /// The alert.
        alert: Alert,
        /// Whether an earlier run stored that it would delete the queue, and did not tell that it is gone.
        tried: bool,
    },
    /// Close a connection.
    CloseConnection {
        /// Its name.
        connection: String,
        /// The user that logged in.
        user: String,
    },
    /// Store the tombstone of a namespace that has expired. Its owner is told if it was warned before.
    Bury(Namespace, Option<Event>),
    /// Store that the owner of the namespace is told of its coming end, and tell.
    WarnOfExpiry(Namespace, Event),
    /// Store a tombstone for a namespace of which the broker holds something and the store knows nothing.
    BuryOrphan(Namespace),
    /// Delete what the broker holds of a namespace that is gone.
    Clean(Namespace, Remains),
    /// Remove the tombstone of a namespace of which the broker holds nothing any more.
    ForgetNamespace(Namespace),
}

impl Action {
    /// How many things it decides to remove. Working off what was decided before, and closing connections that are too
    /// old, is no decision: a run does no more of that than it may, and leaves the rest to the next ones.
    pub fn decisions(&self) -> usize {
        match self {
            Action::DeleteQueue { .. } | Action::Bury(..) | Action::BuryOrphan(_) => 1,
            _ => 0,
        }
    }

    /// How many things at the broker it removes, or marks for removal.
    pub fn removals(&self) -> usize {
        match self {
            Action::DeleteQueue { .. } | Action::CloseConnection { .. } => 1,
            Action::Bury(..) | Action::BuryOrphan(_) => 1,
            Action::Clean(_, remains) => remains.count(),
            _ => 0,
        }
    }

    /// The verb, for tables and logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::RepairUser(..) => "repair user",
            Action::RepairPermissions(..) => "repair permissions",
            Action::Remember(_) => "remember",
            Action::Tell(..) => "warn of queue",
            Action::Forget(..) => "queue is normal",
            Action::LookFor(_) => "look for queue",
            Action::DeleteQueue { .. } => "delete queue",
            Action::CloseConnection { .. } => "close connection",
            Action::Bury(..) => "expire namespace",
            Action::WarnOfExpiry(..) => "warn of expiry",
            Action::BuryOrphan(_) => "expire unknown namespace",
            Action::Clean(..) => "clean up",
            Action::ForgetNamespace(_) => "forget namespace",
        }
    }
}

impl fmt::Display for Action {
    /// What the action is done to.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::RepairUser(name, slot) | Action::RepairPermissions(name, slot) => {
                write!(f, "{name}-{}", slot.number())
            }
            Action::Remember(alert)
            | Action::Tell(alert, _)
            | Action::Forget(alert, _)
            | Action::LookFor(alert)
            | Action::DeleteQueue { alert, .. } => f.write_str(&alert.queue),
            Action::CloseConnection { connection, user } => write!(f, "{connection} of {user}"),
            Action::Bury(namespace, _)
            | Action::WarnOfExpiry(namespace, _)
            | Action::BuryOrphan(namespace)
            | Action::ForgetNamespace(namespace) => write!(f, "{}", namespace.name),
            Action::Clean(namespace, remains) => {
                let Remains { users, connections, queues, exchanges } = remains;
                let (u, c, q, e) = (users.len(), connections.len(), queues.len(), exchanges.len());
                write!(f, "{} (users {u}, connections {c}, queues {q}, exchanges {e})", namespace.name)
            }
        }
    }
}

/// An action and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// What to do.
    pub action: Action,
    /// Why: for the log, the plan that a dry run prints, and what RabbitMQ shows a client whose connection is closed.
    pub reason: String,
}

/// What a run is going to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which it was planned.
    pub actions: Vec<Planned>,
    /// What was noticed and is left alone.
    pub reports: Vec<String>,
    /// How many things of ours were seen.
    pub seen: usize,
    /// Set where it would have decided to remove too much: nothing is removed then.
    pub refused: Option<TooDrastic>,
    /// What it would have decided to remove then; a dry run shows it.
    pub withheld: Vec<Planned>,
}

impl Plan {
    /// Adds an action.
    pub(super) fn push(&mut self, action: Action, reason: impl Into<String>) {
        self.actions.push(Planned { action, reason: reason.into() });
    }

    /// How many things it removes.
    pub fn removals(&self) -> usize {
        self.actions.iter().map(|planned| planned.action.removals()).sum()
    }
}

/// How much one run may remove. A run that would decide to remove more removes nothing, so that a mistake is seen before
/// it does harm; what needs no decision is rationed, so that nothing wedges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Brakes {
    /// At most this many things.
    pub most: usize,
    /// At most this many of a hundred of what it sees; but [`ALWAYS_ALLOWED`] things may always be removed.
    pub percent: usize,
}

/// So many removals are never too large a share, so that a small broker can be kept in order too.
pub const ALWAYS_ALLOWED: usize = 20;

/// A plan that would decide to remove more than one run may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the run would remove {removals} of {seen} things, and may remove at most {allowed}: nothing is removed. If it is \
     right to, raise monitor.maxRemovals (MONITOR_MAX_REMOVALS) or monitor.maxRemovalShare (MONITOR_MAX_REMOVAL_SHARE)"
)]
pub struct TooDrastic {
    /// How many things it would remove.
    pub removals: usize,
    /// Of how many that it sees.
    pub seen: usize,
    /// How many it may remove.
    pub allowed: usize,
}

impl Brakes {
    /// How many things a run may remove that sees so many.
    pub fn allowed(self, seen: usize) -> usize {
        self.most.min((seen * self.percent / 100).max(ALWAYS_ALLOWED))
    }

    /// Passes the plan that `make(true)` makes. Where that would decide to remove too much, passes the one that `make(false)`
    /// makes, which must remove nothing, with the refusal noted.
    pub(super) fn hold(self, make: impl Fn(bool) -> Plan) -> Plan {
        let plan = make(true);
        let seen = plan.seen;
        let (removals, allowed) = (plan.actions.iter().map(|step| step.action.decisions()).sum(), self.allowed(seen));
        if removals <= allowed {
            return plan;
        }
        let withheld = plan.actions.into_iter().filter(|step| step.action.decisions() > 0).collect();
        Plan { refused: Some(TooDrastic { removals, seen, allowed }), withheld, ..make(false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::alert::Level;
    use crate::domain::namespace::Version;

    fn plan(removals: usize, seen: usize) -> Plan {
        let alert = |n: usize| Alert {
            queue: n.to_string(),
            namespace: Name::from_stored("taskcluster-x".into()),
            level: Level::Deleting,
            since: Timestamp::from_millis(0),
            messages: 1,
            seen: Timestamp::from_millis(0),
            growth: None,
            told: None,
            version: Version(1),
        };
        let mut plan = Plan { seen, ..Plan::default() };
        (0..removals).for_each(|n| plan.push(Action::DeleteQueue { alert: alert(n), tried: false }, "because"));
        plan
    }

    fn refused(removals: usize, seen: usize) -> bool {
        let brakes = Brakes { most: 500, percent: 25 };
        let held = brakes.hold(|may_remove| plan(if may_remove { removals } else { 0 }, seen));
        assert_eq!(held.refused.is_some(), held.removals() != removals);
        held.refused.is_some()
    }

    #[test]
    fn a_run_removes_at_most_a_number_and_a_share() {
        assert!(!refused(20, 20));
        assert!(refused(21, 20));
        assert!(!refused(25, 100));
        assert!(refused(26, 100));
        assert!(!refused(500, 100_000));
        assert!(refused(501, 100_000));
    }
}
