//! One call of the management API: its address, its one repetition if it may be repeated, and what the status of the answer
//! means.

use std::cmp::Reverse;
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::BrokerError;
use super::account::{Account, BadManagement, ManagementConfig};
use super::addresses::{Addresses, Try};
use super::token::{Signer, Use};
use crate::telemetry::metrics::{Calls, LATE};
use crate::terminal::one_line;
use crate::tls;

/// `text` on one line, cut to `most` bytes as it is printed.
fn excerpt(text: &str, most: usize) -> String {
    let line = one_line(text);
    match line.get(..line.floor_char_boundary(most)) {
        Some(beginning) if beginning.len() < line.len() => format!("{beginning}..."),
        _ => line.into_owned(),
    }
}

/// What stands in a path as it is: the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// RabbitMQ 4.x closes a connection that is idle for 5 s; ours are given up before.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// For how long a connection for deletions is kept: many that follow each other share it, which saves a third of their time.
const BRIEFLY: Duration = Duration::from_secs(1);

/// After how long a look that RabbitMQ answered with 500 is repeated, once: so it answers where something goes while it is looked at.
const ONCE_MORE: Duration = Duration::from_millis(100);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(1);

/// Stands before what an account sends to log in.
const BASIC: &str = "Basic ";

/// How much of a complaint is read, and how much of it is told, in bytes.
const COMPLAINT: usize = 4096;
const TOLD: usize = 300;
/// How much is shown of the path of a call, in bytes. A name has 255 at most, and some of them are written as several.
const SHOWN: usize = 600;

/// A request, by what it is made of.
#[derive(Clone)]
pub(super) struct Call<'a> {
    method: Method,
    segments: Vec<&'a str>,
    query: String,
    header: Option<(HeaderName, HeaderValue)>,
    body: Option<Value>,
    secret: &'a str,
    at: Option<usize>,
}

impl<'a> Call<'a> {
    /// A call of the path made of `segments`, below `/api`, each still unescaped.
    pub(super) fn new(method: Method, segments: &[&'a str]) -> Call<'a> {
        Call {
            method,
            segments: segments.to_vec(),
            query: String::new(),
            header: None,
            body: None,
            secret: "",
            at: None,
        }
    }

    /// With this query.
    pub(super) fn query(mut self, query: impl Into<String>) -> Call<'a> {
        self.query = query.into();
        self
    }

    /// With this header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Call<'a> {
        self.header = Some((name, value));
        self
    }

    /// At this address alone.
    pub(super) fn at(mut self, at: usize) -> Call<'a> {
        self.at = Some(at);
        self
    }

    /// With this body.
    pub(super) fn json(mut self, body: Value) -> Call<'a> {
        self.body = Some(body);
        self
    }

    /// With a text that no error may show, should the broker repeat it.
    pub(super) fn secret(mut self, secret: &'a str) -> Call<'a> {
        self.secret = secret;
        self
    }

    /// The call that shows what this one deletes.
    pub(super) fn look(&self) -> Call<'a> {
        Call::new(Method::GET, &self.segments).query("columns=name")
    }

    /// Whether it is sent once, whatever happens, because it deletes or takes.
    fn is_sent_once(&self) -> bool {
        matches!(self.method, Method::DELETE | Method::POST)
    }

    /// Whether the tag `monitoring` is enough for it.
    fn only_reads(&self) -> bool {
        let seen =
            ["channels", "connections", "deprecated-features", "exchanges", "health", "nodes", "overview", "queues"];
        self.method == Method::GET && self.segments.first().is_some_and(|first| seen.contains(first))
    }

    /// Whether a node answers it by itself. What concerns all nodes hangs, too, while one of the others does.
    fn is_local(&self) -> bool {
        matches!(self.segments.first(), Some(&("permissions" | "users" | "whoami")))
    }

    /// What kind of call it is, for its metric: `PUT users`. No name of anything is a part of it.
    pub(super) fn kind(&self) -> String {
        format!("{} {}", self.method, self.segments.first().copied().unwrap_or_default())
    }

    /// What it does, for an error: `PUT users/taskcluster-x-1`.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.method, excerpt(&self.segments.join("/"), SHOWN))
    }

    /// The path and query below `/api/`. An empty name would make the path of a list, and `.` and `..` would be resolved
    /// away however they are written; these names can't be asked for.
    fn path(&self) -> Result<String, BrokerError> {
        if self.segments.iter().any(|segment| matches!(*segment, "" | "." | "..")) {
            return Err(BrokerError::Refused(format!("{}: this name can't stand in a URL", self.shown())));
        }
        let escaped: Vec<_> = self.segments.iter().map(|s| utf8_percent_encode(s, ESCAPED).to_string()).collect();
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        Ok(escaped.join("/") + &query)
    }
}

