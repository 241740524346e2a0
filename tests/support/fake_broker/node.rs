//! What the fake broker holds, and how it answers when nothing is made to fail.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind, Right};
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::{Password, PasswordHash};

/// The one virtual host.
pub const VHOST: &str = "fake/vhost %1";
/// The management account.
pub const USERNAME: &str = "management-account";
/// Its password.
pub const PASSWORD: &str = "management-password";

/// The algorithm of all hashes here.
const ALGORITHM: &str = "rabbit_password_hashing_sha256";

/// A queue.
#[derive(Debug, Clone)]
pub struct Queue {
    /// What it is made of.
    pub kind: QueueKind,
    /// How many messages are in it.
    pub messages: u64,
    /// The connection that it is exclusive to.
    pub owner: Option<String>,
}

impl Queue {
    /// A classic queue with this many messages.
    pub fn classic(messages: u64) -> Queue {
        Queue { kind: QueueKind::Classic, messages, owner: None }
    }
}

/// An open connection.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The user that logged in.
    pub user: String,
    /// When it was opened, in milliseconds since 1970.
    pub connected_at: i64,
    /// Whether the broker has statistics of it; until then only its user's name finds it, to be listed or closed.
    pub listed: bool,
}

/// What the broker holds; tests may look at it and change it.
#[derive(Debug, Default)]
pub struct State {
    /// Users by name; the management account is one of them.
    pub users: BTreeMap<String, BrokerUser>,
    /// Permissions in the virtual host by user.
    pub permissions: BTreeMap<String, Permissions>,
    /// Rights on other virtual hosts, and on topics.
    pub elsewhere: Vec<Right>,
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Exchanges by name.
    pub exchanges: BTreeSet<String>,
    /// What is bound to queues: the queue, the exchange, the routing key.
    pub bindings: Vec<(String, String, String)>,
    /// What was published to queues that are bound, and not read yet: as it is taken.
    pub published: BTreeMap<String, Vec<Value>>,
    /// The arguments of queues that were declared by this API.
    pub arguments: BTreeMap<String, Value>,
    /// Connections by name.
    pub connections: BTreeMap<String, Connection>,
    /// Connections that were closed through the API, with the reason given.
    pub closed: Vec<(String, String)>,
    /// Whether a single queue's fresh total is told only in lists, as before RabbitMQ 3.12.
    pub totals_in_lists_only: bool,
    /// What else is told of queues, by their names, where statistics are asked for; and of all, how much is unacknowledged.
    pub told: BTreeMap<String, Value>,
    /// How many messages channels hold, by their names.
    pub channels: BTreeMap<String, u64>,
    /// Who publishes to exchanges, by their names.
    pub publishers: BTreeMap<String, Value>,
    /// Whether no statistics are kept.
    pub no_statistics: bool,
    /// How many nodes there are beside the one that answers.
    pub other_nodes: usize,
    /// What the node sees of its cluster, in place of nodes that all run. It is itself the first of them.
    pub sees: Option<Value>,
    /// Whether a node is in memory or disk alarm.
    pub alarm: bool,
    /// How many connections users may have.
    pub user_limits: BTreeMap<String, u64>,
    /// How many channels they may have.
    pub channel_limits: BTreeMap<String, u64>,
    /// Operator policies by name, as they were put.
    pub operator_policies: BTreeMap<String, Value>,
    /// Global parameters by name.
    pub parameters: BTreeMap<String, Value>,
    /// Which release it says that it is.
    pub version: String,
    /// Which deprecated features are used.
    pub deprecated: Vec<String>,
    /// Names that are not UTF-8 at the broker: lists show them so, and every call for one of them is answered 404.
    pub unspeakable: BTreeSet<String>,
}

