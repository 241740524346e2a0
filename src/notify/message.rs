//! The words: from an event to a message's subject and text.
//!
//! The text is Markdown that reads well as plain text. What comes from outside stands in code spans, where no character
//! of it means anything. A subject holds a number or a time, and the text always the time, because Taskcluster's notify
//! service never sends the same words to the same address again.

use std::fmt::Write as _;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::notice::{Event, Notice};

/// The longest subject, in code points, that Taskcluster's notify service takes.
const LONGEST_SUBJECT: usize = 255;
/// The longest explanation of a failure that is passed on, in code points.
const LONGEST_WHY: usize = 1000;
/// How many queues are named one by one. With names of the longest kind the text stays well below the 102,400 code points
/// that the notify service takes.
const MOST_QUEUES: usize = 25;

/// The message that tells `to`, the contact of `namespace`, of `event`; due at once.
pub fn notice(namespace: &Name, to: &str, event: &Event, id: String, now: Timestamp) -> Notice {
    let (subject, text) = word(namespace, event);
    let text = format!(
        "{text}\n\nYou get this message because your address is the contact of the Pulse namespace {}. Whoever claims the \
         namespace sets the contact.\n",
        code(namespace.as_str())
    );
    Notice { id, namespace: namespace.clone(), to: to.to_owned(), subject, text, created: now, attempts: 0, due: now }
}

/// Subject and text.
fn word(namespace: &Name, event: &Event) -> (String, String) {
    match event {
        Event::QueueGrowing { queue, messages, alert_threshold, delete_threshold, growth, deleted_at, at } => {
            let size = Size { messages, alert_threshold, delete_threshold, growth, deleted_at, at };
            growing(namespace, queue, "has", &size, None)
        }
        Event::QueueStillGrowing {
            queue,
            messages,
            alert_threshold,
            delete_threshold,
            growth,
            deleted_at,
            since,
            at,
        } => {
            let size = Size { messages, alert_threshold, delete_threshold, growth, deleted_at, at };
            growing(namespace, queue, "still has", &size, Some(*since))
        }
        Event::QueueDeleted { queue, messages, delete_threshold, at } => {
            deleted(namespace, queue, *messages, *delete_threshold, *at)
        }
        Event::QueueDeletionFailed { queue, messages, why, at } => {
            deletion_failed(namespace, queue, *messages, why, *at)
        }
        Event::QueueNormal { queue, messages, alert_threshold, at } => {
            normal(namespace, queue, *messages, *alert_threshold, *at)
        }
        Event::NamespaceExpiring { expires, queues, at } => expiring(namespace, *expires, queues, *at),
        Event::NamespaceExpired { expires, at } => expired(namespace, *expires, *at),
    }
}

/// How far a queue has gone.
struct Size<'a> {
    messages: &'a u64,
    alert_threshold: &'a u64,
    delete_threshold: &'a u64,
    growth: &'a Option<i64>,
    deleted_at: &'a Option<Timestamp>,
    at: &'a Timestamp,
}

