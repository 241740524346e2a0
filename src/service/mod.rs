//! What the service does. Store and broker meet only here, so only here does order matter.
//!
//! * `audit`: what is done, for the trail and the log.
//! * `refusals`: which refusals the trail has had lately.
//! * `owners`: owners and exemptions of namespaces.
//! * `requests`: owners ask for exemptions, and administrators decide.
//! * `extend`: put off the end of a namespace.
//! * `people`: sessions of people, and how tasks went.
//! * `signed_in`: who was signed in, while the store fails; `last_known`: what was shown (`views`), while that or the broker does.
//! * `overview`: one picture of all namespaces and queues, for all who look; `picture` is what that is.
//! * `inspect`: what is published, as people see it.
//! * `queues`, `exchanges`: what is shown of these (`shown`); `listing` is what all share who look at them.
//! * `demand`: empty queues and delete exchanges because somebody asks for it; `delete` is the same of queues.
//! * `ends`: release, revoke, disable and enable a namespace; `cut_off` has the broker refuse earlier credentials.
//! * `accounts`: credentials of people, on demand.
//! * `adopt`: make accounts of users of somebody else; `retire` ends those users.
//! * `clean`: delete what is left of namespaces that are gone; `clean_users` is that of their users.
//! * `claim`: hand out a namespace's credentials.
//! * `connection`: what connection strings are made of.
//! * `counts`: what this process counts; `figures`: what describes the whole service. Both are for metrics.
//! * `recall`: answer claims while the store fails; `memory` is what is remembered for that.
//! * `settle`: put a pending password in force; the one path of first creation, rotation and recovery.
//! * `records`: write the records of namespaces.
//! * `rotate`: settle every namespace whose switch is due.
//! * `heartbeat`: tell rotation and expiry whether clients can reach the API, and whose clock is wrong; `time` is what is known of it.
//! * `sweep`, `expire`: snapshot, plan, apply.
//! * `apply`: carry out a plan, each kind of action in its way.
//! * `runs`: a dry run of each task, and one with more than its brakes allow.
//! * `unknown`: what the broker has that nobody accounts for, shown, and deleted on demand.
//! * `shared`: what those two share.
//! * `hoarder`: close the one connection that holds a queue's messages.
//! * `remove`: delete queues.
//! * `limits`: the limits that the broker keeps by itself.
//! * `listed`: whether the broker lists what it says is gone.
//! * `deliver`: send what has to be told.
//! * `mute`: send no reminders.
//! * `replace`: go on where passwords are lost.
//! * `identity`: whose a user is, before it is written or deleted.
//! * `take_over`: go on with the users of a former deployment.
//! * `sightings`: which signed requests were made before.
//! * `outcome`: what became of a run.
//! * `locks`: claims of one namespace wait for each other.
//! * `together`: calls that are under way at the same moment are made as one; `renew` is that for claims of known namespaces.
//! * `deadline`: what was read long ago is not acted on.
//! * `error`: why something was not done.

mod accounts;
mod adopt;
mod apply;
mod audit;
mod claim;
mod clean;
mod clean_users;
mod connection;
mod counts;
mod cut_off;
mod deadline;
mod delete;
mod deliver;
mod demand;
mod ends;
mod error;
mod exchanges;
mod expire;
mod extend;
mod figures;
mod heartbeat;
mod hoarder;
mod identity;
mod inspect;
mod last_known;
mod limits;
mod listed;
mod listing;
mod locks;
mod memory;
mod mute;
mod outcome;
mod overview;
mod owners;
mod people;
mod picture;
mod queues;
mod recall;
mod records;
mod refusals;
mod release;
mod remove;
mod renew;
mod replace;
mod requests;
mod retire;
mod rotate;
mod runs;
mod settle;
mod shared;
mod shown;
mod sightings;
mod signed_in;
mod sweep;
mod take_over;
mod time;
mod together;
mod unknown;
mod views;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::broker::Broker;
use crate::clock::{Clock, Timestamp};
use crate::domain::account::AccountPolicy;
use crate::domain::claim::{ClaimPolicy, ClaimRequest};
use crate::domain::hold::HoldPolicy;
use crate::domain::identity::Tag;
use crate::domain::inventory::{BrokerExchange, BrokerQueue};
use crate::domain::name::{Name, Names};
use crate::domain::owner::{Groups, Owner};
use crate::domain::release::Release;
use crate::domain::rotation::Login;
use crate::domain::verdict::Criteria;
use crate::store::{Store, Summary};
use crate::telemetry::metrics::{Registry, constant};

