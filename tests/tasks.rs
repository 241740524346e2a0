//! The scheduled tasks, as stories on every store and broker.

mod accounts;
mod adoption;
mod cost;
mod guard;
mod limits;
mod mails;
mod others;
mod owners;
mod queues;
mod unknown;
mod verdicts;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::fake_broker::{Connection, Failure, Fault, Queue};
use crate::support::line::{Cut, Line};
use crate::support::world::{ALERT, BrokerKind, DELETE, HOUR, Mailbox, ManualClock, Side, StoreKind, World};
use async_trait::async_trait;
use futures::future::join_all;
use taskcluster_pulse::broker::BrokerError;
use taskcluster_pulse::broker::management::{ManagementApi, ManagementConfig};
use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::inventory::{BrokerQueue, Inventory, QueueKind};
use taskcluster_pulse::domain::ladder::{Mail, Stage};
use taskcluster_pulse::domain::name::{Permissions, Slot};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::domain::pace::Pace;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::snapshot::Snapshot;
use taskcluster_pulse::domain::sweep::{SweepPolicy, plan_sweep};
use taskcluster_pulse::notify::{Notifier, NotifyError};
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Outcome, ServiceError};
use taskcluster_pulse::store::{Change, Record, Select, Write};

crate::on_every_world! {
    a_growing_queue_is_warned_of_reminded_of_and_calm_again,
    a_queue_above_the_delete_threshold_is_deleted_and_its_owner_told,
    queues_of_others_and_streams_are_left_alone,
    nobody_is_told_where_there_is_no_contact,
    a_broker_that_lost_everything_is_rebuilt_with_the_passwords_that_clients_hold,
    users_that_somebody_changed_are_put_right,
    an_expired_namespace_leaves_nothing_behind,
    a_claim_revives_an_expired_namespace,
    an_owner_is_warned_before_a_namespace_with_messages_expires,
    an_empty_store_removes_nothing,
    what_belongs_to_namespaces_whose_key_is_lost_is_left_alone,
    a_run_that_would_remove_too_much_removes_nothing,
    a_client_of_whose_namespaces_too_many_would_end_stops_nobody_else,
    what_its_clients_asked_to_end_ends_however_much_it_is,
    what_needs_no_decision_is_done_bit_by_bit_and_wedges_nothing,
    a_dry_run_changes_nothing,
    sweeps_at_once_do_the_work_once,
}

const MINUTE: Duration = Duration::from_secs(60);

/// What a run came to; `None` where RabbitMQ 3.10 can't list users for a moment, because another test removes some.
fn steady(ran: Result<Outcome, ServiceError>) -> Option<Outcome> {
    match ran {
        Err(ServiceError::Broker(BrokerError::Unavailable(why))) if why.ends_with("GET users: 500") => None,
        ran => Some(ran.unwrap()),
    }
}

async fn sweep_as(world: &World, policy: &SweepPolicy) -> Outcome {
    loop {
        if let Some(outcome) = steady(world.service().sweep(policy, false).await) {
            return outcome;
        }
    }
}

async fn sweep(world: &World) -> Outcome {
    sweep_as(world, &world.sweep_policy()).await
}

async fn expire(world: &World) -> Outcome {
    loop {
        if let Some(outcome) = steady(world.service().expire(&world.expiry_policy(), false).await) {
            return outcome;
        }
    }
}

/// What is told from now on, delivered.
async fn told(world: &World) -> Vec<String> {
    let mailbox = Mailbox::default();
    let outcome = world.service().deliver(&mailbox, false).await.unwrap();
    assert_eq!(outcome.failed, 0);
    mailbox.subjects()
}

/// Sweeps every two minutes, so often, and delivers; what is told.
async fn watch(world: &World, sweeps: u32) -> Vec<String> {
    watch_as(world, &world.sweep_policy(), sweeps).await
}

async fn watch_as(world: &World, policy: &SweepPolicy, sweeps: u32) -> Vec<String> {
    let mut subjects = Vec::new();
    for _ in 0..sweeps {
        world.clock.advance(2 * MINUTE);
        sweep_as(world, policy).await;
        subjects.extend(told(world).await);
    }
    subjects
}

/// Sweeps every two minutes, so often, and delivers nothing.
async fn look_on(world: &World, sweeps: u32) {
    for _ in 0..sweeps {
        world.clock.advance(2 * MINUTE);
        sweep(world).await;
    }
}

/// Lets so much time pass that each queue which is above the limit now, and stays there, may be removed: its owner was told, and
/// the grace time is over. Nothing is removed yet.
async fn ripen(world: &World) -> Vec<String> {
    let nothing = Brakes { most: 0, percent: 0, owner_percent: 0 };
    watch_as(world, &SweepPolicy { brakes: nothing, ..world.sweep_policy() }, 13).await
}

