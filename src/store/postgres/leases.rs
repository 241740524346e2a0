//! Leases in PostgreSQL.

use async_trait::async_trait;

use super::Postgres;
use super::param::Param;
use super::pool::Repeat;
use super::text::escaped;
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::leases::{self, Leases, TaskRun};

const LEASE: &str = "INSERT INTO lease (task, holder, until) VALUES ($1, $2, $4) ON CONFLICT (task) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= $3 OR lease.until > $4 \
     RETURNING task";

#[async_trait]
impl Leases for Postgres {
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let (now, until) = (now.millis(), until.millis());
        let given = self.database.query(Repeat::Safe, LEASE, &[&task, &holder, &now, &until]).await?;
        Ok(!given.is_empty())
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        let sql = "DELETE FROM lease WHERE task = $1 AND holder = $2";
        self.database.query(Repeat::Safe, sql, &[&task, &holder]).await?;
        Ok(())
    }

    async fn note_run(&self, run: &TaskRun) -> Result<(), StoreError> {
        let TaskRun { task, at, good, summary, refused, .. } = run;
        let (at, good, summary, figures) = (at.millis(), *good, escaped(summary), leases::figures_text(run));
        let (refused, good_at) = (i64::try_from(*refused).unwrap_or(i64::MAX), good.then_some(at));
        let params: [&dyn Param; 7] = [task, &at, &good, &summary, &refused, &figures, &good_at];
        self.database.query(Repeat::Safe, leases::NOTE_RUN, &params).await?;
        Ok(())
    }

    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        let found = self.database.query(Repeat::Safe, &leases::all_runs(), &[]).await?;
        found.iter().map(leases::run).collect()
    }
}
