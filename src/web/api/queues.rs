//! Handlers for the queues and exchanges of namespaces, and queues as JSON.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use super::owners::exempted;
use super::paging;
use super::query::{Query, QueryRule};
use crate::clock::Timestamp;
use crate::domain::history::Look;
use crate::domain::inventory::{Binding, Bound, BrokerExchange, BrokerQueue, Consumer, ExchangeDetail, Publisher};
use crate::domain::ladder::{Stage, Watch};
use crate::domain::name::Name;
use crate::domain::shown::{QueueFilter, ShownQueue, is_state};
use crate::service::{ExchangeView, MOST_QUEUES, QueueOutcome, QueueView, Which, Wish};

/// What a page of queues is chosen by.
pub(super) const QUEUES_QUERY: &[QueryRule] = &[MIN_MESSAGES, STATE, SEARCH, paging::LIMIT, paging::TOKEN];
/// What a page of exchanges is chosen by.
pub(super) const EXCHANGES_QUERY: &[QueryRule] = &[SEARCH, paging::LIMIT, paging::TOKEN];
/// Why something is emptied or deleted.
pub(super) const REASON_QUERY: &[QueryRule] = &[REASON];

/// The longest reason, in code points, as in the schemas.
const LONGEST_REASON: usize = 500;
/// So many bindings are shown.
const MOST_BINDINGS: usize = 1000;

const MIN_MESSAGES: QueryRule =
    QueryRule { name: "minMessages", pattern: "/^[0-9]{1,15}$/", accepts: |value| number(value).is_some() };
