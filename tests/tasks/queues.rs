//! Queues and exchanges that somebody looks at, empties and deletes, on every store and broker.

use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::audit::{AuditFilter, By};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::shown::QueueFilter;
use taskcluster_pulse::service::{QueueOutcome, Service, ServiceError, Which, Wish};

use super::{MINUTE, look_on, sweep, told};
use crate::support::world::{ALERT, HOUR, Side, World};

crate::on_every_world! {
    the_queues_of_a_namespace_are_listed_emptied_and_deleted,
    names_with_any_byte_can_be_asked_for,
    a_queue_that_was_warned_of_and_is_deleted_on_demand_is_told_of_no_more,
    nothing_of_another_namespace_or_of_one_that_is_gone_is_touched,
}

fn by() -> By {
    By::client("me")
}

async fn names(world: &World, service: &Service) -> Vec<String> {
    let found = service.list_queues(&world.name("taskcluster-a"), &QueueFilter::default(), 100).await.unwrap();
    found.into_iter().map(|shown| shown.queue.name).collect()
}

async fn the_queues_of_a_namespace_are_listed_emptied_and_deleted(world: World) {
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.claim_for("taskcluster-b", "", 1000 * HOUR).await;
    let name = world.name("taskcluster-a");
    let kinds = [("c", QueueKind::Classic), ("q", QueueKind::Quorum), ("s", QueueKind::Stream)];
    for (queue, kind) in kinds {
        world.fill(&format!("queue/taskcluster-a/{queue}"), kind, 3).await;
    }
    world.fill("queue/taskcluster-b/c", QueueKind::Classic, 1).await;
    world.declare_exchange("exchange/taskcluster-a/x").await;
    world.declare_exchange("exchange/taskcluster-b/x").await;
    let (service, by) = (world.service(), by());
    let wish = Wish { by: &by, reason: Some("a test") };
    let shown = service.list_queues(&name, &QueueFilter::default(), 100).await.unwrap();
    let seen: Vec<_> = shown.iter().map(|shown| shown.queue.kind).collect();
    assert_eq!(seen, kinds.map(|(_, kind)| kind));
    // The count of a quorum queue may be seconds old, and that of a stream is not told.
    assert_eq!((shown[0].queue.messages, shown[2].queue.messages), (Some(3), None));
    for (queue, kind) in &kinds[..2] {
        let queue = format!("queue/taskcluster-a/{queue}");
        let view = service.queue(&name, &queue).await.unwrap();
        assert_eq!((view.shown.queue.kind, view.bindings.len()), (*kind, 0));
        assert_eq!(service.empty_queue(&name, &queue, wish).await.unwrap().kind, *kind);
    }
    assert_eq!(service.queue(&name, "queue/taskcluster-a/c").await.unwrap().shown.queue.messages, Some(0));
    let stream = service.empty_queue(&name, "queue/taskcluster-a/s", wish).await.unwrap_err();
    assert!(matches!(stream, ServiceError::Kept(..)), "{stream}");
    let exchanges = service.list_exchanges(&name, None, None, 100).await.unwrap();
    assert_eq!((exchanges.len(), exchanges[0].kind.as_str()), (1, "topic"));
    service.delete_exchange(&name, "exchange/taskcluster-a/x", wish).await.unwrap();
    assert_eq!(service.list_exchanges(&name, None, None, 100).await.unwrap(), []);
    let all = Which::Matching("queue/taskcluster-a/*".to_owned());
    let outcomes = service.delete_queues(&name, &all, false, wish).await.unwrap();
    assert!(outcomes.of.iter().all(|(_, outcome)| matches!(outcome, QueueOutcome::Deleted(_))), "{outcomes:?}");
    assert_eq!((outcomes.of.len(), names(&world, &service).await.len()), (3, 0));
    assert_eq!(world.queues().await, ["queue/taskcluster-b/c"]);
    assert!(world.broker.exchanges().await.unwrap().contains(&"exchange/taskcluster-b/x".to_owned()));
    let gone = service.delete_one_queue(&name, "queue/taskcluster-a/c", wish).await.unwrap_err();
    assert!(matches!(gone, ServiceError::Missing("queue", _)), "{gone}");
    let trail = world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    let done: Vec<_> = trail.iter().rev().skip(2).map(|one| (one.action.as_str(), one.reason.as_str())).collect();
    assert!(done[4].1.starts_with("it had ") && done[4].1.ends_with(" messages; a test"), "{done:?}");
    assert_eq!(
        done,
        [
            ("empty-queue", "it had 3 messages; a test"),
            ("empty-queue", done[1].1),
            ("delete-exchange", "it was a topic exchange; a test"),
            ("delete-queue", "it had 0 messages; a test"),
            ("delete-queue", done[4].1),
            ("delete-queue", "how many messages it had is not known; a test"),
        ]
    );
}