impl State {
    /// A node that starts for the first time, with the management account and the exchanges that are always there.
    pub(super) fn empty() -> State {
        let hash = Password::from_stored(PASSWORD.into()).hash();
        let account = BrokerUser { name: USERNAME.into(), tags: ["administrator".into()].into(), hash };
        let all = || ".*".to_owned();
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        let exchanges = ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];
        State {
            users: [(USERNAME.to_owned(), account)].into(),
            permissions: [(USERNAME.to_owned(), permissions)].into(),
            exchanges: exchanges.into_iter().map(String::from).collect(),
            version: "3.13.7".into(),
            ..State::default()
        }
    }

    /// Whether an AMQP client may open a connection to the virtual host.
    pub fn can_log_in(&self, user: &str, password: &str) -> bool {
        let password = Password::from_stored(password.to_owned());
        self.users.get(user).is_some_and(|found| found.hash.verifies(&password)) && self.permissions.contains_key(user)
    }

    /// Publishes a message, which each queue gets that is bound to the exchange, whatever the routing key.
    pub fn publish(&mut self, exchange: &str, key: &str, body: &str) {
        let bound = self.bindings.iter().filter(|(_, of, _)| of == exchange);
        for (queue, ..) in bound.filter(|(queue, ..)| self.queues.contains_key(queue)) {
            self.published.entry(queue.clone()).or_default().push(json!({
                "exchange": exchange, "routing_key": key, "payload_bytes": body.len(), "payload": body,
                "payload_encoding": "string", "properties": [], "redelivered": false,
            }));
        }
    }

    /// Removes a connection and the queues that are exclusive to it.
    pub fn disconnect(&mut self, connection: &str) {
        self.connections.remove(connection);
        self.queues.retain(|_, queue| queue.owner.as_deref() != Some(connection));
    }

    fn close(&mut self, connection: &str, reason: &str) {
        self.disconnect(connection);
        self.closed.push((connection.to_owned(), reason.to_owned()));
    }

    fn connections_of(&self, user: &str) -> Vec<String> {
        self.connections.iter().filter(|(_, of)| of.user == user).map(|(name, _)| name.clone()).collect()
    }

    fn delete_user(&mut self, user: &str) -> bool {
        self.connections_of(user).iter().for_each(|name| self.disconnect(name));
        self.permissions.remove(user);
        self.elsewhere.retain(|right| right.user != user);
        self.user_limits.remove(user);
        self.channel_limits.remove(user);
        self.users.remove(user).is_some()
    }
}

/// An answer. `None` for no body.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Option<String>,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Reply {
        Reply { status: 200, body: Some(body.to_string()) }
    }

    fn done(new: bool) -> Reply {
        Reply { status: if new { 201 } else { 204 }, body: None }
    }

    fn gone(was_there: bool) -> Reply {
        if was_there { Reply::done(false) } else { Reply::absent() }
    }

    pub(super) fn failed(status: u16, error: &str, reason: impl Into<Value>) -> Reply {
        let body = json!({ "error": error, "reason": reason.into() });
        Reply { status, body: Some(body.to_string()) }
    }

    fn bad(reason: impl Into<Value>) -> Reply {
        Reply::failed(400, "bad_request", reason)
    }

    pub(super) fn absent() -> Reply {
        Reply::failed(404, "Object Not Found", "Not Found")
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(StatusCode::from_u16(self.status).unwrap());
        if self.body.is_some() {
            response = response.header("content-type", "application/json");
        }
        if self.status == 401 {
            response = response.header("www-authenticate", "Basic realm=\"RabbitMQ Management\"");
        }
        response.body(Full::from(self.body.unwrap_or_default())).unwrap()
    }
}

/// A request, unescaped.
pub(super) struct Asked {
    pub(super) method: String,
    /// Those after `/api/`.
    segments: Vec<String>,
    query: BTreeMap<String, String>,
    basic: Option<String>,
    reason: String,
    body: Bytes,
}

impl Asked {
    pub(super) async fn read(request: Request<Incoming>) -> Result<Asked, hyper::Error> {
        let (head, body) = request.into_parts();
        let unescaped = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let header =
            |name: &str| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Ok(Asked {
            method: head.method.to_string(),
            segments: head
                .uri
                .path()
                .strip_prefix("/api/")
                .into_iter()
                .flat_map(|p| p.split('/').map(unescaped))
                .collect(),
            query: url::form_urlencoded::parse(head.uri.query().unwrap_or("").as_bytes()).into_owned().collect(),
            basic: header("authorization").and_then(|value| value.strip_prefix("Basic ").map(String::from)),
            reason: header("x-reason").unwrap_or_else(|| "Closed via management plugin".to_owned()),
            body: body.collect().await?.to_bytes(),
        })
    }

