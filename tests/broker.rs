//! What every broker must do, on the fake one and on a real RabbitMQ; and what the client does when the broker fails, on
//! the fake one.

use std::time::{Duration, Instant};

use futures::StreamExt;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use reqwest::Method;
use serde_json::json;
use taskcluster_pulse::broker::management::{Account, ManagementApi, ManagementConfig};
use taskcluster_pulse::broker::{Broker, BrokerError, Deleted, Inspecting, Put};
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::domain::inspection::{Content, Published, Room};
use taskcluster_pulse::domain::inventory::{Binding, BrokerQueue, BrokerUser, QueueKind, Right};
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::{Password, PasswordHash};

use crate::support::fake_broker::{Failure, FakeBroker, Fault, PASSWORD, Queue, USERNAME};
use crate::support::rabbitmq::{RabbitMq, Vhost, eventually, log_in};

/// What users are tagged with.
const TAG: &str = "taskcluster-pulse-0123456789abcdef";

/// A broker under test, and the client's other side of it.
enum Bench {
    Fake(FakeBroker),
    Real(Vhost),
}

/// An open connection of an AMQP client.
enum Session {
    Fake(String),
    Real(Box<lapin::Connection>),
}

impl Bench {
    fn config(&self) -> ManagementConfig {
        match self {
            Bench::Fake(fake) => fake.config(),
            Bench::Real(vhost) => vhost.config(),
        }
    }

    fn api(&self) -> ManagementApi {
        ManagementApi::new(self.config()).unwrap()
    }

    /// A name for a user that no other test uses.
    fn user(&self, name: &str) -> String {
        match self {
            Bench::Fake(_) => name.to_owned(),
            Bench::Real(vhost) => format!("{}{name}", vhost.prefix),
        }
    }

    async fn log_in(&self, user: &str, password: &Password) -> Option<Session> {
        match self {
            Bench::Fake(fake) => fake.connect(user, password.expose(), SystemClock.now().millis()).map(Session::Fake),
            Bench::Real(vhost) => match log_in(&vhost.connection_string(user, password.expose())).await {
                Ok(connection) => Some(Session::Real(Box::new(connection))),
                Err(error) => {
                    let refused = ["ACCESS_REFUSED", "NOT_ALLOWED"].iter().any(|code| error.to_string().contains(code));
                    assert!(refused, "{error}");
                    None
                }
            },
        }
    }

    /// A user that may do everything, logged in.
    async fn session(&self, api: &ManagementApi, name: &str) -> (String, Session) {
        let (user, password) = (self.user(name), Password::random());
        api.put_user(&user, &password.hash(), TAG).await.unwrap();
        api.put_permissions(&user, &may(".*")).await.unwrap();
        let session = self.log_in(&user, &password).await.unwrap();
        (user, session)
    }

    /// A management account of this name.
    async fn administrator(&self, name: &str) -> Account {
        let account = Account { username: self.user(name), password: Password::random() };
        self.set_password(&account, &account.password).await;
        self.api().put_permissions(&account.username, &may(".*")).await.unwrap();
        account
    }

    /// Gives a management account this password, as its owner does.
    async fn set_password(&self, account: &Account, password: &Password) {
        self.set_account(account, password, "administrator").await;
    }

    async fn set_account(&self, account: &Account, password: &Password, tag: &str) {
        match self {
            Bench::Fake(fake) => {
                let (name, tags) = (account.username.clone(), vec![tag.to_owned()]);
                fake.state().users.insert(name.clone(), BrokerUser { name, tags: tags.into(), hash: password.hash() });
            }
            Bench::Real(vhost) => {
                let body = json!({"password": password.expose(), "tags": tag});
                vhost.rabbitmq.admin(Method::PUT, &format!("users/{}", account.username), Some(body)).await;
            }
        }
    }

    /// Gives a user a right that no user of ours has.
    async fn grant(&self, right: &Right) {
        match self {
            Bench::Fake(fake) => fake.state().elsewhere.push(right.clone()),
            Bench::Real(vhost) => vhost.rabbitmq.grant(right).await,
        }
    }

    /// The names of a user's connections, those too that are not in the list of all yet.
    async fn connections_of(&self, user: &str) -> Vec<String> {
        match self {
            Bench::Fake(fake) => {
                let state = fake.state();
                let theirs = state.connections.iter().filter(|(_, connection)| connection.user == user);
                theirs.map(|(name, _)| name.clone()).collect()
            }
            Bench::Real(vhost) => {
                let path = format!("connections/username/{user}");
                let found = vhost.rabbitmq.admin(Method::GET, &path, None).await;
                found.as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
            }
        }
    }

    async fn declare(&self, queue: &str, kind: QueueKind, messages: u64) {
        match self {
            Bench::Fake(fake) => {
                fake.state().queues.insert(queue.to_owned(), Queue { kind, messages, owner: None });
            }
            Bench::Real(vhost) => {
                vhost.declare_queue(queue, &format!("{kind:?}").to_lowercase()).await;
                for _ in 0..messages {
                    vhost.publish(queue).await;
                }
            }
        }
    }

    async fn declare_exclusive(&self, queue: &str, session: &Session) {
        match (self, session) {
            (Bench::Fake(fake), Session::Fake(owner)) => {
                let exclusive = Queue { owner: Some(owner.clone()), ..Queue::classic(0) };
                fake.state().queues.insert(queue.to_owned(), exclusive);
            }
            (Bench::Real(_), Session::Real(connection)) => {
                let exclusive = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
                let channel = connection.create_channel().await.unwrap();
                channel.queue_declare(queue.into(), exclusive, FieldTable::default()).await.unwrap();
            }
            _ => unreachable!("a session belongs to its bench"),
        }
    }

    async fn publish(&self, exchange: &str, key: &str, body: &str) {
        match self {
            Bench::Fake(fake) => fake.state().publish(exchange, key, body),
            Bench::Real(vhost) => vhost.publish_to(exchange, key, body).await,
        }
    }

    async fn declare_exchange(&self, exchange: &str) {
        match self {
            Bench::Fake(fake) => {
                fake.state().exchanges.insert(exchange.to_owned());
            }
            Bench::Real(vhost) => vhost.declare_exchange(exchange).await,
        }
    }

    /// What the client is told when its connection is closed.
    async fn reason_shown(&self, session: Session) -> String {
        match (self, session) {
            (Bench::Fake(fake), Session::Fake(name)) => {
                let closed =
                    async || fake.state().closed.iter().find(|(of, _)| *of == name).map(|(_, why)| why.clone());
                eventually("the close", closed).await
            }
            (Bench::Real(_), Session::Real(connection)) => {
                let mut events = connection.events_listener();
                let error = async {
                    loop {
                        if let Some(lapin::Event::Error(error)) = events.next().await {
                            return error.to_string();
                        }
                    }
                };
                tokio::time::timeout(Duration::from_secs(10), error).await.unwrap()
            }
            _ => unreachable!("a session belongs to its bench"),
        }
    }
}

