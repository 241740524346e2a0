//! What an endpoint is: what is asked for in it, and what answers it.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::future::BoxFuture;
use serde_json::{Map, Value, json};

use super::error::ApiError;
use super::query::{Query, QueryRule};
use crate::clock::Timestamp;
use crate::domain::audit::By;
use crate::domain::name::Name;
use crate::domain::rights::{PARAMETER, Right};
use crate::service::{Service, TaskPolicies};
use crate::web::monitor::Monitor;

/// The HTTP method of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `GET`, and `HEAD` with it.
    Get,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `DELETE`
    Delete,
}

impl Verb {
    /// As Taskcluster's references have it.
    fn word(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::Post => "post",
            Verb::Put => "put",
            Verb::Delete => "delete",
        }
    }
}

/// What a handler answers with.
pub type Reply = Result<(StatusCode, Value), ApiError>;

/// A handler at work.
pub type Answer = BoxFuture<'static, Reply>;

/// The parameters of a path, decoded.
pub type Params = Map<String, Value>;

/// A request that was checked.
pub struct Call {
    /// The parameters of its path.
    pub params: Params,
    /// The parameters of its query.
    pub query: Query,
    /// Its payload, `{}` where there is none.
    pub payload: Value,
    /// The client whose things are counted with those of the request: with temporary credentials, the one that issued them.
    /// `None` where the endpoint is open to anybody.
    pub client: Option<String>,
    /// Who sent it, as the audit trail has it.
    pub by: By,
    /// Where it repeats an earlier one, when that was first seen.
    pub first_seen: Option<Timestamp>,
    /// What its sender may do. Nothing for a claim, which is decided by then, and where it is not proven who that is.
    pub scopes: Vec<String>,
}

/// What handlers work with.
pub struct Context {
    /// The use cases.
    pub service: Arc<Service>,
    /// How the process is.
    pub monitor: Arc<Monitor>,
    /// How the scheduled tasks work that have a policy.
    pub tasks: TaskPolicies,
}

/// What answers an endpoint, once everything is checked.
#[derive(Clone, Copy)]
pub enum Handler {
    /// Of an endpoint of the whole service.
    Whole(fn(Arc<Context>, Call) -> Answer),
    /// Of an endpoint of the namespace in the path (`<namespace>`), with its name.
    Namespace(fn(Arc<Context>, Name, Call) -> Answer),
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
    /// The longest body that it takes, in bytes, inflated or not. Anybody may send one: a body is read before it is known who
    /// sent it, because a signature covers it, so this is no more than what the payload needs.
    pub longest_body: usize,
    /// The schema of its answer, likewise.
    pub output: Option<&'static str>,
    /// The right that a caller must have: over the namespace in the path or, where there is none, over everything. `None` for
    /// an endpoint that is open to anybody.
    pub right: Option<Right>,
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

    /// The scopes of which a caller must have one; `<namespace>` stands for the value in the path. `None` for an endpoint that is
    /// open to anybody.
    pub fn scopes(&self) -> Option<Vec<&'static str>> {
        let given = self.right?.scopes().iter().copied();
        let named = self.args().contains(&"namespace");
        Some(given.filter(|scope| named || !scope.contains(PARAMETER)).collect())
    }

    /// Whether it only tells how the service is, which it must be able to do whatever else is asked of it.
    pub fn is_monitoring(&self) -> bool {
        self.category == "Monitoring"
    }

    /// Whether anybody may call it, and it shows more to some.
    pub fn is_personal(&self) -> bool {
        self.right.is_none() && !self.is_monitoring()
    }

    /// Whether its answer has as many parts as there are, page by page.
    pub fn lists(&self) -> bool {
        self.query.iter().any(|rule| rule.name == "continuationToken")
    }

    /// This entry in the API reference.
    pub fn reference(&self) -> Value {
        let mut entry = json!({
            "type": "function",
            "method": self.verb.word(),
            "route": self.route,
            "query": self.query.iter().map(|rule| rule.name).collect::<Vec<_>>(),
            "args": self.args(),
            "name": self.name,
            "stability": self.stability,
            "category": self.category,
            "title": self.title,
            "description": self.description,
        });
        if let Some(scopes) = self.scopes() {
            entry["scopes"] = if scopes.len() == 1 { json!({"AllOf": scopes}) } else { json!({"AnyOf": scopes}) };
        }
        for (key, schema) in [("input", self.input), ("output", self.output)] {
            if let Some(schema) = schema {
                entry[key] = json!(schema);
            }
        }
        entry
    }
}