    pub(super) fn path(&self) -> String {
        format!("/api/{}", self.segments.join("/"))
    }

    pub(super) fn answer(&self, state: &mut State) -> Reply {
        if let Err(refused) = self.authenticate(state) {
            return refused;
        }
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        if segments.last().is_some_and(|name| state.unspeakable.contains(*name)) {
            return Reply::absent();
        }
        match (self.method.as_str(), &segments[..]) {
            ("GET", ["whoami"]) => Reply::ok(json!({ "name": USERNAME, "tags": ["administrator"] })),
            ("GET", ["overview"]) => {
                let (disabled, version) = (state.no_statistics, &state.version);
                let node = state.sees.as_ref().map_or(&json!("rabbit@fake0"), |sees| &sees[0]["name"]).clone();
                self.one(json!({ "disable_stats": disabled, "rabbitmq_version": version, "node": node }))
            }
            ("GET", ["deprecated-features", "used"]) if !state.version.starts_with('3') => {
                self.list(state.deprecated.iter().map(|name| json!({ "name": name })))
            }
            ("GET", ["nodes"]) => {
                if let Some(sees) = &state.sees {
                    return Reply::ok(sees.clone());
                }
                self.list((0..=state.other_nodes).map(|n| json!({ "name": format!("rabbit@fake{n}") })))
            }
            ("GET", ["vhosts"]) => self.list(["other", VHOST].into_iter().map(vhost_item)),
            ("GET", ["vhosts", VHOST]) => self.one(vhost_item(VHOST)),
            ("GET", ["vhosts", VHOST, "permissions"]) => self.list(state.permissions.iter().map(permissions_item)),
            ("GET", ["vhosts", VHOST, "connections"]) => {
                let listed = state.connections.iter().filter(|(_, of)| of.listed);
                self.list(listed.map(|(name, of)| connection_item(name, of)))
            }
            ("GET", ["users"]) => self.list(state.users.values().map(user_item)),
            ("GET", ["users", user]) => state.users.get(*user).map_or_else(Reply::absent, |of| self.one(user_item(of))),
            ("GET", ["users", user, kind @ ("permissions" | "topic-permissions")])
                if state.users.contains_key(*user) =>
            {
                self.list_rights(state, kind, |of| of == *user)
            }
            ("GET", [kind @ ("permissions" | "topic-permissions")]) => self.list_rights(state, kind, |_| true),
            ("DELETE", [kind @ ("permissions" | "topic-permissions"), vhost, user]) => {
                let before = state.elsewhere.len();
                let topic = *kind == "topic-permissions";
                let is_it = |right: &Right| right.user == *user && right.vhost == *vhost && right.topic == topic;
                state.elsewhere.retain(|right| !is_it(right));
                let here = !topic && *vhost == VHOST && state.permissions.remove(*user).is_some();
                Reply::gone(here || state.elsewhere.len() < before)
            }
            ("PUT", ["users", user]) => self.put_user(state, user),
            ("DELETE", ["users", user]) => Reply::gone(state.delete_user(user)),
            ("POST", ["users", "bulk-delete"]) => self.delete_users(state),
            ("PUT", ["permissions", vhost, user]) => self.put_permissions(state, vhost, user),
            ("GET", ["queues", VHOST]) => self.list_queues(state),
            ("GET", ["queues", VHOST, queue]) => self.get_queue(state, queue),
            ("PUT", ["queues", VHOST, queue]) => {
                let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                state.arguments.insert((*queue).to_owned(), body["arguments"].clone());
                Reply::done(state.queues.insert((*queue).to_owned(), Queue::classic(0)).is_none())
            }
            ("POST", ["bindings", VHOST, "e", exchange, "q", queue])
                if state.queues.contains_key(*queue) && state.exchanges.contains(*exchange) =>
            {
                let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                let key = body["routing_key"].as_str().unwrap_or_default().to_owned();
                state.bindings.push(((*queue).to_owned(), (*exchange).to_owned(), key));
                Reply::done(true)
            }
            ("POST", ["queues", VHOST, queue, "get"]) if state.queues.contains_key(*queue) => {
                let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
                let waiting = state.published.entry((*queue).to_owned()).or_default();
                let taken: Vec<_> =
                    waiting.drain(..waiting.len().min(body["count"].as_u64().unwrap_or(1) as usize)).collect();
                let (left, count) = (waiting.len(), taken.len());
                let told = taken.into_iter().enumerate().map(|(at, mut message)| {
                    message["message_count"] = json!(left + count - 1 - at);
                    message
                });
                Reply::ok(told.collect())
            }
            ("DELETE", ["queues", VHOST, queue]) => delete_queue(state, queue),
            ("GET", ["queues", VHOST, queue, "bindings"]) if state.queues.contains_key(*queue) => {
                let bound = state.bindings.iter().filter(|(of, ..)| of == queue);
                let bound = bound.map(|(_, exchange, key)| json!({ "source": exchange, "routing_key": key }));
                self.list([json!({ "source": "", "routing_key": queue })].into_iter().chain(bound))
            }
            ("DELETE", ["queues", VHOST, queue, "contents"]) => match state.queues.get_mut(*queue) {
                None => Reply::absent(),
                Some(Queue { owner: Some(_), .. }) => locked(queue),
                Some(queue) => {
                    queue.messages = 0;
                    Reply::done(false)
                }
            },
            ("GET", ["channels", name]) => match state.channels.get(*name) {
                Some(unacked) => self.one(json!({ "name": name, "messages_unacknowledged": unacked })),
                None => Reply::absent(),
            },
            ("GET", ["health", "checks", "alarms"]) => match state.alarm {
                false => Reply::ok(json!({ "status": "ok" })),
                true => Reply {
                    status: 503,
                    body: Some(
                        json!({"status":"failed","reason":"There are alarms in effect in the cluster"}).to_string(),
                    ),
                },
            },
            ("GET", ["user-limits"]) => self.list(user_limits(state).into_iter()),
            ("PUT", ["user-limits", user, kind]) => self.limit_user(state, user, kind),
            ("DELETE", ["user-limits", user, kind]) => {
                limits_of(state, kind).remove(*user);
                Reply::done(false)
            }
            ("GET", ["operator-policies", VHOST]) => self.list(state.operator_policies.values().cloned()),
            ("PUT", ["operator-policies", VHOST, name]) => self.put_operator_policy(state, name),
            ("DELETE", ["operator-policies", VHOST, name]) => {
                Reply::gone(state.operator_policies.remove(*name).is_some())
            }
            ("GET", ["global-parameters"]) => {
                let item = |(name, value): (&String, &Value)| json!({ "name": name, "value": value });
                self.list(state.parameters.iter().map(item))
            }
            ("PUT", ["global-parameters", name]) => match serde_json::from_slice::<Value>(&self.body) {
                Ok(body) => Reply::done(state.parameters.insert((*name).to_owned(), body["value"].clone()).is_none()),
                Err(_) => Reply::bad("not_json"),
            },
            ("DELETE", ["global-parameters", name]) => Reply::gone(state.parameters.remove(*name).is_some()),
            ("GET", ["exchanges", VHOST]) => self.list(state.exchanges.iter().map(exchange_item)),
            ("GET", ["exchanges", VHOST, exchange]) => match state.exchanges.get(*exchange) {
                Some(name) => {
                    let mut item = exchange_item(name);
                    item["incoming"] = state.publishers.get(name).cloned().unwrap_or(json!([]));
                    self.one(item)
                }
                None => Reply::absent(),
            },
            ("GET", ["exchanges", VHOST, exchange, "bindings", "source"]) if state.exchanges.contains(*exchange) => {
                let bound = state.bindings.iter().filter(|(_, of, _)| of == exchange);
                self.list(bound.map(
                    |(queue, _, key)| json!({ "destination": queue, "destination_type": "queue", "routing_key": key }),
                ))
            }
            ("DELETE", ["exchanges", VHOST, exchange]) => delete_exchange(state, exchange),
            ("GET", ["connections", name]) => match state.connections.get(*name).filter(|of| of.listed) {
                Some(of) => self.one(connection_item(name, of)),
                None => Reply::absent(),
            },
            ("GET", ["connections", name, "channels"]) if state.connections.contains_key(*name) => {
                let published = state.channels.get(*name).copied().unwrap_or(0);
                self.list(
                    [json!({ "name": format!("{name} (1)"), "message_stats": { "publish": published } })].into_iter(),
                )
            }
            ("GET", ["connections", "username", user]) => {
                let theirs = state.connections.iter().filter(|(_, of)| of.user == *user);
                self.list(theirs.map(|(name, of)| connection_item(name, of)))
            }
            ("DELETE", ["connections", "username", user]) => {
                for name in state.connections_of(user) {
                    state.close(&name, &self.reason);
                }
                Reply::done(false)
            }
            ("DELETE", ["connections", connection]) => {
                let open = state.connections.get(*connection).is_some_and(|of| of.listed);
                if open {
                    state.close(connection, &self.reason);
                }
                Reply::gone(open)
            }
            _ => Reply::absent(),
        }
    }

