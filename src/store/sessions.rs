//! Sessions of people, by the hash of the id that their browsers have.

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::clock::Timestamp;
use crate::domain::audit::Audit;
use crate::domain::session::{BarredPerson, Person, Session};
use crate::store::error::StoreError;
use crate::store::sightings::Digest;
use crate::store::table::{Foreign, Row, Table as _, table};

/// The sessions of people.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Stores a session, with what the trail has of it. On the way it forgets a few of those that have ended by `now`.
    async fn begin_session(&self, id: &Digest, session: &Session, audit: &Audit) -> Result<(), StoreError>;

    /// The session of this id, be it over; none of somebody who is kept from signing in.
    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError>;

    /// All sessions of a person that were not forgotten, the latest first.
    async fn sessions_of(&self, subject: &str) -> Result<Vec<Session>, StoreError>;

    /// At most `limit` sessions of anybody, the one that was used last first.
    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, StoreError>;

    /// Notes that a session was used.
    async fn see_session(&self, id: &Digest, at: Timestamp) -> Result<(), StoreError>;

    /// Ends a session, with what the trail has of that. Whether there was one.
    async fn end_session(&self, id: &Digest, audit: &Audit) -> Result<bool, StoreError>;

    /// Ends all sessions of a person, likewise. How many there were.
    async fn end_sessions_of(&self, subject: &str, audit: &Audit) -> Result<usize, StoreError>;

    /// Keeps a person from signing in, and ends all sessions of theirs, with what the trail has of that. `false` where that is so
    /// already: then nothing is changed.
    async fn bar_person(&self, person: &BarredPerson, audit: &Audit) -> Result<bool, StoreError>;

    /// Lets a person sign in again, likewise. `false` where nobody keeps them from it.
    async fn let_person_in(&self, subject: &str, audit: &Audit) -> Result<bool, StoreError>;

    /// Who is kept from signing in, the last one first.
    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError>;
}

table! {
    /// A person who may not sign in, as it is stored.
    BarredRow in "barred_person" {
        subject: Foreign,
        name: Foreign,
        since: i64,
        barred_by: Foreign,
        reason: Foreign,
    }
}

table! {
    /// A session as it is stored.
    SessionRow in "session" {
        id: String,
        subject: Foreign,
        address: Option<String>,
        member_of: Foreign,
        scopes: Foreign,
        created: i64,
        seen: i64,
        expires: i64,
    }
}

/// The key of a session's row.
pub(super) fn key(id: &Digest) -> String {
    URL_SAFE_NO_PAD.encode(id)
}

pub(super) fn row(id: &Digest, session: &Session) -> SessionRow {
    let Session { person: Person { subject, address, groups, scopes }, created, seen, expires } = session;
    let list = |texts: &[String]| Foreign(serde_json::json!(texts).to_string());
    SessionRow {
        id: key(id),
        subject: Foreign(subject.clone()),
        address: address.clone(),
        member_of: list(groups),
        scopes: list(scopes),
        created: created.millis(),
        seen: seen.millis(),
        expires: expires.millis(),
    }
}

/// Reads the columns of a [`SessionRow`].
pub(super) fn session(row: &impl Row) -> Result<Session, StoreError> {
    let SessionRow { subject, address, member_of, scopes, created, seen, expires, .. } = SessionRow::read(row, 0)?;
    let list = |text: &Foreign| {
        let odd = |error| StoreError::Failed(format!("a session can't be read: {error}"));
        serde_json::from_str(&text.0).map_err(odd)
    };
    let person = Person { subject: subject.0, address, groups: list(&member_of)?, scopes: list(&scopes)? };
    let [created, seen, expires] = [created, seen, expires].map(Timestamp::from_millis);
    Ok(Session { person, created, seen, expires })
}

/// The query for one session.
pub(super) fn one() -> String {
    let barred = "SELECT 1 FROM barred_person WHERE barred_person.subject = session.subject";
    SessionRow::select(&format!("WHERE id = $1 AND NOT EXISTS ({barred})"))
}

/// The query for those of anybody.
pub(super) fn anybodys() -> String {
    SessionRow::select("ORDER BY seen DESC, id LIMIT $1")
}

/// The query for those who may not sign in.
pub(super) fn barred() -> String {
    BarredRow::select("ORDER BY since DESC, subject LIMIT 1000")
}

pub(super) fn barred_row(of: &BarredPerson) -> BarredRow {
    let BarredPerson { subject, name, since, by, reason } = of.clone();
    BarredRow {
        subject: Foreign(subject),
        name: Foreign(name),
        since: since.millis(),
        barred_by: Foreign(by),
        reason: Foreign(reason),
    }
}

/// Reads the columns of a [`BarredRow`].
pub(super) fn barred_person(row: &impl Row) -> Result<BarredPerson, StoreError> {
    let BarredRow { subject, name, since, barred_by, reason } = BarredRow::read(row, 0)?;
    let since = Timestamp::from_millis(since);
    Ok(BarredPerson { subject: subject.0, name: name.0, since, by: barred_by.0, reason: reason.0 })
}

/// The query for those of a person.
pub(super) fn all() -> String {
    SessionRow::select("WHERE subject = $1 ORDER BY created DESC, id LIMIT 100")
}
