//! One queue: what it was like, who reads it, what is the matter, and what will happen next.

use std::sync::Arc;

use askama::Template;

use super::answer::{self, Answer};
use super::chart::{self, Event, Mark};
use super::frame::{self, Frame, Part, When};
use super::outlook;
use super::rows::{Html, link, namespace_path, own_name, standing};
use super::trouble::Trouble;
use super::visit::{Last, Looked, Visit};
use crate::clock::Timestamp;
use crate::domain::exemption::{Exempted, terms};
use crate::domain::history::Look;
use crate::domain::inventory::Consumer;
use crate::domain::ladder::{Mail, Outlook, Situation};
use crate::domain::name::{Name, named_by_queue};
use crate::domain::rights::Right;
use crate::domain::words::{moment, number};
use crate::service::{LastKnown, QueueView, ServiceError};
use crate::terminal::one_line;

/// So many bindings and looks are shown.
const MOST: usize = 200;

#[derive(Template)]
#[template(path = "queue.html")]
struct Queue {
    frame: Frame,
    own: String,
    namespace: String,
    namespace_link: String,
    body: Body,
    /// Where it is shown: a form that was sent wrong leaves its own address.
    path: String,
    purge: String,
    delete: String,
    manage: bool,
    name: String,
    exempt: Option<ExemptForm>,
}

