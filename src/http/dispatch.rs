//! What happens to each API request, in Taskcluster's order of checks: the body is read and parsed, the caller is
//! authenticated and authorised, then the parameters of the path, the query and the payload are checked, and the handler
//! runs. So malformed JSON is reported to anybody, and nothing else is to a caller who may not.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::{OriginalUri, Request};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;
use url::form_urlencoded;

use super::around::TraceId;
use super::encoding::Secret;
use super::error::ApiError;
use super::limits::{BodyRoom, Place};
use super::log::{Logged, Record};
use super::routes::{Answer, Entry, Handler, Query, QueryRule, Reply};
use super::{App, Crowded, Peer, body, encoding, header_text, json_response};
use crate::auth::origin::{BadOrigin, Origin};
use crate::auth::scope::{Expression, MissingParameter};
use crate::auth::{Caller, Failure, SignedRequest};
use crate::clock::Timestamp;
use crate::domain::name::Name;

/// The parameters of the path, decoded.
pub(super) type Params = Map<String, Value>;

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
    let origin = Origin::read(header, peer, app.settings.trust_proxy);
    let source_ip = origin.as_ref().map_or(peer, |origin| origin.source_ip);
    let mut record = Record::begin(entry, &parts, source_ip);
    let (mut payload, shown) = (json!({}), params.clone().unwrap_or_default());
    let unread = !body::is_json(&parts.headers) && !body.is_end_stream();
    let checks = Checks { app: &app, entry, parts: &parts, now };
    let reply = match params {
        Ok(params) => checks.run(&params, body, origin, &mut payload, &mut record).await,
        Err(undecodable) => Err(ApiError::invalid_arguments(undecodable)),
    };
    let mut response = match reply {
        Ok((status, body)) => {
            let mut response = json_response(status, &body);
            if entry.scopes.is_some() {
                response.extensions_mut().insert(Secret);
            }
            response
        }
        Err(error) => {
            let info = json!({"method": entry.name, "params": shown, "payload": payload, "time": now.to_string()});
            error_response(&error, entry, info, now, body::is_large(&parts.headers))
        }
    };
    if unread {
        // What is left of it would be taken for the next request.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    record.status = Some(response.status());
    response.extensions_mut().insert(Logged);
    response
}

/// What is checked, and with what.
struct Checks<'a> {
    app: &'a Arc<App>,
    entry: &'static Entry,
    parts: &'a Parts,
    now: Timestamp,
}

