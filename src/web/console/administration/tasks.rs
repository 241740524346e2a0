//! The scheduled tasks: how the last run of each went, what a run would do now, and one run with more than the brakes allow.

use askama::Template;

use super::{Page, frame, pages};
use crate::domain::rights::Right;
use crate::domain::words::count;
use crate::service::{Outcome, Step, Task};
use crate::terminal::one_line;
use crate::web::console::answer::{self, Answer};
use crate::web::console::confirm::{Line, Question, done};
use crate::web::console::frame::{Frame, Part, When};
use crate::web::console::trouble::Trouble;
use crate::web::console::visit::Visit;

const PATH: &str = "/console/administration/tasks";
/// So many steps of a plan are shown.
const STEPS: usize = 500;

#[derive(Template)]
#[template(path = "administration_tasks.html")]
struct Tasks {
    frame: Frame,
    pages: Vec<Page>,
    rows: Vec<Row>,
}

struct Row {
    task: &'static str,
    what: &'static str,
    /// The last run; `None` where there was none.
    at: Option<When>,
    good: bool,
    refused: u64,
    summary: String,
    /// Whether it can be looked at what it would do.
    plans: bool,
}

fn what(task: Task) -> &'static str {
    match task {
        Task::Rotate => "gives namespaces new passwords",
        Task::Monitor => "repairs and guards RabbitMQ",
        Task::Expire => "ends namespaces whose date has come",
        Task::Deliver => "sends what has to be told",
    }
}

pub(in crate::web::console) async fn tasks(visit: Visit) -> Answer {
    let frame = frame(&visit, "Tasks")?;
    let runs = visit.service().runs().await?;
    let row = |task: Task| {
        let run = runs.iter().find(|run| run.task == task.name());
        Row {
            task: task.name(),
            what: what(task),
            at: run.map(|run| When(run.at)),
            good: run.is_none_or(|run| run.good),
            refused: run.map_or(0, |run| run.refused),
            summary: run.map(|run| run.summary.clone()).unwrap_or_default(),
            plans: task.plans(),
        }
    };
    answer::shown(&Tasks { frame, pages: pages(PATH), rows: Task::ALL.map(row).into_iter().collect() })
}

#[derive(Template)]
#[template(path = "administration_plan.html")]
struct Plan {
    frame: Frame,
    task: &'static str,
    steps: Vec<Step>,
    more: usize,
    held: Option<String>,
    reports: Vec<String>,
    seen: usize,
    /// Where it is run with more, if a brake is in the way.
    run: Option<String>,
}

/// The task that a form or an address names.
fn named(visit: &Visit) -> Result<Task, Trouble> {
    visit.require_all(Right::Administer)?;
    let given = visit.form.all("task").next().or_else(|| visit.query.all("task").next());
    Task::from_name(given.unwrap_or_default()).ok_or_else(|| Trouble::missing("There is no such task."))
}

/// What a task would do.
async fn planned(visit: &Visit, task: Task) -> Result<Outcome, Trouble> {
    let found = visit.service().plan(task, &visit.app.settings.console.tasks).await?;
    found.ok_or_else(|| Trouble::bad("This task can't tell what it would do: it would have to do it."))
}

fn shown(step: &Step) -> Step {
    Step { object: one_line(&step.object).into_owned(), reason: one_line(&step.reason).into_owned(), ..step.clone() }
}

pub(in crate::web::console) async fn plan(visit: Visit) -> Answer {
    let task = named(&visit)?;
    let outcome = planned(&visit, task).await?;
    let steps = outcome.plan.unwrap_or_default();
    let refused = outcome.refused;
    answer::shown(&Plan {
        frame: Frame::of(&visit, Part::Administration, format!("What {} would do", task.name())),
        task: task.name(),
        more: steps.len().saturating_sub(STEPS),
        steps: steps.iter().take(STEPS).map(shown).collect(),
        held: outcome.held,
        reports: outcome.reports,
        seen: outcome.seen,
        run: (refused > 0 && task.removes()).then(|| format!("{PATH}/run?task={}", task.name())),
    })
}

/// What one run with more would do, and how many things it may remove for that.
async fn question(visit: &Visit, task: Task) -> Result<(Question, usize), Trouble> {
    if !task.removes() {
        return Err(Trouble::bad("This task removes nothing, so that there is nothing to allow it."));
    }
    let Outcome { withheld, removals: most, .. } = planned(visit, task).await?;
    if withheld.is_empty() {
        return Err(Trouble::bad("No brake is in its way now: the next run does all that there is to do."));
    }
    let withheld = withheld.iter().flat_map(|of| of.steps.iter().map(move |step| (&of.owner, step)));
    let item = |(owner, step): (&String, &Step)| {
        let Step { action, object, reason } = shown(step);
        let owner = if owner.is_empty() { String::new() } else { format!(" of {}", one_line(owner)) };
        format!("{action} {object}{owner}: {reason}")
    };
    let things = count(most as u64, "thing", "things");
    let asked = Question {
        part: Part::Administration,
        title: format!("Run {} once with up to {things} to remove", task.name()),
        losses: vec![
            format!("This one run may decide to remove up to {things}, whosever they are; the next ones go by the brakes again."),
            "Each of them is looked at right before. What is due to other rules, a time of grace say, waits all the same.".to_owned(),
        ],
        items: withheld.map(item).collect(),
        typed: Some(format!("remove {things}")),
        hidden: vec![("task", task.name().to_owned())],
        action: format!("{PATH}/run"),
        button: "Run it once".to_owned(),
        reason_needed: true,
        harmless: false,
        back: format!("{PATH}/plan?task={}", task.name()),
    };
    Ok((asked, most))
}

pub(in crate::web::console) async fn ask_run(visit: Visit) -> Answer {
    let task = named(&visit)?;
    let (asked, _) = question(&visit, task).await?;
    asked.ask(&visit, None)
}

pub(in crate::web::console) async fn run(visit: Visit) -> Answer {
    let task = named(&visit)?;
    // What it would do now, which may be other things than when the page was made: then another number is to be typed.
    let (asked, most) = question(&visit, task).await?;
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, reason) = (visit.by(), visit.form.text("reason").to_owned());
    let policies = &visit.app.settings.console.tasks;
    let outcome = visit.service().run_with(task, policies, most, &reason, &by).await?;
    let good = outcome.failed == 0 && outcome.held.is_none();
    let lines = vec![Line { item: task.name().to_owned(), text: outcome.to_string(), good }];
    done(&visit, Part::Administration, "It ran", lines, vec![(PATH.to_owned(), "To the tasks".to_owned())])
}