    fn authenticate(&self, state: &State) -> Result<(), Reply> {
        let Some(basic) = &self.basic else { return Err(Reply { status: 401, body: None }) };
        let decoded = String::from_utf8(STANDARD.decode(basic).unwrap_or_default()).unwrap_or_default();
        let (name, password) = decoded.split_once(':').unwrap_or_default();
        let known = state.users.get(name).filter(|user| user.hash.verifies(&Password::from_stored(password.into())));
        let Some(user) = known else { return Err(Reply::failed(401, "not_authorized", "Login failed")) };
        let is = |wanted: &str| user.tags.iter().any(|tag| tag == wanted);
        if is("administrator") {
            return Ok(());
        }
        if !is("monitoring") {
            return Err(Reply::failed(401, "not_authorised", "Not management user"));
        }
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        match (self.method.as_str(), &segments[..]) {
            ("GET", ["queues", ..]) if !state.permissions.contains_key(name) => {
                Err(Reply::failed(401, "not_authorised", "User not authorised to access virtual host"))
            }
            (
                "GET",
                ["whoami" | "vhosts" | "overview" | "nodes"]
                | ["queues" | "channels" | "health" | "connections" | "exchanges", ..],
            ) => Ok(()),
            _ => Err(Reply::failed(401, "not_authorised", "Not administrator user")),
        }
    }

