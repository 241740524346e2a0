//! What only administrators see: what waits for them at a glance, and a page for each kind of thing.
//!
//! `people`: who is signed in, and who may not; `things`: namespaces without owners, and accounts; `unknown`: what nobody accounts for; `exemptions`; `notices`: what nobody
//! got; `tasks`: how they went, what they would do, and one run with more.

pub(super) mod exemptions;
pub(super) mod notices;
pub(super) mod people;
pub(super) mod tasks;
pub(super) mod things;
pub(super) mod unknown;

use askama::Template;

use super::answer::{self, Answer};
use super::frame::{Frame, Part, told};
use super::trouble::Trouble;
use super::visit::Visit;
use crate::domain::rights::Right;

/// So many things are counted and shown; of more there is a note.
pub(super) const SHOWN: u32 = 200;

/// The pages, as the head of each leads to them.
const PAGES: [(&str, &str); 6] = [
    ("/console/administration", "At a glance"),
    ("/console/administration/exemptions", "Exemptions"),
    ("/console/administration/things", "Namespaces and users"),
    ("/console/administration/people", "People"),
    ("/console/administration/tasks", "Tasks"),
    ("/console/administration/notices", "Undelivered"),
];

/// A link to one of the pages.
pub(super) struct Page {
    pub path: &'static str,
    pub name: &'static str,
    pub current: bool,
}

/// The links, as they stand on the page at this path.
fn pages(at: &str) -> Vec<Page> {
    PAGES.iter().map(|(path, name)| Page { path, name, current: *path == at }).collect()
}

/// The frame of a page here; for administrators alone.
fn frame(visit: &Visit, title: &str) -> Result<Frame, Trouble> {
    visit.require_all(Right::Administer)?;
    Ok(Frame::of(visit, Part::Administration, title))
}

#[derive(Template)]
#[template(path = "administration.html")]
struct Glance {
    frame: Frame,
    pages: Vec<Page>,
    /// What waits: how many, of what, whether somebody should look, and where.
    waits: Vec<Wait>,
    version: Option<String>,
    /// Deprecated features that the broker says are used; `None` where it does not tell.
    deprecated: Option<Vec<String>>,
    warnings: Vec<String>,
    unread: bool,
}

struct Wait {
    count: String,
    what: &'static str,
    path: &'static str,
    bad: bool,
}

pub(super) async fn glance(visit: Visit) -> Answer {
    let frame = frame(&visit, "Administration")?;
    let service = visit.service();
    let (seen, requests, unowned, undelivered, runs, release) = tokio::join!(
        service.overview(),
        service.all_requests(),
        service.unowned(None, SHOWN),
        service.undelivered(SHOWN),
        service.runs(),
        service.broker_release()
    );
    let disabled =
        seen.as_ref().map(|seen| seen.overview.namespaces.values().filter(|of| of.outline.disabled).count() as u64);
    let wait =
        |count: Option<u64>, what, path| Wait { count: told(count), what, path, bad: count.is_some_and(|n| n > 0) };
    let refused = runs.as_ref().map(|runs| runs.iter().map(|run| run.refused).sum::<u64>());
    let failed = runs.as_ref().map(|runs| runs.iter().filter(|run| !run.good).count() as u64);
    let things = "/console/administration/things";
    let length = |of: usize| of as u64;
    let waits = vec![
        wait(
            requests.as_ref().ok().map(|of| length(of.len())),
            "requests for exemptions",
            "/console/administration/exemptions",
        ),
        wait(unowned.as_ref().ok().map(|of| length(of.len())), "namespaces without owners", things),
        wait(disabled.ok(), "namespaces disabled", things),
        wait(refused.ok(), "removals refused by a brake", "/console/administration/tasks"),
        wait(failed.ok(), "tasks that failed", "/console/administration/tasks"),
        wait(
            undelivered.as_ref().ok().map(|of| length(of.len())),
            "messages that nobody got",
            "/console/administration/notices",
        ),
    ];
    let frame = match &seen {
        Ok(seen) => frame.showing(seen),
        Err(_) => frame,
    };
    let unread = release.is_err();
    let (version, deprecated, warnings) = match release {
        Ok((release, warnings)) => {
            let tells = release.tells_deprecated();
            (Some(release.version), tells.then_some(release.deprecated), warnings)
        }
        Err(_) => (None, None, Vec::new()),
    };
    let pages = pages("/console/administration");
    answer::shown(&Glance { frame, pages, waits, version, deprecated, warnings, unread })
}
