//! What happens to each API request: it goes through the stages, and the reply is made of what comes of that.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::app::App;
use super::body;
use super::endpoint::{Entry, Params};
use super::error::ApiError;
use super::head::Head;
use super::log::Record;
use super::stages::{self, Received, Told};
use crate::access::origin::Origin;
use crate::clock::Timestamp;
use crate::web::edge::around::{Admitted, Personal};
use crate::web::edge::encoding::Secret;
use crate::web::edge::log::Logged;
use crate::web::edge::peer::Peer;
use crate::web::edge::reply::{is_short, json_response, untagged_json_response};

/// The longest payload that an error repeats, in bytes. A longer one is left out.
const LONGEST_REPEATED: usize = 4 * 1024;
/// The longest parameter of a path that is looked at, in bytes; names are much shorter.
const LONGEST_PARAMETER: usize = 1024;

/// Answers one API request. `params` are those of its path, or a sentence about what can't be decoded in it.
pub(super) async fn dispatch(
    app: Arc<App>,
    entry: &'static Entry,
    params: Result<Params, String>,
    request: Request,
) -> Response {
    let now = app.clock.now();
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let origin = Origin::read(header, peer, app.settings.edge.trust_proxy);
    let source_ip = origin.as_ref().map_or(peer, |origin| origin.source_ip);
    let params = params.and_then(check_length);
    let shown = params.clone().unwrap_or_default();
    let unread = !body::is_json(&parts.headers) && !body.is_end_stream();
    let record = Record::begin(entry, &parts, &app.counts, source_ip);
    let told = Box::new(Told { record, payload: json!({}), room: app.edge.gate.body() });
    let head = Head { app: &app, entry, parts: &parts, now };
    let (reply, mut told) = match params {
        Ok(params) => stages::run(Received { head, told, body, params, origin }).await,
        Err(undecodable) => (Err(ApiError::invalid_arguments(undecodable)), told),
    };
    let mut response = match reply {
        Ok((status, body)) => {
            let reads = matches!(parts.method, Method::GET | Method::HEAD);
            let respond = if reads { json_response } else { untagged_json_response };
            let mut response = respond(status, &body);
            if entry.right.is_some() {
                response.extensions_mut().insert(Secret);
            }
            response
        }
        Err(error) => {
            let payload = std::mem::take(&mut told.payload);
            let mut info = json!({"method": entry.name, "params": shown, "payload": payload, "time": now.to_string()});
            if !is_short(&info["payload"], LONGEST_REPEATED) {
                info.as_object_mut().map(|info| info.shift_remove("payload"));
            }
            error_response(&error, entry, info, now, body::is_large(&parts.headers))
        }
    };
    let record = &mut told.record;
    let known = record.caller.as_ref().is_some_and(|caller| caller.is_known());
    if !entry.is_monitoring() && (known || !response.status().is_client_error()) {
        response.extensions_mut().insert(Admitted);
    }
    if entry.is_personal() {
        response.extensions_mut().insert(Personal { known });
    }
    if unread {
        // What is left of it would be taken for the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record.status = Some(response.status());
    response.extensions_mut().insert(Logged);
    response
}

/// The parameters of the path, if none is longer than anything that could be right.
fn check_length(params: Params) -> Result<Params, String> {
    let is_long = |(_, value): &(&String, &Value)| value.as_str().is_some_and(|text| text.len() > LONGEST_PARAMETER);
    match params.iter().find(is_long).map(|(name, _)| name) {
        Some(name) => Err(format!("The URL parameter '{name}' must not be longer than {LONGEST_PARAMETER} bytes.")),
        None => Ok(params),
    }
}

fn error_response(error: &ApiError, entry: &Entry, info: Value, now: Timestamp, large: bool) -> Response {
    let message = error.full_message(entry.name, now);
    let body = json!({"code": error.code, "message": message, "requestInfo": info});
    let mut response = untagged_json_response(error.status, &body);
    let headers = response.headers_mut();
    if error.status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("hawk"));
    }
    // The rest of the body may still come in, and would be taken for the next request.
    let cut_off = matches!(error.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if cut_off || (large && error.status == StatusCode::SERVICE_UNAVAILABLE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
