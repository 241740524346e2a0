//! The audit trail: rows that are added and, once they are old, removed; never changed. Those of a change are stored by
//! [`Records`](crate::store::Records), with the change.

use async_trait::async_trait;

use crate::clock::Timestamp;
use crate::domain::audit::{Actor, Audit, AuditFilter, By};
use crate::domain::name::Name;
use crate::store::error::StoreError;
use crate::store::table::{Foreign, Row, Table as _, table};

/// The audit trail of the service.
#[async_trait]
pub trait Audits: Send + Sync {
    /// Adds records of what changed nothing in the store. One whose id is stored already is not stored again.
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError>;

    /// At most `limit` of the records that `filter` lets through, the newest first, in the order of their times and ids.
    async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, StoreError>;

    /// Forgets at most `most` of the records from before this time, the oldest first. How many it forgot.
    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError>;
}

table! {
    /// A record of the trail as it is stored.
    AuditRow in "audit" {
        id: String,
        at: i64,
        actor_kind: String,
        actor: Foreign,
        request: Option<String>,
        action: String,
        namespace: Option<String>,
        object: Foreign,
        reason: Foreign,
    }
}

impl From<&Audit> for AuditRow {
    fn from(audit: &Audit) -> AuditRow {
        let Audit { id, at, by, action, namespace, object, reason } = audit;
        let (kind, actor) = by.actor.parts();
        AuditRow {
            id: id.clone(),
            at: at.millis(),
            actor_kind: kind.to_owned(),
            actor: actor.into(),
            request: by.request.clone(),
            action: action.clone(),
            namespace: namespace.as_ref().map(|name| name.as_str().to_owned()),
            object: Foreign(object.clone()),
            reason: Foreign(reason.clone()),
        }
    }
}

/// Reads the columns of an [`AuditRow`].
pub(super) fn audit(row: &impl Row) -> Result<Audit, StoreError> {
    let AuditRow { id, at, actor_kind, actor, request, action, namespace, object, reason } = AuditRow::read(row, 0)?;
    let actor = Actor::from_parts(&actor_kind, actor.0)
        .ok_or_else(|| StoreError::Failed(format!("the audit trail has no actor of the kind {actor_kind:?}")))?;
    Ok(Audit {
        id,
        at: Timestamp::from_millis(at),
        by: By { actor, request },
        action,
        namespace: namespace.map(Name::from_stored),
        object: object.0,
        reason: reason.0,
    })
}

/// A value that a query of the trail compares with.
pub(super) enum Given {
    Text(String),
    Number(i64),
}

/// The query for `filter`, and its values in order. Only what is given is compared, so that an index fits each filter.
pub(super) fn query(filter: &AuditFilter, limit: u32) -> (String, Vec<Given>) {
    let AuditFilter { namespace, actor, action, from, to, after } = filter;
    let (mut conditions, mut values) = (Vec::new(), Vec::new());
    let mut add = |condition: &str, given: Vec<Given>| {
        let mut condition = condition.to_owned();
        for value in given {
            values.push(value);
            condition = condition.replacen('?', &format!("${}", values.len()), 1);
        }
        conditions.push(condition);
    };
    let text = |text: &str| vec![Given::Text(text.to_owned())];
    if let Some(name) = namespace {
        add("namespace = ?", text(name.as_str()));
    }
    if let Some(actor) = actor {
        add("actor = ?", text(actor));
    }
    if let Some(action) = action {
        add("action = ?", text(action));
    }
    if let Some(from) = from {
        add("at >= ?", vec![Given::Number(from.millis())]);
    }
    if let Some(to) = to {
        add("at < ?", vec![Given::Number(to.millis())]);
    }
    if let Some((at, id)) = after {
        add("(at, id) < (?, ?)", vec![Given::Number(at.millis()), Given::Text(id.clone())]);
    }
    let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
    values.push(Given::Number(limit.into()));
    let rest = format!("WHERE {conditions} ORDER BY at DESC, id DESC LIMIT ${}", values.len());
    (AuditRow::select(&rest), values)
}
