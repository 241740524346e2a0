//! Handlers for the scheduled tasks: how they went, what one would do, and one run with more than its brakes allow.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context, Params};
use super::error::ApiError;
use crate::service::{Outcome, Step, Task, TaskRun, Withheld};

/// So many steps of a plan are told.
const STEPS: usize = 10_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunBody {
    may_remove: usize,
    reason: String,
}

/// The task that the path names.
fn named(params: &Params) -> Result<Task, ApiError> {
    let name = params.get("task").and_then(Value::as_str).unwrap_or_default();
    Task::from_name(name).ok_or_else(|| {
        let all = Task::ALL.map(Task::name).join(", ");
        ApiError::not_found(format!("No such task; there are {all}"))
    })
}

fn step(Step { action, object, reason }: &Step) -> Value {
    json!({"action": action, "object": object, "reason": reason})
}

pub(in crate::web) fn list(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let runs = context.service.runs().await?;
        let shown = |task: Task| {
            let mut body = json!({"task": task.name(), "plans": task.plans(), "removes": task.removes()});
            if let Some(TaskRun { at, good, summary, refused, .. }) = runs.iter().find(|run| run.task == task.name()) {
                body["lastRun"] = json!({"time": at.to_string(), "good": good, "summary": summary, "refused": refused});
            }
            body
        };
        Ok((StatusCode::OK, json!({"tasks": Task::ALL.map(shown)})))
    }
    .boxed()
}

pub(in crate::web) fn plan(context: Arc<Context>, Call { params, .. }: Call) -> Answer {
    async move {
        let task = named(&params)?;
        let planned = context.service.plan(task, &context.tasks).await.map_err(ApiError::of_queues)?;
        let outcome = planned.ok_or_else(|| {
            ApiError::input("This task can't tell what it would do: it would have to do it.".to_owned())
        })?;
        let steps = outcome.plan.as_deref().unwrap_or_default();
        let mut body = result(&outcome);
        body["steps"] = steps.iter().take(STEPS).map(step).collect();
        body["more"] = json!(steps.len().saturating_sub(STEPS));
        body["withheld"] = outcome.withheld.iter().map(withheld).collect();
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

fn withheld(Withheld { owner, steps }: &Withheld) -> Value {
    json!({"owner": owner, "removals": steps.len()})
}

pub(in crate::web) fn run(context: Arc<Context>, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let task = named(&params)?;
        let RunBody { may_remove, reason } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        let ran = context.service.run_with(task, &context.tasks, may_remove, &reason, &by).await;
        let outcome = ran.map_err(ApiError::of_queues)?;
        let mut body = result(&outcome);
        (body["changed"], body["failed"]) = (json!(outcome.changed), json!(outcome.failed));
        body["summary"] = json!(outcome.to_string());
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

/// What a run and a dry run have in common.
fn result(outcome: &Outcome) -> Value {
    let Outcome { task, seen, removals, refused, held, reports, .. } = outcome;
    let mut body = json!({"task": task, "seen": seen, "removals": removals, "refused": refused, "reports": reports});
    if let Some(held) = held {
        body["held"] = json!(held);
    }
    body
}