impl Checks<'_> {
    /// Everything, in order. What the body holds is left in `payload`, for the error that may follow.
    async fn run(
        &self,
        params: &Params,
        body: Body,
        origin: Result<Origin, BadOrigin>,
        payload: &mut Value,
        record: &mut Record<'_>,
    ) -> Reply {
        let gate = &self.app.gate;
        if !self.entry.is_monitoring() {
            if self.parts.extensions.get::<Crowded>().is_some() {
                let message = "The service has too many connections at the moment. Try again.";
                return Err(ApiError::unavailable(message, 1));
            }
            gate.look()?;
        }
        let mut room = gate.body();
        let body = self.read(body, &mut room, payload).await?;
        let late = Instant::now() + self.app.settings.request_timeout;
        let mut place = if self.entry.is_monitoring() { None } else { Some(gate.enter(record.source_ip)?) };
        if let Some(place) = &mut place {
            timeout_at(late, gate.turn(place)).await.unwrap_or_else(|_| Err(too_slow()))?;
        }
        let mut first_seen = None;
        if let Some(scopes) = self.entry.scopes {
            let origin = origin.map_err(|bad| ApiError::input(bad.to_string()))?;
            let authenticated = timeout_at(late, self.authenticate(&origin, &body, &mut place)).await;
            let (caller, seen) = authenticated.unwrap_or_else(|_| Err(too_slow()))?;
            let caller = record.caller.insert(caller);
            first_seen = seen;
            let required = required_scopes(scopes, params).map_err(|missing| ApiError::internal(&missing))?;
            let satisfying = caller.require(&required);
            record.satisfying =
                satisfying.map_err(|insufficient| ApiError::insufficient_scopes(insufficient.to_string()))?;
        } else if let Some(place) = &mut place {
            gate.admit(place, None, record.source_ip)?;
        }
        let app = self.app.clone();
        let answer = match self.entry.handler {
            Handler::Whole(handler) => {
                self.check_query_and_payload(payload, record)?;
                handler(app, record.query.clone())
            }
            Handler::Namespace(handler) => {
                let name = self.namespace(params)?;
                self.check_query_and_payload(payload, record)?;
                handler(app, name, payload.clone(), first_seen)
            }
        };
        self.finish(answer, place, late).await
    }

    /// The body as its sender signed it: the text of what is JSON. Anything else is not read, and counts as empty
    /// (Taskcluster).
    async fn read(&self, body: Body, room: &mut BodyRoom, payload: &mut Value) -> Result<Bytes, ApiError> {
        let (headers, settings) = (&self.parts.headers, &self.app.settings);
        if !body::is_json(headers) {
            return Ok(Bytes::new());
        }
        let body = body::read(body, settings, room).await?;
        if encoding::is_encoded(headers) {
            room.grow(body.len() + settings.body_limit)?;
        }
        let text = body::decode(headers, &encoding::inflate(headers, body, settings.body_limit).await?)?;
        room.shrink(text.len());
        body::parse(&text, payload)?;
        Ok(text.into())
    }

    /// Who signed the request, whose body is covered by the signature if its hash is; and when it was first seen, where it
    /// repeats an earlier one.
    async fn authenticate(
        &self,
        origin: &Origin,
        body: &[u8],
        place: &mut Option<Place>,
    ) -> Result<(Caller, Option<Timestamp>), ApiError> {
        let Checks { app, parts, now, .. } = self;
        // The signature covers the whole target as it was received; the mount is cut off by now.
        let target = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
        let signed = SignedRequest {
            method: parts.method.as_str(),
            resource: target.path_and_query().map_or("/", |target| target.as_str()),
            origin,
            authorization: parts.headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()),
        };
        let trace = parts.extensions.get::<TraceId>().map_or("", |trace| trace.0.as_str());
        let content_type = header_text(&parts.headers, header::CONTENT_TYPE).unwrap_or_default();
        if let Some(place) = place.as_mut().filter(|_| !app.authenticator.tells_by_itself(&signed)) {
            // Whoever waits for the auth service must not keep others from their turns.
            place.rest();
        }
        let caller = app.authenticator.authenticate(&signed, trace, *now).await;
        let caller = caller.and_then(|caller| Ok(caller.verify_payload(content_type, body).map(|()| caller)?));
        let caller = caller.inspect_err(|failure| {
            if matches!(failure, Failure::Refused(_)) {
                app.gate.failed(origin.source_ip);
            }
        })?;
        if let Some(place) = place {
            let client = caller.client_id.as_ref().map(|_| app.authenticator.signer(&signed)).unwrap_or_default();
            app.gate.admit(place, client.as_deref(), origin.source_ip)?;
        }
        let first_seen = app.authenticator.first_seen(&signed, body, *now).await?;
        Ok((caller, first_seen))
    }

    /// The namespace in the path.
    fn namespace(&self, params: &Params) -> Result<Name, ApiError> {
        let text = params.get("namespace").and_then(Value::as_str).unwrap_or_default();
        self.app.service.policy().names.namespace(text).map_err(|bad| {
            // The two blanks are Taskcluster's.
            let line = format!("URL parameter 'namespace' given  as '{text}' is not valid: {bad}");
            ApiError::invalid_arguments(format!("Invalid URL patterns:\n{line}"))
        })
    }

    fn check_query_and_payload(&self, payload: &Value, record: &mut Record<'_>) -> Result<(), ApiError> {
        record.query = check_query(self.parts.uri.query().unwrap_or_default(), self.entry.query)?;
        let Some(schema) = self.entry.input else { return Ok(()) };
        let headers = &self.parts.headers;
        if !body::is_json(headers) || !body::is_framed(headers) {
            let given = header_text(headers, header::CONTENT_TYPE).unwrap_or("null");
            let message = format!("Payload must be JSON with content-type: application/json got content-type: {given}");
            return Err(ApiError::malformed_payload(message));
        }
        self.app.contract.validate(schema, payload).map_err(ApiError::input_validation)
    }

    /// Waits for the answer. It is made in a task of its own, so that it is made to its end even if the caller hangs up, or
    /// is told to come again.
    async fn finish(&self, answer: Answer, place: Option<Place>, late: Instant) -> Reply {
        let answer = async move {
            let reply = answer.await;
            drop(place);
            reply
        };
        let task = tokio::spawn(answer.in_current_span());
        match timeout_at(late, task).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(panic)) => Err(ApiError::internal(&panic)),
            Err(_) => {
                Err(ApiError::unavailable("The service needs too long for this. It goes on with it. Try again.", 5))
            }
        }
    }
}

