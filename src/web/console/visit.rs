//! A request of the console that was let in: who makes it, and what it holds.

use std::sync::Arc;

use axum::http::HeaderMap;
use url::form_urlencoded;

use super::trouble::Trouble;
use crate::access::people::People;
use crate::access::sessions::SessionId;
use crate::clock::Timestamp;
use crate::domain::audit::{Actor, By};
use crate::domain::name::Name;
use crate::domain::rights::{Object, Right, Subject, may};
use crate::domain::session::Session;
use crate::service::{Service, ServiceError};
use crate::store::{Outline, Summary};
use crate::web::api::app::App;

/// What a form or a query holds, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub fn read(text: &[u8]) -> Fields {
        Fields(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The first value of this name, without blanks around it; empty where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| given == name).map_or("", |(_, value)| value.trim())
    }

    /// All values of this name, as they came.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(given, _)| given == name)
    }
}

/// A namespace that somebody looks at.
pub(super) struct Looked {
    pub summary: Summary,
    /// What was known of it last, where the store does not answer.
    pub last: Option<Last>,
}

/// What was known of a namespace last.
pub(super) struct Last {
    /// When that was.
    pub at: Timestamp,
    pub outline: Outline,
    /// Why nothing newer is known.
    pub why: Arc<ServiceError>,
}

/// A request that was let in.
pub(super) struct Visit {
    pub app: Arc<App>,
    /// When it came.
    pub now: Timestamp,
    /// Its path below `/console`, and its query as it came.
    pub path: String,
    pub target: String,
    pub query: Fields,
    /// What its form holds.
    pub form: Fields,
    /// Whether the script of a page asks for the part of it that changes.
    pub live: bool,
    pub session: Option<(SessionId, Session)>,
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The id of the request.
    pub request: Option<String>,
}

impl Visit {
    pub fn service(&self) -> &Arc<Service> {
        &self.app.context.service
    }

    pub fn people(&self) -> &People {
        &self.app.settings.console.people
    }

    /// Who asks.
    pub fn subject(&self) -> Subject<'_> {
        self.session.as_ref().map(|(_, session)| self.people().subject(&session.person)).unwrap_or_default()
    }

    /// The same, as the audit trail has it.
    pub fn by(&self) -> By {
        let name = self.session.as_ref().map_or("", |(_, session)| session.person.name());
        By { actor: Actor::Person(name.to_owned()), request: self.request.clone() }
    }

    /// Whether this person has a right over this namespace.
    pub fn may(&self, right: Right, of: &Summary) -> bool {
        let managers = crate::domain::owner::with_contact(&of.owners, &of.contact);
        may(&self.subject(), right, Object::Namespace(&of.name, &managers))
    }

    /// Whether this person has a right over everything.
    pub fn may_all(&self, right: Right) -> bool {
        may(&self.subject(), right, Object::Everything)
    }

    /// Refuses who has not this right over everything.
    pub fn require_all(&self, right: Right) -> Result<(), Trouble> {
        if self.may_all(right) {
            return Ok(());
        }
        self.service().note_refusal(&self.by(), right, None, &format!("console {}", self.path));
        Err(Trouble::not_allowed(right))
    }

    /// The live namespace or account of this name, over which the person has this right.
    pub async fn namespace(&self, text: &str, right: Right) -> Result<Summary, Trouble> {
        let missing = || Trouble::missing(format!("There is no namespace {text}."));
        let name = self.service().name(text).await?;
        let found = self.service().summary(&name).await?.ok_or_else(missing)?;
        self.require(right, &found)?;
        Ok(found)
    }

    /// The same, to be looked at: while the store does not answer, as it was known last.
    pub async fn look_at(&self, text: &str, right: Right) -> Result<Looked, Trouble> {
        let found = async {
            let name = self.service().name(text).await?;
            self.service().summary(&name).await
        };
        match found.await {
            Ok(Some(summary)) => {
                self.require(right, &summary)?;
                Ok(Looked { summary, last: None })
            }
            Ok(None) => Err(Trouble::missing(format!("There is no namespace {text}."))),
            Err(error) if error.is_outage() => match self.service().last_known_namespace(text) {
                Some((at, outline)) => {
                    self.require(right, &outline.summary)?;
                    Ok(Looked {
                        summary: outline.summary.clone(),
                        last: Some(Last { at, outline, why: Arc::new(error) }),
                    })
                }
                None => Err(Trouble::nothing_known(&error)),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// The same of the namespace that a queue or exchange of this name belongs to.
    pub async fn look_at_owner(&self, owner: Option<Name>, what: &str, right: Right) -> Result<Looked, Trouble> {
        let missing = || Trouble::missing(format!("{what:?} is not named like something of a namespace."));
        self.look_at(owner.ok_or_else(missing)?.as_str(), right).await
    }

    /// The namespace that a queue or exchange of this name belongs to, over which the person has this right.
    pub async fn owner_of(&self, owner: Option<Name>, what: &str, right: Right) -> Result<Summary, Trouble> {
        let missing = || Trouble::missing(format!("{what:?} is not named like something of a namespace."));
        let name = owner.ok_or_else(missing)?;
        let missing = || Trouble::missing(format!("There is no namespace {name}."));
        let found = self.service().summary(&name).await?.ok_or_else(missing)?;
        self.require(right, &found)?;
        Ok(found)
    }

    fn require(&self, right: Right, of: &Summary) -> Result<(), Trouble> {
        if self.may(right, of) {
            return Ok(());
        }
        self.service().note_refusal(&self.by(), right, Some(&of.name), &format!("console {}", self.path));
        Err(Trouble::others(&of.name, right))
    }
}
