//! The queues of all namespaces that somebody may see into: searched, sorted, filtered and paged here.

use askama::Template;

use super::answer::{self, Answer};
use super::choice::{Choice, Content, Sort, TROUBLED, page_of};
use super::export::{self, Form};
use super::frame::{Frame, Part};
use super::rows::{QueueRow, visible};
use super::visit::Visit;
use crate::domain::rights::Right;
use crate::service::{Listed, Pictured};
use crate::web::api::queues::shown_queue;

#[derive(Template)]
#[template(path = "queues.html")]
struct Queues {
    frame: Frame,
    choice: Choice,
    states: Vec<(&'static str, &'static str)>,
    /// Whether the choice between all and those that are mine is there.
    all: bool,
    table: Table,
    export: String,
}

#[derive(Template)]
#[template(path = "queues_live.html")]
struct Table {
    heads: Vec<Head>,
    rows: Vec<QueueRow>,
    shown: usize,
    of: usize,
    page: usize,
    pages: usize,
    before: Option<String>,
    after: Option<String>,
    /// Whether there is any queue at all that is not shown because of the filters.
    filtered: bool,
}

/// The head of a column.
struct Head {
    name: &'static str,
    class: &'static str,
    link: String,
    /// `ascending` or `descending`, where the table is sorted by it.
    sorted: Option<&'static str>,
}

const STATES: [(&str, &str); 11] = [
    ("", "any state"),
    (TROUBLED, "in trouble"),
    ("no consumer", "no consumer"),
    ("stalled", "stalled"),
    ("stopped", "stopped"),
    ("looping", "looping"),
    ("hoarding", "hoarding"),
    ("slow", "slow"),
    ("draining", "draining"),
    ("fine", "fine"),
    ("unknown", "unknown"),
];

pub(super) async fn queues(visit: Visit) -> Answer {
    let glance = visit.service().overview().await?;
    let choice = Choice::read(&visit.query);
    let mut seen: Vec<&Pictured> = visible(&visit, &glance.overview, choice.mine);
    if !choice.namespace.is_empty() {
        seen.retain(|of| of.outline.summary.name.as_str() == choice.namespace);
    }
    seen.retain(|of| {
        let summary = &of.outline.summary;
        choice.fits_owners(&crate::domain::owner::with_contact(&summary.owners, &summary.contact))
    });
    let of = seen.iter().map(|of| of.queues.len()).sum();
    let all = seen.iter().flat_map(|of| of.queues.iter().map(|listed| (*of, listed)));
    let mut found: Vec<(&Pictured, &Listed)> = all.filter(|(_, listed)| choice.fits(&listed.shown)).collect();
    found.sort_by(|(_, a), (_, b)| choice.order(&a.shown, &b.shown));
    let thresholds = visit.app.settings.console.guard.thresholds;
    let row = |(of, listed): (&Pictured, &Listed)| {
        QueueRow::of(listed, of.outline.summary.name.as_str(), thresholds, glance.overview.at)
    };
    if let Some(form) = export::form(&visit) {
        return Ok(exported(form, &found, row));
    }
    let shown = found.len();
    let (found, page, pages) = page_of(found, choice.page);
    let to = |page: usize| format!("/console/queues{}", choice.link(&[("page", &page.to_string())]));
    let table = Table {
        heads: heads(&choice),
        rows: found.into_iter().map(row).collect(),
        shown,
        of,
        page,
        pages,
        before: (page > 1).then(|| to(page - 1)),
        after: (page < pages).then(|| to(page + 1)),
        filtered: of > 0,
    };
    let all = visit.may_all(Right::See);
    let frame = Frame::of(&visit, Part::Queues, if all && !choice.mine { "Queues" } else { "Your queues" });
    let frame = frame.showing(&glance);
    if visit.live {
        return answer::part(&table, &frame);
    }
    let export = choice.link(&[("format", "")]);
    answer::shown(&Queues { frame, states: STATES.to_vec(), all, table, export, choice })
}

fn heads(choice: &Choice) -> Vec<Head> {
    let head = |sort: Sort| {
        let (name, class) = match sort {
            Sort::Name => ("Queue", "name"),
            Sort::State => ("State", ""),
            Sort::Messages => ("Messages", "n"),
            Sort::Unacked => ("Unacked", "n wide"),
        };
        let sorted = (choice.sort == sort).then_some(if choice.descending { "descending" } else { "ascending" });
        Head { name, class, link: format!("/console/queues{}", choice.sorted_by(sort)), sorted }
    };
    Sort::ALL.map(head).into_iter().collect()
}

fn exported<'a>(
    form: Form,
    found: &[(&'a Pictured, &'a Listed)],
    row: impl Fn((&'a Pictured, &'a Listed)) -> QueueRow,
) -> axum::response::Response {
    match form {
        Form::Json => export::json("queues", found.iter().map(|(_, listed)| shown_queue(&listed.shown)).collect()),
        Form::Csv => {
            let head = ["queue", "namespace", "state", "messages", "unacked", "verdict", "told"];
            let count = |of: Option<u64>| of.map(|of| of.to_string()).unwrap_or_default();
            let cells = |both: &(&'a Pictured, &'a Listed)| {
                let (queue, row) = (&both.1.shown.queue, row(*both));
                vec![
                    row.name,
                    row.namespace,
                    row.state.to_owned(),
                    count(queue.messages),
                    count(queue.unacked),
                    row.why.unwrap_or_default(),
                    row.stage.unwrap_or_default().to_owned(),
                ]
            };
            export::csv("queues", &head, found.iter().map(cells))
        }
    }
}