use self::counts::Counts;
use self::deadline::Deadline;
use self::listing::Listing;
use self::locks::Locks;
use self::memory::Memory;
use self::picture::Overviews;
use self::refusals::Refusals;
use self::signed_in::SignedIn;
use self::time::Time;
use self::together::Renewals;
use self::views::Views;

pub use crate::store::{Digest, Outline, Sighting, TaskRun};
pub use accounts::Credentials;
pub use adopt::wanted_of;
pub use claim::Claimed;
pub use connection::{ConnectionTemplate, SuffixRule};
pub use delete::{MOST_QUEUES, Outcome as QueueOutcome, Outcomes as QueueOutcomes, Which};
pub use demand::Wish;
pub use ends::Ended;
pub use error::ServiceError;
pub use exchanges::Exchanges;
pub use extend::LONGEST_EXTENSION;
pub use figures::Figures;
pub use inspect::Batch;
pub use last_known::LastKnown;
pub use outcome::{Outcome, Step, Withheld};
pub use owners::Owned;
pub use people::Known;
pub use picture::{Glance, Listed, Overview, Pictured};
pub use runs::{Task, TaskPolicies};
pub use shown::{ExchangeView, QueueView};
pub use sightings::Sightings;
pub use unknown::Unknown;

/// How many calls to the broker are under way at once. More make a node no faster.
const IN_FLIGHT: usize = 8;

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
    /// How accounts are named, and for how long they live.
    pub accounts: AccountPolicy,
    /// Where groups that own namespaces are told.
    pub groups: Groups,
    /// Who administers, and is told of what is asked for.
    pub administrators: Vec<Owner>,
    /// How many live namespaces one client may have claimed.
    pub namespaces_per_client: usize,
    /// How many namespaces are remembered for the time when the store fails.
    pub remembered: usize,
    /// How long the audit trail is kept.
    pub audit_kept: Duration,
    /// How queues are judged.
    pub criteria: Criteria,
    /// How long a first claim waits for the broker, its waiting for a place included.
    pub first_claim_timeout: Duration,
}

impl Policy {
    /// How claims are decided.
    ///
    /// Whoever read a record before it became a tombstone does not act on it any more by then where namespaces are kept for
    /// long enough after their date: it was read as one that ends later, before a claim brought the end nearer, which is
    /// longer ago than anybody acts on what was read; or as what it is, and then whoever repairs it has put off its end
    /// before. A switch that is under way shows in the record, and keeps the tombstone from being revived; see `expire`.
    fn claims(&self) -> ClaimPolicy {
        // Clocks differ by up to a quarter of the interval.
        let long = self.settle_budget + self.rotation_interval / 4 <= self.expiration_delay;
        let margin = if long { Duration::ZERO } else { self.settle_budget };
        ClaimPolicy { delay: self.expiration_delay, margin, budget: self.settle_budget }
    }
}

