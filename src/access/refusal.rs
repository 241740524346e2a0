//! Why it is not told who made a request.

use super::{certificate, hawk};
use crate::clock::Timestamp;
use crate::taskcluster::TaskclusterError;

/// Why a request is not authenticated. Its text is for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is a header as well as a bewit.
    #[error(
        "Cannot use two authentication schemes at once this request has both bewit in querystring and 'authorization' \
         header"
    )]
    TwoSchemes,
    /// The header or the bewit is wrong.
    #[error(transparent)]
    Hawk(#[from] hawk::Error),
    /// The client is not known, or may not be used.
    #[error("{0}")]
    Client(String),
    /// What the auth service has against it, in its words.
    #[error("{0}")]
    Remote(String),
    /// The `ext` is wrong.
    #[error(transparent)]
    Ext(#[from] certificate::Error),
    /// The request was made before.
    #[error(
        "This request was made before, at {first}, and a signature counts once. Sign each request anew, with a time and a \
         nonce of its own."
    )]
    Replayed {
        /// When it was first seen.
        first: Timestamp,
    },
    /// The request was made before, with another body.
    #[error(
        "This request was made before, at {first}, with another payload. Sign each request anew, with a time and a nonce \
         of its own."
    )]
    Rewritten {
        /// When it was first seen.
        first: Timestamp,
    },
    /// The payload is not the one that was signed.
    #[error(
        "Invalid payload hash: {signed}\nComputed payload hash: {computed}\nThis happens when your request carries a \
         signed hash of the payload and the hash doesn't match the hash we've computed on the server-side."
    )]
    Payload {
        /// The hash that was signed.
        signed: String,
        /// The hash of what came.
        computed: String,
    },
}

/// Why it can't be told who made a request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request is not authenticated.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The auth service would have to tell, and doesn't.
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
}

/// Why the auth service tells nothing about a request.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It is not asked, because it takes nothing but host names. The caller has to use another name for us.
    #[error(
        "The Host header must be a host name of letters, digits and hyphens, with dots between its parts: others can't be \
         checked by Taskcluster's auth service, which knows who you are."
    )]
    Host,
    /// It is being asked about too many requests already.
    #[error("Taskcluster's auth service is being asked about too many requests, and knows who you are. Try again.")]
    Busy,
    /// It can't be reached, refuses to answer, or answers what can't be understood.
    #[error(transparent)]
    Service(#[from] TaskclusterError),
}
