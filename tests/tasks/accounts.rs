//! Accounts of people, and users of somebody else that were adopted, as their owners and the scheduled tasks meet them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use taskcluster_pulse::clock::Clock as _;
use taskcluster_pulse::domain::account::Schedule;
use taskcluster_pulse::domain::adoption::Wanted;
use taskcluster_pulse::domain::audit::{AuditFilter, By};
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind};
use taskcluster_pulse::domain::name::{Name, Permissions};
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::domain::rotation::NEVER;
use taskcluster_pulse::domain::shown::QueueFilter;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Credentials, Ended, QueueOutcome, ServiceError, Which, Wish};
use taskcluster_pulse::store::Select;

use super::guard::hoard;
use super::{MINUTE, expire, fake_world, sweep, told, watch};
use crate::support::fake_broker::{Failure, Fault};
use crate::support::rabbitmq::{escaped, eventually, log_in};
use crate::support::world::{ALERT, DELETE, HOUR, Mailbox, Side, World};

crate::on_every_world! {
    an_account_gets_new_credentials_when_asked_and_the_old_ones_work_until_the_next,
    old_credentials_end_at_once_if_that_is_asked_for,
    an_account_is_repaired_and_rebuilt_as_any_namespace,
    queues_of_accounts_are_listed_and_deleted_whatever_the_account_is_called,
    an_account_whose_credentials_are_revoked_lets_nobody_in_until_its_owner_asks_for_others,
    a_disabled_account_gives_no_credentials_and_a_released_one_ends,
    an_account_that_nobody_uses_ends_with_all_that_it_has,
    an_adopted_user_is_as_it_was_whatever_runs,
    an_owner_moves_on_and_the_former_user_works_until_it_is_retired,
    a_former_user_that_nobody_uses_is_retired_by_itself,
    an_adopted_user_becomes_one_that_programs_claim,
    a_retired_user_that_somebody_made_into_another_is_left_alone,
}

const DAY: Duration = Duration::from_secs(86_400);

fn by() -> By {
    By::client("admin")
}

fn owner(text: &str) -> Owner {
    Owner::parse(text).unwrap()
}

/// A name for an account that no other test has.
fn account_name(world: &World, text: &str) -> Name {
    let name = match &world.side {
        Side::Fake(_) => text.to_owned(),
        Side::Real(vhost) => format!("{}{text}", vhost.prefix),
    };
    Name::of_account(&name).unwrap()
}

/// The connection string of a user.
fn string(world: &World, user: &str, password: &str) -> String {
    match &world.side {
        Side::Fake(_) => format!("amqp://{user}:{password}@localhost/%2F"),
        Side::Real(vhost) => vhost.connection_string(user, password),
    }
}

/// The permissions that PulseGuardian gives.
fn permissions_of(user: &str) -> Permissions {
    let name = user.replace('.', r"\.").replace('-', r"\-");
    let own = format!("^(queue/{name}/.*|exchange/{name}/.*)");
    Permissions { configure: own.clone(), write: own, read: format!("^(queue/{name}/.*|exchange/.*)") }
}

/// Makes a user as PulseGuardian does; its connection string.
async fn guarded_user(world: &World, name: &Name) -> String {
    let (user, password) = (name.as_str(), Password::random());
    match &world.side {
        Side::Fake(fake) => {
            let made = BrokerUser { name: user.to_owned(), tags: [].into(), hash: password.hash() };
            let mut state = fake.state();
            state.users.insert(user.to_owned(), made);
            state.permissions.insert(user.to_owned(), permissions_of(user));
        }
        Side::Real(vhost) => {
            vhost.rabbitmq.make_user(user, password.expose(), "").await;
            let Permissions { configure, write, read } = permissions_of(user);
            let body = json!({"configure": configure, "write": write, "read": read});
            let path = format!("permissions/{}/{}", escaped(&vhost.name), escaped(user));
            vhost.rabbitmq.admin(reqwest::Method::PUT, &path, Some(body)).await;
        }
    }
    string(world, user, password.expose())
}

