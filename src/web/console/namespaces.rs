//! The namespaces of a person, the worst first.

use std::cmp::Reverse;

use askama::Template;
use serde_json::json;

use super::answer::{self, Answer};
use super::choice::{page_of, weight, worst};
use super::export::{self, Form};
use super::frame::{Frame, Part};
use super::rows::{NamespaceRow, visible};
use super::visit::Visit;
use crate::domain::rights::Right;

#[derive(Template)]
#[template(path = "namespaces.html")]
struct Namespaces {
    frame: Frame,
    search: String,
    /// Whether the choice between all and those that are mine is there, and how it stands.
    all: bool,
    mine: bool,
    table: Table,
    export: String,
}

#[derive(Template)]
#[template(path = "namespaces_live.html")]
struct Table {
    rows: Vec<NamespaceRow>,
    shown: usize,
    of: usize,
    page: usize,
    pages: usize,
    before: Option<String>,
    after: Option<String>,
    searched: bool,
}

pub(super) async fn namespaces(visit: Visit) -> Answer {
    let glance = visit.service().overview().await?;
    let (search, mine) = (visit.query.text("q").to_owned(), visit.query.text("mine") == "1");
    let seen = visible(&visit, &glance.overview, mine);
    let of = seen.len();
    let wanted = search.to_lowercase();
    let mut found: Vec<_> = seen;
    found.retain(|of| of.outline.summary.name.as_str().to_lowercase().contains(&wanted));
    found.sort_by_key(|of| Reverse(worst(of.queues.iter().map(|listed| &listed.shown)).map(weight)));
    let shown = found.len();
    let link = |page: Option<usize>| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let page = page.map(|page| page.to_string()).unwrap_or_default();
        let mine = if mine { "1" } else { "" };
        for (name, value) in [("q", search.as_str()), ("mine", mine), ("page", &page)] {
            if !value.is_empty() {
                query.append_pair(name, value);
            }
        }
        query.finish()
    };
    let thresholds = visit.app.settings.console.guard.thresholds;
    let row = |of| NamespaceRow::of(of, thresholds);
    if let Some(form) = export::form(&visit) {
        return Ok(exported(form, found.into_iter().map(row)));
    }
    let (found, page, pages) = page_of(found, visit.query.text("page").parse().unwrap_or(1).max(1));
    let table = Table {
        rows: found.into_iter().map(row).collect(),
        shown,
        of,
        page,
        pages,
        before: (page > 1).then(|| format!("?{}", link(Some(page - 1)))),
        after: (page < pages).then(|| format!("?{}", link(Some(page + 1)))),
        searched: !search.is_empty(),
    };
    let all = visit.may_all(Right::See);
    let frame = Frame::of(&visit, Part::Namespaces, if all && !mine { "Namespaces" } else { "Your namespaces" });
    let frame = frame.showing(&glance);
    if visit.live {
        return answer::part(&table, &frame);
    }
    let export = link(None);
    answer::shown(&Namespaces { frame, search, all, mine, table, export })
}

fn exported(form: Form, rows: impl Iterator<Item = NamespaceRow>) -> axum::response::Response {
    match form {
        Form::Csv => {
            let head =
                ["namespace", "state", "queues", "in trouble", "messages", "unacked", "ends", "claimed by", "owners"];
            let row = |of: NamespaceRow| {
                let ends = of.expires.map(|ends| ends.0.to_string()).unwrap_or_default();
                let plain = |text: String| text.replace(',', "");
                vec![
                    of.name,
                    of.state.to_owned(),
                    of.queues.to_string(),
                    of.troubled.to_string(),
                    plain(of.messages),
                    plain(of.unacked),
                    ends,
                    of.claimed_by,
                    of.owners.join(" "),
                ]
            };
            export::csv("namespaces", &head, rows.map(row))
        }
        Form::Json => {
            let row = |of: NamespaceRow| {
                let plain = |text: &str| text.replace(',', "").parse::<u64>().ok();
                json!({
                    "namespace": of.name, "state": of.state, "queues": of.queues, "inTrouble": of.troubled,
                    "messages": plain(&of.messages), "unacked": plain(&of.unacked),
                    "ends": of.expires.map(|ends| ends.0.to_string()), "claimedBy": of.claimed_by, "owners": of.owners,
                })
            };
            export::json("namespaces", rows.map(row).collect())
        }
    }
}
