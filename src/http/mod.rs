//! The HTTP API: the only code that knows status codes. It calls the service, and never the store or the broker.
//!
//! * [`routes`]: the one table of endpoints, from which the router and `references/` are made.
//! * `dispatch`: what happens to each API request, in Taskcluster's order of checks; `body` reads what it sends.
//! * `encoding`: bodies inflated, replies compressed.
//! * `namespaces`, `ops`: the handlers.
//! * [`contract`]: the published schemas and references, and validation by them.
//! * [`error`]: the only map from our errors to HTTP.
//! * `around`: what goes around every request: ids, headers, `forceSSL`.
//! * `forwarded`: what proxies say, where they are ours.
//! * [`limits`]: how much is done at a time, and for whom.
//! * `log`: one line for each request.
//! * [`server`], [`connection`]: connections: time-outs, limits, draining.

mod around;
mod body;
pub mod connection;
pub mod contract;
mod dispatch;
mod encoding;
pub mod error;
mod forwarded;
pub mod limits;
mod log;
mod namespaces;
mod ops;
pub mod routes;
pub mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, get};
use ipnet::IpNet;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use url::Url;

use crate::auth::Authenticator;
use crate::clock::{Clock, Timestamp};
use crate::service::Service;
use contract::Contract;
use limits::{Gate, Limits};
use ops::Checkups;
use routes::{Entry, ROUTES, Verb};

/// How the API is served.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The deployment's root URL: what published schemas are named after, and whose path the API is mounted under.
    pub root_url: Option<Url>,
    /// The longest body that is read, in bytes.
    pub body_limit: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a caller is let wait for an answer, once its request is read and checked.
    pub request_timeout: Duration,
    /// Whether plain HTTP is sent to HTTPS (`GET`, `HEAD`) or refused (all else).
    pub force_ssl: bool,
    /// Whether `X-Forwarded-*` headers come from a proxy of ours.
    pub trust_proxy: bool,
    /// The proxies whose `X-Forwarded-*` headers count; where there are none, those of anybody do.
    pub trusted_proxies: Vec<IpNet>,
    /// How much is done at a time.
    pub limits: Limits,
}

/// How long a neighbour may take to show that it is there.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// What handlers work with.
pub struct App {
    /// The use cases.
    pub service: Arc<Service>,
    /// Who is asking.
    pub authenticator: Authenticator,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How the API is served.
    pub settings: Settings,
    gate: Gate,
    checkups: Checkups,
    contract: Contract,
    started: Timestamp,
}

impl App {
    /// Ready to serve.
    ///
    /// # Errors
    /// A sentence, where the schemas built into the program can't be used.
    pub fn new(
        service: Arc<Service>,
        authenticator: Authenticator,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<App, String> {
        let contract = Contract::new(settings.root_url.as_ref())?;
        let started = clock.now();
        let (gate, checkups) = (Gate::new(settings.limits), Checkups::default());
        Ok(App { service, authenticator, clock, settings, gate, checkups, contract, started })
    }

    /// Whether the neighbours answer in time that requests need: the store, the broker, and the auth service where it is
    /// asked. By name, with what is wrong.
    pub async fn health(&self) -> Vec<(&'static str, Result<(), String>)> {
        let (mut health, auth) = tokio::join!(self.service.health(PATIENCE), self.authenticator.health(PATIENCE));
        health.extend(auth.map(|auth| ("auth", auth)));
        health
    }
}

/// The address at the other end of a connection; the server puts it into each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// In the extensions of a request: it came on a connection more than the service takes, and is the last one there.
#[derive(Clone, Copy)]
pub(super) struct Crowded;

/// Where the API is mounted: where today's clients look for it, and where the oldest ones do.
const MOUNTS: [&str; 2] = ["/api/pulse/v1", "/v1"];

/// Everything that is served, on one port: at the root, and below the path of the root URL.
///
/// The case of a mount is irrelevant, as it is in Taskcluster; that of what is below is not.
pub fn router(app: Arc<App>) -> Router {
    let (api, root) = (api().with_state(app.clone()), root().with_state(app.clone()));
    let prefix = app.settings.root_url.as_ref().map_or("", |url| url.path()).trim_end_matches('/').to_owned();
    let enter = move |mut request: Request| {
        // A proxy in front may have stripped the prefix, or not.
        if let Some(uri) = below(&prefix, request.uri()) {
            *request.uri_mut() = uri;
        }
        let mounted = MOUNTS.iter().find_map(|mount| below(mount, request.uri()));
        let router = if mounted.is_some() { api.clone() } else { root.clone() };
        if let Some(uri) = mounted {
            *request.uri_mut() = uri;
        }
        router.oneshot(request)
    };
    Router::new().fallback(enter).layer(from_fn_with_state(app, around::around))
}

/// The API below its mount.
fn api() -> Router<Arc<App>> {
    let mut api = Router::new();
    for route in routes::paths() {
        let path = route.replace('<', "{").replace('>', "}");
        let methods = methods_of(route);
        api = api.route(&path, methods.clone()).route(&format!("{path}/"), methods);
    }
    api.fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .layer(from_fn(encoding::compress))
        .layer(map_response(around::add_api_headers))
}

/// What is not part of the API: Dockerflow's endpoints, and the published contract.
fn root() -> Router<Arc<App>> {
    Router::new()
        .route("/schemas/pulse/v1/{file}", get(contract::serve_schema))
        .route("/references/pulse/v1/api.json", get(contract::serve_reference))
        .route("/references/manifest.json", get(contract::serve_manifest))
        .fallback(ops::at_root)
        .method_not_allowed_fallback(not_found)
}

/// The target `uri` as it is below `mount`, if it is there. What the sender signed is kept elsewhere, as axum's
/// `OriginalUri`.
fn below(mount: &str, uri: &Uri) -> Option<Uri> {
    let (head, rest) = uri.path().split_at_checked(mount.len())?;
    if !head.eq_ignore_ascii_case(mount) || !(rest.is_empty() || rest.starts_with('/')) {
        return None;
    }
    let path = if rest.is_empty() { "/" } else { rest };
    match uri.query() {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

/// The methods of one path of the table, and `OPTIONS`.
fn methods_of(path: &'static str) -> MethodRouter<Arc<App>> {
    let mut methods = MethodRouter::new();
    let mut allowed = Vec::new();
    for entry in ROUTES.iter().filter(|entry| entry.route == path) {
        let (filter, names): (_, &[&str]) = match entry.verb {
            Verb::Get => (MethodFilter::GET, &["GET", "HEAD"]),
            Verb::Post => (MethodFilter::POST, &["POST"]),
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

/// What Taskcluster answers to a path that it doesn't know, and to a method that a path doesn't have.
async fn not_found() -> Response {
    json_response(StatusCode::NOT_FOUND, &json!({"error": "Not found"}))
}

/// The longest error that is indented, in bytes without it. An error repeats what was sent, which may be nested so deep that
/// its indentation is a hundred times as long.
const LONGEST_INDENTED: usize = 16 * 1024;

/// A JSON response as Taskcluster writes it: two blanks of indentation, and a weak `ETag`.
fn json_response(status: StatusCode, body: &Value) -> Response {
    let plain = if status.is_success() { String::new() } else { body.to_string() };
    let text = if plain.len() > LONGEST_INDENTED { plain } else { format!("{body:#}") };
    let headers =
        [(header::CONTENT_TYPE, "application/json; charset=utf-8".to_owned()), (header::ETAG, around::etag(&text))];
    (status, headers, text).into_response()
}

fn header_text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
