//! The deployment in SQLite.

use async_trait::async_trait;
use rusqlite::TransactionBehavior;

use super::Sqlite;
use super::rows::{execute, query};
use crate::domain::identity::Tag;
use crate::store::deployment::{self, Deployment};
use crate::store::error::StoreError;
use crate::store::table::Row as _;

#[async_trait]
impl Deployment for Sqlite {
    async fn tag(&self) -> Result<Tag, StoreError> {
        let found = self.read(|db| query(db, "SELECT tag FROM deployment", [], |row| row.text(0))).await?;
        found.into_iter().next().map(Tag::from_stored).ok_or_else(deployment::no_deployment)
    }

    async fn foreign_users(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM foreign_user ORDER BY name LIMIT ?1";
        self.read(move |db| query(db, sql, [limit], |row| row.text(0))).await
    }

    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError> {
        let [add, remove] = [add, remove].map(|names| serde_json::json!(names).to_string());
        self.change(move |db| {
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let sql = "DELETE FROM foreign_user WHERE name IN (SELECT value FROM json_each(?1))";
            execute(&transaction, sql, [remove])?;
            let sql = "INSERT INTO foreign_user SELECT value FROM json_each(?1) WHERE true ON CONFLICT DO NOTHING";
            execute(&transaction, sql, [add])?;
            Ok(transaction.commit()?)
        })
        .await
    }
}
