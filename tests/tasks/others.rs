//! Users of the broker that are somebody else's, under names of ours: another deployment's, or an operator's.

use std::time::Duration;

use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::identity::USER_TAG;
use taskcluster_pulse::domain::inventory::{BrokerUser, QueueKind, Right};
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::service::ServiceError;
use taskcluster_pulse::store::Select;

use super::{expire, fake_world, sweep};
use crate::on_every_world;
use crate::support::fake_broker::{Connection, Failure, Fault};
use crate::support::world::{DELETE, HOUR, World};

on_every_world! {
    a_first_claim_takes_nothing_from_the_owner_of_a_user_and_leaves_nothing_half_made,
    a_user_that_somebody_made_anew_is_not_written_and_its_namespace_goes_on_as_it_can,
    an_expiry_leaves_a_user_of_somebody_else_and_goes_on_once_it_is_gone,
    what_version_1_made_is_taken_into_the_new_tag,
    what_version_1_made_and_has_rights_elsewhere_is_left_alone,
    rights_elsewhere_are_taken_from_users_of_ours,
    two_deployments_on_one_virtual_host_do_not_touch_each_others_users,
    the_users_of_a_lost_deployment_are_taken_over_when_the_operator_says_so,
}

fn user_of(world: &World, slot: Slot) -> String {
    world.policy.names.user(&world.name("taskcluster-a"), slot)
}

fn right(user: &str, topic: bool, world: &World) -> Right {
    let vhost = if topic { world.policy.connection.vhost.clone() } else { world.other_vhost() };
    Right { user: user.to_owned(), vhost, topic }
}

/// Somebody makes a user of its own.
async fn somebody_makes(world: &World, user: &str) -> BrokerUser {
    world.make_user(user, "administrator").await;
    world.broker.user(user).await.unwrap().unwrap()
}

async fn retag(world: &World, user: &str, tags: &str) {
    let found = world.broker.user(user).await.unwrap().unwrap();
    world.broker.put_user(user, &found.hash, tags).await.unwrap();
}

async fn tags(world: &World, user: &str) -> Vec<String> {
    world.broker.user(user).await.unwrap().unwrap().tags.to_vec()
}

async fn our_tag(world: &World) -> String {
    world.store.tag().await.unwrap().as_str().to_owned()
}

async fn a_first_claim_takes_nothing_from_the_owner_of_a_user_and_leaves_nothing_half_made(world: World) {
    for slot in Slot::BOTH {
        let user = user_of(&world, slot);
        let theirs = somebody_makes(&world, &user).await;
        let mut rights = [right(&user, false, &world), right(&user, true, &world)];
        rights.sort();
        for right in &rights {
            world.grant(right).await;
        }
        for _ in 0..2 {
            let refused = world.claim("taskcluster-a").await.unwrap_err();
            assert!(matches!(&refused, ServiceError::ForeignUser { user: named, .. } if *named == user), "{refused}");
        }
        for outcome in [sweep(&world).await, expire(&world).await, world.service().rotate(false).await.unwrap()] {
            assert_eq!((outcome.changed, outcome.failed), (0, 0), "{outcome:?}");
        }
        assert_eq!(world.broker.user(&user).await.unwrap(), Some(theirs));
        let mut found = world.broker.rights_elsewhere(Some(&user)).await.unwrap();
        found.sort();
        assert_eq!(found, rights);
        assert_eq!(world.users().await, [user.as_str()], "the other one is not made");
        assert!(world.store.namespaces(Select::All).await.unwrap().is_empty());
        assert_eq!(world.store.foreign_users(10).await.unwrap(), [user.as_str()]);
        let [(_, warnings), _] = world.service().warnings(Duration::from_secs(20)).await;
        assert!(warnings.len() == 1 && warnings[0].contains(&user), "{warnings:?}");
        world.broker.delete_user(&user).await.unwrap();
    }
    assert!(world.logs_in(&world.claim("taskcluster-a").await.unwrap().connection_string).await);
    assert_eq!(sweep(&world).await.changed, 0);
    let [(_, warnings), _] = world.service().warnings(Duration::from_secs(20)).await;
    assert!(warnings.is_empty(), "{warnings:?}");
}

