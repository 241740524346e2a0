//! The real RabbitMQ: where it is, a virtual host for each test, and logins over AMQP.

use std::env;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use lapin::{Connection, ConnectionProperties};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use taskcluster_pulse::broker::Broker as _;
use taskcluster_pulse::broker::management::{Account, ManagementApi, ManagementConfig};
use taskcluster_pulse::domain::inventory::Right;
use taskcluster_pulse::secret::Password;

/// How long the broker may take for anything that a test waits for; its statistics come every 5 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running RabbitMQ, as the environment names it.
#[derive(Clone)]
pub struct RabbitMq {
    /// The base URL of its management API, or those of several nodes, separated by commas.
    pub api: String,
    /// The host and port for AMQP.
    pub amqp: String,
    /// The management account's name.
    pub username: String,
    /// The management account's password.
    pub password: String,
}

impl RabbitMq {
    /// The one that `PULSE_TEST_RABBITMQ_API`, `_AMQP`, `_USERNAME` and `_PASSWORD` name.
    ///
    /// # Panics
    /// Where one of them is missing: a test without its broker fails.
    pub fn from_env() -> RabbitMq {
        let read = |name: &str| {
            let name = format!("PULSE_TEST_RABBITMQ_{name}");
            env::var(&name).unwrap_or_else(|_| {
                panic!("{name} is not set: this test needs a real RabbitMQ. Run script/test, which starts one.")
            })
        };
        RabbitMq { api: read("API"), amqp: read("AMQP"), username: read("USERNAME"), password: read("PASSWORD") }
    }

    /// The base URLs of its nodes.
    pub fn apis(&self) -> impl Iterator<Item = &str> {
        self.api.split(',').map(|api| api.trim_end_matches('/'))
    }

    /// Asks the management API for `path`, which is escaped already.
    ///
    /// # Panics
    /// Where it can't be reached or its answer is not a success.
    pub async fn admin(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        self.ask(method.clone(), path, body).await.unwrap_or_else(|refused| panic!("{method} {path}: {refused}"))
    }

    /// The same, and what it says where it refuses.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        // As in the client: reqwest wants a provider of cryptography, even for plain HTTP.
        taskcluster_pulse::tls::install_crypto_provider();
        let client = Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        let url = format!("{}/api/{path}", self.apis().next().unwrap());
        let request = client.request(method.clone(), url).basic_auth(&self.username, Some(&self.password));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        if !status.is_success() {
            return Err(format!("{status} {text}"));
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Gives a user a right on another virtual host, or on topics.
    pub async fn grant(&self, Right { user, vhost, topic }: &Right) {
        let kind = if *topic { "topic-permissions" } else { "permissions" };
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*", "exchange": "amq.topic" });
        let path = format!("{kind}/{}/{}", escaped(vhost), escaped(user));
        self.admin(Method::PUT, &path, Some(all)).await;
    }

    /// What the management API tells of a user.
    pub async fn user(&self, user: &str) -> Value {
        self.admin(Method::GET, &format!("users/{}", escaped(user)), None).await
    }

    /// Makes a user as an operator does, with these tags.
    pub async fn make_user(&self, user: &str, password: &str, tags: &str) {
        let body = json!({ "password": password, "tags": tags });
        self.admin(Method::PUT, &format!("users/{}", escaped(user)), Some(body)).await;
    }

    /// Makes a virtual host that goes when the value is dropped, and with it all users whose name has its prefix.
    pub async fn vhost(&self) -> Vhost {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let vhost = Vhost { rabbitmq: self.clone(), name: format!("test/{id} %"), prefix: format!("t{id}-") };
        vhost.make().await;
        vhost
    }
}

/// A virtual host of one test.
pub struct Vhost {
    /// The broker that it is at.
    pub rabbitmq: RabbitMq,
    /// Its name.
    pub name: String,
    /// What the names of the test's users begin with.
    pub prefix: String,
}

impl Vhost {
    /// Makes it at the broker, with all permissions for the management account.
    pub async fn make(&self) {
        self.rabbitmq.admin(Method::PUT, &format!("vhosts/{}", escaped(&self.name)), None).await;
        let all = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("permissions/{}/{}", escaped(&self.name), escaped(&self.rabbitmq.username));
        self.rabbitmq.admin(Method::PUT, &path, Some(all)).await;
    }

