//! Handlers for accounts: make one, see it, get credentials for it, move on from the user that it was made of, end that user.

use std::sync::Arc;

use axum::http::StatusCode;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use crate::access::Refusal;
use crate::clock::Timestamp;
use crate::domain::account::{Adopted, Schedule};
use crate::domain::adoption::Wanted;
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::owner::Owner;
use crate::service::Credentials;

#[derive(Deserialize)]
struct AccountBody {
    owners: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CredentialsBody {
    #[serde(default)]
    end_old: bool,
}

#[derive(Deserialize)]
struct MoveOnBody {
    schedule: String,
}

fn credentials(of: &Credentials) -> Value {
    let Credentials { name, user, password, connection_string, expires, old_ended } = of;
    json!({
        "namespace": name.as_str(),
        "username": user,
        "password": password.expose(),
        "connectionString": connection_string.as_str(),
        "expires": expires.to_string(),
        "oldEnded": old_ended,
    })
}

fn account(of: &Namespace) -> Value {
    let schedule = if of.is_on_demand() { Schedule::OnDemand } else { Schedule::Rotating };
    let mut body = json!({
        "namespace": of.name.as_str(),
        "schedule": schedule.word(),
        "owners": of.owners.iter().map(Owner::to_string).collect::<Vec<_>>(),
        "created": of.created.to_string(),
        "expires": of.expires.to_string(),
    });
    if let Some(account) = &of.account {
        body["used"] = json!(account.used.to_string());
    }
    if let Some(adopted) = of.adopted() {
        body["adopted"] = adopted_user(&of.name, adopted);
    }
    body
}

fn adopted_user(user: &Name, Adopted { since, moved, retired, used, addresses, .. }: &Adopted) -> Value {
    let address = |(address, last): (&String, &Timestamp)| json!({"address": address, "used": last.to_string()});
    let mut body = json!({
        "username": user.as_str(),
        "since": since.to_string(),
        "addresses": addresses.iter().map(address).collect::<Vec<_>>(),
    });
    for (key, at) in [("used", used), ("movedOn", moved), ("retired", retired)] {
        if let Some(at) = at {
            body[key] = json!(at.to_string());
        }
    }
    body
}

/// The owners that a payload names.
fn owners(payload: Value) -> Result<Vec<Owner>, ApiError> {
    let AccountBody { owners } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
    let owners = owners.iter().map(|owner| Owner::parse(owner)).collect::<Result<Vec<_>, _>>();
    owners.map_err(|error| ApiError::input(format!("{error}.")))
}

/// Refuses a request that was seen before: nobody gets credentials by repeating what somebody else has signed.
fn once(first_seen: Option<Timestamp>) -> Result<(), ApiError> {
    first_seen.map_or(Ok(()), |first| Err(Refusal::Replayed { first }.into()))
}

pub(in crate::web) fn create(context: Arc<Context>, Call { params, payload, by, first_seen, .. }: Call) -> Answer {
    async move {
        once(first_seen)?;
        let owners = owners(payload)?;
        let name = params.get("namespace").and_then(Value::as_str).unwrap_or_default();
        Ok((StatusCode::OK, credentials(&context.service.create_account(name, &owners, &by).await?)))
    }
    .boxed()
}

pub(in crate::web) fn adopt(context: Arc<Context>, Call { params, payload, by, .. }: Call) -> Answer {
    async move {
        let user = params.get("namespace").and_then(Value::as_str).unwrap_or_default().to_owned();
        let wanted = Wanted { user: user.clone(), owners: owners(payload)?, unbounded: Vec::new() };
        let outcome = context.service.adopt(&[wanted], false, &by).await?;
        let name = Name::of_account(&user).filter(|_| outcome.failed == 0);
        let found = match name {
            Some(name) => context.service.account(&name).await.ok().filter(|found| found.adopted().is_some()),
            None => None,
        };
        let refused = || ApiError::conflict(format!("{}.", outcome.reports.join("; ")));
        Ok((StatusCode::OK, account(&found.ok_or_else(refused)?)))
    }
    .boxed()
}

pub(in crate::web) fn get(context: Arc<Context>, name: Name, _: Call) -> Answer {
    async move { Ok((StatusCode::OK, account(&context.service.account(&name).await?))) }.boxed()
}

pub(in crate::web) fn renew(context: Arc<Context>, name: Name, Call { payload, by, first_seen, .. }: Call) -> Answer {
    async move {
        once(first_seen)?;
        let CredentialsBody { end_old } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        Ok((StatusCode::OK, credentials(&context.service.new_credentials(&name, end_old, &by).await?)))
    }
    .boxed()
}

pub(in crate::web) fn move_on(context: Arc<Context>, name: Name, Call { payload, by, first_seen, .. }: Call) -> Answer {
    async move {
        once(first_seen)?;
        let MoveOnBody { schedule } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        // The schema has checked it already.
        let schedule = Schedule::from_word(&schedule).unwrap_or(Schedule::OnDemand);
        let given = context.service.move_on(&name, schedule, &by).await?;
        let mut body = json!({"namespace": name.as_str(), "schedule": schedule.word()});
        if let Some(given) = given {
            body["credentials"] = credentials(&given);
        }
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

pub(in crate::web) fn retire(context: Arc<Context>, name: Name, Call { by, .. }: Call) -> Answer {
    async move {
        let done = context.service.retire(&name, &by).await?;
        Ok((StatusCode::OK, json!({"namespace": name.as_str(), "username": name.as_str(), "done": done})))
    }
    .boxed()
}