/// Waits until RabbitMQ has statistics of a queue, so that all looks at it show the same.
async fn shown(world: &World, queue: &str) {
    if let Side::Real(_) = world.side {
        for _ in 0..300 {
            if world.broker.queue_detail(queue).await.unwrap().is_some_and(|detail| detail.consumers.is_some()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("there are no statistics of {queue}");
    }
}

async fn a_growing_queue_is_warned_of_reminded_of_and_calm_again(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let queue = "queue/taskcluster-a/x";
    world.fill(queue, QueueKind::Classic, 0).await;
    assert!(watch(&world, 5).await.is_empty());
    assert!(world.store.histories().await.unwrap().is_empty(), "a queue that stays empty costs nothing");

    world.fill(queue, QueueKind::Classic, ALERT + 1).await;
    shown(&world, queue).await;
    let subjects = watch(&world, 5).await;
    assert!(subjects.len() == 1 && subjects[0].contains(queue) && subjects[0].contains("11"), "{subjects:?}");
    let known = world.store.watches().await.unwrap().remove(0);
    assert!(matches!(known.watch.told.unwrap().mail, Mail::Accepted(_)) && known.watch.warned.is_some(), "{known:?}");

    assert!(watch(&world, 20).await.is_empty(), "once is enough");
    world.clock.advance(24 * HOUR);
    let subjects = watch(&world, 5).await;
    assert!(subjects.len() == 1 && subjects[0].contains("still"), "a reminder a day: {subjects:?}");

    world.purge(queue).await;
    let subjects = watch(&world, 40).await;
    assert!(subjects.len() == 1 && subjects[0].contains("is back to 0 messages"), "{subjects:?}");
    assert_eq!(world.queues().await, [queue]);
    world.clock.advance(25 * HOUR);
    watch(&world, 17).await;
    assert!(world.store.watches().await.unwrap().is_empty());
    assert!(world.store.histories().await.unwrap().is_empty());
}

async fn a_queue_above_the_delete_threshold_is_deleted_and_its_owner_told(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/big", QueueKind::Classic, DELETE + 1).await;
    world.fill("queue/taskcluster-a/quorum", QueueKind::Quorum, DELETE + 5).await;
    world.fill("queue/taskcluster-a/just", QueueKind::Classic, DELETE).await;
    // A quorum queue's total may be some seconds old.
    for _ in 0..100 {
        if world.broker.queue("queue/taskcluster-a/quorum").await.unwrap().unwrap().messages == Some(DELETE + 5) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for queue in ["big", "quorum", "just"] {
        shown(&world, &format!("queue/taskcluster-a/{queue}")).await;
    }
    let warnings = watch(&world, 9).await;
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    for queue in ["big", "quorum", "just"] {
        assert!(warnings.iter().any(|subject| subject.contains(&format!("queue/taskcluster-a/{queue}"))), "{queue}");
    }
    assert_eq!(world.queues().await.len(), 3, "the grace time is not over");
    let subjects = watch(&world, 6).await;
    assert_eq!(world.queues().await, ["queue/taskcluster-a/just"]);
    assert!(subjects.len() == 2 && subjects.iter().all(|subject| subject.contains("was deleted")), "{subjects:?}");
    assert!(watch(&world, 3).await.is_empty());
    let histories = world.store.histories().await.unwrap();
    assert_eq!(histories.keys().collect::<Vec<_>>(), ["queue/taskcluster-a/just"]);
}

async fn queues_of_others_and_streams_are_left_alone(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let mut all = [
        "queue/other/x",
        "somebody's queue",
        "queue/taskcluster-unknown/x",
        "exchange/taskcluster-a/x",
        "queue/taskcluster-a",
    ];
    for queue in all {
        world.fill(queue, QueueKind::Classic, DELETE + 1).await;
    }
    world.fill("queue/taskcluster-a/stream", QueueKind::Stream, DELETE + 1).await;
    for _ in 0..20 {
        world.clock.advance(2 * MINUTE);
        let outcome = sweep(&world).await;
        assert_eq!((outcome.changed, outcome.failed), (0, 0));
        assert!(outcome.reports.iter().any(|report| report.contains("taskcluster-unknown")), "{:?}", outcome.reports);
        assert_eq!(expire(&world).await.changed, 0);
    }
    assert!(told(&world).await.is_empty());
    let mut left = world.queues().await;
    left.retain(|queue| queue != "queue/taskcluster-a/stream");
    all.sort_unstable();
    assert_eq!(left, all);
}

async fn nobody_is_told_where_there_is_no_contact(world: World) {
    world.claim("taskcluster-a").await.unwrap();
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, ALERT + 1).await;
    world.fill("queue/taskcluster-a/y", QueueKind::Classic, DELETE + 1).await;
    assert!(watch(&world, 9).await.is_empty());
    assert_eq!(world.queues().await.len(), 2, "it stood recorded for less than the grace time");
    assert!(watch(&world, 6).await.is_empty());
    assert_eq!(world.queues().await, ["queue/taskcluster-a/x"]);
}

async fn a_broker_that_lost_everything_is_rebuilt_with_the_passwords_that_clients_hold(world: World) {
    let old = world.claim("taskcluster-a").await.unwrap().connection_string;
    world.clock.advance(HOUR);
    world.service().rotate(false).await.unwrap();
    let new = world.claim("taskcluster-a").await.unwrap().connection_string;
    let first = world.claim("taskcluster-b").await.unwrap().connection_string;
    match &world.side {
        Side::Fake(fake) => fake.restart_empty(),
        Side::Real(_) => {
            for user in world.users().await {
                world.broker.delete_user(&user).await.unwrap();
            }
        }
    }
    assert!(!world.logs_in(&new).await);
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (4, 0));
    for string in [&old, &new, &first] {
        assert!(world.logs_in(string).await);
    }
    assert_eq!(sweep(&world).await.changed, 0);
}

async fn users_that_somebody_changed_are_put_right(world: World) {
    let string = world.claim("taskcluster-a").await.unwrap().connection_string;
    let name = world.name("taskcluster-a");
    let [active, standby] = Slot::BOTH.map(|slot| world.policy.names.user(&name, slot));
    let stolen = Password::random();
    // With a tag more than ours, which somebody may have given it.
    let tags = format!("{},monitoring", world.store.tag().await.unwrap().as_str());
    world.broker.put_user(&active, &stolen.hash(), &tags).await.unwrap();
    world.broker.put_user(&standby, &stolen.hash(), &tags).await.unwrap();
    let everything = Permissions { configure: ".*".into(), write: ".*".into(), read: ".*".into() };
    world.broker.put_permissions(&active, &everything).await.unwrap();
    world.broker.put_permissions(&standby, &everything).await.unwrap();
    assert_eq!(sweep(&world).await.changed, 2);
    assert!(world.logs_in(&string).await);
    let users = world.broker.users().await.unwrap();
    assert!(users.iter().find(|user| user.name == standby).unwrap().hash.is_blocked());
    let granted = world.broker.permissions().await.unwrap();
    for user in [&active, &standby] {
        let found = granted.iter().find(|granted| granted.user == *user).unwrap();
        assert_eq!(found.permissions, world.policy.names.permissions(&name));
    }
    world.broker.put_permissions(&active, &everything).await.unwrap();
    assert_eq!(sweep(&world).await.changed, 1);
    assert_eq!(sweep(&world).await.changed, 0);
}

async fn an_expired_namespace_leaves_nothing_behind(world: World) {
    world.claim_for("taskcluster-gone", "a@a.com", HOUR).await;
    world.claim_for("taskcluster-too", "", Duration::ZERO).await;
    world.claim_for("taskcluster-stays", "a@a.com", 100 * HOUR).await;
    for (queue, messages) in
        [("queue/taskcluster-gone/a", 3), ("queue/taskcluster-gone/b", 0), ("queue/taskcluster-stays/a", 1)]
    {
        world.fill(queue, QueueKind::Classic, messages).await;
    }
    world.declare_exchange("exchange/taskcluster-gone/x").await;
    world.declare_exchange("exchange/taskcluster-stays/x").await;
    world.clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(expire(&world).await.changed, 1, "only the warning: the delay is not over for any");

    world.clock.advance(2 * HOUR);
    let outcome = expire(&world).await;
    assert_eq!(outcome.failed, 0);
    assert_eq!(world.queues().await, ["queue/taskcluster-stays/a"]);
    let exchanges = world.broker.exchanges().await.unwrap();
    let ours: Vec<_> = exchanges.iter().filter(|exchange| exchange.starts_with("exchange/")).collect();
    assert_eq!(ours, ["exchange/taskcluster-stays/x"]);
    assert_eq!(world.users().await.len(), 2);
    world.clock.advance(world.policy.settle_budget);
    assert_eq!(expire(&world).await.changed, 2, "the tombstones go once nobody can act on what was before");
    let left = world.store.namespaces(taskcluster_pulse::store::Select::All).await.unwrap();
    assert_eq!(left.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["taskcluster-stays"]);
    assert_eq!(expire(&world).await.changed, 0);
}

async fn a_claim_revives_an_expired_namespace(world: World) {
    let before = world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 1).await;
    world.clock.advance(2 * HOUR);
    expire(&world).await;
    assert!(!world.logs_in(&before.connection_string).await);
    let after = world.claim("taskcluster-a").await.unwrap();
    assert_ne!(after.connection_string, before.connection_string);
    assert!(world.logs_in(&after.connection_string).await);
    assert_eq!(expire(&world).await.changed, 0);
    assert!(world.logs_in(&after.connection_string).await);
}

async fn an_owner_is_warned_before_a_namespace_with_messages_expires(world: World) {
    world.claim_for("taskcluster-full", "a@a.com", 3 * HOUR).await;
    world.claim_for("taskcluster-empty", "b@b.com", 3 * HOUR).await;
    world.fill("queue/taskcluster-full/x", QueueKind::Classic, 5).await;
    world.fill("queue/taskcluster-empty/x", QueueKind::Classic, 0).await;
    expire(&world).await;
    assert!(told(&world).await.is_empty(), "it is too early");
    world.clock.advance(2 * HOUR);
    assert_eq!(expire(&world).await.changed, 1);
    assert_eq!(expire(&world).await.changed, 0, "once is enough");
    let subjects = told(&world).await;
    assert!(subjects.len() == 1 && subjects[0].contains("taskcluster-full"), "{subjects:?}");
    world.clock.advance(2 * HOUR);
    expire(&world).await;
    let subjects = told(&world).await;
    assert!(subjects.len() == 1 && subjects[0].contains("taskcluster-full"), "told of the end too: {subjects:?}");
}

async fn an_empty_store_removes_nothing(world: World) {
    let string = world.claim("taskcluster-a").await.unwrap().connection_string;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    world.declare_exchange("exchange/taskcluster-a/x").await;
    let world = world.with_empty_store().await;
    world.clock.advance(1000 * HOUR);
    let orphans_too = ExpiryPolicy { orphans_after: Some(Duration::ZERO), ..world.expiry_policy() };
    for _ in 0..3 {
        assert_eq!(sweep(&world).await.changed, 0);
        let outcome = world.service().expire(&orphans_too, false).await.unwrap();
        assert_eq!((outcome.changed, outcome.failed), (0, 0));
        assert!(
            outcome.reports.iter().any(|report| report.contains("is it the right store?")),
            "{:?}",
            outcome.reports
        );
    }
    assert!(world.logs_in(&string).await);
    assert_eq!(world.queues().await, ["queue/taskcluster-a/x"]);
}

#[tokio::test]
async fn a_rebuild_that_takes_longer_than_what_was_seen_may_be_trusted_goes_on_in_the_same_run() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let mut strings = Vec::new();
    for n in 0..30 {
        strings.push(world.claim(&format!("taskcluster-{n}")).await.unwrap().connection_string);
    }
    world.fake().restart_empty();
    // A look may be trusted for two seconds, in which no more than forty of the sixty users can be made.
    world.policy.settle_budget = Duration::from_secs(4);
    world.fake().fault(Fault::new(Failure::Slow(Duration::from_millis(400))).on("PUT", "users"));
    for name in ["old", "older"] {
        let connection = Connection { user: "taskcluster-0-1".into(), connected_at: 0, listed: true };
        world.fake().state().connections.insert(name.into(), connection);
    }
    let careful = SweepPolicy { brakes: Brakes { most: 1, percent: 0, owner_percent: 50 }, ..world.sweep_policy() };
    let outcome = world.service().sweep(&careful, false).await.unwrap();
    assert_eq!((outcome.failed, outcome.changed, outcome.reports.len()), (0, 61, 1), "{outcome:?}");
    assert_eq!(world.fake().state().closed.len(), 1, "however often it looks, one run removes no more than it may");
    for string in strings {
        assert!(world.logs_in(&string).await);
    }
}

