//! Rows: what both backends read and write, and what it means.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::alert::{Alert, Level};
use crate::domain::hold::{Heartbeat, Vitals};
use crate::domain::name::{Name, Slot};
use crate::domain::namespace::{Gone, Namespace, Version};
use crate::domain::notice::Notice;
use crate::domain::rotation::{Credentials, Pending, Rotation};
use crate::secret::Password;
use crate::store::seal::{KeyRing, Place};
use crate::store::{Digest, Sighting, StoreError, Summary};

/// The columns of a namespace, in the order in which [`namespace`] reads them.
macro_rules! namespace_columns {
    () => {
        "name, contact, created, expires, active_slot, active_password, previous_slot, previous_password, pending_slot, \
         pending_password, pending_since, due, grace, gone_since, cleaning_until, warned, version"
    };
}

/// The columns of an alert, in the order in which [`alert`] reads them.
macro_rules! alert_columns {
    () => {
        "queue, namespace, level, since, messages, seen, growth, told, version"
    };
}

/// The columns of a notice, in the order in which [`notice`] reads them.
macro_rules! notice_columns {
    () => {
        "id, namespace, recipient, subject, body, created, attempts, due"
    };
}

/// The columns of a summary, in the order in which [`summary`] reads them.
macro_rules! summary_columns {
    () => {
        "name, contact, created, expires"
    };
}

pub(super) use {alert_columns, namespace_columns, notice_columns, summary_columns};

/// What either backend can read from a column.
pub(super) trait Field: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a> {}

impl<T: rusqlite::types::FromSql + for<'a> tokio_postgres::types::FromSql<'a>> Field for T {}

/// A row of either backend.
pub(super) trait Row {
    /// The value of column `at`, counted from zero.
    fn field<T: Field>(&self, at: usize) -> Result<T, StoreError>;

    /// The text in column `at` that somebody outside has written.
    fn text(&self, at: usize) -> Result<String, StoreError>;

    /// The moment in column `at`.
    fn moment(&self, at: usize) -> Result<Timestamp, StoreError> {
        Ok(Timestamp::from_millis(self.field(at)?))
    }

    /// The moment in column `at`, if there is one.
    fn moment_or_none(&self, at: usize) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.field::<Option<i64>>(at)?.map(Timestamp::from_millis))
    }
}

/// A namespace as it is stored: its passwords are sealed.
#[derive(Clone)]
pub(super) struct NamespaceRow {
    pub(super) name: String,
    pub(super) contact: String,
    pub(super) created: i64,
    pub(super) expires: i64,
    pub(super) active: Sealed,
    pub(super) previous: Sealed,
    pub(super) pending: Sealed,
    pub(super) pending_since: Option<i64>,
    pub(super) due: i64,
    pub(super) grace: i64,
    pub(super) gone_since: Option<i64>,
    pub(super) cleaning_until: Option<i64>,
    pub(super) warned: Option<i64>,
    pub(super) version: Version,
}

/// A user's slot and its sealed password; both are there or neither.
#[derive(Clone, Default)]
pub(super) struct Sealed {
    pub(super) slot: Option<i16>,
    pub(super) password: Option<String>,
}

