//! How the console is served.

use crate::access::people::People;
use crate::domain::guard::GuardPolicy;
use crate::service::TaskPolicies;

/// How the console is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How people sign in.
    pub people: People,
    /// What the guard does about queues, to be told.
    pub guard: GuardPolicy,
    /// How the tasks work, to be shown and run by hand.
    pub tasks: TaskPolicies,
}
