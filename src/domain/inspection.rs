//! Inspections: looks at what is published, through queues that go by themselves.
//!
//! An inspection has a queue of its own, which is bounded, gives up its oldest messages first, and goes soon after nobody reads it
//! any more. It is named so that it is nobody's: not of a namespace, and readable by no user of one.

use crate::domain::inventory::Binding;

/// So many inspections one person may have at once, and so many all of them together.
pub const MOST_EACH: usize = 3;
/// See [`MOST_EACH`].
pub const MOST_ALL: usize = 20;
/// So many exchanges and routing keys one inspection has at most.
pub const MOST_CHOICES: usize = 3;
/// So many messages wait for their reader at most, and so many bytes of them; then the oldest are left out.
pub const ROOM: Room = Room { messages: 100, bytes: 1 << 20, idle_seconds: 60 };
/// So many messages are read at once, and so many bytes of each.
pub const BATCH: u32 = 25;
/// See [`BATCH`].
pub const LONGEST: u32 = 16 * 1024;
/// The longest routing key, in bytes (AMQP 0-9-1).
const LONGEST_KEY: usize = 255;
/// What the names of exchanges begin with from which every user of a namespace may read.
const READABLE: &str = "exchange/";
/// What the names of the queues of inspections begin with.
pub const PREFIX: &str = "inspector/";
/// How many digits the id of an inspection has.
const ID: usize = 32;

/// What bounds the queue of an inspection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many messages it holds.
    pub messages: u32,
    /// How many bytes they have in all.
    pub bytes: u32,
    /// After how many seconds without a reader it goes.
    pub idle_seconds: u32,
}

/// A message, as it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// To which exchange.
    pub exchange: String,
    /// Under which routing key.
    pub routing_key: String,
    /// How many bytes it has in all.
    pub bytes: u64,
    /// The first [`LONGEST`] bytes of it.
    pub content: Content,
    /// Its properties as JSON; empty where it has none.
    pub properties: String,
    /// How many messages waited after it.
    pub left: u64,
}

/// What is in a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Text.
    Text(String),
    /// What is no text, or was cut within a character, as base64.
    Bytes(String),
}

/// Why something can't be inspected, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoInspection {
    /// Nothing was chosen.
    #[error("choose an exchange")]
    Nothing,
    /// More was chosen than one inspection takes.
    #[error("choose at most {MOST_CHOICES} exchanges and routing keys at a time")]
    Many,
    /// An exchange that not everybody may read.
    #[error("the name of an exchange that everybody may read begins with {READABLE:?}")]
    Elsewhere,
    /// A routing key that no message has.
    #[error("a routing key has at most {LONGEST_KEY} bytes")]
    Long,
}

/// Checks that somebody may look at this.
///
/// # Errors
/// Why not.
pub fn check(wanted: &[Binding]) -> Result<(), NoInspection> {
    match wanted.len() {
        0 => return Err(NoInspection::Nothing),
        many if many > MOST_CHOICES => return Err(NoInspection::Many),
        _ => {}
    }
    if wanted.iter().any(|of| of.exchange.len() <= READABLE.len() || !of.exchange.starts_with(READABLE)) {
        return Err(NoInspection::Elsewhere);
    }
    if wanted.iter().any(|of| of.routing_key.len() > LONGEST_KEY || of.exchange.len() > LONGEST_KEY) {
        return Err(NoInspection::Long);
    }
    Ok(())
}

/// What the names of the queues of one person begin with. `person` is a hash.
pub fn of_person(person: &str) -> String {
    format!("{PREFIX}{person}/")
}

/// The queue of an inspection; `None` where that is no id.
pub fn queue(person: &str, id: &str) -> Option<String> {
    let digits = id.len() == ID && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| of_person(person) + id)
}

/// Whether there is no room for another one of this person beside these queues; and whether it is the person who has too many.
pub fn is_full(queues: &[String], person: &str) -> Option<bool> {
    let own = of_person(person);
    if queues.iter().filter(|name| name.starts_with(&own)).count() >= MOST_EACH {
        return Some(true);
    }
    (queues.len() >= MOST_ALL).then_some(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::name::{Names, named_by_queue};

    fn wanted(exchange: &str, key: &str) -> Binding {
        Binding { exchange: exchange.to_owned(), routing_key: key.to_owned() }
    }

    #[test]
    fn only_what_everybody_may_read_is_inspected_and_little_at_a_time() {
        let good = wanted("exchange/taskcluster-x/events", "task.#");
        assert_eq!(check(std::slice::from_ref(&good)), Ok(()));
        assert_eq!(check(&vec![good.clone(); 3]), Ok(()));
        assert_eq!(check(&[]), Err(NoInspection::Nothing));
        assert_eq!(check(&vec![good.clone(); 4]), Err(NoInspection::Many));
        for other in ["", "amq.topic", "amq.rabbitmq.trace", "exchange/", "queue/taskcluster-x/a", "Exchange/x/y"] {
            assert_eq!(check(&[good.clone(), wanted(other, "#")]), Err(NoInspection::Elsewhere), "{other}");
        }
        assert_eq!(check(&[wanted("exchange/x/y", &"k".repeat(256))]), Err(NoInspection::Long));
    }

    #[test]
    fn its_queue_is_nobodys_and_no_user_of_a_namespace_may_read_it() {
        let name = queue("0123abcd", &"a0".repeat(16)).unwrap();
        let names = Names::new("", "");
        assert_eq!(
            (named_by_queue(&name), names.owner_of_queue(&name), names.owner_of_exchange(&name)),
            (None, None, None)
        );
        let of = names.permissions(&names.namespace("inspector").unwrap());
        for expression in [of.configure, of.write, of.read] {
            assert!(!name.starts_with("queue/") && !name.starts_with("exchange/"), "{expression}");
        }
        for bad in ["", "a", "../x", &"A0".repeat(16), &"a0".repeat(17), "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a/"] {
            assert_eq!(queue("0123abcd", bad), None, "{bad}");
        }
    }

    #[test]
    fn one_person_has_a_few_and_all_together_not_many() {
        let names = |of: &[(&str, usize)]| -> Vec<String> {
            of.iter().flat_map(|(person, count)| (0..*count).map(move |n| format!("inspector/{person}/{n}"))).collect()
        };
        assert_eq!(is_full(&names(&[("a", 2), ("ab", 3)]), "a"), None);
        assert_eq!(is_full(&names(&[("a", 3)]), "a"), Some(true));
        assert_eq!(is_full(&names(&[("b", 20)]), "a"), Some(false));
    }
}
