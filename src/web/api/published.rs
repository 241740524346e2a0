//! The contract as it is served.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;

use super::app::App;
use crate::web::edge::reply::{json_response, not_found};

/// Schemas, references and their manifest, below the root URL.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/schemas/pulse/v1/{file}", get(serve_schema))
        .route("/references/pulse/v1/api.json", get(serve_reference))
        .route("/references/manifest.json", get(serve_manifest))
        .method_not_allowed_fallback(not_found)
        .with_state(app)
}

async fn serve_schema(State(app): State<Arc<App>>, Path(file): Path<String>) -> Response {
    match app.contract.schema(&format!("v1/{file}")) {
        Some(schema) => json_response(StatusCode::OK, schema),
        None => not_found().await,
    }
}

async fn serve_reference(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, &app.contract.reference())
}

async fn serve_manifest(State(app): State<Arc<App>>) -> Response {
    json_response(StatusCode::OK, &app.contract.manifest())
}
