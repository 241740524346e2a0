//! The audit trail in PostgreSQL.

use async_trait::async_trait;

use super::Postgres;
use super::param::Param;
use super::pool::Repeat;
use super::text::escaped;
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, AuditFilter};
use crate::store::audits::{self, AuditRow, Audits, Given};
use crate::store::error::StoreError;
use crate::store::table::Table as _;

const FORGET: &str = "DELETE FROM audit WHERE id = ANY(ARRAY(SELECT id FROM audit WHERE at < $1 ORDER BY at, id \
     LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING id";

#[async_trait]
impl Audits for Postgres {
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError> {
        let rows: Vec<_> = audits.iter().map(AuditRow::from).collect();
        let arrays = AuditRow::arrays(&rows.iter().collect::<Vec<_>>());
        let params: Vec<_> = arrays.iter().map(|array| &**array as &dyn Param).collect();
        self.database.query(Repeat::Safe, &AuditRow::sql().insert_all, &params).await?;
        Ok(())
    }

    async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, StoreError> {
        let (sql, values) = audits::query(filter, limit);
        let values: Vec<Box<dyn Param + Send>> = values
            .into_iter()
            .map(|value| match value {
                Given::Text(text) => Box::new(escaped(&text).into_owned()) as Box<dyn Param + Send>,
                Given::Number(number) => Box::new(number),
            })
            .collect();
        let params: Vec<_> = values.iter().map(|value| &**value as &dyn Param).collect();
        self.database.query(Repeat::Safe, &sql, &params).await?.iter().map(audits::audit).collect()
    }

    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        let params: [&dyn Param; 2] = [&before.millis(), &i64::from(most)];
        Ok(self.database.query(Repeat::Safe, FORGET, &params).await?.len())
    }
}
