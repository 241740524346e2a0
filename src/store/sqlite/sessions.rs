//! Sessions in SQLite.

use async_trait::async_trait;
use rusqlite::{TransactionBehavior, params, params_from_iter};

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::domain::audit::Audit;
use crate::domain::session::{BarredPerson, Session};
use crate::store::audits::AuditRow;
use crate::store::error::StoreError;
use crate::store::sessions::{self, BarredRow, SessionRow, Sessions};
use crate::store::sightings::Digest;
use crate::store::table::Table as _;

const FORGET: &str =
    "DELETE FROM session WHERE id IN (SELECT id FROM session WHERE expires <= ?1 ORDER BY expires LIMIT 16)";

impl Sqlite {
    /// Removes what `sql` names by `value`, and stores the record where that was something. How many there were.
    async fn end(&self, sql: &'static str, value: String, audit: &Audit) -> Result<usize, StoreError> {
        let audit = AuditRow::from(audit);
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let ended = execute(&transaction, sql, [value])?;
            if ended > 0 {
                execute(&transaction, &AuditRow::sql().insert, params_from_iter(audit.cells()))?;
            }
            transaction.commit()?;
            Ok(ended)
        })
        .await
    }
}

#[async_trait]
impl Sessions for Sqlite {
    async fn begin_session(&self, id: &Digest, session: &Session, audit: &Audit) -> Result<(), StoreError> {
        let (row, audit, now) = (sessions::row(id, session), AuditRow::from(audit), session.created.millis());
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            execute(&transaction, FORGET, [now])?;
            execute(&transaction, &SessionRow::sql().insert, params_from_iter(row.cells()))?;
            execute(&transaction, &AuditRow::sql().insert, params_from_iter(audit.cells()))?;
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        let (sql, id) = (sessions::one().replace('$', "?"), sessions::key(id));
        Ok(self.read(move |db| query(db, &sql, [id], |row| sessions::session(row))).await?.pop())
    }

    async fn sessions_of(&self, subject: &str) -> Result<Vec<Session>, StoreError> {
        let (sql, subject) = (sessions::all().replace('$', "?"), subject.to_owned());
        self.read(move |db| query(db, &sql, [subject], |row| sessions::session(row))).await
    }

    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, StoreError> {
        let sql = sessions::anybodys().replace('$', "?");
        self.read(move |db| query(db, &sql, [limit], |row| sessions::session(row))).await
    }

    async fn see_session(&self, id: &Digest, at: Timestamp) -> Result<(), StoreError> {
        let (id, at) = (sessions::key(id), at.millis());
        self.change(move |db| execute(db, "UPDATE session SET seen = ?2 WHERE id = ?1", params![id, at])).await?;
        Ok(())
    }

    async fn end_session(&self, id: &Digest, audit: &Audit) -> Result<bool, StoreError> {
        Ok(self.end("DELETE FROM session WHERE id = ?1", sessions::key(id), audit).await? > 0)
    }

    async fn end_sessions_of(&self, subject: &str, audit: &Audit) -> Result<usize, StoreError> {
        self.end("DELETE FROM session WHERE subject = ?1", subject.to_owned(), audit).await
    }

    async fn bar_person(&self, person: &BarredPerson, audit: &Audit) -> Result<bool, StoreError> {
        let (row, audit) = (sessions::barred_row(person), AuditRow::from(audit));
        let subject = person.subject.clone();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let barred = execute(&transaction, &BarredRow::sql().insert, params_from_iter(row.cells()))? > 0;
            if barred {
                execute(&transaction, "DELETE FROM session WHERE subject = ?1", [subject])?;
                execute(&transaction, &AuditRow::sql().insert, params_from_iter(audit.cells()))?;
            }
            transaction.commit()?;
            Ok(barred)
        })
        .await
    }

    async fn let_person_in(&self, subject: &str, audit: &Audit) -> Result<bool, StoreError> {
        Ok(self.end("DELETE FROM barred_person WHERE subject = ?1", subject.to_owned(), audit).await? > 0)
    }

    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        let sql = sessions::barred();
        self.read(move |db| query(db, &sql, [], |row| sessions::barred_person(row))).await
    }
}
