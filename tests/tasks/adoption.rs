//! A PulseGuardian that goes: its accounts, owners and queues, taken over from a database of its own schema, at a real RabbitMQ.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use futures::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::Clock as _;
use taskcluster_pulse::domain::audit::By;
use taskcluster_pulse::domain::ladder::Exemption;
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::wanted_of;
use taskcluster_pulse::store::{PulseGuardian, StoreError, StoreLimits, read_pulseguardian};

use super::{MINUTE, expire, sweep};
use crate::support::postgres::TestDatabase;
use crate::support::rabbitmq::{Vhost, eventually};
use crate::support::world::{BrokerKind, Side, StoreKind, World};

/// The tables of PulseGuardian, as its models make them.
const SCHEMA: &str = "
    CREATE TABLE users (id INTEGER NOT NULL, email VARCHAR(255), admin BOOLEAN, PRIMARY KEY (id), UNIQUE (email));
    CREATE TABLE pulse_users (id INTEGER NOT NULL, username VARCHAR(255), PRIMARY KEY (id), UNIQUE (username));
    CREATE TABLE pulse_user_owners (users_id INTEGER, pulse_users_id INTEGER,
        FOREIGN KEY(users_id) REFERENCES users (id), FOREIGN KEY(pulse_users_id) REFERENCES pulse_users (id));
    CREATE TABLE queues (name VARCHAR(255) NOT NULL, owner_id INTEGER, size INTEGER, unbounded BOOLEAN, warned BOOLEAN,
        durable BOOLEAN NOT NULL, PRIMARY KEY (name), FOREIGN KEY(owner_id) REFERENCES pulse_users (id));
    CREATE TABLE bindings (id INTEGER NOT NULL, exchange VARCHAR(255), routing_key VARCHAR(255), queue_name VARCHAR(255),
        PRIMARY KEY (id), FOREIGN KEY(queue_name) REFERENCES queues (name));
    CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL);
    INSERT INTO alembic_version VALUES ('4ea622b0c81d');
";

const ACCOUNTS: usize = 200;
const QUEUES: usize = 2000;

/// What PulseGuardian has: its accounts with their passwords, and its database as statements.
struct Guarded {
    accounts: Vec<(String, Password)>,
    queues: Vec<String>,
    sql: String,
}

/// Each account is owned by one person, each tenth by another one too, and its tenth queue is unbounded. Names have what
/// PulseGuardian allows.
fn guarded(prefix: &str) -> Guarded {
    let mut sql = SCHEMA.to_owned();
    let mut insert = |table: &str, row: String| writeln!(sql, "INSERT INTO {table} VALUES ({row});").unwrap();
    for person in 0..50 {
        insert(
            "users",
            format!("{person}, 'person{person}@example.com', {}", if person == 0 { "TRUE" } else { "FALSE" }),
        );
    }
    let forms = ["plain", "with-dash", "with_line", "with.dot", "taskcluster-one"];
    let name = |number: usize| format!("{prefix}{}{number}", forms[number % forms.len()]);
    let accounts: Vec<_> = (0..ACCOUNTS).map(|number| (name(number), Password::random())).collect();
    let mut queues = Vec::new();
    for (number, (user, _)) in accounts.iter().enumerate() {
        insert("pulse_users", format!("{number}, '{user}'"));
        insert("pulse_user_owners", format!("{}, {number}", number % 50));
        if number % 10 == 0 {
            insert("pulse_user_owners", format!("{}, {number}", (number + 7) % 50));
        }
        for queue in 0..QUEUES / ACCOUNTS {
            let name = format!("queue/{user}/q{queue}");
            insert(
                "queues",
                format!("'{name}', {number}, 3, {}, FALSE, TRUE", if queue == 9 { "TRUE" } else { "FALSE" }),
            );
            queues.push(name);
        }
    }
    // One that RabbitMQ lost, one that somebody made an administrator, and a queue of nobody.
    insert("pulse_users", format!("9001, '{prefix}gone'"));
    insert("pulse_users", format!("9002, '{prefix}boss'"));
    insert("queues", "'stray', NULL, 0, TRUE, FALSE, TRUE".to_owned());
    Guarded { accounts, queues, sql }
}