async fn a_user_that_somebody_made_anew_is_not_written_and_its_namespace_goes_on_as_it_can(world: World) {
    let claimed = world.claim_for("taskcluster-a", "a@a.com", 100 * HOUR).await.connection_string;
    let user = user_of(&world, Slot::Two);
    world.broker.delete_user(&user).await.unwrap();
    let theirs = somebody_makes(&world, &user).await;
    world.clock.advance(HOUR);
    let planned = world.service().sweep(&world.sweep_policy(), true).await.unwrap();
    assert!(planned.plan.unwrap().is_empty() && planned.reports[0].contains(&user));
    for _ in 0..2 {
        let rotated = world.service().rotate(false).await.unwrap();
        assert_eq!((rotated.changed, rotated.failed), (0, 1), "{rotated:?}");
        assert!(rotated.reports.iter().any(|report| report.contains(&user)), "{rotated:?}");
        let swept = sweep(&world).await;
        assert_eq!((swept.changed, swept.failed), (0, 0), "{swept:?}");
        assert!(swept.reports.iter().any(|report| report.contains(&user)), "{swept:?}");
        world.clock.advance(world.policy.settle_budget);
    }
    assert_eq!(world.broker.user(&user).await.unwrap(), Some(theirs));
    assert_eq!(world.claim("taskcluster-a").await.unwrap().connection_string, claimed);
    assert!(world.logs_in(&claimed).await);
    world.broker.delete_user(&user).await.unwrap();
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    assert!(world.logs_in(&world.claim("taskcluster-a").await.unwrap().connection_string).await);
}

async fn an_expiry_leaves_a_user_of_somebody_else_and_goes_on_once_it_is_gone(world: World) {
    world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    let [one, two] = Slot::BOTH.map(|slot| user_of(&world, slot));
    world.broker.delete_user(&one).await.unwrap();
    let theirs = somebody_makes(&world, &one).await;
    assert_eq!(sweep(&world).await.changed, 0, "nobody can tell whose queue that is");
    world.clock.advance(2 * HOUR);
    for _ in 0..3 {
        let outcome = expire(&world).await;
        assert!(outcome.failed == 0 && outcome.reports[0].contains(&one), "{outcome:?}");
        world.clock.advance(HOUR);
    }
    assert_eq!(world.broker.user(&one).await.unwrap(), Some(theirs));
    assert_eq!(world.broker.user(&two).await.unwrap(), None);
    assert_eq!(world.queues().await, ["queue/taskcluster-a/x"]);
    world.broker.delete_user(&one).await.unwrap();
    expire(&world).await;
    assert!(world.queues().await.is_empty());
    world.clock.advance(HOUR);
    expire(&world).await;
    assert!(world.store.namespaces(Select::All).await.unwrap().is_empty());
}

async fn what_version_1_made_is_taken_into_the_new_tag(world: World) {
    let claimed = world.claim_for("taskcluster-a", "", 100 * HOUR).await.connection_string;
    let [one, two] = Slot::BOTH.map(|slot| user_of(&world, slot));
    let ours = [our_tag(&world).await];
    retag(&world, &one, USER_TAG).await;
    retag(&world, &two, USER_TAG).await;
    world.clock.advance(HOUR);
    let rotated = world.service().rotate(false).await.unwrap();
    assert_eq!((rotated.changed, rotated.failed), (1, 0));
    assert_eq!((tags(&world, &one).await, tags(&world, &two).await), (vec![USER_TAG.to_owned()], ours.to_vec()));
    let rotated = world.claim("taskcluster-a").await.unwrap().connection_string;
    // A sweep of version 1.0.0 that still runs beside this one undoes it.
    retag(&world, &two, USER_TAG).await;
    assert_eq!(sweep(&world).await.changed, 2);
    assert_eq!((tags(&world, &one).await, tags(&world, &two).await), (ours.to_vec(), ours.to_vec()));
    for string in [&claimed, &rotated] {
        assert!(world.logs_in(string).await);
    }
    retag(&world, &one, USER_TAG).await;
    world.clock.advance(200 * HOUR);
    assert_eq!(expire(&world).await.failed, 0);
    assert!(world.users().await.is_empty());
}