/// The use cases, on one store and one broker. Any number of processes may run it at once.
pub struct Service {
    store: Arc<dyn Store>,
    broker: Arc<dyn Broker>,
    clock: Arc<dyn Clock>,
    policy: Policy,
    memory: Memory,
    time: Mutex<Time>,
    /// The tag of this deployment, once it is known.
    tag: OnceLock<Tag>,
    locks: Locks,
    renewals: Renewals,
    /// The places of first claims at the broker.
    first_claims: Semaphore,
    refusals: Refusals,
    /// The release of the broker that was seen last, what our account lacks there, and the uptime then.
    release: Mutex<Option<(Release, Vec<String>, Duration)>>,
    /// The uptime when it was last looked at what exactly users may do.
    looked_closely: Mutex<Option<Duration>>,
    queues: Listing<BrokerQueue>,
    exchanges: Listing<BrokerExchange>,
    overviews: Overviews,
    counts: Counts,
    /// Whose turn it is to begin an inspection.
    inspections: tokio::sync::Mutex<()>,
    /// Whose turn it is to look at everything.
    plans: tokio::sync::Mutex<()>,
    /// Who was signed in lately, for the time when the store fails.
    signed_in: SignedIn,
    /// What was shown lately, likewise.
    shown_queues: Views<QueueView>,
    shown_exchanges: Views<ExchangeView>,
}

impl Service {
    /// A service on these parts.
    pub fn new(store: Arc<dyn Store>, broker: Arc<dyn Broker>, clock: Arc<dyn Clock>, policy: Policy) -> Service {
        let time = Time::new(&*clock);
        Service {
            store,
            broker,
            clock,
            policy,
            memory: Memory::default(),
            tag: OnceLock::new(),
            locks: Locks::default(),
            renewals: Renewals::default(),
            first_claims: Semaphore::new(IN_FLIGHT),
            refusals: Refusals::default(),
            release: Mutex::default(),
            looked_closely: Mutex::default(),
            queues: Listing::default(),
            exchanges: Listing::default(),
            overviews: Overviews::default(),
            counts: Counts::default(),
            inspections: tokio::sync::Mutex::default(),
            plans: tokio::sync::Mutex::default(),
            signed_in: SignedIn::default(),
            shown_queues: Views::default(),
            shown_exchanges: Views::default(),
            time,
        }
    }

    /// How this deployment wants it done.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Gives what this process counts to a registry.
    pub fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
        if let Some(calls) = self.store.calls() {
            calls.register("pulse_store_call_duration_seconds", "Calls to the database", registry);
        }
        let interval = [(Vec::new(), self.policy.rotation_interval.as_secs_f64())];
        constant(registry, "pulse_rotation_interval_seconds", "How long a password is active", interval);
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

    /// Whether the store and the broker answer, each within `patience`, and our clock is right, as far as that is known: by the
    /// store's, by the host's uptime, and by what clients signed. By name, with what is wrong.
    pub async fn health(&self, patience: Duration) -> Vec<(&'static str, Result<(), String>)> {
        let (store, broker, _) = tokio::join!(
            tokio::time::timeout(patience, self.vitals()),
            tokio::time::timeout(patience, self.broker.ping()),
            tokio::time::timeout(patience, self.look_at_release()),
        );
        let late = format!("no answer within {patience:?}");
        let store = store.map_or_else(|_| Err(late.clone()), |answer| answer.map_err(|error| error.to_string()));
        let broker = broker.map_or_else(|_| Err(late), |answer| answer.map_err(|error| error.to_string()));
        let (store, clock) = match store {
            Ok(_) if self.memory.store_is_failing() => {
                (Err("it can be read, and claims can't be stored".to_owned()), Ok(()))
            }
            Ok((_, Some(doubt))) => (Ok(()), Err(doubt.to_string())),
            Ok((_, None)) => (Ok(()), Ok(())),
            Err(error) => (Err(error), self.doubt().map_or(Ok(()), |doubt| Err(doubt.to_string()))),
        };
        vec![("database", store), ("rabbitmq", broker), ("clock", clock)]
    }

    /// How long what is read from now on may be acted on.
    fn deadline(&self, now: Timestamp, work: &'static str) -> Deadline {
        Deadline::after(self.policy.settle_budget / 2, now, work)
    }

    /// What `asked` gets of this login.
    fn connection_string(&self, asked: &ClaimRequest, login: &Login) -> Zeroizing<String> {
        let user = self.policy.names.user(&asked.name, login.slot);
        self.policy.connection.connection_string(&user, &login.password, &asked.name, asked.client.as_deref())
    }
}
