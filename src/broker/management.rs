//! [`ManagementApi`]: the broker by RabbitMQ's management API, 3.10 to 4.x.

mod inspecting;
mod limits;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

pub use super::account::{Account, BadManagement, ManagementConfig};
use super::answer::{self, Unreadable};
use super::call::{Begun, Call, Caller, Sent, Success, failure};
use super::items::Items;
use super::metrics::Metrics;
use super::{Broker, BrokerError, Deleted, Odd, Put, Rights};
use crate::domain::inventory::{
    Binding, BrokerConnection, BrokerExchange, BrokerPermissions, BrokerQueue, BrokerUser, ExchangeDetail, QueueDetail,
    QueueKind, Right,
};
use crate::domain::name::Permissions;
use crate::domain::release::Release;
use crate::secret::PasswordHash;
use crate::telemetry::metrics::Calls;
use crate::terminal::one_line;

/// How long a call may take that concerns one thing, unless configured.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a list may take, unless configured: one of 50,000 queues was seen to take 5 s.
pub const DEFAULT_LISTING_TIMEOUT: Duration = Duration::from_secs(60);

/// What a queue's total is read by: fresh from the queue itself, where the statistics lag by up to 10 s.
const TOTALS: &str = "disable_stats=true&enable_queue_totals=true&columns=name,messages,messages_unacknowledged,\
                      type,exclusive,arguments";

/// What is read of a user.
const USER_COLUMNS: &str = "columns=name,tags,password_hash,hashing_algorithm";

/// What is read of a connection.
const CONNECTION_COLUMNS: &str = "columns=name,user,connected_at,peer_host";
/// The same, with what programs call themselves.
const NAMED_CONNECTION_COLUMNS: &str = "columns=name,user,connected_at,peer_host,user_provided_name,client_properties.product,\
                                        client_properties.version";

/// The header whose text a client is shown when its connection is closed.
const REASON: HeaderName = HeaderName::from_static("x-reason");

/// The longest reason for closing a connection, in bytes. AMQP has room for 255, and RabbitMQ puts some words before it.
const LONGEST_REASON: usize = 200;

/// RabbitMQ's management API, for one virtual host.
///
/// It keeps connections alive and may be used from many tasks at once. It follows no redirection, and heeds no proxy of
/// the environment: either would send the account's password to somebody else.
pub struct ManagementApi {
    caller: Caller,
    vhost: String,
    timeout: Duration,
    listing_timeout: Duration,
    metrics: Option<Metrics>,
    /// Whether the last look by metrics failed.
    metrics_fail: AtomicBool,
}

impl fmt::Debug for ManagementApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagementApi")
            .field("api", &self.caller.addresses.shown())
            .field("vhost", &self.vhost)
            .finish_non_exhaustive()
    }
}

impl ManagementApi {
    /// Sets up a client; nothing is sent yet.
    ///
    /// # Errors
    /// What is wrong with `config`.
    pub fn new(config: ManagementConfig) -> Result<ManagementApi, BadManagement> {
        let caller = Caller::new(&config)?;
        let ManagementConfig { vhost, timeout, listing_timeout, metrics, .. } = config;
        let metrics = metrics.map(|url| Metrics::new(&url, &vhost, timeout)).transpose().map_err(BadManagement::Tls)?;
        let metrics_fail = AtomicBool::new(false);
        Ok(ManagementApi { caller, vhost, timeout, listing_timeout, metrics, metrics_fail })
    }

