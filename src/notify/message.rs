//! The words: from an event to a message's subject and text.
//!
//! The text is Markdown that reads well as plain text. What comes from outside stands in code spans, where no character
//! of it means anything. A subject holds a number or a time, and the text always the time, because Taskcluster's notify
//! service never sends the same words to the same address again.

use crate::clock::Timestamp;
use crate::domain::ladder::{Measure, Topic};
use crate::domain::name::Name;
use crate::domain::notice::{Event, Notice, Trouble};
use crate::domain::verdict::Kind;
use crate::domain::words::number;
use crate::notify::advice::{REMINDERS, advice, state};
use crate::notify::digest::brief;
use crate::notify::text::{code, count, fact, plural, shorten, subject, visible};
use crate::notify::{accounts, exemptions};

/// The longest explanation of a failure that is passed on, in code points.
const LONGEST_WHY: usize = 1000;
/// How many queues are named one by one. With names of the longest kind the text stays well below the 102,400 code points
/// that the notify service takes.
const MOST_QUEUES: usize = 25;

/// The message that tells `to`, the contact of `namespace`, of `event`; due at once.
pub fn notice(namespace: &Name, to: &str, event: &Event, id: String, now: Timestamp) -> Notice {
    let (subject, text) = word(namespace, event);
    if let Event::ExemptionAsked { .. } = event {
        let text = format!("{text}\n\nYou get this message because you administer Pulse.\n");
        return Notice { subject, text, ..blank(namespace, to, id, now) };
    }
    let text = format!(
        "{text}\n\nYou get this message because your address is an owner or the contact of the Pulse namespace {}. Whoever owns \
         the namespace sets its owners, and whoever claims it the contact.\n",
        code(namespace.as_str())
    );
    Notice { subject, text, brief: brief(event), ..blank(namespace, to, id, now) }
}

/// A message without words.
fn blank(namespace: &Name, to: &str, id: String, now: Timestamp) -> Notice {
    Notice {
        id,
        namespace: namespace.clone(),
        to: to.to_owned(),
        subject: String::new(),
        text: String::new(),
        created: now,
        attempts: 0,
        due: now,
        about: None,
        brief: None,
        instead_of: Vec::new(),
    }
}

/// Subject and text.
fn word(namespace: &Name, event: &Event) -> (String, String) {
    match event {
        Event::QueueTrouble(trouble) if trouble.topic == Topic::Normal => normal(namespace, trouble),
        Event::QueueTrouble(trouble) => in_trouble(namespace, trouble),
        Event::HoarderClosed { queue, connection, messages, kept_out, at } => {
            hoarder_closed(namespace, queue, connection, *messages, *kept_out, *at)
        }
        Event::QueueEmptied { queue, messages, delete_threshold, at } => {
            emptied(namespace, queue, *messages, *delete_threshold, *at)
        }
        Event::QueueDeleted { queue, messages, delete_threshold, at } => {
            deleted(namespace, queue, *messages, *delete_threshold, *at)
        }
        Event::QueueDeletionFailed { queue, messages, why, at } => {
            deletion_failed(namespace, queue, *messages, why, *at)
        }
        Event::NamespaceExpiring { expires, queues, at } => expiring(namespace, *expires, queues, *at),
        Event::NamespaceExpired { expires, at } => expired(namespace, *expires, *at),
        Event::AccountEnding { expires, used, lifetime, at } => {
            accounts::ending(namespace, *expires, *used, *lifetime, *at)
        }
        Event::AdoptedInUse { user, addresses, retire_after, at } => {
            accounts::in_use(namespace, user, addresses, *retire_after, *at)
        }
        Event::ExemptionAsked { queue, terms, reason, by, at } => {
            exemptions::asked(namespace, queue, terms, (reason, by), *at)
        }
        Event::ExemptionDecided { queue, granted, reason, by, at } => {
            exemptions::decided(namespace, queue, granted.as_deref(), (reason, by), *at)
        }
        Event::AdoptedRetired { user, used, at } => accounts::retired(namespace, user, *used, *at),
    }
}

