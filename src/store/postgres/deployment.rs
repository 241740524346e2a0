//! The deployment in PostgreSQL.

use async_trait::async_trait;

use super::Postgres;
use super::pool::Repeat;
use crate::domain::identity::Tag;
use crate::store::deployment::{self, Deployment};
use crate::store::error::StoreError;
use crate::store::table::Row as _;

#[async_trait]
impl Deployment for Postgres {
    async fn tag(&self) -> Result<Tag, StoreError> {
        let found = self.database.query(Repeat::Safe, "SELECT tag FROM deployment", &[]).await?;
        found.first().ok_or_else(deployment::no_deployment)?.text(0).map(Tag::from_stored)
    }

    async fn foreign_users(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT name FROM foreign_user ORDER BY name LIMIT $1";
        let found = self.database.query(Repeat::Safe, sql, &[&i64::from(limit)]).await?;
        found.iter().map(|row| row.text(0)).collect()
    }

    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError> {
        let sql = "WITH removed AS (DELETE FROM foreign_user WHERE name = ANY($2::text[])) \
                   INSERT INTO foreign_user SELECT unnest($1::text[]) ON CONFLICT DO NOTHING";
        self.database.query(Repeat::Safe, sql, &[&add, &remove]).await?;
        Ok(())
    }
}