    fn put_user(&self, state: &mut State, name: &str) -> Reply {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return Reply::bad("not_json") };
        let Some(tags) = body["tags"].as_str() else { return Reply::bad("tags_not_present") };
        let tags = tags.split(',').filter(|tag| !tag.is_empty()).map(String::from).collect();
        let hash = match (&body["password_hash"], &body["password"]) {
            (Value::String(hash), _) if STANDARD.decode(hash).is_err() => {
                return Reply::bad(json!(["not_base64", hash]));
            }
            // Another algorithm is taken, and then fits no password.
            (Value::String(_), _) if body["hashing_algorithm"] != ALGORITHM => {
                PasswordHash::from_broker("other".into())
            }
            (Value::String(hash), _) => PasswordHash::from_broker(hash.clone()),
            (_, Value::String(password)) => Password::from_stored(password.clone()).hash(),
            // Neither is no mistake: it takes the password away.
            _ => PasswordHash::blocked(),
        };
        let user = BrokerUser { name: name.to_owned(), tags, hash };
        Reply::done(state.users.insert(name.to_owned(), user).is_none())
    }

    /// Until RabbitMQ 4, a user that is not there ends it half-way.
    fn delete_users(&self, state: &mut State) -> Reply {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let Some(users) = body["users"].as_array() else { return Reply::bad("not_json") };
        for user in users.iter().filter_map(Value::as_str) {
            if !state.delete_user(user) && state.version.starts_with('3') {
                return Reply::bad(json!(["no_such_user", user]));
            }
        }
        Reply::done(false)
    }

    fn put_permissions(&self, state: &mut State, vhost: &str, user: &str) -> Reply {
        let Ok(body) = serde_json::from_slice::<Value>(&self.body) else { return Reply::bad("not_json") };
        let part =
            |key: &str| body[key].as_str().map(String::from).ok_or_else(|| Reply::bad(json!(["key_missing", key])));
        let (configure, write, read) = match (part("configure"), part("write"), part("read")) {
            (Ok(configure), Ok(write), Ok(read)) => (configure, write, read),
            (Err(bad), ..) | (_, Err(bad), _) | (.., Err(bad)) => return bad,
        };
        if vhost != VHOST || !state.users.contains_key(user) {
            return Reply::bad("vhost_or_user_not_found");
        }
        if let Some(bad) = [&configure, &write, &read].into_iter().find(|text| regex::Regex::new(text).is_err()) {
            return Reply::bad(json!(["invalid_regexp", bad.as_bytes()]));
        }
        Reply::done(state.permissions.insert(user.to_owned(), Permissions { configure, write, read }).is_none())
    }

    fn limit_user(&self, state: &mut State, user: &str, kind: &str) -> Reply {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match body["value"].as_u64() {
            None => Reply::bad("not_an_integer"),
            Some(_) if !state.users.contains_key(user) => Reply::bad("no_such_user"),
            Some(most) => {
                limits_of(state, kind).insert(user.to_owned(), most);
                Reply::done(false)
            }
        }
    }

    /// Only the keys that every version takes.
    fn put_operator_policy(&self, state: &mut State, name: &str) -> Reply {
        let Ok(mut body) = serde_json::from_slice::<Value>(&self.body) else { return Reply::bad("not_json") };
        let keys = ["expires", "message-ttl", "max-length", "max-length-bytes"];
        let known =
            |definition: &serde_json::Map<String, Value>| definition.keys().all(|key| keys.contains(&key.as_str()));
        if !body["definition"].as_object().is_some_and(known) {
            return Reply::bad("Validation failed\n\n[...] are not recognised policy settings\n");
        }
        (body["name"], body["vhost"]) = (json!(name), json!(VHOST));
        Reply::done(state.operator_policies.insert(name.to_owned(), body).is_none())
    }

    fn list_rights(&self, state: &State, kind: &str, wanted: impl Fn(&str) -> bool) -> Reply {
        let topic = kind == "topic-permissions";
        let here = state.permissions.iter().filter(|(user, _)| !topic && wanted(user)).map(permissions_item);
        let elsewhere = state.elsewhere.iter().filter(|right| right.topic == topic && wanted(&right.user));
        self.list(here.chain(elsewhere.map(|right| json!({ "user": right.user, "vhost": right.vhost }))))
    }

    fn list_queues(&self, state: &State) -> Reply {
        let Some(wanted) = self.query.get("name") else {
            return self.list(state.queues.iter().map(|(name, queue)| self.queue_item(state, name, queue)));
        };
        let Ok(wanted) = regex::Regex::new(&format!("(?i){wanted}")) else { return Reply::bad("invalid regex") };
        let found = state.queues.iter().filter(|(name, _)| wanted.is_match(name));
        let items: Vec<_> = found.map(|(name, queue)| self.columns(self.queue_item(state, name, queue))).collect();
        Reply::ok(json!({ "items": items, "page": 1, "total_count": state.queues.len() }))
    }

    fn get_queue(&self, state: &State, name: &str) -> Reply {
        let Some(queue) = state.queues.get(name) else { return Reply::absent() };
        let mut item = self.queue_item(state, name, queue);
        let Some(fields) = item.as_object_mut() else { return Reply::absent() };
        if state.totals_in_lists_only && self.query.contains_key("disable_stats") {
            fields.remove("messages");
        }
        if let Some(owner) = queue.owner.as_ref().filter(|_| !self.query.contains_key("disable_stats")) {
            fields.insert(
                "owner_pid_details".into(),
                json!({ "name": owner, "peer_host": "127.0.0.1", "peer_port": 40_000 }),
            );
        }
        self.one(item)
    }

    /// A stream's total is never among the fresh ones.
    fn queue_item(&self, state: &State, name: &str, queue: &Queue) -> Value {
        let (kind, exclusive) = match queue.kind {
            QueueKind::Classic => ("classic", json!(queue.owner.is_some())),
            QueueKind::Quorum => ("quorum", Value::Null),
            QueueKind::Stream => ("stream", Value::Null),
            QueueKind::Other => ("rabbit_mqtt_qos0_queue", json!(false)),
        };
        let mut item = json!({ "name": name, "vhost": VHOST, "type": kind, "exclusive": exclusive });
        let fresh = self.query.contains_key("enable_queue_totals") && queue.kind != QueueKind::Stream;
        if fresh || !self.query.contains_key("disable_stats") {
            item["messages"] = json!(queue.messages);
            item["messages_unacknowledged"] = json!(0);
        }
        for (key, value) in state.told.get(name).and_then(Value::as_object).into_iter().flatten() {
            if key == "messages_unacknowledged" || !self.query.contains_key("disable_stats") {
                item[key] = value.clone();
            }
        }
        item
    }

    fn list(&self, items: impl Iterator<Item = Value>) -> Reply {
        Reply::ok(items.map(|item| self.columns(item)).collect())
    }

    /// An object that has none of the columns asked for comes as an empty list.
    fn one(&self, item: Value) -> Reply {
        let item = self.columns(item);
        Reply::ok(if item == json!({}) { json!([]) } else { item })
    }

    fn columns(&self, mut item: Value) -> Value {
        if let (Some(columns), Some(fields)) = (self.query.get("columns"), item.as_object_mut()) {
            let first = |column: &str| column.split('.').next().unwrap_or_default().to_owned();
            fields.retain(|field, _| columns.split(',').any(|column| first(column) == *field));
        }
        item
    }
}

