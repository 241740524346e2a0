//! What became of a run of a scheduled task.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::plan::{Plan, Planned};

/// What became of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The task's name, as on the command line.
    pub task: &'static str,
    /// How many things it looked at.
    pub seen: usize,
    /// How many it changed.
    pub changed: usize,
    /// How many it failed to change; the log has each one's story, and the next run tries again.
    pub failed: usize,
    /// How many it was refused to remove, because that would have been too many.
    pub refused: usize,
    /// How long it took.
    pub took: Duration,
    /// Why nothing was done, or not all: another process is at it, the plan was too drastic, or it has to wait.
    pub held: Option<String>,
    /// What was noticed and left alone.
    pub reports: Vec<String>,
    /// What would have been done, in a dry run.
    pub plan: Option<Vec<Step>>,
}

/// A line of a plan, for people and scripts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is done.
    pub action: &'static str,
    /// What it is done to.
    pub object: String,
    /// Why.
    pub reason: String,
}

impl From<&Planned> for Step {
    fn from(planned: &Planned) -> Step {
        let Planned { action, reason } = planned;
        Step { action: action.verb(), object: action.to_string(), reason: reason.clone() }
    }
}

impl Outcome {
    /// Of a run that has not done anything yet.
    pub(super) fn of(task: &'static str) -> Outcome {
        Outcome { task, ..Outcome::default() }
    }

    /// Notes what a plan saw and was refused.
    pub(super) fn note(&mut self, plan: &Plan) {
        self.seen = self.seen.max(plan.seen);
        plan.reports.iter().for_each(|report| self.report(report));
        if let Some(refused) = &plan.refused {
            tracing::error!(r#type = "monitor.error", task = self.task, "{refused}");
            self.refused = refused.removals;
            self.held = Some(refused.to_string());
        }
    }

    /// Notes something that people should know of, and warns of it, once a run.
    pub(super) fn report(&mut self, report: &str) {
        if !self.reports.iter().any(|known| known == report) {
            tracing::warn!(r#type = "monitor.report", task = self.task, "{report}");
            self.reports.push(report.to_owned());
        }
    }

    /// Notes one success.
    pub(super) fn done(&mut self, step: &Step) {
        self.changed += 1;
        let Step { action, object, reason } = step;
        tracing::info!(
            r#type = "monitor.change",
            task = self.task,
            action,
            object,
            reason,
            "{action} {object}: {reason}"
        );
    }

    /// Notes one failure.
    pub(super) fn fail(&mut self, step: &Step, error: &dyn fmt::Display) {
        self.failed += 1;
        let Step { action, object, .. } = step;
        tracing::error!(
            r#type = "monitor.error",
            task = self.task,
            action,
            object,
            "{action} {object} failed: {error}"
        );
    }

    /// The result for scripts: `{task, seen, changed, failed, refused, ms, reports}`, with `held` where something kept it from
    /// its work, and in a dry run `plan`, a list of `{action, object, reason}`.
    pub fn to_json(&self) -> Value {
        let Outcome { task, seen, changed, failed, refused, took, held, reports, plan } = self;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut json = json!({
            "task": task, "seen": seen, "changed": changed, "failed": failed, "refused": refused, "ms": ms,
            "reports": reports,
        });
        if let Some(held) = held {
            json["held"] = json!(held);
        }
        if let Some(plan) = plan {
            let step =
                |Step { action, object, reason }: &Step| json!({"action": action, "object": object, "reason": reason});
            json["plan"] = plan.iter().map(step).collect();
        }
        json
    }
}

impl fmt::Display for Outcome {
    /// The summary line of a run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { task, seen, changed, failed, refused, .. } = self;
        let ms = self.took.as_millis();
        write!(f, "{task}: seen {seen}, changed {changed}, failed {failed}, refused {refused}, ms {ms}")?;
        match &self.held {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}
