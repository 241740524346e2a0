//! Figures that describe the whole service, whichever process is asked. They are read from the store.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::ladder::Stage;
use crate::domain::verdict::{Kind, verdict};
use crate::store::{self, TaskRun};

/// What describes the whole service at a moment.
#[derive(Debug, Clone)]
pub struct Figures {
    /// The moment, by the store's clock.
    pub now: Timestamp,
    /// Sums over the tables.
    pub sums: store::Figures,
    /// When a web process last could serve claims; `None` where none ever noted it.
    pub heartbeat: Option<Timestamp>,
    /// How the last run of each task went.
    pub runs: Vec<TaskRun>,
    /// How many of the queues that are not empty the guard last judged so.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// How many queues their owners were warned of, or are about to be removed; by a word for each stage.
    pub stages: BTreeMap<&'static str, u64>,
    /// The most messages of one queue at the last look, and the most unacknowledged ones.
    pub most: (u64, u64),
}

/// The word for a stage.
fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Watched => "watched",
        Stage::Warned => "warned",
        Stage::Removing => "removing",
    }
}

/// After so many sweeps without a look, what was seen of a queue says nothing of now.
const LOOKS: u32 = 3;

impl Service {
    /// The figures as of now.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn figures(&self) -> Result<Figures, ServiceError> {
        self.memory.check_store()?;
        let (vitals, _) = self.vitals().await?;
        let (sums, runs, watches, histories) = tokio::try_join!(
            self.store.figures(vitals.now),
            self.store.runs(),
            self.store.watches(),
            self.store.histories()
        )?;
        let criteria = &self.policy.criteria;
        let recent = (criteria.silence / LOOKS).max(Duration::from_secs(300));
        let mut verdicts: BTreeMap<_, _> = Kind::ALL.map(|kind| (kind.word(), 0)).into();
        let mut most = (0_u64, 0_u64);
        for history in histories.values() {
            if let Some(verdict) = verdict(history, criteria) {
                *verdicts.entry(verdict.kind.word()).or_default() += 1;
            }
            if let Some(look) = history.last().filter(|look| vitals.now.since(look.at) <= recent) {
                most = (most.0.max(look.total), most.1.max(look.unacked));
            }
        }
        let mut stages: BTreeMap<_, _> =
            [Stage::Watched, Stage::Warned, Stage::Removing].map(|stage| (word(stage), 0)).into();
        for watched in watches {
            *stages.entry(word(watched.watch.stage)).or_default() += 1;
        }
        let heartbeat = vitals.heartbeat.map(|heartbeat| heartbeat.last);
        Ok(Figures { now: vitals.now, sums, heartbeat, runs, verdicts, stages, most })
    }
}