fn user_item(user: &BrokerUser) -> Value {
    json!({ "name": user.name, "tags": user.tags.to_vec(), "password_hash": user.hash.as_str(), "hashing_algorithm": ALGORITHM })
}

fn limits_of<'a>(state: &'a mut State, kind: &str) -> &'a mut BTreeMap<String, u64> {
    if kind == "max-channels" { &mut state.channel_limits } else { &mut state.user_limits }
}

fn user_limits(state: &State) -> Vec<Value> {
    let users: BTreeSet<_> = state.user_limits.keys().chain(state.channel_limits.keys()).collect();
    let item = |user: &String| {
        let mut value = serde_json::Map::new();
        for (kind, limits) in [("max-connections", &state.user_limits), ("max-channels", &state.channel_limits)] {
            value.extend(limits.get(user).map(|most| (kind.to_owned(), json!(most))));
        }
        json!({ "user": user, "value": value })
    };
    users.into_iter().map(item).collect()
}

fn vhost_item(name: &str) -> Value {
    json!({ "name": name, "cluster_state": { "rabbit@fake": "running" } })
}

fn permissions_item((user, may): (&String, &Permissions)) -> Value {
    json!({ "user": user, "vhost": VHOST, "configure": may.configure, "write": may.write, "read": may.read })
}

