//! A client for Taskcluster's HTTP APIs, and for ours, which has the same form.
//!
//! It does what Taskcluster's own clients do: it signs each attempt afresh, tries again after a network error or a 5xx
//! answer with growing pauses, takes a 4xx answer for final, and follows no redirect.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode, redirect};
use serde_json::{Value, json};
use url::Url;

use crate::clock::Clock;
use crate::hawk::Signer;
use crate::tls::Trust;

/// The longest pause between two attempts, whatever the back-off or the service's `Retry-After` says.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The longest answer that is read, in bytes; Taskcluster limits what it reads to the same.
const LONGEST_BODY: usize = 10 * 1024 * 1024;
/// The longest error message that is passed on, in code points.
const LONGEST_MESSAGE: usize = 1000;
/// What stands between an error's message and the details of the request that Taskcluster appends to it.
const MESSAGE_END: &str = "\n\n---\n\n";
/// What is shorter is no MAC, certificate or bewit, and could be a part of any word.
const SHORTEST_SECRET: usize = 16;
const JSON: &str = "application/json";
/// Carries the id of the story that a call is a part of.
const TRACE_ID: &str = "x-taskcluster-trace-id";

/// Who calls. `Debug` shows nothing but the client's name.
#[derive(Clone)]
pub struct ClientCredentials {
    /// The client's name.
    pub client_id: String,
    /// Its key.
    pub access_token: String,
    /// The certificate of temporary credentials, as JSON text; empty for none.
    pub certificate: Option<String>,
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials").field("client_id", &self.client_id).finish_non_exhaustive()
    }
}

/// How long and how often a call is tried. A call takes at most `timeout` for each attempt and 30 s for each pause, and no
/// longer than `total`.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// How long one attempt may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How many attempts may follow the first.
    pub retries: u32,
    /// The pause before the second attempt; each one after is twice as long.
    pub base_delay: Duration,
    /// How long all attempts and pauses may take together. The last attempt is cut off then, and none is made that would
    /// begin later.
    pub total: Duration,
}

impl Default for RetryPolicy {
    /// What Taskcluster's own clients use.
    fn default() -> RetryPolicy {
        let (timeout, base_delay) = (Duration::from_secs(30), Duration::from_millis(100));
        RetryPolicy { timeout, retries: 5, base_delay, total: Duration::MAX }
    }
}

/// A successful answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The HTTP status, 200 to 299.
    pub status: u16,
    /// The body; `Null` where there is none or it isn't JSON.
    pub body: Value,
}

/// Why a call failed. It never holds credentials.
#[derive(Debug, thiserror::Error)]
pub enum TaskclusterError {
    /// What the client was given can't be used; the text says what is wrong and what would be right.
    #[error("{0}")]
    Unusable(String),
    /// No attempt was answered in time.
    #[error("the {service} service can't be reached: {why}")]
    Unreachable {
        /// The service's name.
        service: String,
        /// What went wrong on the way.
        why: String,
    },
    /// It answered with anything but a success.
    #[error("the {service} service answered {status} {code}: {message}")]
    Refused {
        /// The service's name.
        service: String,
        /// The HTTP status.
        status: u16,
        /// The error's code as Taskcluster names it, or `UnknownError`.
        code: String,
        /// The error's message without the request's details, or what the status means.
        message: String,
    },
    /// It answered with success and something that can't be read. Whether the call took effect is unknown.
    #[error("the answer of the {service} service can't be understood: {why}")]
    Garbled {
        /// The service's name.
        service: String,
        /// What is wrong with it.
        why: String,
    },
}

impl TaskclusterError {
    /// Whether the same call may succeed later: after a network error or a 5xx answer.
    pub fn is_transient(&self) -> bool {
        match self {
            TaskclusterError::Unreachable { .. } => true,
            TaskclusterError::Refused { status, .. } => *status >= 500,
            TaskclusterError::Unusable(_) | TaskclusterError::Garbled { .. } => false,
        }
    }
}

/// The services under one root URL.
pub struct Taskcluster {
    /// The root URL without a slash at its end.
    root: String,
    identity: Option<Identity>,
    clock: Arc<dyn Clock>,
    limits: RetryPolicy,
    http: reqwest::Client,
}

/// Credentials in the form in which they sign.
struct Identity {
    client_id: String,
    access_token: String,
    ext: Option<String>,
}

impl fmt::Debug for Taskcluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taskcluster").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What sends the calls.
fn http(trust: &Trust) -> Result<reqwest::Client, TaskclusterError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none());
    let builder = trust.http(builder).map_err(|e| TaskclusterError::Unusable(e.to_string()))?;
    builder.build().map_err(|e| TaskclusterError::Unusable(format!("no HTTP client can be made: {}", chain(&e))))
}

