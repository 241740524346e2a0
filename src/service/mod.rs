//! What the service does. Store and broker meet only here, so only here does order matter.
//!
//! * `claim`: hand out a namespace's credentials.
//! * `memory`: answer claims while the store fails.
//! * `settle`: put a pending password in force; the one path of first creation, rotation and recovery.
//! * `rotate`: settle every namespace whose switch is due.
//! * `heartbeat`: tell rotation whether clients can reach the API, and whose clock is wrong.
//! * `maintain`: sweep and expire: snapshot, plan, apply.
//! * `remove`: delete queues, and what is left of a namespace that is gone.
//! * `deliver`: send what has to be told.
//! * `replace`: go on where passwords are lost.
//! * `outcome`: what became of a run.
//! * `turns`: claims of one namespace wait for each other.

mod claim;
mod deliver;
mod heartbeat;
mod maintain;
mod memory;
mod outcome;
mod remove;
mod replace;
mod rotate;
mod settle;
mod turns;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::broker::{Broker, BrokerError};
use crate::clock::{Clock, Timestamp};
use crate::domain::hold::HoldPolicy;
use crate::domain::name::{Name, Names};
use crate::domain::rotation::Credentials;
use crate::store::{Store, StoreError, Summary};

use self::memory::Memory;
use self::turns::Turns;

pub use claim::Claimed;
pub use outcome::{Outcome, Step};

/// How many calls to the broker are under way at once. More make a node no faster.
const IN_FLIGHT: usize = 8;

/// Why the service did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker failed.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// The namespace is being cleaned up after it expired; it can be claimed again from then on.
    #[error("namespace {name} is being cleaned up until {until}")]
    CleaningUp {
        /// Which namespace.
        name: Name,
        /// When the clean-up ends at the latest.
        until: Timestamp,
    },
    /// Other processes wrote the same record again and again.
    #[error("namespace {0} is being written by too many processes at once")]
    Contended(Name),
    /// Of many things, some could not be removed.
    #[error("{failed} of {of} things could not be removed, of which the first: {first}")]
    Partly {
        /// How many could not.
        failed: usize,
        /// Of how many.
        of: usize,
        /// Why the first of them could not.
        first: Box<ServiceError>,
    },
    /// A queue is still there after all that could be done to remove it.
    #[error("the queue {queue} could not be removed: it is exclusive, and {why}")]
    StillThere {
        /// Its name.
        queue: String,
        /// Why it could not.
        why: &'static str,
    },
    /// This process stood still for so long that what it read may be outdated.
    #[error("{0} took too long, and was given up before it could do harm")]
    TooSlow(&'static str),
}

/// What the connection strings of this deployment are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionTemplate {
    /// `amqps://` or `amqp://`.
    pub protocol: String,
    /// The host that AMQP clients connect to.
    pub hostname: String,
    /// Its port.
    pub port: u16,
    /// The virtual host, as it is named at the broker.
    pub vhost: String,
    /// Put behind the virtual host as it is; `?frameMax=0`, say.
    pub suffix: String,
}

/// What JavaScript's `encodeURIComponent` leaves as it is.
const URI_COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

impl ConnectionTemplate {
    /// `<protocol><user>:<password>@<hostname>:<port>/<encoded vhost><suffix>`.
    pub fn connection_string(&self, user: &str, password: &crate::secret::Password) -> Zeroizing<String> {
        let ConnectionTemplate { protocol, hostname, port, vhost, suffix } = self;
        let (password, vhost) = (password.expose(), utf8_percent_encode(vhost, URI_COMPONENT));
        Zeroizing::new(format!("{protocol}{user}:{password}@{hostname}:{port}/{vhost}{suffix}"))
    }
}

/// How this deployment wants it done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How namespaces and users are named.
    pub names: Names,
    /// What connection strings are made of.
    pub connection: ConnectionTemplate,
    /// How long a password is active before the next one is.
    pub rotation_interval: Duration,
    /// How long after its date a namespace is taken, as in [`ExpiryPolicy`](crate::domain::expiry::ExpiryPolicy).
    pub expiration_delay: Duration,
    /// How long putting one password in force may take, from reading the record to the broker's answer. A process that
    /// stood still gives up, because by then another may have finished the job and gone on to the next; no call to the
    /// broker begins in the second half of that time. Also how long a pending password is left to the process that chose it.
    pub settle_budget: Duration,
    /// When rotation waits.
    pub hold: HoldPolicy,
    /// How many namespaces are remembered for the time when the store fails.
    pub remembered: usize,
    /// How long a first claim waits for the broker, its turn included.
    pub first_claim_timeout: Duration,
}

