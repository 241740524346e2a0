//! What goes around every request: its ids, `forceSSL`, the headers that every response has, conditional requests, and the
//! room and the pace of replies.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use ipnet::IpNet;
use serde_json::json;
use tokio::time::Instant;
use tracing::Span;
use uuid::Uuid;

use super::limits::{BodyRoom, Gate, Limits, Overload, SMALL};
use super::pace::{Allowance, Pace};
use super::reply::{Face, JSON, header_text, json_response};

/// The longest trace id that is taken over from a caller.
const LONGEST_TRACE_ID: usize = 128;

/// The header in which a proxy gives a request its id.
const REQUEST_ID: &str = "x-request-id";

/// The id of a request's story, in its extensions: it is handed on to the services that are asked.
#[derive(Clone)]
pub(in crate::web) struct TraceId(pub String);

/// The id of a request, in its extensions: its lines in the log have it.
#[derive(Clone)]
pub(in crate::web) struct RequestId(pub String);

/// In the extensions of a response: it took a place, or its caller is known, so that it is limited already.
#[derive(Clone, Copy)]
pub(in crate::web) struct Admitted;

/// In the extensions of a response: it depends on who asked.
#[derive(Clone, Copy)]
pub(in crate::web) struct Personal {
    /// Whether it is known who asked.
    pub known: bool,
}

/// How what is served is seen from outside.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Whether plain HTTP is sent to HTTPS (`GET`, `HEAD`) or refused (all else).
    pub force_ssl: bool,
    /// Whether `X-Forwarded-*` headers come from a proxy of ours.
    pub trust_proxy: bool,
    /// The proxies whose `X-Forwarded-*` headers count; where there are none, those of anybody do.
    pub trusted_proxies: Vec<IpNet>,
    /// How much is done at a time.
    pub limits: Limits,
    /// Whether each request has a line in the log in Mozilla's form, beside that in Taskcluster's.
    pub summaries: bool,
    /// Whether `/__error__` is there.
    pub error_path: bool,
}

/// What all parts that one listener serves share.
pub struct Edge {
    /// How they are seen from outside.
    pub settings: Settings,
    pub(in crate::web) gate: Gate,
    pace: Pace,
}

impl Edge {
    /// One with these settings.
    pub fn new(settings: Settings) -> Edge {
        let (gate, pace) = (Gate::new(settings.limits), Pace::new(settings.limits.spare_rate));
        Edge { settings, gate, pace }
    }

    /// For how long an answer is held back that took no place, because there are many of them. `None` where it is not: a timer
    /// of tokio takes a millisecond even for nothing.
    pub(in crate::web) fn pause(&self, allowance: Option<Allowance>, response: &Response) -> Option<Duration> {
        let allowance = allowance.filter(|_| response.extensions().get::<Admitted>().is_none())?;
        Some(self.pace.wait(&allowance, Instant::now())).filter(|pause| !pause.is_zero())
    }
}

/// The ids of a request, and the span of all that is logged about it.
pub(in crate::web) struct Ids {
    trace: String,
    pub id: String,
    pub span: Span,
}

impl Ids {
    /// Gives a request its ids, and notes the one of its story in it. Where a proxy of ours has given it an id, it is that.
    pub fn give(request: &mut Request, settings: &Settings) -> Ids {
        let given = taken(request.headers(), REQUEST_ID).filter(|_| settings.trust_proxy);
        let (trace, id) = (trace_id(request.headers()), given.unwrap_or_else(|| Uuid::new_v4().to_string()));
        // At the highest level, so that it is there for whatever is logged.
        let span = tracing::error_span!("request", requestId = id, traceId = trace);
        request.extensions_mut().insert(TraceId(trace.clone()));
        request.extensions_mut().insert(RequestId(id.clone()));
        Ids { trace, id, span }
    }
}

