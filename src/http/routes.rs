//! The one table of endpoints. The router, `references/pulse/v1/api.json` and the order of checks are made from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use futures::future::BoxFuture;
use serde_json::{Value, json};

use super::{App, error::ApiError, namespaces, ops};
use crate::clock::Timestamp;
use crate::domain::name::Name;

/// The HTTP method of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`, and `HEAD` with it.
    Get,
    /// `POST`
    Post,
}

/// A parameter in the query that an endpoint accepts.
#[derive(Debug, Clone, Copy)]
pub struct QueryRule {
    /// Its name.
    pub name: &'static str,
    /// The regular expression that its value must match, as it is shown in errors.
    pub pattern: &'static str,
    /// Whether a value matches it.
    pub accepts: fn(&str) -> bool,
}

/// The parameters of a query, by their names.
pub type Query = BTreeMap<String, String>;

/// What a handler answers with.
pub type Reply = Result<(StatusCode, Value), ApiError>;

/// A handler at work.
pub type Answer = BoxFuture<'static, Reply>;

/// What answers an endpoint, once everything is checked.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Of an endpoint of the whole service, with the query.
    Whole(fn(Arc<App>, Query) -> Answer),
    /// Of an endpoint of the namespace in the path (`<namespace>`), with its name, the payload, which is `{}` where there
    /// is none, and where the request repeats an earlier one, when that was first seen.
    Namespace(fn(Arc<App>, Name, Value, Option<Timestamp>) -> Answer),
}

/// One endpoint.
pub struct Entry {
    /// Its name, which clients use for the method that calls it.
    pub name: &'static str,
    /// Its method.
    pub verb: Verb,
    /// Its path, with parameters in angle brackets.
    pub route: &'static str,
    /// What the query may hold.
    pub query: &'static [QueryRule],
    /// The schema of its payload, relative to `/schemas/pulse/`.
    pub input: Option<&'static str>,
    /// The schema of its answer, likewise.
    pub output: Option<&'static str>,
    /// The scopes that a caller must satisfy, all of them; `<parameter>` stands for the value in the path. `None` for
    /// an endpoint that is open to anybody.
    pub scopes: Option<&'static [&'static str]>,
    /// `stable` or `experimental`.
    pub stability: &'static str,
    /// Under which heading it is documented.
    pub category: &'static str,
    /// A short title.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// What answers it.
    pub handler: Handler,
}

impl Entry {
    /// The names of the parameters in the path, in order.
    pub fn args(&self) -> Vec<&'static str> {
        let segments = self.route.split('/');
        segments.filter_map(|segment| segment.strip_prefix('<')?.strip_suffix('>')).collect()
    }

    /// Whether it only tells how the service is, which it must be able to do whatever else is asked of it.
    pub fn is_monitoring(&self) -> bool {
        self.category == "Monitoring"
    }

    /// This entry in the API reference.
    pub fn reference(&self) -> Value {
        let mut entry = json!({
            "type": "function",
            "method": match self.verb { Verb::Get => "get", Verb::Post => "post" },
            "route": self.route,
            "query": self.query.iter().map(|rule| rule.name).collect::<Vec<_>>(),
            "args": self.args(),
            "name": self.name,
            "stability": self.stability,
            "category": self.category,
            "title": self.title,
            "description": self.description,
        });
        if let Some(scopes) = self.scopes {
            entry["scopes"] = json!({"AllOf": scopes});
        }
        for (key, schema) in [("input", self.input), ("output", self.output)] {
            if let Some(schema) = schema {
                entry[key] = json!(schema);
            }
        }
        entry
    }
}

const LIST_QUERY: &[QueryRule] = &[
    QueryRule { name: "limit", pattern: "/[0-9]+/", accepts: |value| value.bytes().any(|b| b.is_ascii_digit()) },
    QueryRule { name: "continuationToken", pattern: "/./", accepts: |value| !value.is_empty() },
];

