//! Emptying and deleting queues and exchanges.

use super::answer::Answer;
use super::confirm::{Line, Question, done, reason};
use super::frame::Part;
use super::rows::{link, own_name};
use super::trouble::Trouble;
use super::visit::Visit;
use crate::domain::name::{Name, named_by_exchange, named_by_queue};
use crate::domain::rights::Right;
use crate::domain::words::count;
use crate::service::{QueueView, Wish};
use crate::web::api::error::ApiError;

/// What is done to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    Purge,
    Delete,
}

pub(super) async fn ask_purge(visit: Visit) -> Answer {
    ask(visit, Act::Purge).await
}

pub(super) async fn ask_delete(visit: Visit) -> Answer {
    ask(visit, Act::Delete).await
}

pub(super) async fn purge(visit: Visit) -> Answer {
    act(visit, Act::Purge).await
}

pub(super) async fn delete(visit: Visit) -> Answer {
    act(visit, Act::Delete).await
}

/// The queue that an act is for, as it is now, and the namespace that it belongs to.
async fn looked_at(visit: &Visit, name: &str) -> Result<(Name, QueueView), Trouble> {
    let owner = visit.owner_of(named_by_queue(name), name, Right::Manage).await?;
    let view = visit.service().queue(&owner.name, name).await?;
    Ok((owner.name, view))
}

fn question(act: Act, view: &QueueView) -> Question {
    let queue = &view.shown.queue;
    let messages = |of: u64| count(of, "message", "messages");
    let own = own_name(&queue.name);
    let (total, unacked) = (queue.messages, queue.unacked.unwrap_or(0));
    let mut losses = Vec::new();
    let (title, button, action) = match act {
        Act::Purge => {
            match total {
                Some(total) => {
                    losses.push(format!("{} that wait are deleted for good.", messages(total.saturating_sub(unacked))))
                }
                None => losses.push("All messages that wait are deleted for good; how many is not known.".to_owned()),
            }
            if unacked > 0 {
                losses.push(format!("{} that consumers hold stay theirs.", messages(unacked)));
            }
            losses.push("The queue itself, its bindings and its consumers stay.".to_owned());
            (format!("Purge {own}"), "Purge messages".to_owned(), "/console/queue/purge")
        }
        Act::Delete => {
            match total {
                Some(0) => losses.push("It is empty: no message is lost.".to_owned()),
                Some(total) => losses.push(format!("{} are deleted for good.", messages(total))),
                None => losses.push("All that is in it is deleted for good; how much is not known.".to_owned()),
            }
            if let Some(consumers @ 1..) = view.consumers {
                losses.push(format!("{} cut off.", count(consumers.into(), "consumer is", "consumers are")));
            }
            if !view.bindings.is_empty() {
                losses.push(format!("{} with it.", count(view.bindings.len() as u64, "binding goes", "bindings go")));
            }
            (format!("Delete {own}"), "Delete queue".to_owned(), "/console/queue/delete")
        }
    };
    Question {
        part: Part::Queues,
        title,
        losses,
        items: Vec::new(),
        typed: (total != Some(0)).then(|| own.clone()),
        hidden: vec![("name", queue.name.clone())],
        action: action.to_owned(),
        button,
        reason_needed: false,
        harmless: false,
        back: link("/console/queue", &queue.name),
    }
}

async fn ask(visit: Visit, act: Act) -> Answer {
    let (_, view) = looked_at(&visit, visit.query.text("name")).await?;
    question(act, &view).ask(&visit, None)
}

async fn act(visit: Visit, act: Act) -> Answer {
    let name = visit.form.all("name").next().unwrap_or_default().to_owned();
    // What it held when the page was made says nothing of now.
    let (owner, view) = looked_at(&visit, &name).await?;
    let asked = question(act, &view);
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let by = visit.by();
    let wish = Wish { by: &by, reason: reason(&visit) };
    let (title, found) = match act {
        Act::Purge => ("Purged", visit.service().empty_queue(&owner, &name, wish).await?),
        Act::Delete => ("Deleted", visit.service().delete_one_queue(&owner, &name, wish).await?),
    };
    let had = found.messages.map_or("how many messages it had is not known".to_owned(), |messages| {
        format!("it had {}", count(messages, "message", "messages"))
    });
    let lines = vec![Line { item: name.clone(), text: format!("{}: {had}", title.to_lowercase()), good: true }];
    let mut links = vec![("/console/queues".to_owned(), "To the queues".to_owned())];
    if act == Act::Purge {
        links.insert(0, (link("/console/queue", &name), "To the queue".to_owned()));
    }
    done(&visit, Part::Queues, title, lines, links)
}

pub(super) async fn ask_delete_exchange(visit: Visit) -> Answer {
    let name = visit.query.text("name").to_owned();
    visit.owner_of(named_by_exchange(&name), &name, Right::Manage).await?;
    exchange_question(&name).ask(&visit, None)
}

fn exchange_question(name: &str) -> Question {
    Question {
        part: Part::Exchanges,
        title: format!("Delete exchange {}", own_name(name)),
        losses: vec![
            "Whoever publishes to it gets an error from then on, and its channel is closed.".to_owned(),
            "All bindings to it go with it: queues of others get no more of its messages.".to_owned(),
        ],
        items: Vec::new(),
        typed: Some(own_name(name)),
        hidden: vec![("name", name.to_owned())],
        action: "/console/exchange/delete".to_owned(),
        button: "Delete exchange".to_owned(),
        reason_needed: false,
        harmless: false,
        back: "/console/exchanges".to_owned(),
    }
}

pub(super) async fn delete_exchange(visit: Visit) -> Answer {
    let name = visit.form.all("name").next().unwrap_or_default().to_owned();
    let owner = visit.owner_of(named_by_exchange(&name), &name, Right::Manage).await?;
    let asked = exchange_question(&name);
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let by = visit.by();
    visit.service().delete_exchange(&owner.name, &name, Wish { by: &by, reason: reason(&visit) }).await?;
    let lines = vec![Line { item: name, text: "deleted".to_owned(), good: true }];
    let links = vec![("/console/exchanges".to_owned(), "To the exchanges".to_owned())];
    done(&visit, Part::Exchanges, "Deleted", lines, links)
}

/// What became of one thing that could not be done, for people.
pub(super) fn failed(item: String, error: crate::service::ServiceError) -> Line {
    Line { item, text: ApiError::of_queues(error).message, good: false }
}
