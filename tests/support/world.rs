//! A store, a broker and a clock, on which services run: SQLite or PostgreSQL, the fake broker or the real RabbitMQ.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use taskcluster_pulse::access::people::People;
use taskcluster_pulse::broker::Broker;
use taskcluster_pulse::broker::management::ManagementApi;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::domain::account::{Account, AccountPolicy};
use taskcluster_pulse::domain::audit::{Audit, AuditFilter, By};
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::guard::{GuardPolicy, HistoryChange};
use taskcluster_pulse::domain::history::History;
use taskcluster_pulse::domain::hold::{Beat, HoldPolicy, Vitals};
use taskcluster_pulse::domain::identity::Tag;
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind, Right};
use taskcluster_pulse::domain::ladder::{self, Measure, Thresholds};
use taskcluster_pulse::domain::limits::LimitsPolicy;
use taskcluster_pulse::domain::name::{Name, Names};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::{Notice, Undelivered};
use taskcluster_pulse::domain::owner::Groups;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::recipients::{Mute, Recipients};
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::domain::session::{BarredPerson, Session};
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::notify::{Notifier, NotifyError};
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Claimed, ConnectionTemplate, Policy, Service, ServiceError, TaskPolicies};
use taskcluster_pulse::store::{
    self, Accepted, Audits, Change, DatabaseUrl, Deployment, Digest, Figures, Heartbeats, Keep, KeyRing, Leases,
    Making, Named, Namespaces, Notices, Outline, RecipientRecords, Records, SeenOf, Select, Sessions, Sighting,
    Sightings, Store, StoreError, StoreLimits, Summary, Sums, TaskRun, Wanted, Watches, Write,
};
use taskcluster_pulse::web::console::settings as console;
use tempfile::TempDir;
use url::Url;

use super::fake_broker::{FakeBroker, Queue};
use super::postgres::TestDatabase;
use super::rabbitmq::{RabbitMq, Vhost, eventually, log_in};

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
        World::made_of(database, side).await
    }

    /// The same on another RabbitMQ.
    pub async fn on(vhost: Vhost) -> World {
        World::made_of(Database::Sqlite(tempfile::tempdir().unwrap()), Side::Real(vhost)).await
    }

    async fn made_of(database: Database, side: Side) -> World {
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
            suffixes: Vec::new(),
        };
        let policy = Policy {
            criteria: guard_policy().criteria,
            audit_kept: Duration::from_secs(365 * 86_400),
            names: Names::new("taskcluster-", prefix),
            connection,
            rotation_interval: HOUR,
            expiration_delay: HOUR,
            settle_budget: Duration::from_secs(30),
            // The clock is moved by hand, and PostgreSQL's is not.
            hold: HoldPolicy { silence: 2 * MINUTE, longest: 24 * HOUR, skew: Duration::MAX },
            accounts: account_policy(),
            groups: Groups::default(),
            administrators: Vec::new(),
            namespaces_per_client: 1000,
            remembered: 100,
            first_claim_timeout: Duration::from_secs(20),
        };
        let url = database_url(&database);
        store::migrate(&url).await.unwrap();
        let limits = StoreLimits { timeout: Duration::from_secs(20), ..StoreLimits::default() };
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

    /// The file of a SQLite store.
    pub fn sqlite(&self) -> std::path::PathBuf {
        match &self.database {
            Database::Sqlite(folder) => folder.path().join("pulse.sqlite"),
            Database::Postgres(_) => panic!("this test needs SQLite"),
        }
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
        let store = store::open(&database_url(&self.database), Some(keys), StoreLimits::default()).await.unwrap();
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
        self.claim_by(None, name, None).await
    }

    /// Claims as this client, with this `expires`.
    pub async fn claim_by(
        &self,
        client: Option<&str>,
        name: &str,
        expires: Option<Timestamp>,
    ) -> Result<Claimed, ServiceError> {
        let client = client.map(str::to_owned);
        self.service()
            .claim(&ClaimRequest { by: By::client("somebody"), name: self.name(name), expires, contact: None, client })
            .await
    }

    /// Claims for somebody who is told of troubles, to expire after so long.
    pub async fn claim_for(&self, name: &str, contact: &str, lives: Duration) -> Claimed {
        let expires = Some(self.clock.now().plus(lives));
        let asked = ClaimRequest {
            by: By::client("somebody"),
            name: self.name(name),
            expires,
            contact: Some(contact.to_owned()),
            client: None,
        };
        self.service().claim(&asked).await.unwrap()
    }

    /// Makes a user as an operator does, with these tags and a password of its own.
    pub async fn make_user(&self, user: &str, tags: &str) {
        let password = Password::random();
        match &self.side {
            Side::Fake(fake) => {
                let tags = tags.split(',').map(str::to_owned).collect();
                let made = BrokerUser { name: user.to_owned(), tags, hash: password.hash() };
                fake.state().users.insert(user.to_owned(), made);
            }
            Side::Real(vhost) => vhost.rabbitmq.make_user(user, password.expose(), tags).await,
        }
    }

    /// The name of a virtual host that is not ours.
    pub fn other_vhost(&self) -> String {
        match &self.side {
            Side::Fake(_) => "elsewhere".to_owned(),
            Side::Real(_) => "/".to_owned(),
        }
    }

    /// Gives a user a right that none of ours has.
    pub async fn grant(&self, right: &Right) {
        match &self.side {
            Side::Fake(fake) => fake.state().elsewhere.push(right.clone()),
            Side::Real(vhost) => vhost.rabbitmq.grant(right).await,
        }
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
        // It answers 500 while other tests remove users.
        let users = eventually("a list of users", async || self.broker.users().await.ok()).await;
        let users = users.into_iter().map(|user| user.name);
        let mut ours: Vec<_> = users.filter(|user| self.policy.names.owner_of_user(user).is_some()).collect();
        ours.sort();
        ours
    }

    /// How sweeps decide in tests.
    pub fn sweep_policy(&self) -> SweepPolicy {
        SweepPolicy {
            names: self.policy.names.clone(),
            guard: guard_policy(),
            limits: LimitsPolicy::default(),
            accounts: self.policy.accounts.clone(),
            groups: self.policy.groups.clone(),
            connection_max_lifetime: Duration::from_secs(72 * 3600),
            margin: self.policy.settle_budget,
            brakes: Brakes { most: 500, percent: 25, owner_percent: 50 },
        }
    }

    /// How expiry runs decide in tests.
    pub fn expiry_policy(&self) -> ExpiryPolicy {
        ExpiryPolicy {
            names: self.policy.names.clone(),
            groups: self.policy.groups.clone(),
            delay: HOUR,
            warning: HOUR,
            orphans_after: None,
            margin: self.policy.settle_budget,
            reclaim: self.policy.rotation_interval * 3 / 2,
            brakes: Brakes { most: 500, percent: 25, owner_percent: 50 },
        }
    }
}