/// What will happen, and when at the earliest.
fn outlook(trouble: &Trouble) -> String {
    if let Some(exempt) = &trouble.exempt {
        return format!(
            "nothing is removed. An administrator has said so: {}. You are told when it is over.",
            visible(exempt)
        );
    }
    let limit = number(trouble.delete_threshold);
    let what = match trouble.measure {
        Measure::Observe | Measure::Warn => {
            return "nothing is removed. You are told when it is over.".to_owned();
        }
        Measure::Purge => "its messages are deleted",
        Measure::Delete => "it is deleted with all that is in it",
    };
    let when = match trouble.removal {
        Some(at) => format!("at {at} at the earliest"),
        None => "after a time of grace".to_owned(),
    };
    let who = match trouble.cause {
        Kind::Hoarding => "If this goes on, the connection that holds the messages is closed. ",
        _ => "",
    };
    format!(
        "{who}If the queue has more than {limit} messages for some time and does not lose any, {what}, {when}, so that it does \
         not bring down the broker for everybody. As long as it loses messages, it is left alone. You are told when that \
         happens, or when it is over."
    )
}

fn in_trouble(namespace: &Name, trouble: &Trouble) -> (String, String) {
    let Trouble { queue, topic, cause, verdict, messages, unacked, consumers, hourly, holders, forecast, at, .. } =
        trouble;
    let again = match topic {
        Topic::Reminder => "still ",
        Topic::LastCall => "last call, ",
        Topic::Warning | Topic::Change | Topic::Normal => "",
    };
    let words = format!(": {again}{}, {}", state(*cause), count(*messages));
    let subject = subject("Pulse queue ", queue, &words);
    let mut facts = facts(namespace, queue, &format!("{} at {at}", count(*messages)));
    fact(&mut facts, "What is the matter", &visible(verdict));
    if *unacked > 0 {
        fact(&mut facts, "Held by consumers", &count(*unacked));
    }
    if let Some(consumers) = consumers {
        fact(&mut facts, "Consumers", &number((*consumers).into()));
    }
    for holder in holders {
        fact(&mut facts, "Who holds messages", &code(holder));
    }
    fact(&mut facts, "Growth", &growth(*hourly));
    if let Some(forecast) = forecast {
        fact(&mut facts, "At that pace", forecast);
    }
    fact(&mut facts, "Warning", &format!("above {}", count(trouble.alert_threshold)));
    fact(&mut facts, "Limit", &count(trouble.delete_threshold));
    let opening = match topic {
        Topic::Warning | Topic::Normal => "Something is the matter with a Pulse queue of yours.",
        Topic::Change => "Something else is the matter now with a Pulse queue of yours that you were told of.",
        Topic::Reminder => "A Pulse queue of yours that you were told of is still in trouble.",
        Topic::LastCall => "A Pulse queue of yours that you were told of some time ago will be removed soon.",
    };
    let (outlook, advice) = (outlook(trouble), advice(*cause));
    let text = format!(
        "{opening}\n\n{facts}\n**What will happen:** {outlook}\n\n**What to do:** {advice}\n\n**Reminders:** {REMINDERS}"
    );
    (subject, text)
}

fn hoarder_closed(
    namespace: &Name,
    queue: &str,
    connection: &str,
    messages: u64,
    kept_out: bool,
    at: Timestamp,
) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(": the connection that held {} was closed", count(messages)));
    let mut facts = String::new();
    fact(&mut facts, "Queue", &code(queue));
    fact(&mut facts, "Namespace", &code(namespace.as_str()));
    fact(&mut facts, "Connection", &code(connection));
    fact(&mut facts, "It held", &count(messages));
    fact(&mut facts, "Closed at", &at.to_string());
    let next = match kept_out {
        false => {
            "the messages wait in the queue again. If the program comes back and does the same, it is closed again, and in the \
             end kept out."
        }
        true => "the user of this connection can't connect any more, until an administrator lets it in (`let-in`).",
    };
    let text = format!(
        "A connection that held messages of a Pulse queue of yours without acknowledging them was closed.\n\n{facts}\n\
         **What will happen:** {next}\n\n**What to do:** {}",
        advice(Kind::Hoarding)
    );
    (subject, text)
}

fn emptied(namespace: &Name, queue: &str, messages: u64, limit: u64, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(" was emptied of {}", count(messages)));
    let mut facts = facts(namespace, queue, &count(messages));
    fact(&mut facts, "Limit", &count(limit));
    fact(&mut facts, "Emptied at", &at.to_string());
    let text = format!(
        "The messages of a Pulse queue of yours were deleted, because it had more than one queue may have.\n\n{facts}\n\
         **What will happen:** nothing more. The messages are lost. The queue and its bindings are as they were.\n\n\
         **What to do:** see to it that the program that reads from the queue is running and keeps up."
    );
    (subject, text)
}

