//! What those learn who watch the service.
//!
//! * [`log`]: log lines, for humans or as mozlog JSON.
//! * [`metrics`]: what metrics are made of; each part of the service has its own, and the process puts them together. [`system`]: what
//!   the system tells of the process.

pub mod log;
pub mod metrics;
pub mod system;

pub use log::{Levels, LogFormat, Stream, init};
