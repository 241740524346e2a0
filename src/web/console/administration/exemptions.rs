//! Exemptions of all namespaces, and what owners ask for.

use askama::Template;

use super::{Page, frame, pages};
use crate::domain::exemption::{Exempted, Requested, terms};
use crate::domain::name::Name;
use crate::terminal::one_line;
use crate::web::console::answer::{self, Answer};
use crate::web::console::frame::{Frame, When};
use crate::web::console::rows::{link, namespace_path, own_name};
use crate::web::console::visit::Visit;

#[derive(Template)]
#[template(path = "administration_exemptions.html")]
struct Exemptions {
    frame: Frame,
    pages: Vec<Page>,
    requests: Vec<Row>,
    exemptions: Vec<Row>,
}

struct Row {
    queue: String,
    own: String,
    /// Its page; `None` for a pattern.
    link: Option<String>,
    namespace: String,
    namespace_link: String,
    terms: String,
    reason: String,
    by: String,
    since: When,
    over: bool,
    grant: String,
    refuse: String,
}

pub(in crate::web::console) async fn exemptions(visit: Visit) -> Answer {
    let frame = frame(&visit, "Exemptions")?;
    let requests = visit.service().all_requests().await?;
    let exemptions = visit.service().all_exemptions().await?;
    let now = visit.now;
    let row = |name: &Name, of: &Exempted| Row {
        link: (!of.queue.contains('*')).then(|| link("/console/queue", &of.queue)),
        own: own_name(&of.queue),
        namespace: name.to_string(),
        namespace_link: namespace_path(name.as_str()),
        terms: terms(of.exemption, now),
        reason: of.reason.clone(),
        by: one_line(&of.by).into_owned(),
        since: When(of.since),
        over: of.exemption.until.is_some_and(|until| until <= now),
        grant: link("/console/administration/requests/grant", &of.queue),
        refuse: link("/console/administration/requests/refuse", &of.queue),
        queue: of.queue.clone(),
    };
    let asked = |(name, of): &(Name, Requested)| {
        let Requested { queue, exemption, reason, by, since, .. } = of.clone();
        row(name, &Exempted { queue, exemption, reason, by, since })
    };
    let exemptions = exemptions.iter().map(|(name, one)| row(name, one)).collect();
    let requests = requests.iter().map(asked).collect();
    answer::shown(&Exemptions { frame, pages: pages("/console/administration/exemptions"), requests, exemptions })
}
