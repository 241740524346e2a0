//! A store, a broker and a clock, on which services run: SQLite or PostgreSQL, the fake broker or the real RabbitMQ.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use taskcluster_pulse::broker::Broker;
use taskcluster_pulse::broker::management::ManagementApi;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::domain::alert::Alert;
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::hold::{HoldPolicy, Vitals};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::name::{Name, Names};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::notify::{Delivered, Notifier, NotifyError};
use taskcluster_pulse::service::{Claimed, ConnectionTemplate, Policy, Service, ServiceError};
use taskcluster_pulse::store::{
    self, Change, DatabaseUrl, Digest, KeyRing, Limits, Select, Sighting, Store, StoreError, Summary, Write,
};
use tempfile::TempDir;
use url::Url;

use super::fake_broker::{FakeBroker, Queue};
use super::postgres::TestDatabase;
use super::rabbitmq::{RabbitMq, Vhost, log_in};

/// A clock that stands still until it is moved.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Moves it forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Which store.
#[derive(Clone, Copy)]
pub enum StoreKind {
    /// A file of the test's own.
    Sqlite,
    /// A database of the test's own.
    Postgres,
}

/// Which broker.
#[derive(Clone, Copy)]
pub enum BrokerKind {
    /// The one at the wire.
    Fake,
    /// RabbitMQ, in a virtual host of the test's own.
    Real,
}

/// The database, dropped with the world.
enum Database {
    Sqlite(TempDir),
    Postgres(TestDatabase),
}

/// The broker, as the test sees it.
pub enum Side {
    /// The one at the wire.
    Fake(FakeBroker),
    /// RabbitMQ.
    Real(Vhost),
}

/// Everything that services run on.
pub struct World {
    pub store: Arc<dyn Store>,
    pub broker: Arc<dyn Broker>,
    pub clock: Arc<ManualClock>,
    pub policy: Policy,
    pub side: Side,
    database: Database,
}

const MINUTE: Duration = Duration::from_secs(60);
/// How long a password is active in tests.
pub const HOUR: Duration = Duration::from_secs(3600);
/// Above how many messages a queue is warned of in tests.
pub const ALERT: u64 = 10;
/// Above how many messages a queue is deleted in tests.
pub const DELETE: u64 = 20;

const KEY: &str = r#"[{"id": "a", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]"#;

impl World {
    /// A new one, with nothing in it.
    pub async fn new(store: StoreKind, broker: BrokerKind) -> World {
        let database = match store {
            StoreKind::Sqlite => Database::Sqlite(tempfile::tempdir().unwrap()),
            StoreKind::Postgres => Database::Postgres(TestDatabase::new().await),
        };
        let side = match broker {
            BrokerKind::Fake => Side::Fake(FakeBroker::start().await),
            BrokerKind::Real => Side::Real(RabbitMq::from_env().vhost().await),
        };
        let (config, amqp, prefix) = match &side {
            Side::Fake(fake) => (fake.config(), "localhost:5672".to_owned(), String::new()),
            Side::Real(vhost) => (vhost.config(), vhost.rabbitmq.amqp.clone(), vhost.prefix.clone()),
        };
        let (hostname, port) = amqp.split_once(':').unwrap();
        let connection = ConnectionTemplate {
            protocol: "amqp://".into(),
            hostname: hostname.into(),
            port: port.parse().unwrap(),
            vhost: config.vhost.clone(),
            suffix: String::new(),
        };
        let policy = Policy {
            names: Names::new("taskcluster-", prefix),
            connection,
            rotation_interval: HOUR,
            expiration_delay: HOUR,
            settle_budget: Duration::from_secs(30),
            // The clock is moved by hand, and PostgreSQL's is not.
            hold: HoldPolicy { silence: 2 * MINUTE, longest: 24 * HOUR, skew: Duration::MAX },
            remembered: 100,
            first_claim_timeout: Duration::from_secs(20),
        };
        let url = database_url(&database);
        store::migrate(&url).await.unwrap();
        let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
        let store = store::open(&url, Some(KeyRing::parse(KEY).unwrap()), limits).await.unwrap();
        let broker = Arc::new(ManagementApi::new(config).unwrap());
        let clock = Arc::new(ManualClock(AtomicI64::new(SystemClock.now().millis())));
        World { store, broker, clock, policy, side, database }
    }

    /// One more process on it.
    pub fn service(&self) -> Service {
        let store: Arc<dyn Store> = match self.policy.hold.skew {
            Duration::MAX => Arc::new(Timeless(self.store.clone())),
            _ => self.store.clone(),
        };
        Service::new(store, self.broker.clone(), self.clock.clone(), self.policy.clone())
    }