/// Gives a response the headers that every one has.
pub(in crate::web) fn add_headers(settings: &Settings, ids: &mut Ids, response: &mut Response) {
    let policy = face(response).policy;
    let missing = response.status() == StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    if missing {
        // axum adds it where a path has other methods. Taskcluster doesn't.
        headers.remove(header::ALLOW);
    }
    for (name, value) in [("x-for-trace-id", &mut ids.trace), ("x-for-request-id", &mut ids.id)] {
        if let Ok(value) = HeaderValue::try_from(std::mem::take(value)) {
            headers.insert(name, value);
        }
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if settings.force_ssl {
        let ninety_days = HeaderValue::from_static("max-age=7776000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ninety_days);
    }
}

/// The face of a response; that of programs, where no part has given it one.
pub(in crate::web) fn face(response: &Response) -> Face {
    response.extensions().get::<Face>().copied().unwrap_or(JSON)
}

/// A reply's body with the room that it takes, which is free again when all of it is written.
struct Held {
    body: Bytes,
    _room: BodyRoom,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Room for a reply of so many bytes.
pub(in crate::web) fn room_for(edge: &Edge, length: usize) -> Result<BodyRoom, Overload> {
    let mut room = edge.gate.body();
    room.fit(length).map(|()| room)
}

/// The same response, its body counted until it is written; a refusal where there is no room for it. What streams says no
/// length beforehand, and goes by unbounded here; see [`Bounds`](super::stream::Bounds).
pub(in crate::web) async fn hold(edge: &Edge, response: Response) -> Response {
    let length = usize::try_from(response.body().size_hint().lower()).unwrap_or(usize::MAX);
    if length <= SMALL {
        return response;
    }
    let room = match room_for(edge, length) {
        Ok(room) => room,
        Err(overload) => {
            let face = face(&response);
            let mut refusal = (face.refuse)(&overload);
            refusal.extensions_mut().insert(face);
            return refusal;
        }
    };
    let (parts, body) = response.into_parts();
    // It is in memory, so this can't fail.
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(parts, Body::from(Bytes::from_owner(Held { body, _room: room })))
}

/// The caller's id for a story that goes through many services, if it is one that may stand in logs and headers; else a
/// new one.
fn trace_id(headers: &HeaderMap) -> String {
    taken(headers, "x-taskcluster-trace-id").unwrap_or_else(|| Uuid::new_v4().to_string())
}

/// An id that a header gives, if it may stand in logs and headers.
fn taken(headers: &HeaderMap, name: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
    let id = headers.get(name)?.to_str().ok()?;
    ((1..=LONGEST_TRACE_ID).contains(&id.len()) && id.bytes().all(allowed)).then(|| id.to_owned())
}

/// The answer to a request that goes no further, if it is one.
pub(in crate::web) fn refusal(settings: &Settings, request: &Request) -> Option<Response> {
    let hosts = request.headers().get_all(header::HOST).iter().count();
    // RFC 9112, section 3.2. HTTP/1.0 has no such header, and some health checks speak it.
    if hosts > 1 || (hosts == 0 && request.version() > Version::HTTP_10) {
        let error = json!({"error": "A request must have exactly one Host header"});
        return Some(json_response(StatusCode::BAD_REQUEST, &error));
    }
    if settings.force_ssl { redirect_to_https(settings, request) } else { None }
}

/// Where a request came without HTTPS: a redirection, or a refusal where it would lose its body.
fn redirect_to_https(settings: &Settings, request: &Request) -> Option<Response> {
    let proto = request.headers().get("x-forwarded-proto").and_then(|proto| proto.to_str().ok()).unwrap_or_default();
    if settings.trust_proxy && proto.starts_with("https") {
        return None;
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    match header_text(request.headers(), header::HOST) {
        Some(host) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let target = format!("https://{host}{target}");
            Some((StatusCode::MOVED_PERMANENTLY, [(header::LOCATION, target.clone())], target).into_response())
        }
        _ => {
            let text = "Please use HTTPS when submitting data to this server.";
            Some((StatusCode::FORBIDDEN, text).into_response())
        }
    }
}

/// Which answer the caller has already.
pub(in crate::web) struct Condition(Option<String>);

impl Condition {
    /// Only of a request that reads, and not of one that asks for a fresh answer.
    pub fn of(request: &Request) -> Condition {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let fresh = header_text(request.headers(), header::CACHE_CONTROL).is_some_and(|text| text.contains("no-cache"));
        let tags = header_text(request.headers(), header::IF_NONE_MATCH).filter(|_| reads && !fresh);
        Condition(tags.map(str::to_owned))
    }

    /// Leaves out the body of an answer that the caller has. (RFC 9110, section 13.1.2; tags are compared weakly.)
    pub fn apply(self, response: &mut Response) {
        let Some(tags) = self.0.filter(|_| response.status() == StatusCode::OK) else { return };
        let Some(tag) = header_text(response.headers(), header::ETAG) else { return };
        if tags.trim() == "*" || tags.split(',').any(|given| opaque(given) == opaque(tag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                response.headers_mut().remove(name);
            }
        }
    }
}

fn opaque(tag: &str) -> &str {
    tag.trim().trim_start_matches("W/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_id_that_can_do_no_harm_is_taken_over() {
        let taken = |id: &[u8]| {
            let value = HeaderValue::from_bytes(id).unwrap();
            trace_id(&HeaderMap::from_iter([("x-taskcluster-trace-id".parse().unwrap(), value)])).as_bytes() == id
        };
        assert!(taken(b"2b9cf4b6-1d4a-4a34-8d5e-1ed2b0f3a4c1") && taken(b"Root=1-67891233-abcdef"));
        let long = "a".repeat(LONGEST_TRACE_ID + 1);
        for id in [&b""[..], b"a b", b"a\tb", b"<script>", "\u{e9}".as_bytes(), long.as_bytes()] {
            assert!(!taken(id), "{id:?}");
        }
    }
}