/// How accounts are named in tests, and for how long they live.
pub fn account_policy() -> AccountPolicy {
    let day = 24 * HOUR;
    let (names, reserved) = (vec!["*".to_owned()], vec!["admin*".to_owned()]);
    AccountPolicy { names, reserved, lifetime: 365 * day, retire_after: 30 * day }
}

/// How queues are guarded in tests: looked at every two minutes, with the usual grace time.
pub fn guard_policy() -> GuardPolicy {
    let thresholds = Thresholds { alert: ALERT, delete: DELETE, unacked_alert: ALERT, unacked_limit: DELETE };
    let ladder = ladder::Policy::new(Measure::Delete, 15 * MINUTE, 5 * MINUTE, 24 * HOUR, 2 * MINUTE);
    GuardPolicy::new(thresholds, ladder)
}

/// How tasks work that are looked at by hand in tests.
pub fn task_policies() -> TaskPolicies {
    let names = Names::new("taskcluster-", "");
    let brakes = Brakes { most: 500, percent: 25, owner_percent: 50 };
    let sweep = SweepPolicy {
        names: names.clone(),
        guard: guard_policy(),
        limits: LimitsPolicy::default(),
        accounts: account_policy(),
        groups: Groups::default(),
        connection_max_lifetime: 72 * HOUR,
        margin: MINUTE,
        brakes,
    };
    let expiry = ExpiryPolicy {
        names,
        groups: Groups::default(),
        delay: HOUR,
        warning: HOUR,
        orphans_after: None,
        margin: MINUTE,
        reclaim: HOUR,
        brakes,
    };
    TaskPolicies { sweep, expiry }
}

/// The console, to which nobody can sign in.
pub fn closed_console() -> console::Settings {
    console::Settings { people: People::default(), guard: guard_policy(), tasks: task_policies() }
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
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        if self.refusing.contains(&notice.to.as_str()) {
            return Err(NotifyError::Permanent("no such mailbox".into()));
        }
        if self.unreachable.lock().unwrap().contains(&notice.to.as_str()) {
            return Err(NotifyError::Temporary("not now".into()));
        }
        self.delivered.lock().unwrap().push(notice.clone());
        Ok(())
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
impl Watches for Timeless {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        self.0.watches().await
    }
    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        self.0.histories().await
    }
    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError> {
        self.0.seen_of(queues).await
    }
    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError> {
        self.0.write_histories(changes).await
    }
}

