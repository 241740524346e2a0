//! What the service remembers: rows, no opinions.
//!
//! The store has no verb of the domain. The domain computes the next record, and [`Records::write`] writes it over the
//! version at which it was read. A lost race is a value, [`Write::Lost`], and no error.
//!
//! [`open`] gives the [`Store`] that a [`DatabaseUrl`] names: a SQLite file for one machine, or a PostgreSQL database for
//! any number of processes. Passwords are sealed under a [`KeyRing`] before they reach either. One suite of tests,
//! `tests/store.rs`, holds both to what is written here.
//!
//! # Where things stand
//!
//! [`Store`] is the sum of small traits. Each has a file of its name here, with its types and how its rows are read and made,
//! and one in `postgres/` and in `sqlite/`, with the statements:
//!
//! * [`Namespaces`]: reading namespaces. [`Records`]: writing these and watches, with the notices of each change.
//! * [`Watches`]: queues in trouble, and the histories of queues. [`Notices`]: what has to be told.
//! * [`Audits`]: who did what to whose things, and why.
//! * [`RecipientRecords`]: who can't be told, and who wants no reminders.
//! * [`Leases`]: who runs a task, and how it went last. [`Heartbeats`]: whether the API is within reach, and the time.
//! * [`Sightings`]: signed requests. [`Sessions`]: people who are signed in. [`Deployment`]: which deployment this is, and what belongs to others.
//! * [`Sums`]: figures of the whole service.
//!
//! `pulseguardian` reads the database of another program, to take over what is in it.
//!
//! `table` makes statements from the description of a table; `seal` has the keys; `schema`, `migrations/` and `back` the schema.
//!
//! # How to add
//!
//! * A column: a migration in `migrations/postgres` and `migrations/sqlite`, its way back in `migrations/back` and `back`, one line in the description of its table
//!   (`table!`), and what it means, where the row is made and read below that.
//! * A table: a migration likewise, a file here with its `table!`, and a trait with the calls that it needs, which either
//!   backend implements and [`Store`] adds up. A table whose rows must change with others in one transaction is written by [`Records`].

mod audits;
mod back;
mod calls;
mod deployment;
mod error;
mod figures;
mod heartbeats;
mod leases;
mod limits;
mod namespaces;
mod notices;
mod open;
mod postgres;
mod pulseguardian;
mod recipients;
mod records;
mod rekey;
mod schema;
mod seal;
mod sessions;
mod sightings;
mod sqlite;
mod table;
mod url;
mod watches;

use async_trait::async_trait;

use crate::telemetry::metrics::Calls;

pub use audits::Audits;
pub use deployment::Deployment;
pub use error::StoreError;
pub use figures::{Figures, Sums};
pub use heartbeats::Heartbeats;
pub use leases::{Leases, TaskRun};
pub use limits::StoreLimits;
pub use namespaces::{Named, Namespaces, Outline, Select, Summary, Wanted};
pub use notices::{Accepted, Keep, Notices};
pub use open::{migrate, migrate_back, open, rekey};
pub use pulseguardian::{Guarded, PulseGuardian, read_pulseguardian};
pub use recipients::RecipientRecords;
pub use records::{Change, Making, Record, Records, Write};
pub use rekey::Rekeyed;
pub use seal::KeyRing;
pub use sessions::Sessions;
pub use sightings::{Digest, Sighting, Sightings};
pub use url::{DatabaseUrl, Server};
pub use watches::{SeenOf, Watches};

/// The records of the service. Every call has a time-out of its own.
#[async_trait]
pub trait Store:
    Namespaces
    + Records
    + Watches
    + Notices
    + RecipientRecords
    + Audits
    + Leases
    + Heartbeats
    + Sightings
    + Sessions
    + Deployment
    + Sums
    + Send
    + Sync
{
    /// Whether the store answers, and has the schema that this program needs.
    async fn ping(&self) -> Result<(), StoreError>;

    /// What is counted of its calls, where something is.
    fn calls(&self) -> Option<&Calls> {
        None
    }
}