fn may(everything: &str) -> Permissions {
    let all = || everything.to_owned();
    Permissions { configure: all(), write: all(), read: all() }
}

/// Runs each function on both brokers, as a test of its own.
macro_rules! contract {
    ($($name:ident)+) => {
        mod fake {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                super::$name(&Bench::Fake(FakeBroker::start().await)).await;
            })+
        }
        mod real {
            use super::*;
            $(#[tokio::test]
            async fn $name() {
                super::$name(&Bench::Real(RabbitMq::from_env().vhost().await)).await;
            })+
        }
    };
}

contract! {
    a_user_that_is_put_logs_in_with_its_newest_password_alone
    putting_a_user_tells_whether_it_was_there
    users_made_by_many_calls_at_once_are_all_there
    users_are_deleted_by_one_call_with_their_connections
    a_blocked_user_does_not_log_in
    a_user_is_listed_with_its_tag_and_hash
    one_user_is_told_as_it_is_listed_and_none_is_not
    the_release_is_told
    rights_elsewhere_and_on_topics_are_told_and_revoked
    permissions_are_listed_as_they_were_set
    permissions_of_an_unknown_user_are_refused
    a_bad_expression_is_refused_with_the_brokers_reason
    deleting_what_is_absent_succeeds
    odd_names_stand_for_themselves
    names_that_a_url_cannot_hold_are_refused
    a_queue_is_told_with_its_kind_and_fresh_total
    quorum_queues_and_streams_are_told_as_such_and_deleted
    an_exclusive_queue_goes_with_the_connection_that_owns_it
    an_exchange_is_listed_and_deleted
    connections_are_listed_and_closed_with_a_reason
    what_is_published_is_taken_from_a_bounded_queue_that_goes_by_itself
    a_users_connections_are_closed_as_soon_as_they_are_open
    deleting_a_user_closes_its_connections
    a_wrong_management_password_is_denied_and_not_repeated
    with_two_management_accounts_either_password_can_be_changed_without_an_outage
    a_missing_virtual_host_is_named
    a_right_that_is_missing_is_named
    an_account_that_may_only_monitor_looks_at_queues_and_at_nothing_else
}

async fn an_account_that_may_only_monitor_looks_at_queues_and_at_nothing_else(bench: &Bench) {
    bench.declare("queue/x", QueueKind::Classic, 3).await;
    let account = Account { username: bench.user("watcher"), password: Password::random() };
    bench.set_account(&account, &account.password, "monitoring").await;
    let watcher = ManagementApi::new(ManagementConfig { account: account.clone(), ..bench.config() }).unwrap();
    // Without any permission, RabbitMQ shows nothing of the virtual host; 4.3 says that there is none.
    let refused = watcher.queues().await.unwrap_err().to_string();
    assert!(refused.contains("permission"), "{refused}");
    bench.api().put_permissions(&account.username, &may("^$")).await.unwrap();
    watcher.ping().await.unwrap();
    let found = watcher.queues().await.unwrap();
    assert_eq!((found.len(), found[0].messages), (1, Some(3)));
    assert!(watcher.queue_detail("queue/x").await.unwrap().is_some());
    assert_eq!(watcher.queue_detail("queue/y").await.unwrap(), None);
    assert!(!watcher.alarm().await.unwrap());
    assert_eq!(watcher.channel_unacked("none").await.unwrap(), None);
    let refused = watcher.users().await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Denied(why) if why.contains("administrator")), "{refused}");
    assert!(watcher.put_user(&bench.user("u"), &Password::random().hash(), TAG).await.is_err());
    let elsewhere = ManagementConfig { account, vhost: "none".into(), ..bench.config() };
    let elsewhere = ManagementApi::new(elsewhere).unwrap().ping().await.unwrap_err().to_string();
    assert!(elsewhere.contains("none"), "{elsewhere}");
}

async fn a_user_that_is_put_logs_in_with_its_newest_password_alone(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u"));
    let (first, second) = (Password::random(), Password::random());
    api.put_user(&user, &first.hash(), TAG).await.unwrap();
    assert!(bench.log_in(&user, &first).await.is_none(), "without permissions");
    api.put_permissions(&user, &may("^$")).await.unwrap();
    assert!(bench.log_in(&user, &first).await.is_some());
    api.put_user(&user, &second.hash(), TAG).await.unwrap();
    assert!(bench.log_in(&user, &second).await.is_some());
    assert!(bench.log_in(&user, &first).await.is_none());
    api.delete_user(&user).await.unwrap();
    assert!(bench.log_in(&user, &second).await.is_none());
}

async fn users_are_deleted_by_one_call_with_their_connections(bench: &Bench) {
    let (api, password) = (bench.api(), Password::random());
    let users = ["u", "v", "w"].map(|name| bench.user(name));
    for user in &users {
        api.put_user(user, &password.hash(), TAG).await.unwrap();
        api.put_permissions(user, &may("^$")).await.unwrap();
    }
    assert!(bench.log_in(&users[0], &password).await.is_some());
    api.delete_users(&users[..2]).await.unwrap();
    for (user, there) in users.iter().zip([false, false, true]) {
        assert_eq!(api.user(user).await.unwrap().is_some(), there);
        assert_eq!(bench.log_in(user, &password).await.is_some(), there);
    }
    // RabbitMQ 3 refuses it for the one that is not there, and 4 deletes the other.
    let again = api.delete_users(&users[1..]).await;
    assert!(matches!(&again, Ok(()) | Err(BrokerError::Refused(_))), "{again:?}");
    assert_eq!(api.user(&users[2]).await.unwrap().is_none(), again.is_ok());
    api.delete_user(&users[2]).await.unwrap();
}

async fn a_blocked_user_does_not_log_in(bench: &Bench) {
    let (api, user, password) = (bench.api(), bench.user("u"), Password::random());
    api.put_user(&user, &password.hash(), TAG).await.unwrap();
    api.put_permissions(&user, &may("^$")).await.unwrap();
    api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap();
    for password in [password, Password::from_stored(String::new())] {
        assert!(bench.log_in(&user, &password).await.is_none());
    }
    let listed = api.users().await.unwrap().into_iter().find(|listed| listed.name == user).unwrap();
    assert!(listed.hash.is_blocked());
}

async fn a_user_is_listed_with_its_tag_and_hash(bench: &Bench) {
    let (api, user, password) = (bench.api(), bench.user("u"), Password::random());
    api.put_user(&user, &password.hash(), TAG).await.unwrap();
    let hash = password.hash();
    api.put_user(&user, &hash, TAG).await.unwrap();
    let users = api.users().await.unwrap();
    let listed = users.iter().find(|listed| listed.name == user).unwrap();
    assert_eq!(*listed.tags, [TAG]);
    assert!(listed.hash == hash && listed.hash.verifies(&password));
    let administrators = users.iter().filter(|user| user.tags.contains(&"administrator".to_owned())).count();
    assert!(administrators >= 1);
}

