//! Sessions in PostgreSQL: one statement for each call, with what the trail has of it.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::Postgres;
use super::param::Param;
use super::pool::Repeat;
use super::text::escaped;
use crate::clock::Timestamp;
use crate::domain::audit::Audit;
use crate::domain::session::{BarredPerson, Session};
use crate::store::audits::AuditRow;
use crate::store::error::StoreError;
use crate::store::sessions::{self, BarredRow, SessionRow, Sessions};
use crate::store::sightings::Digest;
use crate::store::table::{Array, Table};

/// The columns of rows as a statement is given them, the first of which is the one numbered `first`.
fn given<R: Table>(first: usize) -> String {
    let one = |(at, (_, kind)): (usize, &(&str, &str))| format!("${}::{kind}[]", first + at);
    let all: Vec<_> = R::COLUMNS.iter().enumerate().map(one).collect();
    format!("unnest({})", all.join(", "))
}

/// Adds a session and a record of the trail, and forgets none that another call is just forgetting.
static BEGIN: LazyLock<String> = LazyLock::new(|| {
    let audit = AuditRow::COLUMNS.len();
    format!(
        "WITH forgotten AS (DELETE FROM session WHERE id = ANY(ARRAY(SELECT id FROM session WHERE expires <= ${} \
         ORDER BY expires LIMIT 16 FOR UPDATE SKIP LOCKED))), noted AS (INSERT INTO audit ({}) SELECT * FROM {} \
         ON CONFLICT (id) DO NOTHING) INSERT INTO session ({}) SELECT * FROM {} ON CONFLICT (id) DO NOTHING",
        audit + SessionRow::COLUMNS.len() + 1,
        AuditRow::columns(),
        given::<AuditRow>(1),
        SessionRow::columns(),
        given::<SessionRow>(audit + 1),
    )
});

/// Removes the sessions in which `column` is what is given last, and adds the record where there are such.
fn end(column: &str) -> String {
    format!(
        "WITH ended AS (DELETE FROM session WHERE {column} = ${} RETURNING id), noted AS (INSERT INTO audit ({}) \
         SELECT * FROM {} WHERE EXISTS (SELECT FROM ended) ON CONFLICT (id) DO NOTHING) SELECT id FROM ended",
        AuditRow::COLUMNS.len() + 1,
        AuditRow::columns(),
        given::<AuditRow>(1),
    )
}

static END: LazyLock<String> = LazyLock::new(|| end("id"));
static END_ALL: LazyLock<String> = LazyLock::new(|| end("subject"));

/// Adds a person who may not sign in, ends their sessions, and adds the record, unless they may not already.
static BAR: LazyLock<String> = LazyLock::new(|| {
    let audit = AuditRow::COLUMNS.len();
    format!(
        "WITH barred AS (INSERT INTO barred_person ({}) SELECT * FROM {} ON CONFLICT (subject) DO NOTHING RETURNING subject), \
         ended AS (DELETE FROM session WHERE subject IN (SELECT subject FROM barred)), noted AS (INSERT INTO audit ({}) \
         SELECT * FROM {} WHERE EXISTS (SELECT FROM barred) ON CONFLICT (id) DO NOTHING) SELECT subject FROM barred",
        BarredRow::columns(),
        given::<BarredRow>(audit + 1),
        AuditRow::columns(),
        given::<AuditRow>(1),
    )
});

static LET_IN: LazyLock<String> = LazyLock::new(|| {
    format!(
        "WITH ended AS (DELETE FROM barred_person WHERE subject = ${} RETURNING subject), noted AS (INSERT INTO audit ({}) \
         SELECT * FROM {} WHERE EXISTS (SELECT FROM ended) ON CONFLICT (id) DO NOTHING) SELECT subject FROM ended",
        AuditRow::COLUMNS.len() + 1,
        AuditRow::columns(),
        given::<AuditRow>(1),
    )
});
static ANYBODYS: LazyLock<String> = LazyLock::new(sessions::anybodys);
static BARRED: LazyLock<String> = LazyLock::new(sessions::barred);
static ONE: LazyLock<String> = LazyLock::new(sessions::one);
static ALL: LazyLock<String> = LazyLock::new(sessions::all);

fn params<'a>(arrays: &'a [Array<'_>]) -> Vec<&'a dyn Param> {
    arrays.iter().map(|array| &**array as &dyn Param).collect()
}

impl Postgres {
    async fn end(&self, sql: &str, value: &str, audit: &Audit) -> Result<usize, StoreError> {
        let audit = AuditRow::from(audit);
        let (arrays, value) = (AuditRow::arrays(&[&audit]), escaped(value));
        let mut params = params(&arrays);
        params.push(&value);
        Ok(self.database.query(Repeat::Never, sql, &params).await?.len())
    }
}

#[async_trait]
impl Sessions for Postgres {
    async fn begin_session(&self, id: &Digest, session: &Session, audit: &Audit) -> Result<(), StoreError> {
        let (audit, row, now) = (AuditRow::from(audit), sessions::row(id, session), session.created.millis());
        let mut arrays = AuditRow::arrays(&[&audit]);
        arrays.extend(SessionRow::arrays(&[&row]));
        let mut params = params(&arrays);
        params.push(&now);
        // Neither the id nor that of the record is another's, so that it may be repeated.
        self.database.query(Repeat::Safe, &BEGIN, &params).await?;
        Ok(())
    }

    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        let found = self.database.query(Repeat::Safe, &ONE, &[&sessions::key(id)]).await?;
        found.first().map(sessions::session).transpose()
    }

    async fn sessions_of(&self, subject: &str) -> Result<Vec<Session>, StoreError> {
        let found = self.database.query(Repeat::Safe, &ALL, &[&escaped(subject)]).await?;
        found.iter().map(sessions::session).collect()
    }

    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, StoreError> {
        let found = self.database.query(Repeat::Safe, &ANYBODYS, &[&i64::from(limit)]).await?;
        found.iter().map(sessions::session).collect()
    }

    async fn see_session(&self, id: &Digest, at: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE session SET seen = $2 WHERE id = $1";
        self.database.query(Repeat::Safe, sql, &[&sessions::key(id), &at.millis()]).await?;
        Ok(())
    }

    async fn end_session(&self, id: &Digest, audit: &Audit) -> Result<bool, StoreError> {
        Ok(self.end(&END, &sessions::key(id), audit).await? > 0)
    }

    async fn end_sessions_of(&self, subject: &str, audit: &Audit) -> Result<usize, StoreError> {
        self.end(&END_ALL, subject, audit).await
    }

    async fn bar_person(&self, person: &BarredPerson, audit: &Audit) -> Result<bool, StoreError> {
        let (audit, row) = (AuditRow::from(audit), sessions::barred_row(person));
        let mut arrays = AuditRow::arrays(&[&audit]);
        arrays.extend(BarredRow::arrays(&[&row]));
        Ok(!self.database.query(Repeat::Never, &BAR, &params(&arrays)).await?.is_empty())
    }

    async fn let_person_in(&self, subject: &str, audit: &Audit) -> Result<bool, StoreError> {
        Ok(self.end(&LET_IN, subject, audit).await? > 0)
    }

    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        let found = self.database.query(Repeat::Safe, &BARRED, &[]).await?;
        found.iter().map(sessions::barred_person).collect()
    }
}
