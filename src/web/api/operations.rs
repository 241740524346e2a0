//! Handlers for what whoever runs the service looks after: which RabbitMQ runs, and messages that nobody got.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use super::paging;
use super::query::QueryRule;
use crate::domain::notice::{Notice, Undelivered};
use crate::service::ServiceError;

/// How many of the messages are wanted.
pub(super) const UNDELIVERED_QUERY: &[QueryRule] = &[paging::LIMIT];

pub(in crate::web) fn rabbitmq(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let found = context.service.broker_release().await.map_err(ServiceError::from);
        let (release, warnings) = found.map_err(ApiError::of_queues)?;
        let mut body = json!({"version": release.version, "warnings": warnings});
        if release.tells_deprecated() {
            body["deprecated"] = json!(release.deprecated);
        }
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

pub(in crate::web) fn undelivered(context: Arc<Context>, Call { query, .. }: Call) -> Answer {
    async move {
        let found = context.service.undelivered(paging::page_size(&query)).await?;
        Ok((StatusCode::OK, json!({"messages": found.iter().map(message).collect::<Vec<_>>()})))
    }
    .boxed()
}

fn message(Undelivered { notice, given_up, why }: &Undelivered) -> Value {
    let Notice { id, namespace, to, subject, text, created, attempts, about, .. } = notice;
    let mut body = json!({
        "id": id, "namespace": namespace.as_str(), "to": to, "subject": subject, "text": text,
        "created": created.to_string(), "attempts": attempts, "givenUp": given_up.to_string(), "why": why,
    });
    if let Some(about) = about {
        body["queue"] = json!(about.queue);
    }
    body
}