impl Taskcluster {
    /// A client for the services under `root`, an `http` or `https` URL that may have a path. Without `credentials` the
    /// calls are not signed.
    ///
    /// # Errors
    /// [`TaskclusterError::Unusable`] where the URL or the credentials have not the form that they must have, or the
    /// system's certificates can't be read.
    pub fn new(
        root: Url,
        credentials: Option<ClientCredentials>,
        clock: Arc<dyn Clock>,
        limits: RetryPolicy,
    ) -> Result<Taskcluster, TaskclusterError> {
        let unusable = |why: &str| TaskclusterError::Unusable(why.to_owned());
        if !matches!(root.scheme(), "http" | "https") || !root.has_host() {
            return Err(unusable("the root URL must begin with http:// or https:// and a host"));
        }
        if !root.username().is_empty() || root.password().is_some() {
            return Err(unusable("the root URL must not hold a user name or password"));
        }
        if root.query().is_some() || root.fragment().is_some() {
            return Err(unusable("the root URL must end with its path, without a ? or #"));
        }
        let http = http(&Trust::default())?;
        let identity = credentials.map(Identity::new).transpose()?;
        Ok(Taskcluster { root: root.as_str().trim_end_matches('/').to_owned(), identity, clock, limits, http })
    }

    /// The same, which trusts others than the system does.
    ///
    /// # Errors
    /// [`TaskclusterError::Unusable`] where they can't be used.
    pub fn trusting(self, trust: &Trust) -> Result<Taskcluster, TaskclusterError> {
        Ok(Taskcluster { http: http(trust)?, ..self })
    }

    /// Calls `<root>/api/<service>/v1/<path>`. Text from outside that stands in `path` must have gone through
    /// [`segment`].
    ///
    /// # Errors
    /// The last attempt's; see [`TaskclusterError`].
    pub async fn call(
        &self,
        method: Method,
        service: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, TaskclusterError> {
        self.call_traced(None, method, service, path, body).await
    }

    /// Makes the same call as [`Taskcluster::call`], as a part of the story that `trace` is the id of.
    ///
    /// # Errors
    /// The same.
    pub async fn call_traced(
        &self,
        trace: Option<&str>,
        method: Method,
        service: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, TaskclusterError> {
        let url = self.url(service, path)?;
        let body = body.map(Value::to_string);
        let begun = Instant::now();
        let left = || self.limits.total.saturating_sub(begun.elapsed());
        let mut attempt = 0;
        loop {
            let mut request = self.http.request(method.clone(), url.clone()).timeout(self.limits.timeout.min(left()));
            if let Some(trace) = trace {
                request = request.header(TRACE_ID, trace);
            }
            let (error, retry_after) = match self.attempt(request, &method, service, &url, body.as_deref()).await {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            let pause = pause(self.limits.base_delay, attempt, retry_after, rand::random());
            if !error.is_transient() || attempt >= self.limits.retries || pause >= left() {
                return Err(error);
            }
            tracing::debug!(%error, attempt, ?pause, "a call failed and is tried again");
            tokio::time::sleep(pause).await;
            attempt += 1;
        }
    }

    fn url(&self, service: &str, path: &str) -> Result<Url, TaskclusterError> {
        let text = format!("{}/api/{service}/v1/{path}", self.root);
        // A URL is rewritten while it is parsed where it has dot segments or characters that must be escaped.
        Url::parse(&text)
            .ok()
            .filter(|url| url.as_str() == text && url.fragment().is_none())
            .ok_or_else(|| TaskclusterError::Unusable(format!("{path:?} can't be the path of a request")))
    }

    /// One attempt, signed if we have credentials; an error comes with the pause that the service asks for.
    async fn attempt(
        &self,
        mut request: RequestBuilder,
        method: &Method,
        service: &str,
        url: &Url,
        body: Option<&str>,
    ) -> Result<Reply, (TaskclusterError, Option<Duration>)> {
        let mut authorization = String::new();
        if let Some(identity) = &self.identity {
            let payload = body.map(|body| (JSON, body.as_bytes()));
            authorization = identity.sign().header(method.as_str(), url, payload, self.clock.now());
            request = request.header(AUTHORIZATION, &authorization);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, JSON).body(body.to_owned());
        }
        let unreachable = |error: reqwest::Error| {
            (TaskclusterError::Unreachable { service: service.to_owned(), why: chain(&error.without_url()) }, None)
        };
        let response = request.send().await.map_err(unreachable)?;
        let (status, headers) = (response.status(), response.headers().clone());
        let garbled = |why: String| (TaskclusterError::Garbled { service: service.to_owned(), why }, None);
        let bytes = read(response).await.map_err(unreachable)?;
        if !status.is_success() {
            let secrets: Vec<_> = [&authorization, body.unwrap_or_default()].into_iter().flat_map(replayable).collect();
            let error = refused(service, status, &bytes.unwrap_or_default(), &secrets);
            return Err((error, retry_after(&headers)));
        }
        let bytes = bytes.ok_or_else(|| garbled(format!("it is longer than {LONGEST_BODY} bytes")))?;
        let body = match is_json(&headers) && !bytes.is_empty() {
            true => serde_json::from_slice(&bytes).map_err(|e| garbled(format!("it is not JSON: {e}")))?,
            false => Value::Null,
        };
        Ok(Reply { status: status.as_u16(), body })
    }
}

impl Identity {
    fn new(credentials: ClientCredentials) -> Result<Identity, TaskclusterError> {
        let ClientCredentials { client_id, access_token, certificate } = credentials;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!@/:.+|_-".contains(&b);
        if client_id.is_empty() || !client_id.bytes().all(allowed) {
            return Err(TaskclusterError::Unusable("the client id must be made of [A-Za-z0-9!@/:.+|_-]".to_owned()));
        }
        let ext = certificate.filter(|text| !text.trim().is_empty()).map(|text| ext(&text)).transpose()?;
        Ok(Identity { client_id, access_token, ext })
    }

    fn sign(&self) -> Signer<'_> {
        Signer { id: &self.client_id, key: &self.access_token, ext: self.ext.as_deref() }
    }
}

/// The `ext` that carries a certificate: base64 of `{"certificate": ...}`.
fn ext(certificate: &str) -> Result<String, TaskclusterError> {
    // What is wrong with it is not said: the parser's message could hold a part of it.
    match serde_json::from_str(certificate) {
        Ok(Value::Object(certificate)) => Ok(STANDARD.encode(json!({ "certificate": certificate }).to_string())),
        _ => Err(TaskclusterError::Unusable("the certificate must be a JSON object".to_owned())),
    }
}

/// `text` as one segment of a path: everything but letters, digits and `-_.~` is percent-encoded.
pub fn segment(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The pause after attempt number `attempt` (from 0): `base` doubled each time, up to a quarter longer or shorter as
/// `random` (0 to 1) has it, so that many clients don't come back at once; not shorter than the service asks for, and
/// never longer than [`LONGEST_PAUSE`].
fn pause(base: Duration, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let doubled = base.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_PAUSE);
    doubled.mul_f64(0.75 + random / 2.0).max(retry_after.unwrap_or_default()).min(LONGEST_PAUSE)
}

/// The pause that the service asks for, where it says so in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(JSON)
}

