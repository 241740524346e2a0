//! Limits that the broker keeps by itself: set, kept, and taken away again, but for what others set.

use std::collections::BTreeMap;

use taskcluster_pulse::domain::inventory::{LimitsSeen, Noted, OperatorPolicy, UserLimit};
use taskcluster_pulse::domain::ladder::Measure;
use taskcluster_pulse::domain::limits::LimitsPolicy;
use taskcluster_pulse::domain::sweep::SweepPolicy;

use super::{fake_world, sweep};
use crate::support::fake_broker::{Failure, Fault};
use crate::support::rabbitmq::log_in;
use crate::support::world::{Side, World};

crate::on_every_world! {
    limits_are_set_kept_and_taken_away_again_but_for_those_of_others,
}

fn limited(world: &World, limits: LimitsPolicy) -> SweepPolicy {
    SweepPolicy { limits, ..world.sweep_policy() }
}

fn some_limits() -> LimitsPolicy {
    LimitsPolicy {
        queues: [("max-length", 100), ("max-length-bytes", 1 << 31), ("message-ttl", 60_000), ("expires", 90_000)]
            .into(),
        users: [(UserLimit::Connections, 1), (UserLimit::Channels, 7)].into(),
        exceptions: ["taskcluster-large".to_owned()].into(),
    }
}

async fn limits(world: &World) -> LimitsSeen {
    let tag = world.store.tag().await.unwrap();
    let mut seen = world.broker.limits(tag.as_str()).await.unwrap();
    let prefix = world.policy.names.user(&world.name("taskcluster-"), taskcluster_pulse::domain::name::Slot::One);
    let prefix = prefix.trim_end_matches("taskcluster--1").to_owned();
    seen.users =
        seen.users.into_iter().filter_map(|(user, of)| Some((user.strip_prefix(&prefix)?.to_owned(), of))).collect();
    seen
}