fn deleted(namespace: &Name, queue: &str, messages: u64, limit: u64, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(" was deleted with {}", count(messages)));
    let mut facts = facts(namespace, queue, &count(messages));
    fact(&mut facts, "Deletion", &format!("above {}", count(limit)));
    fact(&mut facts, "Deleted at", &at.to_string());
    let text = format!(
        "A Pulse queue of yours was deleted with all that was in it, because it had more messages than one queue may \
         have.\n\n{facts}\n\
         **What will happen:** nothing more. The messages are lost. The namespace, its credentials and its other queues \
         are as they were.\n\n\
         **What to do:** if you need the queue, see to it that the program that reads from it is running and keeps up, and \
         let it declare and bind the queue again."
    );
    (subject, text)
}

fn deletion_failed(namespace: &Name, queue: &str, messages: u64, why: &str, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(" could not be deleted and has {}", count(messages)));
    let mut facts = facts(namespace, queue, &count(messages));
    fact(&mut facts, "Not removed", &code(&shorten(&visible(why), LONGEST_WHY)));
    fact(&mut facts, "Tried at", &at.to_string());
    let text = format!(
        "A Pulse queue of yours has more messages than one queue may have. It was to be deleted, and that did not \
         work.\n\n{facts}\n\
         **What will happen:** the deletion is tried again until the queue is gone or has few enough messages.\n\n\
         **What to do:** delete the queue, or let a program read what is in it. An exclusive queue goes when the program that \
         declared it closes its connection."
    );
    (subject, text)
}

fn normal(namespace: &Name, trouble: &Trouble) -> (String, String) {
    let Trouble { queue, messages, at, .. } = trouble;
    let subject = subject("Pulse queue ", queue, &format!(" is back to {}", count(*messages)));
    let facts = facts(namespace, queue, &format!("{} at {at}", count(*messages)));
    let text = format!(
        "A Pulse queue of yours that was in trouble is so no more: its messages were read, or it was deleted and declared \
         anew.\n\n{facts}\n\
         **What will happen:** nothing. You are told again if it gets into trouble again.\n\n\
         **What to do:** nothing."
    );
    (subject, text)
}

fn expiring(namespace: &Name, expires: Timestamp, queues: &[(String, u64)], at: Timestamp) -> (String, String) {
    let subject = subject("Pulse namespace ", namespace.as_str(), &format!(" expires at {expires}"));
    let mut facts = String::new();
    fact(&mut facts, "Namespace", &code(namespace.as_str()));
    fact(&mut facts, "Expires at", &expires.to_string());
    fact(&mut facts, "Seen at", &at.to_string());
    let mut largest: Vec<&(String, u64)> = queues.iter().collect();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let (named, others) = largest.split_at(largest.len().min(MOST_QUEUES));
    for (queue, messages) in named {
        fact(&mut facts, &format!("Queue {}", code(queue)), &count(*messages));
    }
    if !others.is_empty() {
        let messages = others.iter().fold(0, |sum: u64, (_, messages)| sum.saturating_add(*messages));
        let queues = plural(others.len() as u64, "other queue", "other queues");
        fact(&mut facts, &queues, &count(messages));
    }
    let text = format!(
        "A Pulse namespace of yours expires soon, and there are messages in its queues.\n\n{facts}\n\
         **What will happen:** unless the namespace is claimed again with a later expiry, its users, connections, queues \
         and exchanges are deleted some time after it expires, and the messages with them.\n\n\
         **What to do:** if the namespace is needed, claim it again. A program that reconnects with fresh credentials does \
         that by itself: see to it that it is running. If it is not needed, do nothing."
    );
    (subject, text)
}

fn expired(namespace: &Name, expires: Timestamp, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse namespace ", namespace.as_str(), &format!(" expired at {expires}"));
    let mut facts = String::new();
    fact(&mut facts, "Namespace", &code(namespace.as_str()));
    fact(&mut facts, "Expired at", &expires.to_string());
    fact(&mut facts, "Removal began at", &at.to_string());
    let text = format!(
        "A Pulse namespace of yours has expired.\n\n{facts}\n\
         **What will happen:** its users, connections, queues and exchanges are being deleted, and the messages in the \
         queues with them.\n\n\
         **What to do:** if the namespace is needed, claim it again. It then begins anew, with new credentials and without \
         queues."
    );
    (subject, text)
}

/// The facts that every message about a queue begins with.
fn facts(namespace: &Name, queue: &str, messages: &str) -> String {
    let mut facts = String::new();
    fact(&mut facts, "Queue", &code(queue));
    fact(&mut facts, "Namespace", &code(namespace.as_str()));
    fact(&mut facts, "Size", messages);
    facts
}

