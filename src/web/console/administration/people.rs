//! People: who is signed in, and who may not sign in.

use askama::Template;

use super::{Page, frame, pages};
use crate::domain::rights::Right;
use crate::service::{Known, ServiceError};
use crate::web::console::answer::{self, Answer};
use crate::web::console::confirm::{Line, Question, done};
use crate::web::console::frame::{Frame, Part, When};
use crate::web::console::rows::with;
use crate::web::console::trouble::Trouble;
use crate::web::console::visit::Visit;

const PATH: &str = "/console/administration/people";

#[derive(Template)]
#[template(path = "administration_people.html")]
struct People {
    frame: Frame,
    pages: Vec<Page>,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    subject: String,
    groups: String,
    administers: bool,
    sessions: usize,
    seen: Option<When>,
    barred: Option<String>,
    own: bool,
    /// Where the person is kept from signing in.
    disable: String,
}

pub(in crate::web::console) async fn people(visit: Visit) -> Answer {
    let frame = frame(&visit, "People")?;
    let known = visit.service().people().await?;
    let own = visit.session.as_ref().map(|(_, session)| session.person.subject.clone());
    let administers =
        |of: &Known| of.sessions.first().is_some_and(|session| visit.people().subject(&session.person).administrator);
    let row = |of: &Known| Row {
        name: of.name.clone(),
        groups: of.sessions.first().map(|session| session.person.groups.join(", ")).unwrap_or_default(),
        administers: administers(of),
        sessions: of.sessions.len(),
        seen: of.sessions.first().map(|session| When(session.seen)),
        barred: of.barred.as_ref().map(|of| format!("since {}, by {}: {}", of.since, of.by, of.reason)),
        own: own.as_ref() == Some(&of.subject),
        disable: with(&format!("{PATH}/disable"), "subject", &of.subject),
        subject: of.subject.clone(),
    };
    answer::shown(&People { frame, pages: pages(PATH), rows: known.iter().map(row).collect() })
}

/// The person that a form or an address names.
async fn named(visit: &Visit) -> Result<Known, Trouble> {
    visit.require_all(Right::Administer)?;
    let given = visit.form.all("subject").next().or_else(|| visit.query.all("subject").next());
    visit.service().person(given.unwrap_or_default()).await.map_err(|error| match error {
        ServiceError::Missing(..) => Trouble::missing("Nobody of that kind is signed in, or kept from it."),
        error => error.into(),
    })
}

fn finished(visit: &Visit, title: &str, of: &Known, text: &str) -> Answer {
    let lines = vec![Line { item: of.name.clone(), text: text.to_owned(), good: true }];
    done(visit, Part::Administration, title, lines, vec![(PATH.to_owned(), "To the people".to_owned())])
}

pub(in crate::web::console) async fn sign_out(visit: Visit) -> Answer {
    let (found, by) = (named(&visit).await?, visit.by());
    let ended = visit.service().sign_out_person(&found.subject, &by).await?;
    finished(&visit, "Signed out", &found, &format!("is signed out: {ended} sessions have ended"))
}

fn question(of: &Known) -> Question {
    Question {
        part: Part::Administration,
        title: format!("Keep {} from signing in", of.name),
        losses: vec![
            "All sessions of this person end now, and nobody signs in as this person any more.".to_owned(),
            "Namespaces, queues and credentials stay as they are: what programs do is not touched.".to_owned(),
        ],
        items: Vec::new(),
        typed: None,
        hidden: vec![("subject", of.subject.clone())],
        action: format!("{PATH}/disable"),
        button: "Keep from signing in".to_owned(),
        reason_needed: true,
        harmless: false,
        back: PATH.to_owned(),
    }
}

pub(in crate::web::console) async fn ask_disable(visit: Visit) -> Answer {
    let found = named(&visit).await?;
    question(&found).ask(&visit, None)
}

pub(in crate::web::console) async fn disable(visit: Visit) -> Answer {
    let found = named(&visit).await?;
    let asked = question(&found);
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (_, own) = visit.session.as_ref().ok_or_else(Trouble::signed_out)?;
    let (by, reason) = (visit.by(), visit.form.text("reason").to_owned());
    visit.service().disable_person(&found, Some(&own.person), &reason, &by).await?;
    finished(&visit, "Kept from signing in", &found, "is signed out everywhere, and may not sign in")
}

pub(in crate::web::console) async fn enable(visit: Visit) -> Answer {
    let (found, by) = (named(&visit).await?, visit.by());
    visit.service().enable_person(&found.subject, "as asked", &by).await?;
    finished(&visit, "Let in", &found, "may sign in again")
}