async fn what_belongs_to_namespaces_whose_key_is_lost_is_left_alone(world: World) {
    let sealed = world.claim("taskcluster-sealed").await.unwrap().connection_string;
    world.fill("queue/taskcluster-sealed/x", QueueKind::Classic, DELETE + 1).await;
    let world = world.with_other_keys().await;
    let other = world.claim("taskcluster-b").await.unwrap().connection_string;
    let orphans_too = ExpiryPolicy {
        orphans_after: Some(Duration::ZERO),
        brakes: Brakes { most: 1, percent: 0, owner_percent: 50 },
        ..world.expiry_policy()
    };
    world.clock.advance(1000 * HOUR);
    for _ in 0..4 {
        let swept = sweep(&world).await;
        let outcome = world.service().expire(&orphans_too, false).await.unwrap();
        assert_eq!((outcome.failed, outcome.refused), (0, 0), "{outcome:?}");
        for reports in [swept.reports, outcome.reports] {
            let told = "1 namespaces can't be opened with the key ring, taskcluster-sealed first";
            assert!(reports.iter().any(|report| report.starts_with(told)), "{reports:?}");
            assert!(!reports.iter().any(|report| report.contains("not in the store")), "{reports:?}");
        }
    }
    assert!(world.logs_in(&sealed).await && !world.logs_in(&other).await);
    assert_eq!(world.queues().await, ["queue/taskcluster-sealed/x"]);
}

async fn a_run_that_would_remove_too_much_removes_nothing(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    for queue in ["x", "y", "z"] {
        world.fill(&format!("queue/taskcluster-a/{queue}"), QueueKind::Classic, DELETE + 1).await;
    }
    // That nobody reads them may show only later, and is told then, too.
    assert!(ripen(&world).await.len() >= 3);
    let careful = SweepPolicy { brakes: Brakes { most: 2, percent: 25, owner_percent: 50 }, ..world.sweep_policy() };
    let planned = world.service().sweep(&careful, true).await.unwrap().plan.unwrap();
    let shown = planned.iter().filter(|step| step.action == "delete queue").count();
    assert_eq!(shown, 3, "a dry run shows what is refused");
    let outcome = world.service().sweep(&careful, false).await.unwrap();
    assert_eq!((outcome.refused, outcome.failed), (3, 0));
    assert!(outcome.held.unwrap().contains("MONITOR_MAX_REMOVALS"));
    assert_eq!(world.queues().await.len(), 3);
    world.clock.advance(2000 * HOUR);
    let careful = ExpiryPolicy { brakes: Brakes { most: 0, percent: 25, owner_percent: 50 }, ..world.expiry_policy() };
    let outcome = world.service().expire(&careful, false).await.unwrap();
    assert_eq!((outcome.refused, outcome.changed), (1, 0));
    assert!(world.store.namespace(&world.name("taskcluster-a")).await.unwrap().unwrap().gone.is_none());

    ripen(&world).await;
    assert_eq!(sweep(&world).await.changed, 3);
    assert!(world.queues().await.is_empty());
}

async fn a_client_of_whose_namespaces_too_many_would_end_stops_nobody_else(world: World) {
    let soon = Some(world.clock.now().plus(HOUR));
    for number in 0..25 {
        world.claim_by(Some("greedy"), &format!("taskcluster-greedy-{number}"), soon).await.unwrap();
    }
    world.claim_by(Some("modest"), "taskcluster-modest", soon).await.unwrap();
    world.claim_by(None, "taskcluster-unknown", soon).await.unwrap();
    world.claim_by(Some("asking"), "taskcluster-asking", Some(world.clock.now().minus(HOUR))).await.unwrap();
    world.clock.advance(3 * HOUR);
    let policy = world.expiry_policy();
    let planned = world.service().expire(&policy, true).await.unwrap();
    let withheld: Vec<_> = planned.plan.iter().flatten().filter(|step| step.reason.contains("withheld")).collect();
    assert_eq!((withheld.len(), planned.refused), (25, 25));
    assert!(withheld.iter().all(|step| step.reason.contains("client greedy")), "{withheld:?}");
    for _ in 0..2 {
        let outcome = world.service().expire(&policy, false).await.unwrap();
        assert_eq!((outcome.refused, outcome.failed), (25, 0));
        let held = outcome.held.clone().unwrap();
        assert!(held.contains("client greedy") && held.contains("MONITOR_MAX_OWNER_SHARE"), "{held}");
        let json = outcome.to_json();
        assert_eq!(
            (&json["withheld"][0]["owner"], &json["withheld"][0]["refused"]),
            (&"client greedy".into(), &25.into())
        );
        assert_eq!(json["withheld"][0]["plan"].as_array().map(Vec::len), Some(25));
    }
    let users = world.users().await;
    assert!(users.len() == 50 && users.iter().all(|user| user.contains("taskcluster-greedy")), "{users:?}");

    let generous = Brakes { owner_percent: 100, percent: 100, ..policy.brakes };
    let outcome = world.service().expire(&ExpiryPolicy { brakes: generous, ..policy }, false).await.unwrap();
    assert_eq!((outcome.refused, outcome.withheld.len()), (0, 0));
    for _ in 0..10 {
        expire(&world).await;
    }
    assert!(world.users().await.is_empty());
}

async fn what_its_clients_asked_to_end_ends_however_much_it_is(world: World) {
    let later = world.clock.now().plus(100 * HOUR);
    for number in 0..30 {
        world.claim_by(Some("a"), &format!("taskcluster-a-{number}"), Some(later)).await.unwrap();
    }
    world.claim_by(Some("b"), "taskcluster-b", Some(later)).await.unwrap();
    let soon = world.clock.now().plus(HOUR / 4);
    for number in 0..30 {
        let end = if number % 2 == 0 { world.clock.now().minus(50 * HOUR) } else { soon };
        world.claim_by(Some("a"), &format!("taskcluster-a-{number}"), Some(end)).await.unwrap();
    }
    world.clock.advance(2 * HOUR);
    let careful = ExpiryPolicy { brakes: Brakes { most: 10, percent: 25, owner_percent: 50 }, ..world.expiry_policy() };
    let mut left = 62;
    for _ in 0..20 {
        let outcome = world.service().expire(&careful, false).await.unwrap();
        assert_eq!((outcome.refused, outcome.failed), (0, 0));
        let now_left = world.users().await.len();
        assert!(left - now_left <= 10, "{left} users, then {now_left}");
        left = now_left;
    }
    let users = world.users().await;
    assert!(users.len() == 2 && users.iter().all(|user| user.contains("taskcluster-b-")), "{users:?}");
}

async fn what_needs_no_decision_is_done_bit_by_bit_and_wedges_nothing(world: World) {
    world.claim_for("taskcluster-large", "", Duration::ZERO).await;
    world.claim_for("taskcluster-small", "", Duration::ZERO).await;
    for queue in 0..8 {
        world.fill(&format!("queue/taskcluster-large/{queue}"), QueueKind::Classic, 0).await;
    }
    world.clock.advance(2 * HOUR);
    let careful = ExpiryPolicy { brakes: Brakes { most: 4, percent: 25, owner_percent: 50 }, ..world.expiry_policy() };
    let mut left = 12;
    // Four runs do it, but for what a busy broker does not get done in time.
    for _ in 0..20 {
        assert_eq!(world.service().expire(&careful, false).await.unwrap().refused, 0);
        let now_left = world.users().await.len() + world.queues().await.len();
        assert!(now_left <= left && left - now_left <= 4, "{left} things, then {now_left}");
        left = now_left;
    }
    assert_eq!(left, 0);
}