async fn one_user_is_told_as_it_is_listed_and_none_is_not(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u /%"));
    assert_eq!(api.user(&user).await.unwrap(), None);
    api.put_user(&user, &Password::random().hash(), &format!("{TAG},monitoring")).await.unwrap();
    let listed = api.users().await.unwrap().into_iter().find(|listed| listed.name == user);
    assert_eq!(*listed.as_ref().unwrap().tags, [TAG, "monitoring"]);
    assert_eq!(api.user(&user).await.unwrap(), listed);
    api.delete_user(&user).await.unwrap();
    assert_eq!(api.user(&user).await.unwrap(), None);
}

async fn rights_elsewhere_and_on_topics_are_told_and_revoked(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u"));
    api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap();
    api.put_permissions(&user, &may("")).await.unwrap();
    assert_eq!(api.rights_elsewhere(Some(&user)).await.unwrap(), [], "what it may do here is none");
    let vhost = bench.config().vhost;
    let other = match bench {
        Bench::Fake(_) => None,
        Bench::Real(vhost) => Some(vhost.rabbitmq.vhost().await),
    };
    let elsewhere = other.as_ref().map_or("elsewhere", |other| other.name.as_str());
    let right = |vhost: &str, topic| Right { user: user.clone(), vhost: vhost.to_owned(), topic };
    let mut rights = [right(elsewhere, false), right(elsewhere, true), right(&vhost, true)];
    rights.sort();
    for right in &rights {
        bench.grant(right).await;
    }
    let mut found = api.rights_elsewhere(Some(&user)).await.unwrap();
    found.sort();
    assert_eq!(found, rights);
    let mut found = api.rights_elsewhere(None).await.unwrap();
    found.retain(|right| right.user == user);
    found.sort();
    assert_eq!(found, rights);
    for right in &rights {
        api.revoke(right).await.unwrap();
        api.revoke(right).await.unwrap();
    }
    assert_eq!(api.rights_elsewhere(Some(&user)).await.unwrap(), []);
    assert!(api.permissions().await.unwrap().iter().any(|granted| granted.user == user), "what it may do here stays");
}

async fn the_release_is_told(bench: &Bench) {
    let release = bench.api().release().await.unwrap();
    assert!(release.version.split('.').count() >= 3, "{release:?}");
}

async fn permissions_are_listed_as_they_were_set(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u"));
    api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap();
    api.put_permissions(&user, &may(".*")).await.unwrap();
    let given = Permissions {
        configure: "^(queue/a/.*|exchange/a/.*)".into(),
        write: String::new(),
        read: r#"^"ü\." %$"#.into(),
    };
    api.put_permissions(&user, &given).await.unwrap();
    let listed = api.permissions().await.unwrap().into_iter().find(|listed| listed.user == user).unwrap();
    assert_eq!(listed.permissions, given);
    api.delete_user(&user).await.unwrap();
    assert!(api.permissions().await.unwrap().iter().all(|listed| listed.user != user));
}

async fn permissions_of_an_unknown_user_are_refused(bench: &Bench) {
    let user = bench.user("nobody");
    let error = bench.api().put_permissions(&user, &may("")).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Refused(told) if told.contains("not_found")), "{error}");
    assert!(error.to_string().contains(&user), "{error}");
}

async fn a_bad_expression_is_refused_with_the_brokers_reason(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u"));
    api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap();
    let error = api.put_permissions(&user, &may("[")).await.unwrap_err();
    assert!(matches!(&error, BrokerError::Refused(told) if told.contains("400 bad_request: [")), "{error}");
}

async fn deleting_what_is_absent_succeeds(bench: &Bench) {
    let api = bench.api();
    for _ in 0..2 {
        for deleted in [
            api.delete_user(&bench.user("nobody")).await,
            api.delete_queue("nothing").await,
            api.delete_exchange("nothing").await,
            api.close_connection("127.0.0.1:1 -> 127.0.0.1:2", "why").await,
        ] {
            assert_eq!(deleted.unwrap(), Deleted::Absent);
        }
    }
    assert_eq!(api.queue("nothing").await.unwrap(), None);
    assert_eq!(api.queue_owner("nothing").await.unwrap(), None);
}

async fn odd_names_stand_for_themselves(bench: &Bench) {
    let api = bench.api();
    // Each with a neighbour that it would become if it were escaped too little or too much.
    let odd = ["a/b", "a%2Fb", "a b", "a+b", "a?b", "a#b", "a%", "a%25", "ü", "日本", "a;b", "...", "a&b=c", "\"a\\b'"];
    for name in odd {
        api.put_user(&bench.user(name), &PasswordHash::blocked(), TAG).await.unwrap();
        api.put_permissions(&bench.user(name), &may("")).await.unwrap();
        bench.declare(name, QueueKind::Classic, 0).await;
        bench.declare_exchange(name).await;
    }
    let users: Vec<_> = api.users().await.unwrap().into_iter().map(|user| user.name).collect();
    let queues: Vec<_> = api.queues().await.unwrap().into_iter().map(|queue| queue.name).collect();
    let exchanges = api.exchanges().await.unwrap();
    for (gone, name) in odd.into_iter().enumerate() {
        assert!(users.contains(&bench.user(name)) && queues.contains(&name.to_owned()), "{name}");
        assert!(exchanges.contains(&name.to_owned()), "{name}");
        assert_eq!(
            api.queue(name).await.unwrap().map(|queue| (queue.name, queue.messages)),
            Some((name.into(), Some(0)))
        );
        api.delete_user(&bench.user(name)).await.unwrap();
        api.delete_queue(name).await.unwrap();
        api.delete_exchange(name).await.unwrap();
        assert_eq!(api.queues().await.unwrap().len(), odd.len() - gone - 1, "{name} alone should go");
        assert_eq!(api.exchanges().await.unwrap().len(), exchanges.len() - gone - 1, "{name} alone should go");
    }
    let left = api.users().await.unwrap();
    assert!(odd.iter().all(|name| left.iter().all(|user| user.name != bench.user(name))));
}

async fn putting_a_user_tells_whether_it_was_there(bench: &Bench) {
    let (api, user) = (bench.api(), bench.user("u"));
    assert_eq!(api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap(), Put::PerhapsNew);
    assert_eq!(api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap(), Put::Known);
    api.delete_user(&user).await.unwrap();
    assert_eq!(api.put_user(&user, &PasswordHash::blocked(), TAG).await.unwrap(), Put::PerhapsNew);
}

