//! The scheduled tasks, as people look at them and run them by hand: a dry run of each, and one run with more than its brakes allow.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::domain::audit::{By, Deed};
use crate::domain::expiry::ExpiryPolicy;
use crate::domain::plan::Brakes;
use crate::domain::sweep::SweepPolicy;

/// How long one waits until another dry run is over.
const PATIENCE: Duration = Duration::from_secs(10);

/// One of the scheduled tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Rotate what is due.
    Rotate,
    /// Repair and guard the broker.
    Monitor,
    /// End namespaces that have expired.
    Expire,
    /// Deliver what has to be told.
    Deliver,
}

impl Task {
    /// All of them.
    pub const ALL: [Task; 4] = [Task::Rotate, Task::Monitor, Task::Expire, Task::Deliver];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Task::Rotate => "rotate-namespaces",
            Task::Monitor => "monitor-rabbit",
            Task::Expire => "expire-namespaces",
            Task::Deliver => "deliver-notices",
        }
    }

    /// The task of this name.
    pub fn from_name(name: &str) -> Option<Task> {
        Task::ALL.into_iter().find(|task| task.name() == name)
    }

    /// Whether it can tell what it would do. To deliver, it would have to take what it delivers.
    pub fn plans(self) -> bool {
        self != Task::Deliver
    }

    /// Whether it has brakes.
    pub fn removes(self) -> bool {
        matches!(self, Task::Monitor | Task::Expire)
    }
}

/// How the tasks work that have a policy.
#[derive(Debug, Clone)]
pub struct TaskPolicies {
    /// How the broker is swept.
    pub sweep: SweepPolicy,
    /// How namespaces expire.
    pub expiry: ExpiryPolicy,
}

impl TaskPolicies {
    /// The same, where a run may remove so many things, whosever they are.
    fn allowing(&self, most: usize) -> TaskPolicies {
        let brakes = Brakes { most, percent: 100, owner_percent: 100 };
        let (mut sweep, mut expiry) = (self.sweep.clone(), self.expiry.clone());
        (sweep.brakes, expiry.brakes) = (brakes, brakes);
        TaskPolicies { sweep, expiry }
    }
}

impl Service {
    /// The turn to look at all that the broker has, which one has at a time.
    pub(super) async fn turn_to_look(&self) -> Result<MutexGuard<'_, ()>, ServiceError> {
        let turn = tokio::time::timeout(PATIENCE, self.plans.lock()).await;
        turn.map_err(|_| ServiceError::TooSlow("another look at all that RabbitMQ has"))
    }

    /// What a task would do now: its own dry run. Delivering has none: it would have to take what it delivers.
    ///
    /// # Errors
    /// [`ServiceError::TooSlow`] where others look at the same time; those of the task.
    pub async fn plan(&self, task: Task, policies: &TaskPolicies) -> Result<Option<Outcome>, ServiceError> {
        let _turn = self.turn_to_look().await?;
        Ok(match task {
            Task::Rotate => Some(self.rotate(true).await?),
            Task::Monitor => Some(self.sweep(&policies.sweep, true).await?),
            Task::Expire => Some(self.expire(&policies.expiry, true).await?),
            Task::Deliver => None,
        })
    }

    /// Runs a task that removes things once, where it may remove `most` things. What it has to tell is delivered by the task for that.
    ///
    /// # Errors
    /// [`ServiceError::NoBrakes`] for a task that removes nothing; those of the task and of the store.
    pub async fn run_with(
        &self,
        task: Task,
        policies: &TaskPolicies,
        most: usize,
        reason: &str,
        by: &By,
    ) -> Result<Outcome, ServiceError> {
        if !task.removes() {
            return Err(ServiceError::NoBrakes(task.name()));
        }
        let policies = policies.allowing(most);
        let why = format!("with up to {most} removals: {reason}");
        self.note(&[self.audit(by, Deed::RunTask, None, task.name(), &why)]).await?;
        let outcome = match task {
            Task::Monitor => self.sweep(&policies.sweep, false).await?,
            _ => self.expire(&policies.expiry, false).await?,
        };
        self.note_run(task.name(), Ok(&outcome)).await;
        Ok(outcome)
    }
}
