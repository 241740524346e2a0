//! Figures of the whole service, for metrics: sums over its tables, which open no secret.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::rotation::NEVER;
use crate::store::error::StoreError;
use crate::store::table::Row;

/// Sums over the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Live namespaces that programs claim.
    pub namespaces: u64,
    /// Live accounts of people.
    pub accounts: u64,
    /// Namespaces and accounts that nobody may claim.
    pub disabled: u64,
    /// Tombstones: what is left of namespaces that are gone, and what only the broker knows.
    pub gone: u64,
    /// Revocations that are not carried out yet.
    pub revoking: u64,
    /// Namespaces whose next switch is due.
    pub due: u64,
    /// When the first of the next switches is due.
    pub first_due: Option<Timestamp>,
    /// When the first of the passwords that claims return is no longer certain to work, unless it is replaced before.
    pub first_end: Option<Timestamp>,
    /// When the last switch was.
    pub last_switch: Option<Timestamp>,
    /// When the oldest of the passwords that claims return was put in force.
    pub oldest_password: Option<Timestamp>,
    /// Notices that wait to be delivered.
    pub notices: u64,
    /// When the oldest of them was made.
    pub oldest_notice: Option<Timestamp>,
    /// Notices that nobody got.
    pub undelivered: u64,
}

/// What reads them.
#[async_trait]
pub trait Sums: Send + Sync {
    /// The figures as of `now`.
    async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError>;
}

/// The query, whose parameter is the time in milliseconds. A switch is due two `grace` after the one before.
pub(super) fn query() -> String {
    let never = NEVER.millis();
    let live = "gone_since IS NULL";
    let rotated = format!("{live} AND disabled IS NULL AND active_slot IS NOT NULL AND due < {never}");
    let counted = |what: &str| format!("count(*) FILTER (WHERE {what})");
    let columns = [
        counted(&format!("{live} AND disabled IS NULL AND account IS NULL")),
        counted(&format!("{live} AND disabled IS NULL AND account IS NOT NULL")),
        counted(&format!("{live} AND disabled IS NOT NULL")),
        counted("gone_since IS NOT NULL"),
        counted("revoking"),
        counted(&format!("{rotated} AND due <= $1")),
        format!("min(due) FILTER (WHERE {rotated})"),
        format!("min(due + grace) FILTER (WHERE {rotated})"),
        format!("max(due - 2 * grace) FILTER (WHERE {rotated})"),
        format!("min(due - 2 * grace) FILTER (WHERE {rotated})"),
        "(SELECT count(*) FROM notice)".to_owned(),
        "(SELECT min(created) FROM notice)".to_owned(),
        "(SELECT count(*) FROM undelivered)".to_owned(),
    ];
    format!("SELECT {} FROM namespace", columns.join(", "))
}

/// Reads its one row.
pub(super) fn figures(row: &impl Row) -> Result<Figures, StoreError> {
    let count = |at| row.field::<i64>(at).map(i64::unsigned_abs);
    Ok(Figures {
        namespaces: count(0)?,
        accounts: count(1)?,
        disabled: count(2)?,
        gone: count(3)?,
        revoking: count(4)?,
        due: count(5)?,
        first_due: row.moment_or_none(6)?,
        first_end: row.moment_or_none(7)?,
        last_switch: row.moment_or_none(8)?,
        oldest_password: row.moment_or_none(9)?,
        notices: count(10)?,
        oldest_notice: row.moment_or_none(11)?,
        undelivered: count(12)?,
    })
}
