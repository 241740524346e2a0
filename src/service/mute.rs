//! Muting: no reminders of a queue, or of all queues of a namespace. What comes before a removal is told all the same.

use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::namespace::Namespace;
use crate::domain::recipients::Mute;

impl Service {
    /// Sends no reminders of `target`, a queue of `owner` or the name of `owner` itself, until then; without `until`, for as long
    /// as the namespace lives.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn mute(&self, target: &str, owner: &Namespace, until: Option<Timestamp>) -> Result<(), ServiceError> {
        // By the clock of another process the namespace may have begun later.
        let since = self.now().max(owner.created);
        self.store.mute(target, Some(Mute { since, until })).await?;
        Ok(())
    }

    /// Sends reminders of `target` again. Whether it was muted.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn unmute(&self, target: &str) -> Result<bool, ServiceError> {
        Ok(self.store.mute(target, None).await?)
    }
}
