//! Figures of the whole service from PostgreSQL.

use std::sync::LazyLock;

use async_trait::async_trait;

use super::pool::Repeat;
use super::{Postgres, no_row};
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::figures::{self, Figures, Sums};

static FIGURES: LazyLock<String> = LazyLock::new(figures::query);

#[async_trait]
impl Sums for Postgres {
    async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        let found = self.database.query(Repeat::Safe, &FIGURES, &[&now.millis()]).await?;
        figures::figures(found.first().ok_or_else(no_row)?)
    }
}