/// The use cases, on one store and one broker. Any number of processes may run it at once.
pub struct Service {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    memory: Memory,
    /// When it was last logged that our clock is wrong.
    clock_reported: Mutex<Option<Instant>>,
    turns: Turns,
    /// The turns of first claims at the broker.
    first_claims: Semaphore,
}

impl Service {
    /// A service on these parts.
    pub fn new(store: Arc<dyn Store>, broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, policy: Policy) -> Service {
        Service {
            store,
            broker,
            clock,
            policy,
            memory: Memory::default(),
            turns: Turns::default(),
            first_claims: Semaphore::new(IN_FLIGHT),
            clock_reported: Mutex::default(),
        }
    }

    /// How this deployment wants it done.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Live namespaces in the order of their names, at most `limit`, from the first one after `after` on.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.summaries(after, limit).await?)
    }

    /// The live namespace of this name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn summary(&self, name: &Name) -> Result<Option<Summary>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.summary(name).await?)
    }

    /// Whether the store and the broker answer, each within `patience`, and our clock agrees with the store's, as far as
    /// that is known; by name, with what is wrong.
    pub async fn health(&self, patience: Duration) -> Vec<(&'static str, Result<(), String>)> {
        let (store, broker) = tokio::join!(
            tokio::time::timeout(patience, self.vitals()),
            tokio::time::timeout(patience, self.broker.ping()),
        );
        let late = format!("no answer within {patience:?}");
        let store = store.map_or_else(|_| Err(late.clone()), |answer| answer.map_err(|error| error.to_string()));
        let broker = broker.map_or_else(|_| Err(late), |answer| answer.map_err(|error| error.to_string()));
        let (store, clock) = match store {
            Ok(_) if self.memory.store_is_failing() => {
                (Err("it can be read, and claims can't be stored".to_owned()), Ok(()))
            }
            Ok((_, Some(wrong_clock))) => (Ok(()), Err(wrong_clock.to_string())),
            Ok((_, None)) => (Ok(()), Ok(())),
            Err(error) => (Err(error), Ok(())),
        };
        vec![("database", store), ("rabbitmq", broker), ("clock", clock)]
    }

    /// How long what is read from now on may be acted on.
    fn deadline(&self, now: Timestamp, work: &'static str) -> Deadline {
        Deadline::after(self.policy.settle_budget / 2, now, work)
    }

    fn connection_string(&self, name: &Name, credentials: &Credentials) -> Zeroizing<String> {
        let user = self.policy.names.user(name, credentials.slot);
        self.policy.connection.connection_string(&user, &credentials.password)
    }
}

/// A stretch of work that must not act on what it read once that is too old. It counts by the monotonic clock, which
/// nobody sets back, and by the calendar, which goes on while the machine is suspended; whichever is over first counts.
#[derive(Clone, Copy)]
struct Deadline {
    at: Instant,
    on: Timestamp,
    work: &'static str,
}

impl Deadline {
    /// Begins `budget` before its end; to be made before what the work acts on is read.
    fn after(budget: Duration, now: Timestamp, work: &'static str) -> Deadline {
        Deadline { at: Instant::now() + budget, on: now.plus(budget), work }
    }

    /// Fails once the time is over; to be asked before each step that can't be taken back.
    fn check(self, now: Timestamp) -> Result<(), ServiceError> {
        if Instant::now() < self.at && now < self.on { Ok(()) } else { Err(ServiceError::TooSlow(self.work)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Password;

    #[test]
    fn a_connection_string_is_shaped_as_in_2018() {
        let template = ConnectionTemplate {
            protocol: "amqps://".into(),
            hostname: "pulse.example.com".into(),
            port: 5671,
            vhost: "/a b".into(),
            suffix: "?frameMax=0".into(),
        };
        let password = Password::from_stored("secret".into());
        let made = template.connection_string("taskcluster-x-1", &password);
        assert_eq!(*made, "amqps://taskcluster-x-1:secret@pulse.example.com:5671/%2Fa%20b?frameMax=0");
    }
}
