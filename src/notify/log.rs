//! Messages into our own log, for a deployment that sends no e-mail.

use async_trait::async_trait;

use crate::domain::notice::Notice;
use crate::notify::{Notifier, NotifyError};

/// Writes each message as a log record of the type `notice`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Log;

#[async_trait]
impl Notifier for Log {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let Notice { id, namespace, to, subject, text, .. } = notice;
        tracing::info!("type" = "notice", %id, %namespace, %to, %text, "{subject}");
        Ok(())
    }
}