/// RabbitMQ answers 400 `user_already_exists` to the later of two calls that make the same user at once.
async fn users_made_by_many_calls_at_once_are_all_there(bench: &Bench) {
    let api = bench.api();
    for round in 0..10 {
        let user = bench.user(&format!("u{round}"));
        let password = Password::random();
        let hash = password.hash();
        let puts = futures::future::join_all((0..8).map(|_| api.put_user(&user, &hash, TAG))).await;
        assert!(puts.iter().all(Result::is_ok), "{puts:?}");
        let users = api.users().await.unwrap();
        assert!(users.iter().any(|found| found.name == user && found.hash.verifies(&password)));
    }
}

async fn names_that_a_url_cannot_hold_are_refused(bench: &Bench) {
    let api = bench.api();
    for name in ["", ".", ".."] {
        let results = [
            api.put_user(name, &PasswordHash::blocked(), TAG).await.map(drop),
            api.delete_user(name).await.map(drop),
            api.delete_queue(name).await.map(drop),
            api.delete_exchange(name).await.map(drop),
            api.close_connection(name, "").await.map(drop),
            api.queue(name).await.map(drop),
        ];
        for result in results {
            assert!(matches!(result, Err(BrokerError::Refused(_))), "{name}: {result:?}");
        }
    }
}

async fn a_queue_is_told_with_its_kind_and_fresh_total(bench: &Bench) {
    let api = bench.api();
    bench.declare("queue/a/b", QueueKind::Classic, 3).await;
    bench.declare("queue/a/b2", QueueKind::Classic, 0).await;
    let queue = |name: &str, messages| BrokerQueue {
        name: name.into(),
        messages: Some(messages),
        unacked: Some(0),
        fingerprint: 0,
        kind: QueueKind::Classic,
        exclusive: false,
    };
    let (b, b2) = (queue("queue/a/b", 3), queue("queue/a/b2", 0));
    let listed = api.queues().await.unwrap();
    // A list and a look show the same.
    let one = async |name: &str| api.queue(name).await.unwrap();
    assert_eq!([one("queue/a/b").await, one("queue/a/b2").await], [Some(listed[0].clone()), Some(listed[1].clone())]);
    let plain = |queue: &BrokerQueue| BrokerQueue { fingerprint: 0, ..queue.clone() };
    assert_eq!(listed.iter().map(plain).collect::<Vec<_>>(), [b, b2]);
    assert_eq!(api.queue("queue/a").await.unwrap(), None);
    api.delete_queue("queue/a/b").await.unwrap();
    assert_eq!(api.queue("queue/a/b").await.unwrap(), None);
    assert_eq!(api.queues().await.unwrap().len(), 1);
}

async fn quorum_queues_and_streams_are_told_as_such_and_deleted(bench: &Bench) {
    let api = bench.api();
    bench.declare("q", QueueKind::Quorum, 2).await;
    bench.declare("s", QueueKind::Stream, 2).await;
    let told = eventually("the quorum queue's total", async || {
        let told = api.queues().await.unwrap();
        (told[0].messages == Some(2)).then_some(told)
    });
    let told: Vec<_> = told.await.into_iter().map(|queue| (queue.name, queue.kind, queue.exclusive)).collect();
    assert_eq!(told, [("q".into(), QueueKind::Quorum, false), ("s".into(), QueueKind::Stream, false)]);
    assert_eq!(api.queue("q").await.unwrap().and_then(|queue| queue.messages), Some(2));
    assert_eq!(api.queue("s").await.unwrap().map(|queue| queue.kind), Some(QueueKind::Stream));
    api.delete_queue("q").await.unwrap();
    api.delete_queue("s").await.unwrap();
    assert_eq!(api.queues().await.unwrap(), []);
}

async fn an_exclusive_queue_goes_with_the_connection_that_owns_it(bench: &Bench) {
    let api = bench.api();
    let (user, session) = bench.session(&api, "owner").await;
    bench.declare_exclusive("x", &session).await;
    bench.declare("y", QueueKind::Classic, 0).await;
    let told: Vec<_> = api.queues().await.unwrap().into_iter().map(|queue| (queue.name, queue.exclusive)).collect();
    assert_eq!(told, [("x".into(), true), ("y".into(), false)]);
    assert!(api.queue("x").await.unwrap().unwrap().exclusive);
    let refused = api.delete_queue("x").await.unwrap_err();
    assert!(matches!(&refused, BrokerError::Refused(told) if told.contains("exclusive access")), "{refused}");
    let owner = eventually("the owner", async || api.queue_owner("x").await.unwrap()).await;
    assert_eq!(owner.user, user);
    assert_eq!(api.queue_owner("y").await.unwrap(), None);
    api.close_connection(&owner.name, "its queue is too long").await.unwrap();
    eventually("the queue's end", async || api.queue("x").await.unwrap().is_none().then_some(())).await;
    assert_eq!(api.queue_owner("x").await.unwrap(), None);
}

async fn an_exchange_is_listed_and_deleted(bench: &Bench) {
    let api = bench.api();
    bench.declare_exchange("exchange/a/b").await;
    assert!(api.exchanges().await.unwrap().contains(&"exchange/a/b".into()));
    let details = api.exchange_details().await.unwrap();
    let found = details.iter().find(|exchange| exchange.name == "exchange/a/b").unwrap();
    assert_eq!((found.kind.as_str(), found.auto_delete, found.internal), ("topic", false, false));
    assert!(details.iter().any(|exchange| exchange.name.is_empty()));
    api.delete_exchange("exchange/a/b").await.unwrap();
    let left = api.exchanges().await.unwrap();
    assert!(!left.contains(&"exchange/a/b".into()) && left.contains(&"amq.topic".into()) && left.contains(&"".into()));
}

