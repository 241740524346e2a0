//! A request of the API, but for its body.

use std::sync::Arc;

use axum::http::request::Parts;

use super::app::App;
use super::endpoint::{Entry, Params};
use crate::access::Caller;
use crate::clock::Timestamp;
use crate::domain::audit::By;
use crate::web::edge::around::RequestId;

/// Who makes requests without credentials, where the role `anonymous` allows them. No client has this name.
pub(super) const ANONYMOUS: &str = "*anonymous";

/// What every stage looks at.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub app: &'a Arc<App>,
    pub entry: &'static Entry,
    pub parts: &'a Parts,
    /// When it came.
    pub now: Timestamp,
}

impl Head<'_> {
    /// Who sent it, as the audit trail has it: nobody in particular, where that is not proven.
    pub fn by(&self, caller: Option<&Caller>) -> By {
        let client = caller.and_then(|caller| caller.who.name()).unwrap_or(ANONYMOUS);
        let request = self.parts.extensions.get::<RequestId>().map(|id| id.0.clone());
        By { request, ..By::client(client) }
    }

    /// Notes that somebody was refused who is known and lacks a right. Anybody can be refused without being known.
    pub fn refused(&self, caller: &Caller, params: &Params) {
        let Some(right) = self.entry.right.filter(|_| caller.is_known()) else { return };
        let service = &self.app.context.service;
        let named = params.get("namespace").and_then(|name| name.as_str());
        let name = named.and_then(|name| service.policy().names.namespace(name).ok());
        service.note_refusal(&self.by(Some(caller)), right, name.as_ref(), self.entry.name);
    }
}
