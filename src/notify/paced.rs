//! A pace for any way to deliver: no more to one address than it can bear, whoever named it as a contact.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::clock::Clock;
use crate::domain::notice::Notice;
use crate::domain::pace::Pace;
use crate::notify::{Notifier, NotifyError};

/// So many messages one process sends to one address in each [`WINDOW`]. Each process of Taskcluster's notify service drops
/// what is more than 50 in ten minutes; two of our processes together stay within that. To a mail server and whoever reads
/// there, more in that time are no better than spam.
pub const MOST: usize = 25;
/// See [`MOST`].
pub const WINDOW: Duration = Duration::from_secs(600);

/// Delivers by another way, and only at a pace. A message that has to wait is not tried.
pub struct Paced<N> {
    way: N,
    clock: Arc<dyn Clock>,
    pace: Mutex<Pace>,
}

impl<N> Paced<N> {
    /// Delivers by `way`.
    pub fn new(way: N, clock: Arc<dyn Clock>) -> Paced<N> {
        Paced { way, clock, pace: Mutex::new(Pace::new(MOST, WINDOW)) }
    }
}

#[async_trait]
impl<N: Notifier> Notifier for Paced<N> {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        // Hardly a mail server tells upper from lower case, and who does gets fewer mails at worst.
        let address = notice.to.to_lowercase();
        let admitted = self.pace.lock().unwrap_or_else(PoisonError::into_inner).admit(&address, self.clock.now());
        admitted.map_err(NotifyError::TooMany)?;
        self.way.deliver(notice).await
    }
}