/// Makes at RabbitMQ what PulseGuardian and its clients made there.
async fn populate(vhost: &Vhost, guarded: &Guarded) {
    let user = |name: &str, password: &Password, tags: &str| {
        json!({"name": name, "password_hash": password.hash().as_str(),
            "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": tags})
    };
    let may = |name: &str| {
        let escaped = name.replace('-', r"\-").replace('.', r"\.");
        let own = format!("^(queue/{escaped}/.*|exchange/{escaped}/.*)");
        json!({"user": name, "vhost": vhost.name, "configure": own, "write": own,
            "read": format!("^(queue/{escaped}/.*|exchange/.*)")})
    };
    let boss = format!("{}boss", vhost.prefix);
    let mut users: Vec<_> = guarded.accounts.iter().map(|(name, password)| user(name, password, "")).collect();
    users.push(user(&boss, &Password::random(), "administrator"));
    let mut permissions: Vec<_> = guarded.accounts.iter().map(|(name, _)| may(name)).collect();
    permissions.push(may(&boss));
    let queue = |name: &String| json!({"name": name, "vhost": vhost.name, "durable": true, "auto_delete": false, "arguments": {}});
    let queues: Vec<_> = guarded.queues.iter().map(queue).collect();
    let definitions = json!({"users": users, "permissions": permissions, "queues": queues});
    vhost.rabbitmq.admin(Method::POST, "definitions", Some(definitions)).await;
}

/// What RabbitMQ exports of the virtual host and of the users of this test.
async fn exported(vhost: &Vhost) -> Value {
    // 3.10 answers 500 while other tests remove users and virtual hosts.
    let export = async || vhost.rabbitmq.ask(Method::GET, "definitions", None).await.ok();
    let all = eventually("an export", export).await;
    let mut ours = json!({});
    for (kind, things) in all.as_object().unwrap() {
        let of_ours = |thing: &&Value| match kind.as_str() {
            "users" => thing["name"].as_str().is_some_and(|name| name.starts_with(&vhost.prefix)),
            "vhosts" => thing["name"] == json!(vhost.name),
            _ => thing["vhost"] == json!(vhost.name),
        };
        let Some(things) = things.as_array() else { continue };
        let mut found: Vec<_> = things.iter().filter(of_ours).cloned().collect();
        found.sort_by_key(Value::to_string);
        ours[kind] = json!(found);
    }
    ours
}

