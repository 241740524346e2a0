//! What goes around every request: its ids, `forceSSL`, the headers that every response has, and conditional requests.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{App, Settings, forwarded, header_text, json_response, log};

/// The longest trace id that is taken over from a caller.
const LONGEST_TRACE_ID: usize = 128;

/// The id of a request's story, in its extensions: it is handed on to the services that are asked.
#[derive(Clone)]
pub(super) struct TraceId(pub String);

pub(super) async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    forwarded::join(request.headers_mut());
    forwarded::sift(&mut request, &app.settings.trusted_proxies);
    let (trace, id) = (trace_id(request.headers()), Uuid::new_v4().to_string());
    // At the highest level, so that it is there for whatever is logged.
    let span = tracing::error_span!("request", requestId = id, traceId = trace);
    request.extensions_mut().insert(TraceId(trace.clone()));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let fresh = Condition::of(&request);
    let mut response = match refusal(&app.settings, &request) {
        Some(refusal) => refusal,
        None => next.run(request).instrument(span.clone()).await,
    };
    fresh.apply(&mut response);
    let missing = response.status() == StatusCode::NOT_FOUND;
    let headers = response.headers_mut();
    if missing {
        // axum adds it where a path has other methods. Taskcluster doesn't.
        headers.remove(header::ALLOW);
    }
    for (name, value) in [("x-for-trace-id", trace), ("x-for-request-id", id)] {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
    let policy = "report-uri /__cspreport__;default-src 'none';frame-ancestors 'none';";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if app.settings.force_ssl {
        let ninety_days = HeaderValue::from_static("max-age=7776000; includeSubDomains");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, ninety_days);
    }
    span.in_scope(|| log::other(&method, &path, began, &response));
    response
}

/// The caller's id for a story that goes through many services, if it is one that may stand in logs and headers; else a
/// new one.
fn trace_id(headers: &HeaderMap) -> String {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+/=".contains(&byte);
    headers
        .get("x-taskcluster-trace-id")
        .and_then(|id| id.to_str().ok())
        .filter(|id| (1..=LONGEST_TRACE_ID).contains(&id.len()) && id.bytes().all(allowed))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

/// The answer to a request that goes no further, if it is one.
fn refusal(settings: &Settings, request: &Request) -> Option<Response> {
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

/// The `ETag` of a body.
pub(super) fn etag(body: &str) -> String {
    let hash = Sha256::digest(body.as_bytes());
    format!("W/\"{:x}-{}\"", body.len(), STANDARD_NO_PAD.encode(&hash[..20]))
}

/// Which answer the caller has already.
struct Condition(Option<String>);

impl Condition {
    /// Only of a request that reads, and not of one that asks for a fresh answer.
    fn of(request: &Request) -> Condition {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let fresh = header_text(request.headers(), header::CACHE_CONTROL).is_some_and(|text| text.contains("no-cache"));
        let tags = header_text(request.headers(), header::IF_NONE_MATCH).filter(|_| reads && !fresh);
        Condition(tags.map(str::to_owned))
    }

    /// Leaves out the body of an answer that the caller has. (RFC 9110, section 13.1.2; tags are compared weakly.)
    fn apply(self, response: &mut Response) {
        let Some(tags) = self.0.filter(|_| response.status() == StatusCode::OK) else { return };
        let Some(tag) = header_text(response.headers(), header::ETAG) else { return };
        let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
        if tags.trim() == "*" || tags.split(',').any(|given| opaque(given) == opaque(tag)) {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            *response.body_mut() = Body::empty();
            for name in [header::CONTENT_TYPE, header::CONTENT_ENCODING] {
                response.headers_mut().remove(name);
            }
        }
    }
}

/// The headers that every response below an API mount has; spelled as Taskcluster spells them.
pub(super) async fn add_api_headers(mut response: Response) -> Response {
    for (name, value) in [
        ("access-control-allow-origin", "*"),
        ("access-control-max-age", "900"),
        ("access-control-allow-methods", "OPTIONS,GET,HEAD,POST,PUT,DELETE,TRACE,CONNECT"),
        ("access-control-request-method", "*"),
        ("access-control-allow-headers", "X-Requested-With,Content-Type,Authorization,Accept,Origin,Cache-Control"),
        ("cache-control", "no-store no-cache must-revalidate"),
        ("vary", "Accept-Encoding"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
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
