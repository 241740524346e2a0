//! Handlers for namespaces: list, get, claim. Thin: from the wire to the service and back.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::App;
use super::error::ApiError;
use super::routes::{Answer, Query};
use crate::auth::Refusal;
use crate::clock::Timestamp;
use crate::domain::claim::ClaimRequest;
use crate::domain::name::Name;
use crate::service::Claimed;
use crate::store::Summary;

/// How many namespaces a page has at most, and where nothing is asked for.
const PAGE: u32 = 1000;

#[derive(Serialize)]
struct NamespaceBody {
    namespace: String,
    created: String,
    expires: String,
    contact: String,
}

impl From<Summary> for NamespaceBody {
    fn from(of: Summary) -> NamespaceBody {
        NamespaceBody {
            namespace: of.name.to_string(),
            created: of.created.to_string(),
            expires: of.expires.to_string(),
            contact: of.contact,
        }
    }
}

#[derive(Deserialize)]
struct ClaimBody {
    expires: Option<String>,
    contact: Option<String>,
}

pub(super) fn list(app: Arc<App>, query: Query) -> Answer {
    async move {
        let limit = query.get("limit").map_or(PAGE, |text| page_size(text));
        let after = query.get("continuationToken").map(|token| read_token(token)).transpose()?;
        // One more than is shown tells whether this is the last page.
        let mut found = app.service.list(after.as_deref(), limit + 1).await?;
        let more = found.len() > limit as usize;
        found.truncate(limit as usize);
        let token = if more { found.last().map(|last| write_token(&last.name)) } else { None };
        let mut body = json!({"namespaces": found.into_iter().map(NamespaceBody::from).collect::<Vec<_>>()});
        if let Some(token) = token {
            body["continuationToken"] = json!(token);
        }
        Ok((StatusCode::OK, body))
    }
    .boxed()
}

/// The first number in `text`, held between 1 and [`PAGE`]; zero asks for nothing in particular.
fn page_size(text: &str) -> u32 {
    let digits: String = text.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
    match digits.parse() {
        Ok(0) => PAGE,
        Ok(limit) => PAGE.min(limit),
        Err(_) => PAGE,
    }
}

/// A continuation token in Taskcluster's form: base64 of a JSON array of what the last row is sorted by.
fn write_token(last: &Name) -> String {
    STANDARD.encode(json!([last.as_str()]).to_string())
}

fn read_token(token: &str) -> Result<String, ApiError> {
    let columns = STANDARD.decode(token).ok().and_then(|bytes| serde_json::from_slice::<[String; 1]>(&bytes).ok());
    let message = "Invalid continuation token: pass the continuationToken of the previous page as it is.";
    columns.map(|[last]| last).ok_or_else(|| ApiError::input(message))
}

pub(super) fn get(app: Arc<App>, name: Name, _: Value, _: Option<Timestamp>) -> Answer {
    async move {
        let found = app.service.summary(&name).await?;
        let found = found.ok_or_else(|| ApiError::not_found("No such namespace"))?;
        Ok((StatusCode::OK, json!(NamespaceBody::from(found))))
    }
    .boxed()
}

pub(super) fn claim(app: Arc<App>, name: Name, payload: Value, first_seen: Option<Timestamp>) -> Answer {
    async move {
        let ClaimBody { expires, contact } = serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        // The schema has checked the format already.
        let expires = expires.and_then(|text| Timestamp::parse(&text));
        let claimed = app.service.claim(&ClaimRequest { name, expires, contact }).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continuation_token_is_taskclusters() {
        let name = Name::from_stored("taskcluster-x".into());
        assert_eq!(write_token(&name), "WyJ0YXNrY2x1c3Rlci14Il0=");
        assert_eq!(read_token("WyJ0YXNrY2x1c3Rlci14Il0=").unwrap(), "taskcluster-x");
        for bad in ["x", "WzE5LDNd", "bnVsbA=="] {
            assert_eq!(read_token(bad).unwrap_err().code, "InputError", "{bad}");
        }
    }

    #[test]
    fn a_page_has_between_one_and_a_thousand_namespaces() {
        for (text, size) in [("1", 1), ("0", 1000), ("1000", 1000), ("5000", 1000), ("99999999999999", 1000), ("x7", 7)]
        {
            assert_eq!(page_size(text), size, "{text}");
        }
    }
}
