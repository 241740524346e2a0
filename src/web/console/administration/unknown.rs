//! What the broker has that nobody accounts for: shown beside namespaces without owners, and deleted on demand.

use crate::domain::rights::Right;
use crate::domain::snapshot;
use crate::domain::words::count;
use crate::service::Ended;
use crate::terminal::one_line;
use crate::web::console::answer::Answer;
use crate::web::console::confirm::{Line, Question, done};
use crate::web::console::frame::Part;
use crate::web::console::rows::link;
use crate::web::console::trouble::Trouble;
use crate::web::console::visit::Visit;

/// Where it is shown.
const PATH: &str = "/console/administration/things?unknown=1";
const DELETE: &str = "/console/administration/unknown";
/// So many of a kind are named.
const NAMED: usize = 200;

pub(super) struct Remains {
    pub name: String,
    /// How many users, connections, queues and exchanges.
    pub counts: [usize; 4],
    /// Where it is deleted; `None` where somebody else has a user of it.
    pub delete: Option<String>,
}

pub(super) struct Unknown {
    /// What is named as that of a namespace.
    pub things: Vec<Remains>,
    /// Users, and where each is adopted.
    pub adoptable: Vec<(String, String)>,
    pub others: Vec<(String, String)>,
    pub more: usize,
}

fn counts(of: &snapshot::Remains) -> [usize; 4] {
    [of.users.len(), of.connections.len(), of.queues.len(), of.exchanges.len()]
}

pub(super) async fn unknown(visit: &Visit) -> Result<Unknown, Trouble> {
    let found = visit.service().unknown().await?;
    let things = found.things.iter().map(|(name, of)| {
        let delete = (!found.theirs.contains(name)).then(|| link(DELETE, name.as_str()));
        Remains { name: one_line(name.as_str()).into_owned(), counts: counts(of), delete }
    });
    let more = (found.things.len().max(found.adoptable.len()).max(found.others.len())).saturating_sub(NAMED);
    let adopt = |user: String| {
        let path = link("/console/administration/adopt", &user);
        (user, path)
    };
    Ok(Unknown {
        things: things.take(NAMED).collect(),
        adoptable: found.adoptable.into_iter().take(NAMED).map(adopt).collect(),
        others: found.others.into_iter().take(NAMED).map(|(user, why)| (one_line(&user).into_owned(), why)).collect(),
        more,
    })
}

/// What is asked before what nobody accounts for is deleted.
async fn question(visit: &Visit) -> Result<Question, Trouble> {
    visit.require_all(Right::Administer)?;
    let given = visit.form.all("name").next().or_else(|| visit.query.all("name").next()).unwrap_or_default().to_owned();
    let found = visit.service().unknown().await?.things;
    let of = found.iter().find(|(name, _)| name.as_str() == given).map(|(_, of)| of);
    let of = of.ok_or_else(|| {
        Trouble::missing(format!("RabbitMQ has nothing in the name of an unknown namespace {given:?}."))
    })?;
    let [users, connections, queues, exchanges] = counts(of);
    let told = [
        (users, "user, which logs in no more", "users, which log in no more"),
        (connections, "connection, which is closed", "connections, which are closed"),
        (queues, "queue with all its messages", "queues with all their messages"),
        (exchanges, "exchange with its bindings", "exchanges with their bindings"),
    ];
    let told = told.into_iter().filter(|(number, ..)| *number > 0);
    let mut losses: Vec<_> = told.map(|(number, one, many)| format!("{}.", count(number as u64, one, many))).collect();
    losses.push(
        "It may be of a program that works, where the database is not the right one, or was restored.".to_owned(),
    );
    losses.push(
        "The next runs of expire-namespaces delete it, with their brakes. Whoever claims the name before has it again."
            .to_owned(),
    );
    Ok(Question {
        part: Part::Administration,
        title: format!("Delete all that RabbitMQ has of {given}"),
        losses,
        items: Vec::new(),
        typed: Some(given.clone()),
        hidden: vec![("name", given)],
        action: DELETE.to_owned(),
        button: "Delete all of it".to_owned(),
        reason_needed: true,
        harmless: false,
        back: PATH.to_owned(),
    })
}

pub(in crate::web::console) async fn ask(visit: Visit) -> Answer {
    question(&visit).await?.ask(&visit, None)
}

pub(in crate::web::console) async fn end(visit: Visit) -> Answer {
    let asked = question(&visit).await?;
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let (name, by, reason) = (visit.form.text("name").to_owned(), visit.by(), visit.form.text("reason").to_owned());
    let found = visit.service().name(&name).await?;
    let text = match visit.service().end_unknown(&found, &reason, &by).await? {
        Ended::Done => "nothing is left of it".to_owned(),
        Ended::Pending(why) => why,
    };
    let links = vec![(PATH.to_owned(), "Back".to_owned())];
    done(&visit, Part::Administration, "To be deleted", vec![Line { item: name, text, good: true }], links)
}
