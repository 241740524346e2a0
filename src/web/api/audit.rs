//! Handlers for the audit trail.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use super::paging;
use super::query::{Query, QueryRule};
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, AuditFilter, By};
use crate::domain::name::Name;

/// What a page of the trail is chosen by, and by which namespace, for those who may read all of it.
pub(super) const ALL_QUERY: &[QueryRule] = &[NAMESPACE, ACTOR, ACTION, FROM, TO, paging::LIMIT, paging::TOKEN];
/// The same of one namespace.
pub(super) const QUERY: &[QueryRule] = &[ACTOR, ACTION, FROM, TO, paging::LIMIT, paging::TOKEN];

const NAMESPACE: QueryRule = QueryRule { name: "namespace", pattern: "/./", accepts: |value| !value.is_empty() };
const ACTOR: QueryRule = QueryRule { name: "actor", ..NAMESPACE };
const ACTION: QueryRule = QueryRule { name: "action", ..NAMESPACE };
const FROM: QueryRule = QueryRule {
    name: "from",
    pattern: "a date and time, as in 2026-12-01T00:00:00Z",
    accepts: |value| Timestamp::parse(value).is_some(),
};
const TO: QueryRule = QueryRule { name: "to", ..FROM };

pub(in crate::web) fn list(context: Arc<Context>, Call { query, .. }: Call) -> Answer {
    async move {
        let namespace = query.get(NAMESPACE.name).map(|name| Name::from_stored(name.clone()));
        page(&context, &query, namespace).await
    }
    .boxed()
}

pub(in crate::web) fn of_namespace(context: Arc<Context>, name: Name, Call { query, .. }: Call) -> Answer {
    async move { page(&context, &query, Some(name)).await }.boxed()
}

async fn page(context: &Context, query: &Query, namespace: Option<Name>) -> Result<(StatusCode, Value), ApiError> {
    let limit = paging::page_size(query);
    let after = paging::after(query)?.map(|[at, id]: [String; 2]| {
        let at = at.parse().map_err(|_| ApiError::input("Invalid continuation token: it has no time."))?;
        Ok::<_, ApiError>((Timestamp::from_millis(at), id))
    });
    let text = |rule: QueryRule| query.get(rule.name).cloned();
    let moment = |rule| text(rule).and_then(|text| Timestamp::parse(&text));
    let filter = AuditFilter {
        namespace,
        actor: text(ACTOR),
        action: text(ACTION),
        from: moment(FROM),
        to: moment(TO),
        after: after.transpose()?,
    };
    let found = context.service.audits(&filter, limit + 1).await?;
    let (found, token) = paging::page(found, limit, |last| [last.at.millis().to_string(), last.id.clone()]);
    let mut body = json!({"records": found.iter().map(record).collect::<Vec<_>>()});
    if let Some(token) = token {
        body["continuationToken"] = json!(token);
    }
    Ok((StatusCode::OK, body))
}

fn record(of: &Audit) -> Value {
    let Audit { id, at, by: By { actor, request }, action, namespace, object, reason } = of;
    let (kind, name) = actor.parts();
    json!({
        "id": id,
        "time": at.to_string(),
        "actorKind": kind,
        "actor": name,
        "action": action,
        "namespace": namespace.as_ref().map_or("", Name::as_str),
        "object": object,
        "reason": reason,
        "requestId": request.as_deref().unwrap_or_default(),
    })
}
