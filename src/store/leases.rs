//! Leases: who alone runs a task; and how the last run of each went.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::table::{Foreign, Row, Table as _, table};

/// How the last run of a task went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRun {
    /// The task's name, as on the command line.
    pub task: String,
    /// When it ended.
    pub at: Timestamp,
    /// Whether it came to its end.
    pub good: bool,
    /// What became of it, in a line.
    pub summary: String,
    /// How many things it was refused to remove, because that would have been too many.
    pub refused: u64,
    /// What it counted, by name. Where that is nothing, what the last run counted that counted something.
    pub figures: BTreeMap<String, u64>,
    /// When a run last came to its end, this one or an earlier one. It is not written: the store finds it.
    pub good_at: Option<Timestamp>,
}

/// The leases of the service.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Gives `holder` the sole right to `task` until `until`, if nobody else has it at `now`. The holder itself may extend
    /// it. `false` where somebody else has it. A lease that ends later than `until` is nobody's: it was taken by a clock that
    /// was ahead, or comes from a time that was undone.
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError>;

    /// Gives up the right that `holder` has to `task`.
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError>;

    /// Notes how a run went, in place of the one before.
    async fn note_run(&self, run: &TaskRun) -> Result<(), StoreError>;

    /// How the last run of each task went, in the order of their names.
    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError>;
}

table! {
    /// A run as it is stored.
    RunRow in "task_run" {
        task: String,
        at: i64,
        good: bool,
        summary: Foreign,
        refused: i64,
        figures: Foreign,
        good_at: Option<i64>,
    }
}

/// The statement that notes a run: its parameters are the task, when it ended, whether it came to its end, what became of it, how much
/// it was refused, its figures, which are empty where those before stay, and when it ended if it came to its end.
pub(super) const NOTE_RUN: &str = "INSERT INTO task_run AS old (task, at, good, summary, refused, figures, good_at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (task) DO UPDATE SET at = excluded.at, \
     good = excluded.good, summary = excluded.summary, refused = excluded.refused, good_at = coalesce(excluded.good_at, old.good_at), \
     figures = CASE WHEN excluded.figures = '{}' THEN old.figures ELSE excluded.figures END";

/// The figures of a run as they are stored.
pub(super) fn figures_text(run: &TaskRun) -> String {
    serde_json::json!(run.figures).to_string()
}

/// Reads the columns of a [`RunRow`].
pub(super) fn run(row: &impl Row) -> Result<TaskRun, StoreError> {
    let RunRow { task, at, good, summary, refused, figures, good_at } = RunRow::read(row, 0)?;
    // What a later program notes there is none of ours.
    let figures = serde_json::from_str(&figures.0).unwrap_or_default();
    let (refused, good_at) = (refused.unsigned_abs(), good_at.map(Timestamp::from_millis));
    Ok(TaskRun { task, at: Timestamp::from_millis(at), good, summary: summary.0, refused, figures, good_at })
}

/// The query for all.
pub(super) fn all_runs() -> String {
    RunRow::select("ORDER BY task")
}
