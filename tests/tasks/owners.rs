//! Owners, exemptions and the audit trail, as the scheduled tasks meet them.

use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::audit::{Actor, AuditFilter, By};
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::ladder::Exemption;
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::service::ServiceError;

use super::{MINUTE, expire, fake_world, sweep};
use crate::support::world::{DELETE, HOUR, Mailbox, World};

const QUEUE: &str = "queue/taskcluster-a/x";

fn by() -> By {
    By::client("admin")
}

/// A world with a namespace that has a contact and these owners.
async fn owned_world(owners: &[&str]) -> World {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    let owners = owners.iter().map(|owner| Owner::parse(owner).unwrap()).collect();
    world.service().set_owners(&world.name("taskcluster-a"), owners, false, &by()).await.unwrap();
    world
}

/// Sweeps and delivers, again and again, until the queue is gone; how many minutes that took, `None` where it was not within
/// so many.
async fn until_gone(world: &World, mailbox: &Mailbox, minutes: u32) -> Option<u32> {
    for minute in (2..=minutes).step_by(2) {
        world.clock.advance(2 * MINUTE);
        sweep(world).await;
        world.service().deliver(mailbox, false).await.unwrap();
        if world.queues().await.is_empty() {
            return Some(minute);
        }
    }
    None
}

/// What the audit trail has, the oldest first: who, what, to what, why.
async fn trail(world: &World) -> Vec<(Actor, String, String, String)> {
    let found = world.store.audits(&AuditFilter::default(), 100).await.unwrap();
    found.into_iter().rev().map(|one| (one.by.actor, one.action, one.object, one.reason)).collect()
}

fn addresses(mailbox: &Mailbox) -> Vec<String> {
    let mut to: Vec<_> = mailbox.delivered.lock().unwrap().iter().map(|notice| notice.to.clone()).collect();
    to.sort();
    to
}

#[tokio::test]
async fn everybody_who_owns_a_queue_is_told_and_one_that_is_never_reached_hides_nobody() {
    let world = owned_world(&["b@b.com", "group:releng", "A@a.com"]).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mailbox = Mailbox { unreachable: vec!["a@a.com"].into_iter().collect::<Vec<_>>().into(), ..Mailbox::default() };
    let took = until_gone(&world, &mailbox, 120).await.expect("one owner who was told is enough");
    assert!(took >= 15, "{took}");
    assert_eq!(addresses(&mailbox), ["b@b.com", "b@b.com"], "a warning, and that it was deleted");
    mailbox.unreachable.lock().unwrap().clear();
    world.clock.advance(8 * HOUR);
    world.service().deliver(&mailbox, false).await.unwrap();
    assert_eq!(
        addresses(&mailbox),
        ["a@a.com", "a@a.com", "b@b.com", "b@b.com"],
        "its own fail and come by themselves"
    );
}

