//! Handlers for ends on demand: release, revoke, disable, enable, and extend.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context, Reply};
use super::error::ApiError;
use super::namespaces;
use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::service::{Ended, ServiceError};

#[derive(Deserialize)]
struct EndBody {
    reason: String,
}

/// The reason in a payload.
pub(super) fn reason(payload: Value) -> Result<String, ApiError> {
    let EndBody { reason } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
    Ok(reason)
}

/// What was asked for is stored in either case, which Taskcluster's clients take as success.
pub(super) fn reply(name: &Name, ended: Result<Ended, ServiceError>) -> Reply {
    let body = match ended? {
        Ended::Done => json!({"namespace": name.as_str(), "state": "done"}),
        Ended::Pending(why) => json!({"namespace": name.as_str(), "state": "pending", "why": why}),
    };
    Ok((StatusCode::OK, body))
}

pub(in crate::web) fn release(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move { reply(&name, context.service.release(&name, &reason(payload)?, &by).await) }.boxed()
}

pub(in crate::web) fn revoke(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move { reply(&name, context.service.revoke(&name, &reason(payload)?, &by).await) }.boxed()
}

pub(in crate::web) fn disable(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move { reply(&name, context.service.disable(&name, &reason(payload)?, &by).await) }.boxed()
}

pub(in crate::web) fn enable(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move { reply(&name, context.service.enable(&name, &reason(payload)?, &by).await) }.boxed()
}

#[derive(Deserialize)]
struct ExtendBody {
    expires: String,
}

pub(in crate::web) fn extend(context: Arc<Context>, name: Name, call: Call) -> Answer {
    async move {
        let ExtendBody { expires } =
            serde_json::from_value(call.payload.clone()).map_err(|e| ApiError::internal(&e))?;
        // The schema has checked the format already.
        let expires = Timestamp::parse(&expires).ok_or_else(|| ApiError::input("`expires` must be a time."))?;
        context.service.extend(&name, expires, &call.by).await?;
        namespaces::get(context, name, call).await
    }
    .boxed()
}