/// A good answer.
pub(super) struct Success {
    /// Its body; empty for what changes something.
    pub(super) body: Vec<u8>,
    /// Whether the call made what it put, or may have: the answer to its first attempt was lost.
    pub(super) perhaps_new: bool,
}

/// What became of a call.
pub(super) enum Sent {
    /// It was carried out.
    Answered(Success),
    /// 404.
    Absent,
    /// The connection was closed without an answer to something that is not to be repeated.
    Cut(BrokerError),
}

/// What became of a call whose answer may still be coming in.
pub(super) enum Begun {
    /// This is the answer, from that address.
    Body(Response, usize),
    /// It was carried out, and there is nothing more to tell.
    Done(Success),
    /// As in [`Sent`].
    Absent,
    /// As in [`Sent`].
    Cut(BrokerError),
}

/// Sends calls as a management account: the one that was let in last, or where it no longer is, another one.
pub(super) struct Caller {
    /// Where the API is.
    pub(super) addresses: Addresses,
    /// How long a call may take that is no list.
    timeout: Duration,
    /// Keeps connections alive for the next call.
    pooled: Client,
    /// Keeps connections alive for a moment, for deletions: they are sent once, and should not meet a connection that the broker
    /// has closed.
    deleting: Client,
    /// Opens a connection for each call: what is repeated should not meet such a one again.
    fresh: Client,
    logins: Vec<Login>,
    /// Which account was let in last.
    good: AtomicUsize,
    /// What is counted of the calls.
    pub(super) calls: Calls,
}

/// As whom a call is sent.
enum Login {
    /// An account, with what it sends.
    Basic(Account, HeaderValue),
    /// By tokens of one key.
    Token(Signer),
}

impl Login {
    fn name(&self) -> String {
        match self {
            Login::Basic(account, _) => account.username.clone(),
            Login::Token(signer) => signer.name(),
        }
    }

    fn header(&self, call: &Call<'_>) -> Result<HeaderValue, BrokerError> {
        match self {
            Login::Basic(_, header) => Ok(header.clone()),
            Login::Token(signer) => {
                let login = signer.login(if call.only_reads() { Use::Read } else { Use::Administer });
                login.ok_or_else(|| BrokerError::Denied("a token for it can't be signed".to_owned()))
            }
        }
    }

    /// What no error may show.
    fn secrets(&self) -> Vec<Zeroizing<String>> {
        match self {
            Login::Token(signer) => signer.secrets(),
            Login::Basic(account, header) => {
                let sent = header.to_str().ok().and_then(|header| header.strip_prefix(BASIC)).unwrap_or_default();
                [sent, account.password.expose()].map(|text| Zeroizing::new(text.to_owned())).into()
            }
        }
    }

    /// What to look at when it is refused.
    fn advice(&self) -> &'static str {
        match self {
            Login::Basic(..) => "check its name and password",
            Login::Token(_) => {
                "does RabbitMQ know the public part of the key, which `keys show` prints, and do the clocks agree?"
            }
        }
    }
}

/// The kinds of calls that are counted for themselves.
const KINDS: &[&str] = &[
    "DELETE connections",
    "DELETE exchanges",
    "DELETE operator-policies",
    "DELETE permissions",
    "DELETE queues",
    "DELETE users",
    "GET channels",
    "GET connections",
    "GET exchanges",
    "GET global-parameters",
    "GET health",
    "GET nodes",
    "GET operator-policies",
    "GET overview",
    "GET permissions",
    "GET queues",
    "GET topic-permissions",
    "GET user-limits",
    "GET users",
    "GET vhosts",
    "GET whoami",
    "POST bindings",
    "POST queues",
    "POST users",
    "PUT operator-policies",
    "PUT permissions",
    "PUT user-limits",
    "PUT users",
    "other",
];