async fn a_dry_run_changes_nothing(world: World) {
    let string = world.claim_for("taskcluster-a", "a@a.com", HOUR).await.connection_string;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    shown(&world, "queue/taskcluster-a/x").await;
    ripen(&world).await;
    let watches = world.store.watches().await.unwrap();
    let histories = world.store.histories().await.unwrap();
    world.broker.delete_user(&world.policy.names.user(&world.name("taskcluster-a"), Slot::Two)).await.unwrap();
    let before = world.store.namespace(&world.name("taskcluster-a")).await.unwrap();
    let swept = world.service().sweep(&world.sweep_policy(), true).await.unwrap();
    let plan = swept.plan.unwrap();
    let actions: Vec<_> = plan.iter().map(|step| step.action).collect();
    assert_eq!(actions, ["repair user", "delete queue"]);
    assert!(plan.iter().all(|step| !step.reason.is_empty()));
    assert_eq!(swept.verdicts.len(), 1);
    // Without statistics, its consumers are not known.
    assert!(["stopped", "no consumer"].contains(&swept.verdicts[0].state), "{:?}", swept.verdicts);
    world.clock.advance(3 * HOUR);
    let expired = world.service().expire(&world.expiry_policy(), true).await.unwrap();
    assert_eq!(expired.plan.unwrap()[0].action, "expire namespace");
    assert_eq!(world.service().rotate(true).await.unwrap().plan.unwrap().len(), 1);
    assert_eq!((swept.changed, expired.changed), (0, 0));
    assert_eq!(world.store.namespace(&world.name("taskcluster-a")).await.unwrap(), before);
    assert_eq!(world.store.watches().await.unwrap(), watches);
    assert_eq!(world.store.histories().await.unwrap(), histories);
    assert_eq!((world.queues().await.len(), world.users().await.len()), (1, 1));
    assert!(told(&world).await.is_empty());
    assert!(world.logs_in(&string).await);
}

async fn sweeps_at_once_do_the_work_once(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", HOUR).await;
    world.claim_for("taskcluster-b", "b@b.com", HOUR).await;
    for queue in ["queue/taskcluster-a/x", "queue/taskcluster-b/x"] {
        world.fill(queue, QueueKind::Classic, DELETE + 1).await;
    }
    ripen(&world).await;
    let services: Vec<_> = (0..4).map(|_| world.service()).collect();
    let policy = world.sweep_policy();
    let swept = join_all(services.iter().map(|service| service.sweep(&policy, false))).await;
    let (changed, failed) =
        swept.into_iter().map(Result::unwrap).fold((0, 0), |(c, f), outcome| (c + outcome.changed, f + outcome.failed));
    assert_eq!((changed, failed), (2, 0));
    assert_eq!(told(&world).await.len(), 2);
    world.clock.advance(3 * HOUR);
    let policy = world.expiry_policy();
    let expired = join_all(services.iter().map(|service| service.expire(&policy, false))).await;
    assert!(expired.into_iter().all(|outcome| outcome.unwrap().failed == 0));
    assert!(world.users().await.is_empty());
}

async fn fake_world() -> World {
    World::new(StoreKind::Sqlite, BrokerKind::Fake).await
}

#[tokio::test]
async fn an_exclusive_queue_goes_with_the_connection_that_owns_it() {
    let world = fake_world().await;
    let string = world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await.connection_string;
    let password = url::Url::parse(&string).unwrap().password().unwrap().to_owned();
    let now = world.clock.now().millis();
    let connection = world.fake().connect("taskcluster-a-1", &password, now).unwrap();
    let queue = Queue { owner: Some(connection.clone()), ..Queue::classic(DELETE + 1) };
    world.fake().state().queues.insert("queue/taskcluster-a/mine".into(), queue);
    ripen(&world).await;
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (1, 0));
    assert!(world.queues().await.is_empty());
    assert_eq!(world.fake().state().closed[0].0, connection);
    assert_eq!(told(&world).await.len(), 1);
}

#[tokio::test]
async fn a_client_that_is_back_with_a_new_queue_at_once_does_not_make_the_deletion_of_the_old_one_fail() {
    const QUEUE: &str = "queue/taskcluster-a/mine";
    let world = Arc::new(fake_world().await);
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let connected_at = world.clock.now().millis();
    let declare = |connection: &str, messages| {
        let of_user = Connection { user: "taskcluster-a-1".into(), connected_at, listed: true };
        world.fake().state().connections.insert(connection.to_owned(), of_user);
        let queue = Queue { owner: Some(connection.to_owned()), ..Queue::classic(messages) };
        world.fake().state().queues.insert(QUEUE.to_owned(), queue);
    };
    for (round, (messages, words)) in [(1, "was deleted"), (DELETE + 1, "could not be deleted")].into_iter().enumerate()
    {
        declare("old", DELETE + 1);
        ripen(&world).await;
        world.fake().fault(Fault::new(Failure::Hang).on("DELETE", "/connections/").times(1).after_doing());
        let sweeping = tokio::spawn({
            let world = world.clone();
            async move { sweep(&world).await }
        });
        world.fake().received("DELETE", "/api/connections/old", round + 1).await;
        assert!(!world.fake().state().queues.contains_key(QUEUE));
        declare("new", messages);
        world.fake().release();
        assert_eq!(sweeping.await.unwrap().failed, round);
        let subjects = told(&world).await;
        assert!(subjects.len() == 1 && subjects[0].contains(words), "{subjects:?}");
    }
}

#[tokio::test]
async fn the_connection_of_somebody_else_is_not_closed_for_the_queue_that_it_owns() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    let connected_at = world.clock.now().millis();
    for (queue, user) in [
        ("queue/taskcluster-a/x", "somebody"),
        ("queue/taskcluster-a/y", "taskcluster-b-1"),
        ("queue/taskcluster-b/z", "taskcluster-a-1"),
    ] {
        let (user, connection) = (user.to_owned(), format!("of {user}"));
        let owned = Queue { owner: Some(connection.clone()), ..Queue::classic(DELETE + 1) };
        world.fake().state().queues.insert(queue.to_owned(), owned);
        world.fake().state().connections.insert(connection, Connection { user, connected_at, listed: true });
    }
    ripen(&world).await;
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (0, 3));
    assert!(world.fake().state().closed.is_empty());
    assert_eq!(told(&world).await.len(), 2, "that two can not be deleted");
    world.clock.advance(2 * HOUR);
    assert_eq!(expire(&world).await.failed, 1);
    let closed: Vec<_> = world.fake().state().closed.iter().map(|(connection, _)| connection.clone()).collect();
    assert_eq!(closed, ["of taskcluster-b-1"], "with its namespace");
    assert_eq!(world.queues().await, ["queue/taskcluster-a/x", "queue/taskcluster-b/z"]);
}

#[tokio::test]
async fn connections_of_gone_namespaces_and_old_ones_are_closed_with_a_reason() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 10_000 * HOUR).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    world.clock.advance(100 * HOUR);
    let hours_ago = |hours: u32| world.clock.now().minus(hours * HOUR).millis();
    let open = |name: &str, user: &str, connected_at| {
        let connection = Connection { user: user.into(), connected_at, listed: true };
        world.fake().state().connections.insert(name.into(), connection);
    };
    open("fine", "taskcluster-a-1", hours_ago(71));
    open("old", "taskcluster-a-1", hours_ago(73));
    open("foreign", "somebody", hours_ago(500));
    open("unknown", "taskcluster-unknown-1", hours_ago(500));
    open("gone", "taskcluster-b-1", hours_ago(1));
    assert_eq!(sweep(&world).await.changed, 1);
    assert_eq!(world.fake().state().closed[0].0, "old");
    assert!(world.fake().state().closed[0].1.contains("older than allowed"));
    expire(&world).await;
    let left: Vec<_> = world.fake().state().connections.keys().cloned().collect();
    assert_eq!(left, ["fine", "foreign", "unknown"]);
}

/// After a restart of the broker all connections are of one age, and become too old at once.
#[tokio::test]
async fn an_owner_who_claims_for_short_times_is_not_warned_each_time() {
    let world = fake_world().await;
    let claim = async || world.claim_for("taskcluster-a", "a@a.com", HOUR / 2).await;
    claim().await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 5).await;
    let mut warnings = 0;
    for _ in 0..12 {
        claim().await;
        expire(&world).await;
        warnings += told(&world).await.len();
        world.clock.advance(HOUR / 6);
    }
    assert_eq!(warnings, 2, "in two hours");
    world.clock.advance(2 * HOUR);
    expire(&world).await;
    let subjects = told(&world).await;
    assert!(subjects.len() == 1 && subjects[0].contains(" expired at "), "{subjects:?}");
}

#[tokio::test]
async fn many_old_connections_are_closed_bit_by_bit_and_hold_up_nothing_else() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 10_000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    for connection in 0..10 {
        let connected_at = world.clock.now().minus(80 * HOUR).millis() + connection;
        let connection_of = Connection { user: "taskcluster-a-1".into(), connected_at, listed: true };
        world.fake().state().connections.insert(connection.to_string(), connection_of);
    }
    let careful = SweepPolicy { brakes: Brakes { most: 4, percent: 25, owner_percent: 50 }, ..world.sweep_policy() };
    let outcome = world.service().sweep(&careful, false).await.unwrap();
    assert_eq!((outcome.changed, outcome.refused), (4, 0));
    assert!(world.queues().await.is_empty());
    let left: Vec<_> = world.fake().state().connections.keys().cloned().collect();
    assert_eq!(left, ["3", "4", "5", "6", "7", "8", "9"], "the oldest go first");
    assert!(outcome.reports.iter().any(|report| report.starts_with("7 connections")), "{:?}", outcome.reports);
    for changed in [4, 3, 0] {
        assert_eq!(world.service().sweep(&careful, false).await.unwrap().changed, changed);
    }
}

