//! Figures of the whole service from SQLite.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::Sqlite;
use super::rows::query;
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::figures::{self, Figures, Sums};

static FIGURES: LazyLock<String> = LazyLock::new(figures::query);

#[async_trait]
impl Sums for Sqlite {
    async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        let found = self.read(move |db| query(db, &FIGURES, [now.millis()], |row| figures::figures(row))).await?;
        // It always gives one row.
        Ok(found.into_iter().next().unwrap_or_default())
    }
}