/// Reads [`namespace_columns`].
pub(super) fn namespace(row: &impl Row) -> Result<NamespaceRow, StoreError> {
    let sealed =
        |at| -> Result<Sealed, StoreError> { Ok(Sealed { slot: row.field(at)?, password: row.field(at + 1)? }) };
    Ok(NamespaceRow {
        name: row.field(0)?,
        contact: row.text(1)?,
        created: row.field(2)?,
        expires: row.field(3)?,
        active: sealed(4)?,
        previous: sealed(6)?,
        pending: sealed(8)?,
        pending_since: row.field(10)?,
        due: row.field(11)?,
        grace: row.field(12)?,
        gone_since: row.field(13)?,
        cleaning_until: row.field(14)?,
        warned: row.field(15)?,
        version: Version(row.field(16)?),
    })
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

fn place<'a>(name: &'a str, column: &'a str) -> Place<'a> {
    Place { table: "namespace", row: name, column }
}

impl NamespaceRow {
    /// The row of `namespace`, its passwords sealed.
    pub(super) fn seal(namespace: &Namespace, keys: &KeyRing) -> Result<NamespaceRow, StoreError> {
        let Namespace { name, contact, created, expires, rotation, gone, warned, version } = namespace;
        let seal = |credentials: Option<&Credentials>, column| -> Result<Sealed, StoreError> {
            let Some(Credentials { slot, password }) = credentials else { return Ok(Sealed::default()) };
            let password = keys.seal(place(name.as_str(), column), password.expose())?;
            Ok(Sealed { slot: Some(slot.number().into()), password: Some(password) })
        };
        let pending = rotation.pending.as_ref();
        Ok(NamespaceRow {
            active: seal(rotation.active.as_ref(), "active_password")?,
            previous: seal(rotation.previous.as_ref(), "previous_password")?,
            pending: seal(pending.map(|pending| &pending.credentials), "pending_password")?,
            pending_since: pending.map(|pending| pending.since.millis()),
            name: name.as_str().to_owned(),
            contact: contact.clone(),
            created: created.millis(),
            expires: expires.millis(),
            due: rotation.due.millis(),
            grace: millis(rotation.grace),
            gone_since: gone.map(|gone| gone.since.millis()),
            cleaning_until: gone.and_then(|gone| gone.cleaning_until).map(Timestamp::millis),
            warned: warned.map(Timestamp::millis),
            version: *version,
        })
    }

    /// Whether any of its passwords is sealed under another key than the newest one.
    pub(super) fn is_sealed_before(&self, keys: &KeyRing) -> bool {
        let sealed = [&self.active, &self.previous, &self.pending];
        sealed.into_iter().filter_map(|sealed| sealed.password.as_deref()).any(|sealed| !keys.sealed_newest(sealed))
    }

    /// The namespace, its passwords opened.
    pub(super) fn open(self, keys: &KeyRing) -> Result<Namespace, StoreError> {
        self.read(|place, sealed| keys.open(place, sealed))
    }

    fn read(self, unseal: impl Fn(Place<'_>, &str) -> Result<String, StoreError>) -> Result<Namespace, StoreError> {
        let open = |sealed: Sealed, column| -> Result<Option<Credentials>, StoreError> {
            let (Some(slot), Some(password)) = (sealed.slot, sealed.password) else { return Ok(None) };
            let slot = Slot::from_number(slot.into())
                .ok_or_else(|| StoreError::Failed(format!("namespace {} has no slot {slot}", self.name)))?;
            let password = Password::from_stored(unseal(place(&self.name, column), &password)?);
            Ok(Some(Credentials { slot, password }))
        };
        let pending = open(self.pending, "pending_password")?;
        Ok(Namespace {
            rotation: Rotation {
                active: open(self.active, "active_password")?,
                previous: open(self.previous, "previous_password")?,
                pending: pending
                    .zip(self.pending_since)
                    .map(|(credentials, since)| Pending { credentials, since: Timestamp::from_millis(since) }),
                due: Timestamp::from_millis(self.due),
                grace: Duration::from_millis(self.grace.unsigned_abs()),
            },
            name: Name::from_stored(self.name),
            contact: self.contact,
            created: Timestamp::from_millis(self.created),
            expires: Timestamp::from_millis(self.expires),
            gone: self.gone_since.map(|since| Gone {
                since: Timestamp::from_millis(since),
                cleaning_until: self.cleaning_until.map(Timestamp::from_millis),
            }),
            warned: self.warned.map(Timestamp::from_millis),
            version: self.version,
        })
    }
}

/// Opens `rows`. One that can't be opened is logged and left out.
pub(super) fn readable(rows: Vec<NamespaceRow>, keys: &KeyRing) -> impl Iterator<Item = Namespace> {
    rows.into_iter().filter_map(|row| {
        let name = row.name.clone();
        row.open(keys)
            .inspect_err(|error| tracing::error!(namespace = name, %error, "a namespace can't be read and is left out"))
            .ok()
    })
}

/// Reads [`namespace_columns`] of an outer join by name, which are empty but for the name where there is no such record.
pub(super) fn changed(row: &impl Row) -> Result<(Name, Option<NamespaceRow>), StoreError> {
    let found = row.field::<Option<i64>>(16)?.map(|_| namespace(row)).transpose()?;
    Ok((Name::from_stored(row.field(0)?), found))
}

/// Opens rows of [`changed`]. One that can't be opened is logged and left out.
pub(super) fn readable_changes(
    rows: Vec<(Name, Option<NamespaceRow>)>,
    keys: &KeyRing,
) -> Vec<(Name, Option<Namespace>)> {
    let open = |(name, row)| match row {
        Some(row) => readable(vec![row], keys).next().map(|found| (name, Some(found))),
        None => Some((name, None)),
    };
    rows.into_iter().filter_map(open).collect()
}

/// Reads the store's time, and the two moments of the heartbeat, if there are any.
pub(super) fn vitals(row: &impl Row) -> Result<Vitals, StoreError> {
    let (last, since) = (row.moment_or_none(1)?, row.moment_or_none(2)?);
    let heartbeat = last.zip(since).map(|(last, since)| Heartbeat { last, since });
    Ok(Vitals { now: row.moment(0)?, heartbeat })
}

/// Those of `rows` that can't be opened, with an empty password in place of each sealed one.
pub(super) fn sealed(rows: Vec<NamespaceRow>, keys: &KeyRing) -> Result<Vec<Namespace>, StoreError> {
    let sealed = rows.into_iter().filter(|row| matches!(row.clone().open(keys), Err(StoreError::Sealed(_))));
    sealed.map(|row| row.read(|_, _| Ok(String::new()))).collect()
}

/// The namespaces that are due, read in pages: rows that can't be opened stay due for ever, and would otherwise take the
/// places of all others once there are as many of them as the limit.
pub(super) struct DuePages {
    /// The last row so far, in the order of `due` and name.
    pub(super) after: (i64, String),
    limit: usize,
    found: Vec<Namespace>,
}

impl DuePages {
    pub(super) fn new(limit: u32) -> DuePages {
        DuePages { after: (i64::MIN, String::new()), limit: limit as usize, found: Vec::new() }
    }

    /// Adds a page of at most `limit` rows. The namespaces once they are complete, `None` where one more page is needed.
    pub(super) fn add(&mut self, rows: Vec<NamespaceRow>, keys: &KeyRing) -> Option<Vec<Namespace>> {
        let complete = rows.len() < self.limit;
        if let Some(last) = rows.last() {
            self.after = (last.due, last.name.clone());
        }
        let missing = self.limit - self.found.len();
        self.found.extend(readable(rows, keys).take(missing));
        (complete || self.found.len() == self.limit).then(|| std::mem::take(&mut self.found))
    }
}

/// An alert as it is stored.
pub(super) struct AlertRow {
    pub(super) queue: String,
    pub(super) namespace: String,
    pub(super) level: &'static str,
    pub(super) since: i64,
    pub(super) messages: i64,
    pub(super) seen: i64,
    pub(super) growth: Option<i64>,
    pub(super) told: Option<i64>,
    pub(super) version: Version,
}

impl From<&Alert> for AlertRow {
    fn from(alert: &Alert) -> AlertRow {
        AlertRow {
            queue: alert.queue.clone(),
            namespace: alert.namespace.as_str().to_owned(),
            level: match alert.level {
                Level::Watched => "watched",
                Level::Warning => "warning",
                Level::Deleting => "deleting",
            },
            since: alert.since.millis(),
            messages: i64::try_from(alert.messages).unwrap_or(i64::MAX),
            seen: alert.seen.millis(),
            growth: alert.growth,
            told: alert.told.map(Timestamp::millis),
            version: alert.version,
        }
    }
}

/// Reads [`alert_columns`].
pub(super) fn alert(row: &impl Row) -> Result<Alert, StoreError> {
    let level: String = row.field(2)?;
    Ok(Alert {
        queue: row.text(0)?,
        namespace: Name::from_stored(row.field(1)?),
        level: match level.as_str() {
            "watched" => Level::Watched,
            "warning" => Level::Warning,
            "deleting" => Level::Deleting,
            _ => return Err(StoreError::Failed(format!("no alert has the level {level:?}"))),
        },
        since: row.moment(3)?,
        messages: row.field::<i64>(4)?.unsigned_abs(),
        seen: row.moment(5)?,
        growth: row.field(6)?,
        told: row.moment_or_none(7)?,
        version: Version(row.field(8)?),
    })
}

/// Reads [`notice_columns`].
pub(super) fn notice(row: &impl Row) -> Result<Notice, StoreError> {
    Ok(Notice {
        id: row.field(0)?,
        namespace: Name::from_stored(row.field(1)?),
        to: row.text(2)?,
        subject: row.text(3)?,
        text: row.text(4)?,
        created: row.moment(5)?,
        attempts: u32::try_from(row.field::<i64>(6)?).unwrap_or(u32::MAX),
        due: row.moment(7)?,
    })
}

/// Reads a body's hash and a moment.
pub(super) fn sighting(row: &impl Row) -> Result<Sighting, StoreError> {
    let no_hash = |bytes: Vec<u8>| StoreError::Failed(format!("no hash has {} bytes", bytes.len()));
    let body: Digest = row.field::<Vec<u8>>(0)?.try_into().map_err(no_hash)?;
    Ok(Sighting { body, seen: row.moment(1)? })
}

/// Reads [`summary_columns`].
pub(super) fn summary(row: &impl Row) -> Result<Summary, StoreError> {
    Ok(Summary {
        name: Name::from_stored(row.field(0)?),
        contact: row.text(1)?,
        created: row.moment(2)?,
        expires: row.moment(3)?,
    })
}