async fn names_with_any_byte_can_be_asked_for(world: World) {
    world.claim_for("taskcluster-a", "", 1000 * HOUR).await;
    let odd = ["a/b", "a%2Fb", "a b ", "a+b?c#d&e", "%", "\t", "\0\u{7f}", "ü日本💌", "\"a\\b'", "../..", "*"];
    let (service, by, name) = (world.service(), by(), world.name("taskcluster-a"));
    let wish = Wish { by: &by, reason: None };
    for odd in odd {
        world.fill(&format!("queue/taskcluster-a/{odd}"), QueueKind::Classic, 1).await;
        world.declare_exchange(&format!("exchange/taskcluster-a/{odd}")).await;
    }
    if let Side::Real(vhost) = &world.side {
        vhost.bind("queue/taskcluster-a/\t", "exchange/taskcluster-a/%", "ü.#").await;
        let bound = service.queue(&name, "queue/taskcluster-a/\t").await.unwrap().bindings;
        assert_eq!((bound.len(), bound[0].exchange.as_str()), (1, "exchange/taskcluster-a/%"));
        assert_eq!(bound[0].routing_key, "ü.#");
    }
    assert_eq!(names(&world, &service).await.len(), odd.len());
    for (gone, odd) in odd.into_iter().enumerate() {
        let (queue, exchange) = (format!("queue/taskcluster-a/{odd}"), format!("exchange/taskcluster-a/{odd}"));
        assert_eq!(service.queue(&name, &queue).await.unwrap().shown.queue.messages, Some(1), "{odd:?}");
        assert_eq!(service.empty_queue(&name, &queue, wish).await.unwrap().messages, Some(1), "{odd:?}");
        assert_eq!(service.delete_one_queue(&name, &queue, wish).await.unwrap().messages, Some(0), "{odd:?}");
        service.delete_exchange(&name, &exchange, wish).await.unwrap();
        assert!(service.delete_exchange(&name, &exchange, wish).await.is_err(), "{odd:?}");
        assert_eq!(world.queues().await.len(), 11 - gone - 1, "{odd:?} alone");
    }
}

async fn a_queue_that_was_warned_of_and_is_deleted_on_demand_is_told_of_no_more(world: World) {
    const QUEUE: &str = "queue/taskcluster-a/x";
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, ALERT + 1).await;
    look_on(&world, 7).await;
    assert_eq!(told(&world).await.len(), 1, "a warning");
    let (service, by, name) = (world.service(), by(), world.name("taskcluster-a"));
    let shown = service.queue(&name, QUEUE).await.unwrap().shown;
    assert!(shown.watched.is_some() && shown.verdict.is_some());
    assert_eq!(service.list_queues(&name, &QueueFilter::default(), 9).await.unwrap()[0].state(), shown.state());
    service.delete_one_queue(&name, QUEUE, Wish { by: &by, reason: None }).await.unwrap();
    assert_eq!(world.store.seen_of(&[QUEUE.to_owned()]).await.unwrap(), Default::default());
    world.clock.advance(2 * MINUTE);
    let outcome = sweep(&world).await;
    assert_eq!((outcome.changed, outcome.failed, told(&world).await.len()), (0, 0, 0));
}

async fn nothing_of_another_namespace_or_of_one_that_is_gone_is_touched(world: World) {
    world.claim_for("taskcluster-a", "", 1000 * HOUR).await;
    world.fill("queue/taskcluster-b/x", QueueKind::Classic, 1).await;
    let (service, by) = (world.service(), by());
    let (name, wish) = (world.name("taskcluster-a"), Wish { by: &by, reason: None });
    let queue = "queue/taskcluster-b/x";
    let refused = [
        service.delete_one_queue(&name, queue, wish).await.map(drop),
        service.empty_queue(&name, queue, wish).await.map(drop),
        service.queue(&name, queue).await.map(drop),
        service.delete_exchange(&name, "exchange/taskcluster-b/x", wish).await,
    ];
    assert!(refused.iter().all(|done| matches!(done, Err(ServiceError::Elsewhere(_)))), "{refused:?}");
    let none = service.delete_one_queue(&world.name("taskcluster-b"), queue, wish).await.unwrap_err();
    assert!(matches!(none, ServiceError::NoNamespace(_)), "nobody has claimed it: {none}");
    // It ends, and its things are not its owner's any more.
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, 1).await;
    world.claim_by(None, "taskcluster-a", Some(world.clock.now())).await.unwrap();
    world.clock.advance(2 * HOUR);
    super::expire(&world).await;
    let gone = service.delete_one_queue(&name, "queue/taskcluster-a/x", wish).await.unwrap_err();
    assert!(matches!(gone, ServiceError::NoNamespace(_)), "{gone}");
    assert!(world.queues().await.contains(&queue.to_owned()));
}
