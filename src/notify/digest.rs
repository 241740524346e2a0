//! One mail that tells of many queues: what each notice says in it, and the mail.
//!
//! It names every queue of which it tells, because it is the warning of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use crate::domain::ladder::{Measure, Topic};
use crate::domain::notice::{Brief, Event, Matter, Notice, Trouble};
use crate::domain::words::number;
use crate::notify::advice::{REMINDERS, advice, state};
use crate::notify::text::{code, count, plural, subject, visible};

/// From so many notices to one address on, one mail tells of them. Fewer are read one by one, each in the thread of its queue;
/// and what an address gets in ten minutes leaves room for them.
pub const FEWEST: usize = 5;
/// One mail tells of so many at most. If their names are of the longest kind, they take [`FEWEST`] mails at most.
pub const MOST: usize = 200;
/// So many code points the list of a mail has at most. Taskcluster's notify service takes 102,400, and some programs show no more of a
/// mail than that.
const LONGEST: usize = 80_000;

/// What a mail that tells of many queues says of this event, if it is told there. Where somebody was cut off, or a removal
/// failed, its owner has to act, and is told alone.
pub fn brief(event: &Event) -> Option<Brief> {
    let brief = |matter, messages, removal, queue: &str, said: Vec<String>| {
        let lines = [code(queue)].into_iter().chain(said).collect();
        Some(Brief { matter, messages, removal, lines })
    };
    match event {
        Event::QueueTrouble(Trouble { topic: Topic::Normal, queue, messages, at, .. }) => {
            brief(Matter::Normal, *messages, None, queue, vec![format!("{} at {at}", count(*messages))])
        }
        Event::QueueTrouble(trouble) => {
            let Trouble { queue, cause, verdict, messages, removal, at, .. } = trouble;
            let seen = format!("{}, {} at {at}", visible(verdict), count(*messages));
            brief(Matter::Trouble(*cause), *messages, *removal, queue, vec![seen, outlook(trouble)])
        }
        Event::QueueDeleted { queue, messages, at, .. } => {
            brief(Matter::Removed, *messages, None, queue, vec![format!("deleted with {} at {at}", count(*messages))])
        }
        Event::QueueEmptied { queue, messages, at, .. } => {
            brief(Matter::Removed, *messages, None, queue, vec![format!("emptied of {} at {at}", count(*messages))])
        }
        Event::HoarderClosed { .. }
        | Event::QueueDeletionFailed { .. }
        | Event::ExemptionAsked { .. }
        | Event::ExemptionDecided { .. }
        | Event::NamespaceExpiring { .. }
        | Event::NamespaceExpired { .. }
        | Event::AccountEnding { .. }
        | Event::AdoptedInUse { .. }
        | Event::AdoptedRetired { .. } => None,
    }
}

/// What will happen to one queue.
fn outlook(Trouble { measure, removal, delete_threshold, topic, .. }: &Trouble) -> String {
    let what = match measure {
        Measure::Observe | Measure::Warn => return "nothing is removed".to_owned(),
        Measure::Purge => "its messages are deleted",
        Measure::Delete => "it is deleted",
    };
    let last_call = if *topic == Topic::LastCall { "last call: " } else { "" };
    let when = removal.map_or_else(|| "after a time of grace".to_owned(), |at| format!("at {at} at the earliest"));
    format!("{last_call}above {} {what}, {when}", count(*delete_threshold))
}

/// Puts notices to one address together: those of each list are told as one, and where there are few, each alone.
pub fn together(notices: Vec<Notice>) -> Vec<Vec<Notice>> {
    let length = |notice: &Notice| {
        let lines = notice.brief.iter().flat_map(|brief| &brief.lines);
        lines.map(|line| line.chars().count() + SPACE).sum::<usize>()
    };
    if notices.iter().filter(|notice| notice.brief.is_some()).count() < FEWEST {
        return notices.into_iter().map(|notice| vec![notice]).collect();
    }
    let (told, alone): (Vec<_>, Vec<_>) = notices.into_iter().partition(|notice| notice.brief.is_some());
    let mut lists: Vec<_> = alone.into_iter().map(|notice| vec![notice]).collect();
    let (mut list, mut sum) = (Vec::new(), 0);
    for notice in told {
        let more = length(&notice);
        if !list.is_empty() && (list.len() == MOST || sum + more > LONGEST) {
            lists.push(std::mem::take(&mut list));
            sum = 0;
        }
        sum += more;
        list.push(notice);
    }
    lists.push(list);
    lists
}

/// What a line takes beside its text.
const SPACE: usize = 5;

const TO_TROUBLES: &str = "what is said for each queue. One is removed only if it has more messages than that for some time and \
     does not lose any, so that it does not bring down the broker for everybody. As long as it loses messages, it is left \
     alone. You are told when that happens, or when it is over.";
const NOTHING_MORE: &str = "nothing more. What was removed is lost. Namespaces, their credentials and their other queues are as \
     they were. You are told again if a queue gets into trouble.";

/// The one mail that tells of all these notices to one address. Made again of the same ones, it has the same id.
pub fn digest(notices: &[Notice]) -> Option<Notice> {
    let newest = notices.iter().max_by_key(|notice| (notice.created, &notice.id))?;
    let mut ids: Vec<_> = notices.iter().map(|notice| notice.id.clone()).collect();
    ids.sort();
    let hash = Sha256::digest(ids.join(" ").as_bytes());
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let told: Vec<Told<'_>> =
        notices.iter().filter_map(|notice| Some(Told { notice, brief: notice.brief.as_ref()? })).collect();
    Some(Notice {
        id: format!("digest-{hash}"),
        subject: title(&told),
        text: text(&told),
        about: None,
        brief: None,
        instead_of: ids,
        ..newest.clone()
    })
}

