//! Who made a request, and what they may do.

use std::fmt;

use super::refusal::Refusal;
use super::scope::Expression;
use crate::clock::Timestamp;
use crate::hawk::payload_hash;

/// Who made a request of the API: one kind for each way to prove that. The console asks people instead; see
/// [`Person`](crate::domain::session::Person).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A request without credentials.
    Anonymous,
    /// A machine, by the name with which it signed.
    Machine {
        /// The name.
        client_id: String,
    },
}

impl Who {
    /// Its name in the log and in errors; `None` where nothing is proven.
    pub fn name(&self) -> Option<&str> {
        match self {
            Who::Anonymous => None,
            Who::Machine { client_id } => Some(client_id),
        }
    }
}

/// Someone who made a request, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who it is.
    pub who: Who,
    /// The caller's scopes with all that roles grant, those of the role `anonymous` included. The auth service expands the
    /// scopes of those it knows, and our own roles add nothing to them.
    pub scopes: Vec<String>,
    /// Until when the credentials are good; `None` for ever.
    pub expires: Option<Timestamp>,
    /// The hash of the payload, if one was signed; [`Caller::verify_payload`] compares it.
    pub hash: Option<String>,
}

impl Caller {
    /// Checks that the body is the one whose hash was signed, if one was. `content_type` is the header's value, empty
    /// where there is none; `body` is what is left after undoing a content encoding and a charset.
    pub fn verify_payload(&self, content_type: &str, body: &[u8]) -> Result<(), Refusal> {
        let Some(signed) = &self.hash else { return Ok(()) };
        let computed = payload_hash(content_type, body);
        if *signed == computed { Ok(()) } else { Err(Refusal::Payload { signed: signed.clone(), computed }) }
    }

    /// Whether it is proven who it is.
    pub fn is_known(&self) -> bool {
        self.who != Who::Anonymous
    }

    /// Checks that the caller has what `required` needs, and returns which of its scopes that was, for the log.
    pub fn require(&self, required: &Expression) -> Result<Vec<String>, Insufficient> {
        required.satisfying(&self.scopes).ok_or_else(|| Insufficient {
            who: self.who.clone(),
            required: required.clone(),
            missing: required.missing(&self.scopes).unwrap_or_else(|| required.clone()),
        })
    }
}

/// A caller lacks scopes. The text is Taskcluster's, for the caller; it tells what is missing, not what the caller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insufficient {
    /// Who the caller is.
    pub who: Who,
    /// What it needs.
    pub required: Expression,
    /// What it lacks of that.
    pub missing: Expression,
}

impl fmt::Display for Insufficient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Insufficient { who, required, missing } = self;
        match who {
            Who::Machine { client_id: id } => write!(
                f,
                "Client ID {id} does not have sufficient scopes and is missing the following scopes:\n\n\
                 ```\n{missing}\n```\n\n\
                 This request requires the client to satisfy the following scope expression:\n\n```\n{required}\n```"
            ),
            Who::Anonymous => write!(
                f,
                "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n\
                 ```\n{required}\n```"
            ),
        }
    }
}

impl std::error::Error for Insufficient {}
