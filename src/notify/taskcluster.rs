//! Messages by Taskcluster's notify service, which makes them e-mails.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

use crate::domain::notice::Notice;
use crate::notify::{Delivered, Notifier, NotifyError};
use crate::taskcluster::{Taskcluster, TaskclusterError};

/// Sends by the method `email`; our client needs the scope `notify:email:*`.
#[derive(Debug, Clone)]
pub struct NotifyService(Arc<Taskcluster>);

impl NotifyService {
    /// Sends with the credentials of `taskcluster`.
    pub fn new(taskcluster: Arc<Taskcluster>) -> NotifyService {
        NotifyService(taskcluster)
    }
}

#[async_trait]
impl Notifier for NotifyService {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError> {
        let email = json!({"address": notice.to, "subject": notice.subject, "content": notice.text});
        match self.0.call(Method::POST, "notify", "email", Some(&email)).await {
            // It does not send the same text to the same address twice, nor more than 50 e-mails to it in ten minutes, and
            // doesn't say which of both it was.
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
