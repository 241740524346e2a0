//! Notices: what has to be told, until it is delivered or given up. They are stored by
//! [`Records`](crate::store::Records), with the change that they tell of.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::name::Name;
use crate::domain::notice::{Brief, Matter, Notice, Undelivered};
use crate::domain::verdict::Kind;
use crate::store::error::StoreError;
use crate::store::table::{Foreign, Row, Table, table};
use crate::store::watches::{self, about_text};

/// A notice that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Its id.
    pub id: String,
    /// Of which queue it is a warning, and when that was stored.
    pub warning: Option<(String, Timestamp)>,
}

impl From<&Notice> for Accepted {
    fn from(notice: &Notice) -> Accepted {
        let warning = notice.about.as_ref().and_then(|about| Some((about.queue.clone(), about.told?)));
        Accepted { id: notice.id.clone(), warning }
    }
}

/// Which of the notices that nobody got are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Those that were given up after this.
    pub since: Timestamp,
    /// Of each namespace, at most so many.
    pub most: u32,
}

/// The notices of the service.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Takes at most `limit` notices that are due at `now`, or only more than a day later, by a clock that was ahead, the longest
    /// due first, and makes them due again at `retry`, so that nobody else takes
    /// them meanwhile and none is lost if this process dies. Each one's `attempts` counts this time.
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError>;

    /// Takes more of the same kind: those to this address that have a [`Brief`].
    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError>;

    /// Makes notices due at `retry`, after a failed delivery.
    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError>;

    /// Forgets notices to `address`, which it took `at`, and that it refused any before. Where one of them is the last that was told of a queue, and waited,
    /// that is noted as [`Watch::accept`](crate::domain::ladder::Watch::accept) does, in the same transaction. A notice that is not there (any more) changes nothing.
    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError>;

    /// Puts a notice among those that nobody got, with why. Of these it forgets what was given up at `keep.since` or
    /// earlier, and of the notice's namespace all but the last `keep.most`. A notice that is not there (any more) changes
    /// nothing.
    async fn give_up_notice(&self, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError>;

    /// At most `limit` of the notices that nobody got, the last one that was given up first.
    async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError>;
}

table! {
    /// A notice as it is stored.
    NoticeRow in "notice" {
        id: String,
        namespace: String,
        recipient: Foreign,
        subject: Foreign,
        body: Foreign,
        created: i64,
        attempts: i64,
        due: i64,
        about: Option<String>,
        brief: Option<String>,
    }
}

/// The columns of a notice that was given up, in the order in which [`undelivered`] reads them.
pub(super) fn undelivered_columns() -> String {
    format!("{}, given_up, why", NoticeRow::columns())
}

impl From<&Notice> for NoticeRow {
    fn from(notice: &Notice) -> NoticeRow {
        let Notice { id, namespace, to, subject, text, created, attempts, due, about, brief, .. } = notice;
        NoticeRow {
            id: id.clone(),
            namespace: namespace.as_str().to_owned(),
            recipient: Foreign(to.clone()),
            subject: Foreign(subject.clone()),
            body: Foreign(text.clone()),
            created: created.millis(),
            attempts: i64::from(*attempts),
            due: due.millis(),
            about: about_text(about.as_ref()),
            brief: brief.as_ref().map(brief_text),
        }
    }
}

/// Reads the columns of a [`NoticeRow`].
pub(super) fn notice(row: &impl Row) -> Result<Notice, StoreError> {
    let NoticeRow { id, namespace, recipient, subject, body, created, attempts, due, about, brief } =
        NoticeRow::read(row, 0)?;
    Ok(Notice {
        id,
        namespace: Name::from_stored(namespace),
        to: recipient.0,
        subject: subject.0,
        text: body.0,
        created: Timestamp::from_millis(created),
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        due: Timestamp::from_millis(due),
        about: watches::about(about.as_deref()),
        brief: brief.as_deref().and_then(read_brief),
        instead_of: Vec::new(),
    })
}

/// Reads [`undelivered_columns`].
pub(super) fn undelivered(row: &impl Row) -> Result<Undelivered, StoreError> {
    let after = NoticeRow::COLUMNS.len();
    Ok(Undelivered { notice: notice(row)?, given_up: row.moment(after)?, why: row.text(after + 1)? })
}

/// Notices that were taken, in the order in which what they tell of happened.
pub(super) fn in_order(mut taken: Vec<Notice>) -> Vec<Notice> {
    taken.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    taken
}

/// A brief as it is stored: a list as JSON.
fn brief_text(Brief { matter, messages, removal, lines }: &Brief) -> String {
    let (matter, cause) = match matter {
        Matter::Removed => ("removed", None),
        Matter::Trouble(cause) => ("trouble", Some(cause.word())),
        Matter::Normal => ("normal", None),
    };
    serde_json::json!([matter, cause, messages, removal.map(Timestamp::millis), lines]).to_string()
}

/// Reads the same. What can't be read is told alone.
fn read_brief(text: &str) -> Option<Brief> {
    let (matter, cause, messages, removal, lines): (String, Option<String>, u64, Option<i64>, Vec<String>) =
        serde_json::from_str(text).ok()?;
    let matter = match (matter.as_str(), cause) {
        ("removed", None) => Matter::Removed,
        ("trouble", Some(cause)) => Matter::Trouble(Kind::from_word(&cause)?),
        ("normal", None) => Matter::Normal,
        _ => return None,
    };
    Some(Brief { matter, messages, removal: removal.map(Timestamp::from_millis), lines })
}
