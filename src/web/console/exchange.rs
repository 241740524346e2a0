//! One exchange: what is bound to it, and who publishes to it.

use std::sync::Arc;

use askama::Template;

use super::answer::{self, Answer};
use super::exchanges::Row;
use super::frame::{Frame, Part, told};
use super::rows::{link, own_name};
use super::trouble::Trouble;
use super::visit::{Last, Looked, Visit};
use crate::domain::inventory::{Bound, Publisher};
use crate::domain::name::{Name, named_by_exchange, named_by_queue};
use crate::domain::rights::Right;
use crate::domain::words::number;
use crate::service::{ExchangeView, LastKnown};
use crate::terminal::one_line;

/// So many bindings and publishers are shown.
const MOST: usize = 200;

#[derive(Template)]
#[template(path = "exchange.html")]
struct Exchange {
    frame: Frame,
    /// Whether all of what follows is known, and not only what a list has.
    whole: bool,
    row: Row,
    /// How many messages were published to it.
    published: String,
    exact: bool,
    publishers: Vec<Shown>,
    bound: Vec<BoundRow>,
    more: usize,
}

/// A publisher as it is shown.
struct Shown {
    connection: String,
    user: String,
    address: String,
    messages: String,
}

struct BoundRow {
    kind: String,
    name: String,
    /// Its page, where the person may see it.
    link: Option<String>,
    key: String,
}

pub(super) async fn exchange(visit: Visit) -> Answer {
    let name = visit.query.all("name").next().unwrap_or_default().to_owned();
    let Looked { summary: owner, last } = visit.look_at_owner(named_by_exchange(&name), &name, Right::See).await?;
    let (LastKnown { view, whole, .. }, frame) = look(&visit, &owner.name, &name, last).await?;
    let ExchangeView { exchange: found, detail, exact } = view;
    // Somebody else's queues are seen by their names alone: whoever is bound to an exchange is known to who owns it.
    let theirs = |of: &Bound| named_by_queue(&of.name).as_ref() == Some(&owner.name) || visit.may_all(Right::See);
    let bound = |of: &Bound| BoundRow {
        link: (of.kind == "queue" && theirs(of)).then(|| link("/console/queue", &of.name)),
        name: one_line(&of.name).into_owned(),
        key: one_line(&of.routing_key).into_owned(),
        kind: of.kind.clone(),
    };
    let publisher = |of: &Publisher| Shown {
        connection: one_line(&of.connection).into_owned(),
        user: one_line(&of.user).into_owned(),
        address: of.address.clone(),
        messages: number(of.messages),
    };
    let page = Exchange {
        frame,
        whole,
        row: Row::of(&found, &owner.name, visit.may(Right::Manage, &owner)),
        published: told(detail.published),
        exact,
        publishers: detail.publishers.iter().take(MOST).map(publisher).collect(),
        bound: detail.bound.iter().take(MOST).map(bound).collect(),
        more: detail.bound.len().saturating_sub(MOST),
    };
    answer::shown(&page)
}

/// The exchange as it is now or was known last, and what is around its page.
async fn look(
    visit: &Visit,
    owner: &Name,
    exchange: &str,
    last: Option<Last>,
) -> Result<(LastKnown<ExchangeView>, Frame), Trouble> {
    let frame = Frame::of(visit, Part::Exchanges, own_name(exchange));
    let looked = match last {
        Some(Last { why, .. }) => Err(why),
        None => visit.service().exchange(owner, exchange).await.map_err(Arc::new),
    };
    match looked {
        Ok(view) => Ok((LastKnown { at: visit.now, view, whole: true }, frame)),
        Err(why) if why.is_outage() => {
            let known = visit.service().last_known_exchange(owner, exchange);
            let known = known.ok_or_else(|| Trouble::nothing_known(&why))?;
            let frame = frame.showing_last(known.at, &why);
            Ok((known, frame))
        }
        Err(why) => Err(Trouble::of_shared(why)),
    }
}