/// Every endpoint of the API, in the order in which they are documented.
pub static ROUTES: &[Entry] = &[
    Entry {
        name: "ping",
        verb: Verb::Get,
        route: "/ping",
        query: &[],
        input: None,
        output: None,
        scopes: None,
        stability: "stable",
        category: "Monitoring",
        title: "Ping Server",
        description: "Respond without doing anything. It tells that the service is up.",
        handler: Handler::Whole(ops::ping),
    },
    Entry {
        name: "lbheartbeat",
        verb: Verb::Get,
        route: "/__lbheartbeat__",
        query: &[],
        input: None,
        output: None,
        scopes: None,
        stability: "stable",
        category: "Monitoring",
        title: "Load Balancer Heartbeat",
        description: "Respond without doing anything. It tells a load balancer that the service is up.",
        handler: Handler::Whole(ops::lbheartbeat),
    },
    Entry {
        name: "version",
        verb: Verb::Get,
        route: "/__version__",
        query: &[],
        input: None,
        output: None,
        scopes: None,
        stability: "stable",
        category: "Monitoring",
        title: "Taskcluster Version",
        description: "Respond with the version of the service, as Dockerflow's version object.",
        handler: Handler::Whole(ops::version),
    },
    Entry {
        name: "listNamespaces",
        verb: Verb::Get,
        route: "/namespaces",
        query: LIST_QUERY,
        input: None,
        output: Some("v1/list-namespaces-response.json#"),
        scopes: None,
        stability: "experimental",
        category: "Namespaces",
        title: "List Namespaces",
        description: "List the namespaces that exist, in the order of their names.\n\n\
                      At most 1000 are returned at a time, or `limit` where that is less. A reply with a \
                      `continuationToken` is not the last: pass that token to get what follows.",
        handler: Handler::Whole(namespaces::list),
    },
    Entry {
        name: "namespace",
        verb: Verb::Get,
        route: "/namespace/<namespace>",
        query: &[],
        input: None,
        output: Some("v1/namespace.json#"),
        scopes: None,
        stability: "experimental",
        category: "Namespaces",
        title: "Get a Namespace",
        description: "Get what anybody may know of one namespace; its credentials are not among that.",
        handler: Handler::Namespace(namespaces::get),
    },
    Entry {
        name: "claimNamespace",
        verb: Verb::Post,
        route: "/namespace/<namespace>",
        query: &[],
        input: Some("v1/namespace-request.json#"),
        output: Some("v1/namespace-response.json#"),
        scopes: Some(&["pulse:namespace:<namespace>"]),
        stability: "experimental",
        category: "Namespaces",
        title: "Claim a Namespace",
        description: "Claim a namespace, and get a connection string for it.\n\n\
                      The connection string logs in at once and until `reclaimAt`. Claim the namespace again by then: \
                      the password changes regularly, and a connection string is not good for long after it did. \
                      With it, queues named `queue/<namespace>/...` and exchanges named `exchange/<namespace>/...` \
                      can be declared and used, and every namespace's exchanges can be bound to.\n\n\
                      A namespace that doesn't exist is made. Once it has expired, its queues and exchanges are \
                      deleted, so claim it again with a later `expires` as long as it is needed.",
        handler: Handler::Namespace(namespaces::claim),
    },
    Entry {
        name: "heartbeat",
        verb: Verb::Get,
        route: "/__heartbeat__",
        query: &[],
        input: None,
        output: None,
        scopes: None,
        stability: "stable",
        category: "Monitoring",
        title: "Heartbeat",
        description: "Respond with 200 if the service can reach its database, RabbitMQ and the auth service, as far as \
                      it needs them, and its clock is right; and with 502 and the names of what fails if not.",
        handler: Handler::Whole(ops::heartbeat),
    },
];

/// Each path of the table, once.
pub fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = ROUTES.iter().map(|entry| entry.route).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}
