//! Queues and exchanges of a namespace: `queues`, `queue`, `purge-queue`, `delete-queue`, `exchanges` and `delete-exchange`.

use std::collections::BTreeMap;

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::exemption::terms;
use taskcluster_pulse::domain::history::Look;
use taskcluster_pulse::domain::inventory::{Binding, BrokerQueue, Consumer};
use taskcluster_pulse::domain::shown::{QueueFilter, ShownQueue, is_state};
use taskcluster_pulse::domain::words::{count, number};
use taskcluster_pulse::process::{self, Process};
use taskcluster_pulse::service::{MOST_QUEUES, QueueOutcome, QueueOutcomes, QueueView, Which, Wish};
use taskcluster_pulse::terminal::one_line;
use taskcluster_pulse::web::api::queues::{queue_view, shown_exchange, shown_queue};

/// What a command prints, and whether all of it was done.
pub type Printed = (String, bool);

#[derive(Args)]
pub struct Queues {
    /// The namespace.
    namespace: String,
    /// Only queues with so many messages or more.
    #[arg(long, value_name = "MESSAGES")]
    min_messages: Option<u64>,
    /// Only queues in this state: fine, draining, slow, stalled, stopped, "no consumer", looping, hoarding or unknown.
    #[arg(long, value_parser = parse_state)]
    state: Option<String>,
    /// Only queues with this in their names.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Print the queues as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Queue {
    /// The namespace.
    namespace: String,
    /// The whole name of the queue, queue/<namespace>/...
    queue: String,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct PurgeQueue {
    /// The namespace.
    namespace: String,
    /// The whole name of the queue, queue/<namespace>/...
    queue: String,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Args)]
