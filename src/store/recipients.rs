//! Those who are to be told: addresses that refuse our mail for good, and whose reminders are muted.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::recipients::{Mute, Recipients};
use crate::store::error::StoreError;
use crate::store::table::Row;

/// What is known of those who are to be told.
#[async_trait]
pub trait RecipientRecords: Send + Sync {
    /// All of it, in one statement.
    async fn recipients(&self) -> Result<Recipients, StoreError>;

    /// Remembers that `address` refused a mail for good, `at`, and forgets the refusals of others from `forget` or earlier.
    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError>;

    /// Mutes the reminders of a queue, or of all queues of a namespace, in place of what was said of it before; `None` takes
    /// that back. Whether something was said before.
    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError>;
}

/// All rows that [`known`] reads.
pub(super) const ALL: &str = "SELECT CAST(1 AS BIGINT), target, since, until FROM mute \
     UNION ALL SELECT CAST(0 AS BIGINT), address, at, NULL FROM refusal";

/// Whether it is a mute; of what, or else which address refuses; since when, and until when.
type Known = (bool, String, Timestamp, Option<Timestamp>);

/// Reads a row.
pub(super) fn known(row: &impl Row) -> Result<Known, StoreError> {
    Ok((row.field::<i64>(0)? != 0, row.text(1)?, row.moment(2)?, row.moment_or_none(3)?))
}

/// What the rows say together.
pub(super) fn recipients(rows: Vec<Known>) -> Recipients {
    let mut recipients = Recipients::default();
    for (is_mute, name, since, until) in rows {
        if is_mute {
            recipients.mutes.insert(name, Mute { since, until });
        } else {
            recipients.refusals.insert(name, since);
        }
    }
    recipients
}
