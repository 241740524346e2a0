//! The words of messages about exemptions: that one is asked for, and what became of that.

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::notify::text::{code, fact, shorten, subject, visible};

/// How much of a reason is passed on, in code points.
const LONGEST_REASON: usize = 500;

fn facts(namespace: &Name, queue: &str) -> String {
    let mut facts = String::new();
    fact(&mut facts, "Queue", &code(queue));
    fact(&mut facts, "Namespace", &code(namespace.as_str()));
    facts
}

/// An owner asks that queues may grow.
pub(super) fn asked(
    namespace: &Name,
    queue: &str,
    terms: &str,
    (reason, by): (&str, &str),
    at: Timestamp,
) -> (String, String) {
    let subject = subject("Pulse queue ", queue, &format!(": an exemption is asked for at {at}"));
    let mut facts = facts(namespace, queue);
    fact(&mut facts, "It shall grow", &visible(terms));
    fact(&mut facts, "Why", &code(&shorten(&visible(reason), LONGEST_REASON)));
    fact(&mut facts, "Asked for by", &code(by));
    fact(&mut facts, "Asked for at", &at.to_string());
    let text = format!(
        "An owner of a Pulse namespace asks that a queue of it may grow beyond the limit.\n\n{facts}\n\
         **What will happen:** nothing, until an administrator grants or refuses it. The owners are told then.\n\n\
         **What to do:** grant or refuse it in the console, under *Administration*, or by the API (`setExemption`, \
         `refuseExemption`)."
    );
    (subject, text)
}

/// It was granted or refused.
pub(super) fn decided(
    namespace: &Name,
    queue: &str,
    granted: Option<&str>,
    (reason, by): (&str, &str),
    at: Timestamp,
) -> (String, String) {
    let word = if granted.is_some() { "granted" } else { "refused" };
    let subject = subject("Pulse queue ", queue, &format!(": the exemption was {word} at {at}"));
    let mut facts = facts(namespace, queue);
    if let Some(terms) = granted {
        fact(&mut facts, "It may grow", &visible(terms));
    }
    fact(&mut facts, "Why", &code(&shorten(&visible(reason), LONGEST_REASON)));
    fact(&mut facts, "Decided by", &code(by));
    fact(&mut facts, "Decided at", &at.to_string());
    let (opening, next, advice) = match granted {
        Some(_) => (
            "A queue of a Pulse namespace of yours may grow beyond the limit, as was asked for.",
            "the queue is left alone as long as it keeps to that. You are told of trouble with it all the same.",
            "nothing. When it is over, the usual limits hold again.",
        ),
        None => (
            "A queue of a Pulse namespace of yours may not grow beyond the limit: that was asked for and refused.",
            "the usual limits hold.",
            "see to it that the program that reads from the queue is running and keeps up.",
        ),
    };
    let text = format!("{opening}\n\n{facts}\n**What will happen:** {next}\n\n**What to do:** {advice}");
    (subject, text)
}
