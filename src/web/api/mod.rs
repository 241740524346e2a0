//! Taskcluster's contract.
//!
//! * [`endpoint`]: what an endpoint is; [`routes`]: the one table of them, from which the router and `references/` are made.
//! * `dispatch`: what happens to each request; `stages`: the order of checks; `proof`: who made it.
//! * `head`, `body`, `inflate`, `query`: what a request holds.
//! * `namespaces`, `owners`, [`queues`], `ends`, `accounts`, `audit`, [`inspect`], `monitoring`: the handlers; `unknown`, `people`, `tasks`,
//!   `operations`: those for administrators; `paging`: pages of lists.
//! * [`contract`]: the schemas and references, and validation by them; `published`: as they are served.
//! * [`error`]: the only map from our errors to HTTP.
//! * `log`: one line for each request; `counts`: what is counted of them.
//! * [`app`]: what all of that works with.

mod accounts;
pub mod app;
mod audit;
pub(in crate::web) mod body;
pub mod contract;
mod counts;
mod dispatch;
pub mod endpoint;
mod ends;
pub mod error;
mod head;
mod inflate;
pub mod inspect;
mod log;
mod monitoring;
mod namespaces;
mod operations;
mod owners;
mod paging;
mod people;
mod proof;
pub(super) mod published;
pub mod query;
pub mod queues;
pub mod routes;
mod stages;
mod tasks;
mod unknown;

use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter};
use serde_json::json;

use super::edge::around::Personal;
use super::edge::reply::not_found;
use app::App;
use endpoint::{Entry, Verb};
use routes::ROUTES;

const CACHE: &str = "no-store no-cache must-revalidate";

/// The endpoints, by their paths below a mount.
pub(super) fn router(app: Arc<App>) -> Router {
    let mut api = Router::new();
    for route in routes::paths() {
        let path = route.replace('<', "{").replace('>', "}");
        let methods = methods_of(route);
        api = api.route(&path, methods.clone()).route(&format!("{path}/"), methods);
    }
    api.fallback(not_found).method_not_allowed_fallback(not_found).with_state(app)
}

/// The methods of one path of the table, and `OPTIONS`.
fn methods_of(path: &'static str) -> MethodRouter<Arc<App>> {
    let mut methods = MethodRouter::new();
    let mut allowed = Vec::new();
    for entry in ROUTES.iter().filter(|entry| entry.route == path) {
        let (filter, names): (_, &[&str]) = match entry.verb {
            Verb::Get => (MethodFilter::GET, &["GET", "HEAD"]),
            Verb::Post => (MethodFilter::POST, &["POST"]),
            Verb::Put => (MethodFilter::PUT, &["PUT"]),
            Verb::Delete => (MethodFilter::DELETE, &["DELETE"]),
        };
        allowed.extend_from_slice(names);
        methods = methods.on(filter, move |State(app), params, request| handle(app, entry, params, request));
    }
    let allow = allowed.join(", ");
    methods.options(move || async move { ([(header::ALLOW, allow.clone())], allow) })
}

async fn handle(
    app: Arc<App>,
    entry: &'static Entry,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
) -> Response {
    let params = match params {
        Ok(params) if is_decodable(request.uri().path()) => {
            Ok(params.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
        }
        _ => Err("The path must be UTF-8, and each % in it must be followed by two hexadecimal digits.".to_owned()),
    };
    dispatch::dispatch(app, entry, params, request).await
}

/// Whether each percent sign begins an escape. (axum takes others for what they are, Taskcluster doesn't.)
fn is_decodable(path: &str) -> bool {
    let mut escapes = path.split('%').skip(1);
    escapes.all(|escape| escape.len() >= 2 && escape.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()))
}

/// The headers that every response below an API mount has; spelled as Taskcluster spells them.
pub(super) async fn add_headers(mut response: Response) -> Response {
    let (cache, vary) = match response.extensions().get::<Personal>() {
        // Taskcluster's own value is of no form that a cache must understand.
        Some(Personal { known: true }) => ("private, no-store", "Accept-Encoding, Authorization"),
        Some(Personal { known: false }) => (CACHE, "Accept-Encoding, Authorization"),
        None => (CACHE, "Accept-Encoding"),
    };
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-max-age", "900"),
        ("access-control-allow-methods", "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT"),
        ("access-control-request-method", "*"),
        ("access-control-allow-headers", "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control"),
        ("cache-control", cache),
        ("vary", vary),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
