//! The handler for inspections, and messages as JSON.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt;
use serde::Deserialize;
use serde_json::{Value, json};

use super::endpoint::{Answer, Call, Context};
use super::error::ApiError;
use crate::clock::Timestamp;
use crate::domain::inspection::{Content, Published};
use crate::domain::inventory::Binding;

/// How long one looks, and how many messages one gets, where the payload does not say.
const SECONDS: u64 = 5;
const MESSAGES: usize = 100;

#[derive(Deserialize)]
struct InspectBody {
    exchanges: Vec<Chosen>,
    seconds: Option<u64>,
    messages: Option<usize>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Chosen {
    exchange: String,
    routing_key: Option<String>,
}

pub(in crate::web) fn inspect(context: Arc<Context>, Call { payload, by, .. }: Call) -> Answer {
    async move {
        let InspectBody { exchanges, seconds, messages } =
            serde_json::from_value(payload).map_err(|e| ApiError::internal(&e))?;
        let wanted = |of: Chosen| Binding {
            exchange: of.exchange,
            routing_key: of.routing_key.unwrap_or_else(|| "#".to_owned()),
        };
        let wanted: Vec<_> = exchanges.into_iter().map(wanted).collect();
        let bounds = (Duration::from_secs(seconds.unwrap_or(SECONDS)), messages.unwrap_or(MESSAGES));
        // No person is called so.
        let who = format!("\0{}", by.actor);
        let (found, left_out) =
            context.service.inspect_for(&who, &wanted, bounds, &by).await.map_err(ApiError::of_queues)?;
        let shown: Vec<_> = found.iter().map(|(at, of)| shown_message(of, *at)).collect();
        Ok((StatusCode::OK, json!({"messages": shown, "leftOut": left_out})))
    }
    .boxed()
}

/// A message, taken at this moment, by the schema `v1/inspect-response`.
pub fn shown_message(of: &Published, at: Timestamp) -> Value {
    let (text, note) = content(of);
    let mut message = json!({
        "time": at.to_string(), "exchange": of.exchange, "routingKey": of.routing_key, "bytes": of.bytes, "body": text,
    });
    if let Some(note) = note {
        message["note"] = json!(note);
    }
    if let Ok(properties) = serde_json::from_str::<Value>(&of.properties) {
        message["properties"] = properties;
    }
    message
}

/// The text of a message, and what is to be said of it.
pub fn content(of: &Published) -> (String, Option<&'static str>) {
    match &of.content {
        Content::Text(text) if (text.len() as u64) < of.bytes => (text.clone(), Some("cut")),
        Content::Text(text) => (text.clone(), None),
        Content::Bytes(base64) => {
            let bytes = STANDARD.decode(base64).unwrap_or_default();
            match std::str::from_utf8(&bytes) {
                Ok(text) => (text.to_owned(), None),
                // It was cut within its last character.
                Err(error) if (bytes.len() as u64) < of.bytes && bytes.len() - error.valid_up_to() < 4 => {
                    (String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned(), Some("cut"))
                }
                Err(_) => (base64.clone(), Some("not text: base64")),
            }
        }
    }
}
