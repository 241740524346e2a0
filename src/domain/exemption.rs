//! Queues that may grow beyond the limit, because an administrator said so.

use crate::clock::Timestamp;
use crate::domain::ladder::Exemption;
use crate::domain::name::Name;
use crate::domain::words::{moment, number};

/// So many exemptions a namespace may have.
pub const MOST_EXEMPTIONS: usize = 100;
/// So many requests for exemptions it may have.
pub const MOST_REQUESTS: usize = 20;
/// The longest name of a queue, in bytes (AMQP 0-9-1).
const LONGEST_QUEUE: usize = 255;

/// An exemption within a namespace. It holds for every queue that its pattern matches, now and later, and ends with the
/// namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exempted {
    /// The name of a queue, with `queue/<namespace>/` before it. Each `*` stands for any characters, or none.
    pub queue: String,
    /// How far they may grow, and until when.
    pub exemption: Exemption,
    /// Why, in the words of who said so.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When.
    pub since: Timestamp,
}

impl Exempted {
    /// Above how many messages a queue is removed that it holds for, where without it that is `delete`.
    pub fn limit(&self, delete: u64) -> u64 {
        self.exemption.up_to.unwrap_or(u64::MAX).max(delete)
    }

    /// How far the queue may grow, until when, why and who said so, as a sentence goes on, without its full stop.
    pub fn sentence(&self, now: Timestamp) -> String {
        format!("the queue may grow {}, by {}: {}", terms(self.exemption, now), self.by, self.reason)
    }
}

/// What somebody asks for who may not let queues grow: an administrator grants or refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requested {
    /// As in [`Exempted`].
    pub queue: String,
    /// How far they shall grow, and until when.
    pub exemption: Exemption,
    /// Why, in the words of who asks.
    pub reason: String,
    /// Who asks.
    pub by: String,
    /// Where that one is told, beside the owners of the namespace; `None` where they alone are.
    pub address: Option<String>,
    /// When it was asked for.
    pub since: Timestamp,
}

/// How far a queue may grow, and until when.
pub fn terms(Exemption { up_to, until }: Exemption, now: Timestamp) -> String {
    let size = up_to.map_or("without a bound".to_owned(), |most| format!("up to {} messages", number(most)));
    until.map_or(size.clone(), |until| format!("{size}, until {}", moment(until, now)))
}

/// Why a text is no pattern for queues of a namespace, in a sentence without its full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPattern {
    /// It is for queues of others, or for none.
    #[error("the queue or pattern must begin with {0:?} and go on after that")]
    Elsewhere(String),
    /// It is longer than any name.
    #[error("the queue or pattern must not be longer than {LONGEST_QUEUE} bytes")]
    Long,
}

/// Checks that `pattern` matches queues of this namespace only.
///
/// # Errors
/// Why it does not.
pub fn check_pattern(pattern: &str, namespace: &Name) -> Result<(), NoPattern> {
    let prefix = format!("queue/{namespace}/");
    match pattern.strip_prefix(&prefix) {
        _ if pattern.len() > LONGEST_QUEUE => Err(NoPattern::Long),
        Some(rest) if !rest.is_empty() => Ok(()),
        _ => Err(NoPattern::Elsewhere(prefix)),
    }
}

/// Whether `name` matches `pattern`, in time proportional to their product at most.
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star stands, and how much of the name it takes so far.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(byte) if *byte == name[n] => (p, n) = (p + 1, n + 1),
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// The exemption that holds for a queue now: of several, the one that lets it grow the furthest, and of these the one that
/// lasts the longest.
pub fn exemption_of<'a>(all: &'a [Exempted], queue: &str, now: Timestamp) -> Option<&'a Exempted> {
    let in_force = |one: &&Exempted| one.exemption.until.is_none_or(|until| now < until);
    let found = all.iter().filter(in_force).filter(|one| matches(&one.queue, queue));
    let endless = Timestamp::from_millis(i64::MAX);
    found.max_by_key(|one| (one.exemption.up_to.unwrap_or(u64::MAX), one.exemption.until.unwrap_or(endless)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exempted(queue: &str, up_to: Option<u64>, until: Option<i64>) -> Exempted {
        let until = until.map(Timestamp::from_millis);
        let (reason, by, since) = ("it is".into(), "me".into(), Timestamp::from_millis(0));
        Exempted { queue: queue.into(), exemption: Exemption { up_to, until }, reason, by, since }
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, matched) in [
            ("queue/x/a", "queue/x/a", true),
            ("queue/x/a", "queue/x/ab", false),
            ("queue/x/a", "queue/x/", false),
            ("queue/x/*", "queue/x/", true),
            ("queue/x/*", "queue/x/a/ü", true),
            ("queue/x/*", "queue/xy/a", false),
            ("queue/x/a*c", "queue/x/abbcbc", true),
            ("queue/x/a*c", "queue/x/abbcb", false),
            ("queue/x/*-*-b", "queue/x/a-b-b-b", true),
            ("queue/x/**", "queue/x/a", true),
            ("queue/x/a*", "queue/x/a*", true),
        ] {
            assert_eq!(matches(pattern, name), matched, "{pattern} {name}");
        }
        let (pattern, name) = ("*a".repeat(120), "a".repeat(119));
        assert!(!matches(&pattern, &name), "and it does not take for ever");
    }

    #[test]
    fn a_pattern_is_for_one_namespace() {
        let name = Name::from_stored("x".to_owned());
        assert_eq!(check_pattern("queue/x/*", &name), Ok(()));
        for pattern in ["", "*", "queue/*", "queue/x", "queue/x/", "queue/xy/a", "exchange/x/a", "queue/*/a"] {
            let error = check_pattern(pattern, &name).unwrap_err().to_string();
            assert!(error.contains("must begin with \"queue/x/\""), "{error}");
        }
        assert_eq!(check_pattern(&format!("queue/x/{}", "a".repeat(250)), &name), Err(NoPattern::Long));
    }

    #[test]
    fn of_several_exemptions_the_widest_that_is_in_force_holds() {
        let all = [
            exempted("queue/x/*", Some(10), None),
            exempted("queue/x/a", Some(30), Some(100)),
            exempted("queue/x/a*", None, Some(50)),
        ];
        let up_to =
            |queue, now| exemption_of(&all, queue, Timestamp::from_millis(now)).map(|found| found.exemption.up_to);
        assert_eq!(up_to("queue/x/a", 0), Some(None));
        assert_eq!(up_to("queue/x/a", 50), Some(Some(30)));
        assert_eq!(up_to("queue/x/a", 100), Some(Some(10)));
        assert_eq!(up_to("queue/x/b", 0), Some(Some(10)));
        assert_eq!(up_to("queue/y/b", 0), None);
    }
}
