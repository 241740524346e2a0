//! Messages that nobody got, with why.

use askama::Template;

use super::{Page, SHOWN, frame, pages};
use crate::domain::notice::Undelivered;
use crate::web::console::answer::{self, Answer};
use crate::web::console::frame::{Frame, When};
use crate::web::console::rows::namespace_path;
use crate::web::console::visit::Visit;

#[derive(Template)]
#[template(path = "administration_notices.html")]
struct Notices {
    frame: Frame,
    pages: Vec<Page>,
    rows: Vec<Row>,
    most: bool,
}

struct Row {
    at: When,
    to: String,
    namespace: String,
    namespace_link: String,
    subject: String,
    text: String,
    why: String,
}

pub(in crate::web::console) async fn notices(visit: Visit) -> Answer {
    let frame = frame(&visit, "Undelivered messages")?;
    let found = visit.service().undelivered(SHOWN).await?;
    let row = |of: &Undelivered| Row {
        at: When(of.given_up),
        to: of.notice.to.clone(),
        namespace: of.notice.namespace.to_string(),
        namespace_link: namespace_path(of.notice.namespace.as_str()),
        subject: of.notice.subject.clone(),
        text: of.notice.text.clone(),
        why: of.why.clone(),
    };
    let most = found.len() == SHOWN as usize;
    let rows = found.iter().map(row).collect();
    answer::shown(&Notices { frame, pages: pages("/console/administration/notices"), rows, most })
}
