//! Why there is no page but this one: what happened, and what to do.

use std::sync::Arc;

use axum::http::StatusCode;

use crate::access::attempt::SignInError;
use crate::broker::BrokerError;
use crate::domain::name::Name;
use crate::domain::rights::Right;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::web::api::error::ApiError;
use crate::web::edge::limits::Overload;

/// Why there is no page but this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trouble {
    pub status: StatusCode,
    pub title: &'static str,
    /// What happened and what to do, in sentences.
    pub text: String,
    /// After how many seconds to try again.
    pub retry_after: Option<u64>,
    /// Whether it would help to sign in.
    pub sign_in: bool,
}

impl Trouble {
    pub fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Trouble {
        Trouble { status, title, text: text.into(), retry_after: None, sign_in: false }
    }

    pub fn missing(text: impl Into<String>) -> Trouble {
        Trouble::new(StatusCode::NOT_FOUND, "Not here", text)
    }

    pub fn bad(text: impl Into<String>) -> Trouble {
        Trouble::new(StatusCode::BAD_REQUEST, "That can't be done", text)
    }

    /// It belongs to others.
    pub fn others(name: &Name, right: Right) -> Trouble {
        let what = match right {
            Right::See => "You may not see what is in it",
            Right::Manage => "You may not empty or delete what is in it",
            Right::Exempt => "You may not let its queues grow: administrators may",
            Right::Administer => "Only administrators may do this",
            _ => "You may not do this with it",
        };
        let text = format!(
            "The namespace {name} belongs to others. {what}. Its owners or an administrator can make you one of its owners."
        );
        Trouble::new(StatusCode::FORBIDDEN, "Not yours", text)
    }

    /// It is for some, and not for whoever asks.
    pub fn not_allowed(right: Right) -> Trouble {
        let text = match right {
            Right::Audit => "Only administrators may read the trail of everything. That of a namespace is on its page.",
            _ => "Only administrators may do this. They are named by CONSOLE_ADMINISTRATORS.",
        };
        Trouble::new(StatusCode::FORBIDDEN, "Not for you", text)
    }

    /// Something is away that is needed, and nothing was known before.
    pub fn nothing_known(error: &ServiceError) -> Trouble {
        let text = format!(
            "{} Nothing of this was known here before, so that there is nothing to show. Load the page again in a moment; the \
             status page says how things are.",
            out_of_order(error)
        );
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Trouble { retry_after: Some(5), ..Trouble::new(status, "Not now", text) }
    }

    /// What one error means that is held by nobody else.
    pub fn of_shared(error: Arc<ServiceError>) -> Trouble {
        Arc::try_unwrap(error).map_or_else(Trouble::from, Trouble::from)
    }

    pub fn signed_out() -> Trouble {
        let text = "Your session has ended, or you have not signed in, so nothing was done. Sign in and do it again.";
        Trouble { sign_in: true, ..Trouble::new(StatusCode::UNAUTHORIZED, "Sign in first", text) }
    }

    pub fn foreign_name() -> Trouble {
        let text = "The development account is for this machine alone: open the console at localhost or 127.0.0.1.";
        Trouble::new(StatusCode::FORBIDDEN, "Refused", text)
    }

    pub fn foreign_page() -> Trouble {
        let text = "The request did not come from a page of this console, so nothing was done. Open the console and do it \
                    there.";
        Trouble::new(StatusCode::FORBIDDEN, "Refused", text)
    }
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Trouble {
        let title = match error.status.as_u16() {
            404 => "Not here",
            409 => "That does not go",
            503 => "Not now",
            500 => "Something is wrong here",
            _ => "That can't be done",
        };
        Trouble { retry_after: error.retry_after, ..Trouble::new(error.status, title, error.message) }
    }
}

impl From<ServiceError> for Trouble {
    fn from(error: ServiceError) -> Trouble {
        ApiError::of_queues(error).into()
    }
}

impl From<Arc<ServiceError>> for Trouble {
    fn from(error: Arc<ServiceError>) -> Trouble {
        Trouble::nothing_known(&error)
    }
}

impl From<SignInError> for Trouble {
    fn from(error: SignInError) -> Trouble {
        let (status, title) = match error {
            SignInError::Provider => (StatusCode::BAD_GATEWAY, "Not now"),
            SignInError::Refused(_) => (StatusCode::FORBIDDEN, "You were not signed in"),
            SignInError::Unasked => (StatusCode::BAD_REQUEST, "You were not signed in"),
            SignInError::Unverified => (StatusCode::FORBIDDEN, "You were not signed in"),
        };
        Trouble { sign_in: true, ..Trouble::new(status, title, error.to_string()) }
    }
}

impl From<Overload> for Trouble {
    fn from(Overload { message, retry_after }: Overload) -> Trouble {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Trouble { retry_after: Some(retry_after), ..Trouble::new(status, "Too busy", message) }
    }
}

/// What is out of order, in a sentence for anybody.
pub(super) fn out_of_order(error: &ServiceError) -> &'static str {
    match error {
        ServiceError::Broker(BrokerError::Unavailable(_)) => "RabbitMQ does not answer.",
        ServiceError::Broker(_) => "RabbitMQ does not do what the service asks.",
        ServiceError::Store(StoreError::Unmigrated(_)) => "The database is not ready.",
        ServiceError::Store(_) => "The database does not answer.",
        _ => "It takes too long to look at all queues.",
    }
}
