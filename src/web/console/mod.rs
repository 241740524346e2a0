//! The console: pages for people, made here and working without a script.
//!
//! * `routes`: the table of pages, each of which is a `page`; `stages`: what happens to each request; `visit`: one that was let in.
//! * `cookie`, `sender`: by what a session is known, and that a form is one of ours.
//! * `answer`, `trouble`, `frame`: from a page, or from what is in the way, to a response.
//! * `sign_in`, `status`, `namespaces`, `namespace`, `queues`, `queue`, `exchanges`, `exchange`, `inspector`, `audit`, `administration`: the pages; `assets`: what they load.
//! * `rows`, `choice`, `chart`, `outlook`, `export`: what tables show and of what, drawings, what will happen, files to keep.
//! * `confirm`: the pages around each act; `destroy`, `many`, `own`, `ends`, `exempt`: the acts.
//! * [`settings`]: how it is served.
//!
//! What a page does is one function of the service that the API calls, too; and whether somebody may, `domain::rights` says.

mod administration;
mod answer;
mod assets;
mod audit;
mod chart;
mod choice;
mod confirm;
mod cookie;
mod destroy;
mod ends;
mod exchange;
mod exchanges;
mod exempt;
mod export;
mod frame;
mod inspector;
mod many;
mod namespace;
mod namespaces;
mod outlook;
mod own;
mod page;
mod queue;
mod queues;
mod routes;
mod rows;
mod sender;
pub mod settings;
mod sign_in;
mod stages;
mod status;
mod trouble;
mod visit;

use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::Response;
use axum::routing::get;

use super::api::app::App;
use trouble::Trouble;

pub(super) use answer::FACE;

/// The pages, below `/console`.
pub(super) fn router(app: Arc<App>) -> Router {
    routes::router()
        .route("/assets/{name}", get(assets::serve))
        .fallback(missing)
        .method_not_allowed_fallback(missing)
        .with_state(app)
        .layer(map_response(add_headers))
}

/// Leads whoever asks for the root of the service here.
pub(super) fn enter() -> Response {
    answer::see("/console")
}

async fn missing() -> Response {
    let text = "There is no such page. The parts of the console are at the head of each.";
    answer::trouble(&Trouble::new(StatusCode::NOT_FOUND, "Not here", text), None)
}

/// The headers that every response of the console has, beside those that all have.
async fn add_headers(mut response: Response) -> Response {
    for (name, value) in [
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}
