//! What an account is beyond a namespace, as it is stored: as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::domain::account::{Account, Adopted, Schedule};
use crate::store::error::StoreError;

/// An account as it is stored; moments in milliseconds.
#[derive(Serialize, Deserialize)]
struct Stored {
    schedule: String,
    used: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warned: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    adopted: Option<StoredAdopted>,
}

#[derive(Serialize, Deserialize)]
struct StoredAdopted {
    since: i64,
    moved: Option<i64>,
    retired: Option<i64>,
    used: Option<i64>,
    looked: i64,
    addresses: BTreeMap<String, i64>,
    told: Option<i64>,
}

fn millis(at: Option<Timestamp>) -> Option<i64> {
    at.map(Timestamp::millis)
}

fn moment(at: Option<i64>) -> Option<Timestamp> {
    at.map(Timestamp::from_millis)
}

pub(super) fn text(of: &Account) -> String {
    let Account { schedule, used, warned, adopted } = of.clone();
    let adopted = adopted.map(|Adopted { since, moved, retired, used, looked, addresses, told }| StoredAdopted {
        since: since.millis(),
        moved: millis(moved),
        retired: millis(retired),
        used: millis(used),
        looked: looked.millis(),
        addresses: addresses.into_iter().map(|(address, last)| (address, last.millis())).collect(),
        told: millis(told),
    });
    let stored = Stored { schedule: schedule.word().to_owned(), used: used.millis(), warned, adopted };
    serde_json::json!(stored).to_string()
}

pub(super) fn read(text: Option<&String>) -> Result<Option<Account>, StoreError> {
    let Some(text) = text else { return Ok(None) };
    let unreadable = |why: String| StoreError::Failed(format!("an account can't be read: {why}"));
    let stored: Stored = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let schedule = Schedule::from_word(&stored.schedule)
        .ok_or_else(|| unreadable(format!("there is no schedule {:?}", stored.schedule)))?;
    let adopted = stored.adopted.map(|of| Adopted {
        since: Timestamp::from_millis(of.since),
        moved: moment(of.moved),
        retired: moment(of.retired),
        used: moment(of.used),
        looked: Timestamp::from_millis(of.looked),
        addresses: of.addresses.into_iter().map(|(address, last)| (address, Timestamp::from_millis(last))).collect(),
        told: moment(of.told),
    });
    Ok(Some(Account { schedule, used: Timestamp::from_millis(stored.used), warned: stored.warned, adopted }))
}