#[tokio::test]
async fn one_namespace_with_many_large_queues_keeps_no_other_from_being_looked_after() {
    let world = fake_world().await;
    for (client, name) in [("a", "taskcluster-a"), ("a", "taskcluster-aa"), ("b", "taskcluster-b")] {
        let end = world.clock.now().plus(1000 * HOUR);
        world.claim_by(Some(client), name, Some(end)).await.unwrap();
        world.fill(&format!("queue/{name}/x"), QueueKind::Classic, DELETE + 1).await;
    }
    for queue in 0..60 {
        world.fill(&format!("queue/taskcluster-a/{queue}"), QueueKind::Classic, DELETE + 1).await;
    }
    ripen(&world).await;
    for _ in 0..2 {
        let outcome = sweep(&world).await;
        assert_eq!(outcome.refused, 62);
        assert!(outcome.held.unwrap().contains("62 things of client a"));
    }
    let queues = world.queues().await;
    assert!(queues.len() == 62 && !queues.contains(&"queue/taskcluster-b/x".to_owned()), "{queues:?}");
}

/// So many queues that can't be deleted may come together in the course of time.
#[tokio::test]
async fn queues_that_can_not_be_deleted_keep_no_other_from_being_deleted_and_stay_to_be_deleted() {
    let world = fake_world().await;
    let end = world.clock.now().plus(1000 * HOUR);
    world.claim_by(Some("a"), "taskcluster-a", Some(end)).await.unwrap();
    world.claim_by(Some("b"), "taskcluster-b", Some(end)).await.unwrap();
    world.fake().fault(Fault::new(Failure::Status(400)).on("DELETE", "/bad"));
    let fill = async |from: usize, to: usize| {
        for queue in from..to {
            world.fill(&format!("queue/taskcluster-a/bad-{queue}"), QueueKind::Classic, DELETE + 1).await;
        }
    };
    let bad = async || {
        let watches = world.store.watches().await.unwrap();
        watches.iter().filter(|watched| watched.decided && watched.watch.stage == Stage::Removing).count()
    };
    for n in 0..3 {
        fill(7 * n, 7 * (n + 1)).await;
        ripen(&world).await;
        let outcome = sweep(&world).await;
        assert_eq!((outcome.refused, outcome.changed), (0, 0));
    }
    assert_eq!(bad().await, 21);
    for n in 0..59 {
        world.fill(&format!("queue/taskcluster-a/small-{n}"), QueueKind::Classic, 0).await;
    }
    world.fill("queue/taskcluster-a/good", QueueKind::Classic, DELETE + 1).await;
    world.fill("queue/taskcluster-b/good", QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    let outcome = sweep(&world).await;
    assert_eq!((outcome.refused, outcome.changed), (0, 2), "{outcome:?}");

    // What was decided is not taken back, and goes on, where more would be decided than may be.
    for n in 0..30 {
        world.fill(&format!("queue/taskcluster-a/more-{n}"), QueueKind::Classic, DELETE + 1).await;
    }
    ripen(&world).await;
    let outcome = sweep(&world).await;
    assert_eq!((outcome.refused, outcome.changed, bad().await), (30, 0, 21));
    world.fake().heal();
    for _ in 0..3 {
        sweep(&world).await;
    }
    assert_eq!(bad().await, 0);
}

#[tokio::test]
async fn a_client_with_many_old_connections_keeps_no_other_from_having_its_own_closed() {
    let world = fake_world().await;
    let end = world.clock.now().plus(1000 * HOUR);
    world.claim_by(Some("a"), "taskcluster-a", Some(end)).await.unwrap();
    world.claim_by(Some("b"), "taskcluster-b", Some(end)).await.unwrap();
    let open = |name: String, user: &str, age: Duration| {
        let connected_at = world.clock.now().minus(age).millis();
        let connection = Connection { user: user.into(), connected_at, listed: true };
        world.fake().state().connections.insert(name, connection);
    };
    for number in 0..2000 {
        open(format!("a{number}"), "taskcluster-a-1", 500 * HOUR);
    }
    open("b".to_owned(), "taskcluster-b-1", 80 * HOUR);
    let careful = SweepPolicy { brakes: Brakes { most: 8, percent: 25, owner_percent: 50 }, ..world.sweep_policy() };
    let outcome = world.service().sweep(&careful, false).await.unwrap();
    assert_eq!((outcome.changed, outcome.refused), (8, 0));
    assert!(!world.fake().state().connections.contains_key("b"));
    assert!(outcome.reports.iter().any(|report| report.starts_with("1993 connections")), "{:?}", outcome.reports);
}

#[tokio::test]
async fn a_gone_namespace_with_many_queues_keeps_no_other_from_being_cleaned_up() {
    let world = fake_world().await;
    let past = Some(world.clock.now().minus(HOUR));
    for (client, name) in [(Some("a"), "taskcluster-a"), (Some("a"), "taskcluster-aa"), (Some("b"), "taskcluster-b")] {
        world.claim_by(client, name, past).await.unwrap();
        world.fill(&format!("queue/{name}/x"), QueueKind::Classic, 1).await;
    }
    for queue in 0..3000 {
        world.fake().state().queues.insert(
            format!("queue/taskcluster-a/{queue}"),
            Queue { kind: QueueKind::Classic, messages: 0, owner: None },
        );
    }
    world.clock.advance(2 * HOUR);
    let careful = ExpiryPolicy { brakes: Brakes { most: 20, percent: 25, owner_percent: 50 }, ..world.expiry_policy() };
    for _ in 0..3 {
        let outcome = world.service().expire(&careful, false).await.unwrap();
        assert_eq!((outcome.refused, outcome.failed), (0, 0));
    }
    let others = |name: &String| !name.contains("taskcluster-a/") && !name.contains("taskcluster-a-");
    let left: Vec<_> = world.queues().await.into_iter().chain(world.users().await).filter(others).collect();
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn orphans_that_are_too_many_keep_nothing_else_from_ending() {
    let world = fake_world().await;
    world.claim_for("taskcluster-live", "", 1000 * HOUR).await;
    world.claim_for("taskcluster-a", "", HOUR).await;
    for orphan in 0..60 {
        world.fill(&format!("queue/taskcluster-lost-{orphan}/x"), QueueKind::Classic, 1).await;
    }
    world.clock.advance(3 * HOUR);
    let policy = ExpiryPolicy { orphans_after: Some(HOUR), ..world.expiry_policy() };
    let outcome = world.service().expire(&policy, false).await.unwrap();
    assert_eq!(outcome.refused, 60);
    assert!(outcome.held.unwrap().contains("60 things of namespaces that are not in the store"));
    assert_eq!(world.users().await, ["taskcluster-live-1", "taskcluster-live-2"]);
    assert_eq!(world.queues().await.len(), 60);
}

#[tokio::test]
async fn many_large_streams_of_one_client_are_reported_once() {
    let world = fake_world().await;
    world.claim_by(Some("a"), "taskcluster-a", None).await.unwrap();
    for stream in 0..100 {
        world.fill(&format!("queue/taskcluster-a/{stream}"), QueueKind::Stream, DELETE + 1).await;
    }
    // RabbitMQ does not list how many messages are in a stream, as of now.
    let listed = world.broker.queues().await.unwrap().into_iter();
    let queues = listed.map(|queue| BrokerQueue { messages: Some(DELETE + 1), ..queue }).collect();
    let namespaces = world.store.namespaces(Select::All).await.unwrap();
    let seen = Snapshot { inventory: Inventory { queues, ..Inventory::default() }, namespaces, ..Snapshot::default() };
    let tag = world.store.tag().await.unwrap();
    let plan = plan_sweep(&seen, &tag, world.clock.now(), &world.sweep_policy());
    let [report] = plan.reports.as_slice() else { panic!("{:?}", plan.reports) };
    assert!(report.ends_with("; so do 99 more of client a"), "{report}");
}

#[tokio::test]
async fn a_total_that_is_unknown_is_neither_many_nor_few() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, ALERT + 1).await;
    assert_eq!(watch(&world, 5).await.len(), 1);
    let mut seen = taskcluster_pulse::domain::snapshot::Snapshot {
        namespaces: world.store.namespaces(taskcluster_pulse::store::Select::All).await.unwrap(),
        watches: world.store.watches().await.unwrap(),
        histories: world.store.histories().await.unwrap(),
        ..Default::default()
    };
    seen.inventory.queues = world.broker.queues().await.unwrap();
    seen.inventory.queues[0].messages = None;
    seen.inventory.users = world.broker.users().await.unwrap();
    seen.inventory.permissions = world.broker.permissions().await.unwrap();
    let policy = world.sweep_policy();
    let plan = taskcluster_pulse::domain::sweep::plan_sweep(
        &seen,
        &world.store.tag().await.unwrap(),
        world.clock.now(),
        &policy,
    );
    assert!(plan.actions.is_empty(), "{:?}", plan.actions);
}

