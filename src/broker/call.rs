//! One call of the management API: its address, its one repetition, and what the status of the answer means.

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
use super::management::{Account, BadManagement, ManagementConfig};
use crate::tls;

/// What stands in a path as it is: the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// RabbitMQ 4.x closes a connection that is idle for 5 s; ours are given up before.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(1);

/// Stands before what an account sends to log in.
const BASIC: &str = "Basic ";

/// How much of a complaint is read, and how much of it is told, in bytes.
const COMPLAINT: usize = 4096;
const TOLD: usize = 300;

/// A request, by what it is made of.
pub(super) struct Call<'a> {
    method: Method,
    segments: Vec<&'a str>,
    query: String,
    header: Option<(HeaderName, HeaderValue)>,
    body: Option<Value>,
    secret: &'a str,
}

impl<'a> Call<'a> {
    /// A call of the path made of `segments`, below `/api`, each still unescaped.
    pub(super) fn new(method: Method, segments: &[&'a str]) -> Call<'a> {
        Call { method, segments: segments.to_vec(), query: String::new(), header: None, body: None, secret: "" }
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

    /// What it does, for an error: `PUT users/taskcluster-x-1`.
    pub(super) fn shown(&self) -> String {
        format!("{} {}", self.method, one_line(&self.segments.join("/")))
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
pub(super) struct Answer {
    /// Its body; empty for what changes something.
    pub(super) body: Vec<u8>,
    /// Whether the call made what it put, or may have: the answer to its first attempt was lost.
    pub(super) perhaps_new: bool,
}

/// Sends calls as a management account: the one that was let in last, or where it no longer is, another one.
pub(super) struct Caller {
    /// The address of the API, with a slash at its end.
    api: Url,
    /// Keeps connections alive for the next call.
    pooled: Client,
    /// Opens a connection for each call, so that a repetition doesn't meet another one that the broker has closed.
    fresh: Client,
    accounts: Vec<Account>,
    /// What each account sends to log in.
    logins: Vec<HeaderValue>,
    /// Which account was let in last.
    good: AtomicUsize,
}

impl Caller {
    /// Takes the address and accounts from `config`.
    pub(super) fn new(config: &ManagementConfig) -> Result<Caller, BadManagement> {
        let accounts: Vec<Account> = [&config.account].into_iter().chain(&config.fallback).cloned().collect();
        let logins = accounts.iter().map(login).collect::<Result<_, _>>()?;
        tls::install_crypto_provider();
        // A proxy from the environment would be shown the account's password, and the broker is a neighbour. A
        // redirection would send it elsewhere too.
        let client = |idle: usize| {
            Client::builder()
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT)
                .pool_idle_timeout(POOL_IDLE)
                .pool_max_idle_per_host(idle)
                .build()
                .map_err(|e| BadManagement::Tls(root(&e)))
        };
        Ok(Caller {
            api: api_url(&config.base_url)?,
            pooled: client(usize::MAX)?,
            fresh: client(0)?,
            accounts,
            logins,
            good: AtomicUsize::new(0),
        })
    }

    /// Where the API is; it holds no secret.
    pub(super) fn api(&self) -> &Url {
        &self.api
    }

    /// Sends the call as the account that was let in last, and as each other one while none is: the password of an account
    /// can be changed without an outage where there are two. `None` for a 404.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Option<Answer>, BrokerError> {
        let first = self.good.load(Ordering::Relaxed);
        let mut denied = Vec::new();
        for turn in 0..self.accounts.len() {
            let account = (first + turn) % self.accounts.len();
            match self.send_as(account, call).await {
                Err(BrokerError::Denied(why)) => denied.push(why),
                answer => {
                    if self.good.swap(account, Ordering::Relaxed) != account {
                        tracing::warn!(
                            account = self.accounts[account].username,
                            "RabbitMQ refused the other management account; this one is used from now on"
                        );
                    }
                    return answer;
                }
            }
        }
        Err(BrokerError::Denied(denied.join("; as the other account: ")))
    }

    /// Sends the call once, or twice where the broker closed the connection without an answer: that befalls a connection
    /// that was kept alive, and every call is safe to repeat.
    async fn send_as(&self, account: usize, call: &Call<'_>) -> Result<Option<Answer>, BrokerError> {
        let url = self.api.join(&call.path()?).map_err(|e| BrokerError::Refused(format!("{}: {e}", call.shown())))?;
        let login = &self.logins[account];
        let (answer, repeated) = match self.attempt(&self.pooled, login, call, &url).await {
            Err(e) if !e.is_connect() && !e.is_timeout() => (self.attempt(&self.fresh, login, call, &url).await, true),
            answer => (answer, false),
        };
        let unavailable = |e: reqwest::Error| BrokerError::Unavailable(self.told(call, &self.broken(&e)));
        let response = answer.map_err(unavailable)?;
        let (status, changes) = (response.status(), call.method != Method::GET);
        match (status, changes) {
            (StatusCode::OK, false) => {
                let body = response.bytes().await.map_err(unavailable)?.into();
                Ok(Some(Answer { body, perhaps_new: false }))
            }
            (StatusCode::CREATED | StatusCode::NO_CONTENT, true) => {
                Ok(Some(Answer { body: Vec::new(), perhaps_new: repeated || status == StatusCode::CREATED }))
            }
            (StatusCode::NOT_FOUND, _) => Ok(None),
            _ => Err(self.judge(call, status, &complaint(response).await)),
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
    fn judge(&self, call: &Call<'_>, status: StatusCode, complaint: &str) -> BrokerError {
        let said = format!("{} {complaint}", status.as_u16());
        let told = self.told(call, said.trim_end());
        match status {
            // `not_authorized` is about the login, `not_authorised` about a right. Without credentials there is no body.
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
                if complaint.to_ascii_lowercase().starts_with("not_authorised") =>
            {
                BrokerError::Denied(format!(
                    "{told} (it needs the `administrator` tag and, on the virtual host, permission to configure what it \
                     deletes)"
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                BrokerError::Denied(format!("{told} (check its name and password)"))
            }
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
        if what.len() > TOLD {
            what.truncate(what.floor_char_boundary(TOLD));
            what.push_str("...");
        }
        format!("{}: {}", call.shown(), one_line(&what))
    }

    /// What no error may show, in each form in which the broker may repeat it: as it is, as it stands in JSON, and of an
    /// account also as it was sent. One that is a part of another comes after it.
    fn secrets(&self, call: &Call<'_>) -> Vec<Zeroizing<String>> {
        let sent = self.logins.iter().filter_map(|login| login.to_str().ok()?.strip_prefix(BASIC));
        let accounts = self.accounts.iter().flat_map(|of| [of.password.expose(), of.username.as_str()]);
        let plain = sent.chain(accounts).chain([call.secret]).filter(|secret| !secret.is_empty());
        let mut forms: Vec<_> = plain.flat_map(|secret| [Zeroizing::new(secret.to_owned()), in_json(secret)]).collect();
        forms.sort_by_key(|form| Reverse(form.len()));
        forms
    }

    /// Why there is no answer.
    fn broken(&self, error: &reqwest::Error) -> String {
        if !error.is_connect() {
            return root(error);
        }
        let (host, port) =
            (self.api.host_str().unwrap_or_default(), self.api.port_or_known_default().unwrap_or_default());
        format!("can't connect to {host}:{port}: {}", root(error))
    }
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

/// The address of the API below `base`, whether or not `base` ends with a slash, or with `/api` as the 2018 service
/// wanted it.
fn api_url(base: &Url) -> Result<Url, BadManagement> {
    let plain = base.username().is_empty() && base.password().is_none();
    let bare = base.query().is_none() && base.fragment().is_none() && base.has_host();
    if !plain || !bare || !matches!(base.scheme(), "http" | "https") {
        return Err(BadManagement::Url);
    }
    let mut api = base.clone();
    let path = base.path().trim_end_matches('/');
    api.set_path(&format!("{}/api/", path.strip_suffix("/api").unwrap_or(path)));
    Ok(api)
}

/// `text` without control characters, so that nobody's name or answer breaks a line of the log.
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
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
            base_url: base.parse().unwrap(),
            account: Account { username: "boss".into(), password: Password::from_stored("swordfish".into()) },
            fallback: None,
            vhost: "/".into(),
            timeout: CONNECT,
            listing_timeout: CONNECT,
        }
    }

    fn caller(base: &str) -> Result<Caller, BadManagement> {
        Caller::new(&config(base))
    }

    #[test]
    fn the_base_url_may_have_a_path_a_slash_and_api_at_its_end() {
        for (base, api) in [
            ("http://h", "http://h/api/"),
            ("http://h:1/", "http://h:1/api/"),
            ("https://h/api", "https://h/api/"),
            ("http://h/api/", "http://h/api/"),
            ("http://h/a%2Fb/c", "http://h/a%2Fb/c/api/"),
            ("http://h/a//", "http://h/a/api/"),
        ] {
            assert_eq!(caller(base).ok().unwrap().api.as_str(), api);
        }
    }

    #[test]
    fn a_base_url_of_another_kind_is_refused_and_not_repeated() {
        for base in ["ftp://h", "http://u:secret@h", "http://h?secret", "http://h#secret", "mailto:secret"] {
            let error = caller(base).err().unwrap().to_string();
            assert!(!error.contains("secret") && error.contains("http://host:15672"), "{error}");
        }
    }

    #[test]
    fn every_character_of_a_name_stays_within_its_segment() {
        let call = Call::new(Method::GET, &["users", "a/b%\n ?#;ü.~"]).query("x=1");
        assert_eq!(call.path().unwrap(), "users/a%2Fb%25%0A%20%3F%23%3B%C3%BC.~?x=1");
        assert_eq!(call.shown(), "GET users/a/b%  ?#;ü.~");
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
        let judged = |status: u16, said: &str| caller.judge(&call, StatusCode::from_u16(status).unwrap(), said);
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
            "PUT users/x: no [hidden] for [hidden] ([hidden])"
        );
        assert!(caller.told(&call, &"é".repeat(5000)).len() < 400);
    }

    #[test]
    fn a_login_that_is_repeated_is_hidden_in_every_form() {
        let mut config = config("http://h");
        config.account.password = Password::from_stored("sword\"fish".into());
        config.fallback = Some(Account { username: "b".into(), password: Password::from_stored("boss-2".into()) });
        let (caller, call) = (Caller::new(&config).ok().unwrap(), Call::new(Method::GET, &["users"]));
        let said = json!(["sword\"fish", "boss-2", STANDARD.encode("boss:sword\"fish"), STANDARD.encode("b:boss-2")]);
        let hidden = r#"["[hidden]","[hidden]","[hidden]","[hidden]"]"#;
        assert_eq!(caller.told(&call, &said.to_string()), format!("GET users: {hidden}"));
    }
}