/// What changes of it.
#[derive(Template)]
#[template(path = "queue_live.html")]
struct Body {
    /// Whether all of what follows is known, and not only what a list has.
    whole: bool,
    state: &'static str,
    mark: &'static str,
    verdict: Option<String>,
    judged: Option<When>,
    kind: &'static str,
    exclusive: bool,
    total: String,
    ready: String,
    unacked: String,
    consumers: String,
    next: Vec<String>,
    told: Vec<(&'static str, When)>,
    readers: Vec<Reader>,
    bindings: Vec<(String, String)>,
    more_bindings: usize,
    chart: Option<Html>,
    looks: Vec<Row>,
    exemption: Option<String>,
    traits: Vec<(String, String)>,
}

struct Reader {
    connection: String,
    user: String,
    address: String,
    prefetch: String,
    /// How many messages its channel holds without having acknowledged them.
    holds: String,
    hoards: bool,
}

/// A look as a row.
struct Row {
    at: When,
    ready: String,
    unacked: String,
    total: String,
    consumers: String,
}

/// The form by which somebody lets it grow, or asks for that.
struct ExemptForm {
    /// Whether this person says so, or asks for it.
    grants: bool,
    /// What was asked for.
    request: Option<String>,
    up_to: String,
    until: String,
    reason: String,
    wrong: Option<String>,
    ends: bool,
}

pub(super) async fn queue(visit: Visit) -> Answer {
    let name = visit.query.all("name").next().unwrap_or_default().to_owned();
    shown(visit, &name, None).await
}

/// The page of a queue, with what is wrong in the form on it.
pub(super) async fn shown(visit: Visit, name: &str, wrong: Option<String>) -> Answer {
    let Looked { summary: owner, last } = visit.look_at_owner(named_by_queue(name), name, Right::See).await?;
    let Seen { view, whole, last } = look(&visit, &owner.name, name, last).await?;
    let held = match view.shown.queue.unacked {
        Some(1..) if last.is_none() => visit.service().held_by(&view.readers).await,
        _ => vec![None; view.readers.len()],
    };
    let body = body(&visit, &view, whole, &held);
    let frame = Frame::of(&visit, Part::Queues, own_name(name));
    let frame = match last {
        Some((at, why)) => frame.showing_last(at, &why),
        None => Frame { as_of: Some(When(visit.now)), ..frame },
    };
    if visit.live {
        return answer::part(&body, &frame);
    }
    let exempted = view.shown.exempted.as_ref().filter(|exempted| exempted.queue == name);
    let grants = visit.may(Right::Exempt, &owner);
    let request = view.requested.as_ref().map(|of| {
        format!("{}, by {} at {}: {}", terms(of.exemption, visit.now), of.by, moment(of.since, visit.now), of.reason)
    });
    let exempt = (grants || visit.may(Right::Own, &owner)).then(|| ExemptForm {
        grants,
        request,
        up_to: visit.form.text("up-to").to_owned(),
        until: visit.form.text("until").to_owned(),
        reason: visit.form.text("reason").to_owned(),
        wrong: wrong.clone(),
        ends: exempted.is_some(),
    });
    let status = if wrong.is_some() { 422 } else { 200 };
    let page = Queue {
        frame,
        own: own_name(name),
        namespace_link: namespace_path(owner.name.as_str()),
        namespace: owner.name.to_string(),
        body,
        path: link("/console/queue", name),
        purge: link("/console/queue/purge", name),
        delete: link("/console/queue/delete", name),
        manage: visit.may(Right::Manage, &owner),
        name: name.to_owned(),
        exempt,
    };
    answer::page(axum::http::StatusCode::from_u16(status).unwrap_or_default(), &page)
}

/// A queue, as it is now or was known last.
struct Seen {
    view: QueueView,
    /// Whether all that is shown of it is known.
    whole: bool,
    /// As of when it is, and why, where nothing newer is known.
    last: Option<(Timestamp, Arc<ServiceError>)>,
}

async fn look(visit: &Visit, owner: &Name, queue: &str, last: Option<Last>) -> Result<Seen, Trouble> {
    let looked = match last {
        Some(Last { why, .. }) => Err(why),
        None => visit.service().queue_lately(owner, queue).await.map_err(Arc::new),
    };
    match looked {
        Ok(view) => Ok(Seen { view, whole: true, last: None }),
        Err(why) if why.is_outage() => match visit.service().last_known_queue(owner, queue) {
            Some(LastKnown { at, view, whole }) => Ok(Seen { view, whole, last: Some((at, why)) }),
            None => Err(Trouble::nothing_known(&why)),
        },
        Err(why) => Err(Trouble::of_shared(why)),
    }
}

fn outlook_of(visit: &Visit, view: &QueueView) -> Option<Outlook> {
    let guard = &visit.app.settings.console.guard;
    let (history, verdict) = (view.history.as_ref()?, view.shown.verdict.as_ref()?);
    let situation = Situation {
        history,
        verdict,
        settle: guard.criteria.settle,
        silence: guard.criteria.silence,
        thresholds: guard.thresholds,
        exemption: view.shown.exempted.as_ref().map(|exempted| exempted.exemption),
        watch: view.shown.watched.as_ref().map(|watched| &watched.watch),
        alarm: false,
        can_be_told: true,
        muted: false,
    };
    Some(crate::domain::ladder::outlook(&situation, visit.now, &guard.ladder))
}

fn body(visit: &Visit, view: &QueueView, whole: bool, held: &[Option<u64>]) -> Body {
    let (now, guard) = (visit.now, &visit.app.settings.console.guard);
    let QueueView { shown, consumers, readers, bindings, looks, traits, .. } = view;
    let queue = &shown.queue;
    let outlook = outlook_of(visit, view);
    let unread = || vec!["That is not known now.".to_owned()];
    let ready = queue.messages.map(|total| total.saturating_sub(queue.unacked.unwrap_or(0)));
    let (state, mark) = standing(shown, guard.thresholds);
    let most = held.iter().copied().flatten().max().filter(|most| *most > 0);
    let reader = |(of, held): (&Consumer, &Option<u64>)| Reader {
        connection: of.connection.clone(),
        user: of.user.clone(),
        address: of.address.clone(),
        prefetch: if of.prefetch == 0 { "no limit".to_owned() } else { number(of.prefetch) },
        holds: frame::told(*held),
        hoards: state == "hoarding" && held.is_some() && *held == most,
    };
    let row = |look: &Look| Row {
        at: When(look.at),
        ready: number(look.ready),
        unacked: number(look.unacked),
        total: number(look.total),
        consumers: frame::told(look.consumers.map(u64::from)),
    };
    let exempted = shown.exempted.as_ref();
    let told = shown.watched.as_ref().is_some_and(|watched| watched.watch.told.is_some());
    Body {
        whole,
        state,
        mark,
        verdict: shown.verdict.as_ref().map(|verdict| without(shown.state(), verdict.sentence(now))),
        judged: shown.verdict.as_ref().map(|verdict| When(verdict.look.at)),
        kind: queue.kind.word(),
        exclusive: queue.exclusive,
        total: frame::told(queue.messages),
        ready: frame::told(ready),
        unacked: frame::told(queue.unacked),
        consumers: frame::told(consumers.map(u64::from)),
        next: match whole {
            true => outlook::sentences(outlook.as_ref(), exempted, guard.thresholds, guard.ladder.measure, told, now),
            false => unread(),
        },
        told: told_of(view),
        readers: readers.iter().zip(held).map(reader).collect(),
        bindings: bindings
            .iter()
            .take(MOST)
            .map(|of| (one_line(&of.exchange).into_owned(), of.routing_key.clone()))
            .collect(),
        more_bindings: bindings.len().saturating_sub(MOST),
        chart: drawn(visit, view).map(Html),
        looks: looks.iter().rev().take(MOST).map(row).collect(),
        traits: traits.iter().map(|(name, value)| (trait_name(name), trait_value(name, value))).collect(),
        exemption: exempted.map(|of: &Exempted| format!("{}, by {}: {}", terms(of.exemption, now), of.by, of.reason)),
    }
}

/// What a trait is called on the page: an argument as it is, and others in words.
fn trait_name(name: &str) -> String {
    match name {
        "durable" => "Outlives a restart".to_owned(),
        "auto_delete" => "Goes with its last consumer".to_owned(),
        "policy" => "Policy".to_owned(),
        "operator_policy" => "Operator policy".to_owned(),
        argument => one_line(argument).into_owned(),
    }
}

fn trait_value(name: &str, value: &str) -> String {
    match (name, value) {
        ("durable" | "auto_delete", "true") => "yes".to_owned(),
        ("durable" | "auto_delete", _) => "no".to_owned(),
        _ => one_line(value).into_owned(),
    }
}

/// A sentence without the state before it, which is shown beside it.
fn without(state: &str, sentence: String) -> String {
    sentence.strip_prefix(state).and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned).unwrap_or(sentence)
}

