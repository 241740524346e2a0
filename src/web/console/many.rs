//! Emptying and deleting many queues at once: asked once with the list, and with a result for each.

use std::collections::BTreeMap;

use futures::{FutureExt as _, StreamExt as _, stream};

use super::answer::Answer;
use super::confirm::{Line, Question, done, lines_of, reason};
use super::destroy::{Act, failed};
use super::frame::Part;
use super::trouble::Trouble;
use super::visit::Visit;
use crate::domain::name::{Name, named_by_queue};
use crate::domain::rights::Right;
use crate::domain::words::count;
use crate::service::{MOST_QUEUES, QueueOutcome, ServiceError, Which, Wish};
use crate::terminal::one_line;

/// So many queues are emptied at a time.
const AT_ONCE: usize = 8;

/// What was chosen, by the namespaces that it belongs to, over each of which the person has the right.
async fn chosen(visit: &Visit) -> Result<(Act, BTreeMap<Name, Vec<String>>), Trouble> {
    let act = match visit.form.text("act") {
        "purge" => Act::Purge,
        "delete" => Act::Delete,
        _ => return Err(Trouble::bad("It was not said what to do, so nothing was done. Go back and choose.")),
    };
    let mut of: BTreeMap<Name, Vec<String>> = BTreeMap::new();
    for queue in visit.form.all("queue") {
        let name = named_by_queue(queue);
        let name = name.ok_or_else(|| Trouble::bad(format!("{queue:?} is not named like a queue of a namespace.")))?;
        of.entry(name).or_default().push(queue.to_owned());
    }
    of.values_mut().for_each(|queues| {
        queues.sort();
        queues.dedup();
    });
    let all = of.values().map(Vec::len).sum::<usize>();
    if all == 0 {
        return Err(Trouble::bad("No queue was selected, so nothing was done. Go back and select some."));
    }
    if all > MOST_QUEUES {
        return Err(Trouble::bad(format!("Select at most {MOST_QUEUES} queues at a time. Nothing was done.")));
    }
    for name in of.keys() {
        visit.owner_of(Some(name.clone()), name.as_str(), Right::Manage).await?;
    }
    Ok((act, of))
}

/// What is asked, with how many messages each has as far as that was seen lately.
async fn question(visit: &Visit, act: Act, of: &BTreeMap<Name, Vec<String>>) -> Question {
    let glance = visit.service().overview().await.ok();
    let seen = |name: &Name, queue: &str| {
        let pictured = glance.as_ref()?.overview.namespaces.get(name)?;
        pictured.queues.iter().find(|listed| listed.shown.queue.name == queue)?.shown.queue.messages
    };
    let (mut items, mut total, mut unknown) = (Vec::new(), 0, false);
    for (name, queue) in of.iter().flat_map(|(name, queues)| queues.iter().map(move |queue| (name, queue))) {
        let messages = seen(name, queue);
        total += messages.unwrap_or(0);
        unknown |= messages.is_none();
        let has = messages.map_or("number of messages unknown".to_owned(), |n| count(n, "message", "messages"));
        items.push(format!("{}: {has}", one_line(queue)));
    }
    let queues = count(items.len() as u64, "queue", "queues");
    let (verb, button) = match act {
        Act::Purge => ("purge", format!("Purge {queues}")),
        Act::Delete => ("delete", format!("Delete {queues}")),
    };
    let about = if unknown { "At least" } else { "About" };
    let mut losses = vec![format!("{about} {} are deleted for good.", count(total, "message", "messages"))];
    losses.extend(
        (act == Act::Delete).then(|| "Their consumers are cut off, and their bindings go with them.".to_owned()),
    );
    let mut hidden = vec![("act", verb.to_owned())];
    hidden.extend(of.values().flatten().map(|queue| ("queue", queue.clone())));
    Question {
        part: Part::Queues,
        title: button.clone(),
        losses,
        items,
        typed: (total > 0 || unknown).then(|| format!("{verb} {queues}")),
        hidden,
        action: "/console/queues/do".to_owned(),
        button,
        reason_needed: false,
        harmless: false,
        back: "/console/queues".to_owned(),
    }
}

pub(super) async fn ask(visit: Visit) -> Answer {
    let (act, of) = chosen(&visit).await?;
    question(&visit, act, &of).await.ask(&visit, None)
}

pub(super) async fn act(visit: Visit) -> Answer {
    let (act, of) = chosen(&visit).await?;
    let asked = question(&visit, act, &of).await;
    if let Some(wrong) = asked.answered(&visit) {
        return asked.ask(&visit, Some(wrong));
    }
    let by = visit.by();
    let wish = Wish { by: &by, reason: reason(&visit) };
    let mut lines = Vec::new();
    for (name, queues) in &of {
        match act {
            Act::Delete => lines.extend(delete(&visit, name, queues, wish).await),
            Act::Purge => lines.extend(purge(&visit, name, queues, wish).await),
        }
    }
    if visit.live {
        return lines_of(&visit, lines);
    }
    let title = if act == Act::Purge { "Purged" } else { "Deleted" };
    done(&visit, Part::Queues, title, lines, vec![("/console/queues".to_owned(), "To the queues".to_owned())])
}

async fn delete(visit: &Visit, name: &Name, queues: &[String], wish: Wish<'_>) -> Vec<Line> {
    let which = Which::Named(queues.to_vec());
    let outcomes = match visit.service().delete_queues(name, &which, false, wish).await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let line = failed(String::new(), error);
            return queues
                .iter()
                .map(|queue| Line { item: queue.clone(), text: line.text.clone(), good: false })
                .collect();
        }
    };
    let line = |(item, outcome)| match outcome {
        QueueOutcome::Deleted(found) | QueueOutcome::WouldBeDeleted(found) => {
            let had = found.messages.map_or(String::new(), |n| format!(": it had {}", count(n, "message", "messages")));
            Line { item, text: format!("deleted{had}"), good: true }
        }
        QueueOutcome::Absent => Line { item, text: "it was gone already".to_owned(), good: true },
        QueueOutcome::Failed(error) => failed(item, error),
    };
    outcomes.of.into_iter().map(line).collect()
}

async fn purge(visit: &Visit, name: &Name, queues: &[String], wish: Wish<'_>) -> Vec<Line> {
    let one = |queue: String| {
        async move {
            match visit.service().empty_queue(name, &queue, wish).await {
                Ok(found) => {
                    let had = found
                        .messages
                        .map_or(String::new(), |n| format!(": it had {}", count(n, "message", "messages")));
                    Line { item: queue, text: format!("purged{had}"), good: true }
                }
                Err(ServiceError::Missing(..)) => {
                    Line { item: queue, text: "it was gone already".to_owned(), good: true }
                }
                Err(error) => failed(queue, error),
            }
        }
        .boxed()
    };
    let work: Vec<_> = queues.iter().cloned().map(one).collect();
    stream::iter(work).buffered(AT_ONCE).collect().await
}
