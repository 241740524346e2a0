//! Queues and namespaces as rows of tables, and which of them somebody is shown.

use askama::filters::HtmlSafe;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::chart;
use super::choice::worst;
use super::frame::{When, is_trouble, told};
use super::visit::Visit;
use crate::clock::Timestamp;
use crate::domain::ladder::{Stage, Thresholds};
use crate::domain::rights::Right;
use crate::domain::shown::ShownQueue;
use crate::service::{Listed, Overview, Pictured};
use crate::terminal::one_line;

/// HTML that was made here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Html(pub String);

impl std::fmt::Display for Html {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl HtmlSafe for Html {}

/// What is escaped of a name in a path or a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `path`, with the name of something in its query.
pub(super) fn link(path: &str, name: &str) -> String {
    with(path, "name", name)
}

/// `path`, with a value in its query.
pub(super) fn with(path: &str, key: &str, value: &str) -> String {
    format!("{path}?{key}={}", utf8_percent_encode(value, ESCAPED))
}

/// Where the messages of an exchange are seen.
pub(super) fn inspect_path(exchange: &str) -> String {
    with("/console/inspector", "exchange", exchange)
}

/// Where the page of a namespace is.
pub(super) fn namespace_path(name: &str) -> String {
    format!("/console/namespaces/{}", utf8_percent_encode(name, ESCAPED))
}

/// The name of a queue or an exchange after its namespace, with what is invisible in it made visible.
pub(super) fn own_name(name: &str) -> String {
    let own = name.splitn(3, '/').nth(2).filter(|own| !own.trim().is_empty());
    one_line(own.unwrap_or(name)).into_owned()
}

/// How a state is marked.
pub(super) fn mark(state: &str) -> &'static str {
    match state {
        "slow" => "warn",
        "draining" => "info",
        "fine" => "good",
        state if is_trouble(state) => "bad",
        _ => "",
    }
}

/// What is shown as the state of a queue, and how it is marked: one with which nothing is the matter but its size is large.
pub(super) fn standing(shown: &ShownQueue, thresholds: Thresholds) -> (&'static str, &'static str) {
    match shown.state() {
        "fine" if shown.queue.messages.is_some_and(|messages| messages > thresholds.alert) => ("large", "warn"),
        state => (state, mark(state)),
    }
}

/// A queue as a row.
pub(super) struct QueueRow {
    pub name: String,
    pub link: String,
    pub own: String,
    pub namespace: String,
    pub namespace_link: String,
    pub state: &'static str,
    pub mark: &'static str,
    pub messages: String,
    pub unacked: String,
    pub spark: Option<Html>,
    /// What is the matter with it, where something is.
    pub why: Option<String>,
    /// How far it has gone, where its owners were told.
    pub stage: Option<&'static str>,
    pub exempt: bool,
}

impl QueueRow {
    pub fn of(listed: &Listed, namespace: &str, thresholds: Thresholds, now: Timestamp) -> QueueRow {
        let Listed { shown, line } = listed;
        let ShownQueue { queue, verdict, watched, exempted } = shown;
        let (state, mark) = standing(shown, thresholds);
        let why = verdict.as_ref().filter(|_| is_trouble(state) || matches!(state, "draining" | "large"));
        let stage = watched.as_ref().and_then(|watched| match watched.watch.stage {
            Stage::Watched => None,
            Stage::Warned => Some("warned"),
            Stage::Removing => Some("being removed"),
        });
        QueueRow {
            name: queue.name.clone(),
            link: link("/console/queue", &queue.name),
            own: own_name(&queue.name),
            namespace: namespace.to_owned(),
            namespace_link: namespace_path(namespace),
            state,
            mark,
            messages: told(queue.messages),
            unacked: told(queue.unacked),
            spark: chart::spark(line, thresholds.alert, thresholds.delete).map(Html),
            why: why.map(|verdict| {
                let sentence = verdict.sentence(now);
                sentence
                    .split_once(": ")
                    .filter(|(before, _)| *before == shown.state())
                    .map_or(sentence.clone(), |(_, rest)| rest.to_owned())
            }),
            stage,
            exempt: exempted.is_some(),
        }
    }
}

/// A namespace as a row.
pub(super) struct NamespaceRow {
    pub name: String,
    pub link: String,
    pub account: bool,
    pub disabled: bool,
    pub state: &'static str,
    pub mark: &'static str,
    /// How many of its queues are in trouble.
    pub troubled: usize,
    pub queues: usize,
    pub messages: String,
    pub unacked: String,
    pub expires: Option<When>,
    pub claimed_by: String,
    pub owners: Vec<String>,
}

impl NamespaceRow {
    pub fn of(of: &Pictured, thresholds: Thresholds) -> NamespaceRow {
        let (outline, summary) = (&of.outline, &of.outline.summary);
        let shown = || of.queues.iter().map(|listed| &listed.shown);
        let (state, mark) = worst(shown()).map_or(("no queues", ""), |shown| standing(shown, thresholds));
        let sum = |all: Vec<Option<u64>>| told(Some(all.into_iter().flatten().sum()));
        let managers = crate::domain::owner::with_contact(&summary.owners, &summary.contact);
        let on_demand = outline.account.as_ref();
        let adopted = on_demand.is_some_and(|account| account.adopted.is_some());
        NamespaceRow {
            name: summary.name.to_string(),
            link: namespace_path(summary.name.as_str()),
            account: on_demand.is_some(),
            disabled: outline.disabled,
            state,
            mark,
            troubled: shown().filter(|shown| is_trouble(shown.state())).count(),
            queues: of.queues.len(),
            messages: sum(shown().map(|shown| shown.queue.messages).collect()),
            unacked: sum(shown().map(|shown| shown.queue.unacked).collect()),
            expires: (!adopted).then_some(When(summary.expires)),
            claimed_by: outline.claimed_by.clone().unwrap_or_default(),
            owners: managers.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The namespaces that somebody may see into, or with `mine` those that are theirs.
pub(super) fn visible<'a>(visit: &Visit, overview: &'a Overview, mine: bool) -> Vec<&'a Pictured> {
    let all = overview.namespaces.values();
    match mine {
        true => all.filter(|of| owns(visit, of)).collect(),
        false if visit.may_all(Right::See) => all.collect(),
        false => all.filter(|of| visit.may(Right::See, &of.outline.summary)).collect(),
    }
}

/// Whether somebody is one of its owners.
fn owns(visit: &Visit, of: &Pictured) -> bool {
    let summary = &of.outline.summary;
    visit.subject().is_among(&crate::domain::owner::with_contact(&summary.owners, &summary.contact))
}