/// The body; `None` where it is longer than [`LONGEST_BODY`].
async fn read(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// What of the text of a request would let somebody send it again: MACs, certificates and bewits, also where they stand in
/// JSON, as a caller's do in a question to the auth service.
fn replayable(sent: &str) -> impl Iterator<Item = &str> {
    let values = move |name: &'static str| sent.match_indices(name).map(move |(at, _)| &sent[at + name.len()..]);
    let found = ["mac=", "ext=", "bewit="].into_iter().flat_map(values);
    let values = found.filter_map(|text| text.trim_start_matches(['\\', '"']).split(['\\', '"', '&']).next());
    values.filter(|value| value.len() >= SHORTEST_SECRET)
}

/// The error that an unsuccessful answer stands for, without those of `secrets` that it repeats. Between us and the service
/// may be others who answer in HTML.
fn refused(service: &str, status: StatusCode, body: &[u8], secrets: &[&str]) -> TaskclusterError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let hide = |text: &str| secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret, "[hidden]"));
    let text = |key: &str| body.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(hide);
    let reason = || status.canonical_reason().unwrap_or("an unknown status").to_owned();
    let message = text("message").unwrap_or_else(reason);
    let message = message.split(MESSAGE_END).next().unwrap_or_default();
    TaskclusterError::Refused {
        service: service.to_owned(),
        status: status.as_u16(),
        code: text("code").unwrap_or_else(|| "UnknownError".to_owned()),
        message: message.chars().take(LONGEST_MESSAGE).collect(),
    }
}

