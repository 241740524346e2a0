//! [`ManagementApi`]: the broker by RabbitMQ's management API, 3.10 to 4.x.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;
use url::Url;

use super::answer::{self, Unreadable};
use super::call::{Answer, Call, Caller, one_line};
use super::{Broker, BrokerError, Put};
use crate::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser, QueueKind};
use crate::domain::name::{Permissions, USER_TAG};
use crate::secret::{Password, PasswordHash};

/// How long a call may take that concerns one thing, unless configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a list may take, unless configured: one of 50,000 queues was seen to take 5 s.
pub const DEFAULT_LISTING_TIMEOUT: Duration = Duration::from_secs(60);

/// What a queue's total is read by: fresh from the queue itself, where the statistics lag by up to 10 s.
const TOTALS: &str = "disable_stats=true&enable_queue_totals=true&columns=name,messages,type,exclusive";

/// The header whose text a client is shown when its connection is closed.
const REASON: HeaderName = HeaderName::from_static("x-reason");

/// The longest reason for closing a connection, in bytes. AMQP has room for 255, and RabbitMQ puts some words before it.
const LONGEST_REASON: usize = 200;

/// A user of the management API. It needs the tag `administrator`, and permission to configure in the virtual host.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Password,
}

/// Where the management API is and as whom to use it.
pub struct ManagementConfig {
    /// `http` or `https`, host, and where needed port and path, with or without `/api` at its end.
    pub base_url: Url,
    /// The management account.
    pub account: Account,
    /// The one that is used while the broker refuses the other.
    pub fallback: Option<Account>,
    /// The virtual host that everything happens in.
    pub vhost: String,
    /// How long a call may take that concerns one thing, its repetition included.
    pub timeout: Duration,
    /// How long a list may take.
    pub listing_timeout: Duration,
}

/// What is wrong with a [`ManagementConfig`]; it shows nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum BadManagement {
    /// The URL.
    #[error(
        "the management API's URL should look like http://host:15672 or https://host/path, without a user, a password, \
         a query or a fragment"
    )]
    Url,
    /// The account's name.
    #[error("the management account's name can't be sent: it should have no colon")]
    Username,
    /// TLS.
    #[error("TLS can't be set up: {0}")]
    Tls(String),
}

/// RabbitMQ's management API at one address, for one virtual host.
///
/// It keeps connections alive and may be used from many tasks at once. It follows no redirection, and heeds no proxy of
/// the environment: either would send the account's password to somebody else.
pub struct ManagementApi {
    caller: Caller,
    vhost: String,
    timeout: Duration,
    listing_timeout: Duration,
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = self.caller.api().as_str();
        f.debug_struct("ManagementApi").field("api", &api).field("vhost", &self.vhost).finish_non_exhaustive()
    }
}

impl ManagementApi {
    /// Sets up a client; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with `config`.
    pub fn new(config: ManagementConfig) -> Result<ManagementApi, BadManagement> {
        let caller = Caller::new(&config)?;
        let ManagementConfig { vhost, timeout, listing_timeout, .. } = config;
        Ok(ManagementApi { caller, vhost, timeout, listing_timeout })
    }

    /// Waits for what a call brings, but no longer than `limit`.
    async fn within<T>(
        &self,
        limit: Duration,
        call: &Call<'_>,
        work: impl Future<Output = Result<T, BrokerError>>,
    ) -> Result<T, BrokerError> {
        let late = |_| BrokerError::Unavailable(format!("{}: no answer within {limit:?}", call.shown()));
        tokio::time::timeout(limit, work).await.map_err(late)?
    }

    /// Sends a call whose object is there; a 404 says that the node is not ready, or that we ask in the wrong place.
    async fn present(&self, call: &Call<'_>) -> Result<Answer, BrokerError> {
        self.caller.send(call).await?.ok_or_else(|| {
            let vhost = one_line(&self.vhost);
            BrokerError::Unavailable(format!(
                "{}: 404 (the node is still starting, or it has no virtual host `{vhost}`, or the URL is not that of the \
                 management API)",
                call.shown()
            ))
        })
    }