    /// An empty database for the same broker.
    pub async fn with_empty_store(self) -> World {
        let World { broker, clock, policy, side, .. } = self;
        let fresh = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        World { store: fresh.store, broker, clock, policy, side, database: fresh.database }
    }

    /// The same with another key ring, in which the one key so far is not.
    pub async fn with_other_keys(self) -> World {
        let keys = KEY.replace(r#""id": "a""#, r#""id": "b""#);
        let keys = KeyRing::parse(&keys).unwrap();
        let store = store::open(&database_url(&self.database), Some(keys), Limits::default()).await.unwrap();
        World { store, ..self }
    }

    /// The fake broker; only for tests that are about it.
    pub fn fake(&self) -> &FakeBroker {
        match &self.side {
            Side::Fake(fake) => fake,
            Side::Real(_) => panic!("this test needs the fake broker"),
        }
    }

    /// The name of a namespace.
    pub fn name(&self, text: &str) -> Name {
        self.policy.names.namespace(text).unwrap()
    }

    /// Claims without saying anything more.
    pub async fn claim(&self, name: &str) -> Result<Claimed, ServiceError> {
        self.service().claim(&ClaimRequest { name: self.name(name), expires: None, contact: None }).await
    }

    /// Claims for somebody who is told of troubles, to expire after so long.
    pub async fn claim_for(&self, name: &str, contact: &str, lives: Duration) -> Claimed {
        let expires = Some(self.clock.now().plus(lives));
        let asked = ClaimRequest { name: self.name(name), expires, contact: Some(contact.to_owned()) };
        self.service().claim(&asked).await.unwrap()
    }

    /// Whether the broker lets a client in that connects with this.
    pub async fn logs_in(&self, connection_string: &str) -> bool {
        match &self.side {
            Side::Fake(fake) => {
                let url = Url::parse(connection_string).unwrap();
                fake.can_log_in(url.username(), url.password().unwrap())
            }
            Side::Real(_) => match log_in(connection_string).await {
                Ok(connection) => {
                    connection.close(200, "bye".into()).await.unwrap();
                    true
                }
                Err(_) => false,
            },
        }
    }

    /// Declares a queue of this type, and fills it with messages.
    pub async fn fill(&self, queue: &str, kind: QueueKind, messages: u64) {
        match &self.side {
            Side::Fake(fake) => {
                fake.state().queues.insert(queue.to_owned(), Queue { kind, messages, owner: None });
            }
            Side::Real(vhost) => {
                let kind = match kind {
                    QueueKind::Classic => "classic",
                    QueueKind::Quorum => "quorum",
                    QueueKind::Stream => "stream",
                    QueueKind::Other => panic!("there is no such queue"),
                };
                let rabbitmq = &vhost.rabbitmq;
                let connection =
                    log_in(&vhost.connection_string(&rabbitmq.username, &rabbitmq.password)).await.unwrap();
                let channel = connection.create_channel().await.unwrap();
                let mut arguments = FieldTable::default();
                arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.into(), options, arguments).await.unwrap();
                channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
                for _ in 0..messages {
                    let options = BasicPublishOptions::default();
                    let published =
                        channel.basic_publish("".into(), queue.into(), options, b"x", BasicProperties::default());
                    published.await.unwrap().await.unwrap();
                }
                connection.close(200, "bye".into()).await.unwrap();
            }
        }
    }

    /// Empties a queue.
    pub async fn purge(&self, queue: &str) {
        match &self.side {
            Side::Fake(fake) => fake.state().queues.get_mut(queue).unwrap().messages = 0,
            Side::Real(vhost) => {
                let rabbitmq = &vhost.rabbitmq;
                let connection =
                    log_in(&vhost.connection_string(&rabbitmq.username, &rabbitmq.password)).await.unwrap();
                let channel = connection.create_channel().await.unwrap();
                channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default()).await.unwrap();
                connection.close(200, "bye".into()).await.unwrap();
            }
        }
    }

    /// Declares an exchange.
    pub async fn declare_exchange(&self, exchange: &str) {
        match &self.side {
            Side::Fake(fake) => {
                fake.state().exchanges.insert(exchange.to_owned());
            }
            Side::Real(vhost) => vhost.declare_exchange(exchange).await,
        }
    }

    /// The names of all queues.
    pub async fn queues(&self) -> Vec<String> {
        let mut names: Vec<_> = self.broker.queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
        names.sort();
        names
    }

    /// The names of our users at the broker.
    pub async fn users(&self) -> Vec<String> {
        let users = self.broker.users().await.unwrap().into_iter().map(|user| user.name);
        let mut ours: Vec<_> = users.filter(|user| self.policy.names.owner_of_user(user).is_some()).collect();
        ours.sort();
        ours
    }

    /// How sweeps decide in tests.
    pub fn sweep_policy(&self) -> SweepPolicy {
        SweepPolicy {
            names: self.policy.names.clone(),
            alert_threshold: ALERT,
            delete_threshold: DELETE,
            connection_max_lifetime: Duration::from_secs(72 * 3600),
            reminder: Duration::from_secs(24 * 3600),
            margin: self.policy.settle_budget,
            brakes: Brakes { most: 500, percent: 25 },
        }
    }

    /// How expiry runs decide in tests.
    pub fn expiry_policy(&self) -> ExpiryPolicy {
        ExpiryPolicy {
            names: self.policy.names.clone(),
            delay: HOUR,
            warning: HOUR,
            orphans_after: None,
            margin: self.policy.settle_budget,
            brakes: Brakes { most: 500, percent: 25 },
        }
    }
}

