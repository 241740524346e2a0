//! What happens to each API request, in Taskcluster's order of checks: the body is read and parsed, the caller is
//! authenticated and authorised, then the parameters of the path, the query and the payload are checked, and the handler
//! runs. So malformed JSON is reported to anybody, and nothing else is to a caller who may not.

use std::collections::{BTreeMap, btree_map};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::error::ApiError;
use super::routes::{Entry, QueryRule, Reply};
use super::{App, Peer, RequestIds, Settings, json_response};
use crate::auth::origin::{BadOrigin, Origin};
use crate::auth::scope::Expression;
use crate::auth::{Caller, SignedRequest};
use crate::clock::Timestamp;

/// A request whose checks are passed.
#[derive(Debug)]
pub struct Call {
    /// The parameters of the path, decoded.
    pub params: Map<String, Value>,
    /// The parameters of the query.
    pub query: BTreeMap<String, String>,
    /// The payload; `{}` where there is none.
    pub payload: Value,
}

/// What is known of a request so far, for the log and for error replies.
struct Progress {
    now: Timestamp,
    source_ip: IpAddr,
    payload: Value,
    caller: Option<Caller>,
}

/// Answers one API request.
pub async fn dispatch(
    app: Arc<App>,
    entry: &'static Entry,
    params: Result<Map<String, Value>, String>,
    request: Request,
) -> Response {
    let now = app.clock.now();
    let (parts, body) = request.into_parts();
    let peer = parts.extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0);
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let origin = Origin::read(header, peer, app.settings.trust_proxy);
    let source_ip = origin.as_ref().map_or(peer, |origin| origin.source_ip);
    let mut progress = Progress { now, source_ip, payload: json!({}), caller: None };
    let shown = params.clone().unwrap_or_default();
    let reply = match params {
        Ok(params) => process(&app, entry, params, (&parts, body), origin, &mut progress).await,
        Err(undecodable) => Err(ApiError::invalid_arguments(undecodable)),
    };
    let response = match reply {
        Ok((status, body)) => json_response(status, &body),
        Err(error) => error_response(&error, entry, &shown, &progress),
    };
    log(&app, entry, &parts, &progress, response.status());
    response
}

async fn process(
    app: &Arc<App>,
    entry: &'static Entry,
    params: Map<String, Value>,
    (parts, body): (&Parts, Body),
    origin: Result<Origin, BadOrigin>,
    progress: &mut Progress,
) -> Reply {
    let body = read_body(body, &app.settings).await?;
    let declared_json = is_json(parts);
    if declared_json {
        progress.payload = parse_json(&body, &mut progress.payload)?;
    }
    if let Some(scopes) = entry.scopes {
        let caller = authenticate(app, parts, origin, &body, progress.now).await?;
        let caller = progress.caller.insert(caller);
        let required = required_scopes(scopes, &params);
        caller.require(&required).map_err(|insufficient| ApiError::insufficient_scopes(insufficient.to_string()))?;
    }
    check_params(app, &params)?;
    let query = check_query(parts.uri.query().unwrap_or_default(), entry.query)?;
    if let Some(schema) = entry.input {
        if !declared_json || !has_body_framing(parts) {
            let given = header_text(parts, header::CONTENT_TYPE).unwrap_or("null");
            let message = format!("Payload must be JSON with content-type: application/json got content-type: {given}");
            return Err(ApiError::malformed_payload(message));
        }
        app.contract.validate(schema, &progress.payload).map_err(ApiError::input_validation)?;
    }
    let call = Call { params, query, payload: progress.payload.clone() };
    // In a task of its own, so that it runs to its end even if the caller hangs up.
    tokio::spawn((entry.handler)(app.clone(), call)).await.map_err(|panic| ApiError::internal(&panic))?
}

