//! The audit trail in SQLite.

use async_trait::async_trait;
use rusqlite::{TransactionBehavior, params, params_from_iter};

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, AuditFilter};
use crate::store::audits::{self, AuditRow, Audits, Given};
use crate::store::error::StoreError;
use crate::store::table::Table as _;

const FORGET: &str = "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < ?1 ORDER BY at, id LIMIT ?2)";

impl rusqlite::ToSql for Given {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Given::Text(text) => text.to_sql(),
            Given::Number(number) => number.to_sql(),
        }
    }
}

#[async_trait]
impl Audits for Sqlite {
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError> {
        let rows: Vec<_> = audits.iter().map(AuditRow::from).collect();
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for row in &rows {
                execute(&transaction, &AuditRow::sql().insert, params_from_iter(row.cells()))?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, StoreError> {
        let (sql, values) = audits::query(filter, limit);
        // Here a dollar begins a name, and a question mark a number.
        let sql = sql.replace('$', "?");
        self.read(move |db| query(db, &sql, params_from_iter(values), |row| audits::audit(row))).await
    }

    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.change(move |db| execute(db, FORGET, params![before.millis(), most])).await
    }
}