async fn what_version_1_made_and_has_rights_elsewhere_is_left_alone(world: World) {
    world.claim_for("taskcluster-a", "", 100 * HOUR).await;
    let two = user_of(&world, Slot::Two);
    retag(&world, &two, USER_TAG).await;
    world.grant(&right(&two, false, &world)).await;
    let theirs = world.broker.user(&two).await.unwrap();
    world.clock.advance(HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().failed, 1);
    assert_eq!(sweep(&world).await.changed, 0);
    world.clock.advance(200 * HOUR);
    expire(&world).await;
    assert_eq!(world.broker.user(&two).await.unwrap(), theirs);
    assert_eq!(world.broker.rights_elsewhere(Some(&two)).await.unwrap(), [right(&two, false, &world)]);
}

async fn rights_elsewhere_are_taken_from_users_of_ours(world: World) {
    let claimed = world.claim_for("taskcluster-a", "", 100 * HOUR).await.connection_string;
    let [one, two] = Slot::BOTH.map(|slot| user_of(&world, slot));
    world.grant(&right(&one, false, &world)).await;
    world.grant(&right(&one, true, &world)).await;
    world.grant(&right(&two, true, &world)).await;
    // Tags that somebody gave to it don't make it somebody else's.
    retag(&world, &two, &format!("administrator,{}", our_tag(&world).await)).await;
    let planned = world.service().sweep(&world.sweep_policy(), true).await.unwrap().plan.unwrap();
    let planned: Vec<_> = planned.iter().map(|step| (step.action, step.object.as_str())).collect();
    let expected = [
        ("revoke rights", "taskcluster-a-1"),
        ("revoke rights", "taskcluster-a-2"),
        ("repair user", "taskcluster-a-2"),
    ];
    assert_eq!(planned, expected);
    assert_eq!(sweep(&world).await.changed, 3);
    for user in [&one, &two] {
        assert_eq!(world.broker.rights_elsewhere(Some(user)).await.unwrap(), []);
        assert_eq!(tags(&world, user).await, [our_tag(&world).await]);
    }
    assert!(world.logs_in(&claimed).await);
    assert_eq!(sweep(&world).await.changed, 0);
}

async fn two_deployments_on_one_virtual_host_do_not_touch_each_others_users(world: World) {
    let first = world.claim("taskcluster-a").await.unwrap().connection_string;
    world.fill("queue/taskcluster-a/x", QueueKind::Classic, DELETE + 1).await;
    let world = world.with_empty_store().await;
    let refused = world.claim("taskcluster-a").await.unwrap_err();
    assert!(matches!(refused, ServiceError::ForeignUser { .. }), "{refused}");
    world.claim_for("taskcluster-b", "", 10_000 * HOUR).await;
    let orphans_too = ExpiryPolicy { orphans_after: Some(Duration::ZERO), ..world.expiry_policy() };
    for _ in 0..3 {
        world.clock.advance(HOUR);
        let outcome = world.service().expire(&orphans_too, false).await.unwrap();
        assert_eq!((outcome.changed, outcome.failed), (0, 0), "{outcome:?}");
        let outcome = sweep(&world).await;
        assert!(outcome.reports.iter().any(|report| report.contains("taskcluster-a-1")), "{outcome:?}");
    }
    assert!(world.logs_in(&first).await);
    assert_eq!(world.queues().await, ["queue/taskcluster-a/x"]);
}