#[command(group = ArgGroup::new("which").required(true).multiple(false))]
pub struct DeleteQueue {
    /// The namespace.
    namespace: String,
    /// The whole names of queues, queue/<namespace>/...
    #[arg(group = "which")]
    queues: Vec<String>,
    /// All queues that match this: a whole name in which each * stands for any characters.
    #[arg(long, value_name = "PATTERN", group = "which")]
    matching: Option<String>,
    /// Only say what would be deleted.
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct Exchanges {
    /// The namespace.
    namespace: String,
    /// Only exchanges with this in their names.
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Print the exchanges as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct DeleteExchange {
    /// The namespace.
    namespace: String,
    /// The whole name of the exchange, exchange/<namespace>/...
    exchange: String,
    /// Why, for the audit trail.
    #[arg(long)]
    reason: Option<String>,
}

fn parse_state(text: &str) -> Result<String, String> {
    if is_state(text) { Ok(text.to_owned()) } else { Err("there is no such state".to_owned()) }
}

fn as_json(items: impl Iterator<Item = Value>) -> String {
    Value::Array(items.collect()).to_string()
}

/// Lists queues.
pub async fn queues(process: &Process, options: Queues) -> Result<String> {
    let Queues { namespace, min_messages, state, search, json } = options;
    let (service, filter) = (process.service(), QueueFilter { min_messages, state, search, after: None });
    let name = service.name(&namespace).await?;
    let found = service.list_queues(&name, &filter, usize::MAX).await?;
    if json {
        return Ok(as_json(found.iter().map(shown_queue)));
    }
    if found.is_empty() {
        let such = if filter == QueueFilter::default() { "queue" } else { "such queue" };
        return Ok(format!("{name} has no {such}"));
    }
    let head = ["MESSAGES", "UNACKED", "STATE", "KIND", "QUEUE"].map(str::to_owned);
    Ok(table(&[true, true, false, false, false], [head].into_iter().chain(found.iter().map(row))))
}

/// A row of the table of queues. The name comes last: it may be longer than a line.
fn row(shown: &ShownQueue) -> [String; 5] {
    let queue = &shown.queue;
    let told = |messages: Option<u64>| messages.map_or_else(|| "-".to_owned(), number);
    let kind = kind(queue);
    [told(queue.messages), told(queue.unacked), shown.state().to_owned(), kind, one_line(&queue.name).into_owned()]
}

fn kind(queue: &BrokerQueue) -> String {
    if queue.exclusive { "exclusive".to_owned() } else { queue.kind.word().to_owned() }
}

/// Rows with their cells below each other, of which some stand at the right.
fn table<const N: usize>(right: &[bool; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| match right[column] {
            true => format!("{cell:>width$}", width = widths[column]),
            false => format!("{cell:width$}", width = widths[column]),
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Shows one queue.
pub async fn queue(process: &Process, Queue { namespace, queue, json }: Queue) -> Result<String> {
    let service = process.service();
    let view = service.queue(&service.name(&namespace).await?, &queue).await?;
    Ok(if json { format!("{:#}", queue_view(&view)) } else { described(&view) })
}

fn described(view: &QueueView) -> String {
    let QueueView {
        shown: ShownQueue { queue, verdict, watched, exempted }, consumers, readers, bindings, looks, ..
    } = view;
    let messages = |of: u64| count(of, "message", "messages");
    let mut facts = vec![("kind", kind(queue))];
    facts.push(match (queue.messages, queue.unacked) {
        (Some(total), Some(unacked)) => ("holds", format!("{}, {} unacknowledged", messages(total), number(unacked))),
        (Some(total), None) => ("holds", messages(total)),
        (None, _) => ("holds", "RabbitMQ does not tell how many messages".to_owned()),
    });
    facts.extend(consumers.map(|consumers| ("read by", count(consumers.into(), "consumer", "consumers"))));
    facts.extend(readers.iter().map(|Consumer { user, address, prefetch, .. }| {
        ("", format!("{user} from {address}, prefetch {}", number(*prefetch)))
    }));
    let now = looks.last().map_or(Timestamp::from_millis(0), |look| look.at);
    if let Some(verdict) = verdict {
        facts.push(("verdict", verdict.sentence(now)));
        facts.push(("", format!("as of {}", verdict.look.at)));
    }
    if let Some(warned) = watched.as_ref().and_then(|watched| watched.watch.warned) {
        facts.push(("warned", format!("since {warned}")));
    }
    if let Some(one) = exempted {
        facts.push(("may grow", format!("{}, by {}: {}", terms(one.exemption, now), one.by, one.reason)));
    }
    facts.extend(bindings.iter().enumerate().map(|(number, Binding { exchange, routing_key })| {
        (if number == 0 { "bound to" } else { "" }, format!("{exchange} with {routing_key}"))
    }));
    let seen = |Look { at, total, .. }: &Look| format!("{at}  {}", messages(*total));
    let history = looks.iter().rev().take(5).enumerate();
    facts.extend(history.map(|(number, look)| (if number == 0 { "seen" } else { "" }, seen(look))));
    let facts = facts.iter().map(|(what, text)| format!("    {what:9} {}", one_line(text)));
    [one_line(&queue.name).into_owned()].into_iter().chain(facts).collect::<Vec<_>>().join("\n")
}

/// Empties a queue.
pub async fn purge_queue(process: &Process, options: PurgeQueue) -> Result<String> {
    let PurgeQueue { namespace, queue, reason } = options;
    let (service, by) = (process.service(), process::at_a_shell());
    let wish = Wish { by: &by, reason: reason.as_deref() };
    let emptied = service.empty_queue(&service.name(&namespace).await?, &queue, wish).await?;
    Ok(format!("emptied {}{}", one_line(&queue), lost(&emptied)))
}

fn lost(queue: &BrokerQueue) -> String {
    queue.messages.map(|had| format!(", which had {}", count(had, "message", "messages"))).unwrap_or_default()
}

/// Deletes queues.
pub async fn delete_queue(process: &Process, options: DeleteQueue) -> Result<Printed> {
    let DeleteQueue { namespace, queues, matching, dry_run, reason, json } = options;
    let (service, by) = (process.service(), process::at_a_shell());
    let (name, wish) = (service.name(&namespace).await?, Wish { by: &by, reason: reason.as_deref() });
    let mut parts = match matching {
        Some(pattern) => vec![Which::Matching(pattern)],
        None => queues.chunks(MOST_QUEUES).map(|part| Which::Named(part.to_vec())).collect(),
    };
    let (mut of, mut more) = (BTreeMap::new(), 0);
    while let Some(which) = parts.pop() {
        let QueueOutcomes { of: done, left } = service.delete_queues(&name, &which, dry_run, wish).await?;
        let deleted = done.iter().any(|(_, outcome)| matches!(outcome, QueueOutcome::Deleted(_)));
        of.extend(done);
        // What can't be deleted is there the next time, too.
        match left > 0 && deleted {
            true => parts.push(which),
            false => more += left,
        }
    }
    let of: Vec<_> = of.into_iter().collect();
    let failed = of.iter().any(|(_, outcome)| matches!(outcome, QueueOutcome::Failed(_)));
    let printed = if json { outcomes_json(&of, more) } else { outcomes_text(&of, more) };
    Ok((printed, !failed))
}

fn outcomes_json(of: &[(String, QueueOutcome)], left: usize) -> String {
    let one = |(queue, outcome): &(String, QueueOutcome)| {
        let (result, found, error) = match outcome {
            QueueOutcome::Deleted(found) => ("deleted", Some(found), None),
            QueueOutcome::WouldBeDeleted(found) => ("would be deleted", Some(found), None),
            QueueOutcome::Absent => ("absent", None, None),
            QueueOutcome::Failed(error) => ("failed", None, Some(error.to_string())),
        };
        let messages = found.and_then(|found| found.messages);
        json!({"queue": queue, "result": result, "messages": messages, "message": error})
    };
    json!({"results": of.iter().map(one).collect::<Vec<_>>(), "left": left}).to_string()
}

fn outcomes_text(of: &[(String, QueueOutcome)], left: usize) -> String {
    let line = |(queue, outcome): &(String, QueueOutcome)| {
        let queue = one_line(queue);
        match outcome {
            QueueOutcome::Deleted(found) => format!("deleted {queue}{}", lost(found)),
            QueueOutcome::WouldBeDeleted(found) => format!("would delete {queue}{}", lost(found)),
            QueueOutcome::Absent => format!("there is no {queue}"),
            QueueOutcome::Failed(error) => format!("failed: {queue}\n    {}", one_line(&error.to_string())),
        }
    };
    let mut lines: Vec<_> = of.iter().map(line).collect();
    lines.extend((left > 0).then(|| format!("and {} more", number(left as u64))));
    lines.extend(of.is_empty().then(|| "no queue matches".to_owned()));
    lines.join("\n")
}

/// Lists exchanges.
pub async fn exchanges(process: &Process, Exchanges { namespace, search, json }: Exchanges) -> Result<String> {
    let service = process.service();
    let name = service.name(&namespace).await?;
    let found = service.list_exchanges(&name, search.as_deref(), None, usize::MAX).await?;
    if json {
        return Ok(as_json(found.iter().map(shown_exchange)));
    }
    if found.is_empty() {
        return Ok(format!("{name} has no {}exchange", if search.is_some() { "such " } else { "" }));
    }
    let head = ["KIND", "DURABLE", "EXCHANGE"].map(str::to_owned);
    let rows = found.iter().map(|one| {
        let durable = if one.durable { "yes" } else { "no" };
        [one_line(&one.kind).into_owned(), durable.to_owned(), one_line(&one.name).into_owned()]
    });
    Ok(table(&[false; 3], [head].into_iter().chain(rows)))
}

/// Deletes an exchange.
pub async fn delete_exchange(process: &Process, options: DeleteExchange) -> Result<String> {
    let DeleteExchange { namespace, exchange, reason } = options;
    let (service, by) = (process.service(), process::at_a_shell());
    let wish = Wish { by: &by, reason: reason.as_deref() };
    service.delete_exchange(&service.name(&namespace).await?, &exchange, wish).await?;
    Ok(format!("deleted {}", one_line(&exchange)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_table_stand_below_each_other() {
        let rows = [["N", "STATE", "QUEUE"], ["41,200", "fine", "queue/x/ü"], ["1", "no consumer", "queue/x/b"]];
        let shown = table(&[true, false, false], rows.into_iter().map(|row| row.map(str::to_owned)));
        assert_eq!(shown, "     N  STATE        QUEUE\n41,200  fine         queue/x/ü\n     1  no consumer  queue/x/b");
    }
}