/// What was told of it and done, and when.
fn told_of(view: &QueueView) -> Vec<(&'static str, When)> {
    let Some(watched) = &view.shown.watched else { return Vec::new() };
    let watch = &watched.watch;
    let accepted = watch.told.and_then(|told| match told.mail {
        Mail::Accepted(at) => Some(at),
        _ => None,
    });
    let all = [
        ("Owners told", watch.told.map(|told| told.at)),
        ("Mail accepted", accepted),
        ("Time of grace since", watch.warned),
        ("Connection closed", watch.closed),
    ];
    all.into_iter().filter_map(|(what, at)| Some((what, When(at?)))).collect()
}

fn drawn(visit: &Visit, view: &QueueView) -> Option<String> {
    let thresholds = visit.app.settings.console.guard.thresholds;
    let delete = view.shown.exempted.as_ref().map_or(thresholds.delete, |of| of.limit(thresholds.delete));
    let marks =
        [Mark { at: thresholds.alert, name: "owners warned above" }, Mark { at: delete, name: "removed above" }];
    let events = told_of(view).into_iter().filter(|(what, _)| matches!(*what, "Owners told" | "Connection closed"));
    let events: Vec<_> = events.map(|(what, at)| Event { at: at.0, name: what.to_lowercase() }).collect();
    chart::chart(&view.looks, &marks, &events)
}
