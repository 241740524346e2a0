//! Handlers for namespaces: list, get, claim. Thin: from the wire to the service and back.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use super::paging;
use crate::access::Refusal;
use crate::clock::Timestamp;
use crate::domain::claim::ClaimRequest;
use crate::domain::name::Name;
use crate::domain::rights::{Object, Right, Subject, may};
use crate::service::Claimed;
use crate::store::Summary;

#[derive(Serialize)]
struct NamespaceBody {
    namespace: String,
    created: String,
    expires: String,
    contact: String,
}

impl NamespaceBody {
    /// What somebody with these scopes is shown: anybody may know of the namespace, and only who may see into it who is behind it.
    fn shown_to(scopes: &[String], of: Summary) -> NamespaceBody {
        let contact = if may_see(scopes, &of.name) { of.contact } else { String::new() };
        let (created, expires) = (of.created.to_string(), of.expires.to_string());
        NamespaceBody { namespace: of.name.to_string(), created, expires, contact }
    }
}

fn may_see(scopes: &[String], name: &Name) -> bool {
    may(&Subject::machine(scopes), Right::See, Object::Namespace(name, &[]))
}

#[derive(Deserialize)]
struct ClaimBody {
    expires: Option<String>,
    contact: Option<String>,
}

pub(in crate::web) fn list(context: Arc<Context>, Call { query, scopes, .. }: Call) -> Answer {
    async move {
        let (limit, after) = (paging::page_size(&query), paging::after(&query)?.map(|[name]: [String; 1]| name));
        // One more than is shown tells whether this is the last page.
        let found = context.service.list(after.as_deref(), limit + 1).await?;
        Ok((StatusCode::OK, page(found, limit, &scopes)))
    }
    .boxed()
}

pub(in crate::web) fn unowned(context: Arc<Context>, Call { query, scopes, .. }: Call) -> Answer {
    async move {
        let (limit, after) = (paging::page_size(&query), paging::after(&query)?.map(|[name]: [String; 1]| name));
        let found = context.service.unowned(after.as_deref(), limit + 1).await?;
        Ok((StatusCode::OK, page(found, limit, &scopes)))
    }
    .boxed()
}

pub(in crate::web) fn disabled(context: Arc<Context>, Call { scopes, .. }: Call) -> Answer {
    async move {
        let found = context.service.disabled().await?;
        let shown = found.into_iter().map(|found| NamespaceBody::shown_to(&scopes, found));
        Ok((StatusCode::OK, json!({"namespaces": shown.collect::<Vec<_>>()})))
    }
    .boxed()
}

fn page(found: Vec<Summary>, limit: u32, scopes: &[String]) -> Value {
    let (found, token) = paging::page(found, limit, |last| [last.name.to_string()]);
    let shown = found.into_iter().map(|found| NamespaceBody::shown_to(scopes, found));
    let mut body = json!({"namespaces": shown.collect::<Vec<_>>()});
    if let Some(token) = token {
        body["continuationToken"] = json!(token);
    }
    body
}

pub(in crate::web) fn get(context: Arc<Context>, name: Name, Call { scopes, .. }: Call) -> Answer {
    async move {
        let found = context.service.summary(&name).await?;
        let found = found.ok_or_else(|| ApiError::not_found("No such namespace"))?;
        Ok((StatusCode::OK, json!(NamespaceBody::shown_to(&scopes, found))))
    }
    .boxed()
}

pub(in crate::web) fn claim(
    context: Arc<Context>,
    name: Name,
    Call { payload, client, by, first_seen, .. }: Call,
) -> Answer {
    async move {
        let ClaimBody { expires, contact } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        // The schema has checked the format already.
        let expires = expires.and_then(|text| Timestamp::parse(&text));
        let claimed = context.service.claim(&ClaimRequest { name, expires, contact, by, client }).await?;
        // A repetition gets nothing that the first request could not have got.
        if let Some(first) = first_seen.filter(|first| claimed.switched.is_some_and(|switched| switched > *first)) {
            return Err(Refusal::Replayed { first }.into());
        }
        Ok((StatusCode::OK, claim_body(&claimed)))
    }
    .boxed()
}

fn claim_body(of: &Claimed) -> Value {
    json!({
        "namespace": of.name.as_str(),
        "created": of.created.to_string(),
        "expires": of.expires.to_string(),
        "connectionString": of.connection_string.as_str(),
        "reclaimAt": of.reclaim_at.to_string(),
    })
}