    /// What is counted of its calls.
    pub fn calls(&self) -> &Calls {
        &self.caller.calls
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
    async fn present(&self, call: &Call<'_>) -> Result<Success, BrokerError> {
        match self.caller.send(call).await? {
            Sent::Answered(answer) => Ok(answer),
            Sent::Cut(lost) => Err(lost),
            Sent::Absent => Err(self.not_ready(call)),
        }
    }

    /// What a 404 says of a call whose object is there.
    fn not_ready(&self, call: &Call<'_>) -> BrokerError {
        let vhost = one_line(&self.vhost);
        BrokerError::Unavailable(format!(
            "{}: 404 (the node is still starting, or it has no virtual host `{vhost}` in which the account has a \
             permission, or the URL is not that of the management API)",
            call.shown()
        ))
    }

    /// Looks at something that may be absent: `None` where it is. A node that is starting answers 404 to everything for
    /// some milliseconds, so that a 404 counts only from a node that was seen to be up before.
    async fn maybe_absent(&self, look: &Call<'_>) -> Result<Option<Vec<u8>>, BrokerError> {
        match self.caller.send(look).await? {
            Sent::Answered(answer) => return Ok(Some(answer.body)),
            Sent::Cut(lost) => return Err(lost),
            Sent::Absent => {}
        }
        let at = self.up().await?;
        match self.caller.send(&look.clone().at(at)).await? {
            Sent::Answered(answer) => Ok(Some(answer.body)),
            Sent::Cut(lost) => Err(lost),
            Sent::Absent => Ok(None),
        }
    }

    async fn scraped(
        &self,
        metrics: &Metrics,
        queues: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, QueueDetail>, BrokerError> {
        let nodes = self.list(&["nodes"], "columns=name", answer::names).await?.len();
        if nodes > 1 {
            let why = format!("a node's metrics are its own alone, and there are {nodes} nodes");
            return Err(BrokerError::Unavailable(why));
        }
        metrics.look(queues).await
    }

    fn readable<T>(&self, call: &Call<'_>, read: Result<T, Unreadable>) -> Result<T, BrokerError> {
        read.map_err(|what| BrokerError::Garbled(self.caller.told(call, &what)))
    }

    async fn put(&self, call: &Call<'_>) -> Result<Success, BrokerError> {
        self.within(self.timeout, call, self.present(call)).await
    }

    async fn delete(&self, call: Call<'_>) -> Result<Deleted, BrokerError> {
        self.within(self.timeout, &call, self.delete_once(&call, |_| Ok(false))).await
    }

    /// Sends a deletion, once. Neither a 404, which may be that of a node that is starting, nor a connection that was closed
    /// says whether it was carried out: then a look says whether there is something of that name, and `is_none` whether what
    /// the look shows is nothing after all. If there is, it may be another thing by now, and whoever asked decides anew.
    async fn delete_once(
        &self,
        call: &Call<'_>,
        is_none: impl Fn(&[u8]) -> Result<bool, Unreadable> + Send,
    ) -> Result<Deleted, BrokerError> {
        let why = match self.caller.send(call).await? {
            Sent::Answered(_) => return Ok(Deleted::Done),
            Sent::Absent => {
                let what = "404 at first, and then it was there: the node was starting, or it was made anew";
                BrokerError::Unavailable(self.caller.told(call, what))
            }
            Sent::Cut(lost) => lost,
        };
        let look = call.look();
        match self.maybe_absent(&look).await? {
            None => Ok(Deleted::Absent),
            Some(body) if self.readable(&look, is_none(&body))? => Ok(Deleted::Absent),
            Some(_) => Err(why),
        }
    }

    async fn list<T>(
        &self,
        segments: &[&str],
        columns: &str,
        read: impl Fn(&[u8]) -> Result<T, Unreadable>,
    ) -> Result<T, BrokerError> {
        let call = Call::new(Method::GET, segments).query(columns);
        let work = async { self.present(&call.clone().at(self.sound().await?)).await };
        let answer = self.within(self.listing_timeout, &call, work).await?;
        self.readable(&call, read(&answer.body))
    }

    /// Reads a long list, item by item as it comes.
    async fn each(
        &self,
        segments: &[&str],
        columns: &str,
        mut read: impl FnMut(&Value) -> Result<(), Unreadable> + Send,
    ) -> Result<(), BrokerError> {
        let limit = Call::new(Method::GET, segments);
        let at = self.within(self.listing_timeout, &limit, self.sound()).await?;
        let call = limit.query(columns).at(at);
        let garbled = |why: Unreadable| BrokerError::Garbled(self.caller.told(&call, &why));
        let mut item = |item: &[u8]| read(&answer::item(item)?);
        let work = async {
            let mut response = match self.caller.begin(&call).await? {
                Begun::Body(response, _) => response,
                Begun::Cut(lost) => return Err(lost),
                Begun::Absent | Begun::Done(_) => return Err(self.not_ready(&call)),
            };
            let mut items = Items::default();
            while let Some(piece) = response.chunk().await.map_err(|e| self.caller.lost(&call, &e, at))? {
                items.take(&piece, &mut item).map_err(garbled)?;
            }
            items.end().map_err(garbled)
        };
        let counted = async {
            let mut counted = self.caller.calls.begin(&call.kind());
            let read = work.await;
            counted.end(read.as_ref().map_or_else(failure, |()| "ok"));
            read
        };
        self.within(self.listing_timeout, &call, counted).await
    }

    /// All of a long list.
    async fn all<T: Send>(
        &self,
        segments: &[&str],
        columns: &str,
        read: impl Fn(&Value) -> Result<T, Unreadable> + Send + Sync,
    ) -> Result<Vec<T>, BrokerError> {
        let mut all = Vec::new();
        let read = |item: &Value| {
            all.push(read(item)?);
            Ok(())
        };
        self.each(segments, columns, read).await?;
        Ok(all)
    }

    /// The totals of a queue by the list of those named like it. RabbitMQ before 3.12 doesn't tell it of one queue alone.
    async fn listed_totals(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        let segments = ["queues", self.vhost.as_str()];
        let query = format!("{TOTALS}&use_regex=true&page=1&page_size=500&name={}", pattern(queue));
        let page = self.list(&segments, &query, answer::queue_page).await?;
        Ok(page.into_iter().find(|found| found.name == queue))
    }
}

/// A regular expression, escaped for a query, that fits `name` and few others: what is not plain stands for anything.
fn pattern(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let text: String = name.chars().map(|c| if plain(c) { c.to_string() } else { ".*".to_owned() }).collect();
    format!("%5E{text}%24")
}

/// The call, if it concerns what has this name. RabbitMQ drops line breaks from the names of what it is to delete, so that another
/// thing would go; by import alone there can be some with line breaks in their names.
fn sayable<'a>(name: &str, call: Call<'a>) -> Result<Call<'a>, BrokerError> {
    if name.contains(['\r', '\n']) {
        let why = "RabbitMQ drops line breaks from names, and another thing would go";
        return Err(BrokerError::Refused(format!("nothing yet: {} is not sent, because {why}", call.shown())));
    }
    Ok(call)
}

