//! The audit trail: of everything, for those who may, and of one namespace.

use askama::Template;

use super::answer::{self, Answer};
use super::export::{self, Form};
use super::frame::{Frame, Part, When};
use super::rows::namespace_path;
use super::trouble::Trouble;
use super::visit::Visit;
use crate::clock::Timestamp;
use crate::domain::audit::{Audit, AuditFilter, Deed};
use crate::domain::name::Name;
use crate::domain::rights::Right;
use crate::terminal::one_line;
use serde_json::json;

/// So many records a page has, and an export.
const RECORDS: u32 = 100;
const EXPORTED: u32 = 5000;

#[derive(Template)]
#[template(path = "audit.html")]
struct Trail {
    frame: Frame,
    records: Vec<Record>,
    namespace: String,
    actor: String,
    action: String,
    actions: Vec<&'static str>,
    older: Option<String>,
    export: String,
}

/// A record as it is shown.
pub(super) struct Record {
    pub at: When,
    pub kind: &'static str,
    pub actor: String,
    pub action: String,
    pub namespace: String,
    pub namespace_link: Option<String>,
    pub object: String,
    pub reason: String,
}

impl Record {
    pub fn of(audit: &Audit) -> Record {
        let (kind, actor) = audit.by.actor.parts();
        let namespace = audit.namespace.as_ref().map_or("", Name::as_str);
        Record {
            at: When(audit.at),
            kind,
            actor: actor.to_owned(),
            action: audit.action.clone(),
            namespace: namespace.to_owned(),
            namespace_link: (!namespace.is_empty()).then(|| namespace_path(namespace)),
            object: one_line(&audit.object).into_owned(),
            reason: audit.reason.clone(),
        }
    }
}

pub(super) async fn audit(visit: Visit) -> Answer {
    let namespace = visit.query.text("namespace").to_owned();
    let name = match namespace.as_str() {
        "" if visit.may_all(Right::Audit) => None,
        "" => {
            return Err(Trouble::new(
                axum::http::StatusCode::FORBIDDEN,
                "Not yours",
                "Only administrators may read the trail of everything. That of a namespace is on its page.",
            ));
        }
        // What was done to one that is gone is still there, for who may read all.
        text if visit.may_all(Right::Audit) => Some(Name::from_stored(text.to_owned())),
        text => Some(visit.namespace(text, Right::Audit).await?.name),
    };
    let text = |name: &str| Some(visit.query.text(name).to_owned()).filter(|text| !text.is_empty());
    let after = text("after").and_then(|after| {
        let (at, id) = after.split_once('.')?;
        Some((Timestamp::from_millis(at.parse().ok()?), id.to_owned()))
    });
    let filter =
        AuditFilter { namespace: name, actor: text("actor"), action: text("action"), after, ..AuditFilter::default() };
    let form = export::form(&visit);
    let limit = if form.is_some() { EXPORTED } else { RECORDS };
    let mut found = visit.service().audits(&filter, limit + 1).await?;
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    if let Some(form) = form {
        return Ok(exported(form, &found));
    }
    let link = |after: Option<&Audit>| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for name in ["namespace", "actor", "action"] {
            text(name).map(|value| query.append_pair(name, &value));
        }
        after.map(|last| query.append_pair("after", &format!("{}.{}", last.at.millis(), last.id)));
        query.finish()
    };
    let page = Trail {
        frame: Frame::of(&visit, Part::Audit, "Audit trail"),
        records: found.iter().map(Record::of).collect(),
        actor: text("actor").unwrap_or_default(),
        action: text("action").unwrap_or_default(),
        actions: Deed::ALL.map(Deed::word).to_vec(),
        older: found.last().filter(|_| more).map(|last| link(Some(last))),
        export: link(None),
        namespace,
    };
    answer::shown(&page)
}

fn exported(form: Form, found: &[Audit]) -> axum::response::Response {
    let rows = found.iter().map(|audit| (audit, Record::of(audit)));
    match form {
        Form::Csv => {
            let head = ["time", "kind", "actor", "action", "namespace", "object", "reason", "request"];
            let row = |(audit, of): (&Audit, Record)| {
                let request = audit.by.request.clone().unwrap_or_default();
                let Record { actor, action, namespace, object, reason, kind, .. } = of;
                vec![audit.at.to_string(), kind.to_owned(), actor, action, namespace, object, reason, request]
            };
            export::csv("audit", &head, rows.map(row))
        }
        Form::Json => {
            let row = |(audit, of): (&Audit, Record)| {
                json!({
                    "time": audit.at.to_string(), "actorKind": of.kind, "actor": of.actor, "action": of.action,
                    "namespace": of.namespace, "object": audit.object, "reason": of.reason,
                    "requestId": audit.by.request.clone().unwrap_or_default(),
                })
            };
            export::json("audit", rows.map(row).collect())
        }
    }
}
