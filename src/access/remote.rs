//! Asking Taskcluster's auth service who made a request, by its method `authenticate-hawk`.
//!
//! It is given what is signed of the request, and verifies all of it: header, bewit or temporary credentials. The scopes in
//! its answer are expanded by its roles and used as they are. No answer is kept: a client that is disabled there is refused
//! here from its next request on.

use std::time::Duration;

use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::caller::{Caller, Who};
use super::refusal::{Failure, Refusal, Unanswered};
use super::request::SignedRequest;
use crate::clock::Timestamp;
use crate::taskcluster::{RetryPolicy, Taskcluster, TaskclusterError};

const SERVICE: &str = "auth";
/// About how many requests it is asked at a time. While it hangs, requests that wait for it must not take all places.
const MOST: usize = 512;

/// How long and how often the service is asked, if all of it may take `total`.
///
/// Attempts and pauses are as many and as long as Taskcluster's, which takes up to three minutes: its callers wait for it.
/// Ours repeat by themselves after a 503, so they are better told soon, while their connection still stands. Half of `total`
/// is for one attempt, so that one which hangs leaves time for another, by which time a balancer may have found a server that
/// works. Five pauses take 3.1 s, a quarter more at most; all of them fit into 5 s.
pub fn limits(total: Duration) -> RetryPolicy {
    RetryPolicy { timeout: total / 2, total, ..RetryPolicy::default() }
}

/// Taskcluster's auth service.
#[derive(Debug)]
pub struct AuthService {
    taskcluster: Taskcluster,
    asking: Semaphore,
}

/// What it answers.
#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", rename_all_fields = "camelCase")]
enum Authentication {
    AuthSuccess { client_id: String, scopes: Vec<String>, expires: Option<String>, hash: Option<Value> },
    AuthFailed { message: String },
    NoAuth { scopes: Vec<String>, expires: Option<String> },
}

impl AuthService {
    /// Asks by `taskcluster`, which need not sign: the method is open to anybody.
    pub fn new(taskcluster: Taskcluster) -> AuthService {
        AuthService { taskcluster, asking: Semaphore::new(MOST) }
    }

    /// Whether it is there.
    pub(super) async fn ping(&self) -> Result<(), TaskclusterError> {
        self.taskcluster.call(Method::GET, SERVICE, "ping", None).await.map(drop)
    }

    /// Who made this request. `trace` is the id of the story that it is a part of.
    pub(super) async fn authenticate(&self, request: &SignedRequest<'_>, trace: &str) -> Result<Caller, Failure> {
        if !is_host_name(&request.origin.host) {
            return Err(Unanswered::Host.into());
        }
        let _asking = self.asking.try_acquire().map_err(|_| Unanswered::Busy)?;
        let question = question(request);
        let call =
            self.taskcluster.call_traced(Some(trace), Method::POST, SERVICE, "authenticate-hawk", Some(&question));
        let reply = call.await.map_err(Unanswered::Service)?;
        let answer = serde_json::from_value(reply.body).map_err(|_| {
            // The parser's error could quote the answer, and whoever stands in for the service may send our question back.
            let why = "it is none of those that authenticate-hawk gives".to_owned();
            Unanswered::Service(TaskclusterError::Garbled { service: SERVICE.to_owned(), why })
        })?;
        // Nothing is decided by the expiry: the service looks at it itself, with its own clock.
        let moment = |text: Option<String>| text.as_deref().and_then(Timestamp::parse);
        match answer {
            Authentication::AuthSuccess { client_id, scopes, expires, hash } => {
                let hash = hash.as_ref().and_then(Value::as_str).map(str::to_owned);
                Ok(Caller { who: Who::Machine { client_id }, scopes, expires: moment(expires), hash })
            }
            Authentication::NoAuth { scopes, expires } => {
                Ok(Caller { who: Who::Anonymous, scopes, expires: moment(expires), hash: None })
            }
            Authentication::AuthFailed { message } => Err(Refusal::Remote(message).into()),
        }
    }
}

/// The request as the service is told of it. It refuses other keys.
fn question(request: &SignedRequest<'_>) -> Value {
    let mut question = json!({
        "method": request.method.to_ascii_lowercase(),
        "resource": request.resource,
        "host": request.origin.host,
        "port": request.origin.port,
        "sourceIp": request.origin.source_ip,
    });
    if let Some(header) = request.authorization.filter(|header| !header.is_empty()) {
        // Node, which the service's other callers run on, reads headers as Latin-1.
        question["authorization"] = header.iter().copied().map(char::from).collect::<String>().into();
    }
    question
}

/// Whether the service takes this for a host name: the JSON format `hostname`, which addresses of IPv4 fit too.
fn is_host_name(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pauses_fit_into_the_default_time() {
        let RetryPolicy { timeout, retries, base_delay, total } = limits(Duration::from_secs(5));
        let pauses: Duration = (0..retries).map(|attempt| base_delay * 2_u32.pow(attempt)).sum();
        assert!(pauses * 5 / 4 < total, "{pauses:?}");
        assert!(timeout < total, "a second attempt must be possible");
    }

    #[test]
    fn host_names_are_what_the_service_takes_for_one() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        for host in ["a", "example.com", "example.com.", "127.0.0.1", "xn--bcher-kva.example", "1-a.b", &longest] {
            assert!(is_host_name(host), "{host}");
        }
        let too_long = format!("{longest}a");
        for host in ["", ".", "a..b", "my_host", "[::1]", "-a", "a-.b", "a%20b", &format!("{label}a"), &too_long] {
            assert!(!is_host_name(host), "{host}");
        }
    }
}
