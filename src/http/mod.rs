//! The HTTP API: the only code that knows status codes. It calls the service, and never the store or the broker.
//!
//! * [`routes`]: the one table of endpoints, from which the router and `references/` are made.
//! * [`dispatch`]: what happens to each API request, in Taskcluster's order of checks.
//! * `namespaces`, `ops`: the handlers.
//! * [`contract`]: the published schemas and references, and validation by them.
//! * [`error`]: the only map from our errors to HTTP.
//! * [`server`]: connections: time-outs, limits, draining.

pub mod contract;
pub mod dispatch;
pub mod error;
mod namespaces;
mod ops;
pub mod routes;
pub mod server;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, any, get};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::auth::Authenticator;
use crate::clock::{Clock, Timestamp};
use crate::service::Service;
use contract::Contract;
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
    /// Whether plain HTTP is sent to HTTPS (`GET`, `HEAD`) or refused (all else).
    pub force_ssl: bool,
    /// Whether `X-Forwarded-*` headers come from a proxy of ours.
    pub trust_proxy: bool,
}

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
        Ok(App { service, authenticator, clock, settings, contract, started })
    }
}

/// The address at the other end of a connection; the server puts it into each request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Everything that is served, on one port.
pub fn router(app: Arc<App>) -> Router {
    let mut router = Router::new();
    for mount in mounts(app.settings.root_url.as_ref()) {
        let mut api = Router::new();
        for route in routes::paths() {
            let axum_path = route.replace('<', "{").replace('>', "}");
            let methods = methods_of(route);
            api = api.route(&axum_path, methods.clone()).route(&format!("{axum_path}/"), methods);
        }
        let api = api
            .fallback(not_found)
            .method_not_allowed_fallback(not_found)
            .layer(middleware::map_response(add_api_headers));
        router = router.nest(&mount, api);
    }
    for route in ["/__version__", "/__heartbeat__", "/__lbheartbeat__", "/robots.txt"] {
        router = router.route(route, any(ops::at_root)).route(&format!("{route}/{{*rest}}"), any(ops::at_root));
    }
    let prefix = path_prefix(app.settings.root_url.as_ref());
    router
        .route(&format!("{prefix}/schemas/pulse/v1/{{file}}"), get(contract::serve_schema))
        .route(&format!("{prefix}/references/pulse/v1/api.json"), get(contract::serve_reference))
        .fallback(not_found)
        .layer(middleware::from_fn_with_state(app.clone(), wrap))
        .with_state(app)
}

/// The path of the root URL, without a slash at its end.
fn path_prefix(root_url: Option<&Url>) -> &str {
    root_url.map_or("", |url| url.path().trim_end_matches('/'))
}

/// Where the API is mounted: below the root URL's path, where a proxy may have stripped that, and where the oldest
/// clients look for it.
fn mounts(root_url: Option<&Url>) -> Vec<String> {
    let mut mounts = vec!["/api/pulse/v1".to_owned(), "/v1".to_owned()];
    match path_prefix(root_url) {
        "" => {}
        prefix => mounts.push(format!("{prefix}/api/pulse/v1")),
    }
    mounts
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
    params: Result<RawPathParams, axum::extract::rejection::RawPathParamsRejection>,
    request: Request,
) -> Response {
    let params = params.map(|params| params.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect());
    dispatch::dispatch(app, entry, params.map_err(|bad| bad.body_text()), request).await
}

/// What Taskcluster answers to a path that it doesn't know, and to a method that a path doesn't have.
async fn not_found() -> Response {
    json_response(StatusCode::NOT_FOUND, &json!({"error": "Not found"}))
}

/// A JSON response as Taskcluster writes it: two blanks of indentation.
fn json_response(status: StatusCode, body: &Value) -> Response {
    let text = format!("{body:#}");
    (status, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
}

/// The ids of a request, in its extensions: for the log, and sent back in the response.
#[derive(Debug, Clone)]
pub struct RequestIds {
    /// Given by the caller, to follow one story through many services; else new.
    pub trace: String,
    /// Always new.
    pub request: String,
}

/// What goes around every request: `forceSSL`, ids, and the headers that every response has.
async fn wrap(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let given = request.headers().get("x-taskcluster-trace-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let trace = given.filter(|id| !id.is_empty() && id.len() <= 128).unwrap_or_else(|| Uuid::new_v4().to_string());
    let ids = RequestIds { trace, request: Uuid::new_v4().to_string() };
    request.extensions_mut().insert(ids.clone());
    let mut response = match redirect_to_https(&app.settings, &request) {
        Some(response) => response,
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [("x-for-trace-id", &ids.trace), ("x-for-request-id", &ids.request)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    let policy = "report-uri /__cspreport__;default-src 'none';frame-ancestors 'none';";
    headers.insert("content-security-policy", HeaderValue::from_static(policy));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if app.settings.force_ssl {
        let ninety_days = HeaderValue::from_static("max-age=7776000; includeSubDomains");
        headers.insert("strict-transport-security", ninety_days);
    }
    response
}

/// Where HTTPS is forced and this request came without: a redirection, or a refusal where it would lose its body.
fn redirect_to_https(settings: &Settings, request: &Request) -> Option<Response> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let secure = settings.trust_proxy && header("x-forwarded-proto").starts_with("https");
    if !settings.force_ssl || secure {
        return None;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let text = "Please use HTTPS when submitting data to this server.";
        return Some((StatusCode::FORBIDDEN, text).into_response());
    }
    let target = format!("https://{}{}", header("host"), request.uri());
    Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target.clone())], target).into_response())
}

/// The headers that every response below an API mount has; spelled as Taskcluster spells them.
async fn add_api_headers(mut response: Response<Body>) -> Response<Body> {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-max-age", "900"),
        ("access-control-allow-methods", "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT"),
        ("access-control-request-method", "*"),
        ("access-control-allow-headers", "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control"),
        ("cache-control", "no-store no-cache must-revalidate"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