#[tokio::test]
async fn a_group_is_told_at_its_address_and_nobody_twice() {
    let mut world = owned_world(&["B@b.com", "group:releng", "group:sheriffs"]).await;
    let groups = [("releng", "releng@b.com"), ("sheriffs", "b@b.com"), ("others", "others@b.com")];
    world.policy.groups = groups.map(|(group, address)| (group.to_owned(), address.to_owned())).into_iter().collect();
    world.claim_for("taskcluster-a", "", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mailbox = Mailbox { unreachable: vec!["b@b.com"].into(), ..Mailbox::default() };
    until_gone(&world, &mailbox, 120).await.expect("the group was told");
    assert_eq!(addresses(&mailbox), ["releng@b.com", "releng@b.com"]);
    mailbox.unreachable.lock().unwrap().clear();
    world.clock.advance(8 * HOUR);
    world.service().deliver(&mailbox, false).await.unwrap();
    assert_eq!(addresses(&mailbox), ["b@b.com", "b@b.com", "releng@b.com", "releng@b.com"]);
}

#[tokio::test]
async fn an_owner_is_told_where_no_claim_names_a_contact() {
    let world = owned_world(&["b@b.com"]).await;
    world.claim_for("taskcluster-a", "", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mailbox = Mailbox::default();
    until_gone(&world, &mailbox, 120).await.unwrap();
    assert_eq!(addresses(&mailbox), ["b@b.com", "b@b.com"]);
    let error = world.service().set_owners(&world.name("taskcluster-a"), vec![], false, &by()).await.unwrap_err();
    assert!(matches!(error, ServiceError::LastOwner(_)), "{error}");
}

#[tokio::test]
async fn an_exempted_queue_stays_whatever_becomes_of_it_and_goes_when_the_exemption_is_over() {
    let world = owned_world(&[]).await;
    let (service, name) = (world.service(), world.name("taskcluster-a"));
    let until = Some(world.clock.now().plus(10 * HOUR));
    let exemption = Exemption { up_to: None, until };
    service.exempt(&name, "queue/taskcluster-a/*", exemption, "a slow reader", &by()).await.unwrap();
    let mailbox = Mailbox::default();
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    assert_eq!(until_gone(&world, &mailbox, 120).await, None);
    // Declared anew, it is exempted as before.
    world.fake().state().queues.remove(QUEUE);
    sweep(&world).await;
    world.fill(QUEUE, QueueKind::Classic, 3 * DELETE).await;
    assert_eq!(until_gone(&world, &mailbox, 120).await, None);
    assert_eq!(mailbox.subjects(), [] as [&str; 0], "nobody is threatened");
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    assert_eq!(service.exemptions(&name).await.unwrap().len(), 1, "a claim leaves it");
    let left = until_gone(&world, &mailbox, 600).await.expect("it is over");
    assert!(left >= 340, "{left} minutes after the fourth hour");
    let subjects = mailbox.subjects();
    assert!(subjects.len() == 2 && subjects[1].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn a_queue_that_grows_beyond_its_own_bound_is_warned_of_with_that_bound() {
    let world = owned_world(&[]).await;
    let (service, name) = (world.service(), world.name("taskcluster-a"));
    let exemption = Exemption { up_to: Some(3 * DELETE), until: None };
    service.exempt(&name, QUEUE, exemption, "a slow reader", &by()).await.unwrap();
    world.fill(QUEUE, QueueKind::Classic, 3 * DELETE + 1).await;
    let mailbox = Mailbox::default();
    until_gone(&world, &mailbox, 120).await.expect("it is beyond its bound");
    let text = mailbox.delivered.lock().unwrap()[0].text.clone();
    assert!(text.contains(&format!("{} messages for some time", 3 * DELETE)), "{text}");
}

#[tokio::test]
async fn an_exemption_that_is_granted_while_a_sweep_decides_is_heeded() {
    let world = owned_world(&[]).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let (service, name, mailbox) = (world.service(), world.name("taskcluster-a"), Mailbox::default());
    for _ in 0..7 {
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
        service.deliver(&mailbox, false).await.unwrap();
    }
    world.clock.advance(4 * MINUTE);
    let exemption = Exemption { up_to: None, until: None };
    service.exempt(&name, QUEUE, exemption, "wait", &by()).await.unwrap();
    for _ in 0..20 {
        sweep(&world).await;
        world.clock.advance(2 * MINUTE);
    }
    assert_eq!(world.queues().await, [QUEUE]);
}

#[tokio::test]
async fn whatever_is_done_to_somebodys_things_is_in_the_audit_trail_and_a_claim_that_changes_nothing_is_not() {
    let world = owned_world(&["b@b.com"]).await;
    for _ in 0..3 {
        world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    }
    world.claim_for("taskcluster-a", "c@c.com", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    until_gone(&world, &Mailbox::default(), 120).await.unwrap();
    let (service, name) = (world.service(), world.name("taskcluster-a"));
    service.exempt(&name, QUEUE, Exemption { up_to: None, until: None }, "it may", &by()).await.unwrap();
    service.end_exemption(&name, QUEUE, &by()).await.unwrap();
    world.claim_for("taskcluster-a", "c@c.com", MINUTE).await;
    world.clock.advance(3 * HOUR);
    expire(&world).await;
    let found = trail(&world).await;
    let done: Vec<_> = found.iter().map(|(_, action, object, _)| (action.as_str(), object.as_str())).collect();
    assert_eq!(
        done,
        [
            ("claim", "taskcluster-a"),
            ("set-owners", "taskcluster-a"),
            ("set-contact", "taskcluster-a"),
            ("warn", QUEUE),
            ("delete-queue", QUEUE),
            ("exempt", QUEUE),
            ("end-exemption", QUEUE),
            ("expire", "taskcluster-a"),
        ]
    );
    assert_eq!(found[3].0, Actor::Task("monitor-rabbit".to_owned()));
    assert!(found[4].3.contains(&format!("{} messages, more than {DELETE}; ", DELETE + 1)), "{}", found[4].3);
    let before = world.store.audits(&AuditFilter::default(), 100).await.unwrap().len();
    world.clock.advance(366 * 24 * HOUR);
    expire(&world).await;
    assert_eq!(before, 8);
    assert_eq!(trail(&world).await, [], "it is forgotten after a year");
}

#[tokio::test]
async fn owners_and_exemptions_end_with_the_namespace() {
    let world = owned_world(&["b@b.com"]).await;
    let (service, name) = (world.service(), world.name("taskcluster-a"));
    service.exempt(&name, QUEUE, Exemption { up_to: None, until: None }, "it may", &by()).await.unwrap();
    world.claim_for("taskcluster-a", "", MINUTE).await;
    world.clock.advance(3 * HOUR);
    while world.store.namespace(&name).await.unwrap().is_some_and(|found| found.gone.is_none()) {
        expire(&world).await;
    }
    assert!(matches!(service.owners(&name).await, Err(ServiceError::NoNamespace(_))));
    world.clock.advance(HOUR);
    world.claim_for("taskcluster-a", "", HOUR).await;
    assert_eq!(service.exemptions(&name).await.unwrap(), []);
    assert_eq!(service.owners(&name).await.unwrap().owners, []);
}
