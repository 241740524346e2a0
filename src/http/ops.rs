//! Handlers for those who watch the service: `ping` and the Dockerflow endpoints.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::State;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::future::{BoxFuture, WeakShared};
use serde_json::{Value, json};

use super::routes::{Answer, Query};
use super::{App, json_response, not_found};

pub(super) fn ping(app: Arc<App>, _: Query) -> Answer {
    let uptime = app.clock.now().since(app.started).as_secs_f64();
    async move { Ok((StatusCode::OK, json!({"alive": true, "uptime": uptime}))) }.boxed()
}

pub(super) fn lbheartbeat(_: Arc<App>, _: Query) -> Answer {
    async { Ok((StatusCode::OK, json!({}))) }.boxed()
}

pub(super) fn version(_: Arc<App>, _: Query) -> Answer {
    async { Ok((StatusCode::OK, version_object())) }.boxed()
}

pub(super) fn heartbeat(app: Arc<App>, _: Query) -> Answer {
    async move { Ok(check(app).await) }.boxed()
}

/// The same at the root, for any method and anything below, as Dockerflow asks for; and `robots.txt`. The case is irrelevant,
/// as it is in Taskcluster. Nothing else is there.
pub(super) async fn at_root(State(app): State<Arc<App>>, uri: Uri) -> Response {
    let mount = uri.path().split('/').nth(1).unwrap_or_default().to_ascii_lowercase();
    match mount.as_str() {
        "__version__" => json_response(StatusCode::OK, &version_object()),
        "__heartbeat__" => {
            let (status, body) = check(app).await;
            json_response(status, &body)
        }
        "__lbheartbeat__" => json_response(StatusCode::OK, &json!({})),
        "robots.txt" => {
            ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], "User-Agent: *\nDisallow: /\n").into_response()
        }
        _ => not_found().await,
    }
}

/// Dockerflow's version object. The build fills in what it knows.
fn version_object() -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("PULSE_COMMIT").unwrap_or(""),
        "source": option_env!("PULSE_SOURCE").unwrap_or(""),
        "build": option_env!("PULSE_BUILD").unwrap_or(""),
    })
}

/// A check that several may wait for.
type Checkup = WeakShared<BoxFuture<'static, (StatusCode, Value)>>;

/// The check that is being made, if one is.
#[derive(Default)]
pub(super) struct Checkups(Mutex<Option<Checkup>>);

/// Whoever asks while a check is being made gets its result: many who ask cost no more than one.
async fn check(app: Arc<App>) -> (StatusCode, Value) {
    let checkup = {
        let mut current = app.checkups.0.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref().and_then(WeakShared::upgrade).filter(|checkup| checkup.peek().is_none()) {
            Some(checkup) => checkup,
            None => {
                let app = app.clone();
                let checkup = async move { examine(&app).await }.boxed().shared();
                *current = checkup.downgrade();
                checkup
            }
        }
    };
    checkup.await
}

/// `{}` if all neighbours answer in time; else which of them fail, with 502.
async fn examine(app: &App) -> (StatusCode, Value) {
    let mut failing = Vec::new();
    for (part, health) in app.health().await {
        if let Err(error) = health {
            tracing::warn!(r#type = "heartbeat", part, "{part} fails: {error}");
            failing.push(part);
        }
    }
    if failing.is_empty() {
        return (StatusCode::OK, json!({}));
    }
    (StatusCode::BAD_GATEWAY, json!({"error": "Not healthy", "failing": failing}))
}
