//! Commands for people at a shell, by what they are about.

pub mod accounts;
pub mod ends;
pub mod keys;
pub mod owners;
pub mod queues;
pub mod trail;

use taskcluster_pulse::clock::Timestamp;

/// Reads a date that an option gives.
pub fn parse_date(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse(text).ok_or_else(|| "give a date such as 2026-12-01T00:00:00Z".to_owned())
}
