//! Messages by Taskcluster's notify service, which makes them e-mails.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

use crate::clock::Clock;
use crate::domain::notice::Notice;
use crate::domain::pace::Pace;
use crate::notify::{Delivered, Notifier, NotifyError};
use crate::taskcluster::{Taskcluster, TaskclusterError};

/// So many messages one process sends to one address in each [`WINDOW`]. Each process of the notify service drops, without a
/// word, what is more than 50 in ten minutes. Two of our processes together stay within that.
const MOST: usize = 25;
const WINDOW: Duration = Duration::from_secs(600);

/// Sends by the method `email`; our client needs the scope `notify:email:*`.
pub struct NotifyService {
    taskcluster: Taskcluster,
    clock: Arc<dyn Clock>,
    pace: Mutex<Pace>,
}

impl NotifyService {
    /// Sends with the credentials of `taskcluster`.
    pub fn new(taskcluster: Taskcluster, clock: Arc<dyn Clock>) -> NotifyService {
        NotifyService { taskcluster, clock, pace: Mutex::new(Pace::new(MOST, WINDOW)) }
    }
}

#[async_trait]
impl Notifier for NotifyService {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError> {
        let admitted = self.pace.lock().unwrap_or_else(PoisonError::into_inner).admit(&notice.to, self.clock.now());
        admitted.map_err(NotifyError::TooMany)?;
        let email = json!({"address": notice.to, "subject": notice.subject, "content": notice.text});
        match self.taskcluster.call(Method::POST, "notify", "email", Some(&email)).await {
            // It does not send the same text to the same address twice, nor too many e-mails to it, and doesn't say which
            // of both it was.
            Ok(reply) if reply.status == 204 => Ok(Delivered::Withheld),
            Ok(_) => Ok(Delivered::Sent),
            Err(error) if is_final(&error) => Err(NotifyError::Permanent(error.to_string())),
            Err(error) => Err(NotifyError::Temporary(error.to_string())),
        }
    }
}

/// Whether the address is what the service refuses: it is on its deny-list, or it is none. Subject and content have the
/// form that it asks for, so that a failed check of the input can only mean the address.
fn is_final(error: &TaskclusterError) -> bool {
    matches!(error, TaskclusterError::Refused { status: 400, code, .. }
        if matches!(code.as_str(), "DenylistedAddress" | "InputValidationError"))
}
