//! The two pages around each act that destroys something: one that says what is lost and asks, and one that says what became of
//! it and stays to be read.

use askama::Template;
use axum::http::StatusCode;

use super::answer::{self, Answer};
use super::frame::{Frame, Part};
use super::visit::Visit;

/// The longest reason, in code points, as in the API.
pub(super) const LONGEST_REASON: usize = 500;

/// What is asked before something is destroyed.
pub(super) struct Question {
    pub part: Part,
    /// What is done to what.
    pub title: String,
    /// What is lost.
    pub losses: Vec<String>,
    /// What it is done to, where these are many.
    pub items: Vec<String>,
    /// What has to be typed; `None` where nothing is lost.
    pub typed: Option<String>,
    /// What the form holds besides.
    pub hidden: Vec<(&'static str, String)>,
    pub action: String,
    /// The act, in the words of the button.
    pub button: String,
    /// Whether a reason must be given.
    pub reason_needed: bool,
    /// Whether nothing is lost by it.
    pub harmless: bool,
    /// Where to go instead.
    pub back: String,
}

/// What is wrong with an answer to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wrong {
    pub typed: Option<String>,
    pub reason: Option<String>,
}

#[derive(Template)]
#[template(path = "confirm.html")]
struct Confirm {
    frame: Frame,
    question: Question,
    wrong: Wrong,
    given: String,
    reason: String,
}

/// A line of what became of something.
pub(super) struct Line {
    pub item: String,
    pub text: String,
    pub good: bool,
}

#[derive(Template)]
#[template(path = "done.html")]
struct Done {
    frame: Frame,
    lines: Vec<Line>,
    good: bool,
    links: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "done_part.html")]
struct Lines {
    lines: Vec<Line>,
}

/// What became of some of many things, for the script that has them done a few at a time.
pub(super) fn lines_of(visit: &Visit, lines: Vec<Line>) -> Answer {
    visit.service().outdate_overview();
    answer::part(&Lines { lines }, &Frame::plain(Part::None, ""))
}

impl Question {
    /// Whether the form that was sent answers it; else what is wrong.
    pub fn answered(&self, visit: &Visit) -> Option<Wrong> {
        let (given, reason) = (visit.form.text("typed"), visit.form.text("reason"));
        let typed = self.typed.as_ref().filter(|typed| typed.trim() != given).map(|_| {
            if given.is_empty() {
                "Type what is shown, and nothing was done until then."
            } else {
                "That is not what is shown. Nothing was done."
            }
            .to_owned()
        });
        let reason = match reason.chars().count() {
            0 if self.reason_needed => Some("Say why: it is in the audit trail for all owners.".to_owned()),
            1.. if reason.chars().count() > LONGEST_REASON => Some(format!("Use at most {LONGEST_REASON} characters.")),
            _ => None,
        };
        let wrong = Wrong { typed, reason };
        (wrong != Wrong::default()).then_some(wrong)
    }

    /// The page that asks.
    pub fn ask(self, visit: &Visit, wrong: Option<Wrong>) -> Answer {
        let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
        let frame = Frame::of(visit, self.part, self.title.clone());
        let (given, reason) = (visit.form.text("typed").to_owned(), visit.form.text("reason").to_owned());
        answer::page(status, &Confirm { frame, question: self, wrong: wrong.unwrap_or_default(), given, reason })
    }
}

/// The reason that was given, if one was.
pub(super) fn reason(visit: &Visit) -> Option<&str> {
    Some(visit.form.text("reason")).filter(|reason| !reason.is_empty())
}

/// The page that says what became of it.
pub(super) fn done(visit: &Visit, part: Part, title: &str, lines: Vec<Line>, links: Vec<(String, String)>) -> Answer {
    visit.service().outdate_overview();
    let good = lines.iter().all(|line| line.good);
    answer::shown(&Done { frame: Frame::of(visit, part, title), lines, good, links })
}