fn database_url(database: &Database) -> DatabaseUrl {
    match database {
        Database::Sqlite(folder) => format!("sqlite:{}/pulse.sqlite", folder.path().display()),
        Database::Postgres(database) => database.url(),
    }
    .parse()
    .unwrap()
}

/// A notifier that keeps what it is given, and refuses some addresses.
#[derive(Default)]
pub struct Mailbox {
    /// What was delivered.
    pub delivered: Mutex<Vec<Notice>>,
    /// Addresses that refuse for good.
    pub refusing: Vec<&'static str>,
    /// Addresses that can't be reached for now.
    pub unreachable: Mutex<Vec<&'static str>>,
}

impl Mailbox {
    /// The subjects of what was delivered, in order.
    pub fn subjects(&self) -> Vec<String> {
        self.delivered.lock().unwrap().iter().map(|notice| notice.subject.clone()).collect()
    }
}

#[async_trait]
impl Notifier for Mailbox {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError> {
        if self.refusing.contains(&notice.to.as_str()) {
            return Err(NotifyError::Permanent("no such mailbox".into()));
        }
        if self.unreachable.lock().unwrap().contains(&notice.to.as_str()) {
            return Err(NotifyError::Temporary("not now".into()));
        }
        self.delivered.lock().unwrap().push(notice.clone());
        Ok(Delivered::Sent)
    }
}

/// Runs each story on both stores and both brokers.
#[macro_export]
macro_rules! on_every_world {
    ($($story:ident),* $(,)?) => {
        $crate::on_every_world!(@on sqlite_and_fake, Sqlite, Fake, $($story),*);
        $crate::on_every_world!(@on sqlite_and_rabbitmq, Sqlite, Real, $($story),*);
        $crate::on_every_world!(@on postgres_and_fake, Postgres, Fake, $($story),*);
        $crate::on_every_world!(@on postgres_and_rabbitmq, Postgres, Real, $($story),*);
    };
    (@on $module:ident, $store:ident, $broker:ident, $($story:ident),*) => {
        mod $module {
            use $crate::support::world::{BrokerKind, StoreKind, World};

            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $story() {
                super::$story(World::new(StoreKind::$store, BrokerKind::$broker).await).await;
            })*
        }
    };
}

/// A store without a clock of its own: PostgreSQL's is not moved by hand.
struct Timeless(Arc<dyn Store>);

#[async_trait]
impl Store for Timeless {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        self.0.namespace(name).await
    }
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.0.summaries(after, limit).await
    }
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        self.0.summary(name).await
    }
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.0.namespaces(select).await
    }
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.0.changed(known).await
    }
    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.0.alerts().await
    }
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        self.0.write(changes).await
    }
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.0.take_notices(now, retry, limit).await
    }
    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        self.0.postpone_notice(id, retry).await
    }
    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        self.0.remove_notice(id).await
    }
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.0.lease(task, holder, now, until).await
    }
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.0.release(task, holder).await
    }
    async fn beat(&self, now: Timestamp, gap: Duration) -> Result<Timestamp, StoreError> {
        self.0.beat(now, gap).await.map(|_| now)
    }
    async fn vitals(&self, now: Timestamp) -> Result<Vitals, StoreError> {
        Ok(Vitals { now, ..self.0.vitals(now).await? })
    }
    async fn sight(&self, request: &Digest, new: Sighting, forget: Timestamp) -> Result<Sighting, StoreError> {
        self.0.sight(request, new, forget).await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }
}
