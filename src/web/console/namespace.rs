//! One namespace: what it is, whose, what is in it, who is connected, and what was done to it.

use askama::Template;
use percent_encoding::percent_decode_str;

use super::answer::{self, Answer};
use super::audit::Record;
use super::choice::{ROWS, weight};
use super::exchanges;
use super::frame::{Frame, Part, When};
use super::rows::{QueueRow, namespace_path};
use super::trouble::Trouble;
use super::visit::{Last, Looked, Visit};
use crate::domain::account::{Account, Adopted, Schedule};
use crate::domain::audit::AuditFilter;
use crate::domain::barred::Disabled;
use crate::domain::exemption::{Exempted, terms};
use crate::domain::name::Name;
use crate::domain::namespace::Namespace;
use crate::domain::owner::Owner;
use crate::domain::rights::Right;
use crate::service::Glance;
use crate::store::Outline;
use crate::terminal::one_line;

/// So many records of the trail are shown here.
const RECORDS: u32 = 10;

#[derive(Template)]
#[template(path = "namespace.html")]
struct Page {
    frame: Frame,
    name: String,
    path: String,
    facts: Facts,
    table: Table,
    exchanges: Vec<exchanges::Row>,
    exchanges_known: bool,
    connections: Option<Vec<Connection>>,
    records: Option<Vec<Record>>,
    may_own: bool,
    administers: bool,
}

/// Its queues, which change.
#[derive(Template)]
#[template(path = "namespace_live.html")]
struct Table {
    rows: Vec<QueueRow>,
    of: usize,
    name: String,
}

/// What it is.
struct Facts {
    created: When,
    expires: Option<When>,
    contact: String,
    owners: Vec<String>,
    claimed_by: Option<String>,
    /// What kind of credentials it has.
    schedule: &'static str,
    on_demand: bool,
    adopted: bool,
    moved: bool,
    next_switch: Option<When>,
    used: Option<When>,
    disabled: Option<String>,
    revoking: bool,
    exemptions: Vec<(String, String)>,
}

struct Connection {
    name: String,
    user: String,
    address: String,
    /// What the program calls itself.
    program: String,
    since: Option<When>,
}

/// A part of the path, decoded.
pub(super) fn segment(visit: &Visit, at: usize) -> String {
    let part = visit.path.split('/').filter(|part| !part.is_empty()).nth(at).unwrap_or_default();
    percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// What kind of credentials it has.
fn schedule(of: Option<&Account>) -> &'static str {
    match of {
        Some(account) if account.adopted.as_ref().is_some_and(|adopted| adopted.moved.is_none()) => {
            "of a user that was made elsewhere"
        }
        Some(account) if account.schedule == Schedule::OnDemand => "on demand, for people",
        _ => "claimed by programs, and rotating",
    }
}

fn exemption(one: &Exempted) -> (String, String) {
    let why = format!("{}, by {}: {}", terms(one.exemption, one.since), one.by, one.reason);
    (one_line(&one.queue).into_owned(), why)
}

/// What it is, or was when it was known last.
async fn facts_of(visit: &Visit, name: &Name, last: Option<Last>, glance: &Glance) -> Result<Facts, Trouble> {
    if let Some(Last { outline, .. }) = last {
        return Ok(last_facts(&outline));
    }
    match visit.service().live_namespace(name).await {
        Ok(record) => Ok(facts(&record)),
        Err(error) if error.is_outage() => {
            let known = glance.overview.namespaces.get(name);
            known.map(|of| last_facts(&of.outline)).ok_or_else(|| Trouble::nothing_known(&error))
        }
        Err(error) => Err(error.into()),
    }
}

/// The same, as far as a list has it.
fn last_facts(Outline { summary, exemptions, claimed_by, disabled, account, .. }: &Outline) -> Facts {
    let account = account.as_ref();
    let adopted = account.and_then(|account| account.adopted.as_ref());
    Facts {
        created: When(summary.created),
        expires: adopted.is_none().then_some(When(summary.expires)),
        contact: summary.contact.clone(),
        owners: summary.owners.iter().map(Owner::to_string).collect(),
        claimed_by: claimed_by.clone(),
        schedule: schedule(account),
        on_demand: account.is_some_and(|account| account.schedule == Schedule::OnDemand),
        adopted: adopted.is_some(),
        moved: adopted.is_some_and(|Adopted { moved, .. }| moved.is_some()),
        next_switch: None,
        used: account.map(|account| When(account.used)),
        disabled: disabled.then(|| "(why is not known now)".to_owned()),
        revoking: false,
        exemptions: exemptions.iter().map(exemption).collect(),
    }
}