fn too_slow() -> ApiError {
    ApiError::unavailable("The service needs too long for this, and has not begun with it. Try again.", 5)
}

/// All of `scopes`, with the values of `params` put in.
fn required_scopes(scopes: &[&str], params: &Params) -> Result<Expression, MissingParameter> {
    let values: Vec<_> =
        params.iter().filter_map(|(name, value)| value.as_str().map(|value| (name.as_str(), value))).collect();
    let templates = scopes.iter().map(|scope| Expression::Scope((*scope).to_owned()));
    Expression::AllOf(templates.collect()).with(&values)
}

/// The parameters of the query, all of which must be known, given once, and match their rules. A `bewit` is part of
/// authentication and always allowed.
fn check_query(query: &str, rules: &[QueryRule]) -> Result<Query, ApiError> {
    let mut given: Vec<(String, Vec<String>)> = Vec::new();
    for (name, value) in form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "bewit") {
        match given.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(value.into_owned()),
            None => given.push((name.into_owned(), vec![value.into_owned()])),
        }
    }
    let (mut accepted, mut complaints) = (BTreeMap::new(), Vec::new());
    for (name, mut values) in given {
        match (rules.iter().find(|rule| rule.name == name), values.pop()) {
            (None, _) => complaints.push(format!("Query-string parameter: {name} is not supported!")),
            (Some(rule), Some(value)) if values.is_empty() => {
                if !(rule.accepts)(&value) {
                    let QueryRule { pattern, .. } = rule;
                    complaints.push(format!(
                        "Query-string parameter: {name}=\"{value}\" does not match expression: {pattern}"
                    ));
                }
                accepted.insert(name, value);
            }
            _ => complaints.push(format!("Query-string parameter: {name} must be a string!")),
        }
    }
    if complaints.is_empty() { Ok(accepted) } else { Err(ApiError::invalid_arguments(complaints.join("\n"))) }
}

fn error_response(error: &ApiError, entry: &Entry, info: Value, now: Timestamp, large: bool) -> Response {
    let message = error.full_message(entry.name, now);
    let body = json!({"code": error.code, "message": message, "requestInfo": info});
    let mut response = json_response(error.status, &body);
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

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &[QueryRule] = &[QueryRule { name: "limit", pattern: "/[0-9]+/", accepts: |value| value != "x" }];

    #[test]
    fn every_fault_of_a_query_is_named_in_its_order() {
        let complaints = |query| check_query(query, RULES).unwrap_err().message;
        assert_eq!(
            complaints("foo=1&bar=2&limit=x&bewit=abc"),
            "Query-string parameter: foo is not supported!\nQuery-string parameter: bar is not supported!\n\
             Query-string parameter: limit=\"x\" does not match expression: /[0-9]+/"
        );
        assert_eq!(
            complaints("limit=1&foo=&limit=2&foo="),
            "Query-string parameter: limit must be a string!\nQuery-string parameter: foo is not supported!"
        );
        assert_eq!(check_query("limit=1&bewit=a&bewit=b", RULES), Ok(BTreeMap::from([("limit".into(), "1".into())])));
        assert_eq!(check_query("", RULES), Ok(BTreeMap::new()));
    }

    #[test]
    fn a_scope_is_filled_in_with_the_parameters_of_the_path() {
        let params = Params::from_iter([("namespace".to_owned(), json!("a<b>"))]);
        let all_of = Expression::AllOf(vec![Expression::Scope("pulse:namespace:a<b>".to_owned())]);
        assert_eq!(required_scopes(&["pulse:namespace:<namespace>"], &params), Ok(all_of));
        assert!(required_scopes(&["pulse:namespace:<name>"], &params).is_err());
    }
}
