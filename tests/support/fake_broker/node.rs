//! What the fake broker holds, and how it answers when nothing is made to fail.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use serde_json::{Value, json};
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind};
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
    /// Queues by name.
    pub queues: BTreeMap<String, Queue>,
    /// Exchanges by name.
    pub exchanges: BTreeSet<String>,
    /// Connections by name.
    pub connections: BTreeMap<String, Connection>,
    /// Connections that were closed through the API, with the reason given.
    pub closed: Vec<(String, String)>,
    /// Whether a single queue's fresh total is told only in lists, as before RabbitMQ 3.12.
    pub totals_in_lists_only: bool,
}

impl State {
    /// A node that starts for the first time, with the management account and the exchanges that are always there.
    pub(super) fn empty() -> State {
        let hash = Password::from_stored(PASSWORD.into()).hash();
        let account = BrokerUser { name: USERNAME.into(), tags: vec!["administrator".into()], hash };
        let all = || ".*".to_owned();
        let permissions = Permissions { configure: all(), write: all(), read: all() };
        let exchanges = ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.rabbitmq.trace", "amq.topic"];
        State {
            users: [(USERNAME.to_owned(), account)].into(),
            permissions: [(USERNAME.to_owned(), permissions)].into(),
            exchanges: exchanges.into_iter().map(String::from).collect(),
            ..State::default()
        }
    }

    /// Whether an AMQP client may open a connection to the virtual host.
    pub fn can_log_in(&self, user: &str, password: &str) -> bool {
        let password = Password::from_stored(password.to_owned());
        self.users.get(user).is_some_and(|found| found.hash.verifies(&password)) && self.permissions.contains_key(user)
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
        match (self.method.as_str(), &segments[..]) {
            ("GET", ["whoami"]) => Reply::ok(json!({ "name": USERNAME, "tags": ["administrator"] })),
            ("GET", ["vhosts", VHOST]) => {
                self.one(json!({ "name": VHOST, "cluster_state": { "rabbit@fake": "running" } }))
            }
            ("GET", ["vhosts", VHOST, "permissions"]) => self.list(state.permissions.iter().map(permissions_item)),
            ("GET", ["vhosts", VHOST, "connections"]) => {
                let listed = state.connections.iter().filter(|(_, of)| of.listed);
                self.list(listed.map(|(name, of)| connection_item(name, of)))
            }
            ("GET", ["users"]) => self.list(state.users.values().map(user_item)),
            ("PUT", ["users", user]) => self.put_user(state, user),
            ("DELETE", ["users", user]) => Reply::gone(state.delete_user(user)),
            ("PUT", ["permissions", vhost, user]) => self.put_permissions(state, vhost, user),
            ("GET", ["queues", VHOST]) => self.list_queues(state),
            ("GET", ["queues", VHOST, queue]) => self.get_queue(state, queue),
            ("DELETE", ["queues", VHOST, queue]) => delete_queue(state, queue),
            ("GET", ["exchanges", VHOST]) => self.list(state.exchanges.iter().map(|name| json!({ "name": name }))),
            ("DELETE", ["exchanges", VHOST, exchange]) => delete_exchange(state, exchange),
            ("GET", ["connections", name]) => match state.connections.get(*name).filter(|of| of.listed) {
                Some(of) => self.one(connection_item(name, of)),
                None => Reply::absent(),
            },
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
        if user.tags.iter().any(|tag| tag == "administrator") {
            return Ok(());
        }
        Err(Reply::failed(401, "not_authorised", "Not management user"))
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

    fn list_queues(&self, state: &State) -> Reply {
        let Some(wanted) = self.query.get("name") else {
            return self.list(state.queues.iter().map(|(name, queue)| self.queue_item(name, queue)));
        };
        let Ok(wanted) = regex::Regex::new(&format!("(?i){wanted}")) else { return Reply::bad("invalid regex") };
        let found = state.queues.iter().filter(|(name, _)| wanted.is_match(name));
        let items: Vec<_> = found.map(|(name, queue)| self.columns(self.queue_item(name, queue))).collect();
        Reply::ok(json!({ "items": items, "page": 1, "total_count": state.queues.len() }))
    }

    fn get_queue(&self, state: &State, name: &str) -> Reply {
        let Some(queue) = state.queues.get(name) else { return Reply::absent() };
        let mut item = self.queue_item(name, queue);
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
    fn queue_item(&self, name: &str, queue: &Queue) -> Value {
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
            fields.retain(|field, _| columns.split(',').any(|column| column == field));
        }
        item
    }
}

fn user_item(user: &BrokerUser) -> Value {
    json!({ "name": user.name, "tags": user.tags, "password_hash": user.hash.as_str(), "hashing_algorithm": ALGORITHM })
}

fn permissions_item((user, may): (&String, &Permissions)) -> Value {
    json!({ "user": user, "vhost": VHOST, "configure": may.configure, "write": may.write, "read": may.read })
}

fn connection_item(name: &str, of: &Connection) -> Value {
    json!({ "name": name, "vhost": VHOST, "user": of.user, "connected_at": of.connected_at })
}

fn not_allowed() -> Reply {
    Reply::failed(401, "not_authorised", "Access refused.")
}

fn delete_queue(state: &mut State, name: &str) -> Reply {
    match state.queues.get(name) {
        None => Reply::absent(),
        Some(_) if !state.permissions.contains_key(USERNAME) => not_allowed(),
        Some(Queue { owner: Some(_), .. }) => Reply::bad(format!(
            "405 RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '{VHOST}'"
        )),
        Some(_) => Reply::gone(state.queues.remove(name).is_some()),
    }
}

fn delete_exchange(state: &mut State, name: &str) -> Reply {
    let reserved = name.is_empty() || name.starts_with("amq.");
    if reserved || (state.exchanges.contains(name) && !state.permissions.contains_key(USERNAME)) {
        return not_allowed();
    }
    Reply::gone(state.exchanges.remove(name))
}