/// How fast a queue grows.
fn growth(hourly: Option<i64>) -> String {
    match hourly {
        None => "not known yet".to_owned(),
        Some(0) => "none".to_owned(),
        Some(more) if more > 0 => format!("{} an hour", count(more.unsigned_abs())),
        Some(less) => format!("none, it loses {} an hour", count(less.unsigned_abs())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::{digest, html};

    #[test]
    fn numbers_have_commas_and_nouns_their_number() {
        assert_eq!(count(0), "0 messages");
        assert_eq!(count(1), "1 message");
        assert_eq!(count(999), "999 messages");
        assert_eq!(count(1_000), "1,000 messages");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615 messages");
    }

    #[test]
    fn a_growth_says_what_is_known() {
        let said = [None, Some(0), Some(1), Some(-1_200), Some(i64::MIN)].map(growth);
        let least = "none, it loses 9,223,372,036,854,775,808 messages an hour";
        assert_eq!(
            said,
            ["not known yet", "none", "1 message an hour", "none, it loses 1,200 messages an hour", least]
        );
    }

    #[test]
    fn a_long_name_loses_its_middle() {
        assert_eq!(shorten("abcdef", 6), "abcdef");
        assert_eq!(shorten("abcdef", 5), "ab…ef");
        assert_eq!(shorten("abcdef", 4), "ab…f");
        assert_eq!(shorten("äöüäöü", 3), "ä…ü");
        assert_eq!(shorten("abcdef", 1), "…");
    }

    #[test]
    fn a_code_span_is_fenced_off_from_what_is_in_it() {
        assert_eq!(code("<b>*_[]"), "`<b>*_[]`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\n\n# b\u{202e}"), r"`a\u{a}\u{a}# b\u{202e}`");
    }

    fn event(kind: u8, queue: &str, n: u64) -> Event {
        let (queue, at) = (queue.to_owned(), Timestamp::from_millis(0));
        match kind {
            0 | 3 => Event::QueueTrouble(Trouble {
                exempt: None,
                topic: if kind == 0 { Topic::Warning } else { Topic::Normal },
                cause: Kind::Hoarding,
                verdict: "one consumer holds 2 messages".into(),
                messages: n,
                unacked: 2,
                consumers: None,
                hourly: None,
                holders: vec![queue.clone()],
                queue,
                forecast: None,
                removal: None,
                measure: Measure::Delete,
                alert_threshold: n,
                delete_threshold: n,
                at,
            }),
            1 => Event::QueueDeleted { queue, messages: n, delete_threshold: n, at },
            2 => Event::QueueDeletionFailed { why: queue.repeat(100), queue, messages: n, at },
            4 => Event::HoarderClosed { connection: queue.clone(), queue, messages: n, kept_out: true, at },
            5 => Event::QueueEmptied { queue, messages: n, delete_threshold: n, at },
            _ => Event::NamespaceExpiring { expires: at, queues: vec![(queue, n); 1000], at },
        }
    }

    proptest! {
        /// Names are of any kind: markup of HTML and Markdown, control characters, letters of all scripts.
        #[test]
        fn no_name_breaks_out_of_a_message(
            queue in prop_oneof!["[<>&\"'`*_\\[\\]()!#\\\\ \n\r\t.a-]{0,255}", "\\PC{0,63}", "\u{1}{255}"],
            kind in 0_u8..7,
            n in any::<u64>(),
        ) {
            let namespace = Name::from_stored("taskcluster-".to_owned() + &"x".repeat(52));
            let of = |queue: &str| notice(&namespace, "a@example.com", &event(kind, queue, n), "id".into(), Timestamp::from_millis(0));
            let (notice, tame) = (of(&queue), of("tame"));
            prop_assert!((1..=255).contains(&notice.subject.chars().count()));
            prop_assert!((1..=102_400).contains(&notice.text.chars().count()));
            prop_assert!(!notice.subject.chars().any(char::is_control));
            prop_assert_eq!(notice.text.lines().count(), tame.text.lines().count());
            let elements = |of: &Notice| html::document(of).split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
            if notice.brief.is_some() {
                let many = |notice: &Notice| digest::digest(&vec![notice.clone(); 5]);
                let (Some(many), Some(tame)) = (many(&notice), many(&tame)) else { panic!("no digest of five notices") };
                prop_assert_eq!(many.text.lines().count(), tame.text.lines().count());
                prop_assert_eq!(elements(&many), elements(&tame));
            }
            // The same elements in the same order as with a harmless name.
            prop_assert_eq!(elements(&notice), elements(&tame));
        }
    }
}