/// Adopts users for their owner.
async fn adopt(world: &World, names: &[&Name]) {
    let wanted =
        |name: &&Name| Wanted { user: name.to_string(), owners: vec![owner("joe@example.com")], unbounded: Vec::new() };
    let wanted: Vec<_> = names.iter().map(wanted).collect();
    let outcome = world.service().adopt(&wanted, false, &by()).await.unwrap();
    assert_eq!((outcome.changed, outcome.failed, &outcome.reports), (names.len(), 0, &vec![]));
}

/// All that the broker says of users, and what they may do.
async fn users_at_broker(world: &World) -> BTreeMap<String, (Vec<String>, String, Option<Permissions>)> {
    let mut granted: BTreeMap<_, _> =
        world.broker.permissions().await.unwrap().into_iter().map(|of| (of.user, of.permissions)).collect();
    let users = world.broker.users().await.unwrap().into_iter();
    users
        .map(|user| {
            (user.name.clone(), (user.tags.to_vec(), user.hash.as_str().to_owned(), granted.remove(&user.name)))
        })
        .collect()
}

/// What the audit trail has, the oldest first.
async fn trail(world: &World) -> Vec<String> {
    let found = world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    found.into_iter().rev().map(|one| one.action).collect()
}

async fn all_tasks(world: &World) {
    let service = world.service();
    for outcome in [sweep(world).await, expire(world).await, service.rotate(false).await.unwrap()] {
        assert_eq!((outcome.failed, outcome.refused), (0, 0), "{outcome:?}");
    }
    service.replace_lost(true, false).await.unwrap();
}

/// A connection of a client, for as long as it is held.
enum Held {
    Fake,
    Real(Box<lapin::Connection>),
}

impl Held {
    /// Whether the broker has closed it.
    async fn is_closed(&self, world: &World, user: &str) -> bool {
        match self {
            Held::Fake => world.broker.connections_of(user).await.unwrap().is_empty(),
            Held::Real(connection) => {
                eventually("the end of a connection", async || (!connection.status().connected()).then_some(())).await;
                true
            }
        }
    }

    async fn close(self, world: &World, user: &str) {
        match self {
            Held::Fake => world.fake().state().connections.retain(|_, of| of.user != user),
            Held::Real(connection) => connection.close(200, "bye".into()).await.unwrap(),
        }
        let gone = async || world.broker.connections_of(user).await.unwrap().is_empty().then_some(());
        eventually("no connection", gone).await;
    }
}

async fn connect(world: &World, user: &str, connection_string: &str) -> Held {
    let url = url::Url::parse(connection_string).unwrap();
    match &world.side {
        Side::Fake(fake) => {
            let now = world.clock.now().millis();
            fake.connect(user, url.password().unwrap(), now).expect("it logs in");
            Held::Fake
        }
        Side::Real(_) => {
            let connection = log_in(connection_string).await.unwrap();
            let listed = async || {
                let found = world.broker.connections_of(user).await.unwrap();
                (!found.is_empty()).then_some(())
            };
            eventually("the connection", listed).await;
            Held::Real(Box::new(connection))
        }
    }
}

fn claim_of(name: &Name) -> ClaimRequest {
    ClaimRequest { name: name.clone(), expires: None, contact: None, by: by(), client: None }
}

async fn create(world: &World, text: &str) -> Credentials {
    let name = account_name(world, text);
    world.service().create_account(name.as_str(), &[owner("joe@example.com")], &by()).await.unwrap()
}