/// A node that is starting answers with lists that are too short, or 404 to everything: nothing is gone for that.
#[tokio::test]
async fn what_a_starting_node_does_not_show_is_not_gone() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, ALERT + 1).await;
    assert_eq!(watch(&world, 5).await.len(), 1);
    for failure in [Failure::Booting, Failure::EmptyList] {
        world.fake().fault(Fault::new(failure).on("GET", "/api/"));
        assert!(world.service().sweep(&world.sweep_policy(), false).await.is_err());
        world.fake().heal();
    }
    world.fake().fault(Fault::new(Failure::EmptyList).on("GET", "/queues/").times(1));
    assert_eq!(sweep(&world).await.changed, 0);
    world.fake().heal();
    assert!(watch(&world, 5).await.is_empty(), "neither calm nor warned of again");
    assert_eq!(world.store.watches().await.unwrap().len(), 1);
}

#[tokio::test]
async fn one_bad_thing_does_not_stop_the_rest_and_is_tried_again() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    for queue in
        ["queue/taskcluster-a/bad", "queue/taskcluster-a/good", "queue/taskcluster-b/bad", "queue/taskcluster-b/good"]
    {
        world.fill(queue, QueueKind::Classic, DELETE + 1).await;
    }
    world.clock.advance(2 * HOUR);
    ripen(&world).await;
    world.fake().fault(Fault::new(Failure::Status(400)).on("DELETE", "/bad"));
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (2, 2), "both namespaces are still there");
    let outcome = expire(&world).await;
    assert_eq!(outcome.failed, 1);
    assert_eq!(world.queues().await, ["queue/taskcluster-a/bad", "queue/taskcluster-b/bad"]);
    let subjects = told(&world).await;
    assert_eq!(subjects.len(), 2, "one is deleted, one could not be: {subjects:?}");
    assert!(watch(&world, 5).await.is_empty(), "the failure is told once");
    world.fake().heal();
    assert_eq!(sweep(&world).await.changed, 1);
    assert_eq!(expire(&world).await.failed, 0);
    assert!(world.queues().await.is_empty());
    assert_eq!(told(&world).await.len(), 1);
    assert!(world.store.namespace(&world.name("taskcluster-b")).await.unwrap().is_none());
}

/// Its first deletion went no further than the look, as it may after a crash too.
#[tokio::test]
async fn an_owner_is_told_once_that_a_queue_can_not_be_deleted_whichever_attempt_it_is_that_fails() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    assert_eq!(ripen(&world).await.len(), 1, "it is large");
    world.fake().fault(Fault::new(Failure::Status(500)).on("GET", "taskcluster-a/x"));
    assert_eq!(sweep(&world).await.failed, 1);
    assert!(told(&world).await.is_empty());
    world.fake().heal();
    world.fake().fault(Fault::new(Failure::Status(400)).on("DELETE", "taskcluster-a/x"));
    for expected in [1, 0, 0] {
        world.clock.advance(2 * MINUTE);
        assert_eq!(sweep(&world).await.failed, 1);
        let subjects = told(&world).await;
        assert_eq!(subjects.len(), expected, "{subjects:?}");
        assert!(subjects.iter().all(|subject| subject.contains("could not be deleted")), "{subjects:?}");
    }
}

/// The process that deleted it died before it told, and its client declared it anew.
#[tokio::test]
async fn an_owner_is_told_of_a_queue_that_was_to_be_deleted_and_is_small_again() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    let mut intention = world.store.watches().await.unwrap().remove(0);
    (intention.watch.stage, intention.decided) = (Stage::Removing, true);
    let change = Change { record: Record::Watch(intention), notices: vec![], audits: Vec::new() };
    assert_eq!(world.store.write(&[change]).await.unwrap(), [Write::Done]);
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 1).await;
    let subjects = watch(&world, 10).await;
    assert!(subjects.len() == 1 && subjects[0].contains("is back to 1 message"), "{subjects:?}");
    world.clock.advance(25 * HOUR);
    watch(&world, 1).await;
    assert!(world.store.watches().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_owner_who_sets_its_contact_late_is_told_then() {
    let world = fake_world().await;
    world.claim("taskcluster-a").await.unwrap();
    world.fill("queue/taskcluster-a/large", QueueKind::Classic, ALERT + 1).await;
    world.fill("queue/taskcluster-a/huge", QueueKind::Classic, DELETE + 1).await;
    assert!(ripen(&world).await.is_empty());
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let subjects = watch(&world, 3).await;
    assert_eq!(subjects.len(), 2, "{subjects:?}");
    assert_eq!(world.queues().await.len(), 2, "who can be told now has the grace time from then on");
    let subjects = watch(&world, 8).await;
    assert!(subjects.len() == 1 && subjects[0].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn a_deletion_that_another_process_took_over_is_counted_and_told_by_that_one() {
    let world = Arc::new(fake_world().await);
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    world.fake().fault(Fault::new(Failure::Hang).on("DELETE", "/queues/").times(1));
    let sweeping = tokio::spawn({
        let world = world.clone();
        async move { sweep(&world).await }
    });
    world.fake().received("DELETE", "/api/queues/fake/vhost %1/queue/taskcluster-a/x", 1).await;
    let watched = world.store.watches().await.unwrap().remove(0);
    let change = Change { record: Record::Watch(watched), notices: vec![], audits: Vec::new() };
    assert_eq!(world.store.write(&[change]).await.unwrap(), [Write::Done]);
    world.fake().release();
    let outcome = sweeping.await.unwrap();
    assert_eq!((outcome.changed, outcome.failed), (0, 0));
    assert!(told(&world).await.is_empty());
    assert_eq!(sweep(&world).await.changed, 1);
    assert_eq!(told(&world).await.len(), 1);
}

#[tokio::test]
async fn a_claim_waits_while_its_namespace_is_cleaned_up() {
    let world = std::sync::Arc::new(fake_world().await);
    world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 1).await;
    world.clock.advance(2 * HOUR);
    world.fake().fault(Fault::new(Failure::Hang).on("DELETE", "/queues/").times(1));
    let cleaning = tokio::spawn({
        let world = world.clone();
        async move { expire(&world).await }
    });
    world.fake().received("DELETE", "/api/queues/fake/vhost %1/queue/taskcluster-a/x", 1).await;
    let refused = world.claim("taskcluster-a").await.unwrap_err();
    assert!(matches!(refused, taskcluster_pulse::service::ServiceError::CleaningUp { .. }), "{refused}");
    world.fake().release();
    assert_eq!(cleaning.await.unwrap().failed, 0);
    assert!(world.logs_in(&world.claim("taskcluster-a").await.unwrap().connection_string).await);
    assert!(world.queues().await.is_empty());
}

#[tokio::test]
async fn what_can_not_be_removed_keeps_nothing_else_of_its_namespace_or_another_from_being_removed() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    for queue in 0..6 {
        world.fill(&format!("queue/taskcluster-a/bad-{queue}"), QueueKind::Classic, 1).await;
    }
    for queue in ["queue/taskcluster-a/good", "queue/taskcluster-b/good"] {
        world.fill(queue, QueueKind::Classic, 1).await;
    }
    world.declare_exchange("exchange/taskcluster-a/good").await;
    world.fake().fault(Fault::new(Failure::Status(400)).on("DELETE", "/bad"));
    let careful = ExpiryPolicy { brakes: Brakes { most: 3, percent: 25, owner_percent: 50 }, ..world.expiry_policy() };
    world.clock.advance(2 * HOUR);
    for _ in 0..50 {
        world.service().expire(&careful, false).await.unwrap();
        world.clock.advance(HOUR);
    }
    assert!(world.queues().await.iter().all(|queue| queue.contains("/bad")), "{:?}", world.queues().await);
    assert!(!world.broker.exchanges().await.unwrap().contains(&"exchange/taskcluster-a/good".to_owned()));
    assert!(world.users().await.is_empty());
}

/// A clean-up begins nothing after a while, so that what hangs must not be waited for.
#[tokio::test]
async fn an_exchange_is_deleted_while_queues_hang() {
    let world = Arc::new(fake_world().await);
    world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 1).await;
    world.declare_exchange("exchange/taskcluster-a/x").await;
    world.clock.advance(2 * HOUR);
    world.fake().fault(Fault::new(Failure::Hang).on("DELETE", "/queues/"));
    let cleaning = tokio::spawn({
        let world = world.clone();
        async move { expire(&world).await }
    });
    world.fake().received("DELETE", "/api/exchanges/fake/vhost %1/exchange/taskcluster-a/x", 1).await;
    world.fake().heal();
    world.fake().release();
    assert_eq!(cleaning.await.unwrap().failed, 0, "the queue's deletion was not over by then");
    assert!(world.queues().await.is_empty());
}

