//! What the rules did, as tables.

use std::fmt::Write as _;

use taskcluster_pulse::domain::ladder::Topic;
use taskcluster_pulse::domain::verdict::Evidence;

use super::rules::Deed;
use super::score::Run;
use super::traces::Trace;

/// The runs of one trace: ours, PulseGuardian's, Burrow's.
pub type Runs = [Run; 3];
const NAMES: [&str; 3] = ["This guard", "PulseGuardian's rule", "Burrow's rules"];

/// All that is published.
pub fn tables(runs: &[(Trace, Runs)]) -> String {
    let mut text = String::new();
    summary(&mut text, runs);
    beside(&mut text, runs);
    ours(&mut text, runs);
    text
}

fn summary(text: &mut String, runs: &[(Trace, Runs)]) {
    *text += "### In sum\n\n";
    *text += "| Rule | Removals | wrong | unwarned | missed | Messages lost | Troubles told in time, with the cause | \
              without it | late or never | Surplus messages |\n";
    *text += "|---|---|---|---|---|---|---|---|---|---|\n";
    for (index, name) in NAMES.iter().enumerate() {
        let runs: Vec<_> = runs.iter().map(|(_, runs)| &runs[index]).collect();
        let count = |of: fn(&Run) -> usize| runs.iter().map(|run| of(run)).sum::<usize>();
        let removes = index < 2;
        let removals = |of: fn(&Run) -> usize| if removes { count(of).to_string() } else { "-".to_owned() };
        let bad = |run: &Run| run.removal.filter(|removal| removal.wrong || !removal.warned);
        let lost: u64 = runs.iter().filter_map(|run| bad(run)).map(|removal| removal.messages).sum();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            removals(|run| usize::from(run.removal.is_some())),
            removals(|run| usize::from(run.removal.is_some_and(|removal| removal.wrong))),
            removals(|run| usize::from(run.removal.is_some_and(|removal| !removal.warned))),
            removals(|run| usize::from(run.missed)),
            if removes { lost.to_string() } else { "-".to_owned() },
            count(|run| run.told),
            count(|run| run.vague),
            count(|run| run.late.len()),
            count(|run| run.surplus.len()),
        );
    }
    text.push('\n');
}

fn beside(text: &mut String, runs: &[(Trace, Runs)]) {
    let _ = writeln!(text, "### Trace by trace\n\n| Trace | {} |\n|---|---|---|---|", NAMES.join(" | "));
    for (trace, runs) in runs {
        let [ours, pulse_guardian, burrow] = runs;
        let cells = [verdict(ours), verdict(pulse_guardian), verdict(burrow)];
        let _ = writeln!(text, "| {} | {} |", trace.name, cells.join(" | "));
    }
    text.push('\n');
}

fn verdict(run: &Run) -> String {
    let mut parts = Vec::new();
    if let Some(removal) = run.removal {
        let how = match (removal.wrong, removal.warned) {
            (true, true) => " **wrongly**",
            (true, false) => " **wrongly, unwarned**",
            (false, true) => "",
            (false, false) => " **unwarned**",
        };
        parts.push(format!("removed at {}{how}", time(removal.minute)));
    }
    let troubles = run.told + run.vague + run.late.len();
    if troubles > 0 {
        parts.push(format!("told {} of {troubles}", run.told));
    }
    if run.vague > 0 {
        parts.push(format!("{} without cause", run.vague));
    }
    if !run.late.is_empty() {
        parts.push(format!("{} late", run.late.len()));
    }
    if !run.surplus.is_empty() {
        parts.push(format!("{} surplus", run.surplus.len()));
    }
    let told = run.deeds.iter().any(|(_, deed)| matches!(deed, Deed::Told(..)));
    match parts.is_empty() {
        true if told => "told, which need not be".to_owned(),
        true => "left alone".to_owned(),
        false => parts.join(", "),
    }
}

fn ours(text: &mut String, runs: &[(Trace, Runs)]) {
    *text += "### What this guard saw and did\n\n| Trace | What happens | Verdicts | Messages | Then |\n|---|---|---|---|---|\n";
    for (trace, [run, ..]) in runs {
        let totals = run.opinions.iter().any(|(_, _, evidence)| *evidence == Evidence::Full);
        let verdicts = run.opinions.iter().map(|(minute, kind, _)| format!("{} {}", time(*minute), kind.word()));
        let verdicts = some(verdicts.collect()) + if totals { "" } else { " (by totals)" };
        let told = run.deeds.iter().filter_map(|(minute, deed)| match deed {
            Deed::Told(topic, cause) | Deed::Noted(topic, cause) => {
                let what = match (topic, cause) {
                    (Topic::Normal, _) => "back to normal".to_owned(),
                    (topic, cause) => {
                        let cause = cause.map_or("large", |cause| match cause.word() {
                            "fine" => "large",
                            word => word,
                        });
                        match topic {
                            Topic::Reminder => format!("reminder, {cause}"),
                            Topic::LastCall => format!("last call, {cause}"),
                            _ => cause.to_owned(),
                        }
                    }
                };
                let noted = if matches!(deed, Deed::Noted(..)) { " (console)" } else { "" };
                Some(format!("{} {what}{noted}", time(*minute)))
            }
            _ => None,
        });
        let done = run.deeds.iter().filter_map(|(minute, deed)| match deed {
            Deed::Closed { kept_out: false } => Some(format!("{} connection closed", time(*minute))),
            Deed::Closed { kept_out: true } => Some(format!("{} kept out", time(*minute))),
            Deed::Removed => Some(format!("{} removed", time(*minute))),
            _ => None,
        });
        let (told, done) = (some(told.collect()), some(done.collect()));
        let _ = writeln!(text, "| {} | {} | {verdicts} | {told} | {done} |", trace.name, trace.what);
    }
}

fn some(all: Vec<String>) -> String {
    const SHOWN: usize = 8;
    match all.len() {
        0 => "-".to_owned(),
        few if few <= SHOWN => all.join("; "),
        many => format!("{}; and {} more", all[..SHOWN].join("; "), many - SHOWN),
    }
}

/// `0:47`, `2d 3:05`.
fn time(minute: usize) -> String {
    let (days, hours, minutes) = (minute / 1440, minute / 60 % 24, minute % 60);
    if days == 0 { format!("{hours}:{minutes:02}") } else { format!("{days}d {hours}:{minutes:02}") }
}
