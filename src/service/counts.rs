//! What this process counts of what the service does, for metrics.

use super::ServiceError;
use crate::domain::audit::{Audit, Deed};
use crate::telemetry::metrics::{Counter, Gauge, Labels, Registry, Table};

/// What a claim was answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// From what the process remembers, because the store fails.
    Memory,
    /// From the store.
    Store,
    /// From the store, after the broker was given the first password.
    Broker,
    /// It was not answered.
    None,
}

impl Source {
    const ALL: [Source; 4] = [Source::Memory, Source::Store, Source::Broker, Source::None];

    fn word(self) -> &'static str {
        match self {
            Source::Memory => "memory",
            Source::Store => "store",
            Source::Broker => "broker",
            Source::None => "none",
        }
    }
}

/// The result of a claim that was answered.
const GIVEN: &str = "given";

/// Why claims are refused or fail.
const REASONS: [&str; 9] = [
    "cleaning-up",
    "contended",
    "disabled",
    "foreign-user",
    "on-demand",
    "other",
    "revoking",
    "store",
    "too-many-namespaces",
];
const BROKER: &str = "broker";

fn reason(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Store(_) => "store",
        ServiceError::Broker(_) => BROKER,
        ServiceError::CleaningUp { .. } => "cleaning-up",
        ServiceError::Contended(_) => "contended",
        ServiceError::Disabled { .. } => "disabled",
        ServiceError::ForeignUser { .. } => "foreign-user",
        ServiceError::OnDemand(_) => "on-demand",
        ServiceError::Revoking { .. } => "revoking",
        ServiceError::TooManyNamespaces { .. } => "too-many-namespaces",
        _ => "other",
    }
}

/// Which kind of actor did it.
const ACTORS: [&str; 4] = ["client", "person", "task", "command"];

/// What became of an attempt to deliver a notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Delivery {
    /// The mail system took it.
    Accepted,
    /// It is tried again later.
    Failed,
    /// It waits, because too much went to its address lately.
    Paced,
    /// Nobody gets it.
    GivenUp,
}

/// What this process has counted.
pub(super) struct Counts {
    claims: Table<(&'static str, Source), Counter>,
    deeds: Table<(String, &'static str), Counter>,
    notices: Table<Delivery, Counter>,
    rotations: Table<bool, Counter>,
    clock: Gauge,
}

impl Default for Counts {
    fn default() -> Counts {
        let given = Source::ALL.into_iter().filter(|source| *source != Source::None).map(|source| (GIVEN, source));
        let refused = REASONS.into_iter().chain([BROKER]).map(|reason| (reason, Source::None));
        let claim = |key @ (result, source): (&'static str, Source)| {
            (key, vec![("result", result.into()), ("source", source.word().into())])
        };
        let deed = |deed: Deed| {
            let labels = |actor: &'static str| -> Labels { vec![("deed", deed.word().into()), ("by", actor.into())] };
            ACTORS.map(|actor| ((deed.word().to_owned(), actor), labels(actor)))
        };
        let notices = [
            (Delivery::Accepted, "accepted"),
            (Delivery::Failed, "failed"),
            (Delivery::Paced, "paced"),
            (Delivery::GivenUp, "given-up"),
        ];
        let notices = notices.map(|(key, word)| (key, vec![("outcome", word.into())]));
        let rotations = [(true, "done"), (false, "failed")].map(|(key, word)| (key, vec![("outcome", word.into())]));
        Counts {
            claims: Table::new(given.chain(refused).map(claim), Counter::default),
            deeds: Table::new(Deed::ALL.into_iter().flat_map(deed), Counter::default),
            notices: Table::new(notices, Counter::default),
            rotations: Table::new(rotations, Counter::default),
            clock: Gauge::default(),
        }
    }
}

impl Counts {
    pub(super) fn claimed<T>(&self, claimed: &Result<(T, Source), ServiceError>) {
        let key = match claimed {
            Ok((_, source)) => (GIVEN, *source),
            Err(error) => (reason(error), Source::None),
        };
        self.claims.count(&key);
    }

    pub(super) fn did(&self, audit: &Audit) {
        let (kind, _) = audit.by.actor.parts();
        self.deeds.count(&(audit.action.clone(), kind));
    }

    pub(super) fn delivered(&self, delivery: Delivery, notices: usize) {
        self.notices.add(&delivery, notices as u64);
    }

    pub(super) fn rotated(&self, done: bool) {
        self.rotations.count(&done);
    }

    /// By how many seconds our clock is ahead of the store's.
    pub(super) fn clock(&self, ahead: f64) {
        self.clock.set(ahead);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "pulse_claims",
            "Claims, by their result, and by what they were answered from",
            self.claims.clone(),
        );
        registry.register(
            "pulse_deeds",
            "What was done to somebody's things, as the audit trail has it, and by which kind of actor",
            self.deeds.clone(),
        );
        registry.register("pulse_notices", "Attempts to deliver messages to owners", self.notices.clone());
        registry.register("pulse_rotations", "Switches of single namespaces", self.rotations.clone());
        registry.register(
            "pulse_clock_offset_seconds",
            "By how much the clock of this host is ahead of the database's, as of the last look",
            self.clock.clone(),
        );
    }
}
