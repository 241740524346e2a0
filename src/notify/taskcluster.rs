//! Messages by Taskcluster's notify service, which makes them e-mails.

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

use crate::domain::notice::Notice;
use crate::notify::{Notifier, NotifyError};
use crate::taskcluster::{Taskcluster, TaskclusterError};

/// Sends by the method `email`; our client needs the scope `notify:email:*`.
pub struct NotifyService {
    taskcluster: Taskcluster,
}

impl NotifyService {
    /// Sends with the credentials of `taskcluster`.
    pub fn new(taskcluster: Taskcluster) -> NotifyService {
        NotifyService { taskcluster }
    }
}

#[async_trait]
impl Notifier for NotifyService {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let email = json!({"address": notice.to, "subject": notice.subject, "content": notice.text});
        match self.taskcluster.call(Method::POST, "notify", "email", Some(&email)).await {
            // Only 200 says that it was sent. 204 says that it was not: the service sends neither the same text to the same
            // address twice nor too many e-mails to it, and may withhold it for reasons of its own, and doesn't say which it
            // was. If its twin was sent before, to hold this one for undelivered costs no more than attempts.
            Ok(reply) if reply.status == 200 => Ok(()),
            Ok(reply) => {
                let status = reply.status;
                Err(NotifyError::Temporary(format!(
                    "the notify service withheld the message, and says no more ({status})"
                )))
            }
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