async fn what_is_published_is_taken_from_a_bounded_queue_that_goes_by_itself(bench: &Bench) {
    let (api, queue) = (bench.api(), "inspector/0a/1");
    bench.declare_exchange("exchange/a/b").await;
    let room = Room { messages: 5, bytes: 1 << 20, idle_seconds: 5 };
    assert_eq!(api.take(queue, 5, 100).await.unwrap(), None);
    api.make_inspection(queue, room).await.unwrap();
    let binding = |exchange: &str| Binding { exchange: exchange.to_owned(), routing_key: "task.#".to_owned() };
    assert!(api.bind(queue, &binding("exchange/a/b")).await.unwrap());
    assert!(!api.bind(queue, &binding("exchange/a/c")).await.unwrap());
    assert!(!api.bind("inspector/0a/2", &binding("exchange/a/b")).await.unwrap());
    assert_eq!(api.queues_named("inspector/").await.unwrap(), [queue]);
    assert_eq!(api.queues_named("inspector/0a/2").await.unwrap(), [""; 0]);
    assert_eq!(api.take(queue, 5, 100).await.unwrap(), Some(Vec::new()));
    for body in ["one", "two"] {
        bench.publish("exchange/a/b", "task.x", body).await;
    }
    let mut taken = Vec::new();
    while taken.len() < 2 {
        taken.extend(api.take(queue, 1, 100).await.unwrap().unwrap());
    }
    let told: Vec<_> =
        taken.iter().map(|of| (of.exchange.as_str(), of.routing_key.as_str(), of.content.clone())).collect();
    let text = |text: &str| Content::Text(text.to_owned());
    assert_eq!(told, [("exchange/a/b", "task.x", text("one")), ("exchange/a/b", "task.x", text("two"))]);
    assert_eq!((taken[0].bytes, taken[1].left), (3, 0));
    if let Bench::Real(_) = bench {
        bench.publish("exchange/a/b", "other", "not bound").await;
        for number in 0..9 {
            bench.publish("exchange/a/b", "task", &format!("{number} {}", "x".repeat(200))).await;
        }
        let taken = api.take(queue, 9, 100).await.unwrap().unwrap();
        let beginning = |of: &Published| match &of.content {
            Content::Text(text) => (text[..1].to_owned(), text.len(), of.bytes),
            Content::Bytes(_) => panic!("it is text"),
        };
        // The oldest were left out, and the publisher waited for nobody.
        let kept: Vec<_> = taken.iter().map(beginning).collect();
        assert_eq!(kept, (4..9).map(|number| (number.to_string(), 100, 202)).collect::<Vec<_>>());
        // A look by `take` would keep it.
        eventually("the end of the queue", async || api.queue(queue).await.unwrap().is_none().then_some(())).await;
    }
    api.delete_queue(queue).await.unwrap();
}

async fn connections_are_listed_and_closed_with_a_reason(bench: &Bench) {
    let (api, before) = (bench.api(), SystemClock.now());
    let (user, session) = bench.session(&api, "u").await;
    let (other, _other_session) = bench.session(&api, "v").await;
    let listed = eventually("both connections in the list", async || {
        let mut listed = api.connections().await.unwrap();
        listed.sort_by(|a, b| a.user.cmp(&b.user));
        (listed.len() == 2).then_some(listed)
    });
    let listed = listed.await;
    assert_eq!([&listed[0].user, &listed[1].user], [&user, &other]);
    let (name, connected) = (&listed[0].name, listed[0].connected.unwrap());
    // Enough for rounding, and far too little for seconds taken for milliseconds.
    let slack = Duration::from_secs(2);
    assert!(connected >= before.minus(slack) && connected <= SystemClock.now().plus(slack), "{connected}");
    let (closed, shown) =
        tokio::join!(api.close_connection(name, "older than 72 hours\r\nü"), bench.reason_shown(session),);
    closed.unwrap();
    assert!(shown.contains("older than 72 hours???"), "{shown}");
    eventually("the connection's end", async || bench.connections_of(&user).await.is_empty().then_some(())).await;
    assert_eq!(bench.connections_of(&other).await.len(), 1);
    api.close_connection(name, "again").await.unwrap();
}

async fn a_users_connections_are_closed_as_soon_as_they_are_open(bench: &Bench) {
    let api = bench.api();
    let (user, session) = bench.session(&api, "u").await;
    let (other, _other_session) = bench.session(&api, "v").await;
    assert_eq!(bench.connections_of(&user).await.len(), 1);
    let (closed, shown) =
        tokio::join!(api.close_connections_of(&user, "its namespace is gone"), bench.reason_shown(session));
    closed.unwrap();
    assert!(shown.contains("its namespace is gone"), "{shown}");
    eventually("the connection's end", async || bench.connections_of(&user).await.is_empty().then_some(())).await;
    assert_eq!(bench.connections_of(&other).await.len(), 1);
    api.close_connections_of(&user, "again").await.unwrap();
}

async fn deleting_a_user_closes_its_connections(bench: &Bench) {
    let api = bench.api();
    let (user, _session) = bench.session(&api, "u").await;
    assert_eq!(bench.connections_of(&user).await.len(), 1);
    api.delete_user(&user).await.unwrap();
    eventually("the connection's end", async || bench.connections_of(&user).await.is_empty().then_some(())).await;
}

async fn a_wrong_management_password_is_denied_and_not_repeated(bench: &Bench) {
    let wrong = Password::from_stored("wrong-secret".into());
    let right = bench.config().account;
    let account = Account { password: wrong, ..right.clone() };
    let api = ManagementApi::new(ManagementConfig { account, ..bench.config() }).unwrap();
    for result in [api.ping().await, api.users().await.map(drop), api.delete_queue("q").await.map(drop)] {
        let Err(error @ BrokerError::Denied(_)) = result else { panic!("{result:?}") };
        let shown = format!("{error} {error:?} {api:?}");
        for secret in ["wrong-secret", right.username.as_str(), right.password.expose()] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("name and password"), "{shown}");
    }
}

async fn with_two_management_accounts_either_password_can_be_changed_without_an_outage(bench: &Bench) {
    let (first, second) = (bench.administrator("first").await, bench.administrator("second").await);
    let both = ManagementConfig { account: first.clone(), fallback: Some(second.clone()), ..bench.config() };
    let api = ManagementApi::new(both).unwrap();
    for changed in [&first, &second] {
        api.ping().await.unwrap();
        bench.set_password(changed, &Password::random()).await;
        for _ in 0..3 {
            api.put_user(&bench.user("u"), &Password::random().hash(), TAG).await.unwrap();
            api.users().await.unwrap();
        }
        bench.set_password(changed, &changed.password).await;
    }
    bench.set_password(&first, &Password::random()).await;
    bench.set_password(&second, &Password::random()).await;
    let error = api.users().await.unwrap_err();
    let told = error.to_string();
    assert!(matches!(error, BrokerError::Denied(_)) && told.contains("as the other account"), "{told}");
    for secret in [&first, &second] {
        assert!(!told.contains(secret.password.expose()) && !told.contains(&secret.username), "{told}");
    }
}

async fn a_missing_virtual_host_is_named(bench: &Bench) {
    let api = ManagementApi::new(ManagementConfig { vhost: "no such/one".into(), ..bench.config() }).unwrap();
    let results = [
        api.ping().await,
        api.queues().await.map(drop),
        api.exchanges().await.map(drop),
        api.permissions().await.map(drop),
        api.connections().await.map(drop),
        api.delete_queue("q").await.map(drop),
    ];
    for result in results {
        let Err(error @ BrokerError::Unavailable(_)) = result else { panic!("{result:?}") };
        assert!(error.to_string().contains("no virtual host `no such/one`"), "{error}");
    }
}

async fn a_right_that_is_missing_is_named(bench: &Bench) {
    let api = bench.api();
    let (user, password) = (bench.user("u"), Password::random());
    api.put_user(&user, &password.hash(), TAG).await.unwrap();
    let config = ManagementConfig { account: Account { username: user.clone(), password }, ..bench.config() };
    let theirs = ManagementApi::new(config).unwrap();
    for error in [theirs.ping().await.unwrap_err(), theirs.users().await.unwrap_err()] {
        assert!(matches!(&error, BrokerError::Denied(told) if told.contains("`administrator`")), "{error}");
    }
    // RabbitMQ keeps its own exchanges from everybody by saying the same.
    let reserved = api.delete_exchange("amq.topic").await;
    assert!(matches!(reserved, Err(BrokerError::Denied(_))), "{reserved:?}");
}

