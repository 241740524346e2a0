//! Everything that listens: the only code that knows status codes. It calls the service, and never the store or the broker.
//!
//! * [`edge`]: what is the same for all that is served: connections, limits, what goes around each request.
//! * [`api`]: Taskcluster's contract: endpoints, the order of checks, bodies, errors.
//! * [`console`]: pages for people.
//! * [`monitor`]: Dockerflow's endpoints.
//!
//! Here is what is mounted where, and what goes around it.

pub mod api;
pub mod console;
pub mod edge;
pub mod monitor;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::get;
use tower::ServiceExt as _;
use tracing::Instrument as _;

use api::app::App;
use api::published;
use edge::around::{self, Condition, Edge, Ids};
use edge::pace::Allowance;
use edge::reply::{Face, JSON};
use edge::{encoding, forwarded, log};

/// Where the API is mounted: where today's clients look for it, and where the oldest ones do.
const MOUNTS: [&str; 2] = ["/api/pulse/v1", "/v1"];

/// Where the console is mounted.
const CONSOLE: &str = "/console";

/// All that the web part serves, on one port: at the root, and below the path of the root URL.
///
/// The case of a mount is irrelevant, as it is in Taskcluster; that of what is below is not.
pub fn router(app: Arc<App>) -> Router {
    let edge = app.edge.clone();
    let api = api::router(app.clone())
        .layer(from_fn_with_state(edge.clone(), encoding::compress))
        .layer(map_response(api::add_headers));
    let root = published::router(app.clone())
        .route("/", get(async || console::enter()))
        .fallback_service(monitor::router(app.context.monitor.clone(), app.settings.edge.error_path));
    let pages = console::router(app.clone()).layer(from_fn_with_state(edge.clone(), encoding::compress));
    let prefix = app.settings.root_url.as_ref().map_or("", |url| url.path()).trim_end_matches('/').to_owned();
    let enter = move |mut request: Request| {
        // A proxy in front may have stripped the prefix, or not.
        if let Some(uri) = below(&prefix, request.uri()) {
            *request.uri_mut() = uri;
        }
        let mounted = MOUNTS.iter().find_map(|mount| below(mount, request.uri()));
        let page = mounted.is_none().then(|| below(CONSOLE, request.uri())).flatten();
        let (part, face) = match (&mounted, &page) {
            (Some(_), _) => (api.clone(), JSON),
            (_, Some(_)) => (pages.clone(), console::FACE),
            _ => (root.clone(), JSON),
        };
        if let Some(uri) = mounted.or(page) {
            *request.uri_mut() = uri;
        }
        with_face(part, face, request)
    };
    surrounded(edge, Router::new().fallback(enter))
}

/// The reply of a part, with its face.
async fn with_face(part: Router, face: Face, request: Request) -> Response {
    let Ok(mut response) = part.oneshot(request).await;
    response.extensions_mut().insert(face);
    response
}

/// These parts, with what goes around every request.
pub fn surrounded(edge: Arc<Edge>, parts: Router) -> Router {
    parts.layer(from_fn_with_state(edge, surround))
}

/// What goes around every request and its reply, in this order.
async fn surround(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    forwarded::join(request.headers_mut());
    forwarded::sift(&mut request, &edge.settings.trusted_proxies);
    let mut ids = Ids::give(&mut request, &edge.settings);
    let summary = edge.settings.summaries.then(|| log::Summary::of(&request, &ids.id));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let (condition, allowance) = (Condition::of(&request), request.extensions().get::<Allowance>().cloned());
    let mut response = match around::refusal(&edge.settings, &request) {
        Some(refusal) => refusal,
        None => next.run(request).instrument(ids.span.clone()).await,
    };
    condition.apply(&mut response);
    let mut response = around::hold(&edge, response).await;
    around::add_headers(&edge.settings, &mut ids, &mut response);
    ids.span.in_scope(|| {
        log::other(&method, &path, began, &response);
        if let Some(summary) = summary {
            summary.log(began, &response);
        }
    });
    if let Some(pause) = edge.pause(allowance, &response) {
        tokio::time::sleep(pause).await;
    }
    response
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
