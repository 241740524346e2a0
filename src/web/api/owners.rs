//! Handlers for owners and exemptions of namespaces.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::exemption::{Exempted, Requested};
use crate::domain::ladder::Exemption;
use crate::domain::name::Name;
use crate::domain::owner::Owner;
use crate::domain::rights::{Object, Right, Subject, may};
use crate::service::Owned;

#[derive(Deserialize)]
struct OwnersBody {
    owners: Vec<String>,
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExemptionBody {
    up_to: Option<u64>,
    until: Option<String>,
    reason: String,
}

fn owned(of: &Owned) -> Value {
    json!({"owners": of.owners.iter().map(Owner::to_string).collect::<Vec<_>>(), "contact": of.contact})
}

pub(super) fn exempted(of: &Exempted) -> Value {
    let Exempted { queue, exemption: Exemption { up_to, until }, reason, by, since } = of;
    let mut body = json!({"queue": queue, "reason": reason, "by": by, "since": since.to_string()});
    if let Some(up_to) = up_to {
        body["upTo"] = json!(up_to);
    }
    if let Some(until) = until {
        body["until"] = json!(until.to_string());
    }
    body
}

pub(in crate::web) fn get(context: Arc<Context>, name: Name, _: Call) -> Answer {
    async move { Ok((StatusCode::OK, owned(&context.service.owners(&name).await?))) }.boxed()
}

pub(in crate::web) fn set(context: Arc<Context>, name: Name, Call { payload, scopes, by, .. }: Call) -> Answer {
    async move {
        let OwnersBody { owners, force } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        let owners = owners.iter().map(|owner| Owner::parse(owner)).collect::<Result<Vec<_>, _>>();
        let owners = owners.map_err(|error| ApiError::input(format!("{error}.")))?;
        // Its owners are not known yet, and being one does not give this right.
        if force && !may(&Subject::machine(&scopes), Right::Administer, Object::Namespace(&name, &[])) {
            context.service.note_refusal(&by, Right::Administer, Some(&name), "setOwners");
            let scopes = Right::Administer.scopes().join(", ");
            return Err(ApiError::insufficient_scopes(format!(
                "Only who has one of the scopes {scopes} may leave a namespace without owners: leave out `force`."
            )));
        }
        Ok((StatusCode::OK, owned(&context.service.set_owners(&name, owners, force, &by).await?)))
    }
    .boxed()
}

pub(in crate::web) fn exemptions(context: Arc<Context>, name: Name, _: Call) -> Answer {
    async move {
        let found = context.service.exemptions(&name).await?;
        Ok((StatusCode::OK, json!({"exemptions": found.iter().map(exempted).collect::<Vec<_>>()})))
    }
    .boxed()
}

pub(in crate::web) fn exempt(context: Arc<Context>, name: Name, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let (exemption, reason) = wanted(payload)?;
        let queue = params.get("queue").and_then(Value::as_str).unwrap_or_default();
        let granted = context.service.exempt(&name, queue, exemption, &reason, &by).await?;
        Ok((StatusCode::OK, exempted(&granted)))
    }
    .boxed()
}

pub(in crate::web) fn all_exemptions(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let found = context.service.all_exemptions().await?;
        let shown = found.iter().map(|(name, of)| {
            let mut body = exempted(of);
            body["namespace"] = json!(name.as_str());
            body
        });
        Ok((StatusCode::OK, json!({"exemptions": shown.collect::<Vec<_>>()})))
    }
    .boxed()
}

/// The terms that a payload names, and why.
fn wanted(payload: Value) -> Result<(Exemption, String), ApiError> {
    let ExemptionBody { up_to, until, reason } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
    // The schema has checked the format already.
    let until = until.and_then(|text| Timestamp::parse(&text));
    Ok((Exemption { up_to, until }, reason))
}

fn requested(name: &Name, of: &Requested) -> Value {
    let Requested { queue, exemption, reason, by, since, .. } = of.clone();
    let mut body = exempted(&Exempted { queue, exemption, reason, by, since });
    body["namespace"] = json!(name.as_str());
    body
}

pub(in crate::web) fn requests(context: Arc<Context>, name: Name, _: Call) -> Answer {
    async move {
        let found = context.service.requests(&name).await?;
        let shown: Vec<_> = found.iter().map(|of| requested(&name, of)).collect();
        Ok((StatusCode::OK, json!({"requests": shown})))
    }
    .boxed()
}

pub(in crate::web) fn all_requests(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let found = context.service.all_requests().await?;
        let shown: Vec<_> = found.iter().map(|(name, of)| requested(name, of)).collect();
        Ok((StatusCode::OK, json!({"requests": shown})))
    }
    .boxed()
}

pub(in crate::web) fn request(context: Arc<Context>, name: Name, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let (exemption, reason) = wanted(payload)?;
        let queue = params.get("queue").and_then(Value::as_str).unwrap_or_default();
        let asked = context.service.ask_exemption(&name, queue, exemption, &reason, None, &by).await?;
        Ok((StatusCode::OK, requested(&name, &asked)))
    }
    .boxed()
}

pub(in crate::web) fn refuse(context: Arc<Context>, name: Name, Call { params, query, by, .. }: Call) -> Answer {
    async move {
        let queue = params.get("queue").and_then(Value::as_str).unwrap_or_default();
        let reason = query.get("reason").map_or("no reason was given", String::as_str);
        match context.service.refuse_exemption(&name, queue, reason, &by).await? {
            true => Ok((StatusCode::OK, json!({}))),
            false => Err(ApiError::not_found("No such request; give its pattern as it was asked for")),
        }
    }
    .boxed()
}

pub(in crate::web) fn end_exemption(context: Arc<Context>, name: Name, Call { params, by, .. }: Call) -> Answer {
    async move {
        let queue = params.get("queue").and_then(Value::as_str).unwrap_or_default();
        match context.service.end_exemption(&name, queue, &by).await? {
            true => Ok((StatusCode::OK, json!({}))),
            false => Err(ApiError::not_found("No such exemption; give its pattern as it was granted")),
        }
    }
    .boxed()
}