/// How calls end.
const OUTCOMES: &[&str] = &["ok", "absent", "cut", LATE, "unavailable", "denied", "refused", "garbled", "other"];

/// How a call ended, for its metric.
fn outcome(sent: &Result<Sent, BrokerError>) -> &'static str {
    match sent {
        Ok(Sent::Answered(_)) => "ok",
        Ok(Sent::Absent) => "absent",
        Ok(Sent::Cut(_)) => "cut",
        Err(error) => failure(error),
    }
}

/// How a call failed, for its metric.
pub(super) fn failure(error: &BrokerError) -> &'static str {
    match error {
        BrokerError::Unavailable(_) => "unavailable",
        BrokerError::Denied(_) => "denied",
        BrokerError::Refused(_) => "refused",
        BrokerError::Garbled(_) => "garbled",
    }
}

impl Caller {
    /// Takes the address and accounts from `config`.
    pub(super) fn new(config: &ManagementConfig) -> Result<Caller, BadManagement> {
        let accounts = [&config.account].into_iter().chain(&config.fallback);
        let basic = |account: &Account| Ok(Login::Basic(account.clone(), login(account)?));
        let logins = match &config.tokens {
            Some(tokens) => Signer::all(tokens, &config.vhost).into_iter().map(Login::Token).collect(),
            None => accounts.map(basic).collect::<Result<_, _>>()?,
        };
        // A proxy from the environment would be shown the account's password, and the broker is a neighbour. A
        // redirection would send it elsewhere too.
        let client = |idle: usize, time: Duration| {
            let builder = Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .pool_idle_timeout(time)
                .pool_max_idle_per_host(idle)
                // What is repeated is decided here.
                .retry(reqwest::retry::never());
            let builder = config.trust.http(builder).map_err(|e| BadManagement::Tls(e.to_string()))?;
            builder.build().map_err(|e| BadManagement::Tls(root(&e)))
        };
        Ok(Caller {
            addresses: Addresses::new(&config.base_urls)?,
            timeout: config.timeout,
            pooled: client(usize::MAX, POOL_IDLE)?,
            deleting: client(usize::MAX, BRIEFLY)?,
            fresh: client(0, BRIEFLY)?,
            logins,
            good: AtomicUsize::new(0),
            calls: Calls::new(KINDS, OUTCOMES),
        })
    }

    /// Whether it logs in by tokens.
    pub(super) fn is_by_token(&self) -> bool {
        self.logins.iter().any(|login| matches!(login, Login::Token(_)))
    }