#[tokio::test]
async fn however_many_namespaces_are_unknown_they_are_reported_once() {
    let world = fake_world().await;
    world.claim("taskcluster-a").await.unwrap();
    for number in 0..1000 {
        world.fill(&format!("queue/taskcluster-unknown-{number:03}/x"), QueueKind::Classic, 1).await;
    }
    for outcome in [sweep(&world).await, expire(&world).await] {
        let [report] = outcome.reports.as_slice() else { panic!("{} reports", outcome.reports.len()) };
        assert!(report.contains("(1000): taskcluster-unknown-000, ") && report.len() < 500, "{report}");
    }
}

#[tokio::test]
async fn unknown_things_are_removed_only_on_request_and_after_a_grace_time() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 1000 * HOUR).await;
    world.fill("queue/taskcluster-lost/x", QueueKind::Classic, 1).await;
    world.fill("queue/taskcluster-found/x", QueueKind::Classic, 1).await;
    let policy = ExpiryPolicy { orphans_after: Some(10 * HOUR), ..world.expiry_policy() };
    let expire = async || world.service().expire(&policy, false).await.unwrap();
    assert_eq!(expire().await.changed, 2);
    assert_eq!(expire().await.changed, 0);
    world.clock.advance(9 * HOUR);
    expire().await;
    assert_eq!(world.queues().await.len(), 2);
    world.claim_for("taskcluster-found", "", 1000 * HOUR).await;
    world.clock.advance(HOUR);
    expire().await;
    assert_eq!(world.queues().await, ["queue/taskcluster-found/x"]);
}

#[tokio::test]
async fn an_address_that_refuses_does_not_stop_the_others_and_nothing_is_told_twice() {
    let world = fake_world().await;
    for (name, contact) in [("a", "refuses@a.com"), ("b", "later@b.com"), ("c", "fine@c.com")] {
        world.claim_for(&format!("taskcluster-{name}"), contact, 1000 * HOUR).await;
        world.fill(&format!("queue/taskcluster-{name}/x"), QueueKind::Classic, ALERT + 1).await;
    }
    look_on(&world, 5).await;
    let mailbox = Mailbox { refusing: vec!["refuses@a.com"], ..Mailbox::default() };
    mailbox.unreachable.lock().unwrap().push("later@b.com");
    let outcome = world.service().deliver(&mailbox, false).await.unwrap();
    assert_eq!((outcome.seen, outcome.changed, outcome.failed), (3, 1, 2));
    let given_up = "1 messages were given up, and nobody got them; the first: `Pulse queue queue/taskcluster-a/x";
    assert!(outcome.reports[0].starts_with(given_up), "{:?}", outcome.reports);
    assert!(outcome.reports[0].ends_with("to refuses@a.com about taskcluster-a: refused for good: no such mailbox"));
    let kept = world.store.undelivered(10).await.unwrap();
    assert_eq!((kept.len(), kept[0].notice.to.as_str(), kept[0].notice.attempts), (1, "refuses@a.com", 1));
    assert_eq!((kept[0].why.as_str(), kept[0].given_up), ("refused for good: no such mailbox", world.clock.now()));
    mailbox.unreachable.lock().unwrap().clear();
    assert_eq!(world.service().deliver(&mailbox, false).await.unwrap().seen, 0, "it waits before it tries again");
    world.clock.advance(HOUR);
    let services = [world.service(), world.service()];
    let both = join_all(services.iter().map(|service| service.deliver(&mailbox, false))).await;
    assert_eq!(both.into_iter().map(|outcome| outcome.unwrap().changed).sum::<usize>(), 1);
    world.clock.advance(1000 * HOUR);
    assert_eq!(world.service().deliver(&mailbox, false).await.unwrap().seen, 0);
    let told: Vec<_> = mailbox.delivered.lock().unwrap().iter().map(|notice| notice.to.clone()).collect();
    assert_eq!(told, ["fine@c.com", "later@b.com"]);
}

/// A mailbox that takes no more than so many messages to one address in ten minutes.
struct Paced {
    mailbox: Mailbox,
    pace: Mutex<Pace>,
    clock: Arc<ManualClock>,
}

#[async_trait]
impl Notifier for Paced {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        self.pace.lock().unwrap().admit(&notice.to, self.clock.now()).map_err(NotifyError::TooMany)?;
        self.mailbox.deliver(notice).await
    }
}

#[tokio::test]
async fn messages_that_are_too_many_for_their_address_wait_and_none_is_lost() {
    let world = fake_world().await;
    for number in 0..60 {
        world.claim_for(&format!("taskcluster-{number}"), "a@a.com", HOUR).await;
        world.fill(&format!("queue/taskcluster-{number}/x"), QueueKind::Classic, 1).await;
    }
    world.claim_for("taskcluster-b", "b@b.com", HOUR).await;
    world.fill("queue/taskcluster-b/x", QueueKind::Classic, 1).await;
    // Each is told alone of the end of its namespace.
    assert_eq!(expire(&world).await.changed, 61);
    let minutes = |minutes: u32| Duration::from_secs(60) * minutes;
    let pace = Mutex::new(Pace::new(25, minutes(10)));
    let paced = Paced { mailbox: Mailbox::default(), pace, clock: world.clock.clone() };
    // However late they are, they are no failures.
    world.clock.advance(200 * HOUR);
    let mut delivered = Vec::new();
    for _ in 0..4 {
        let outcome = world.service().deliver(&paced, false).await.unwrap();
        assert_eq!(outcome.failed, 0);
        delivered.push((outcome.changed, outcome.reports.len()));
        assert_eq!(world.service().deliver(&paced, false).await.unwrap().seen, 0, "the others are not due");
        world.clock.advance(minutes(10));
    }
    assert_eq!(delivered, [(26, 1), (25, 1), (10, 0), (0, 0)]);
    let mut subjects: Vec<_> =
        paced.mailbox.delivered.lock().unwrap().iter().map(|notice| notice.namespace.clone()).collect();
    subjects.sort();
    subjects.dedup();
    assert_eq!(subjects.len(), 61);
}

#[tokio::test]
async fn a_message_that_waited_for_its_turn_is_tried_again_as_soon_as_any_other() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 10_000 * HOUR).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, ALERT + 1).await;
    look_on(&world, 5).await;
    let pace = |most| Mutex::new(Pace::new(most, Duration::from_secs(60)));
    let mut paced = Paced { mailbox: Mailbox::default(), pace: pace(1), clock: world.clock.clone() };
    for _ in 0..20 {
        paced.pace.lock().unwrap().admit("a@a.com", world.clock.now()).unwrap();
        assert_eq!(world.service().deliver(&paced, false).await.unwrap().seen, 1);
        world.clock.advance(Duration::from_secs(60));
    }
    paced.mailbox.unreachable.lock().unwrap().push("a@a.com");
    assert_eq!(world.service().deliver(&paced, false).await.unwrap().failed, 1);
    paced.mailbox = Mailbox::default();
    world.clock.advance(Duration::from_secs(25 * 60));
    assert_eq!(world.service().deliver(&paced, false).await.unwrap().changed, 1);
}

#[tokio::test]
async fn a_message_that_is_put_off_for_a_week_is_given_up_and_kept_for_a_while() {
    let world = fake_world().await;
    let mailbox = Mailbox::default();
    let give_up = async |queue: &str| {
        world.fill(queue, QueueKind::Classic, ALERT + 1).await;
        look_on(&world, 5).await;
        mailbox.unreachable.lock().unwrap().push("a@a.com");
        for hours in [0, 167, 1] {
            world.clock.advance(hours * HOUR);
            let outcome = world.service().deliver(&mailbox, false).await.unwrap();
            assert_eq!((outcome.changed, outcome.failed), (0, 1));
            assert_eq!(outcome.reports.len(), usize::from(hours == 1), "{:?}", outcome.reports);
        }
        mailbox.unreachable.lock().unwrap().clear();
        assert_eq!(world.service().deliver(&mailbox, false).await.unwrap().seen, 0);
        world.purge(queue).await;
        look_on(&world, 10).await;
        assert_eq!(world.service().deliver(&mailbox, false).await.unwrap().changed, 1);
        let kept = world.store.undelivered(10).await.unwrap();
        assert!(kept[0].notice.subject.contains(queue) && kept[0].why.contains("not now"), "{kept:?}");
        kept.len()
    };
    world.claim_for("taskcluster-a", "a@a.com", 10_000 * HOUR).await;
    assert_eq!(give_up("queue/taskcluster-a/x").await, 1);
    world.clock.advance(24 * 60 * HOUR);
    assert_eq!(give_up("queue/taskcluster-a/y").await, 2);
    world.clock.advance(24 * 60 * HOUR);
    assert_eq!(give_up("queue/taskcluster-a/z").await, 2, "the first one is forgotten");
}