    /// Sends a call whose object may be absent: `None` where it is. A node that is starting answers 404 to everything for
    /// some milliseconds, so that a 404 counts only from a node that was seen to be up before.
    async fn maybe_absent(&self, call: &Call<'_>) -> Result<Option<Vec<u8>>, BrokerError> {
        if let Some(answer) = self.caller.send(call).await? {
            return Ok(Some(answer.body));
        }
        self.up().await?;
        Ok(self.caller.send(call).await?.map(|answer| answer.body))
    }

    /// Whether the node is up, the account is good, and the virtual host runs.
    async fn up(&self) -> Result<(), BrokerError> {
        let call = Call::new(Method::GET, &["vhosts", &self.vhost]).query("columns=name,cluster_state");
        let answer = self.present(&call).await?;
        if self.readable(&call, answer::vhost_runs(&answer.body))? {
            return Ok(());
        }
        Err(BrokerError::Unavailable(self.caller.told(&call, "the virtual host runs on no node")))
    }

    fn readable<T>(&self, call: &Call<'_>, read: Result<T, Unreadable>) -> Result<T, BrokerError> {
        read.map_err(|what| BrokerError::Garbled(self.caller.told(call, &what)))
    }

    async fn put(&self, call: &Call<'_>) -> Result<Answer, BrokerError> {
        self.within(self.timeout, call, self.present(call)).await
    }

    async fn delete(&self, call: Call<'_>) -> Result<(), BrokerError> {
        self.within(self.timeout, &call, self.maybe_absent(&call)).await.map(drop)
    }

    async fn list<T>(
        &self,
        segments: &[&str],
        columns: &str,
        read: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, BrokerError> {
        let call = Call::new(Method::GET, segments).query(columns);
        let answer = self.within(self.listing_timeout, &call, self.present(&call)).await?;
        self.readable(&call, read(&answer.body))
    }

    /// The total of a queue by the list of those named like it. RabbitMQ before 3.12 doesn't tell it of one queue alone.
    async fn listed_total(&self, queue: &str) -> Result<Option<u64>, BrokerError> {
        let segments = ["queues", self.vhost.as_str()];
        let query = format!("{TOTALS}&use_regex=true&page=1&page_size=500&name={}", pattern(queue));
        let page = self.list(&segments, &query, answer::queue_page).await?;
        Ok(page.into_iter().find(|found| found.name == queue).and_then(|found| found.messages))
    }
}

/// A regular expression, escaped for a query, that fits `name` and few others: what is not plain stands for anything.
fn pattern(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let text: String = name.chars().map(|c| if plain(c) { c.to_string() } else { ".*".to_owned() }).collect();
    format!("%5E{text}%24")
}

/// `reason` as a header may hold it.
fn header_safe(reason: &str) -> HeaderValue {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = reason.chars().map(safe).take(LONGEST_REASON).collect();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[async_trait]
impl Broker for ManagementApi {
    async fn put_user(&self, user: &str, hash: &PasswordHash) -> Result<Put, BrokerError> {
        let body = json!({
            "password_hash": hash.as_str(),
            "hashing_algorithm": answer::HASHING_ALGORITHM,
            "tags": USER_TAG,
        });
        let call = Call::new(Method::PUT, &["users", user]).json(body).secret(hash.as_str());
        match self.put(&call).await {
            Ok(Answer { perhaps_new: false, .. }) => Ok(Put::Known),
            Ok(_) => Ok(Put::PerhapsNew),
            // Of two calls at once that make one user, RabbitMQ refuses the second. By now the user is there to be changed.
            Err(BrokerError::Refused(why)) if why.contains("user_already_exists") => {
                self.put(&call).await.map(|_| Put::PerhapsNew)
            }
            Err(error) => Err(error),
        }
    }

    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError> {
        let Permissions { configure, write, read } = permissions;
        let body = json!({ "configure": configure, "write": write, "read": read });
        self.put(&Call::new(Method::PUT, &["permissions", &self.vhost, user]).json(body)).await.map(drop)
    }

    async fn delete_user(&self, user: &str) -> Result<(), BrokerError> {
        self.delete(Call::new(Method::DELETE, &["users", user])).await
    }

    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError> {
        self.list(&["users"], "columns=name,tags,password_hash,hashing_algorithm", answer::users).await
    }

    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError> {
        let segments = ["vhosts", self.vhost.as_str(), "permissions"];
        self.list(&segments, "columns=user,configure,write,read", answer::permissions).await
    }

    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError> {
        self.list(&["queues", &self.vhost], TOTALS, answer::queues).await
    }

    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        let call = Call::new(Method::GET, &["queues", &self.vhost, queue]).query(TOTALS);
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        let mut found = self.readable(&call, answer::queue(&body))?;
        if found.messages.is_none() && found.kind != QueueKind::Stream {
            found.messages = self.listed_total(queue).await?;
        }
        Ok(Some(found))
    }

    async fn queue_owner(&self, queue: &str) -> Result<Option<BrokerConnection>, BrokerError> {
        let call = Call::new(Method::GET, &["queues", &self.vhost, queue]).query("columns=name,owner_pid_details");
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        let Some(owner) = self.readable(&call, answer::queue_owner(&body))? else { return Ok(None) };
        let call = Call::new(Method::GET, &["connections", &owner]).query("columns=name,user,connected_at");
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map(|body| self.readable(&call, answer::connection(&body))).transpose().map(Option::flatten)
    }

    async fn exchanges(&self) -> Result<Vec<String>, BrokerError> {
        let names =
            self.list(&["exchanges", &self.vhost], "disable_stats=true&columns=name", answer::exchanges).await?;
        if !names.iter().any(String::is_empty) {
            let what = "the default exchange is not listed: the node is not ready";
            return Err(BrokerError::Unavailable(format!("GET exchanges: {what}")));
        }
        Ok(names)
    }

    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError> {
        let segments = ["vhosts", self.vhost.as_str(), "connections"];
        let (connections, left_out) =
            self.list(&segments, "columns=name,user,connected_at", answer::connections).await?;
        if left_out > 0 {
            tracing::warn!(left_out, "RabbitMQ lists connections without a name or a user");
        }
        Ok(connections)
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), BrokerError> {
        self.delete(Call::new(Method::DELETE, &["queues", &self.vhost, queue])).await
    }

    async fn delete_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        self.delete(Call::new(Method::DELETE, &["exchanges", &self.vhost, exchange])).await
    }

