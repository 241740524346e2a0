//! How people sign in, and which of them administer.

use std::sync::Arc;

use super::oidc::Oidc;
use super::third_party::ThirdParty;
use crate::domain::owner::Owner;
use crate::domain::rights::Subject;
use crate::domain::session::Person;

/// How people sign in to this deployment. The default lets nobody in.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// Who administers.
    pub administrators: Vec<Owner>,
    /// The address of the development account, as which anybody may sign in; see the setting `console.fakeAccount`.
    pub development: Option<String>,
    /// The provider by which people sign in.
    pub oidc: Option<Arc<Oidc>>,
    /// The Taskcluster deployment by which people sign in.
    pub taskcluster: Option<Arc<ThirdParty>>,
    /// Whether people reach the service over plain HTTP, which is only ever so on its own machine.
    pub plain: bool,
}

impl People {
    /// Whether nobody can sign in.
    pub fn is_closed(&self) -> bool {
        self.development.is_none() && self.oidc.is_none() && self.taskcluster.is_none()
    }

    /// The person of the development account, where there is one.
    pub fn development_account(&self) -> Option<Person> {
        let address = self.development.clone()?;
        let subject = format!("development|{address}");
        Some(Person { subject, address: Some(address), groups: Vec::new(), scopes: Vec::new() })
    }

    /// Who asks, where it is this person.
    pub fn subject<'a>(&self, person: &'a Person) -> Subject<'a> {
        person.subject(&self.administrators)
    }
}
