//! What the service is about, as pure functions: no async, no IO, no clock, no randomness, no serde.
//!
//! * [`name`]: names of namespaces, their users, queues and exchanges, and whether one of them is ours.
//! * [`namespace`]: a namespace as the store keeps it.
//! * [`rotation`]: which password is in force, which comes next, and until when one is good.
//! * [`hold`]: whether rotation has to wait.
//! * [`claim`]: what a claim does to what the store holds.
//! * [`inventory`]: what the broker holds, as far as we read it.
//! * [`alert`]: what is remembered of a queue that grows.
//! * [`notice`]: a message to the owner of a namespace, and the events that it tells of.
//! * [`pace`]: how many messages may go to one address in a stretch of time.
//! * [`snapshot`]: what a run looks at before it plans.
//! * [`plan`]: what a run is going to do, and how much it may remove.
//! * [`sweep`]: plans repairs, warnings, and the removal of large queues and old connections.
//! * [`expiry`]: plans the end of namespaces.

pub mod alert;
pub mod claim;
pub mod expiry;
pub mod hold;
pub mod inventory;
pub mod name;
pub mod namespace;
pub mod notice;
pub mod pace;
pub mod plan;
pub mod rotation;
pub mod snapshot;
pub mod sweep;
