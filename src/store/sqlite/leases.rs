//! Leases in SQLite.

use async_trait::async_trait;

use super::Sqlite;
use super::rows::{execute, query};
use crate::clock::Timestamp;
use crate::store::error::StoreError;
use crate::store::leases::{self, Leases, TaskRun};

const LEASE: &str = "INSERT INTO lease (task, holder, until) VALUES (?1, ?2, ?4) ON CONFLICT (task) DO UPDATE \
     SET holder = excluded.holder, until = excluded.until WHERE lease.holder = excluded.holder OR lease.until <= ?3 \
     OR lease.until > ?4";

#[async_trait]
impl Leases for Sqlite {
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        let params = (task.to_owned(), holder.to_owned(), now.millis(), until.millis());
        Ok(self.change(move |db| execute(db, LEASE, params)).await? == 1)
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        let params = (task.to_owned(), holder.to_owned());
        self.change(move |db| execute(db, "DELETE FROM lease WHERE task = ?1 AND holder = ?2", params)).await?;
        Ok(())
    }

    async fn note_run(&self, run: &TaskRun) -> Result<(), StoreError> {
        let figures = leases::figures_text(run);
        let TaskRun { task, at, good, summary, refused, .. } = run.clone();
        let refused = i64::try_from(refused).unwrap_or(i64::MAX);
        let params = (task, at.millis(), good, summary, refused, figures, good.then_some(at.millis()));
        self.change(move |db| execute(db, leases::NOTE_RUN, params)).await?;
        Ok(())
    }

    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        self.read(|db| query(db, &leases::all_runs(), [], |row| leases::run(row))).await
    }
}