fn facts(of: &Namespace) -> Facts {
    let adopted = of.adopted();
    let disabled = |Disabled { since, by, reason }: &Disabled| format!("since {since}, by {by}: {reason}");
    Facts {
        created: When(of.created),
        expires: adopted.is_none().then_some(When(of.expires)),
        contact: of.contact.clone(),
        owners: of.owners.iter().map(Owner::to_string).collect(),
        claimed_by: of.claimed_by.clone(),
        schedule: schedule(of.account.as_deref()),
        on_demand: of.is_on_demand(),
        adopted: adopted.is_some(),
        moved: adopted.is_some_and(|Adopted { moved, .. }| moved.is_some()),
        next_switch: (of.account.is_none() && of.rotation.active.is_some()).then_some(When(of.rotation.due)),
        used: of.account.as_ref().map(|account| When(account.used)),
        disabled: of.barred.disabled.as_deref().map(disabled),
        revoking: of.barred.is_pending(),
        exemptions: of.exemptions.iter().map(exemption).collect(),
    }
}

pub(super) async fn namespace(visit: Visit) -> Answer {
    let Looked { summary: found, last } = visit.look_at(&segment(&visit, 1), Right::See).await?;
    let (name, service) = (&found.name, visit.service());
    let glance = service.overview().await?;
    let thresholds = visit.app.settings.console.guard.thresholds;
    let mut queues: Vec<_> =
        glance.overview.namespaces.get(name).map(|of| of.queues.iter().collect()).unwrap_or_default();
    let of = queues.len();
    queues.sort_by_key(|listed| std::cmp::Reverse(weight(&listed.shown)));
    queues.truncate(ROWS);
    let row = |listed| QueueRow::of(listed, name.as_str(), thresholds, glance.overview.at);
    let rows = queues.into_iter().map(row).collect();
    let manage = visit.may(Right::Manage, &found);
    let table = Table { rows, of, name: name.to_string() };
    let frame = Frame::of(&visit, Part::Namespaces, name.as_str()).showing(&glance);
    let frame = match &last {
        Some(last) => frame.showing_last(last.at, &last.why),
        None => frame,
    };
    if visit.live {
        return answer::part(&table, &frame);
    }
    let filter = AuditFilter { namespace: Some(name.clone()), ..AuditFilter::default() };
    let audits =
        async { if visit.may(Right::Audit, &found) { service.audits(&filter, RECORDS).await.ok() } else { None } };
    let (facts, exchanges, connections, audits) = tokio::join!(
        facts_of(&visit, name, last, &glance),
        service.exchanges_of(std::slice::from_ref(name)),
        service.connected(name),
        audits
    );
    let facts = facts?;
    let connection = |of: &crate::domain::inventory::BrokerConnection| Connection {
        name: one_line(&of.name).into_owned(),
        user: of.user.clone(),
        address: of.address.clone(),
        program: one_line(&of.program).into_owned(),
        since: of.connected.map(When),
    };
    let exchanges_known = exchanges.is_ok();
    let exchanges = exchanges.map(|all| all.found).unwrap_or_default();
    let exchanges = exchanges.iter().take(ROWS).map(|(_, one)| exchanges::Row::of(one, name, manage));
    answer::shown(&Page {
        name: name.to_string(),
        path: namespace_path(name.as_str()),
        facts,
        exchanges: exchanges.collect(),
        exchanges_known,
        connections: connections.ok().map(|all| all.iter().map(connection).collect()),
        records: audits.map(|all| all.iter().map(Record::of).collect()),
        may_own: visit.may(Right::Own, &found),
        administers: visit.may(Right::Administer, &found),
        table,
        frame,
    })
}