fn growing(namespace: &Name, queue: &str, has: &str, size: &Size<'_>, since: Option<Timestamp>) -> (String, String) {
    let Size { messages, alert_threshold, delete_threshold, growth, deleted_at, at } = size;
    let (messages, limit) = (count(**messages), number(**delete_threshold));
    let subject = subject("Pulse queue ", queue, &format!(" {has} {messages} and is deleted above {limit}"));
    let (growth, deletion) = pace(**growth, **deleted_at);
    let mut facts = facts(namespace, queue, &format!("{messages} at {at}"));
    fact(&mut facts, "Warning", &format!("above {}", count(**alert_threshold)));
    if let Some(since) = since {
        fact(&mut facts, "Above that since", &since.to_string());
    }
    fact(&mut facts, "Deletion", &format!("above {}", count(**delete_threshold)));
    fact(&mut facts, "Growth", &growth);
    fact(&mut facts, "Deleted at that pace", &deletion);
    let text = format!(
        "A Pulse queue of yours {has} more messages than it should: they are read too slowly, or not at all.\n\n{facts}\n\
         **What will happen:** once the queue has more than {limit} messages, it is deleted with all that is in it, so that \
         it does not bring down the broker for everybody. You are told when that happens, or when the queue is below the \
         warning threshold again.\n\n\
         **What to do:** see to it that the program that reads from this queue is running and keeps up. If nothing needs \
         the queue any more, delete it."
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

fn normal(namespace: &Name, queue: &str, messages: u64, limit: u64, at: Timestamp) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(" is back to {}", count(messages)));
    let mut facts = facts(namespace, queue, &format!("{} at {at}", count(messages)));
    fact(&mut facts, "Warning", &format!("above {}", count(limit)));
    let text = format!(
        "A Pulse queue of yours that had too many messages is back below the warning threshold: they were read, or the \
         queue was deleted and declared anew.\n\n{facts}\n\
         **What will happen:** nothing. You are warned again if the queue goes above the threshold again.\n\n\
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

fn fact(facts: &mut String, name: &str, value: &str) {
    // Writing to a `String` does not fail.
    let _ = writeln!(facts, "* {name}: {value}");
}

/// How fast a queue grows, and when it is deleted at that pace.
fn pace(growth: Option<i64>, deleted_at: Option<Timestamp>) -> (String, String) {
    let unknown = || "not known yet".to_owned();
    let per_hour = |growth: i64| format!("{} an hour", count(growth.unsigned_abs()));
    match growth {
        None => (unknown(), unknown()),
        Some(growth) if growth > 0 => (per_hour(growth), deleted_at.map_or_else(unknown, |at| at.to_string())),
        Some(0) => ("none".to_owned(), "not at all".to_owned()),
        Some(growth) => (format!("none, it shrinks by {}", per_hour(growth)), "not at all".to_owned()),
    }
}

/// `1 message`, `4,321 messages`.
fn count(messages: u64) -> String {
    plural(messages, "message", "messages")
}

fn plural(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// A number with a comma before each three digits.
fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A subject around a name, which is shortened where the subject would be too long.
fn subject(before: &str, name: &str, after: &str) -> String {
    let room = LONGEST_SUBJECT.saturating_sub(before.chars().count() + after.chars().count());
    format!("{before}{}{after}", shorten(&visible(name), room))
}

/// `text` in at most `room` code points: what is too much is taken from the middle, where an ellipsis says so.
fn shorten(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let kept = room.saturating_sub(1);
    let tail = kept / 2;
    text.chars().take(kept - tail).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// `text` with every character escaped that can't be seen or that breaks lines or changes their direction: a queue may
/// have any name, and none may forge a line of ours.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// `text` as a code span, in which no character means anything (CommonMark 0.31, section 6.1): its fence is longer than
/// any run of backticks in it.
fn code(text: &str) -> String {
    let text = visible(text);
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest + 1);
    // One blank at either end is taken off again by the reader. It keeps the fence apart from backticks, and saves blanks.
    let apart = text.is_empty() || text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let blank = if apart { " " } else { "" };
    format!("{fence}{blank}{text}{blank}{fence}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::html;

    #[test]
    fn numbers_have_commas_and_nouns_their_number() {
        assert_eq!(count(0), "0 messages");
        assert_eq!(count(1), "1 message");
        assert_eq!(count(999), "999 messages");
        assert_eq!(count(1_000), "1,000 messages");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615 messages");
    }

    #[test]
    fn a_pace_says_what_is_known() {
        let at = Some(Timestamp::from_millis(0));
        let pair = |growth, deletion: &str| (String::from(growth), deletion.to_owned());
        assert_eq!(pace(None, at), pair("not known yet", "not known yet"));
        assert_eq!(pace(Some(1), at), pair("1 message an hour", "1970-01-01T00:00:00.000Z"));
        assert_eq!(pace(Some(1), None), pair("1 message an hour", "not known yet"));
        assert_eq!(pace(Some(0), None), pair("none", "not at all"));
        assert_eq!(pace(Some(-1_200), at), pair("none, it shrinks by 1,200 messages an hour", "not at all"));
        assert_eq!(pace(Some(i64::MIN), None).1, "not at all");
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
            0 => Event::QueueGrowing {
                queue,
                messages: n,
                alert_threshold: n,
                delete_threshold: n,
                growth: None,
                deleted_at: None,
                at,
            },
            1 => Event::QueueDeleted { queue, messages: n, delete_threshold: n, at },
            2 => Event::QueueDeletionFailed { why: queue.repeat(100), queue, messages: n, at },
            3 => Event::QueueNormal { queue, messages: n, alert_threshold: n, at },
            _ => Event::NamespaceExpiring { expires: at, queues: vec![(queue, n); 1000], at },
        }
    }

    proptest! {
        /// Names are of any kind: markup of HTML and Markdown, control characters, letters of all scripts.
        #[test]
        fn no_name_breaks_out_of_a_message(
            queue in prop_oneof!["[<>&\"'`*_\\[\\]()!#\\\\ \n\r\t.a-]{0,255}", "\\PC{0,63}", "\u{1}{255}"],
            kind in 0_u8..5,
            n in any::<u64>(),
        ) {
            let namespace = Name::from_stored("taskcluster-".to_owned() + &"x".repeat(52));
            let of = |queue: &str| notice(&namespace, "a@example.com", &event(kind, queue, n), "id".into(), Timestamp::from_millis(0));
            let (notice, tame) = (of(&queue), of("tame"));
            prop_assert!((1..=255).contains(&notice.subject.chars().count()));
            prop_assert!((1..=102_400).contains(&notice.text.chars().count()));
            prop_assert!(!notice.subject.chars().any(char::is_control));
            prop_assert_eq!(notice.text.lines().count(), tame.text.lines().count());
            // The same elements in the same order as with a harmless name.
            let elements = |of: &Notice| html::document(of).split('<').skip(1).map(|part| part.split('>').next().unwrap_or_default().to_owned()).collect::<Vec<_>>();
            prop_assert_eq!(elements(&notice), elements(&tame));
        }
    }
}