    /// How a client is to be configured.
    pub fn config(&self) -> ManagementConfig {
        ManagementConfig {
            base_urls: self.rabbitmq.apis().map(|api| api.parse().unwrap()).collect(),
            trust: Default::default(),
            account: Account {
                username: self.rabbitmq.username.clone(),
                password: Password::from_stored(self.rabbitmq.password.clone()),
            },
            fallback: None,
            tokens: None,
            metrics: None,
            vhost: self.name.clone(),
            // A node that many tests use at once may be slow without being in trouble.
            timeout: PATIENCE,
            listing_timeout: PATIENCE,
        }
    }

    /// The connection string of a user.
    pub fn connection_string(&self, user: &str, password: &str) -> String {
        format!("amqp://{}:{}@{}/{}", escaped(user), escaped(password), self.rabbitmq.amqp, escaped(&self.name))
    }

    /// Declares a durable queue of this type: `classic`, `quorum` or `stream`.
    pub async fn declare_queue(&self, queue: &str, kind: &str) {
        let body = json!({ "durable": true, "arguments": { "x-queue-type": kind } });
        self.rabbitmq.admin(Method::PUT, &self.path("queues", queue), Some(body)).await;
    }

    /// The names of all queues.
    pub async fn queues(&self) -> Vec<String> {
        let queues = ManagementApi::new(self.config()).unwrap().queues().await.unwrap();
        queues.into_iter().map(|queue| queue.name).collect()
    }

    /// Declares a topic exchange.
    pub async fn declare_exchange(&self, exchange: &str) {
        self.rabbitmq.admin(Method::PUT, &self.path("exchanges", exchange), Some(json!({ "type": "topic" }))).await;
    }

    /// Binds a queue to an exchange.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let [vhost, exchange, queue] = [&self.name, exchange, queue].map(escaped);
        let path = format!("bindings/{vhost}/e/{exchange}/q/{queue}");
        self.rabbitmq.admin(Method::POST, &path, Some(json!({ "routing_key": key }))).await;
    }

    /// Puts a message into the queue.
    pub async fn publish(&self, queue: &str) {
        let body = json!({ "properties": {}, "routing_key": queue, "payload": "x", "payload_encoding": "string" });
        let path = format!("{}/publish", self.path("exchanges", "amq.default"));
        assert_eq!(self.rabbitmq.admin(Method::POST, &path, Some(body)).await, json!({ "routed": true }));
    }

    /// Publishes a message to an exchange, whether or not a queue gets it.
    pub async fn publish_to(&self, exchange: &str, key: &str, body: &str) {
        let body = json!({ "properties": {}, "routing_key": key, "payload": body, "payload_encoding": "string" });
        let path = format!("{}/publish", self.path("exchanges", exchange));
        assert!(self.rabbitmq.admin(Method::POST, &path, Some(body)).await["routed"].is_boolean());
    }

    fn path(&self, kind: &str, name: &str) -> String {
        format!("{kind}/{}/{}", escaped(&self.name), escaped(name))
    }

    async fn remove(&self) {
        let users = self.rabbitmq.admin(Method::GET, "users?columns=name", None).await;
        let names = users.as_array().into_iter().flatten().filter_map(|user| user["name"].as_str());
        let paths = names.filter(|name| name.starts_with(&self.prefix)).map(|name| format!("users/{}", escaped(name)));
        let deletions = paths.map(async |path| self.rabbitmq.admin(Method::DELETE, &path, None).await);
        // More at once than these are more than a busy node accepts.
        stream::iter(deletions).buffer_unordered(8).for_each(async |_| ()).await;
        self.rabbitmq.admin(Method::DELETE, &format!("vhosts/{}", escaped(&self.name)), None).await;
    }
}

impl Drop for Vhost {
    /// Cleans up in a thread with a runtime of its own, since the test's may be ending. A failure is shown by itself and
    /// not made one of the test.
    fn drop(&mut self) {
        std::thread::scope(|scope| {
            let cleaning = scope.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(self.remove()));
            let _ = cleaning.join();
        });
    }
}

pub fn escaped(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

/// Logs in over AMQP, as a client would that was handed this connection string.
pub async fn log_in(connection_string: &str) -> lapin::Result<Connection> {
    let attempt = Connection::connect(connection_string, ConnectionProperties::default());
    tokio::time::timeout(PATIENCE, attempt).await.expect("the broker should answer a login")
}

/// Asks again until `probe` gives something, and gives that.
///
/// # Panics
/// Where it takes too long.
pub async fn eventually<T>(what: &str, probe: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("{what} did not come about"))
}
