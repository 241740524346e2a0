//! What is really the matter with a queue, told by who made the trace, who sees all and the future: what has to be told when,
//! and which removals are right. It shares no code with the rules that are judged by it.

use taskcluster_pulse::domain::verdict::Kind;

use super::world::{Does, World};

pub const ALERT: u64 = 4000;
pub const DELETE: u64 = 8000;
/// A trouble is worth telling from so many messages on.
pub const BACKLOG: u64 = 1000;
/// Within so many minutes.
pub const IN_TIME: usize = 10;
/// What is over sooner is no trouble.
const SHORTEST: usize = 10;

/// The state of things in one minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute {
    pub total: u64,
    pub unacked: u64,
    pub born: u32,
    pub state: State,
    pub mail_up: bool,
    pub exempt: bool,
    pub statistics: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Working,
    Nobody,
    Stuck,
    Hoarding,
    Crashing,
    Gone,
}

impl Minute {
    pub fn of(world: &World, exempt: bool) -> Minute {
        let does = |does: fn(Does) -> bool| world.groups.iter().any(|group| does(group.does));
        let holds_all = world.groups.iter().any(|group| group.does == Does::Hold && group.prefetch.is_none());
        let state = if !world.exists {
            State::Gone
        } else if holds_all {
            State::Hoarding
        } else if does(|does| matches!(does, Does::Work(_) | Does::Fetch(_))) {
            State::Working
        } else if does(|does| matches!(does, Does::Crash(_))) {
            State::Crashing
        } else if does(|does| does == Does::Hold) {
            State::Stuck
        } else {
            State::Nobody
        };
        let World { born, mail_up, statistics, .. } = *world;
        Minute { total: world.total(), unacked: world.unacked(), born, state, mail_up, exempt, statistics }
    }

    /// The causes that are right to tell. Without statistics nobody can know better.
    fn causes(&self) -> &'static [Kind] {
        match (self.state, self.statistics) {
            (State::Nobody, true) => &[Kind::NoConsumer],
            (State::Stuck, true) => &[Kind::Stopped, Kind::Stalled],
            (State::Hoarding, _) => &[Kind::Hoarding],
            (State::Crashing, true) => &[Kind::Looping],
            (State::Nobody, false) => &[Kind::Stopped],
            (State::Stuck, false) => &[Kind::Stalled, Kind::Stopped],
            (State::Crashing, false) => &[Kind::Slow, Kind::Stopped, Kind::Stalled],
            (State::Working | State::Gone, _) => &[Kind::Slow, Kind::Fine],
        }
    }

    fn has_backlog(&self) -> bool {
        let messages = if self.state == State::Hoarding { self.unacked } else { self.total };
        messages >= BACKLOG && self.state != State::Working && self.state != State::Gone && !self.exempt
    }
}

/// Something that has to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// Since when things are so, however many messages there were.
    pub began: usize,
    /// Since when it has to be told.
    pub onset: usize,
    /// The minute at which it is over.
    pub end: usize,
    /// Until when it has to be told: while no mail can be sent, the time stands still. `usize::MAX` where it need not be.
    pub deadline: usize,
    pub causes: &'static [Kind],
}

/// All that has to be told.
pub fn troubles(minutes: &[Minute]) -> Vec<Trouble> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < minutes.len() {
        let Minute { state, born, .. } = minutes[at];
        let same = |minute: &Minute| minute.state == state && minute.born == born;
        let end = (at..minutes.len()).find(|index| !same(&minutes[*index])).unwrap_or(minutes.len());
        let onset = (at..end).find(|index| minutes[*index].has_backlog());
        if let Some(onset) = onset {
            let last = (onset..end).rfind(|index| minutes[*index].has_backlog()).unwrap_or(onset);
            add(&mut found, minutes, [at, onset, last + 1]);
        }
        at = end;
    }
    found.extend(sizes(minutes));
    found.sort_by_key(|trouble| trouble.onset);
    found
}

fn add(found: &mut Vec<Trouble>, minutes: &[Minute], [began, onset, end]: [usize; 3]) {
    let mut deadline = onset + IN_TIME;
    let down = minutes[onset..end].iter().take_while(|minute| !minute.mail_up).count();
    let later = minutes.get(onset..deadline.min(end)).unwrap_or_default().iter().position(|minute| !minute.mail_up);
    if let Some(later) = later {
        let down = minutes[onset + later..end].iter().take_while(|minute| !minute.mail_up).count();
        deadline = onset + later + down + IN_TIME;
    } else {
        deadline += down;
    }
    // Where it ends sooner, nobody has to be told.
    if end - onset > SHORTEST && deadline <= minutes.len() {
        found.push(Trouble { began, onset, end, deadline, causes: minutes[onset].causes() });
    }
}

/// Queues that are read, and above the alert threshold for long.
fn sizes(minutes: &[Minute]) -> Vec<Trouble> {
    let working = |minute: &Minute| minute.state == State::Working && !minute.exempt;
    let above = |at: usize| minutes[at].total > ALERT && working(&minutes[at]);
    let (mut found, mut at) = (Vec::new(), 0);
    while at < minutes.len() {
        if !above(at) {
            at += 1;
            continue;
        }
        // It is one trouble until it clearly came back, and stayed away for an hour.
        let back = |index: usize| minutes[index].total <= ALERT * 3 / 4;
        let over = |index: &usize| !working(&minutes[*index]) || (*index..minutes.len().min(index + 60)).all(back);
        let end = (at..minutes.len()).find(over).unwrap_or(minutes.len());
        let lasts = |index: &usize| (*index..end.min(index + SHORTEST)).all(above) && !drains(minutes, *index);
        let onset = (at..end.saturating_sub(SHORTEST)).find(lasts);
        let crossings = (at + 1..end).filter(|index| above(*index) && !above(index - 1)).count();
        // A warning may come early, too.
        let began = at.saturating_sub(60);
        match onset {
            Some(onset) => add(&mut found, minutes, [began, onset, end]),
            // Whether one that swings around the threshold is told is a matter of taste. Once is enough.
            None if crossings >= 2 => {
                let deadline = usize::MAX;
                found.push(Trouble { began, onset: at, end, deadline, causes: minutes[at].causes() });
            }
            None => {}
        }
        at = end.max(at + 1);
    }
    found
}

/// Whether it drains: it is clearly lower twenty minutes later, or below the threshold for good within three hours.
fn drains(minutes: &[Minute], at: usize) -> bool {
    let mean = |from: usize| {
        let some = minutes.get(from..from + 10)?;
        Some(some.iter().map(|minute| minute.total).sum::<u64>() / 10)
    };
    let lower = |two: Option<(u64, u64)>| two.is_some_and(|(now, later)| later < now - now / 33);
    // At the end of a trace nobody knows what comes, but what was.
    let ahead = mean(at).zip(mean(at + 20));
    let lower = lower(ahead.or_else(|| mean(at.checked_sub(30)?).zip(mean(at - 10))));
    lower || minutes[at..].iter().take(180).any(|minute| minute.total <= ALERT * 3 / 4)
}
