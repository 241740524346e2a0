//! What became of a run of a scheduled task.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::domain::plan::{Judged, Plan, Planned, TooDrastic};
use crate::domain::share::Owner;

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
    /// How many it decided to remove, with those that it was refused.
    pub removals: usize,
    /// Whose they are, and which.
    pub withheld: Vec<Withheld>,
    /// How long it took.
    pub took: Duration,
    /// Why nothing was done, or not all: another process is at it, the plan was too drastic, or it has to wait.
    pub held: Option<String>,
    /// What was noticed and left alone.
    pub reports: Vec<String>,
    /// What would have been done, in a dry run.
    pub plan: Option<Vec<Step>>,
    /// What is the matter with queues, in a dry run; of others, those that the guard may not act on.
    pub verdicts: Vec<Judged>,
    /// What it counted beyond that, by name, for metrics.
    pub figures: BTreeMap<&'static str, usize>,
    /// Whether another process has the task, so that this run did nothing.
    pub elsewhere: bool,
}

/// What was withheld of one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withheld {
    /// Whose.
    pub owner: String,
    /// What would have been done.
    pub steps: Vec<Step>,
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
        let Planned { action, reason, .. } = planned;
        Step { action: action.verb(), object: action.to_string(), reason: reason.clone() }
    }
}

impl Step {
    /// A step that is not taken.
    pub(super) fn withheld(planned: &Planned) -> Step {
        let step = Step::from(planned);
        let owner = planned.decided_for.as_ref().map(|owner| format!(" of {owner}")).unwrap_or_default();
        Step { reason: format!("withheld, one of too many{owner}: {}", step.reason), ..step }
    }
}

/// How many refusals are told in one sentence.
const TOLD: usize = 5;

impl Outcome {
    /// Of a run that has not done anything yet.
    pub(super) fn of(task: &'static str) -> Outcome {
        Outcome { task, ..Outcome::default() }
    }

    /// Notes what a plan saw and was refused.
    pub(super) fn note(&mut self, plan: &Plan) {
        self.seen = self.seen.max(plan.seen);
        self.figures.extend(plan.figures.iter().map(|(name, count)| (*name, *count)));
        let withheld: usize = plan.withheld.iter().map(|planned| planned.action.removals()).sum();
        self.removals = self.removals.max(plan.removals() + withheld);
        plan.reports.iter().for_each(|report| self.report(report));
        if plan.refused.is_empty() {
            return;
        }
        let told: Vec<_> = plan.refused.iter().take(TOLD).map(TooDrastic::to_string).collect();
        let more = plan.refused.len() - told.len();
        let more = if more > 0 { format!("; and so for {more} other owners") } else { String::new() };
        let told = told.join("; ") + &more;
        tracing::error!(r#type = "monitor.error", task = self.task, "{told}");
        let mut withheld: BTreeMap<_, Vec<Step>> = BTreeMap::new();
        for planned in &plan.withheld {
            withheld.entry(&planned.decided_for).or_default().push(planned.into());
        }
        let of = |(owner, steps): (&Option<Owner>, _)| {
            let owner = owner.as_ref().map(Owner::to_string).unwrap_or_default();
            Withheld { owner, steps }
        };
        self.withheld = withheld.into_iter().map(of).collect();
        self.refused = plan.withheld.len();
        self.held = Some(told);
    }

    /// Notes what is the matter with queues: all of it in a dry run, else what the guard would have done if it were allowed.
    pub(super) fn show(&mut self, plan: &Plan, dry_run: bool) {
        for judged in &plan.verdicts {
            if let (false, Some(note)) = (dry_run, &judged.would) {
                self.report(&format!("queue {} {note}: {}", judged.queue, judged.verdict));
            }
        }
        if dry_run {
            self.verdicts.clone_from(&plan.verdicts);
        }
    }

    /// Notes something that people should know of, and warns of it, once a run.
    pub(super) fn report(&mut self, report: &str) {
        if !self.reports.iter().any(|known| known == report) {
            tracing::warn!(r#type = "monitor.report", task = self.task, "{report}");
            self.reports.push(report.to_owned());
        }
    }

    /// Notes something that people should know of, and that whoever found it has logged.
    pub(super) fn mention(&mut self, report: String) {
        if !self.reports.contains(&report) {
            self.reports.push(report);
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

    /// What the run counted, by name, for metrics; nothing where another process has the task.
    pub fn counted(&self) -> BTreeMap<&'static str, usize> {
        if self.elsewhere {
            return BTreeMap::new();
        }
        let Outcome { seen, changed, failed, refused, .. } = *self;
        let mut counted =
            BTreeMap::from([("seen", seen), ("changed", changed), ("failed", failed), ("withheld", refused)]);
        counted.extend(&self.figures);
        counted
    }

    /// The result for scripts: `{task, seen, changed, failed, refused, ms, reports}`, with `held` where something kept it from
    /// its work, `withheld` where it was refused a part of it, a list of `{owner, refused, plan}`, and in a dry run `plan`,
    /// a list of `{action, object, reason}`, and `verdicts` on queues that are not fine, a list of `{queue, state, verdict,
    /// messages, would, held, muted}`.
    pub fn to_json(&self) -> Value {
        let Outcome { task, seen, changed, failed, refused, withheld, took, held, reports, plan, verdicts, .. } = self;
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut json = json!({
            "task": task, "seen": seen, "changed": changed, "failed": failed, "refused": refused, "ms": ms,
            "reports": reports,
        });
        if let Some(held) = held {
            json["held"] = json!(held);
        }
        let steps = |steps: &[Step]| -> Value {
            let step =
                |Step { action, object, reason }: &Step| json!({"action": action, "object": object, "reason": reason});
            steps.iter().map(step).collect()
        };
        if !withheld.is_empty() {
            let of = |of: &Withheld| json!({"owner": of.owner, "refused": of.steps.len(), "plan": steps(&of.steps)});
            json["withheld"] = withheld.iter().map(of).collect();
        }
        if let Some(plan) = plan {
            json["plan"] = steps(plan);
        }
        if !verdicts.is_empty() {
            let of = |Judged { queue, state, verdict, messages, would, held, muted }: &Judged| {
                json!({
                    "queue": queue, "state": state, "verdict": verdict, "messages": messages, "would": would, "held": held,
                    "muted": muted,
                })
            };
            json["verdicts"] = verdicts.iter().map(of).collect();
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
