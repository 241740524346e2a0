//! The public page: how the service and the broker are.

use askama::Template;

use super::answer::{self, Answer};
use super::frame::{Frame, Part, When, told};
use super::visit::Visit;
use crate::service::Glance;

#[derive(Template)]
#[template(path = "status.html")]
struct Status {
    frame: Frame,
    parts: Vec<Neighbour>,
    totals: Vec<(&'static str, String)>,
    runs: Vec<Run>,
    every: u64,
}

#[derive(Template)]
#[template(path = "status_live.html")]
struct Live {
    parts: Vec<Neighbour>,
    totals: Vec<(&'static str, String)>,
    runs: Vec<Run>,
}

/// Something that the service needs.
struct Neighbour {
    name: &'static str,
    good: bool,
    text: String,
}

/// The last run of a task.
struct Run {
    task: String,
    at: When,
    good: bool,
}

pub(super) async fn status(visit: Visit) -> Answer {
    let service = visit.service();
    let (health, glance, runs) = tokio::join!(visit.app.context.monitor.glance(), service.overview(), service.runs());
    let mut parts: Vec<_> = health.iter().map(|(name, good)| neighbour(name, *good)).collect();
    parts.extend(glance.as_ref().ok().and_then(|glance| glance.overview.alarm).map(alarm));
    let runs = runs.unwrap_or_default().into_iter();
    let runs: Vec<_> = runs.map(|run| Run { task: run.task, at: When(run.at), good: run.good }).collect();
    let totals = glance.as_ref().map(totals).unwrap_or_default();
    let frame = Frame::of(&visit, Part::Status, "Status");
    let frame = match &glance {
        Ok(glance) => frame.showing(glance),
        Err(_) => frame,
    };
    if visit.live {
        return answer::part(&Live { parts, totals, runs }, &frame);
    }
    answer::shown(&Status { frame, parts, totals, runs, every: 10 })
}

/// What anybody may know of something that the service needs.
fn neighbour(name: &'static str, good: bool) -> Neighbour {
    let (name, well, ill) = match name {
        "database" => ("Database", "answers", "does not answer"),
        "rabbitmq" => ("RabbitMQ", "answers", "does not answer"),
        "clock" => ("Clock", "is right", "is in doubt"),
        _ => ("Taskcluster's auth service", "answers", "does not answer"),
    };
    Neighbour { name, good, text: (if good { well } else { ill }).to_owned() }
}

fn alarm(rung: bool) -> Neighbour {
    let text = if rung { "RabbitMQ is short of memory or disk, and keeps publishers waiting" } else { "none" };
    Neighbour { name: "Alarms", good: !rung, text: text.to_owned() }
}

fn totals(glance: &Glance) -> Vec<(&'static str, String)> {
    let overview = &glance.overview;
    let mut all = vec![("Namespaces", told(Some(overview.namespaces.len() as u64)))];
    if overview.complete {
        let queues = || overview.namespaces.values().flat_map(|of| &of.queues);
        let messages = queues().filter_map(|of| of.shown.queue.messages).sum();
        let troubled = queues().filter(|of| super::frame::is_trouble(of.shown.state())).count() as u64;
        all.push(("Queues", told(Some(queues().count() as u64))));
        all.push(("Messages", told(Some(messages))));
        all.push(("Queues in trouble", told(Some(troubled))));
    }
    all
}