async fn limits_are_set_kept_and_taken_away_again_but_for_those_of_others(world: World) {
    for name in ["taskcluster-a", "taskcluster-b", "taskcluster-large"] {
        world.claim(name).await.unwrap();
    }
    let user = |name: &str| world.policy.names.user(&world.name(name), taskcluster_pulse::domain::name::Slot::One);
    let theirs = OperatorPolicy {
        name: "theirs".into(),
        pattern: "^somebody's".into(),
        apply_to: "queues".into(),
        priority: 3,
        definition: [("expires".to_owned(), 5000)].into(),
    };
    world.broker.put_operator_policy(&theirs).await.unwrap();
    world.broker.limit_user(&user("taskcluster-large"), UserLimit::Channels, Some(7)).await.unwrap();
    // Kept out, by the guard or by an operator.
    world.broker.limit_user(&user("taskcluster-b"), UserLimit::Connections, Some(0)).await.unwrap();
    let before = limits(&world).await;
    assert_eq!(sweep(&world).await.changed, 0, "nothing is limited by default");

    let policy = limited(&world, some_limits());
    let dry = world.service().sweep(&policy, true).await.unwrap().plan.unwrap();
    let steps = |action: &str| dry.iter().filter(|step| step.action == action).count();
    assert_eq!((steps("limit user"), steps("limit queues")), (7, 1), "{dry:#?}");
    assert_eq!(limits(&world).await, before);

    let outcome = world.service().sweep(&policy, false).await.unwrap();
    assert_eq!((outcome.changed, outcome.failed), (8, 0), "{outcome:?}");
    let seen = limits(&world).await;
    let usual: BTreeMap<_, _> = [(UserLimit::Connections, 1), (UserLimit::Channels, 7)].into();
    assert_eq!(seen.users["taskcluster-a-1"], usual);
    assert_eq!(seen.users["taskcluster-a-2"], usual);
    assert_eq!(seen.users["taskcluster-b-1"], [(UserLimit::Connections, 0), (UserLimit::Channels, 7)].into());
    assert_eq!(seen.users["taskcluster-large-1"], [(UserLimit::Channels, 7)].into(), "set by somebody else before");
    assert_eq!(seen.policies.len(), 2, "one policy for all: {seen:?}");
    assert!(seen.policies.contains(&theirs));
    let again = world.service().sweep(&policy, false).await.unwrap();
    assert_eq!((again.changed, again.failed), (0, 0), "{again:?}");

    // What somebody changes is put right, and a limit that is set to something else is known later as ours, too.
    world.broker.limit_user(&user("taskcluster-a"), UserLimit::Channels, Some(99)).await.unwrap();
    let more = LimitsPolicy { users: [(UserLimit::Channels, 8)].into(), ..some_limits() };
    world.service().sweep(&limited(&world, more), false).await.unwrap();
    let seen = limits(&world).await;
    assert_eq!(seen.users["taskcluster-a-1"], [(UserLimit::Channels, 8)].into());
    world.broker.limit_user(&user("taskcluster-b"), UserLimit::Channels, Some(5)).await.unwrap();
    // Who is exempt from now on loses what was set, and may then have the same by somebody else.
    let large = ["taskcluster-large", "taskcluster-a"].map(str::to_owned);
    let fewer = LimitsPolicy { users: [(UserLimit::Channels, 5)].into(), exceptions: large.into(), ..some_limits() };
    for _ in 0..2 {
        world.service().sweep(&limited(&world, fewer.clone()), false).await.unwrap();
    }
    assert!(limits(&world).await.users.get("taskcluster-a-1").is_none_or(BTreeMap::is_empty));
    world.broker.limit_user(&user("taskcluster-a"), UserLimit::Channels, Some(5)).await.unwrap();
    assert_eq!(world.service().sweep(&limited(&world, fewer), false).await.unwrap().changed, 0);

    for _ in 0..2 {
        assert_eq!(sweep(&world).await.failed, 0);
    }
    let left = limits(&world).await;
    assert_eq!(left.policies, [theirs]);
    assert_eq!(left.users["taskcluster-b-1"], [(UserLimit::Connections, 0)].into());
    assert_eq!(left.users["taskcluster-a-1"], [(UserLimit::Channels, 5)].into());
    assert_eq!(left.users["taskcluster-large-1"], [(UserLimit::Channels, 7)].into());
    assert_eq!(left.users.values().filter(|of| !of.is_empty()).count(), 3, "{left:?}");
    assert_eq!(left.noted, Noted::default());
    assert_eq!(sweep(&world).await.changed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_broker_keeps_the_limits() {
    use crate::support::world::{BrokerKind, StoreKind};
    let world = World::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let string = world.claim("taskcluster-a").await.unwrap().connection_string;
    let exempt = world.claim("taskcluster-large").await.unwrap().connection_string;
    for queue in ["queue/taskcluster-a/x", "queue/taskcluster-large/x", "queue/other/x"] {
        world.fill(queue, taskcluster_pulse::domain::inventory::QueueKind::Classic, 120).await;
    }
    world.service().sweep(&limited(&world, some_limits()), false).await.unwrap();
    let _first = log_in(&string).await.unwrap();
    assert!(log_in(&string).await.is_err(), "one connection is all that it may have");
    let _both = (log_in(&exempt).await.unwrap(), log_in(&exempt).await.unwrap());
    let Side::Real(_) = &world.side else { panic!("RabbitMQ was asked for") };
    let messages = async |queue: &str| world.broker.queue(queue).await.unwrap().unwrap().messages;
    let shorter = async || (messages("queue/taskcluster-a/x").await == Some(100)).then_some(());
    crate::support::rabbitmq::eventually("a queue that is cut", shorter).await;
    assert_eq!(messages("queue/taskcluster-large/x").await, Some(120));
    assert_eq!(messages("queue/other/x").await, Some(120));
    // Nothing of it is left.
    for _ in 0..2 {
        sweep(&world).await;
    }
    assert_eq!(limits(&world).await, LimitsSeen::default());
}

#[tokio::test]
async fn no_limit_is_set_that_could_not_be_noted_as_ours_before() {
    let world = fake_world().await;
    world.claim("taskcluster-a").await.unwrap();
    world.fake().fault(Fault::new(Failure::Status(500)).on("PUT", "/global-parameters/"));
    let outcome = world.service().sweep(&limited(&world, some_limits()), false).await.unwrap();
    assert_eq!(outcome.failed, 1);
    assert!(world.fake().state().user_limits.is_empty() && world.fake().state().channel_limits.is_empty());
    world.fake().heal();
    // Limits that can't be looked at stop no repair.
    world.fake().fault(Fault::new(Failure::Status(500)).on("GET", "/user-limits"));
    world.broker.delete_user("taskcluster-a-1").await.unwrap();
    let outcome = world.service().sweep(&limited(&world, some_limits()), false).await.unwrap();
    assert_eq!((outcome.changed, outcome.failed), (1, 0), "{outcome:?}");
    assert!(outcome.reports.iter().any(|report| report.contains("limits are left alone")), "{:?}", outcome.reports);
}

#[tokio::test]
async fn the_limits_take_three_lists_in_a_sweep_and_no_call_for_each_user() {
    let world = fake_world().await;
    for n in 0..20 {
        world.claim(&format!("taskcluster-{n}")).await.unwrap();
    }
    let mut policy = limited(&world, some_limits());
    policy.guard.ladder.measure = Measure::Observe;
    world.service().sweep(&policy, false).await.unwrap();
    let before = world.fake().all_requests();
    sweep_with(&world, &policy).await;
    let limited = world.fake().all_requests() - before;
    assert_eq!(limited, 12, "a sweep in which nothing differs");
}

async fn sweep_with(world: &World, policy: &SweepPolicy) {
    assert_eq!(world.service().sweep(policy, false).await.unwrap().changed, 0);
}
