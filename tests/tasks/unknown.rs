//! What the broker has in the names of namespaces that the store does not know, deleted because an administrator asks for it.

use taskcluster_pulse::domain::audit::{AuditFilter, By};
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::unknown::NotUnknown;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Ended, ServiceError};
use taskcluster_pulse::store::Select;

use super::{MINUTE, expire};
use crate::support::world::{HOUR, World};

crate::on_every_world! {
    what_nobody_accounts_for_is_deleted_on_demand_by_the_next_expiry_run,
    a_claim_has_what_was_to_be_deleted_as_unknown,
    what_is_known_or_somebody_elses_is_not_deleted_as_unknown,
    a_store_without_namespaces_has_nothing_deleted_as_unknown,
    what_is_deleted_as_unknown_goes_by_the_brakes,
}

fn by() -> By {
    By::client("me")
}

/// Things of a namespace that the store does not know: a user of this deployment, a queue, an exchange.
async fn lose(world: &World) {
    let user = world.policy.names.user(&world.name("taskcluster-lost"), Slot::One);
    let tag = world.store.tag().await.unwrap();
    world.broker.put_user(&user, &Password::random().hash(), tag.as_str()).await.unwrap();
    world.fill("queue/taskcluster-lost/x", QueueKind::Classic, 3).await;
    world.declare_exchange("exchange/taskcluster-lost/x").await;
}

async fn end(world: &World, name: &str) -> Result<Ended, ServiceError> {
    world.service().end_unknown(&world.name(name), "a test is over", &by()).await
}

fn is_pending(ended: &Result<Ended, ServiceError>) -> bool {
    matches!(ended, Ok(Ended::Pending(why)) if why.contains("expire-namespaces"))
}

async fn what_nobody_accounts_for_is_deleted_on_demand_by_the_next_expiry_run(world: World) {
    world.claim_for("taskcluster-known", "", 10_000 * HOUR).await;
    world.fill("queue/taskcluster-known/x", QueueKind::Classic, 1).await;
    lose(&world).await;
    let found = world.service().unknown().await.unwrap();
    let things: Vec<_> = found.things.iter().map(|(name, of)| (name.as_str(), of.count())).collect();
    assert_eq!((things, found.theirs.is_empty()), (vec![("taskcluster-lost", 3)], true));
    for _ in 0..2 {
        let ended = end(&world, "taskcluster-lost").await;
        assert!(is_pending(&ended), "{ended:?}");
    }
    assert_eq!(world.queues().await.len(), 2, "nothing is removed by the request");
    assert!(world.service().unknown().await.unwrap().things.is_empty(), "it is accounted for");
    world.clock.advance(MINUTE);
    let outcome = expire(&world).await;
    assert_eq!((outcome.changed, outcome.failed), (2, 0), "it is removed, and its tombstone forgotten: {outcome:?}");
    assert_eq!(world.queues().await, ["queue/taskcluster-known/x"]);
    assert!(!world.broker.exchanges().await.unwrap().contains(&"exchange/taskcluster-lost/x".to_owned()));
    assert_eq!(world.users().await.len(), 2, "those of the known one");
    let over = end(&world, "taskcluster-lost").await.unwrap_err();
    assert!(matches!(over, ServiceError::NotUnknown(NotUnknown::Nothing(_))), "{over}");
    let trail = world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    let asked: Vec<_> = trail.iter().filter(|of| of.action == "end-unknown").collect();
    let told = (asked.len(), asked[0].object.as_str(), asked[0].reason.as_str());
    assert_eq!(told, (1, "taskcluster-lost", "3 things; a test is over"));
    let removed = trail.iter().filter(|of| ["delete-queue", "delete-exchange"].contains(&of.action.as_str()));
    assert_eq!(removed.count(), 2);
    assert_eq!(world.store.namespaces(Select::All).await.unwrap().len(), 1);
    assert!(world.logs_in(&world.claim("taskcluster-lost").await.unwrap().connection_string).await);
}

async fn a_claim_has_what_was_to_be_deleted_as_unknown(world: World) {
    world.claim_for("taskcluster-known", "", 10_000 * HOUR).await;
    lose(&world).await;
    assert!(is_pending(&end(&world, "taskcluster-lost").await));
    world.clock.advance(MINUTE);
    let claimed = world.claim_for("taskcluster-lost", "", 10_000 * HOUR).await.connection_string;
    expire(&world).await;
    assert_eq!(world.queues().await, ["queue/taskcluster-lost/x"]);
    assert!(world.logs_in(&claimed).await);
    let known = end(&world, "taskcluster-lost").await.unwrap_err();
    assert!(matches!(known, ServiceError::NotUnknown(NotUnknown::Known(_))), "{known}");
}

async fn what_is_known_or_somebody_elses_is_not_deleted_as_unknown(world: World) {
    world.claim_for("taskcluster-known", "", 10_000 * HOUR).await;
    world.fill("queue/taskcluster-known/x", QueueKind::Classic, 1).await;
    let known = end(&world, "taskcluster-known").await.unwrap_err();
    assert!(matches!(known, ServiceError::NotUnknown(NotUnknown::Known(_))), "{known}");
    let nothing = end(&world, "taskcluster-lost").await.unwrap_err();
    assert!(matches!(nothing, ServiceError::NotUnknown(NotUnknown::Nothing(_))), "{nothing}");
    lose(&world).await;
    let theirs = world.policy.names.user(&world.name("taskcluster-lost"), Slot::Two);
    world.make_user(&theirs, "administrator").await;
    let refused = end(&world, "taskcluster-lost").await.unwrap_err();
    let named = matches!(&refused, ServiceError::NotUnknown(NotUnknown::Theirs { user, .. }) if *user == theirs);
    assert!(named, "{refused}");
    assert!(world.service().unknown().await.unwrap().theirs.contains(&world.name("taskcluster-lost")));
    world.clock.advance(HOUR);
    expire(&world).await;
    assert_eq!(world.queues().await.len(), 2);
    // One that somebody makes after it was asked for is heeded, too.
    world.broker.delete_user(&theirs).await.unwrap();
    assert!(is_pending(&end(&world, "taskcluster-lost").await));
    world.make_user(&theirs, "administrator").await;
    world.clock.advance(MINUTE);
    expire(&world).await;
    assert_eq!(world.queues().await.len(), 2);
}

async fn a_store_without_namespaces_has_nothing_deleted_as_unknown(world: World) {
    lose(&world).await;
    let refused = end(&world, "taskcluster-lost").await.unwrap_err();
    assert!(matches!(refused, ServiceError::NotUnknown(NotUnknown::NoneLive)), "{refused}");
    assert!(world.store.namespaces(Select::All).await.unwrap().is_empty());
}

async fn what_is_deleted_as_unknown_goes_by_the_brakes(world: World) {
    world.claim_for("taskcluster-known", "", 10_000 * HOUR).await;
    lose(&world).await;
    for number in 0..3 {
        world.fill(&format!("queue/taskcluster-lost/{number}"), QueueKind::Classic, 0).await;
    }
    assert!(is_pending(&end(&world, "taskcluster-lost").await));
    let brakes = Brakes { most: 2, percent: 25, owner_percent: 100 };
    let careful = ExpiryPolicy { brakes, ..world.expiry_policy() };
    let mut left = 4;
    for run in 0.. {
        assert!(run < 10, "{left} queues are left");
        world.clock.advance(MINUTE);
        world.service().expire(&careful, false).await.unwrap();
        let now = world.queues().await.len();
        assert!(now + 2 >= left, "one run removes two things at most: {now} of {left}");
        left = now;
        if left == 0 {
            break;
        }
    }
}
