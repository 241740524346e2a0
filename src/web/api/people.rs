//! Handlers for people: who is signed in to the console, and who may not sign in.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context, Params};
use super::ends;
use crate::domain::session::{BarredPerson, Session};
use crate::service::Known;

fn person(of: &Known) -> Value {
    let session = |of: &Session| json!({"created": of.created.to_string(), "seen": of.seen.to_string(), "expires": of.expires.to_string()});
    let latest = of.sessions.first();
    let mut body = json!({
        "person": of.subject,
        "name": of.name,
        "groups": latest.map(|session| session.person.groups.clone()).unwrap_or_default(),
        "sessions": of.sessions.iter().map(session).collect::<Vec<_>>(),
    });
    if let Some(BarredPerson { since, by, reason, .. }) = &of.barred {
        body["disabled"] = json!({"since": since.to_string(), "by": by, "reason": reason});
    }
    body
}

/// The one whom the path names.
fn subject(params: &Params) -> &str {
    params.get("person").and_then(Value::as_str).unwrap_or_default()
}

pub(in crate::web) fn list(context: Arc<Context>, _: Call) -> Answer {
    async move {
        let found = context.service.people().await?;
        Ok((StatusCode::OK, json!({"people": found.iter().map(person).collect::<Vec<_>>()})))
    }
    .boxed()
}

pub(in crate::web) fn sign_out(context: Arc<Context>, Call { params, by, .. }: Call) -> Answer {
    async move {
        let found = context.service.person(subject(&params)).await?;
        let ended = context.service.sign_out_person(&found.subject, &by).await?;
        Ok((StatusCode::OK, json!({"person": found.subject, "sessions": ended})))
    }
    .boxed()
}

pub(in crate::web) fn disable(context: Arc<Context>, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let reason = ends::reason(payload)?;
        let found = context.service.person(subject(&params)).await?;
        // Who calls is a program, and not the person.
        context.service.disable_person(&found, None, &reason, &by).await?;
        Ok((StatusCode::OK, json!({"person": found.subject, "sessions": found.sessions.len()})))
    }
    .boxed()
}

pub(in crate::web) fn enable(context: Arc<Context>, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let reason = ends::reason(payload)?;
        let found = context.service.person(subject(&params)).await?;
        context.service.enable_person(&found.subject, &reason, &by).await?;
        Ok((StatusCode::OK, json!({"person": found.subject, "sessions": found.sessions.len()})))
    }
    .boxed()
}
