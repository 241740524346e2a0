//! What is counted of callers.

use super::caller::Caller;
use super::refusal::{Failure, Refusal};
use crate::clock::Timestamp;
use crate::telemetry::metrics::{Counter, Registry, Table};

/// What became of the proof of who is asking.
const RESULTS: [&str; 4] = ["client", "proven", "signature", "unanswered"];
/// What became of a request that was made before.
const AGAIN: [&str; 3] = ["repeated", "replayed", "rewritten"];

/// Who was proven to ask, and who was refused.
pub(super) struct Counts {
    proofs: Table<&'static str, Counter>,
    again: Table<&'static str, Counter>,
}

fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TwoSchemes | Refusal::Hawk(_) | Refusal::Ext(_) => "signature",
        Refusal::Client(_) | Refusal::Remote(_) => "client",
        Refusal::Replayed { .. } => "replayed",
        Refusal::Rewritten { .. } => "rewritten",
        Refusal::Payload { .. } => "payload",
    }
}

impl Default for Counts {
    fn default() -> Counts {
        let table = |words: &[&'static str]| {
            Table::new(words.iter().map(|word| (*word, vec![("result", (*word).into())])), Counter::default)
        };
        Counts { proofs: table(&RESULTS), again: table(&AGAIN) }
    }
}

impl Counts {
    pub(super) fn proved(&self, proof: &Result<Caller, Failure>) {
        let word = match proof {
            Ok(_) => "proven",
            Err(Failure::Refused(refusal)) => reason(refusal),
            Err(Failure::Unanswered(_)) => "unanswered",
        };
        self.proofs.count(&word);
    }

    pub(super) fn seen(&self, first: &Result<Option<Timestamp>, Refusal>) {
        match first {
            Ok(None) => {}
            Ok(Some(_)) => self.again.count(&"repeated"),
            Err(refusal) => self.again.count(&reason(refusal)),
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Requests whose caller was to be proven, by what became of that";
        registry.register("pulse_authentications", help, self.proofs.clone());
        let help = "Signed requests that were made before: repeated ones are answered, all others are refused";
        registry.register("pulse_repeated_requests", help, self.again.clone());
    }
}
