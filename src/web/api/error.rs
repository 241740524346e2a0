//! Errors of the API: a code, a sentence for the caller, a status. The only map from our errors to HTTP.

use std::borrow::Cow;

use axum::http::StatusCode;
use uuid::Uuid;

use crate::access::Unanswered;
use crate::access::{Failure, Refusal};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::domain::unknown::NotUnknown;
use crate::service::ServiceError;
use crate::store::StoreError;
use crate::web::edge::limits::Overload;

/// What went wrong, as the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// Taskcluster's name for this kind of error.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// What was wrong and what would be right, to act on. Nothing internal.
    pub message: String,
    /// After how many seconds to try again.
    pub retry_after: Option<u64>,
}

impl ApiError {
    fn new(code: &'static str, status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { code, status, message: message.into(), retry_after: None }
    }

    /// The body is not JSON, or doesn't say that it is.
    pub fn malformed_payload(message: impl Into<String>) -> ApiError {
        ApiError::new("MalformedPayload", StatusCode::BAD_REQUEST, message)
    }

    /// A parameter in the path or the query is wrong.
    pub fn invalid_arguments(message: impl Into<String>) -> ApiError {
        ApiError::new("InvalidRequestArguments", StatusCode::BAD_REQUEST, message)
    }

    /// The body does not match its schema.
    pub fn input_validation(message: impl Into<String>) -> ApiError {
        ApiError::new("InputValidationError", StatusCode::BAD_REQUEST, message)
    }

    /// Something else in the request is wrong.
    pub fn input(message: impl Into<String>) -> ApiError {
        ApiError::new("InputError", StatusCode::BAD_REQUEST, message)
    }

    /// It is not proven who is asking.
    pub fn authentication_failed(message: impl Into<String>) -> ApiError {
        ApiError::new("AuthenticationFailed", StatusCode::UNAUTHORIZED, message)
    }

    /// Who is asking may not.
    pub fn insufficient_scopes(message: impl Into<String>) -> ApiError {
        ApiError::new("InsufficientScopes", StatusCode::FORBIDDEN, message)
    }

    /// There is no such thing.
    pub fn not_found(message: impl Into<String>) -> ApiError {
        ApiError::new("ResourceNotFound", StatusCode::NOT_FOUND, message)
    }

    /// It does not go with what there is.
    pub fn conflict(message: impl Into<String>) -> ApiError {
        ApiError::new("RequestConflict", StatusCode::CONFLICT, message)
    }

    /// The body did not arrive in time.
    pub fn body_timeout() -> ApiError {
        ApiError::new("RequestTimeout", StatusCode::REQUEST_TIMEOUT, "The request's body did not arrive in time.")
    }