async fn is_adopted(world: World, guardian: PulseGuardian, guarded: Guarded) {
    let Side::Real(vhost) = &world.side else { panic!("this is about the real one") };
    let service = world.service();
    let (wanted, notes) = wanted_of(&guardian);
    assert_eq!(wanted.len(), ACCOUNTS + 2);
    assert!(notes.iter().any(|note| note.starts_with("stray is unbounded")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("administrators are person0@example.com")), "{notes:?}");
    let before = exported(vhost).await;
    assert_eq!(before["queues"].as_array().unwrap().len(), QUEUES);
    let by = By::client("admin");
    let plan = service.adopt(&wanted, true, &by).await.unwrap();
    assert_eq!((plan.plan.as_ref().map(Vec::len), plan.changed), (Some(ACCOUNTS), 0));
    assert!(world.store.accounts().await.unwrap().is_empty(), "a dry run writes nothing");
    let done = service.adopt(&wanted, false, &by).await.unwrap();
    assert_eq!((done.changed, done.failed), (ACCOUNTS, 0));
    let left: Vec<_> = done.reports.iter().map(|report| report.trim_start_matches(&vhost.prefix)).collect();
    assert_eq!(left, ["boss is left: it has the tags administrator", "gone is left: RabbitMQ has no such user"]);
    let adopted = world.store.namespaces(taskcluster_pulse::store::Select::All).await.unwrap();
    let again = service.adopt(&wanted, false, &by).await.unwrap();
    assert_eq!((again.changed, again.failed), (0, 0));
    assert_eq!(
        world.store.namespaces(taskcluster_pulse::store::Select::All).await.unwrap(),
        adopted,
        "nothing changed"
    );
    // The scheduled tasks know them, and leave them alone.
    for _ in 0..3 {
        world.clock.advance(2 * MINUTE);
        assert_eq!(sweep(&world).await.failed, 0);
        assert_eq!(expire(&world).await.changed, 0);
    }
    assert_eq!(exported(vhost).await, before, "nothing changed at RabbitMQ");
    let by_name: BTreeMap<_, _> = adopted.into_iter().map(|found| (found.name.as_str().to_owned(), found)).collect();
    for (number, (user, _)) in guarded.accounts.iter().enumerate() {
        let person = |number: usize| Owner::parse(&format!("person{}@example.com", number % 50)).unwrap();
        let mut owners = vec![person(number)];
        owners.extend((number % 10 == 0).then(|| person(number + 7)));
        owners.sort();
        let found = &by_name[user];
        assert_eq!(found.owners, owners, "{user}");
        let [exempted] = &found.exemptions[..] else { panic!("{user}: {:?}", found.exemptions) };
        assert_eq!(exempted.queue, format!("queue/{user}/q9"));
        assert_eq!(exempted.exemption, Exemption { up_to: None, until: None });
        assert!(found.created <= world.clock.now());
    }
    let logins = guarded.accounts.iter().map(|(user, password)| {
        let string = vhost.connection_string(user, password.expose());
        let world = &world;
        async move { (user, world.logs_in(&string).await) }
    });
    let refused: Vec<_> =
        stream::iter(logins).buffer_unordered(8).filter(|(_, good)| std::future::ready(!good)).collect().await;
    assert!(refused.is_empty(), "{refused:?}");
    // One after the other, this would disturb the lists of other tests for long.
    let users: Vec<_> = guarded.accounts.iter().map(|(user, _)| user).collect();
    vhost.rabbitmq.admin(Method::POST, "users/bulk-delete", Some(json!({"users": users}))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulseguardian_on_sqlite_is_adopted_and_nothing_changes_at_rabbitmq() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let Side::Real(vhost) = &world.side else { unreachable!() };
    let guarded = guarded(&vhost.prefix);
    populate(vhost, &guarded).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulseguardian.sqlite");
    let url = format!("sqlite:{}", path.display()).parse().unwrap();
    let missing = read_pulseguardian(&url, StoreLimits::default()).await.unwrap_err();
    assert!(matches!(missing, StoreError::Setup(_)) && !path.exists(), "{missing}");
    let database = rusqlite::Connection::open(&path).unwrap();
    let empty = read_pulseguardian(&url, StoreLimits::default()).await.unwrap_err().to_string();
    assert!(empty.contains("this is no PulseGuardian database"), "{empty}");
    database.execute_batch(&format!("BEGIN; {} COMMIT", guarded.sql)).unwrap();
    let before = std::fs::read(&path).unwrap();
    let guardian = read_pulseguardian(&url, StoreLimits::default()).await.unwrap();
    assert!(std::fs::read(&path).unwrap() == before, "it is only read");
    is_adopted(world, guardian, guarded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pulseguardian_on_postgresql_is_adopted_and_nothing_changes_at_rabbitmq() {
    let world = World::new(StoreKind::Postgres, BrokerKind::Real).await;
    let Side::Real(vhost) = &world.side else { unreachable!() };
    let guarded = guarded(&vhost.prefix);
    populate(vhost, &guarded).await;
    let database = TestDatabase::new().await;
    let url = database.url().parse().unwrap();
    let empty = read_pulseguardian(&url, StoreLimits::default()).await.unwrap_err().to_string();
    assert!(empty.contains("this is no PulseGuardian database"), "{empty}");
    database.client().await.batch_execute(&guarded.sql).await.unwrap();
    let guardian = read_pulseguardian(&url, StoreLimits::default()).await.unwrap();
    is_adopted(world, guardian, guarded).await;
}
