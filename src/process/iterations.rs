//! What is counted of runs of tasks, by Taskcluster's own name for it.

use crate::telemetry::metrics::{Table, Times};

/// The bounds of Taskcluster's times of iterations, in seconds.
const TIMES: &[f64] = &[1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 6000.0];

/// How long runs of tasks took, by whether they came to their end.
pub(super) type Iterations = Table<(&'static str, bool), Times>;

/// Nothing counted yet, of tasks of these names.
pub(super) fn iterations(tasks: impl IntoIterator<Item = &'static str>) -> Iterations {
    let labels = |task: &'static str, good: bool| {
        let status = if good { "success" } else { "exception" };
        ((task, good), vec![("name", task.into()), ("status", status.into())])
    };
    let keys = tasks.into_iter().flat_map(|task| [true, false].map(|good| labels(task, good)));
    Table::new(keys, || Times::new(TIMES)).sparse()
}