    /// The body is encoded in a way that we don't read.
    pub fn unsupported(message: impl Into<String>) -> ApiError {
        ApiError::new("UnsupportedMediaType", StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    /// The body is too long.
    pub fn too_large(limit: usize) -> ApiError {
        let message = format!("The request's body is longer than {limit} bytes, which is the most that is accepted.");
        ApiError::new("InputTooLarge", StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Something that is needed is out of order for now.
    pub fn unavailable(message: impl Into<String>, retry_after: u64) -> ApiError {
        let error = ApiError::new(Overload::CODE, StatusCode::SERVICE_UNAVAILABLE, message);
        ApiError { retry_after: Some(retry_after), ..error }
    }

    /// The same, because of `error`, which goes to the log; the caller gets an incident's id with the message.
    fn out_of_order(message: &str, error: &dyn std::error::Error) -> ApiError {
        ApiError::unavailable(format!("{message} Try again. (incidentId {})", incident(error)), 5)
    }

    /// What went wrong with queues and exchanges at the broker.
    pub fn of_queues(error: ServiceError) -> ApiError {
        match &error {
            ServiceError::Broker(BrokerError::Refused(_)) => {
                let message = "RabbitMQ refuses this. Ask those who run the service.";
                ApiError::conflict(format!("{message} (incidentId {})", incident(&error)))
            }
            ServiceError::Broker(BrokerError::Unavailable(_)) => {
                ApiError::out_of_order("RabbitMQ does not answer.", &error)
            }
            ServiceError::Broker(_) => ApiError::out_of_order("RabbitMQ does not do what the service asks.", &error),
            ServiceError::ForeignUser { user, .. } => ApiError::conflict(format!(
                "Nothing of the namespace is touched: RabbitMQ has a user `{user}`, which is not this service's. Ask those \
                 who run the service."
            )),
            ServiceError::StillThere { .. } | ServiceError::StillListed(_) => ApiError::conflict(sentence(&error)),
            _ => error.into(),
        }
    }

    /// Something is wrong on our side. The caller gets an incident's id, under which the log has the whole story.
    pub fn internal(error: &dyn std::error::Error) -> ApiError {
        let incident = Uuid::new_v4();
        tracing::error!(r#type = "monitor.error", incidentId = %incident, "{}", chain(error));
        let message = format!("Internal Server Error, incidentId {incident}.");
        ApiError::new("InternalServerError", StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The whole message, with what Taskcluster appends to it.
    pub fn full_message(&self, method: &str, time: Timestamp) -> String {
        let ApiError { code, status, message, .. } = self;
        let status = status.as_u16();
        format!(
            "{message}\n\n---\n\n* method:     {method}\n* errorCode:  {code}\n* statusCode: {status}\n* time:       {time}"
        )
    }
}

/// Logs an error, and gives the id under which the log has it.
fn incident(error: &dyn std::error::Error) -> Uuid {
    let incident = Uuid::new_v4();
    tracing::warn!(r#type = "monitor.error", incidentId = %incident, "{}", chain(error));
    incident
}

/// What an error says, as a sentence.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    // A name begins as it does.
    if ["the ", "a ", "you ", "people ", "choose ", "it "].iter().any(|word| text.starts_with(word)) {
        format!("{first}{}.", letters.as_str())
    } else {
        format!("{text}.")
    }
}

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        let unavailable = |message: &str| ApiError::out_of_order(message, &error);
        match &error {
            ServiceError::Store(StoreError::Unavailable(_)) => unavailable("The database does not answer."),
            ServiceError::Store(StoreError::Unwritable(_)) => unavailable("The database can't be written to."),
            ServiceError::Store(StoreError::Unmigrated(_)) => unavailable("The database is not ready."),
            ServiceError::Broker(BrokerError::Unavailable(_)) => {
                unavailable("RabbitMQ does not answer, which is needed for the first claim of a namespace.")
            }
            // Whoever runs the service has to mend it; whoever calls has nothing to do but come again.
            ServiceError::Broker(_) => unavailable("RabbitMQ refused what the first claim of a namespace needs."),
            ServiceError::Contended(_) | ServiceError::TooSlow(_) => unavailable("The service is too busy."),
            ServiceError::CleaningUp { .. } => {
                ApiError::unavailable("The namespace has expired and is being cleaned up. Try again.", 10)
            }
            ServiceError::Revoking { .. } => {
                ApiError::unavailable("The credentials of the namespace are being replaced. Try again.", 10)
            }
            ServiceError::Disabled { name, since, reason } => ApiError::conflict(format!(
                "Namespace {name} is disabled since {since}, so that nobody can claim it: {reason}\nAsk those who run the service."
            )),
            ServiceError::NoNamespace(_) => ApiError::not_found("No such namespace"),
            ServiceError::LastOwner(_) | ServiceError::TooManyOwners(_) | ServiceError::TooManyExemptions(_) => {
                ApiError::conflict(sentence(&error))
            }
            ServiceError::Missing(what, _) => ApiError::not_found(format!("No such {what}")),
            ServiceError::TooManyRequests(_) | ServiceError::Oneself | ServiceError::PersonBarred { .. } => {
                ApiError::conflict(sentence(&error))
            }
            ServiceError::BadEnd(_) | ServiceError::NoBrakes(_) => ApiError::input(sentence(&error)),
            ServiceError::NotUnknown(NotUnknown::Nothing(_)) => ApiError::not_found(sentence(&error)),
            ServiceError::NotUnknown(_) => ApiError::conflict(sentence(&error)),
            ServiceError::TooManyInspections { .. } => ApiError::conflict(sentence(&error)),
            ServiceError::NoInspection(_) => ApiError::input(sentence(&error)),
            ServiceError::Kept(..) => ApiError::conflict(sentence(&error)),
            ServiceError::Elsewhere(_) => ApiError::input(sentence(&error)),
            ServiceError::OnDemand(name) => ApiError::conflict(format!(
                "`{name}` is an account: its credentials change when an owner asks for new ones, and can't be claimed. An owner \
                 gets them by `newCredentials`."
            )),
            ServiceError::Exists(_) | ServiceError::NotSuch { .. } | ServiceError::Changed { .. } => {
                ApiError::conflict(sentence(&error))
            }
            ServiceError::Underway(_) => {
                ApiError::unavailable("Another request for new credentials of the account is under way. Try again.", 30)
            }
            ServiceError::BadAccount(_) | ServiceError::NoPattern(_) => ApiError::input(sentence(&error)),
            ServiceError::BadName(bad) => ApiError::input(bad.to_string()),
            ServiceError::TooManyNamespaces { client, most } => ApiError::conflict(format!(
                "Client ID {client} has claimed {most} namespaces that are live, which is the most that one client may. Claim \
                 one that is no longer needed with an `expires` that is past, and try again once it is removed; or ask \
                 whoever runs the service for more."
            )),
            ServiceError::ForeignUser { user, .. } => ApiError::conflict(format!(
                "The namespace can't be claimed: RabbitMQ has a user `{user}` already, which is not this service's. Ask those \
                 who run the service."
            )),
            ServiceError::Store(_)
            | ServiceError::NotAlone
            | ServiceError::Partly { .. }
            | ServiceError::NotRefused(_)
            | ServiceError::StillThere { .. }
            | ServiceError::StillListed(_) => ApiError::internal(&error),
        }
    }
}

impl From<Overload> for ApiError {
    fn from(Overload { message, retry_after }: Overload) -> ApiError {
        ApiError::unavailable(message, retry_after)
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        ApiError::authentication_failed(refusal.to_string())
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> ApiError {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Unanswered(host @ Unanswered::Host) => ApiError::input(host.to_string()),
            Failure::Unanswered(busy @ Unanswered::Busy) => ApiError::unavailable(busy.to_string(), 1),
            Failure::Unanswered(Unanswered::Service(error)) if error.is_transient() => {
                let message = "Taskcluster's auth service does not answer, which is needed to check who is asking.";
                ApiError::out_of_order(message, &error)
            }
            Failure::Unanswered(Unanswered::Service(error)) => ApiError::internal(&error),
        }
    }
}

/// How many things that are wrong are told at once.
const MOST_COMPLAINTS: usize = 20;
/// How much of something that was sent is repeated in a sentence about it, in bytes.
const LONGEST_EXCERPT: usize = 512;

/// What is wrong, one thing a line; of many the first ones.
pub(in crate::web) fn complaints(lines: impl IntoIterator<Item = String>) -> String {
    let mut lines = lines.into_iter();
    let mut told: Vec<_> = lines.by_ref().take(MOST_COMPLAINTS).collect();
    match lines.count() {
        0 => {}
        more => told.push(format!("and {more} more")),
    }
    told.join("\n")
}

/// Something that was sent, as it is repeated in a sentence about it.
pub(in crate::web) fn excerpt(sent: &str) -> Cow<'_, str> {
    if sent.len() <= LONGEST_EXCERPT {
        sent.into()
    } else {
        format!("{}...", &sent[..sent.floor_char_boundary(LONGEST_EXCERPT)]).into()
    }
}

/// The error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
