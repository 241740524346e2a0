//! The guard: who is warned, of what, and what is done then.

use std::time::Duration;

use serde_json::json;
use taskcluster_pulse::domain::audit::By;
use taskcluster_pulse::domain::guard::GuardPolicy;
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::ladder::Measure;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::service::ServiceError;

use super::{MINUTE, fake_world, ripen, sweep, watch, watch_as};
use crate::support::fake_broker::{Connection, Failure, Fault, Queue};
use crate::support::world::{DELETE, HOUR, Mailbox, World};

const QUEUE: &str = "queue/taskcluster-a/x";

async fn owned_world() -> World {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world
}

fn measured(world: &World, measure: Measure) -> SweepPolicy {
    let mut policy = world.sweep_policy();
    policy.guard.ladder.measure = measure;
    policy
}

#[tokio::test]
async fn no_queue_is_deleted_while_its_warning_is_accepted_by_nobody() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mailbox = Mailbox { unreachable: vec!["a@a.com"].into_iter().collect::<Vec<_>>().into(), ..Mailbox::default() };
    for _ in 0..60 {
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
        world.service().deliver(&mailbox, false).await.unwrap();
    }
    assert_eq!(world.queues().await, [QUEUE]);
    mailbox.unreachable.lock().unwrap().clear();
    for minutes in 1.. {
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
        world.service().deliver(&mailbox, false).await.unwrap();
        if world.queues().await.is_empty() {
            assert!(minutes >= 8, "{minutes}");
            break;
        }
        assert!(minutes < 200, "it is never deleted");
    }
    let subjects = mailbox.subjects();
    assert!(subjects.len() == 2 && subjects[1].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn a_queue_that_drains_is_left_alone_however_large_it_is() {
    let world = owned_world().await;
    for left in (0..60).rev() {
        world.fill(QUEUE, QueueKind::Classic, DELETE + 100 * left + 1).await;
        watch(&world, 1).await;
    }
    assert_eq!(world.queues().await, [QUEUE]);
}

#[tokio::test]
async fn an_alarm_of_the_broker_shortens_the_grace_time_and_skips_no_warning() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    world.fake().state().alarm = true;
    let warnings = watch(&world, 5).await;
    assert!(warnings.len() == 1 && world.queues().await == [QUEUE], "{warnings:?}");
    let subjects = watch(&world, 3).await;
    assert!(subjects.len() == 1 && subjects[0].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn a_queue_is_emptied_where_that_is_the_measure() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let subjects = watch_as(&world, &measured(&world, Measure::Purge), 14).await;
    assert!(subjects.len() == 2 && subjects[1].contains("was emptied of 21 messages"), "{subjects:?}");
    assert_eq!((world.queues().await, world.fake().state().queues[QUEUE].messages), (vec![QUEUE.to_owned()], 0));
}

#[tokio::test]
async fn what_may_not_be_done_is_reported_and_counts_as_no_warning_later() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mut reports = Vec::new();
    for _ in 0..30 {
        world.clock.advance(2 * MINUTE);
        let outcome = world.service().sweep(&measured(&world, Measure::Observe), false).await.unwrap();
        assert_eq!(outcome.changed, 0);
        reports.extend(outcome.reports);
    }
    assert_eq!(reports.iter().filter(|report| report.contains("would be deleted")).count(), 1, "{reports:?}");
    let subjects = watch(&world, 3).await;
    assert!(subjects.len() == 1 && world.queues().await == [QUEUE], "{subjects:?}");
    let subjects = watch(&world, 8).await;
    assert!(subjects.len() == 1 && subjects[0].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn a_queue_with_other_arguments_is_another_one_and_has_a_warning_of_its_own() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    world
        .fake()
        .state()
        .queues
        .insert(QUEUE.to_owned(), Queue { kind: QueueKind::Quorum, ..Queue::classic(DELETE + 1) });
    let subjects = watch(&world, 7).await;
    assert!(subjects.len() == 1 && world.queues().await == [QUEUE], "{subjects:?}");
    // Right before it is deleted, too.
    ripen(&world).await;
    world.fake().fault(Fault::new(Failure::Slow(Duration::ZERO)).on("GET", "/health").times(1).then(|state| {
        state.queues.insert(QUEUE.to_owned(), Queue::classic(DELETE + 1));
    }));
    sweep(&world).await;
    assert_eq!(world.queues().await, [QUEUE]);
}

/// Two connections of a user read the queue. One of them holds nearly all of it.
pub(super) fn hoard(world: &World, user: &str, queue: &str) {
    let connected_at = taskcluster_pulse::clock::Clock::now(&*world.clock).millis();
    let state = &mut *world.fake().state();
    let consumer = |name: &str, prefetch: u64| {
        json!({
            "prefetch_count": prefetch,
            "channel_details": {
                "name": format!("{name} (1)"), "connection_name": name, "user": user, "peer_host": "10.0.0.7",
                "peer_port": 4711,
            },
        })
    };
    for (name, held) in [("hoarder", 29), ("polite", 1)] {
        let connection = Connection { user: user.into(), connected_at, listed: true };
        state.connections.insert(name.into(), connection);
        state.channels.insert(format!("{name} (1)"), held);
    }
    state.queues.insert(queue.to_owned(), Queue::classic(30));
    let told = json!({
        "messages_unacknowledged": 30, "consumers": 2, "message_stats": {"ack": 0, "deliver": 30},
        "consumer_details": [consumer("polite", 1), consumer("hoarder", 0)],
    });
    state.told.insert(queue.to_owned(), told);
}

#[tokio::test]
async fn the_one_connection_that_hoards_is_closed_after_a_warning_and_in_the_end_its_user_kept_out() {
    let world = owned_world().await;
    let mut subjects = Vec::new();
    let mut closed_at = Vec::new();
    for round in 0..90 {
        hoard(&world, "taskcluster-a-1", QUEUE);
        subjects.extend(watch(&world, 1).await);
        if !world.fake().state().connections.contains_key("hoarder") {
            closed_at.push(round);
        }
        assert!(world.fake().state().connections.contains_key("polite"));
        if !world.fake().state().user_limits.is_empty() {
            break;
        }
    }
    assert_eq!(closed_at.len(), 4, "{closed_at:?}");
    assert!(closed_at[0] >= 8, "the grace time is over: {closed_at:?}");
    assert!(closed_at.windows(3).all(|three| three[2] - three[1] > three[1] - three[0]), "{closed_at:?}");
    assert!(subjects[0].contains("a consumer hoards"), "{subjects:?}");
    assert!(subjects.iter().filter(|subject| subject.contains("the connection that held 29")).count() >= 3);
    assert!(world.fake().state().closed.iter().all(|(name, why)| name == "hoarder" && why.contains("29 messages")));
    assert_eq!(world.fake().state().user_limits.get("taskcluster-a-1"), Some(&0));

    let namespace = world.store.namespace(&world.name("taskcluster-a")).await.unwrap().unwrap();
    assert_eq!(world.service().let_in(&namespace, &By::task("let-in")).await.unwrap(), 1);
    assert!(world.fake().state().user_limits.is_empty());
    assert!(!world.store.watches().await.unwrap()[0].watch.kept_out);
}

#[tokio::test]
async fn the_guard_alone_judges_all_queues_of_the_prefix_and_changes_nothing() {
    let world = fake_world().await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    world.fill("queue/other/x", QueueKind::Classic, DELETE + 1).await;
    let policy = measured(&world, Measure::Observe);
    let mut would = Vec::new();
    for _ in 0..20 {
        world.clock.advance(2 * MINUTE);
        let outcome = world.service().observe(&policy, false).await.unwrap();
        would.extend(outcome.verdicts.into_iter().filter_map(|judged| Some((judged.queue, judged.would?))));
    }
    assert_eq!(would.last().unwrap(), &("queue/taskcluster-a/x".to_owned(), "would be deleted"));
    assert!(would.iter().all(|(queue, _)| queue == "queue/taskcluster-a/x"), "{would:?}");
    assert_eq!(world.queues().await.len(), 2);
    assert_eq!(world.fake().state().closed.len(), 0);
    world.claim("taskcluster-a").await.unwrap();
    assert!(matches!(world.service().observe(&policy, false).await, Err(ServiceError::NotAlone)));
}

#[test]
fn a_short_grace_time_shortens_the_other_times_in_proportion_and_a_long_one_none() {
    let usual = crate::support::world::guard_policy();
    let with = |grace| {
        GuardPolicy::new(
            usual.thresholds,
            taskcluster_pulse::domain::ladder::Policy { grace, over: 10 * MINUTE, ..usual.ladder },
        )
    };
    assert_eq!((usual.ladder.over, usual.criteria.settle), (10 * MINUTE, Duration::from_secs(330)));
    assert_eq!((with(HOUR).ladder.over, with(HOUR).criteria.settle), (10 * MINUTE, Duration::from_secs(330)));
    let short = with(90 * Duration::from_secs(1));
    assert_eq!((short.ladder.over, short.criteria.settle), (MINUTE, Duration::from_secs(33)));
}

#[tokio::test]
async fn a_broker_without_statistics_is_judged_by_what_is_left_and_that_is_said() {
    let world = owned_world().await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let reports = async || {
        world.clock.advance(2 * MINUTE);
        let reports = sweep(&world).await.reports;
        reports.into_iter().filter(|report| report.contains("no statistics")).count()
    };
    assert_eq!(reports().await, 0, "it keeps them, and has none of this queue yet");
    world.fake().state().no_statistics = true;
    assert_eq!(reports().await, 1);
    let subjects = watch(&world, 14).await;
    assert!(subjects.iter().any(|subject| subject.contains("was deleted")), "{subjects:?}");
}