mod faults {
    use super::*;

    const QUICK: Duration = Duration::from_millis(300);

    fn api(fake: &FakeBroker) -> ManagementApi {
        ManagementApi::new(fake.config()).unwrap()
    }

    /// A client that waits for `QUICK` only.
    fn quick(fake: &FakeBroker) -> ManagementApi {
        ManagementApi::new(ManagementConfig { timeout: QUICK, listing_timeout: QUICK, ..fake.config() }).unwrap()
    }

    /// Every call once, with what it is of.
    async fn every_call(api: &ManagementApi) -> Vec<(&'static str, Result<(), BrokerError>)> {
        vec![
            ("put_user", api.put_user("u", &Password::random().hash(), TAG).await.map(drop)),
            ("put_permissions", api.put_permissions("u", &may("")).await),
            ("delete_user", api.delete_user("u").await.map(drop)),
            ("delete_users", api.delete_users(&["u".to_owned(), "v".to_owned()]).await),
            ("users", api.users().await.map(drop)),
            ("permissions", api.permissions().await.map(drop)),
            ("queues", api.queues().await.map(drop)),
            ("queue", api.queue("q").await.map(drop)),
            ("queue_owner", api.queue_owner("q").await.map(drop)),
            ("exchanges", api.exchanges().await.map(drop)),
            ("connections", api.connections().await.map(drop)),
            ("delete_queue", api.delete_queue("q").await.map(drop)),
            ("delete_exchange", api.delete_exchange("x").await.map(drop)),
            ("close_connection", api.close_connection("c", "").await.map(drop)),
            ("close_connections_of", api.close_connections_of("u", "").await.map(drop)),
            ("ping", api.ping().await),
        ]
    }

