//! What the tasks ask of the broker and the store: calls are counted, because they don't depend on the machine.

use std::time::Duration;

use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::plan::Brakes;

use super::fake_world;
use crate::support::fake_broker::{Connection, Failure, Fault};
use crate::support::world::{HOUR, World};

/// How many namespaces end together.
const ENDING: usize = 40;

/// How many calls it takes to look at everything.
const LISTS: usize = 8;

/// A run may remove all that it sees.
fn expiry_policy(world: &World) -> ExpiryPolicy {
    let brakes = Brakes { most: 100_000, percent: 1000, owner_percent: 100 };
    ExpiryPolicy { brakes, ..world.expiry_policy() }
}

/// Namespaces that have ended, each with two users, a queue and an exchange.
async fn ended(count: usize) -> World {
    let world = fake_world().await;
    for number in 0..count {
        let name = format!("taskcluster-{number}");
        world.claim_for(&name, "", Duration::ZERO).await;
        world.fill(&format!("queue/{name}/x"), QueueKind::Classic, 1).await;
        world.declare_exchange(&format!("exchange/{name}/x")).await;
    }
    world.clock.advance(2 * HOUR);
    world
}

/// Each of them costs two looks before its users go, and two before the rest does; two deletions; and a quarter of a call that deletes
/// users.
#[tokio::test]
async fn namespaces_that_end_together_cost_few_calls_each() {
    let world = ended(ENDING).await;
    let before = (world.fake().all_requests(), world.fake().requests("GET", "/api/users"));
    let outcome = world.service().expire(&expiry_policy(&world), false).await.unwrap();
    assert_eq!((outcome.failed, outcome.changed), (0, 2 * ENDING));
    assert!(world.users().await.is_empty() && world.queues().await.is_empty());
    let looks = world.fake().requests("GET", "/api/users") - before.1 - 1;
    assert_eq!(looks, 2, "one before, and one after");
    let calls = world.fake().all_requests() - before.0 - 2 - looks * LISTS;
    assert_eq!(calls, ENDING * 6 + ENDING / 4);
}

/// RabbitMQ 3 deletes no further where one of several users is not there.
#[tokio::test]
async fn users_of_which_one_went_meanwhile_are_deleted_all_the_same() {
    for version in ["3.13.7", "4.0.5"] {
        let world = ended(4).await;
        world.fake().state().version = version.to_owned();
        let look = Fault::new(Failure::Slow(Duration::ZERO)).on("GET", "/api/users/taskcluster-1-1").times(1);
        world.fake().fault(look.after_doing().then(|state| _ = state.users.remove("taskcluster-1-1")));
        let outcome = world.service().expire(&expiry_policy(&world), false).await.unwrap();
        assert_eq!((outcome.failed, outcome.changed), (0, 8), "{version}");
        assert!(world.users().await.is_empty() && world.queues().await.is_empty());
    }
}

/// A connection goes with its user, so that it is not closed by its name, too.
#[tokio::test]
async fn connections_of_namespaces_that_end_are_told_why_and_closed_once() {
    let world = ended(3).await;
    for user in ["taskcluster-1-1", "taskcluster-2-1"] {
        let connection = Connection { user: user.to_owned(), connected_at: 0, listed: true };
        world.fake().state().connections.insert(user.to_owned(), connection);
    }
    let outcome = world.service().expire(&expiry_policy(&world), false).await.unwrap();
    assert_eq!((outcome.failed, outcome.changed), (0, 6));
    let closed = world.fake().state().closed.clone();
    assert!(closed.len() == 2 && closed.iter().all(|(_, why)| why.contains("gone since")), "{closed:?}");
    for user in ["taskcluster-0-1", "taskcluster-1-1", "taskcluster-1-2"] {
        let asked = world.fake().requests("DELETE", &format!("/api/connections/username/{user}"));
        assert_eq!(asked, usize::from(user == "taskcluster-1-1"), "{user}");
        assert_eq!(world.fake().requests("DELETE", &format!("/api/connections/{user}")), 0);
    }
}
