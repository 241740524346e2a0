//! What the service is about, as pure functions: no async, no IO, no clock, no randomness, no serde.
//!
//! * [`name`]: names of namespaces, their users, queues and exchanges, and whether one of them is ours.
//! * [`namespace`]: a namespace as the store keeps it.
//! * [`rotation`]: which password is in force, which comes next, and until when one is good.
//! * [`claim`]: what a claim does to what the store holds.
//! * [`inventory`]: what the broker holds, as far as we read it.
//! * [`alert`]: what is remembered of a queue that grows.
//! * [`notice`]: a message to the owner of a namespace.

pub mod alert;
pub mod claim;
pub mod inventory;
pub mod name;
pub mod namespace;
pub mod notice;
pub mod rotation;
