//! Which release of RabbitMQ runs and what our account lacks there: looked up now and then, and logged when it is another.

use std::time::Duration;

use super::Service;
use crate::broker::BrokerError;
use crate::domain::release::Release;

/// How long a look counts, and one that found something lacking.
const FRESH: Duration = Duration::from_secs(3600);
const LACKING: Duration = Duration::from_secs(60);

impl Service {
    fn seen(&self) -> Option<(Release, Vec<String>, Duration)> {
        self.release.lock().ok().and_then(|seen| seen.clone())
    }

    /// Looks which release runs and what our account lacks there, unless that was done lately. What it is, and what is known to bite
    /// with it, is logged.
    pub(super) async fn look_at_release(&self) -> Result<(), BrokerError> {
        let now = self.clock.uptime();
        let fresh = |lacks: &[String]| if lacks.is_empty() { FRESH } else { LACKING };
        if self.seen().is_some_and(|(_, lacks, at)| now.saturating_sub(at) < fresh(&lacks)) {
            return Ok(());
        }
        let (release, lacks) = tokio::try_join!(self.broker.release(), self.broker.lacks())?;
        let found = (release.clone(), lacks.clone(), now);
        let before = self.release.lock().ok().and_then(|mut seen| seen.replace(found));
        if before.is_none_or(|(former, lacked, _)| (&former, &lacked) != (&release, &lacks)) {
            let version = &release.version;
            tracing::info!(r#type = "monitor.rabbitmq", version, "RabbitMQ {version}");
            self.release_warnings().iter().for_each(|warning| tracing::warn!(r#type = "monitor.rabbitmq", "{warning}"));
        }
        Ok(())
    }

    /// Which release runs and which deprecated features it says are used, as of now, and what is known to bite with that.
    ///
    /// # Errors
    /// Those of the broker.
    pub async fn broker_release(&self) -> Result<(Release, Vec<String>), BrokerError> {
        let found = self.broker.release().await?;
        let warnings = found.warnings(&self.policy.connection.suffix);
        Ok((found, warnings))
    }

    /// The version of the broker that was seen last; `None` as long as it is not known.
    pub fn broker_version(&self) -> Option<String> {
        self.seen().map(|(release, ..)| release.version)
    }

    /// What our account lacks, and what is known to bite with the release that runs. Empty as long as it is not known.
    pub(super) fn release_warnings(&self) -> Vec<String> {
        let Some((release, mut lacks, _)) = self.seen() else { return Vec::new() };
        lacks.extend(release.warnings(&self.policy.connection.suffix));
        lacks
    }
}
