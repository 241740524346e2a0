//! The scheduled tasks: run once, or again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::iterations::Iterations;
use super::stop::{Stop, finish, stopped};
use crate::config::Config;
use crate::domain::expiry::ExpiryPolicy;
use crate::domain::sweep::SweepPolicy;
use crate::notify::Notifier;
pub use crate::service::Task;
use crate::service::{Outcome, Service, ServiceError, Step};

/// After a failure a loop waits twice as long as before, up to so many times its interval, or [`SOON`] where that is less.
const WIDEST: u32 = 16;

/// So soon at least is a task tried again that failed: it should not lie idle for hours because a neighbour was late.
const SOON: Duration = Duration::from_secs(5);

/// How long a run waits until it is noted how it went.
const NOTING: Duration = Duration::from_secs(1);

/// How long a loop waits that runs every so often, after so many failures in a row. What failed is overdue, so that it is
/// tried again sooner than the next run would come: a rotation that misses the time between two outages leaves the memory
/// of the web processes outdated in the second.
fn pause(every: Duration, failures: u32) -> Duration {
    match failures {
        0 => every,
        _ => (every.min(SOON) * WIDEST.min(1 << failures.min(31))).min(SOON.max(every / 2)),
    }
}

impl Task {
    pub(super) fn interval(self, config: &Config) -> Duration {
        match self {
            Task::Rotate => config.worker.rotate_interval,
            Task::Monitor => config.worker.monitor_interval,
            Task::Expire => config.worker.expire_interval,
            Task::Deliver => config.worker.deliver_interval,
        }
    }

    /// Whether it stores what owners are to be told.
    pub(super) fn tells(self) -> bool {
        matches!(self, Task::Monitor | Task::Expire)
    }
}

/// What the scheduled tasks need.
pub(super) struct Runner {
    pub(super) service: Arc<Service>,
    pub(super) notifier: Arc<dyn Notifier>,
    pub(super) sweep: SweepPolicy,
    pub(super) expiry: ExpiryPolicy,
    pub(super) mock: bool,
    /// How long a run may go on when the process is to end.
    pub(super) drain: Duration,
    /// What is counted of the runs.
    pub(super) iterations: Iterations,
    /// Wakes the loop that delivers, once there is something new.
    pub(super) news: Notify,
}

impl Runner {
    async fn run(&self, task: Task, dry_run: bool) -> Result<Outcome, ServiceError> {
        match task {
            Task::Rotate => self.service.rotate(dry_run).await,
            Task::Monitor => self.service.sweep(&self.sweep, dry_run).await,
            Task::Expire => self.service.expire(&self.expiry, dry_run).await,
            Task::Deliver => self.service.deliver(&*self.notifier, dry_run).await,
        }
    }

    /// Runs a task once; what it has to tell is delivered afterwards, so that no mail delays it.
    pub(super) async fn run_once(&self, task: Task, dry_run: bool) -> Result<Outcome, ServiceError> {
        let began = Instant::now();
        let ran = self.run(task, dry_run).await;
        let told = ran.as_ref().map_err(failed);
        self.note_run(task, began, told, dry_run).await;
        if !dry_run
            && task.tells()
            && let Err(error) = self.service.deliver(&*self.notifier, false).await
        {
            tracing::error!("what has to be told could not be delivered: {error}");
        }
        ran
    }

    /// Runs a task every so often until `stop`. A run that fails is logged and makes the pause longer; a panic is a failure
    /// like any other. What has to be told is left to the loop of [`Task::Deliver`], so that a mail server which hangs delays
    /// no other task.
    pub(super) async fn repeat(&self, task: Task, every: Duration, report: impl Fn(&Outcome), stop: Stop) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let run = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(self.run(task, self.mock)));
            let Some(ran) = finish(run, stop.clone(), self.drain).await else {
                tracing::warn!(?task, "the run did not finish within {:?}, and is cut off", self.drain);
                return;
            };
            let ran =
                ran.map_or_else(|_| Err("the run panicked".to_owned()), |ran| ran.map_err(|error| failed(&error)));
            self.note_run(task, began, ran.as_ref().map_err(String::clone), self.mock).await;
            let good = ran.is_ok_and(|outcome| {
                report(&outcome);
                if task.tells() && outcome.changed + outcome.failed > 0 {
                    self.news.notify_one();
                }
                // One bad thing among others is no reason to look after the others less often.
                outcome.failed == 0 || outcome.failed < outcome.seen
            });
            failures = if good { 0 } else { failures + 1 };
            tokio::select! {
                () = tokio::time::sleep(pause(every, failures)) => {}
                () = self.news.notified(), if task == Task::Deliver => {}
                () = stopped(stop.clone()) => return,
            }
        }
    }
}

impl Runner {
    /// Logs how a run went, and stores it for those who look; not that of a dry run, which has done nothing.
    async fn note_run(&self, task: Task, began: Instant, ran: Result<&Outcome, String>, dry_run: bool) {
        if let Some(times) = self.iterations.get(&(task.name(), ran.is_ok())) {
            times.observe(began.elapsed());
        }
        if !dry_run {
            let noting =
                self.service.note_run(task.name(), ran.as_ref().map(|outcome| *outcome).map_err(String::as_str));
            // A store that hangs delays no other run.
            let _ = tokio::time::timeout(NOTING, noting).await;
        }
        log_run(task, began, ran);
    }
}

fn failed(error: &ServiceError) -> String {
    format!("the run failed: {error}")
}

/// Logs how a run went, in Taskcluster's form: how long it took in milliseconds, and whether it came to its end.
fn log_run(task: Task, began: Instant, ran: Result<&Outcome, String>) {
    let (name, duration) = (task.name(), began.elapsed().as_secs_f64() * 1000.0);
    match ran {
        Ok(outcome) => {
            tracing::info!(r#type = "monitor.periodic", name, duration, status = "success", "{outcome}");
        }
        Err(error) => tracing::error!(r#type = "monitor.periodic", name, duration, status = "exception", "{error}"),
    }
}

/// Logs what a run would have done, where it was not to do it.
pub(super) fn log_plan(outcome: &Outcome) {
    for Step { action, object, reason } in outcome.plan.iter().flatten() {
        tracing::info!(r#type = "monitor.plan", task = outcome.task, "would {action} {object}: {reason}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_tried_again_at_growing_pauses_and_before_the_next_run_would_come() {
        let seconds = |every, failures| pause(Duration::from_secs(every), failures).as_secs();
        assert_eq!([0, 1, 2, 3, 9, u32::MAX].map(|failures| seconds(60, failures)), [60, 10, 20, 30, 30, 30]);
        assert_eq!([0, 1, 4, 5].map(|failures| seconds(3600, failures)), [3600, 10, 80, 80]);
        assert_eq!([0, 1, 2, 3].map(|failures| seconds(1, failures)), [1, 2, 4, 5]);
    }
}