async fn the_users_of_a_lost_deployment_are_taken_over_when_the_operator_says_so(world: World) {
    let before = world.claim("taskcluster-a").await.unwrap().connection_string;
    world.claim("taskcluster-b").await.unwrap();
    let former = our_tag(&world).await;
    let world = world.with_empty_store().await;
    let [operators, named] = ["taskcluster-ops", "taskcluster-b"].map(|name| {
        let name = world.name(name);
        world.policy.names.user(&name, Slot::One)
    });
    let theirs = somebody_makes(&world, &operators).await;
    world.grant(&right(&named, true, &world)).await;
    let take_over = async |from: &[&str], dry_run| {
        let from: Vec<_> = from.iter().map(|from| (*from).to_owned()).collect();
        world.service().take_over_users(&from, dry_run).await.unwrap()
    };
    for planned in [take_over(&[], false).await, take_over(&[&former], true).await] {
        let plan = planned.plan.unwrap();
        assert!(plan.len() == 3 && plan.iter().all(|step| step.reason.ends_with(&former)), "{plan:?}");
        assert!(planned.reports[0].starts_with(&named), "{:?}", planned.reports);
    }
    let other = take_over(&["taskcluster-pulse"], false).await;
    assert_eq!(other.changed, 0);
    assert!(other.reports.iter().any(|report| report.starts_with(&format!("3 users are of {former}"))), "{other:?}");
    assert!(world.claim("taskcluster-a").await.is_err());

    let taken = take_over(&[&former], false).await;
    assert_eq!((taken.changed, taken.failed), (3, 0), "{taken:?}");
    assert!(world.logs_in(&before).await, "the passwords are as they were");
    let after = world.claim("taskcluster-a").await.unwrap().connection_string;
    assert!(world.logs_in(&after).await && !world.logs_in(&before).await);
    assert!(world.claim("taskcluster-b").await.is_err(), "one of its users has rights on topics");
    assert_eq!(world.broker.user(&operators).await.unwrap(), Some(theirs));
    assert_eq!(take_over(&[&former], false).await.changed, 0);
}

/// Two looks, two users, and the permissions of the one that has a password.
#[tokio::test]
async fn a_first_claim_makes_one_call_more_than_it_takes_to_make_two_users() {
    let world = fake_world().await;
    world.claim("taskcluster-a").await.unwrap();
    assert_eq!(world.fake().all_requests(), 5);
}

#[tokio::test]
async fn connections_of_somebody_elses_users_are_not_closed() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 10_000 * HOUR).await;
    world.claim_for("taskcluster-b", "", Duration::ZERO).await;
    world.clock.advance(100 * HOUR);
    for user in ["taskcluster-a-1", "taskcluster-b-1"] {
        world.broker.delete_user(user).await.unwrap();
        world.make_user(user, "administrator").await;
        let connection = Connection { user: user.into(), connected_at: 0, listed: true };
        world.fake().state().connections.insert(format!("of {user}"), connection);
    }
    // Also where the list of users is too short to show whose they are.
    world.fake().fault(Fault::new(Failure::Partial(1)).on("GET", "/api/users").times(1));
    for _ in 0..2 {
        sweep(&world).await;
        expire(&world).await;
        world.clock.advance(HOUR);
    }
    assert!(world.fake().state().closed.is_empty());
    assert_eq!(world.fake().state().connections.len(), 2);
    assert_eq!(world.users().await, ["taskcluster-a-1", "taskcluster-a-2", "taskcluster-b-1"]);
}

/// A claim that has read its record, and whose user somebody makes before the rotation comes.
#[tokio::test]
async fn a_rotation_does_not_take_the_word_of_a_node_that_is_starting() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", 100 * HOUR).await;
    world.broker.delete_user("taskcluster-a-2").await.unwrap();
    let theirs = somebody_makes(&world, "taskcluster-a-2").await;
    world.clock.advance(HOUR);
    world.fake().fault(Fault::new(Failure::Booting).on("GET", "/users/").times(1));
    assert_eq!(world.service().rotate(false).await.unwrap().failed, 1);
    assert_eq!(world.broker.user("taskcluster-a-2").await.unwrap(), Some(theirs));
}

/// A namespace that came back before its users were removed, which version 1.0.0 had made.
#[tokio::test]
async fn a_namespace_of_version_1_that_comes_back_is_not_locked_out() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "", Duration::ZERO).await;
    for user in ["taskcluster-a-1", "taskcluster-a-2"] {
        retag(&world, user, USER_TAG).await;
    }
    world.clock.advance(2 * HOUR);
    world.fake().fault(Fault::new(Failure::Status(503)).on("DELETE", "/users/"));
    world.fake().fault(Fault::new(Failure::Status(503)).on("POST", "/users/"));
    assert_eq!(expire(&world).await.failed, 1);
    world.fake().heal();
    world.clock.advance(world.policy.settle_budget);
    let claimed = world.claim("taskcluster-a").await.unwrap();
    assert!(world.logs_in(&claimed.connection_string).await && claimed.reclaim_at > world.clock.now());
}