/// Who signed the request, whose body is covered by the signature if its hash is.
async fn authenticate(
    app: &App,
    parts: &Parts,
    origin: Result<Origin, BadOrigin>,
    body: &[u8],
    now: Timestamp,
) -> Result<Caller, ApiError> {
    let origin = origin.map_err(|bad| ApiError::input(bad.to_string()))?;
    // The signature covers the whole target as it was received; the mount is cut off by now.
    let target = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let signed = SignedRequest {
        method: parts.method.as_str(),
        resource: target.path_and_query().map_or("/", |target| target.as_str()),
        origin: &origin,
        authorization: parts.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()),
    };
    let trace = parts.extensions.get::<RequestIds>().map_or("", |ids| ids.trace.as_str());
    let caller = app.authenticator.authenticate(&signed, trace, now).await?;
    let content_type = header_text(parts, header::CONTENT_TYPE).unwrap_or_default();
    caller.verify_payload(content_type, body)?;
    Ok(caller)
}

/// All of `scopes`, with the values of `params` put in.
fn required_scopes(scopes: &[&str], params: &Map<String, Value>) -> Expression {
    let fill_in = |scope: &&str| {
        params.iter().fold((*scope).to_owned(), |scope, (name, value)| {
            scope.replace(&format!("<{name}>"), value.as_str().unwrap_or_default())
        })
    };
    Expression::AllOf(scopes.iter().map(fill_in).map(Expression::Scope).collect())
}

async fn read_body(body: Body, settings: &Settings) -> Result<Vec<u8>, ApiError> {
    let limit = settings.body_limit;
    match tokio::time::timeout(settings.body_timeout, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ApiError::too_large(limit)),
        Ok(Err(_)) => Err(ApiError::input("The request's body was cut off.")),
        Err(_) => Err(ApiError::body_timeout()),
    }
}

fn header_text(parts: &Parts, name: header::HeaderName) -> Option<&str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the request says that its body is JSON. Other types that end in `+json` don't count (Taskcluster).
fn is_json(parts: &Parts) -> bool {
    let content_type = header_text(parts, header::CONTENT_TYPE).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn has_body_framing(parts: &Parts) -> bool {
    parts.headers.contains_key(header::CONTENT_LENGTH) || parts.headers.contains_key(header::TRANSFER_ENCODING)
}

/// Parses a body; an empty one stands for `{}`. What could not be parsed is left in `shown`, to be shown in the error.
fn parse_json(body: &[u8], shown: &mut Value) -> Result<Value, ApiError> {
    let text = String::from_utf8_lossy(body);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    if text.is_empty() {
        return Ok(json!({}));
    }
    let parsed: Value = serde_json::from_str(text).map_err(|error| {
        *shown = json!(text);
        ApiError::malformed_payload(format!("Failed to parse JSON: {error}"))
    })?;
    if !parsed.is_object() && !parsed.is_array() {
        *shown = parsed;
        return Err(ApiError::malformed_payload("Failed to parse JSON: Must be an object or array"));
    }
    Ok(parsed)
}

fn check_params(app: &App, params: &Map<String, Value>) -> Result<(), ApiError> {
    let Some(text) = params.get("namespace").and_then(Value::as_str) else { return Ok(()) };
    let checked = app.service.policy().names.namespace(text);
    checked.map(drop).map_err(|bad| {
        // The two blanks are Taskcluster's.
        let line = format!("URL parameter 'namespace' given  as '{text}' is not valid: {bad}");
        ApiError::invalid_arguments(format!("Invalid URL patterns:\n{line}"))
    })
}

/// The parameters of the query, all of which must be known, given once, and match their rules. A `bewit` is part of
/// authentication and always allowed.
fn check_query(query: &str, rules: &[QueryRule]) -> Result<BTreeMap<String, String>, ApiError> {
    let mut given: BTreeMap<String, String> = BTreeMap::new();
    let (mut order, mut repeated) = (Vec::new(), Vec::new());
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "bewit") {
        match given.entry(name.into_owned()) {
            btree_map::Entry::Occupied(again) => repeated.push(again.key().clone()),
            btree_map::Entry::Vacant(first) => {
                order.push(first.key().clone());
                first.insert(value.into_owned());
            }
        }
    }
    let complaint = |name: &String| {
        let Some(rule) = rules.iter().find(|rule| rule.name == *name) else {
            return Some(format!("Query-string parameter: {name} is not supported!"));
        };
        if repeated.contains(name) {
            return Some(format!("Query-string parameter: {name} must be a string!"));
        }
        let (value, pattern) = (given.get(name)?, rule.pattern);
        let message = format!("Query-string parameter: {name}=\"{value}\" does not match expression: {pattern}");
        (!(rule.accepts)(value)).then_some(message)
    };
    let complaints: Vec<_> = order.iter().filter_map(complaint).collect();
    if complaints.is_empty() { Ok(given) } else { Err(ApiError::invalid_arguments(complaints.join("\n"))) }
}

