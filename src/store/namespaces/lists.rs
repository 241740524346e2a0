//! What a namespace has several of, or of several parts, as it is stored: JSON.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::barred::Disabled;
use crate::domain::exemption::{Exempted, Requested};
use crate::domain::ladder::Exemption;
use crate::domain::owner::Owner;
use crate::store::error::StoreError;

/// An exemption as it is stored; moments in milliseconds.
#[derive(Serialize, Deserialize)]
struct Stored {
    queue: String,
    up_to: Option<u64>,
    until: Option<i64>,
    reason: String,
    by: String,
    since: i64,
}

/// A request for an exemption, likewise.
#[derive(Serialize, Deserialize)]
struct StoredRequest {
    queue: String,
    up_to: Option<u64>,
    until: Option<i64>,
    reason: String,
    by: String,
    address: Option<String>,
    since: i64,
}

/// Why nobody may claim a namespace, as it is stored. The names and reasons of others may hold any character, which JSON escapes.
#[derive(Serialize, Deserialize)]
struct StoredDisabled {
    since: i64,
    by: String,
    reason: String,
}

fn unreadable(what: &str, why: impl std::fmt::Display) -> StoreError {
    StoreError::Failed(format!("the {what} of a namespace can't be read: {why}"))
}

pub(super) fn owners_text(owners: &[Owner]) -> String {
    serde_json::json!(owners.iter().map(Owner::to_string).collect::<Vec<_>>()).to_string()
}

pub(super) fn owners(text: &str) -> Result<Vec<Owner>, StoreError> {
    let stored: Vec<String> = serde_json::from_str(text).map_err(|error| unreadable("owners", error))?;
    stored.iter().map(|owner| Owner::parse(owner).map_err(|error| unreadable("owners", error))).collect()
}

pub(super) fn exemptions_text(exemptions: &[Exempted]) -> String {
    let stored = |of: &Exempted| {
        let Exempted { queue, exemption: Exemption { up_to, until }, reason, by, since } = of.clone();
        Stored { queue, up_to, until: until.map(Timestamp::millis), reason, by, since: since.millis() }
    };
    serde_json::json!(exemptions.iter().map(stored).collect::<Vec<_>>()).to_string()
}

pub(super) fn exemptions(text: &str) -> Result<Vec<Exempted>, StoreError> {
    let stored: Vec<Stored> = serde_json::from_str(text).map_err(|error| unreadable("exemptions", error))?;
    let read = |Stored { queue, up_to, until, reason, by, since }| {
        let exemption = Exemption { up_to, until: until.map(Timestamp::from_millis) };
        Exempted { queue, exemption, reason, by, since: Timestamp::from_millis(since) }
    };
    Ok(stored.into_iter().map(read).collect())
}

pub(super) fn requests_text(requests: &[Requested]) -> String {
    let stored = |of: &Requested| {
        let Requested { queue, exemption: Exemption { up_to, until }, reason, by, address, since } = of.clone();
        StoredRequest { queue, up_to, until: until.map(Timestamp::millis), reason, by, address, since: since.millis() }
    };
    serde_json::json!(requests.iter().map(stored).collect::<Vec<_>>()).to_string()
}

pub(super) fn requests(text: &str) -> Result<Vec<Requested>, StoreError> {
    let stored: Vec<StoredRequest> =
        serde_json::from_str(text).map_err(|error| unreadable("requests for exemptions", error))?;
    let read = |StoredRequest { queue, up_to, until, reason, by, address, since }| {
        let exemption = Exemption { up_to, until: until.map(Timestamp::from_millis) };
        Requested { queue, exemption, reason, by, address, since: Timestamp::from_millis(since) }
    };
    Ok(stored.into_iter().map(read).collect())
}

pub(super) fn disabled_text(of: &Disabled) -> String {
    let Disabled { since, by, reason } = of;
    serde_json::json!(StoredDisabled { since: since.millis(), by: by.clone(), reason: reason.clone() }).to_string()
}

pub(super) fn disabled(text: &str) -> Result<Disabled, StoreError> {
    let stored = serde_json::from_str(text).map_err(|error| unreadable("reason to be disabled", error))?;
    let StoredDisabled { since, by, reason } = stored;
    Ok(Disabled { since: Timestamp::from_millis(since), by, reason })
}