fn no_default_exchange() -> BrokerError {
    BrokerError::Unavailable("GET exchanges: the default exchange is not listed: the node is not ready".to_owned())
}

/// `reason` as a header may hold it.
fn header_safe(reason: &str) -> HeaderValue {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    let text: String = reason.chars().map(safe).take(LONGEST_REASON).collect();
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

#[async_trait]
impl Broker for ManagementApi {
    async fn user(&self, user: &str) -> Result<Option<BrokerUser>, BrokerError> {
        let call = Call::new(Method::GET, &["users", user]).query(USER_COLUMNS);
        match self.within(self.timeout, &call, self.caller.send(&call)).await? {
            Sent::Answered(answer) => self.readable(&call, answer::user(&answer.body)).map(Some),
            Sent::Absent => Ok(None),
            Sent::Cut(lost) => Err(lost),
        }
    }

    async fn put_user(&self, user: &str, hash: &PasswordHash, tag: &str) -> Result<Put, BrokerError> {
        let body = json!({
            "password_hash": hash.as_str(),
            "hashing_algorithm": answer::HASHING_ALGORITHM,
            "tags": tag,
        });
        let call = Call::new(Method::PUT, &["users", user]).json(body).secret(hash.as_str());
        match self.put(&call).await {
            Ok(Success { perhaps_new: false, .. }) => Ok(Put::Known),
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

    async fn delete_user(&self, user: &str) -> Result<Deleted, BrokerError> {
        self.delete(Call::new(Method::DELETE, &["users", user])).await
    }

    async fn delete_users(&self, users: &[String]) -> Result<(), BrokerError> {
        let call = Call::new(Method::POST, &["users", "bulk-delete"]).json(json!({ "users": users }));
        self.put(&call).await.map(drop)
    }

    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError> {
        let mut known = answer::KnownTags::default();
        let mut all = Vec::new();
        let read = |item: &Value| {
            all.push(answer::listed_user(item, &mut known)?);
            Ok(())
        };
        self.each(&["users"], USER_COLUMNS, read).await?;
        Ok(all)
    }

    async fn odd_permissions(&self, odd: Odd<'_>) -> Result<Vec<BrokerPermissions>, BrokerError> {
        let segments = ["vhosts", self.vhost.as_str(), "permissions"];
        let mut all = Vec::new();
        let read = |item: &Value| {
            all.extend(Some(answer::permission(item)?).filter(odd));
            Ok(())
        };
        self.each(&segments, "columns=user,configure,write,read", read).await?;
        Ok(all)
    }

    async fn rights(&self) -> Result<Rights, BrokerError> {
        let mut rights = Rights::default();
        let columns = "columns=user,vhost";
        let read = |item: &Value| {
            let right = answer::right(item, false)?;
            match right.vhost == self.vhost {
                true => rights.here.push(&right.user),
                false => rights.elsewhere.push(right),
            }
            Ok(())
        };
        self.each(&["permissions"], columns, read).await?;
        rights.elsewhere.extend(self.all(&["topic-permissions"], columns, |item| answer::right(item, true)).await?);
        Ok(rights)
    }

    async fn rights_elsewhere(&self, user: Option<&str>) -> Result<Vec<Right>, BrokerError> {
        let columns = "columns=user,vhost";
        let (permissions, topics) = match user {
            Some(user) => (["users", user, "permissions"].to_vec(), ["users", user, "topic-permissions"].to_vec()),
            None => (vec!["permissions"], vec!["topic-permissions"]),
        };
        let (mut rights, topics) = tokio::try_join!(
            self.list(&permissions, columns, |body| answer::rights(body, false)),
            self.list(&topics, columns, |body| answer::rights(body, true)),
        )?;
        rights.retain(|right| right.vhost != self.vhost);
        rights.extend(topics);
        Ok(rights)
    }

    async fn revoke(&self, Right { user, vhost, topic }: &Right) -> Result<(), BrokerError> {
        let kind = if *topic { "topic-permissions" } else { "permissions" };
        self.delete(Call::new(Method::DELETE, &[kind, vhost, user])).await.map(drop)
    }

    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError> {
        self.all(&["queues", &self.vhost], TOTALS, answer::listed_queue).await
    }

    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        let call = Call::new(Method::GET, &["queues", &self.vhost, queue]).query(TOTALS);
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        let mut found = self.readable(&call, answer::queue(&body))?;
        if found.messages.is_none() && found.kind != QueueKind::Stream {
            let listed = self.listed_totals(queue).await?;
            (found.messages, found.unacked) = listed.map_or((None, None), |listed| (listed.messages, listed.unacked));
        }
        Ok(Some(found))
    }

    async fn queue_detail(&self, queue: &str) -> Result<Option<QueueDetail>, BrokerError> {
        let columns = "columns=name,consumers,message_stats,consumer_details,durable,auto_delete,policy,operator_policy,\
                       arguments,type,exclusive,messages,messages_unacknowledged";
        let call = Call::new(Method::GET, &["queues", &self.vhost, queue]).query(columns);
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map(|body| self.readable(&call, answer::queue_detail(&body))).transpose()
    }

    async fn queue_details(&self, queues: &BTreeSet<String>) -> Option<BTreeMap<String, QueueDetail>> {
        let told = self.scraped(self.metrics.as_ref()?, queues).await;
        let failed = told.is_err();
        if failed != self.metrics_fail.swap(failed, Ordering::Relaxed) {
            match &told {
                Ok(_) => tracing::info!("RabbitMQ's metrics can be used again to look at queues"),
                Err(why) => tracing::warn!("queues are looked at one by one, because metrics can't be used: {why}"),
            }
        }
        told.ok()
    }

    async fn keeps_statistics(&self) -> Result<bool, BrokerError> {
        let call = Call::new(Method::GET, &["overview"]).query("columns=disable_stats");
        let answer = self.within(self.timeout, &call, self.present(&call)).await?;
        self.readable(&call, answer::keeps_statistics(&answer.body))
    }

    async fn lacks(&self) -> Result<Vec<String>, BrokerError> {
        let call = Call::new(Method::GET, &["whoami"]);
        let answer = self.within(self.timeout, &call, self.present(&call)).await?;
        let (name, tags) = self.readable(&call, answer::who(&answer.body))?;
        let name = one_line(&name).into_owned();
        if !tags.iter().any(|tag| tag == "administrator") {
            return Ok(vec![format!(
                "the management account {name} has not RabbitMQ's tag `administrator`: nobody can claim a new namespace, and \
                 no password changes"
            )]);
        }
        if self.caller.is_by_token() {
            return Ok(Vec::new());
        }
        let vhost = one_line(&self.vhost).into_owned();
        let own = self.odd_permissions(&|of| of.user == name).await?;
        Ok(match own.first().map(|of| &of.permissions) {
            None => vec![format!(
                "the management account {name} has no permissions on the virtual host {vhost}: no queue can be deleted, nor be \
                 looked into"
            )],
            Some(of) if [&of.configure, &of.write, &of.read].iter().all(|pattern| *pattern == ".*") => Vec::new(),
            Some(_) => vec![format!(
                "the management account {name} has not all permissions on the virtual host {vhost}: some queues can't be deleted"
            )],
        })
    }

    async fn release(&self) -> Result<Release, BrokerError> {
        let call = Call::new(Method::GET, &["overview"]).query("columns=rabbitmq_version");
        let answer = self.within(self.timeout, &call, self.present(&call)).await?;
        let release = Release { version: self.readable(&call, answer::version(&answer.body))?, ..Release::default() };
        if !release.tells_deprecated() {
            return Ok(release);
        }
        let call = Call::new(Method::GET, &["deprecated-features", "used"]);
        let used = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        let deprecated = used.map(|used| self.readable(&call, answer::names(&used))).transpose()?;
        Ok(Release { deprecated: deprecated.unwrap_or_default(), ..release })
    }

    async fn channel_unacked(&self, channel: &str) -> Result<Option<u64>, BrokerError> {
        let call = Call::new(Method::GET, &["channels", channel]).query("columns=name,messages_unacknowledged");
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        self.readable(&call, answer::channel_unacked(&body))
    }

    async fn alarm(&self) -> Result<bool, BrokerError> {
        let call = Call::new(Method::GET, &["health", "checks", "alarms"]);
        match self.within(self.timeout, &call, self.caller.send(&call)).await {
            Ok(Sent::Cut(lost)) => Err(lost),
            Ok(Sent::Answered(_) | Sent::Absent) => Ok(false),
            Err(BrokerError::Unavailable(why)) if why.contains("alarms in effect") => Ok(true),
            Err(error) => Err(error),
        }
    }

    async fn purge_queue(&self, queue: &str) -> Result<Deleted, BrokerError> {
        let call = sayable(queue, Call::new(Method::DELETE, &["queues", &self.vhost, queue, "contents"]))?;
        match self.within(self.timeout, &call, self.caller.send(&call)).await? {
            Sent::Answered(_) => Ok(Deleted::Done),
            Sent::Absent => Ok(Deleted::Absent),
            Sent::Cut(lost) => Err(lost),
        }
    }

    async fn queue_owner(&self, queue: &str) -> Result<Option<BrokerConnection>, BrokerError> {
        let call = Call::new(Method::GET, &["queues", &self.vhost, queue]).query("columns=name,owner_pid_details");
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        let Some(owner) = self.readable(&call, answer::queue_owner(&body))? else { return Ok(None) };
        let call = Call::new(Method::GET, &["connections", &owner]).query(CONNECTION_COLUMNS);
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map(|body| self.readable(&call, answer::connection(&body))).transpose().map(Option::flatten)
    }

    async fn exchanges(&self) -> Result<Vec<String>, BrokerError> {
        let names =
            self.all(&["exchanges", &self.vhost], "disable_stats=true&columns=name", answer::listed_name).await?;
        if names.iter().any(String::is_empty) { Ok(names) } else { Err(no_default_exchange()) }
    }

    async fn exchange_details(&self) -> Result<Vec<BrokerExchange>, BrokerError> {
        let columns = "disable_stats=true&columns=name,type,durable,auto_delete,internal";
        let all = self.list(&["exchanges", &self.vhost], columns, answer::exchange_details).await?;
        if all.iter().any(|exchange| exchange.name.is_empty()) { Ok(all) } else { Err(no_default_exchange()) }
    }

    async fn exchange_detail(&self, exchange: &str) -> Result<Option<ExchangeDetail>, BrokerError> {
        let call =
            Call::new(Method::GET, &["exchanges", &self.vhost, exchange]).query("columns=name,incoming,message_stats");
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        let (published, publishers) = self.readable(&call, answer::publishers(&body))?;
        let segments = ["exchanges", &self.vhost, exchange, "bindings", "source"];
        let call = Call::new(Method::GET, &segments).query("columns=destination,destination_type,routing_key");
        let Some(body) = self.within(self.timeout, &call, self.maybe_absent(&call)).await? else { return Ok(None) };
        Ok(Some(ExchangeDetail { published, publishers, bound: self.readable(&call, answer::bound(&body))? }))
    }

    async fn published_by(&self, connection: &str) -> Result<u64, BrokerError> {
        let segments = ["connections", connection, "channels"];
        let call = Call::new(Method::GET, &segments).query("columns=name,message_stats.publish");
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map_or(Ok(0), |body| self.readable(&call, answer::published_by(&body)))
    }

    async fn bindings(&self, queue: &str) -> Result<Option<Vec<Binding>>, BrokerError> {
        let segments = ["queues", &self.vhost, queue, "bindings"];
        let call = Call::new(Method::GET, &segments).query("columns=source,routing_key");
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map(|body| self.readable(&call, answer::bindings(&body))).transpose()
    }

    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError> {
        let segments = ["vhosts", self.vhost.as_str(), "connections"];
        let (mut connections, mut left_out) = (Vec::new(), 0);
        let read = |item: &Value| {
            match answer::listed_connection(item) {
                Some(connection) => connections.push(connection),
                None => left_out += 1,
            }
            Ok(())
        };
        self.each(&segments, CONNECTION_COLUMNS, read).await?;
        if left_out > 0 {
            tracing::warn!(left_out, "RabbitMQ lists connections without a name or a user");
        }
        Ok(connections)
    }

    async fn connections_of(&self, user: &str) -> Result<Vec<BrokerConnection>, BrokerError> {
        let call = Call::new(Method::GET, &["connections", "username", user]).query(CONNECTION_COLUMNS);
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map_or(Ok(Vec::new()), |body| self.readable(&call, answer::connections(&body)).map(|(found, _)| found))
    }

    async fn connection(&self, name: &str) -> Result<Option<BrokerConnection>, BrokerError> {
        let call = Call::new(Method::GET, &["connections", name]).query(NAMED_CONNECTION_COLUMNS);
        let found = self.within(self.timeout, &call, self.maybe_absent(&call)).await?;
        found.map(|body| self.readable(&call, answer::connection(&body))).transpose().map(Option::flatten)
    }

    async fn delete_queue(&self, queue: &str) -> Result<Deleted, BrokerError> {
        let call = Call::new(Method::DELETE, &["queues", &self.vhost, queue]);
        self.delete(sayable(queue, call)?).await
    }

    async fn delete_exchange(&self, exchange: &str) -> Result<Deleted, BrokerError> {
        let call = Call::new(Method::DELETE, &["exchanges", &self.vhost, exchange]);
        self.delete(sayable(exchange, call)?).await
    }

    async fn close_connection(&self, connection: &str, reason: &str) -> Result<Deleted, BrokerError> {
        self.delete(Call::new(Method::DELETE, &["connections", connection]).header(REASON, header_safe(reason))).await
    }

    async fn close_connections_of(&self, user: &str, reason: &str) -> Result<Deleted, BrokerError> {
        let call = Call::new(Method::DELETE, &["connections", "username", user]).header(REASON, header_safe(reason));
        let is_none = |body: &[u8]| answer::connections(body).map(|(known, others)| known.is_empty() && others == 0);
        self.within(self.timeout, &call, self.delete_once(&call, is_none)).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        let call = Call::new(Method::GET, &["vhosts", &self.vhost]);
        self.within(self.timeout, &call, self.up()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn debug_shows_where_but_not_as_whom() {
        let api = ManagementApi::new(ManagementConfig {
            base_urls: vec!["http://h:1/x".parse().unwrap()],
            trust: Default::default(),
            account: Account { username: "boss".into(), password: Password::from_stored("swordfish".into()) },
            fallback: None,
            tokens: None,
            metrics: None,
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