#[async_trait]
impl Namespaces for Timeless {
    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        self.0.outlines().await
    }
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        self.0.namespace(name).await
    }
    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError> {
        self.0.named(names).await
    }
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.0.summaries(after, limit).await
    }
    async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.0.unowned(after, limit).await
    }
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        self.0.summary(name).await
    }
    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        self.0.namespaces_where(wanted).await
    }
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.0.namespaces(select).await
    }
    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        self.0.accounts().await
    }
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.0.changed(known).await
    }
}

#[async_trait]
impl Audits for Timeless {
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError> {
        self.0.note(audits).await
    }
    async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, StoreError> {
        self.0.audits(filter, limit).await
    }
    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.0.forget_audits(before, most).await
    }
}

#[async_trait]
impl Records for Timeless {
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        self.0.write(changes).await
    }
    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        self.0.renew(renewals).await
    }
    async fn write_within(&self, makings: &[Making], most: usize) -> Result<Vec<Option<Write>>, StoreError> {
        self.0.write_within(makings, most).await
    }
}

#[async_trait]
impl Notices for Timeless {
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.0.take_notices(now, retry, limit).await
    }
    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        self.0.take_notices_to(address, now, retry, limit).await
    }
    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError> {
        self.0.postpone_notices(ids, retry).await
    }
    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError> {
        self.0.accept_notices(address, accepted, at).await
    }
    async fn give_up_notice(&self, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError> {
        self.0.give_up_notice(id, at, why, keep).await
    }
    async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        self.0.undelivered(limit).await
    }
}

#[async_trait]
impl RecipientRecords for Timeless {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        self.0.recipients().await
    }
    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError> {
        self.0.note_refusal(address, at, forget).await
    }
    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError> {
        self.0.mute(target, mute).await
    }
}

#[async_trait]
impl Sums for Timeless {
    async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        self.0.figures(now).await
    }
}

#[async_trait]
impl Leases for Timeless {
    async fn note_run(&self, run: &TaskRun) -> Result<(), StoreError> {
        self.0.note_run(run).await
    }
    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        self.0.runs().await
    }
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.0.lease(task, holder, now, until).await
    }
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.0.release(task, holder).await
    }
}

#[async_trait]
impl Heartbeats for Timeless {
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError> {
        self.0.beat(beat).await.map(|_| beat.now)
    }
    async fn vitals(&self, now: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError> {
        Ok(Vitals { now, ..self.0.vitals(now, boot).await? })
    }
}

#[async_trait]
impl Sightings for Timeless {
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        self.0.sight(seen).await
    }
    async fn forget_sightings(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.0.forget_sightings(before, most).await
    }
}

#[async_trait]
impl Sessions for Timeless {
    async fn begin_session(&self, id: &Digest, session: &Session, audit: &Audit) -> Result<(), StoreError> {
        self.0.begin_session(id, session, audit).await
    }
    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        self.0.session(id).await
    }
    async fn sessions_of(&self, subject: &str) -> Result<Vec<Session>, StoreError> {
        self.0.sessions_of(subject).await
    }
    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, StoreError> {
        self.0.sessions(limit).await
    }
    async fn bar_person(&self, person: &BarredPerson, audit: &Audit) -> Result<bool, StoreError> {
        self.0.bar_person(person, audit).await
    }
    async fn let_person_in(&self, subject: &str, audit: &Audit) -> Result<bool, StoreError> {
        self.0.let_person_in(subject, audit).await
    }
    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        self.0.barred_people().await
    }
    async fn see_session(&self, id: &Digest, at: Timestamp) -> Result<(), StoreError> {
        self.0.see_session(id, at).await
    }
    async fn end_session(&self, id: &Digest, audit: &Audit) -> Result<bool, StoreError> {
        self.0.end_session(id, audit).await
    }
    async fn end_sessions_of(&self, subject: &str, audit: &Audit) -> Result<usize, StoreError> {
        self.0.end_sessions_of(subject, audit).await
    }
}

#[async_trait]
impl Deployment for Timeless {
    async fn tag(&self) -> Result<Tag, StoreError> {
        self.0.tag().await
    }
    async fn foreign_users(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        self.0.foreign_users(limit).await
    }
    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError> {
        self.0.note_foreign_users(add, remove).await
    }
}

#[async_trait]
impl Store for Timeless {
    async fn ping(&self) -> Result<(), StoreError> {
        self.0.ping().await
    }
}