    fn unavailable(call: &str, result: &Result<(), BrokerError>) {
        let Err(error @ BrokerError::Unavailable(_)) = result else { panic!("{call}: {result:?}") };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(USERNAME) && !shown.contains(PASSWORD), "{shown}");
    }

    #[tokio::test]
    async fn a_broker_that_is_down_is_unavailable_at_once_and_good_when_it_is_back() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        api.ping().await.unwrap();
        fake.down().await;
        for (call, result) in every_call(&api).await {
            unavailable(call, &result);
            let error = result.unwrap_err().to_string();
            assert!(error.contains("can't connect to 127.0.0.1:"), "{call}: {error}");
        }
        fake.up();
        api.ping().await.unwrap();
    }

    #[tokio::test]
    async fn a_broker_that_hangs_is_unavailable_after_the_time_out() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Hang));
        let start = Instant::now();
        let results = every_call(&quick(&fake)).await;
        let each = start.elapsed() / u32::try_from(results.len()).unwrap();
        assert!(each >= QUICK && each < QUICK * 10, "{each:?} a call");
        for (call, result) in results {
            unavailable(call, &result);
            assert!(result.unwrap_err().to_string().contains("no answer within 300ms"), "{call}");
        }
    }

    #[tokio::test]
    async fn a_list_may_take_longer_than_a_single_call() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Slow(QUICK * 2)));
        let patient = ManagementConfig { timeout: QUICK, listing_timeout: QUICK * 100, ..fake.config() };
        let api = ManagementApi::new(patient).unwrap();
        api.queues().await.unwrap();
        unavailable("ping", &api.ping().await);
    }

    #[tokio::test]
    async fn the_time_out_covers_the_repetition() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Close).times(1));
        fake.fault(Fault::new(Failure::Hang));
        let start = Instant::now();
        unavailable("ping", &quick(&fake).ping().await);
        assert!(start.elapsed() < QUICK * 60);
        assert_eq!(fake.all_requests(), 2);
    }

    #[tokio::test]
    async fn a_request_that_hung_is_carried_out_when_it_is_released_and_not_when_it_was_given_up() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Hang).on("PUT", "/users/"));
        unavailable("put_user", &quick(&fake).put_user("given-up", &Password::random().hash(), TAG).await.map(drop));
        let handle = fake.handle();
        let api = api(&fake);
        let hash = Password::random().hash();
        let (put, ()) = tokio::join!(api.put_user("patient", &hash, TAG), async {
            handle.received("PUT", "/api/users/patient", 1).await;
            handle.release();
        });
        put.unwrap();
        let state = fake.state();
        assert!(state.users.contains_key("patient") && !state.users.contains_key("given-up"));
    }

    #[tokio::test]
    async fn an_answer_that_is_dropped_is_asked_for_once_more() {
        for fault in [Fault::new(Failure::Close), Fault::new(Failure::Close).after_doing()] {
            let fake = FakeBroker::start().await;
            let (api, password) = (api(&fake), Password::random());
            fake.fault(fault.on("PUT", "/users/u").times(1));
            api.put_user("u", &password.hash(), TAG).await.unwrap();
            assert_eq!(fake.requests("PUT", "/api/users/u"), 2);
            api.put_permissions("u", &may("")).await.unwrap();
            assert!(fake.can_log_in("u", password.expose()));
        }
    }

    #[tokio::test]
    async fn a_user_whose_first_answer_is_dropped_may_be_new() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Close).on("PUT", "/users/").times(1).after_doing());
        let put = quick(&fake).put_user("u", &PasswordHash::blocked(), TAG).await.unwrap();
        assert_eq!(put, Put::PerhapsNew);
    }

    #[tokio::test]
    async fn a_deletion_whose_answer_is_dropped_succeeds() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.state().queues.insert("q".into(), Queue::classic(1));
        fake.fault(Fault::new(Failure::Close).on("DELETE", "/q").times(1).after_doing());
        api.delete_queue("q").await.unwrap();
        assert!(fake.state().queues.is_empty());
    }

    #[tokio::test]
    async fn an_answer_that_is_dropped_twice_is_given_up() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.fault(Fault::new(Failure::Close));
        let results = every_call(&api).await;
        let (deletions, others) = results.iter().partition::<Vec<_>, _>(|(call, _)| is_deletion(call));
        // A deletion is sent once, and then there is a look, in vain; but for that of many users.
        assert_eq!(fake.all_requests(), 3 * (deletions.len() - 1) + 1 + 2 * others.len());
        for (call, result) in results {
            unavailable(call, &result);
        }
    }

    #[tokio::test]
    async fn a_broker_that_fails_is_not_asked_again() {
        for status in [502, 503] {
            let fake = FakeBroker::start().await;
            fake.fault(Fault::new(Failure::Status(status)));
            let results = every_call(&api(&fake)).await;
            assert_eq!(fake.all_requests(), results.len());
            for (call, result) in results {
                unavailable(call, &result);
                assert!(result.unwrap_err().to_string().contains(&format!(": {status} fault: as the test wants it")));
            }
        }
    }

    /// RabbitMQ answers so where something goes while it is looked at.
    #[tokio::test]
    async fn a_look_is_made_once_more_after_a_500_and_no_more_than_that() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        api.put_user("u", &PasswordHash::blocked(), TAG).await.unwrap();
        fake.fault(Fault::new(Failure::Status(500)).on("GET", "/api/users").times(1));
        assert!(api.users().await.unwrap().iter().any(|user| user.name == "u"));
        fake.fault(Fault::new(Failure::Status(500)).on("GET", "/api/queues").times(1));
        assert_eq!(api.queue("q").await.unwrap(), None);
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Status(500)));
        let results = every_call(&self::api(&fake)).await;
        let looks = fake.looks();
        assert!(looks > 0 && looks % 2 == 0, "{looks}");
        assert_eq!(fake.all_requests(), results.len() + looks / 2);
        for (call, result) in results {
            unavailable(call, &result);
        }
    }

    #[tokio::test]
    async fn a_node_that_is_starting_is_unavailable_and_proves_nothing_gone() {
        let fake = FakeBroker::start().await;
        fake.fault(Fault::new(Failure::Booting));
        for (call, result) in every_call(&api(&fake)).await {
            unavailable(call, &result);
        }
    }

    #[tokio::test]
    async fn a_look_is_made_again_when_the_node_was_just_starting() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.state().queues.insert("q".into(), Queue::classic(1));
        fake.fault(Fault::new(Failure::Booting).times(1));
        assert!(api.queue("q").await.unwrap().is_some());
    }

    fn is_deletion(call: &str) -> bool {
        call.starts_with("delete") || call.starts_with("close")
    }

    #[tokio::test]
    async fn a_deletion_of_many_users_is_sent_once() {
        for (failure, done) in [(Failure::Close, false), (Failure::Close, true), (Failure::Status(500), false)] {
            let fake = FakeBroker::start().await;
            let api = api(&fake);
            api.put_user("u", &PasswordHash::blocked(), TAG).await.unwrap();
            let fault = Fault::new(failure).on("POST", "/users/bulk-delete").times(1);
            fake.fault(if done { fault.after_doing() } else { fault });
            unavailable("delete_users", &api.delete_users(&["u".to_owned()]).await);
            assert_eq!(fake.requests("POST", "/api/users/bulk-delete"), 1);
            assert_eq!(fake.state().users.contains_key("u"), !done);
        }
    }

    /// By the time of a second deletion another thing may have the name.
    #[tokio::test]
    async fn a_deletion_is_sent_once_whatever_becomes_of_it() {
        let fallback = Account { username: "other".into(), password: Password::from_stored("p".into()) };
        let failures = [
            (Failure::Booting, false),
            (Failure::Close, false),
            (Failure::Close, true),
            (Failure::Status(500), false),
            (Failure::Status(503), true),
            (Failure::Hang, false),
            (Failure::Hang, true),
        ];
        for (failure, carried_out) in failures {
            let fake = FakeBroker::start().await;
            let config = ManagementConfig { fallback: Some(fallback.clone()), timeout: QUICK * 3, ..fake.config() };
            let api = ManagementApi::new(config).unwrap();
            let password = Password::random();
            api.put_user("u", &password.hash(), TAG).await.unwrap();
            api.put_permissions("u", &may("")).await.unwrap();
            let (first, second) = (fake.connect("u", password.expose(), 1), fake.connect("u", password.expose(), 2));
            fake.state().queues.insert("q".into(), Queue::classic(1));
            fake.state().exchanges.insert("x".into());
            // There is a connection that was kept alive, and that the broker could close.
            api.ping().await.unwrap();
            let fault = Fault::new(failure.clone()).on("DELETE", "");
            fake.fault(if carried_out { fault.after_doing() } else { fault });
            let (first, second) = (first.unwrap(), second.unwrap());
            let queue = format!("/api/queues/{}/q", crate::support::fake_broker::VHOST);
            let exchange = format!("/api/exchanges/{}/x", crate::support::fake_broker::VHOST);
            let asked = [
                (api.delete_queue("q").await, queue),
                (api.delete_exchange("x").await, exchange),
                (api.close_connection(&first, "").await, format!("/api/connections/{first}")),
                (api.close_connections_of("u", "").await, "/api/connections/username/u".to_owned()),
                (api.delete_user("u").await, "/api/users/u".to_owned()),
            ];
            for (deleted, path) in asked {
                assert_eq!(fake.requests("DELETE", &path), 1, "{failure:?} {path}");
                match (&failure, carried_out) {
                    (Failure::Close, true) => assert_eq!(deleted.unwrap(), Deleted::Absent, "{path}"),
                    _ => unavailable(&path, &deleted.map(drop)),
                }
            }
            let state = fake.state();
            let left = (state.queues.len(), state.users.contains_key("u"), state.connections.contains_key(&second));
            assert_eq!(left, if carried_out { (0, false, false) } else { (1, true, true) }, "{failure:?}");
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_no_json_is_garbled() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.state().queues.insert("q".into(), Queue::classic(1));
        fake.fault(Fault::new(Failure::Malformed).on("GET", ""));
        for result in [
            api.users().await.map(drop),
            api.permissions().await.map(drop),
            api.queues().await.map(drop),
            api.queue("q").await.map(drop),
            api.exchanges().await.map(drop),
            api.connections().await.map(drop),
            api.ping().await,
        ] {
            assert!(matches!(result, Err(BrokerError::Garbled(_))), "{result:?}");
        }
    }

    #[tokio::test]
    async fn a_good_status_that_rabbitmq_would_not_give_is_no_success() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        for status in [200, 202, 302] {
            fake.heal();
            fake.fault(Fault::new(Failure::Status(status)));
            let result = api.put_user("u", &PasswordHash::blocked(), TAG).await;
            assert!(matches!(result, Err(BrokerError::Garbled(_))), "{status}: {result:?}");
        }
        assert!(!fake.state().users.contains_key("u"));
    }

    #[tokio::test]
    async fn a_list_of_exchanges_without_the_default_one_comes_from_a_node_that_is_not_ready() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.fault(Fault::new(Failure::EmptyList).on("GET", "/exchanges/"));
        unavailable("exchanges", &api.exchanges().await.map(drop));
        fake.heal();
        fake.fault(Fault::new(Failure::Partial(1)).on("GET", "/exchanges/"));
        assert_eq!(api.exchanges().await.unwrap(), [""]);
    }

    #[tokio::test]
    async fn the_total_of_one_queue_is_taken_from_the_list_where_the_broker_is_old() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        fake.state().totals_in_lists_only = true;
        for (name, messages) in [("a.b", 1), ("a+b", 2), ("A.B", 3), ("xa.b", 4)] {
            fake.state().queues.insert(name.into(), Queue::classic(messages));
        }
        for (name, messages) in [("a.b", 1), ("a+b", 2), ("A.B", 3), ("xa.b", 4)] {
            assert_eq!(api.queue(name).await.unwrap().unwrap().messages, Some(messages), "{name}");
        }
    }

    #[tokio::test]
    async fn the_password_of_the_account_is_sent_up_front_and_the_base_url_may_have_a_slash() {
        let fake = FakeBroker::start().await;
        let base_urls = vec![format!("{}/", fake.url()).parse().unwrap()];
        let api = ManagementApi::new(ManagementConfig { base_urls, ..fake.config() }).unwrap();
        api.ping().await.unwrap();
        assert_eq!(
            fake.all_requests(),
            3,
            "the virtual host, the nodes and how names come through: no challenge first"
        );
    }

    #[tokio::test]
    async fn an_account_without_rights_on_the_virtual_host_is_denied() {
        let fake = FakeBroker::start().await;
        fake.state().queues.insert("q".into(), Queue::classic(1));
        fake.state().permissions.clear();
        let result = api(&fake).delete_queue("q").await;
        assert!(matches!(&result, Err(BrokerError::Denied(told)) if told.contains("to configure")), "{result:?}");
    }

    #[tokio::test]
    async fn a_broker_that_lost_everything_has_its_account_and_nothing_else() {
        let fake = FakeBroker::start().await;
        let api = api(&fake);
        api.put_user("u", &PasswordHash::blocked(), TAG).await.unwrap();
        fake.state().queues.insert("q".into(), Queue::classic(1));
        fake.restart_empty();
        let names: Vec<_> = api.users().await.unwrap().into_iter().map(|user| user.name).collect();
        assert_eq!(names, [USERNAME]);
        assert_eq!(api.queues().await.unwrap(), []);
        assert_eq!(api.permissions().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_connection_too_new_for_the_list_is_closed_by_its_user_alone() {
        let fake = FakeBroker::start().await;
        let (api, password) = (api(&fake), Password::random());
        api.put_user("u", &password.hash(), TAG).await.unwrap();
        api.put_permissions("u", &may("")).await.unwrap();
        let name = fake.connect("u", password.expose(), 7).unwrap();
        let set_listed = |listed| fake.state().connections.get_mut(&name).unwrap().listed = listed;
        set_listed(false);
        assert_eq!(api.connections().await.unwrap(), []);
        api.close_connection(&name, "").await.unwrap();
        assert!(fake.state().connections.contains_key(&name), "still open");
        set_listed(true);
        assert_eq!(api.connections().await.unwrap()[0].connected, Some(Timestamp::from_millis(7)));
        set_listed(false);
        api.close_connections_of("u", "").await.unwrap();
        assert!(fake.state().connections.is_empty());
    }
}

/// What is told of these queues by the Prometheus plugin at `metrics`.
fn scraping(config: ManagementConfig, metrics: &str) -> ManagementApi {
    ManagementApi::new(ManagementConfig { metrics: Some(metrics.parse().unwrap()), ..config }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_scrape_of_metrics_tells_what_closer_looks_do_from_rabbitmq_4_on() {
    let vhost = RabbitMq::from_env().vhost().await;
    let read = |name: &str| std::env::var(format!("PULSE_TEST_RABBITMQ_{name}")).expect("script/services gives it");
    let api = scraping(vhost.config(), &read("METRICS"));
    let (queue, quiet) = ("queue/\"x\\ y", "queue/quiet");
    for queue in [queue, quiet] {
        vhost.declare_queue(queue, "classic").await;
    }
    for _ in 0..9 {
        vhost.publish(queue).await;
    }
    let rabbitmq = &vhost.rabbitmq;
    let connection = log_in(&vhost.connection_string(&rabbitmq.username, &rabbitmq.password)).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (options, none) = (lapin::options::BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(queue.into(), "".into(), options, none).await.unwrap();
    for n in 0..5 {
        let delivery = consumer.next().await.unwrap().unwrap();
        if n < 4 {
            delivery.ack(lapin::options::BasicAckOptions::default()).await.unwrap();
        }
    }
    let queues = [queue, quiet, "queue/none"].map(str::to_owned).into();
    let detail = eventually("the statistics", async || {
        let detail = api.queue_detail(queue).await.unwrap()?;
        let done = detail.counters.is_some_and(|counters| counters.acknowledged == 4 && counters.delivered == 9);
        (done && detail.consumers == Some(1)).then_some(detail)
    })
    .await;
    if read("VERSION").starts_with("3.") {
        assert_eq!(api.queue_details(&queues).await, None, "it does not tell what was acknowledged");
        return;
    }
    let told = eventually("the metrics", async || {
        let told = api.queue_details(&queues).await.unwrap();
        told.get(queue).is_some_and(|told| told.counters == detail.counters).then_some(told)
    })
    .await;
    assert_eq!(told[queue].consumers, detail.consumers);
    assert_eq!((told[quiet].consumers, told.len()), (Some(0), 2), "{told:?}");
}

/// Answers each request with this, as a Prometheus plugin.
async fn canned(answer: &'static str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..read]).to_lowercase();
            assert!(
                request.starts_with("get /metrics/detailed?family=queue_consumer_count&family=queue_delivery_metrics")
            );
            assert!(!request.contains("authorization"), "{request}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    url
}

#[tokio::test]
async fn metrics_that_fail_or_are_those_of_one_node_of_several_are_not_used() {
    const GOOD: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\
        # TYPE rabbitmq_detailed_queue_messages_acked_total counter\n\
        rabbitmq_detailed_queue_consumers{vhost=\"v\",queue=\"q\"} 3\n\
        rabbitmq_detailed_queue_messages_acked_total{vhost=\"v\",queue=\"q\"} 7\n";
    let fake = FakeBroker::start().await;
    let queues = ["q".to_owned()].into();
    let api = scraping(fake.config(), &canned(GOOD).await);
    let told = api.queue_details(&queues).await.unwrap();
    assert_eq!((told["q"].consumers, told["q"].counters.unwrap().acknowledged), (Some(3), 7));
    fake.state().other_nodes = 2;
    assert_eq!(api.queue_details(&queues).await, None);
    fake.state().other_nodes = 0;
    assert!(api.queue_details(&queues).await.is_some(), "it is tried again");
    for bad in [
        "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nno\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n# TYPE rabbitmq_detailed",
        "",
    ] {
        assert_eq!(scraping(fake.config(), &canned(bad).await).queue_details(&queues).await, None, "{bad}");
    }
    assert_eq!(ManagementApi::new(fake.config()).unwrap().queue_details(&queues).await, None, "not configured");
    assert!(ManagementApi::new(fake.config()).unwrap().keeps_statistics().await.unwrap());
}
