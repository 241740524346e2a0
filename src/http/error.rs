//! Errors of the API: a code, a sentence for the caller, a status. The only map from our errors to HTTP.

use axum::http::StatusCode;
use uuid::Uuid;

use crate::auth::remote::Unanswered;
use crate::auth::{Failure, Refusal};
use crate::broker::BrokerError;
use crate::clock::Timestamp;
use crate::service::ServiceError;
use crate::store::StoreError;

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

    /// The payload has too many parts.
    pub fn too_many(limit: usize) -> ApiError {
        let message =
            format!("The request's payload holds more than {limit} values, which is the most that is accepted.");
        ApiError::new("InputTooLarge", StatusCode::PAYLOAD_TOO_LARGE, message)
    }

    /// Something that is needed is out of order for now.
    pub fn unavailable(message: impl Into<String>, retry_after: u64) -> ApiError {
        let error = ApiError::new("ServiceUnavailable", StatusCode::SERVICE_UNAVAILABLE, message);
        ApiError { retry_after: Some(retry_after), ..error }
    }

    /// The same, because of `error`, which goes to the log; the caller gets an incident's id with the message.
    fn out_of_order(message: &str, error: &dyn std::error::Error) -> ApiError {
        let incident = Uuid::new_v4();
        tracing::warn!(r#type = "monitor.error", incidentId = %incident, "{}", chain(error));
        ApiError::unavailable(format!("{message} Try again. (incidentId {incident})"), 5)
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

impl From<ServiceError> for ApiError {
    fn from(error: ServiceError) -> ApiError {
        let unavailable = |message: &str| ApiError::out_of_order(message, &error);
        match &error {
            ServiceError::Store(StoreError::Unavailable(_)) => unavailable("The database does not answer."),
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
            ServiceError::Store(_) | ServiceError::Partly { .. } | ServiceError::StillThere { .. } => {
                ApiError::internal(&error)
            }
        }
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

/// The error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
