//! Handlers of the endpoints about monitoring.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt as _;
use serde_json::json;

use super::endpoint::{Answer, Call, Context};
use crate::web::monitor;

pub(super) fn ping(context: Arc<Context>, _: Call) -> Answer {
    let body = context.monitor.ping();
    async move { Ok((StatusCode::OK, body)) }.boxed()
}

pub(super) fn lbheartbeat(_: Arc<Context>, _: Call) -> Answer {
    async { Ok((StatusCode::OK, json!({}))) }.boxed()
}

pub(super) fn version(_: Arc<Context>, _: Call) -> Answer {
    async { Ok((StatusCode::OK, monitor::version_object())) }.boxed()
}

pub(super) fn heartbeat(context: Arc<Context>, _: Call) -> Answer {
    async move { Ok(monitor::check(context.monitor.clone()).await) }.boxed()
}