async fn an_account_gets_new_credentials_when_asked_and_the_old_ones_work_until_the_next(world: World) {
    let service = world.service();
    let first = create(&world, "people.joe").await;
    let name = &first.name;
    assert!(world.logs_in(&first.connection_string).await);
    assert_eq!(first.expires, world.clock.now().plus(365 * DAY));
    let again = service.create_account(name.as_str(), &[owner("joe@example.com")], &by()).await.unwrap_err();
    assert!(matches!(again, ServiceError::Exists(_)), "{again}");
    for _ in 0..5 {
        world.clock.advance(3 * DAY);
        all_tasks(&world).await;
    }
    assert!(world.logs_in(&first.connection_string).await, "it is never rotated");
    assert!(matches!(service.claim(&claim_of(name)).await, Err(ServiceError::OnDemand(_))));
    let second = service.new_credentials(name, false, &by()).await.unwrap();
    assert_ne!(first.user, second.user);
    assert_eq!(second.expires, world.clock.now().plus(365 * DAY), "asking is use");
    assert!(world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
    let third = service.new_credentials(name, false, &by()).await.unwrap();
    assert_eq!(third.user, first.user);
    assert!(!world.logs_in(&first.connection_string).await, "it worked until the next");
    assert!(world.logs_in(&second.connection_string).await && world.logs_in(&third.connection_string).await);
    all_tasks(&world).await;
    assert!(world.logs_in(&second.connection_string).await && world.logs_in(&third.connection_string).await);
    assert_eq!(trail(&world).await, ["make-account", "new-credentials", "new-credentials"]);
    // What is stored is no password.
    let stored = world.store.namespace(name).await.unwrap().unwrap().rotation;
    for login in [stored.active, stored.previous].into_iter().flatten() {
        let kept = login.password.expose().to_owned();
        assert!(kept.starts_with("lost:") && ![&second, &third].iter().any(|of| kept.contains(of.password.expose())));
    }
}

async fn old_credentials_end_at_once_if_that_is_asked_for(world: World) {
    let service = world.service();
    let first = create(&world, "joe").await;
    let held = connect(&world, &first.user, &first.connection_string).await;
    let second = service.new_credentials(&first.name, true, &by()).await.unwrap();
    assert!(second.old_ended && held.is_closed(&world, &first.user).await);
    assert!(!world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
    all_tasks(&world).await;
    assert!(!world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
}

async fn an_account_is_repaired_and_rebuilt_as_any_namespace(world: World) {
    let service = world.service();
    let first = create(&world, "jo.e").await;
    let second = service.new_credentials(&first.name, false, &by()).await.unwrap();
    for user in [&first.user, &second.user] {
        world.broker.delete_user(user).await.unwrap();
    }
    world.clock.advance(2 * MINUTE);
    sweep(&world).await;
    assert!(world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
    let queue = format!("queue/{}/x", first.name);
    world.fill(&queue, QueueKind::Classic, ALERT + 1).await;
    let mut subjects = Vec::new();
    for _ in 0..5 {
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
        subjects.extend(told(&world).await);
    }
    assert!(subjects.len() == 1 && subjects[0].contains("Pulse queue"), "{subjects:?}");
}

async fn an_account_whose_credentials_are_revoked_lets_nobody_in_until_its_owner_asks_for_others(world: World) {
    let service = world.service();
    let first = create(&world, "joe").await;
    let second = service.new_credentials(&first.name, false, &by()).await.unwrap();
    let held = connect(&world, &first.user, &first.connection_string).await;
    assert_eq!(service.revoke(&first.name, "it was leaked", &by()).await.unwrap(), Ended::Done);
    assert!(held.is_closed(&world, &first.user).await);
    for _ in 0..2 {
        for old in [&first, &second] {
            assert!(!world.logs_in(&old.connection_string).await);
        }
        world.clock.advance(2 * MINUTE);
        all_tasks(&world).await;
    }
    assert_eq!(service.revoke(&first.name, "again", &by()).await.unwrap(), Ended::Done, "there is nothing to revoke");
    let third = service.new_credentials(&first.name, false, &by()).await.unwrap();
    world.clock.advance(2 * MINUTE);
    all_tasks(&world).await;
    assert!(world.logs_in(&third.connection_string).await);
    assert!(!world.logs_in(&first.connection_string).await && !world.logs_in(&second.connection_string).await);
}

async fn a_disabled_account_gives_no_credentials_and_a_released_one_ends(world: World) {
    let service = world.service();
    let first = create(&world, "joe").await;
    let name = &first.name;
    assert_eq!(service.disable(name, "it floods", &by()).await.unwrap(), Ended::Done);
    let refused = service.new_credentials(name, false, &by()).await.unwrap_err();
    assert!(matches!(refused, ServiceError::Disabled { .. }), "{refused}");
    world.clock.advance(HOUR);
    all_tasks(&world).await;
    assert!(!world.logs_in(&first.connection_string).await);
    assert_eq!(service.enable(name, "it is mended", &by()).await.unwrap(), Ended::Done);
    all_tasks(&world).await;
    assert!(!world.logs_in(&first.connection_string).await, "nobody knows other credentials yet");
    let second = service.new_credentials(name, false, &by()).await.unwrap();
    assert!(world.logs_in(&second.connection_string).await && second.expires > world.clock.now().plus(300 * DAY));
    assert_eq!(service.release(name, "no longer needed", &by()).await.unwrap(), Ended::Done);
    assert!(!world.logs_in(&second.connection_string).await);
    for _ in 0..2 {
        all_tasks(&world).await;
        world.clock.advance(HOUR);
    }
    assert_eq!(world.store.namespace(name).await.unwrap(), None);
    // The user that an account was made of is nobody's to end here.
    let adopted = account_name(&world, "old");
    let connection_string = guarded_user(&world, &adopted).await;
    adopt(&world, &[&adopted]).await;
    for ended in [
        service.revoke(&adopted, "why", &by()).await,
        service.disable(&adopted, "why", &by()).await,
        service.release(&adopted, "why", &by()).await,
    ] {
        assert!(matches!(ended, Err(ServiceError::NotSuch { .. })), "{ended:?}");
    }
    assert!(world.logs_in(&connection_string).await);
}

async fn queues_of_accounts_are_listed_and_deleted_whatever_the_account_is_called(world: World) {
    let service = world.service();
    let (made, old) = (create(&world, "people.joe").await.name, account_name(&world, "o.ld"));
    guarded_user(&world, &old).await;
    adopt(&world, &[&old]).await;
    for name in [&made, &old] {
        let (queue, exchange) = (format!("queue/{name}/x"), format!("exchange/{name}/x"));
        world.fill(&queue, QueueKind::Classic, 3).await;
        world.declare_exchange(&exchange).await;
    }
    for name in [&made, &old] {
        let (queue, exchange) = (format!("queue/{name}/x"), format!("exchange/{name}/x"));
        let found = service.list_queues(name, &QueueFilter::default(), 10).await.unwrap();
        assert_eq!(found.iter().map(|shown| shown.queue.name.as_str()).collect::<Vec<_>>(), [&queue]);
        assert_eq!(service.list_exchanges(name, None, None, 10).await.unwrap().len(), 1);
        let by = by();
        let wish = || Wish { by: &by, reason: None };
        assert_eq!(service.empty_queue(name, &queue, wish()).await.unwrap().messages, Some(3));
        let all = Which::Matching(format!("queue/{name}/*"));
        let deleted = service.delete_queues(name, &all, false, wish()).await.unwrap();
        assert!(deleted.of.len() == 1 && matches!(deleted.of[0].1, QueueOutcome::Deleted(_)), "{deleted:?}");
        service.delete_exchange(name, &exchange, wish()).await.unwrap();
    }
    assert!(world.queues().await.is_empty());
}

async fn an_account_that_nobody_uses_ends_with_all_that_it_has(world: World) {
    let first = create(&world, "joe").await;
    let queue = format!("queue/{}/x", first.name);
    world.fill(&queue, QueueKind::Classic, 1).await;
    let mut subjects = Vec::new();
    // Somebody uses it, which puts its end off.
    world.clock.advance(340 * DAY);
    sweep(&world).await;
    subjects.extend(told(&world).await);
    let held = connect(&world, &first.user, &first.connection_string).await;
    if let Held::Real(_) = held {
        let listed = async || {
            let all = world.broker.connections().await.unwrap();
            all.iter().any(|of| of.user == first.user).then_some(())
        };
        eventually("the connection in the list", listed).await;
    }
    sweep(&world).await;
    held.close(&world, &first.user).await;
    let found = world.store.namespace(&first.name).await.unwrap().unwrap();
    assert_eq!(found.expires, world.clock.now().plus(365 * DAY));
    for days in [334, 1, 22, 1, 5, 1] {
        world.clock.advance(days * DAY);
        sweep(&world).await;
        expire(&world).await;
        subjects.extend(told(&world).await);
    }
    let ends: Vec<_> =
        subjects.iter().map(|subject| subject.rsplit(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(ends, ["days 25", "days 30", "days 7", "day 1"], "{subjects:?}");
    assert!(world.logs_in(&first.connection_string).await);
    world.clock.advance(2 * DAY);
    for _ in 0..3 {
        expire(&world).await;
        world.clock.advance(2 * HOUR);
    }
    assert!(!world.logs_in(&first.connection_string).await);
    assert!(world.queues().await.is_empty());
    assert!(world.store.namespace(&first.name).await.unwrap().is_none());
}

async fn an_adopted_user_is_as_it_was_whatever_runs(world: World) {
    // The second has the name of a user that the first would have, and the third is named as one of a namespace.
    let names = ["joe", "joe-1", "taskcluster-jim-2"].map(|text| account_name(&world, text));
    let [joe, joe_1, jim] = &names;
    let mut strings = Vec::new();
    for name in &names {
        strings.push(guarded_user(&world, name).await);
    }
    world.claim("taskcluster-a").await.unwrap();
    let before = users_at_broker(&world).await;
    adopt(&world, &[joe, joe_1, jim]).await;
    let queue = format!("queue/{joe_1}/x");
    world.fill(&queue, QueueKind::Classic, DELETE + 1).await;
    let held = connect(&world, joe_1.as_str(), &strings[1]).await;
    let (service, mailbox) = (world.service(), Mailbox::default());
    for _ in 0..12 {
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
        service.deliver(&mailbox, false).await.unwrap();
    }
    let subjects = mailbox.subjects();
    assert!(
        subjects.len() >= 2 && subjects.last().unwrap().contains("was deleted"),
        "its queue is guarded: {subjects:?}"
    );
    for _ in 0..8 {
        world.clock.advance(100 * DAY);
        world.claim_for("taskcluster-a", "", 1000 * DAY).await;
        all_tasks(&world).await;
    }
    let mut after = users_at_broker(&world).await;
    after.retain(|user, _| names.iter().any(|name| name.as_str() == user));
    let before: BTreeMap<_, _> = before.into_iter().filter(|(user, _)| after.contains_key(user)).collect();
    assert_eq!((after.len(), after), (3, before));
    for string in &strings {
        assert!(world.logs_in(string).await);
    }
    let found = service.account(joe_1).await.unwrap();
    assert_eq!((found.expires, found.rotation.active), (NEVER, None));
    let error = service.new_credentials(joe_1, false, &by()).await.unwrap_err().to_string();
    assert!(error.contains("nobody has moved on from its user yet"), "{error}");
    assert!(service.retire(joe_1, &by()).await.unwrap_err().to_string().contains("move on first"));
    held.close(&world, joe_1.as_str()).await;
    // What would be its own users has another owner.
    let error = service.move_on(joe, Schedule::OnDemand, &by()).await;
    match &world.side {
        Side::Fake(_) => assert!(matches!(error, Err(ServiceError::ForeignUser { .. })), "{error:?}"),
        // There, the names of users begin with something else.
        Side::Real(_) => drop(error.unwrap()),
    }
    assert!(world.logs_in(&strings[0]).await && world.logs_in(&strings[1]).await);
    assert!(service.account(joe).await.unwrap().adopted().is_some());
}

async fn an_owner_moves_on_and_the_former_user_works_until_it_is_retired(world: World) {
    let joe = account_name(&world, "joe");
    let former = guarded_user(&world, &joe).await;
    let queue = format!("queue/{joe}/x");
    world.fill(&queue, QueueKind::Classic, 1).await;
    adopt(&world, &[&joe]).await;
    let service = world.service();
    let given = service.move_on(&joe, Schedule::OnDemand, &by()).await.unwrap().unwrap();
    assert!(world.logs_in(&given.connection_string).await && world.logs_in(&former).await);
    let twice = service.move_on(&joe, Schedule::OnDemand, &by()).await.unwrap_err().to_string();
    assert!(twice.contains("has moved on already"), "{twice}");
    let held = connect(&world, joe.as_str(), &former).await;
    world.clock.advance(2 * DAY);
    let mailbox = Mailbox::default();
    for _ in 0..3 {
        sweep(&world).await;
        service.deliver(&mailbox, false).await.unwrap();
        world.clock.advance(2 * MINUTE);
    }
    let notice = mailbox.delivered.lock().unwrap().pop().expect("its owner is told that it is in use");
    assert!(
        mailbox.delivered.lock().unwrap().is_empty() && notice.text.contains("`127.0.0.1`, last at "),
        "{}",
        notice.text
    );
    let shown = service.account(&joe).await.unwrap();
    assert!(shown.adopted().unwrap().addresses.contains_key("127.0.0.1"));
    assert!(service.retire(&joe, &by()).await.unwrap());
    assert!(held.is_closed(&world, joe.as_str()).await && !world.logs_in(&former).await);
    assert!(world.logs_in(&given.connection_string).await);
    let found = service.account(&joe).await.unwrap();
    assert_eq!((found.adopted(), found.expires), (None, world.clock.now().plus(365 * DAY)));
    all_tasks(&world).await;
    assert_eq!(world.queues().await, [queue], "its queues stay");
    let next = service.new_credentials(&joe, false, &by()).await.unwrap();
    assert!(world.logs_in(&given.connection_string).await && world.logs_in(&next.connection_string).await);
    assert_eq!(trail(&world).await, ["adopt", "move-on", "retire", "new-credentials"]);
}

async fn a_former_user_that_nobody_uses_is_retired_by_itself(world: World) {
    let joe = account_name(&world, "joe");
    let former = guarded_user(&world, &joe).await;
    adopt(&world, &[&joe]).await;
    let service = world.service();
    world.clock.advance(40 * DAY);
    sweep(&world).await;
    let given = service.move_on(&joe, Schedule::OnDemand, &by()).await.unwrap().unwrap();
    for _ in 0..35 {
        world.clock.advance(DAY / 2);
        sweep(&world).await;
    }
    assert!(world.logs_in(&former).await);
    // Nobody looks for a week, and so nobody knows whether it was used.
    world.clock.advance(20 * DAY);
    sweep(&world).await;
    assert!(world.logs_in(&former).await && service.account(&joe).await.unwrap().adopted().is_some());
    let mut subjects = Vec::new();
    for _ in 0..60 {
        world.clock.advance(DAY / 2);
        sweep(&world).await;
        subjects.extend(told(&world).await);
    }
    world.clock.advance(2 * MINUTE);
    sweep(&world).await;
    assert!(!world.logs_in(&former).await && world.logs_in(&given.connection_string).await);
    assert!(subjects.len() == 1 && subjects[0].ends_with(" is retired"), "{subjects:?}");
    assert_eq!(service.account(&joe).await.unwrap().adopted(), None);
    assert_eq!(trail(&world).await, ["adopt", "move-on", "retire"]);
}

async fn an_adopted_user_becomes_one_that_programs_claim(world: World) {
    let name = account_name(&world, "jo.e");
    let former = guarded_user(&world, &name).await;
    adopt(&world, &[&name]).await;
    let claim = claim_of(&name);
    let service = world.service();
    assert!(matches!(service.claim(&claim).await, Err(ServiceError::OnDemand(_))));
    assert_eq!(service.move_on(&name, Schedule::Rotating, &by()).await.unwrap(), None);
    let first = service.claim(&claim).await.unwrap();
    assert!(world.logs_in(&first.connection_string).await && world.logs_in(&former).await);
    world.clock.advance(2 * HOUR);
    service.rotate(false).await.unwrap();
    let second = service.claim(&claim).await.unwrap();
    assert_ne!(first.connection_string, second.connection_string);
    all_tasks(&world).await;
    assert!(world.logs_in(&second.connection_string).await && world.logs_in(&former).await);
    assert!(service.retire(&name, &by()).await.unwrap() && !world.logs_in(&former).await);
    assert!(world.logs_in(&second.connection_string).await);
}

async fn a_retired_user_that_somebody_made_into_another_is_left_alone(world: World) {
    let joe = account_name(&world, "joe");
    guarded_user(&world, &joe).await;
    adopt(&world, &[&joe]).await;
    let service = world.service();
    service.move_on(&joe, Schedule::OnDemand, &by()).await.unwrap();
    world.make_user(joe.as_str(), "management").await;
    let error = service.retire(&joe, &by()).await.unwrap_err();
    assert!(matches!(error, ServiceError::Changed { .. }), "{error}");
    let outcome = sweep(&world).await;
    assert_eq!(outcome.failed, 1, "it is told each time");
    assert!(users_at_broker(&world).await.contains_key(joe.as_str()));
}

#[tokio::test]
async fn a_user_is_retired_as_soon_as_the_broker_is_back() {
    let world = fake_world().await;
    let joe = account_name(&world, "joe");
    let former = guarded_user(&world, &joe).await;
    adopt(&world, &[&joe]).await;
    let service = world.service();
    service.move_on(&joe, Schedule::OnDemand, &by()).await.unwrap();
    world.fake().fault(Fault::new(Failure::Status(503)));
    assert!(!service.retire(&joe, &by()).await.unwrap());
    world.fake().heal();
    assert!(world.logs_in(&former).await);
    sweep(&world).await;
    assert!(!world.logs_in(&former).await && service.account(&joe).await.unwrap().adopted().is_none());
}

#[tokio::test]
async fn new_credentials_that_could_not_be_put_in_force_take_nothing_from_those_before() {
    let world = fake_world().await;
    let (service, first) = (world.service(), create(&world, "joe").await);
    world.fake().fault(Fault::new(Failure::Status(503)));
    let error = service.new_credentials(&first.name, false, &by()).await.unwrap_err();
    assert!(matches!(error, ServiceError::Broker(_)), "{error}");
    world.fake().heal();
    let error = service.new_credentials(&first.name, false, &by()).await.unwrap_err();
    assert!(matches!(error, ServiceError::Underway(_)), "that call may be under way yet: {error}");
    world.clock.advance(MINUTE);
    service.rotate(false).await.unwrap();
    let stored = world.store.namespace(&first.name).await.unwrap().unwrap();
    assert_eq!(stored.rotation.pending, None);
    assert!(world.logs_in(&first.connection_string).await);
    let second = service.new_credentials(&first.name, false, &by()).await.unwrap();
    assert!(world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
}

#[tokio::test]
async fn an_account_whose_making_was_cut_off_is_made_to_its_end() {
    let world = fake_world().await;
    let (service, owners) = (world.service(), [owner("joe@example.com")]);
    world.fake().fault(Fault::new(Failure::Status(503)));
    service.create_account("joe", &owners, &by()).await.unwrap_err();
    world.fake().heal();
    world.clock.advance(MINUTE);
    let other = service.create_account("joe", &[owner("jim@example.com")], &by()).await.unwrap_err();
    assert!(matches!(other, ServiceError::Exists(_)), "{other}");
    let made = service.create_account("joe", &owners, &by()).await.unwrap();
    assert!(world.logs_in(&made.connection_string).await);
    assert_eq!(trail(&world).await, ["make-account"]);
}

#[tokio::test]
async fn credentials_stay_good_when_the_key_of_the_database_is_lost() {
    let world = fake_world().await;
    let first = create(&world, "joe").await;
    let second = world.service().new_credentials(&first.name, false, &by()).await.unwrap();
    let world = world.with_other_keys().await;
    assert_eq!(world.store.namespaces(Select::Sealed).await.unwrap().len(), 1);
    let service = world.service();
    service.replace_lost(false, false).await.unwrap();
    assert_eq!(world.store.namespaces(Select::Sealed).await.unwrap(), []);
    sweep(&world).await;
    assert!(world.logs_in(&first.connection_string).await && world.logs_in(&second.connection_string).await);
    let third = service.new_credentials(&first.name, false, &by()).await.unwrap();
    assert!(world.logs_in(&second.connection_string).await && world.logs_in(&third.connection_string).await);
}

#[tokio::test]
async fn an_adopted_user_that_hoards_is_closed_and_never_written_to() {
    let world = fake_world().await;
    let joe = account_name(&world, "joe");
    guarded_user(&world, &joe).await;
    adopt(&world, &[&joe]).await;
    let before = users_at_broker(&world).await;
    let queue = format!("queue/{joe}/x");
    let mut closings = 0;
    for _ in 0..90 {
        hoard(&world, joe.as_str(), &queue);
        watch(&world, 1).await;
        closings += usize::from(!world.fake().state().connections.contains_key("hoarder"));
        assert!(world.fake().state().connections.contains_key("polite"));
    }
    assert!((4..10).contains(&closings), "with growing pauses: {closings}");
    assert!(world.fake().state().user_limits.is_empty());
    assert_eq!(users_at_broker(&world).await, before);
}