const STATE: QueryRule = QueryRule {
    name: "state",
    pattern: "fine, draining, slow, stalled, stopped, no consumer, looping, hoarding or unknown",
    accepts: is_state,
};
const SEARCH: QueryRule = QueryRule { name: "search", pattern: "/./", accepts: |value| !value.is_empty() };
const REASON: QueryRule = QueryRule {
    name: "reason",
    pattern: "1 to 500 characters",
    accepts: |value| (1..=LONGEST_REASON).contains(&value.chars().count()),
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeleteBody {
    queues: Option<Vec<String>>,
    pattern: Option<String>,
    #[serde(default)]
    dry_run: bool,
    reason: Option<String>,
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.len() <= 15 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn param<'a>(params: &'a super::endpoint::Params, name: &str) -> &'a str {
    params.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(in crate::web) fn list(context: Arc<Context>, name: Name, Call { query, .. }: Call) -> Answer {
    async move {
        let limit = paging::page_size(&query);
        let filter = QueueFilter {
            min_messages: query.get(MIN_MESSAGES.name).and_then(|text| number(text)),
            state: query.get(STATE.name).cloned(),
            search: query.get(SEARCH.name).cloned(),
            after: paging::after(&query)?.map(|[name]: [String; 1]| name),
        };
        let found = context.service.list_queues(&name, &filter, limit as usize + 1).await;
        let found = found.map_err(ApiError::of_queues)?;
        let (found, token) = paging::page(found, limit, |last| [last.queue.name.clone()]);
        Ok((StatusCode::OK, page("queues", found.iter().map(shown_queue).collect(), token)))
    }
    .boxed()
}

pub(in crate::web) fn get(context: Arc<Context>, name: Name, Call { params, .. }: Call) -> Answer {
    async move {
        let view = context.service.queue(&name, param(&params, "queue")).await.map_err(ApiError::of_queues)?;
        Ok((StatusCode::OK, queue_view(&view)))
    }
    .boxed()
}

pub(in crate::web) fn purge(context: Arc<Context>, name: Name, Call { params, query, by, .. }: Call) -> Answer {
    async move {
        let wish = Wish { by: &by, reason: reason(&query) };
        let emptied = context.service.empty_queue(&name, param(&params, "queue"), wish).await;
        let emptied = emptied.map_err(ApiError::of_queues)?;
        Ok((StatusCode::OK, result("emptied", &emptied.name, Some(&emptied))))
    }
    .boxed()
}

pub(in crate::web) fn delete(context: Arc<Context>, name: Name, Call { params, query, by, .. }: Call) -> Answer {
    async move {
        let wish = Wish { by: &by, reason: reason(&query) };
        let deleted = context.service.delete_one_queue(&name, param(&params, "queue"), wish).await;
        let deleted = deleted.map_err(ApiError::of_queues)?;
        Ok((StatusCode::OK, result("deleted", &deleted.name, Some(&deleted))))
    }
    .boxed()
}

pub(in crate::web) fn delete_many(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move {
        let DeleteBody { queues, pattern, dry_run, reason } =
            serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        let which = match (queues, pattern) {
            (Some(queues), None) => Which::Named(queues),
            (None, Some(pattern)) => Which::Matching(pattern),
            _ => return Err(ApiError::input("Give either `queues` or a `pattern`.")),
        };
        let wish = Wish { by: &by, reason: reason.as_deref() };
        let outcomes = context.service.delete_queues(&name, &which, dry_run, wish).await;
        let outcomes = outcomes.map_err(ApiError::of_queues)?;
        let results = outcomes.of.into_iter().map(|(queue, outcome)| match outcome {
            QueueOutcome::Failed(error) => {
                let ApiError { code, message, .. } = ApiError::of_queues(error);
                let mut body = result("failed", &queue, None);
                (body["code"], body["message"]) = (json!(code), json!(message));
                body
            }
            QueueOutcome::Deleted(found) => result("deleted", &queue, Some(&found)),
            QueueOutcome::WouldBeDeleted(found) => result("would be deleted", &queue, Some(&found)),
            QueueOutcome::Absent => result("absent", &queue, None),
        });
        Ok((StatusCode::OK, json!({"results": results.collect::<Vec<_>>(), "left": outcomes.left})))
    }
    .boxed()
}

pub(in crate::web) fn exchanges(context: Arc<Context>, name: Name, Call { query, .. }: Call) -> Answer {
    async move {
        let (limit, after) = (paging::page_size(&query), paging::after(&query)?.map(|[name]: [String; 1]| name));
        let search = query.get(SEARCH.name).map(String::as_str);
        let found = context.service.list_exchanges(&name, search, after.as_deref(), limit as usize + 1).await;
        let (found, token) = paging::page(found.map_err(ApiError::of_queues)?, limit, |last| [last.name.clone()]);
        Ok((StatusCode::OK, page("exchanges", found.iter().map(shown_exchange).collect(), token)))
    }
    .boxed()
}

pub(in crate::web) fn exchange(context: Arc<Context>, name: Name, Call { params, .. }: Call) -> Answer {
    async move {
        let view = context.service.exchange(&name, param(&params, "exchange")).await;
        let ExchangeView { exchange: found, detail, exact } = view.map_err(ApiError::of_queues)?;
        let ExchangeDetail { published, publishers, bound } = detail;
        let publisher = |Publisher { connection, user, address, messages }: Publisher| {
            json!({"connection": connection, "user": user, "address": address, "messages": messages})
        };
        let bound_to = |Bound { kind, name, routing_key }: Bound| {
            json!({"kind": kind, "name": name, "routingKey": routing_key})
        };
        let mut body = shown_exchange(&found);
        set(&mut body, "published", published);
        body["exact"] = json!(exact);
        body["publishers"] = publishers.into_iter().take(MOST_BINDINGS).map(publisher).collect();
        body["bound"] = bound.into_iter().take(MOST_BINDINGS).map(bound_to).collect();
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

pub(in crate::web) fn delete_exchange(
    context: Arc<Context>,
    name: Name,
    Call { params, query, by, .. }: Call,
) -> Answer {
    async move {
        let wish = Wish { by: &by, reason: reason(&query) };
        let deleted = context.service.delete_exchange(&name, param(&params, "exchange"), wish).await;
        deleted.map_err(ApiError::of_queues)?;
        Ok((StatusCode::OK, json!({})))
    }
    .boxed()
}

fn reason(query: &Query) -> Option<&str> {
    query.get(REASON.name).map(String::as_str)
}

fn page(key: &str, items: Vec<Value>, token: Option<String>) -> Value {
    let mut body = json!({key: items});
    set(&mut body, "continuationToken", token);
    body
}

fn set(body: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        body[key] = value.into();
    }
}

/// What became of a queue, and how many messages it had.
fn result(what: &str, queue: &str, found: Option<&BrokerQueue>) -> Value {
    let mut body = json!({"queue": queue, "result": what});
    set(&mut body, "messages", found.and_then(|found| found.messages));
    body
}

/// A queue as a list has it, by the schema `v1/queue`.
pub fn shown_queue(shown: &ShownQueue) -> Value {
    let ShownQueue { queue, verdict, watched, exempted: grown } = shown;
    let mut body = json!({
        "queue": queue.name, "kind": queue.kind.word(), "exclusive": queue.exclusive, "state": shown.state(),
    });
    set(&mut body, "total", queue.messages);
    set(&mut body, "unacked", queue.unacked);
    set(&mut body, "ready", queue.messages.zip(queue.unacked).map(|(total, unacked)| total.saturating_sub(unacked)));
    if let Some(verdict) = verdict {
        set(&mut body, "consumers", verdict.consumers);
        set(&mut body, "verdict", Some(verdict.sentence(verdict.look.at)));
        set(&mut body, "since", verdict.since.as_ref().map(Timestamp::to_string));
        set(&mut body, "judged", Some(verdict.look.at.to_string()));
    }
    if let Some(Watch { stage, warned, last_told, kept_out, .. }) = watched.as_ref().map(|watched| &watched.watch) {
        let stage = match stage {
            Stage::Watched => "watched",
            Stage::Warned => "warned",
            Stage::Removing => "removing",
        };
        set(&mut body, "stage", Some(stage));
        set(&mut body, "warned", warned.as_ref().map(Timestamp::to_string));
        set(&mut body, "lastTold", last_told.as_ref().map(Timestamp::to_string));
        set(&mut body, "keptOut", kept_out.then_some(true));
    }
    set(&mut body, "exemption", grown.as_ref().map(exempted));
    body
}

/// All that is shown of one queue, by the same schema.
pub fn queue_view(view: &QueueView) -> Value {
    let QueueView { shown, consumers, readers, bindings, looks, traits, .. } = view;
    let mut body = shown_queue(shown);
    set(&mut body, "consumers", *consumers);
    let reader = |Consumer { connection, user, address, prefetch, .. }: &Consumer| json!({"connection": connection, "user": user, "address": address, "prefetch": prefetch});
    let binding =
        |Binding { exchange, routing_key }: &Binding| json!({"exchange": exchange, "routingKey": routing_key});
    let look = |Look { at, ready, unacked, total, consumers, .. }: &Look| {
        let mut look = json!({"time": at.to_string(), "ready": ready, "unacked": unacked, "total": total});
        set(&mut look, "consumers", *consumers);
        look
    };
    body["readers"] = readers.iter().map(reader).collect();
    body["bindings"] = bindings.iter().take(MOST_BINDINGS).map(binding).collect();
    body["traits"] = traits.iter().map(|(name, value)| json!({"name": name, "value": value})).collect();
    body["history"] = looks.iter().map(look).collect();
    body
}

/// An exchange, by the schema `v1/list-exchanges-response`.
pub fn shown_exchange(of: &BrokerExchange) -> Value {
    let BrokerExchange { name, kind, durable, auto_delete, internal } = of;
    json!({"exchange": name, "kind": kind, "durable": durable, "autoDelete": auto_delete, "internal": internal})
}

const _: () = assert!(MOST_QUEUES == 1000, "the schema of `deleteQueues` says so, too");