    /// Sends the call, and waits for its whole answer.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Sent, BrokerError> {
        let mut counted = self.calls.begin(&call.kind());
        let sent = self.send_uncounted(call).await;
        counted.end(outcome(&sent));
        sent
    }

    async fn send_uncounted(&self, call: &Call<'_>) -> Result<Sent, BrokerError> {
        Ok(match self.begin(call).await? {
            Begun::Body(response, at) => {
                let body = response.bytes().await.map_err(|e| self.lost(call, &e, at))?.into();
                Sent::Answered(Success { body, perhaps_new: false })
            }
            Begun::Done(done) => Sent::Answered(done),
            Begun::Absent => Sent::Absent,
            Begun::Cut(lost) => Sent::Cut(lost),
        })
    }

    /// Why there is no answer, or no whole one.
    pub(super) fn lost(&self, call: &Call<'_>, error: &reqwest::Error, at: usize) -> BrokerError {
        BrokerError::Unavailable(self.told(call, &self.broken(error, at)))
    }

    /// Sends the call to the first address that works. What is repeated at another one is what may be repeated, or what the
    /// first one can't have heard. Whoever reads the answer counts the call.
    pub(super) async fn begin(&self, call: &Call<'_>) -> Result<Begun, BrokerError> {
        call.path()?;
        let order = call.at.map_or_else(|| self.addresses.order(), |at| vec![at]);
        let (mut share, mut failed) = (self.timeout, String::new());
        for (tried, &at) in order.iter().enumerate() {
            share /= 2;
            let is_last = tried + 1 == order.len();
            let (trying, asking) = (self.addresses.begin(at, call.is_local()), self.ask(at, call));
            // A node that hangs leaves time for another one.
            let asked = match is_last || call.is_sent_once() {
                true => asking.await,
                false => tokio::time::timeout(share, asking).await.unwrap_or_else(|_| Err(self.hangs(call, share))),
            };
            let failure = match settled(asked, trying) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if is_last || !failure.elsewhere {
                return Err(failure.error);
            }
            failed = failure.error.to_string();
        }
        Err(BrokerError::Unavailable(failed))
    }

    fn hangs(&self, call: &Call<'_>, after: Duration) -> Failed {
        let error = BrokerError::Unavailable(format!("{}: no answer within {after:?}", call.shown()));
        Failed { error, node: call.is_local(), elsewhere: true }
    }

    /// Sends the call as the account that was let in last, and as each other one while none is: the password of an account
    /// can be changed without an outage where there are two. A call that is refused to one account was not carried out.
    async fn ask(&self, at: usize, call: &Call<'_>) -> Result<Begun, Failed> {
        let first = self.good.load(Ordering::Relaxed);
        let mut denied = String::new();
        for next in 0..self.logins.len() {
            let account = (first + next) % self.logins.len();
            match self.send_as(account, at, call).await {
                Err(Failed { error: BrokerError::Denied(why), .. }) if denied.is_empty() => denied = why,
                Err(Failed { error: BrokerError::Denied(why), .. }) => {
                    // The call is named once.
                    let why = why.strip_prefix(&call.shown()).unwrap_or(&why);
                    denied = format!("{denied}; as the other account{why}");
                }
                answer => {
                    if self.good.swap(account, Ordering::Relaxed) != account {
                        tracing::warn!(
                            account = self.logins[account].name(),
                            "RabbitMQ refused the other management account; this one is used from now on"
                        );
                    }
                    return answer;
                }
            }
        }
        Err(BrokerError::Denied(denied).into())
    }

    /// Sends the call once, or twice where the broker closed the connection without an answer: that befalls a connection
    /// that was kept alive. A look that fails by 500 is sent once more. What deletes is sent once, whatever happens.
    async fn send_as(&self, account: usize, at: usize, call: &Call<'_>) -> Result<Begun, Failed> {
        let url = self.addresses.api(at).join(&call.path()?);
        let url = url.map_err(|e| BrokerError::Refused(format!("{}: {e}", call.shown())))?;
        let (login, once) = (&self.logins[account].header(call)?, call.is_sent_once());
        let client = if once { &self.deleting } else { &self.pooled };
        let (answer, repeated) = match self.attempt(client, login, call, &url).await {
            Err(e) if e.is_connect() || e.is_timeout() => (Err(e), false),
            Err(e) if once => return Ok(Begun::Cut(self.lost(call, &e, at))),
            Err(_) => (self.attempt(&self.fresh, login, call, &url).await, true),
            answer => (answer, false),
        };
        let lost = |e: reqwest::Error| Failed {
            error: self.lost(call, &e, at),
            node: true,
            elsewhere: e.is_connect() || !once,
        };
        let mut response = answer.map_err(lost)?;
        let changes = call.method != Method::GET;
        if response.status() == StatusCode::INTERNAL_SERVER_ERROR && !changes {
            tokio::time::sleep(ONCE_MORE).await;
            response = self.attempt(&self.pooled, login, call, &url).await.map_err(lost)?;
        }
        let status = response.status();
        match (status, changes) {
            // Of what changes something, only what takes messages answers with them.
            (StatusCode::OK, _) if !changes || call.method == Method::POST => Ok(Begun::Body(response, at)),
            (StatusCode::CREATED | StatusCode::NO_CONTENT, true) => {
                let perhaps_new = repeated || status == StatusCode::CREATED;
                Ok(Begun::Done(Success { body: Vec::new(), perhaps_new }))
            }
            (StatusCode::NOT_FOUND, _) => Ok(Begun::Absent),
            _ => {
                let error = self.judge(call, status, &complaint(response).await, self.logins[account].advice());
                // By 503 a health check says something about the broker, not that it could not be asked.
                let node = status.is_server_error() && call.segments.first() != Some(&"health");
                Err(Failed { error, node, elsewhere: node && !once })
            }
        }
    }

    async fn attempt(
        &self,
        client: &Client,
        login: &HeaderValue,
        call: &Call<'_>,
        url: &Url,
    ) -> reqwest::Result<Response> {
        let mut request = client.request(call.method.clone(), url.clone()).header(AUTHORIZATION, login);
        if let Some((name, value)) = &call.header {
            request = request.header(name, value);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        request.send().await
    }

    /// What a status that is neither good nor 404 means.
    fn judge(&self, call: &Call<'_>, status: StatusCode, complaint: &str, login: &str) -> BrokerError {
        let said = format!("{} {complaint}", status.as_u16());
        let told = match tls::advice(&said) {
            Some(advice) => format!("{} ({advice})", self.told(call, said.trim_end())),
            None => self.told(call, said.trim_end()),
        };
        match status {
            // `not_authorized` is about the login, `not_authorised` about a right. Without credentials there is no body.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if complaint.to_ascii_lowercase().starts_with("not_authorised") =>
            {
                BrokerError::Denied(format!(
                    "{told} (it needs the `administrator` tag and, on the virtual host, permission to configure what it \
                     deletes; to observe only, the `monitoring` tag and any permission on the virtual host)"
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => BrokerError::Denied(format!("{told} ({login})")),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => BrokerError::Unavailable(told),
            status if status.is_server_error() => BrokerError::Unavailable(told),
            status if status.is_client_error() => BrokerError::Refused(told),
            _ => BrokerError::Garbled(format!("{told} (is this the URL of the management API?)")),
        }
    }

    /// Says of a call what became of it, without what is secret, and not at length.
    pub(super) fn told(&self, call: &Call<'_>, what: &str) -> String {
        let mut what = what.to_owned();
        for secret in self.secrets(call) {
            what = what.replace(secret.as_str(), "[hidden]");
        }
        format!("{}: {}", call.shown(), excerpt(&what, TOLD))
    }

    /// What no error may show, in each form in which the broker may repeat it: as it is, as it stands in JSON, and of an
    /// account also as it was sent. One that is a part of another comes after it.
    fn secrets(&self, call: &Call<'_>) -> Vec<Zeroizing<String>> {
        let logins = self.logins.iter().flat_map(Login::secrets).chain([Zeroizing::new(call.secret.to_owned())]);
        let plain = logins.filter(|secret| !secret.is_empty());
        let mut forms: Vec<_> = plain.flat_map(|secret| [in_json(&secret), secret]).collect();
        forms.sort_by_key(|form| Reverse(form.len()));
        forms
    }

    /// Why there is no answer.
    fn broken(&self, error: &reqwest::Error, at: usize) -> String {
        let cause = root(error);
        let advice = tls::advice(&cause).map(|advice| format!(" ({advice})")).unwrap_or_default();
        match error.is_connect() {
            true => format!("can't connect to {}: {cause}{advice}", self.addresses.host(at)),
            false => format!("{cause}{advice}"),
        }
    }
}

/// Why a try came to nothing.
struct Failed {
    error: BrokerError,
    /// Whether the reason lies with the node.
    node: bool,
    /// Whether another one may be asked.
    elsewhere: bool,
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Failed {
        Failed { error, node: false, elsewhere: false }
    }
}

/// Notes what a try says about its address.
fn settled(asked: Result<Begun, Failed>, trying: Try<'_>) -> Result<Begun, Failed> {
    match &asked {
        Ok(Begun::Cut(_)) => trying.ends(),
        Err(failed) if failed.node => trying.fails(&failed.error.to_string()),
        Ok(_) | Err(_) => trying.works(),
    }
    asked
}

/// What an account sends to log in, marked so that nobody shows it.
fn login(Account { username, password }: &Account) -> Result<HeaderValue, BadManagement> {
    if username.contains(':') {
        return Err(BadManagement::Username);
    }
    let basic = format!("{BASIC}{}", STANDARD.encode(format!("{username}:{}", password.expose())));
    let mut basic = HeaderValue::try_from(basic).map_err(|_| BadManagement::Username)?;
    basic.set_sensitive(true);
    Ok(basic)
}

/// `text` as it stands between the quotes of a JSON string.
fn in_json(text: &str) -> Zeroizing<String> {
    let quoted = Zeroizing::new(json!(text).to_string());
    Zeroizing::new(quoted[1..quoted.len() - 1].to_owned())
}

/// The innermost error, which says what happened; those around it say where, and name the URL.
fn root(error: &reqwest::Error) -> String {
    let mut inner = error.source();
    while let Some(next) = inner.and_then(|e| e.source()) {
        inner = Some(next);
    }
    inner.map_or_else(|| "the request failed".to_owned(), ToString::to_string)
}

/// What the broker says is wrong, as far as it can be read.
async fn complaint(mut response: Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() >= COMPLAINT {
            body.truncate(COMPLAINT);
            break;
        }
    }
    super::answer::complaint(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    fn config(base: &str) -> ManagementConfig {
        ManagementConfig {
            base_urls: vec![base.parse().unwrap()],
            trust: Default::default(),
            account: Account { username: "boss".into(), password: Password::from_stored("swordfish".into()) },
            fallback: None,
            tokens: None,
            metrics: None,
            vhost: "/".into(),
            timeout: CONNECT,
            listing_timeout: CONNECT,
        }
    }

    fn caller(base: &str) -> Result<Caller, BadManagement> {
        Caller::new(&config(base))
    }

    #[test]
    fn every_character_of_a_name_stays_within_its_segment() {
        let call = Call::new(Method::GET, &["users", "a/b%\n ?#;ü.~"]).query("x=1");
        assert_eq!(call.path().unwrap(), "users/a%2Fb%25%0A%20%3F%23%3B%C3%BC.~?x=1");
        assert_eq!(call.shown(), "GET users/a/b%\\n ?#;ü.~");
    }

    #[test]
    fn a_name_that_would_change_the_path_is_refused() {
        for name in ["", ".", ".."] {
            let error = Call::new(Method::DELETE, &["users", name]).path().unwrap_err();
            assert!(matches!(error, BrokerError::Refused(_)), "{error:?}");
        }
    }

    #[test]
    fn a_status_means_what_the_errors_say() {
        let (caller, call) = (caller("http://h").ok().unwrap(), Call::new(Method::PUT, &["users", "x"]));
        let judged = |status: u16, said: &str| {
            caller.judge(&call, StatusCode::from_u16(status).unwrap(), said, caller.logins[0].advice())
        };
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(matches!(judged(status, ""), BrokerError::Unavailable(_)), "{status}");
        }
        for status in [400, 405, 406, 409, 413] {
            assert!(matches!(judged(status, ""), BrokerError::Refused(_)), "{status}");
        }
        for status in [200, 202, 206, 301, 307] {
            assert!(matches!(judged(status, ""), BrokerError::Garbled(_)), "{status}");
        }
        for said in ["not_authorized: Login failed", "not_authorized: Not_Authorized", "Not_Authorized", ""] {
            assert!(matches!(judged(401, said), BrokerError::Denied(told) if told.contains("name and password")));
        }
        for said in ["not_authorised: Access refused.", "not_authorised: Not administrator user"] {
            assert!(matches!(judged(401, said), BrokerError::Denied(told) if told.contains("`administrator`")));
        }
        assert_eq!(
            judged(400, "bad_request: not_json").to_string(),
            "RabbitMQ refused PUT users/x: 400 bad_request: not_json"
        );
        assert_eq!(judged(503, "").to_string(), "RabbitMQ's management API is not available: PUT users/x: 503");
    }

    #[test]
    fn what_is_told_is_short_and_holds_no_secret() {
        let caller = caller("http://h").ok().unwrap();
        let call = Call::new(Method::PUT, &["users", "x"]).secret("c2FsdA==");
        assert_eq!(
            caller.told(&call, "no c2FsdA== for boss\n(swordfish)"),
            "PUT users/x: no [hidden] for boss\\n([hidden])"
        );
        assert!(caller.told(&call, &"é".repeat(5000)).len() < 400);
    }

    #[test]
    fn a_login_that_is_repeated_is_hidden_in_every_form() {
        let mut config = config("http://h");
        config.account.password = Password::from_stored("sword\"fish".into());
        config.fallback = Some(Account { username: "b".into(), password: Password::from_stored("boss-2".into()) });
        let (caller, call) = (Caller::new(&config).ok().unwrap(), Call::new(Method::GET, &["users"]));
        let said =
            json!(["sword\"fish", "boss-2", "boss", STANDARD.encode("boss:sword\"fish"), STANDARD.encode("b:boss-2")]);
        let hidden = r#"["[hidden]","[hidden]","boss","[hidden]","[hidden]"]"#;
        assert_eq!(caller.told(&call, &said.to_string()), format!("GET users: {hidden}"));
    }
}
