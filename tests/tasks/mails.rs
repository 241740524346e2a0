//! Mails: one that tells of many queues, reminders that nobody wants, and addresses that refuse.

use taskcluster_pulse::clock::Clock;
use taskcluster_pulse::domain::inventory::QueueKind;
use taskcluster_pulse::domain::ladder::Mail;
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::service::Outcome;

use super::{MINUTE, fake_world, look_on, ripen, sweep, watch, watch_as};
use crate::support::world::{ALERT, DELETE, HOUR, Mailbox, World};

const QUEUE: &str = "queue/taskcluster-a/x";

async fn deliver(world: &World, mailbox: &Mailbox) -> Outcome {
    world.service().deliver(mailbox, false).await.unwrap()
}

async fn fill_many(world: &World, namespace: &str, queues: usize, messages: u64) {
    for number in 0..queues {
        world.fill(&format!("queue/{namespace}/{number:03}"), QueueKind::Classic, messages).await;
    }
}

/// Of each queue that is remembered, what became of the last that was told of it.
async fn mails(world: &World) -> Vec<Mail> {
    world.store.watches().await.unwrap().iter().filter_map(|watched| Some(watched.watch.told?.mail)).collect()
}

#[tokio::test]
async fn one_mail_tells_of_many_queues_and_is_the_warning_of_each() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.claim_for("taskcluster-b", "b@b.com", 1000 * HOUR).await;
    fill_many(&world, "taskcluster-a", 300, DELETE + 1).await;
    fill_many(&world, "taskcluster-b", 4, DELETE + 1).await;
    look_on(&world, 5).await;
    let mailbox = Mailbox::default();
    let outcome = deliver(&world, &mailbox).await;
    assert_eq!((outcome.seen, outcome.changed, outcome.failed), (304, 304, 0));
    let delivered = std::mem::take(&mut *mailbox.delivered.lock().unwrap());
    let told = |address: &str| delivered.iter().filter(|notice| notice.to == address).collect::<Vec<_>>();
    assert_eq!(
        (told("a@a.com").len(), told("b@b.com").len()),
        (2, 4),
        "two tell of 300 queues, and each of the four is told alone"
    );
    for number in 0..300 {
        let queue = format!("`queue/taskcluster-a/{number:03}`");
        assert_eq!(told("a@a.com").iter().filter(|notice| notice.text.contains(&queue)).count(), 1, "{queue}");
    }
    let accepted = Mail::Accepted(world.clock.now());
    assert_eq!(mails(&world).await, vec![accepted; 304]);
    assert_eq!(deliver(&world, &mailbox).await.seen, 0, "nothing is told twice");

    // They are deleted as if each had had a mail of its own, and that is told together, too.
    let all = Brakes { most: 500, percent: 100, owner_percent: 100 };
    let subjects = watch_as(&world, &SweepPolicy { brakes: all, ..world.sweep_policy() }, 9).await;
    assert!(world.queues().await.is_empty());
    let removed = |subject: &&String| subject.starts_with("Pulse: ") && subject.ends_with(" queues removed");
    assert!((2..6).contains(&subjects.iter().filter(removed).count()), "{subjects:?}");
}

#[tokio::test]
async fn a_mail_of_many_queues_that_fails_leaves_all_of_them_unwarned_and_they_stay_together() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    fill_many(&world, "taskcluster-a", 60, DELETE + 1).await;
    look_on(&world, 5).await;
    let mailbox = Mailbox::default();
    mailbox.unreachable.lock().unwrap().push("a@a.com");
    for _ in 0..20 {
        let outcome = deliver(&world, &mailbox).await;
        assert!((outcome.changed, outcome.failed % 60) == (0, 0), "{outcome:?}");
        assert_eq!(mails(&world).await, vec![Mail::Waiting; 60]);
        world.clock.advance(2 * MINUTE);
        sweep(&world).await;
    }
    assert_eq!(world.queues().await.len(), 60);
    mailbox.unreachable.lock().unwrap().clear();
    world.clock.advance(HOUR);
    assert_eq!(deliver(&world, &mailbox).await.changed, 60);
    assert_eq!(mailbox.subjects(), ["Pulse: 60 queues in trouble"]);
    sweep(&world).await;
    assert_eq!(world.queues().await.len(), 60, "the grace time begins now");
}

#[tokio::test]
async fn what_one_has_to_act_on_is_told_alone_beside_a_mail_of_many_queues() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 90 * MINUTE).await;
    fill_many(&world, "taskcluster-a", 5, ALERT + 1).await;
    look_on(&world, 5).await;
    world.clock.advance(HOUR);
    world.service().expire(&world.expiry_policy(), false).await.unwrap();
    let mailbox = Mailbox::default();
    assert_eq!(deliver(&world, &mailbox).await.changed, 6);
    let subjects = mailbox.subjects();
    assert!(subjects.len() == 2 && subjects.iter().any(|subject| subject.contains("expires at")), "{subjects:?}");
}