fn connection_item(name: &str, of: &Connection) -> Value {
    json!({ "name": name, "vhost": VHOST, "user": of.user, "connected_at": of.connected_at,
        "peer_host": name.split(':').next() })
}

fn not_allowed() -> Reply {
    Reply::failed(401, "not_authorised", "Access refused.")
}

fn locked(name: &str) -> Reply {
    Reply::bad(format!(
        "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'"
    ))
}

fn exchange_item(name: &String) -> Value {
    json!({ "name": name, "vhost": VHOST, "type": "topic", "durable": true, "auto_delete": false, "internal": false })
}

/// As RabbitMQ reads the name of what it is to delete.
fn without_line_breaks(name: &str) -> String {
    name.replace(['\r', '\n'], "")
}

fn delete_queue(state: &mut State, name: &str) -> Reply {
    let name = &without_line_breaks(name);
    match state.queues.get(name) {
        None => Reply::absent(),
        Some(_) if !state.permissions.contains_key(USERNAME) => not_allowed(),
        Some(Queue { owner: Some(_), .. }) => locked(name),
        Some(_) => Reply::gone(state.queues.remove(name).is_some()),
    }
}

fn delete_exchange(state: &mut State, name: &str) -> Reply {
    let name = &without_line_breaks(name);
    let reserved = name.is_empty() || name.starts_with("amq.");
    if reserved || (state.exchanges.contains(name) && !state.permissions.contains_key(USERNAME)) {
        return not_allowed();
    }
    Reply::gone(state.exchanges.remove(name))
}
