//! Fuzzing by properties: inputs that are nearly right, in thousands of ways, for everything that reads what comes from
//! outside. Nothing may panic, hang, show a secret, answer a request with a 5xx, or let in what was not signed.
//!
//! `PULSE_TEST_FUZZ` is how much is tried (20000 where it is not set, some seconds for all targets together; a target whose
//! cases are dear tries fewer), `PULSE_TEST_SEED` the seed of the first case. A case that fails prints its seed. To try
//! millions at leisure:
//!
//! ```text
//! PULSE_TEST_FUZZ=20000000 nice -n 19 cargo test --test fuzz
//! ```
//!
//! To see one case again, `PULSE_TEST_FUZZ=1 PULSE_TEST_SEED=<seed> cargo test --test fuzz <target>`. What was found once is
//! kept as a case of its own in the file of its target, or with the unit tests of what was mended.

#[path = "fuzz/broker.rs"]
mod broker;
#[path = "fuzz/configuration.rs"]
mod configuration;
#[path = "fuzz/driver.rs"]
mod driver;
#[path = "fuzz/requests.rs"]
mod requests;
#[path = "fuzz/scopes.rs"]
mod scopes;
#[path = "fuzz/signatures.rs"]
mod signatures;
#[path = "fuzz/stored.rs"]
mod stored;
mod support;