#[tokio::test]
async fn a_queue_whose_owner_s_address_refuses_for_good_goes_after_a_grace_time_from_then_on() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "refuses@a.com", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    look_on(&world, 20).await;
    assert_eq!(world.queues().await, [QUEUE], "nothing was sent yet");
    let mailbox = Mailbox { refusing: vec!["refuses@a.com"], ..Mailbox::default() };
    let outcome = deliver(&world, &mailbox).await;
    assert_eq!((outcome.failed, outcome.reports.len()), (1, 1), "{outcome:?}");
    let mut minutes = 0;
    while world.queues().await == [QUEUE] {
        world.clock.advance(2 * MINUTE);
        minutes += 2;
        let outcome = sweep(&world).await;
        assert!(
            outcome.reports.iter().any(|report| report.starts_with("refuses@a.com refused our mail for good")),
            "{outcome:?}"
        );
        assert!(minutes <= 20, "it is never deleted");
    }
    assert!(minutes > 15, "{minutes}");
    assert_eq!(deliver(&world, &mailbox).await.failed, 1, "that it was deleted is tried to be told");
}

#[tokio::test]
async fn an_address_that_refuses_only_for_now_counts_as_one_that_can_be_told_for_ever() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 10_000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    let mailbox = Mailbox::default();
    mailbox.unreachable.lock().unwrap().push("a@a.com");
    // It is given up after a week, several times.
    for _ in 0..20 {
        look_on(&world, 12).await;
        deliver(&world, &mailbox).await;
        world.clock.advance(23 * HOUR + 36 * MINUTE);
    }
    assert_eq!(world.queues().await, [QUEUE]);
    assert!(world.store.undelivered(10).await.unwrap().len() >= 2);
    assert!(world.store.recipients().await.unwrap().refusals.is_empty());
    assert_eq!(mails(&world).await, [Mail::Waiting]);
}

#[tokio::test]
async fn an_address_that_refused_is_tried_again_after_a_day_and_another_one_at_once() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "refuses@a.com", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, ALERT + 1).await;
    look_on(&world, 5).await;
    let refusing = Mailbox { refusing: vec!["refuses@a.com"], ..Mailbox::default() };
    assert_eq!(deliver(&world, &refusing).await.failed, 1);
    look_on(&world, 3).await;
    assert_eq!(mails(&world).await, [Mail::Nobody]);
    assert_eq!(deliver(&world, &refusing).await.seen, 0, "it is left in peace");
    world.clock.advance(24 * HOUR);
    look_on(&world, 5).await;
    assert_eq!(deliver(&world, &refusing).await.failed, 1);
    look_on(&world, 3).await;
    assert_eq!(mails(&world).await, [Mail::Nobody]);

    world.claim_for("taskcluster-a", "b@b.com", 1000 * HOUR).await;
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    look_on(&world, 12).await;
    assert_eq!(world.queues().await, [QUEUE], "who can be told now has a warning first");
    assert_eq!(deliver(&world, &refusing).await.changed, 1);
    let subjects = watch(&world, 9).await;
    assert!(subjects.len() == 1 && subjects[0].contains("was deleted"), "{subjects:?}");
}

#[tokio::test]
async fn an_address_that_takes_a_mail_again_counts_at_once() {
    let world = fake_world().await;
    world.claim_for("taskcluster-a", "a@a.com", 1000 * HOUR).await;
    world.store.note_refusal("a@a.com", world.clock.now(), world.clock.now()).await.unwrap();
    world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
    ripen(&world).await;
    let subjects = watch(&world, 1).await;
    assert!(subjects.len() == 1 && subjects[0].contains("was deleted"), "{subjects:?}");
    assert!(world.store.recipients().await.unwrap().refusals.is_empty());
}

async fn owner(world: &World) -> Namespace {
    world.store.namespace(&world.name("taskcluster-a")).await.unwrap().unwrap()
}

#[tokio::test]
async fn reminders_are_muted_of_a_queue_or_a_namespace_and_nothing_else_is() {
    for target in [QUEUE, "taskcluster-a"] {
        let world = fake_world().await;
        world.claim_for("taskcluster-a", "a@a.com", 10_000 * HOUR).await;
        let until = world.clock.now().plus(80 * HOUR);
        world.service().mute(target, &owner(&world).await, Some(until)).await.unwrap();
        world.fill(QUEUE, QueueKind::Classic, ALERT + 1).await;
        let subjects = watch(&world, 5).await;
        assert!(subjects.len() == 1 && !subjects[0].contains("still"), "the first warning is told: {subjects:?}");
        let shown = world.service().sweep(&world.sweep_policy(), true).await.unwrap().verdicts.remove(0);
        assert!(shown.muted.unwrap().starts_with("reminders are muted until "));
        let days = async |days: u32| {
            let mut subjects = Vec::new();
            for _ in 0..days {
                world.clock.advance(24 * HOUR);
                subjects.extend(watch(&world, 4).await);
            }
            subjects
        };
        assert_eq!(days(3).await, [""; 0], "{target}");
        let subjects = days(1).await;
        assert!(subjects.len() == 1 && subjects[0].contains("still"), "it is over: {subjects:?}");

        world.service().mute(target, &owner(&world).await, None).await.unwrap();
        assert_eq!(days(3).await, [""; 0]);
        // Before a removal there is a last call all the same.
        world.fill(QUEUE, QueueKind::Classic, DELETE + 1).await;
        let subjects = watch(&world, 20).await;
        assert!(
            subjects.len() == 2 && subjects[0].contains("last call") && subjects[1].contains("was deleted"),
            "{subjects:?}"
        );
        assert!(world.service().unmute(target).await.unwrap());
        assert!(!world.service().unmute(target).await.unwrap());
    }
}
