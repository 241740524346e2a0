//! What else is done to a namespace: its end is put off; an administrator disables and enables it; the user that an account was made of is
//! ended.

use askama::Template;
use axum::http::StatusCode;

use super::answer::{self, Answer};
use super::confirm::{Line, Question, done};
use super::exempt::last_day;
use super::frame::{Frame, Part, When};
use super::namespace::segment;
use super::rows::namespace_path;
use super::trouble::Trouble;
use super::visit::Visit;
use crate::domain::rights::Right;
use crate::service::{Ended, ServiceError};
use crate::store::Summary;

#[derive(Template)]
#[template(path = "extend.html")]
struct Extend {
    frame: Frame,
    name: String,
    path: String,
    expires: When,
    until: String,
    wrong: Option<String>,
}

fn extend_page(visit: &Visit, of: &Summary, wrong: Option<String>) -> Answer {
    let status = if wrong.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let name = of.name.to_string();
    let frame = Frame::of(visit, Part::Namespaces, format!("Extend {name}"));
    let (path, until) = (namespace_path(&name), visit.form.text("until").to_owned());
    answer::page(status, &Extend { frame, name, path, expires: When(of.expires), until, wrong })
}

pub(super) async fn ask_extend(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    extend_page(&visit, &found, None)
}

pub(super) async fn extend(visit: Visit) -> Answer {
    let found = visit.namespace(&segment(&visit, 1), Right::Own).await?;
    let until = match last_day(visit.form.text("until")) {
        Ok(Some(until)) => until,
        Ok(None) => return extend_page(&visit, &found, Some("Name the last day.".to_owned())),
        Err(wrong) => return extend_page(&visit, &found, Some(wrong)),
    };
    let by = visit.by();
    match visit.service().extend(&found.name, until, &by).await {
        Ok(until) => {
            finished(&visit, "Extended", &found, &format!("it ends at {until}, unless it is claimed for longer"))
        }
        Err(error @ ServiceError::BadEnd(_)) => extend_page(&visit, &found, Some(Trouble::from(error).text)),
        Err(error) => Err(error.into()),
    }
}

/// What is done to a namespace after it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Disable,
    Enable,
    Retire,
}

fn question(of: &Summary, act: Act) -> Question {
    let name = of.name.to_string();
    let (title, losses, word, button) = match act {
        Act::Disable => (
            format!("Disable {name}"),
            vec![
                "Its passwords are replaced now, all of its connections are closed, and nobody can claim it.".to_owned(),
                "Its queues, exchanges and messages stay, and it does not expire.".to_owned(),
                "Whoever claims it is told why.".to_owned(),
            ],
            "disable",
            "Disable namespace",
        ),
        Act::Enable => (
            format!("Enable {name}"),
            vec!["It can be claimed again, and lives for four hours more at least.".to_owned()],
            "enable",
            "Enable namespace",
        ),
        Act::Retire => (
            format!("Retire the user {name}"),
            vec![
                "RabbitMQ's user of that name, which the account was made of, is deleted, and its connections are closed.".to_owned(),
                "Credentials of the account's own go on working; its queues and exchanges stay.".to_owned(),
            ],
            "retire",
            "Retire user",
        ),
    };
    let path = namespace_path(&name);
    Question {
        part: Part::Namespaces,
        title,
        losses,
        items: Vec::new(),
        typed: (act != Act::Enable).then_some(name),
        hidden: Vec::new(),
        action: format!("{path}/{word}"),
        button: button.to_owned(),
        reason_needed: act != Act::Retire,
        harmless: act == Act::Enable,
        back: path,
    }
}

/// The namespace that the path names, and what is asked of it.
async fn asked(visit: &Visit, act: Act) -> Result<(Summary, Question), Trouble> {
    let right = if act == Act::Retire { Right::Own } else { Right::Administer };
    let found = visit.namespace(&segment(visit, 1), right).await?;
    let asked = question(&found, act);
    Ok((found, asked))
}

async fn ask(visit: Visit, act: Act) -> Answer {
    let (_, asked) = asked(&visit, act).await?;
    asked.ask(&visit, None)
}

pub(super) async fn ask_disable(visit: Visit) -> Answer {
    ask(visit, Act::Disable).await
}

pub(super) async fn ask_enable(visit: Visit) -> Answer {
    ask(visit, Act::Enable).await
}

pub(super) async fn ask_retire(visit: Visit) -> Answer {
    ask(visit, Act::Retire).await
}

async fn act(visit: Visit, act: Act) -> Answer {
    let (found, asked) = asked(&visit, act).await?;
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (by, reason, service) = (visit.by(), visit.form.text("reason").to_owned(), visit.service());
    let (title, text) = match act {
        Act::Disable => {
            let ended = service.disable(&found.name, &reason, &by).await?;
            (
                "Disabled",
                told(ended, "its credentials are refused, its connections are closed, and nobody can claim it"),
            )
        }
        Act::Enable => ("Enabled", told(service.enable(&found.name, &reason, &by).await?, "it can be claimed again")),
        Act::Retire => match service.retire(&found.name, &by).await? {
            true => ("Retired", "its user is deleted".to_owned()),
            false => ("Retired", "its user is deleted as soon as RabbitMQ answers".to_owned()),
        },
    };
    finished(&visit, title, &found, &text)
}

fn told(ended: Ended, done: &str) -> String {
    match ended {
        Ended::Done => done.to_owned(),
        Ended::Pending(why) => format!("it is stored, and carried out as soon as possible ({why})"),
    }
}

pub(super) async fn disable(visit: Visit) -> Answer {
    act(visit, Act::Disable).await
}

pub(super) async fn enable(visit: Visit) -> Answer {
    act(visit, Act::Enable).await
}

pub(super) async fn retire(visit: Visit) -> Answer {
    act(visit, Act::Retire).await
}

fn finished(visit: &Visit, title: &str, of: &Summary, text: &str) -> Answer {
    let lines = vec![Line { item: of.name.to_string(), text: text.to_owned(), good: true }];
    done(visit, Part::Namespaces, title, lines, vec![(namespace_path(of.name.as_str()), "To the namespace".to_owned())])
}
