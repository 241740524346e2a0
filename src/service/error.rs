//! Why the service did not do what it was asked.

use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::account::BadAccount;
use crate::domain::adoption::Misfit;
use crate::domain::exemption::NoPattern;
use crate::domain::inspection::{MOST_ALL, MOST_EACH, NoInspection};
use crate::domain::name::{BadName, Name};
use crate::domain::unknown::NotUnknown;
use crate::store::StoreError;

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
    /// Nobody may claim the namespace.
    #[error("namespace {name} is disabled since {since}: {reason}")]
    Disabled {
        /// Which namespace.
        name: Name,
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// The credentials of the namespace were revoked, and it can be claimed again from then on.
    #[error("the credentials of namespace {name} are being replaced until {until}")]
    Revoking {
        /// Which namespace.
        name: Name,
        /// From when on there are new ones.
        until: Timestamp,
    },
    /// RabbitMQ does not show yet that earlier credentials are refused.
    #[error("RabbitMQ's user {0} has not the password that it was given")]
    NotRefused(String),
    /// The client has claimed as many live namespaces as one may.
    #[error("client {client} has {most} live namespaces, which is the most")]
    TooManyNamespaces {
        /// Which client.
        client: String,
        /// How many one client may have.
        most: usize,
    },
    /// There is no live namespace of this name.
    #[error("there is no namespace {0}")]
    NoNamespace(Name),
    /// It is an account, whose credentials are not claimed.
    #[error("{0} is an account: its credentials change when an owner asks for new ones, and can't be claimed")]
    OnDemand(Name),
    /// It is no name of a namespace, nor of an account.
    #[error(transparent)]
    BadName(#[from] BadName),
    /// It is none, or not one that this can be done to.
    #[error("{name} {why}")]
    NotSuch {
        /// Which namespace.
        name: Name,
        /// What it is, or is not.
        why: &'static str,
    },
    /// There is one of this name already.
    #[error("there is an account or a namespace {0} already")]
    Exists(Name),
    /// An account can't have this name.
    #[error(transparent)]
    BadAccount(#[from] BadAccount),
    /// A password is being put in force by another call.
    #[error("another request for new credentials of {0} is under way")]
    Underway(Name),
    /// An adopted user was changed by somebody, so that nobody knows whose it is now.
    #[error("RabbitMQ's user {user} is not any more as it was adopted, and is left alone: {why}")]
    Changed {
        /// Its name.
        user: String,
        /// What is otherwise.
        why: Misfit,
    },
    /// Nobody would own it any more.
    #[error(
        "{0} would have no owner left: name another one first; an administrator may leave it without any, with force"
    )]
    LastOwner(Name),
    /// More owners than a namespace may have.
    #[error("a namespace may have {0} owners at most: let a group or a mailing list own it")]
    TooManyOwners(usize),
    /// More exemptions than a namespace may have.
    #[error("a namespace may have {0} exemptions at most: end some, or use a pattern")]
    TooManyExemptions(usize),
    /// More requests for exemptions than a namespace may have.
    #[error("a namespace may have {0} requests for exemptions at most: wait until some are decided, or use a pattern")]
    TooManyRequests(usize),
    /// An end to which a namespace can't be put off.
    #[error("{0}")]
    BadEnd(&'static str),
    /// What is not deleted as unknown.
    #[error(transparent)]
    NotUnknown(#[from] NotUnknown),
    /// A task that removes nothing, so that it has no brakes.
    #[error("the task {0} removes nothing, so that there is nothing to allow it")]
    NoBrakes(&'static str),
    /// A person who may not sign in.
    #[error("{name} may not sign in, since {since}: {reason}")]
    PersonBarred {
        /// Who.
        name: String,
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: String,
    },
    /// Somebody would keep themselves from signing in.
    #[error("you can't do this to yourself: another administrator can")]
    Oneself,
    /// A pattern that matches queues of others, or none.
    #[error(transparent)]
    NoPattern(#[from] NoPattern),
    /// A queue or an exchange that is not one of the namespace.
    #[error("the name must begin with {0:?}")]
    Elsewhere(String),
    /// There is no such queue or exchange.
    #[error("there is no {0} {1}")]
    Missing(&'static str, String),
    /// A queue that is left alone, and why.
    #[error("the queue {0} is left alone: {1}")]
    Kept(String, String),
    /// What can't be inspected.
    #[error(transparent)]
    NoInspection(#[from] NoInspection),
    /// More inspections than there may be at once.
    #[error("{}", match own {
        true => format!("you look at {MOST_EACH} things already, which is the most: stop one, or wait a minute after you closed its page"),
        false => format!("people look at {MOST_ALL} things already, which is the most: try again in some minutes"),
    })]
    TooManyInspections {
        /// Whether the person has as many as one may have.
        own: bool,
    },
    /// Other processes wrote the same record again and again.
    #[error("namespace {0} is being written by too many processes at once")]
    Contended(Name),
    /// Somebody else has a user under a name of ours.
    #[error(
        "RabbitMQ's user {user} is not tagged as ours and is left alone; if a former deployment made it, see `take-over-users`"
    )]
    ForeignUser {
        /// Its name.
        user: String,
        /// Whether the namespace has no user of ours either.
        alone: bool,
    },
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
    /// RabbitMQ says that there is no such thing, and lists it.
    #[error(
        "RabbitMQ lists {0}, and answers 404 to calls for it: its name is hardly UTF-8, so that only `rabbitmqctl eval` can \
         remove it"
    )]
    StillListed(String),
    /// The guard was to run alone, and there is a service with namespaces in the same database.
    #[error(
        "the database is that of a service: `guard --observe` needs one of its own; to have the service do nothing about queues, \
         set monitor.action (MONITOR_ACTION) to observe"
    )]
    NotAlone,
    /// This process stood still for so long that what it read may be outdated.
    #[error("{0} took too long, and was given up before it could do harm")]
    TooSlow(&'static str),
}

impl ServiceError {
    /// The same once more, for another of several things that failed for one reason.
    pub(super) fn again(&self) -> ServiceError {
        match self {
            ServiceError::Store(error) => error.clone().into(),
            ServiceError::Broker(error) => error.clone().into(),
            ServiceError::TooSlow(work) => ServiceError::TooSlow(work),
            other => StoreError::Failed(other.to_string()).into(),
        }
    }
}