const TWICE: &str = "queue/taskcluster-a/x";

/// Another queue of the same name, as its client declares it when it finds that the first one is gone.
fn declare_anew(state: &mut crate::support::fake_broker::State) {
    state.queues.insert(TWICE.to_owned(), Queue::classic(1));
}

fn deletions(world: &World) -> usize {
    world.fake().requests("DELETE", &format!("/api/queues/{}/{TWICE}", crate::support::fake_broker::VHOST))
}

#[tokio::test]
async fn a_queue_that_is_declared_anew_while_it_is_unknown_whether_the_old_one_is_gone_is_left_alone() {
    for failure in [Failure::Close, Failure::Booting, Failure::Status(503), Failure::Hang] {
        let world = fake_world().await;
        world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
        world.fill(TWICE, QueueKind::Classic, DELETE + 1).await;
        ripen(&world).await;
        let fault = Fault::new(failure.clone()).on("DELETE", "/queues/").times(1);
        world.fake().fault(fault.after_doing().then(declare_anew));
        let outcome = sweep(&world).await;
        assert_eq!((outcome.changed, outcome.failed, deletions(&world)), (0, 0, 1), "{failure:?}");
        assert_eq!(world.queues().await, [TWICE]);
        assert!(told(&world).await.is_empty(), "nobody knows yet");
        let subjects = watch(&world, 10).await;
        assert!(subjects.len() == 1 && subjects[0].contains("is back to 1 message"), "{subjects:?}");
        assert_eq!((world.queues().await, deletions(&world)), (vec![TWICE.to_owned()], 1));
    }
}

/// The same on a real node: the connection is cut once it has deleted the queue, or before it hears of that.
#[tokio::test]
async fn a_deletion_whose_connection_to_rabbitmq_is_cut_hits_no_queue_that_was_declared_since() {
    for at in [Cut::Answer, Cut::Request] {
        let mut world = World::new(StoreKind::Sqlite, BrokerKind::Real).await;
        let Side::Real(vhost) = &world.side else { panic!("this test needs RabbitMQ") };
        let config = vhost.config();
        let line = Line::to(&config.base_urls[0]).await;
        world.broker = Arc::new(
            ManagementApi::new(ManagementConfig { base_urls: vec![line.url.parse().unwrap()], ..config }).unwrap(),
        );
        world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
        world.fill(TWICE, QueueKind::Classic, DELETE + 1).await;
        ripen(&world).await;
        let Side::Real(vhost) = &world.side else { panic!("this test needs RabbitMQ") };
        let (met, go_on) = line.cut(at);
        let meanwhile = async {
            met.await.unwrap();
            if at == Cut::Answer {
                vhost.declare_queue(TWICE, "classic").await;
                vhost.publish(TWICE).await;
            }
            go_on.send(()).unwrap();
        };
        let (outcome, ()) = tokio::join!(sweep(&world), meanwhile);
        assert_eq!(outcome.failed, 0, "{outcome:?}");
        if at == Cut::Request {
            assert_eq!((outcome.changed, line.deletions(), world.queues().await.len()), (1, 2, 0), "{outcome:?}");
            let subjects = told(&world).await;
            assert!(subjects.len() == 1 && subjects[0].contains("was deleted with 21 messages"), "{subjects:?}");
            continue;
        }
        assert_eq!((outcome.changed, line.deletions(), world.queues().await), (0, 1, vec![TWICE.to_owned()]));
        assert!(told(&world).await.is_empty(), "nobody knows yet");
        let subjects = watch(&world, 10).await;
        assert!(subjects.len() == 1 && subjects[0].contains("is back to 1 message"), "{subjects:?}");
        assert_eq!((line.deletions(), world.queues().await), (1, vec![TWICE.to_owned()]));
    }
}

#[tokio::test]
async fn a_stream_that_is_declared_in_place_of_a_large_queue_is_left_alone() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill(TWICE, QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    world.fake().state().totals_in_lists_only = true;
    world.fake().fault(Fault::new(Failure::Close).on("DELETE", "/queues/").times(1).after_doing().then(|state| {
        let stream = Queue { kind: QueueKind::Stream, ..Queue::classic(DELETE + 1) };
        state.queues.insert(TWICE.to_owned(), stream);
    }));
    assert_eq!(sweep(&world).await.failed, 0);
    assert_eq!((world.queues().await, deletions(&world)), (vec![TWICE.to_owned()], 1));
}

#[tokio::test]
async fn a_large_queue_whose_deletion_failed_is_looked_at_before_it_is_deleted_and_the_owner_told_what_was_seen_then() {
    for failure in [Failure::Close, Failure::Booting, Failure::Status(503), Failure::Hang] {
        let world = fake_world().await;
        world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
        world.fill(TWICE, QueueKind::Classic, DELETE + 1).await;
        ripen(&world).await;
        world.fake().fault(Fault::new(failure.clone()).on("DELETE", "/queues/").times(1).then(|state| {
            state.queues.insert(TWICE.to_owned(), Queue::classic(DELETE + 5));
        }));
        let outcome = sweep(&world).await;
        assert_eq!((outcome.changed, outcome.failed, deletions(&world)), (1, 0, 2), "{failure:?}");
        let subjects = told(&world).await;
        assert!(subjects.len() == 1 && subjects[0].contains("was deleted with 25 messages"), "{subjects:?}");
    }
}

#[tokio::test]
async fn a_deletion_that_stays_unknown_is_a_failure_and_goes_on_in_the_next_run() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill(TWICE, QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    world.fake().fault(Fault::new(Failure::Close).on("DELETE", "/queues/").times(2));
    assert_eq!((sweep(&world).await.failed, deletions(&world)), (1, 2));
    assert_eq!((sweep(&world).await.changed, deletions(&world)), (1, 3));
}

/// RabbitMQ shows what is not UTF-8 in a name as U+FFFD, and answers 404 to whoever asks for that.
#[tokio::test]
async fn what_a_404_says_is_gone_and_a_list_still_shows_is_a_failure_and_is_told() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    let (queue, stream, exchange) =
        ("queue/taskcluster-a/\u{fffd}", "queue/taskcluster-b/\u{fffd}", "exchange/taskcluster-b/\u{fffd}");
    world.fill(queue, QueueKind::Classic, DELETE + 1).await;
    world.fill(stream, QueueKind::Stream, 1).await;
    world.fill("queue/taskcluster-b/good", QueueKind::Classic, 1).await;
    world.declare_exchange(exchange).await;
    world.fake().state().unspeakable = [queue, stream, exchange].map(String::from).into();
    ripen(&world).await;
    for round in 0..3 {
        let outcome = sweep(&world).await;
        assert_eq!((outcome.changed, outcome.failed), (0, 1));
        let subjects = told(&world).await;
        assert_eq!(subjects.len(), usize::from(round == 0), "{subjects:?}");
        assert!(subjects.iter().all(|subject| subject.contains("could not be deleted")), "{subjects:?}");
    }
    world.clock.advance(2 * HOUR);
    for _ in 0..2 {
        let outcome = expire(&world).await;
        assert_eq!(outcome.failed, 1, "{outcome:?}");
        world.clock.advance(HOUR);
    }
    assert_eq!(world.queues().await, [queue, stream]);
    assert!(world.store.namespace(&world.name("taskcluster-b")).await.unwrap().is_some());
    world.fake().state().unspeakable.clear();
    ripen(&world).await;
    assert_eq!((sweep(&world).await.failed, expire(&world).await.failed), (0, 0));
    world.clock.advance(HOUR);
    expire(&world).await;
    assert!(world.queues().await.is_empty());
    assert!(world.store.namespace(&world.name("taskcluster-b")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_connection_that_a_404_says_is_gone_and_a_list_still_shows_is_a_failure() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 10_000 * HOUR).await;
    world.clock.advance(100 * HOUR);
    let connection = Connection { user: "taskcluster-a-1".into(), connected_at: 0, listed: true };
    world.fake().state().connections.insert("odd".into(), connection);
    world.fake().state().unspeakable = ["odd".to_owned()].into();
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (0, 1));
}