fn error_response(error: &ApiError, entry: &Entry, params: &Map<String, Value>, progress: &Progress) -> Response {
    let time = progress.now.to_string();
    let body = json!({
        "code": error.code,
        "message": error.full_message(entry.name, &time),
        "requestInfo": {"method": entry.name, "params": params, "payload": progress.payload, "time": time},
    });
    let mut response = json_response(error.status, &body);
    if error.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("hawk"));
    }
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// One line for each request (Taskcluster's `monitor.apiMethod`). The query is left out: it may hold a bewit.
fn log(app: &App, entry: &Entry, parts: &Parts, progress: &Progress, status: StatusCode) {
    let duration = app.clock.now().since(progress.now).as_secs_f64() * 1000.0;
    let ids = parts.extensions.get::<RequestIds>();
    tracing::info!(
        r#type = "monitor.apiMethod",
        name = entry.name,
        method = %parts.method,
        resource = parts.uri.path(),
        statusCode = status.as_u16(),
        duration,
        public = entry.scopes.is_none(),
        clientId = progress.caller.as_ref().and_then(|caller| caller.client_id.as_deref()).unwrap_or_default(),
        sourceIp = %progress.source_ip,
        traceId = ids.map_or("", |ids| ids.trace.as_str()),
        requestId = ids.map_or("", |ids| ids.request.as_str()),
        "{} {} {}", parts.method, parts.uri.path(), status.as_u16(),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[QueryRule] = &[QueryRule { name: "limit", pattern: "/[0-9]+/", accepts: |value| value != "x" }];

    #[test]
    fn every_fault_of_a_query_is_named_in_its_order() {
        let error = check_query("foo=1&bar=2&limit=x&bewit=abc", RULES).unwrap_err();
        assert_eq!(
            error.message,
            "Query-string parameter: foo is not supported!\nQuery-string parameter: bar is not supported!\n\
             Query-string parameter: limit=\"x\" does not match expression: /[0-9]+/"
        );
        let error = check_query("limit=1&limit=2", RULES).unwrap_err();
        assert_eq!(error.message, "Query-string parameter: limit must be a string!");
        assert_eq!(check_query("limit=1", RULES).unwrap()["limit"], "1");
    }

    #[test]
    fn only_an_object_or_an_array_is_a_payload() {
        let mut shown = json!({});
        assert_eq!(parse_json(b"", &mut shown).unwrap(), json!({}));
        assert_eq!(parse_json("\u{feff}{\"a\":1,\"a\":2}".as_bytes(), &mut shown).unwrap(), json!({"a": 2}));
        assert!(parse_json(b"\"x\"", &mut shown).unwrap_err().message.ends_with("Must be an object or array"));
        assert_eq!(shown, json!("x"));
        assert!(parse_json(b"{x", &mut shown).unwrap_err().message.starts_with("Failed to parse JSON: "));
        assert_eq!(shown, json!("{x"));
    }
}