/// The error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    fn client(root: &str, credentials: Option<ClientCredentials>) -> Result<Taskcluster, TaskclusterError> {
        Taskcluster::new(Url::parse(root).unwrap(), credentials, Arc::new(SystemClock), RetryPolicy::default())
    }

    fn credentials(client_id: &str, certificate: Option<&str>) -> Option<ClientCredentials> {
        Some(ClientCredentials {
            client_id: client_id.into(),
            access_token: "canary-token".into(),
            certificate: certificate.map(Into::into),
        })
    }

    #[test]
    fn a_url_is_made_as_taskcluster_makes_it() {
        for (root, url) in [
            ("https://tc.example.com", "https://tc.example.com/api/pulse/v1/ping"),
            ("https://tc.example.com//", "https://tc.example.com/api/pulse/v1/ping"),
            ("http://127.0.0.1:80/a/b/", "http://127.0.0.1/a/b/api/pulse/v1/ping"),
        ] {
            assert_eq!(client(root, None).unwrap().url("pulse", "ping").unwrap().as_str(), url);
        }
    }

    #[test]
    fn a_path_that_would_be_rewritten_is_refused() {
        let client = client("https://tc.example.com", None).unwrap();
        for path in ["namespace/..", "namespace/%2e%2E", "a b", "namespace/é", "a#"] {
            assert!(client.url("pulse", path).is_err(), "{path}");
        }
        let path = format!("namespace/{}?limit=1", segment("a/b é%?#"));
        assert_eq!(client.url("pulse", &path).unwrap().path(), "/api/pulse/v1/namespace/a%2Fb%20%C3%A9%25%3F%23");
    }

    #[test]
    fn what_can_not_be_a_root_url_is_refused() {
        for root in ["ftp://x/", "https://me:canary@x/", "https://me@x/", "https://x/?a", "https://x/#a", "data:x"] {
            let error = client(root, None).unwrap_err();
            assert!(matches!(error, TaskclusterError::Unusable(_)), "{root}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn credentials_that_can_not_sign_are_refused_without_being_shown() {
        for (id, certificate) in
            [("", None), ("a\"b", None), ("a\r\nb", None), ("a", Some("[\"canary\"]")), ("a", Some("canary"))]
        {
            let error = client("https://x", credentials(id, certificate)).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("canary"), "{error}");
        }
        let client = client("https://x", credentials("a", Some(" "))).unwrap();
        assert!(client.identity.as_ref().unwrap().ext.is_none());
        let shown = format!("{client:?} {:?}", credentials("a", Some("{\"x\":\"canary\"}")));
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn pauses_double_and_have_an_end() {
        let base = Duration::from_millis(100);
        assert_eq!(pause(base, 0, None, 0.5), base);
        assert_eq!(pause(base, 4, None, 0.5), Duration::from_millis(1600));
        assert_eq!(pause(base, 0, None, 0.0), Duration::from_millis(75));
        assert_eq!(pause(base, 0, None, 1.0), Duration::from_millis(125));
        assert_eq!(pause(base, u32::MAX, None, 1.0), LONGEST_PAUSE);
    }

    #[test]
    fn a_service_may_ask_for_a_longer_pause_within_bounds() {
        let asked = |seconds| pause(Duration::from_secs(2), 0, Some(Duration::from_secs(seconds)), 0.5);
        assert_eq!(asked(7), Duration::from_secs(7));
        assert_eq!(asked(1), Duration::from_secs(2));
        assert_eq!(asked(u64::MAX), LONGEST_PAUSE);
        let header = |text: &str| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]));
        assert_eq!(header("7"), Some(Duration::from_secs(7)));
        assert_eq!(header("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert_eq!(header("-1"), None);
    }

    #[test]
    fn an_error_keeps_the_code_and_the_message_that_taskcluster_gave() {
        let body = json!({"code": "InputError", "message": "No.\n\n---\n\n* method:     x", "requestInfo": {}});
        let error = refused("notify", StatusCode::BAD_REQUEST, body.to_string().as_bytes(), &[]);
        assert_eq!(error.to_string(), "the notify service answered 400 InputError: No.");
        let error = refused("notify", StatusCode::BAD_GATEWAY, b"<html>", &[]);
        assert_eq!(error.to_string(), "the notify service answered 502 UnknownError: Bad Gateway");
    }

    #[test]
    fn what_a_service_repeats_of_a_request_can_not_be_sent_again() {
        let (mac, ext, bewit) = ("m".repeat(43) + "=", "e".repeat(40), "b".repeat(60));
        let header = format!("Hawk id=\"me\", ts=\"1\", nonce=\"n\", mac=\"{mac}\", ext=\"{ext}\"");
        let question = json!({"resource": format!("/a?bewit={bewit}&next=b"), "authorization": header}).to_string();
        for (sent, expected) in [(&header, vec![&mac, &ext]), (&question, vec![&mac, &ext, &bewit])] {
            let found: Vec<_> = replayable(sent).collect();
            assert_eq!(found, expected);
            let body = json!({"code": format!("Odd{mac}"), "message": format!("what is {sent:?}?")}).to_string();
            let error = refused("auth", StatusCode::INTERNAL_SERVER_ERROR, body.as_bytes(), &found).to_string();
            assert!(error.contains("Odd[hidden]") && error.contains("nonce"), "{error}");
            assert!([&mac, &ext, &bewit].iter().all(|secret| !error.contains(*secret)), "{error}");
        }
    }
}
