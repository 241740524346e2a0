//! What is around the content of each page, and how times and numbers stand on pages.

use std::fmt;

use askama::filters::HtmlSafe;

use super::assets::Paths;
use super::visit::Visit;
use crate::clock::Timestamp;
use crate::domain::rights::Right;
use crate::domain::words;
use crate::service::{Glance, ServiceError};

/// A moment: in UTC, and by the script in the reader's zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When(pub Timestamp);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.to_string();
        let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
        write!(f, "<time datetime=\"{text}\">{date} {time} UTC</time>")
    }
}

impl HtmlSafe for When {}

/// A number as people read it.
pub(super) fn told(of: Option<u64>) -> String {
    of.map_or_else(|| "–".to_owned(), words::number)
}

/// Whether a queue in this state needs somebody.
pub(super) fn is_trouble(state: &str) -> bool {
    matches!(state, "slow" | "stalled" | "stopped" | "no consumer" | "looping" | "hoarding")
}

/// A part of the console that the head of each page leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Namespaces,
    Queues,
    Exchanges,
    Inspector,
    Administration,
    Audit,
    Status,
    None,
}

/// A link at the head of a page.
pub(super) struct Tab {
    pub path: &'static str,
    pub name: &'static str,
    pub current: bool,
}

/// What is around the content of a page.
pub(super) struct Frame {
    pub title: String,
    pub tabs: Vec<Tab>,
    pub assets: Paths,
    /// Who is signed in.
    pub person: Option<String>,
    /// Whether nobody can sign in.
    pub closed: bool,
    /// Why what is shown is old.
    pub banner: Option<String>,
    /// As of when it is.
    pub as_of: Option<When>,
    /// When the page is made.
    pub now: Option<Timestamp>,
    pub version: &'static str,
}

impl Frame {
    /// Of a page for whoever visits.
    pub fn of(visit: &Visit, part: Part, title: impl Into<String>) -> Frame {
        let person = visit.session.as_ref().map(|(_, session)| session.person.name().to_owned());
        let (audit, administer) = (visit.may_all(Right::Audit), visit.may_all(Right::Administer));
        let (closed, now) = (visit.people().is_closed(), Some(visit.now));
        Frame { person, closed, now, ..Frame::showing_parts(part, title, audit, administer) }
    }

    /// Of a page for anybody.
    pub fn plain(part: Part, title: impl Into<String>) -> Frame {
        Frame::showing_parts(part, title, false, false)
    }

    fn showing_parts(part: Part, title: impl Into<String>, audit: bool, administer: bool) -> Frame {
        let all = [
            (Part::Namespaces, "/console/namespaces", "Namespaces"),
            (Part::Queues, "/console/queues", "Queues"),
            (Part::Exchanges, "/console/exchanges", "Exchanges"),
            (Part::Inspector, "/console/inspector", "Inspector"),
            (Part::Administration, "/console/administration", "Administration"),
            (Part::Audit, "/console/audit", "Audit trail"),
            (Part::Status, "/console/status", "Status"),
        ];
        let shown = all.into_iter().filter(|(of, ..)| match of {
            Part::Audit => audit,
            Part::Administration => administer,
            _ => true,
        });
        Frame {
            title: title.into(),
            tabs: shown.map(|(of, path, name)| Tab { path, name, current: of == part }).collect(),
            assets: Paths::new(),
            person: None,
            closed: false,
            banner: None,
            as_of: None,
            now: None,
            version: env!("CARGO_PKG_VERSION"),
        }
    }

    /// As of a picture, with what is the matter with that.
    pub fn showing(self, glance: &Glance) -> Frame {
        match &glance.problem {
            Some(why) => self.showing_last(glance.overview.at, why),
            None => Frame { as_of: Some(When(glance.overview.at)), ..self },
        }
    }

    /// How old what is shown is, in milliseconds: the clock of who looks may be another one.
    pub fn age(&self) -> i64 {
        let age = self.as_of.zip(self.now).map(|(as_of, now)| now.millis() - as_of.0.millis());
        age.unwrap_or(0).max(0)
    }

    /// As of a moment ago, because nothing newer is to be had.
    pub fn showing_last(self, at: Timestamp, why: &ServiceError) -> Frame {
        let banner = format!("{} What is shown is the last that is known.", super::trouble::out_of_order(why));
        Frame { banner: Some(banner), as_of: Some(When(at)), ..self }
    }
}