/// A notice, and what is said of it.
struct Told<'a> {
    notice: &'a Notice,
    brief: &'a Brief,
}

impl Told<'_> {
    fn is_trouble(&self) -> bool {
        matches!(self.brief.matter, Matter::Trouble(_))
    }

    /// What is said of a queue that was in trouble when this was stored, and then no more.
    fn afterwards(&self, all: &[Told<'_>]) -> Option<&'static str> {
        let of = |told: &Told<'_>| told.notice.about.as_ref().map(|about| about.queue.clone());
        let later = |told: &&Told<'_>| {
            (told.notice.created, &told.notice.id) > (self.notice.created, &self.notice.id) && of(told) == of(self)
        };
        match all.iter().filter(later).max_by_key(|told| told.notice.created)?.brief.matter {
            Matter::Removed => Some("since then removed: see above"),
            Matter::Normal => Some("since then back to normal: see below"),
            Matter::Trouble(_) => Some("since then told again here"),
        }
    }
}

/// `3 queues removed, 12 in trouble, 1 back to normal`, as far as there are any.
fn title(told: &[Told<'_>]) -> String {
    let of = |matter: fn(&Matter) -> bool| told.iter().filter(|told| matter(&told.brief.matter)).count() as u64;
    let parts = [
        (of(|matter| *matter == Matter::Removed), "removed"),
        (of(|matter| matches!(matter, Matter::Trouble(_))), "in trouble"),
        (of(|matter| *matter == Matter::Normal), "back to normal"),
    ];
    let parts =
        parts.into_iter().filter(|(count, _)| *count > 0).enumerate().map(|(place, (count, what))| match place {
            0 => format!("{} {what}", plural(count, "queue", "queues")),
            _ => format!("{} {what}", number(count)),
        });
    subject("Pulse: ", &parts.collect::<Vec<_>>().join(", "), "")
}

fn text(told: &[Told<'_>]) -> String {
    let mut text = format!("There is news of {} of yours.\n\n", plural(queues(told), "Pulse queue", "Pulse queues"));
    list(&mut text, "Removed, with the messages in them", told, |matter| *matter == Matter::Removed);
    list(&mut text, "In trouble, the most urgent first", told, |matter| matches!(matter, Matter::Trouble(_)));
    list(&mut text, "Back to normal", told, |matter| *matter == Matter::Normal);
    let troubles = told.iter().any(Told::is_trouble);
    let _ = write!(text, "**What will happen:** {}\n\n", if troubles { TO_TROUBLES } else { NOTHING_MORE });
    if troubles {
        text.push_str("**What to do** with a queue, by what is the matter:\n\n");
        for (state, (advice, count)) in by_cause(told) {
            let _ = writeln!(text, "* {state} ({}): {advice}", number(count));
        }
        let _ = write!(text, "\n**Reminders:** {REMINDERS}\n\n");
    }
    let namespaces: BTreeSet<_> = told.iter().map(|told| told.notice.namespace.as_str()).collect();
    const NAMED: usize = 10;
    let mut named: Vec<_> = namespaces.iter().take(NAMED).map(|name| code(name)).collect();
    if namespaces.len() > NAMED {
        named.push(format!("{} others", number((namespaces.len() - NAMED) as u64)));
    }
    let noun = if namespaces.len() == 1 { "namespace" } else { "namespaces" };
    let _ = writeln!(
        text,
        "You get this message because your address is an owner or the contact of the Pulse {noun} {}. Whoever owns a \
         namespace sets its owners, and whoever claims it the contact.",
        named.join(", ")
    );
    text
}

/// Of how many queues they tell.
fn queues(told: &[Told<'_>]) -> u64 {
    let names: BTreeSet<_> = told.iter().filter_map(|told| told.brief.lines.first()).collect();
    names.len() as u64
}

/// Adds those of one kind to the text, if there are any: what may be removed soonest first, then the largest.
fn list(text: &mut String, title: &str, told: &[Told<'_>], matter: impl Fn(&Matter) -> bool) {
    let mut listed: Vec<_> = told.iter().filter(|told| matter(&told.brief.matter)).collect();
    if listed.is_empty() {
        return;
    }
    listed.sort_by_key(|Told { brief, notice }| {
        (brief.removal.is_none(), brief.removal, std::cmp::Reverse(brief.messages), &brief.lines, &notice.id)
    });
    let _ = write!(text, "**{title}:**\n\n");
    for entry in listed {
        let afterwards = entry.afterwards(told);
        let lines = entry.brief.lines.iter().map(String::as_str).chain(afterwards);
        // Two blanks at the end of a line break it there.
        let _ = writeln!(text, "* {}", lines.collect::<Vec<_>>().join("  \n  "));
    }
    text.push('\n');
}

/// What to do about the troubles, by what is the matter, with how many there are.
fn by_cause(told: &[Told<'_>]) -> BTreeMap<&'static str, (&'static str, u64)> {
    let mut causes = BTreeMap::new();
    for told in told {
        if let Matter::Trouble(cause) = told.brief.matter {
            causes.entry(state(cause)).or_insert((advice(cause), 0)).1 += 1;
        }
    }
    causes
}
