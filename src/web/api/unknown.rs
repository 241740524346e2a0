//! Handlers for what the broker has that nobody accounts for.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::ends;
use super::error::ApiError;
use crate::domain::name::Name;
use crate::domain::snapshot::Remains;

pub(in crate::web) fn list(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let found = context.service.unknown().await.map_err(ApiError::of_queues)?;
        let things: Vec<_> = found.things.iter().map(|(name, of)| remains(name, of, &found.theirs)).collect();
        let other = |(user, why): &(String, String)| json!({"user": user, "why": why});
        let body = json!({
            "namespaces": things,
            "adoptable": found.adoptable,
            "others": found.others.iter().map(other).collect::<Vec<_>>(),
            "reports": found.reports,
        });
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

fn remains(name: &Name, of: &Remains, theirs: &BTreeSet<Name>) -> Value {
    let Remains { users, connections, queues, exchanges, .. } = of;
    json!({
        "namespace": name.as_str(), "users": users, "connections": connections, "queues": queues, "exchanges": exchanges,
        "theirs": theirs.contains(name),
    })
}

pub(in crate::web) fn delete(context: Arc<Context>, name: Name, Call { payload, by, .. }: Call) -> Answer {
    async move {
        let ended = context.service.end_unknown(&name, &ends::reason(payload)?, &by).await;
        ends::reply(&name, Ok(ended.map_err(ApiError::of_queues)?))
    }
    .boxed()
}
