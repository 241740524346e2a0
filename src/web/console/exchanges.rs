//! The exchanges of all namespaces that somebody may see into.

use std::collections::HashMap;
use std::sync::Arc;

use askama::Template;

use super::answer::{self, Answer};
use super::choice::page_of;
use super::export::{self, Form};
use super::frame::{Frame, Part};
use super::rows::{inspect_path, link, namespace_path, own_name, visible};
use super::visit::Visit;
use crate::domain::inventory::BrokerExchange;
use crate::domain::name::Name;
use crate::domain::rights::Right;
use crate::service;
use crate::web::api::queues::shown_exchange;

#[derive(Template)]
#[template(path = "exchanges.html")]
struct Exchanges {
    frame: Frame,
    search: String,
    table: Table,
    export: String,
}

#[derive(Template)]
#[template(path = "exchanges_live.html")]
struct Table {
    rows: Vec<Row>,
    shown: usize,
    of: usize,
    page: usize,
    pages: usize,
    before: Option<String>,
    after: Option<String>,
}

/// An exchange as a row.
pub(super) struct Row {
    pub name: String,
    pub own: String,
    pub namespace: String,
    pub namespace_link: String,
    pub kind: String,
    pub traits: String,
    /// Its page.
    pub link: String,
    /// Where its messages are seen.
    pub inspect: String,
    /// Where it is deleted, for who may.
    pub delete: Option<String>,
}

impl Row {
    pub fn of(exchange: &BrokerExchange, owner: &Name, may_delete: bool) -> Row {
        let BrokerExchange { name, kind, durable, auto_delete, internal } = exchange;
        let traits =
            [(*durable, "durable"), (!*durable, "transient"), (*auto_delete, "auto-delete"), (*internal, "internal")];
        let traits: Vec<_> = traits.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
        Row {
            name: name.clone(),
            own: own_name(name),
            namespace: owner.to_string(),
            namespace_link: namespace_path(owner.as_str()),
            kind: kind.clone(),
            traits: traits.join(", "),
            link: link("/console/exchange", name),
            inspect: inspect_path(name),
            delete: may_delete.then(|| link("/console/exchange/delete", name)),
        }
    }
}

pub(super) async fn exchanges(visit: Visit) -> Answer {
    let glance = visit.service().overview().await?;
    let search = visit.query.text("q").to_owned();
    let seen = visible(&visit, &glance.overview, false);
    let names: Vec<_> = seen.iter().map(|of| of.outline.summary.name.clone()).collect();
    let manages: HashMap<_, _> =
        seen.iter().map(|of| (&of.outline.summary.name, visit.may(Right::Manage, &of.outline.summary))).collect();
    let service::Exchanges { found, last } = visit.service().exchanges_of(&names).await.map_err(Arc::new)?;
    let (of, wanted) = (found.len(), search.to_lowercase());
    let found: Vec<_> = found.into_iter().filter(|(_, one)| one.name.to_lowercase().contains(&wanted)).collect();
    match export::form(&visit) {
        Some(Form::Json) => {
            return Ok(export::json("exchanges", found.iter().map(|(_, one)| shown_exchange(one)).collect()));
        }
        Some(Form::Csv) => {
            let row = |(owner, one): &(Name, BrokerExchange)| {
                let Row { name, namespace, kind, traits, .. } = Row::of(one, owner, false);
                vec![name, namespace, kind, traits]
            };
            return Ok(export::csv("exchanges", &["exchange", "namespace", "kind", "traits"], found.iter().map(row)));
        }
        None => {}
    }
    let shown = found.len();
    let (found, page, pages) = page_of(found, visit.query.text("page").parse().unwrap_or(1).max(1));
    let query = |page: Option<usize>| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        if !search.is_empty() {
            query.append_pair("q", &search);
        }
        page.map(|page| query.append_pair("page", &page.to_string()).finish()).unwrap_or_else(|| query.finish())
    };
    let row = |(owner, one): &(Name, BrokerExchange)| Row::of(one, owner, manages.get(owner).copied().unwrap_or(false));
    let table = Table {
        rows: found.iter().map(row).collect(),
        shown,
        of,
        page,
        pages,
        before: (page > 1).then(|| format!("?{}", query(Some(page - 1)))),
        after: (page < pages).then(|| format!("?{}", query(Some(page + 1)))),
    };
    let frame = Frame::of(&visit, Part::Exchanges, "Exchanges").showing(&glance);
    let frame = match last {
        Some((at, why)) => frame.showing_last(at, &why),
        None => frame,
    };
    if visit.live {
        return answer::part(&table, &frame);
    }
    let export = query(None);
    answer::shown(&Exchanges { frame, search, table, export })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_an_exchange_is_in_words() {
        let exchange = BrokerExchange {
            name: "exchange/taskcluster-x/events".to_owned(),
            kind: "topic".to_owned(),
            durable: true,
            auto_delete: false,
            internal: true,
        };
        let row = Row::of(&exchange, &Name::from_stored("taskcluster-x".to_owned()), true);
        assert_eq!((row.own.as_str(), row.traits.as_str()), ("events", "durable, internal"));
        assert_eq!(row.delete.as_deref(), Some("/console/exchange/delete?name=exchange%2Ftaskcluster-x%2Fevents"));
        assert_eq!(shown_exchange(&exchange)["kind"], "topic");
    }
}
