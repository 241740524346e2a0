//! What the store keeps of queues: what is remembered of those in trouble, and what was seen of those that are not empty.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::guard::HistoryChange;
use crate::domain::history::{History, Incarnation};
use crate::domain::ladder::{Mail, Stage, Told, Watch};
use crate::domain::name::Name;
use crate::domain::namespace::Version;
use crate::domain::notice::About;
use crate::domain::verdict::Kind;
use crate::domain::watched::Watched;
use crate::store::error::StoreError;
use crate::store::table::{Foreign, Row, Table as _, table};

/// What the store keeps of some queues.
pub type SeenOf = (Vec<Watched>, BTreeMap<String, History>);

/// The records of queues. Those of [`Watched`] are written by [`Records::write`](crate::store::Records::write).
#[async_trait]
pub trait Watches: Send + Sync {
    /// All that is remembered of queues in trouble, in the order of their names.
    async fn watches(&self) -> Result<Vec<Watched>, StoreError>;

    /// All that was seen of queues. What can't be read is left out: the queue is seen for the first time then.
    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError>;

    /// What is remembered of these queues, and what was seen of them, as in [`Watches::watches`] and [`Watches::histories`].
    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError>;

    /// Writes and removes histories, with one statement for many. Of two processes at once the last one counts: both saw
    /// the same queues.
    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError>;
}

table! {
    /// A watch as it is stored.
    WatchRow in "watch" {
        queue: Foreign,
        namespace: String,
        messages: i64,
        first_seen: i64,
        fingerprint: i64,
        stage: String,
        since: i64,
        told: Option<i64>,
        told_cause: Option<String>,
        told_messages: Option<i64>,
        mail: Option<String>,
        accepted: Option<i64>,
        last_told: Option<i64>,
        warned: Option<i64>,
        quiet: Option<i64>,
        relapses: i64,
        changes: i64,
        closings: i64,
        closed: Option<i64>,
        kept_out: bool,
        decided: bool,
        failure_told: Option<i64>,
        version: i64,
    }
}

const STAGES: [(Stage, &str); 3] =
    [(Stage::Watched, "watched"), (Stage::Warned, "warned"), (Stage::Removing, "removing")];

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl From<&Watched> for WatchRow {
    /// The row that takes the place of the one at which it was read.
    fn from(watched: &Watched) -> WatchRow {
        let Watched { queue, namespace, messages, watch, decided, failure_told, version } = watched;
        let millis = |at: Option<Timestamp>| at.map(Timestamp::millis);
        let stage = STAGES.iter().find(|(stage, _)| *stage == watch.stage).map_or("watched", |(_, word)| *word);
        let (mail, accepted) = match watch.told.map(|told| told.mail) {
            None => (None, None),
            Some(Mail::Nobody) => (Some("nobody"), None),
            Some(Mail::Waiting) => (Some("waiting"), None),
            Some(Mail::Accepted(at)) => (Some("accepted"), Some(at.millis())),
        };
        WatchRow {
            queue: Foreign(queue.clone()),
            namespace: namespace.as_str().to_owned(),
            messages: whole(*messages),
            first_seen: watch.incarnation.first_seen.millis(),
            fingerprint: watch.incarnation.fingerprint.cast_signed(),
            stage: stage.to_owned(),
            since: watch.since.millis(),
            told: watch.told.map(|told| told.at.millis()),
            told_cause: watch.told.map(|told| told.cause.word().to_owned()),
            told_messages: watch.told.map(|told| whole(told.messages)),
            mail: mail.map(str::to_owned),
            accepted,
            last_told: millis(watch.last_told),
            warned: millis(watch.warned),
            quiet: millis(watch.quiet),
            relapses: watch.relapses.into(),
            changes: watch.changes.into(),
            closings: watch.closings.into(),
            closed: millis(watch.closed),
            kept_out: watch.kept_out,
            decided: *decided,
            failure_told: millis(*failure_told),
            version: version.next().0,
        }
    }
}

/// Reads the columns of a [`WatchRow`].
pub(super) fn watched(row: &impl Row) -> Result<Watched, StoreError> {
    let row = WatchRow::read(row, 0)?;
    let odd = |what: &str, word: &str| StoreError::Failed(format!("no watch has the {what} {word:?}"));
    let (stage, _) = STAGES.iter().find(|(_, word)| *word == row.stage).ok_or_else(|| odd("stage", &row.stage))?;
    let moment = |millis: Option<i64>| millis.map(Timestamp::from_millis);
    let count = |count: i64| u32::try_from(count).unwrap_or(u32::MAX);
    let told = match (moment(row.told), row.told_cause, row.mail) {
        (Some(at), Some(cause), Some(mail)) => Some(Told {
            at,
            cause: Kind::from_word(&cause).ok_or_else(|| odd("cause", &cause))?,
            messages: row.told_messages.unwrap_or_default().unsigned_abs(),
            mail: match (mail.as_str(), moment(row.accepted)) {
                ("nobody", _) => Mail::Nobody,
                ("waiting", _) => Mail::Waiting,
                ("accepted", Some(at)) => Mail::Accepted(at),
                _ => return Err(odd("mail", &mail)),
            },
        }),
        _ => None,
    };
    Ok(Watched {
        queue: row.queue.0,
        namespace: Name::from_stored(row.namespace),
        messages: row.messages.unsigned_abs(),
        watch: Watch {
            incarnation: Incarnation {
                first_seen: Timestamp::from_millis(row.first_seen),
                fingerprint: row.fingerprint.cast_unsigned(),
            },
            stage: *stage,
            since: Timestamp::from_millis(row.since),
            told,
            last_told: moment(row.last_told),
            warned: moment(row.warned),
            quiet: moment(row.quiet),
            relapses: count(row.relapses),
            changes: count(row.changes),
            closings: count(row.closings),
            closed: moment(row.closed),
            kept_out: row.kept_out,
        },
        decided: row.decided,
        failure_told: moment(row.failure_told),
        version: Version(row.version),
    })
}

/// Reads a queue's name and its history, if that can be read.
pub(super) fn history(row: &impl Row) -> Result<(String, Option<History>), StoreError> {
    let looks: Vec<u8> = row.field(1)?;
    Ok((row.text(0)?, History::from_bytes(&looks)))
}

/// Those that can be read. The others are counted in one line of the log.
pub(super) fn readable(found: Vec<(String, Option<History>)>) -> BTreeMap<String, History> {
    let all = found.len();
    let readable: BTreeMap<_, _> =
        found.into_iter().filter_map(|(queue, history)| history.map(|history| (queue, history))).collect();
    if readable.len() < all {
        tracing::warn!("{} histories of queues can't be read, and begin anew", all - readable.len());
    }
    readable
}

/// What a notice is about, as it is stored: a list of the queue's name and two moments, as JSON.
pub(super) fn about_text(about: Option<&About>) -> Option<String> {
    about.map(|About { queue, first_seen, told }| {
        serde_json::json!([queue, first_seen.millis(), told.map(Timestamp::millis)]).to_string()
    })
}

/// Reads the same. What can't be read names no queue: the message is sent all the same, and counts as no warning.
pub(super) fn about(text: Option<&str>) -> Option<About> {
    let (queue, first_seen, told): (String, i64, Option<i64>) = serde_json::from_str(text?).ok()?;
    let (first_seen, told) = (Timestamp::from_millis(first_seen), told.map(Timestamp::from_millis));
    Some(About { queue, first_seen, told })
}