    async fn close_connection(&self, connection: &str, reason: &str) -> Result<(), BrokerError> {
        self.delete(Call::new(Method::DELETE, &["connections", connection]).header(REASON, header_safe(reason))).await
    }

    async fn close_connections_of(&self, user: &str, reason: &str) -> Result<(), BrokerError> {
        let call = Call::new(Method::DELETE, &["connections", "username", user]);
        self.delete(call.header(REASON, header_safe(reason))).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        let call = Call::new(Method::GET, &["vhosts", &self.vhost]);
        self.within(self.timeout, &call, self.up()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_where_but_not_as_whom() {
        let api = ManagementApi::new(ManagementConfig {
            base_url: "http://h:1/x".parse().unwrap(),
            account: Account { username: "boss".into(), password: Password::from_stored("swordfish".into()) },
            fallback: None,
            vhost: "/".into(),
            timeout: DEFAULT_TIMEOUT,
            listing_timeout: DEFAULT_LISTING_TIMEOUT,
        });
        assert_eq!(format!("{:?}", api.unwrap()), r#"ManagementApi { api: "http://h:1/x/api/", vhost: "/", .. }"#);
    }

    #[test]
    fn a_reason_becomes_a_header_whatever_is_in_it() {
        assert_eq!(header_safe("too old\r\nX: é"), "too old??X: ?");
        assert_eq!(header_safe(&"x".repeat(1000)).len(), LONGEST_REASON);
    }

    #[test]
    fn a_pattern_has_no_character_that_means_something_else_in_a_query_or_expression() {
        assert_eq!(pattern("queue/a-b_C/d.e+&%ü"), "%5Equeue/a-b_C/d.*e.*.*.*.*%24");
    }
}
