//! Runs a rule on a trace, and counts what it did right and wrong.

use taskcluster_pulse::domain::ladder::Topic;
use taskcluster_pulse::domain::verdict::{Evidence, Kind};

use super::rules::{Deed, Rule};
use super::traces::Trace;
use super::truth::{ALERT, Minute, Trouble, troubles};
use super::world::{STEP, World};

/// A removal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Removal {
    pub minute: usize,
    pub messages: u64,
    /// It would have drained by itself within the grace time, was exempted, or did not deserve it.
    pub wrong: bool,
    /// A warning of this very queue was accepted long enough before.
    pub warned: bool,
}

/// What a rule did on a trace.
#[derive(Debug)]
pub struct Run {
    pub deeds: Vec<(usize, Deed)>,
    /// What it thought of the queue, each time that changed.
    pub opinions: Vec<(usize, Kind, Evidence)>,
    pub removal: Option<Removal>,
    /// The removal that was to be made was not.
    pub missed: bool,
    pub troubles: Vec<Trouble>,
    /// Troubles that were told in time with their cause.
    pub told: usize,
    /// Troubles that were told in time without it.
    pub vague: usize,
    /// Troubles that were told late, or never.
    pub late: Vec<Trouble>,
    /// Messages that tell nothing new, or what is not so.
    pub surplus: Vec<(usize, Deed)>,
}

/// Which causes a rule's word covers.
pub type Means = fn(Kind, &[Kind]) -> bool;

/// How a trace is varied, apart from what happens in it.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// Chance begins here.
    pub seed: u64,
    /// Whether looks are taken in even minutes instead of odd ones.
    pub even: bool,
    /// Of so many looks one is missed; none where it is 0.
    pub missed: u64,
}

pub const PLAIN: Variant = Variant { seed: 1, even: false, missed: 0 };

pub fn run(trace: &Trace, rule: &mut dyn Rule, means: Means, variant: Variant) -> Run {
    let mut world = World::new(variant.seed);
    let mut luck = World::new(variant.seed + 1000);
    let (mut deeds, mut opinions, mut removal) = (Vec::new(), Vec::<(usize, Kind, Evidence)>::new(), None);
    let mut minutes: Vec<Minute> = Vec::new();
    for minute in 0..trace.minutes {
        pass(trace, &mut world, minute);
        let exemption = trace.exemption;
        let exempt = exemption.is_some_and(|exemption| exemption.holds(world.total(), world.now()));
        minutes.push(Minute::of(&world, exempt));
        let missed = variant.missed > 0 && luck.random(variant.missed) == 0;
        if (minute % 2 == 0) == variant.even && !missed {
            deeds.extend(rule.look(&mut world, exemption).into_iter().map(|deed| (minute, deed)));
            let changed = |(kind, _): &(Kind, Evidence)| opinions.last().is_none_or(|(_, before, _)| before != kind);
            if let Some((kind, evidence)) = rule.opinion().filter(changed) {
                opinions.push((minute, kind, evidence));
            }
        }
        if deeds.last().is_some_and(|(_, deed)| *deed == Deed::Removed) {
            let wrong = exempt || !trace.deserves || drains(trace, &world, minute);
            let grace = if world.alarm { 5 } else { 15 };
            let warned = deeds.iter().any(|(told, deed)| {
                let warns = match deed {
                    Deed::Told(topic, _) => *topic != Topic::Normal,
                    Deed::Noted(..) => !world.can_be_told || world.refuses,
                    _ => false,
                };
                warns && told + grace <= minute && minutes[*told].born == world.born
            });
            removal = Some(Removal { minute, messages: world.total(), wrong, warned });
            break;
        }
        deeds.extend(rule.deliver(&world).into_iter().map(|deed| (minute, deed)));
    }
    judge(
        &minutes,
        Run {
            deeds,
            opinions,
            removal,
            missed: trace.deserves && removal.is_none(),
            troubles: troubles(&minutes),
            told: 0,
            vague: 0,
            late: Vec::new(),
            surplus: Vec::new(),
        },
        means,
    )
}

fn pass(trace: &Trace, world: &mut World, minute: usize) {
    (trace.script)(world, minute);
    for _ in 0..60 / STEP {
        world.step();
    }
}

/// Whether the queue drains within the next quarter of an hour if nobody touches it.
fn drains(trace: &Trace, world: &World, minute: usize) -> bool {
    let mut world = world.clone();
    (minute + 1..minute + 16).any(|minute| {
        match trace.ends_there {
            true => (0..60 / STEP).for_each(|_| world.step()),
            false => pass(trace, &mut world, minute),
        }
        world.total() <= ALERT
    })
}

fn judge(minutes: &[Minute], mut run: Run, means: Means) -> Run {
    let told: Vec<(usize, Topic, Option<Kind>)> = run
        .deeds
        .iter()
        .filter_map(|(minute, deed)| match deed {
            Deed::Told(topic, cause) | Deed::Noted(topic, cause) => Some((*minute, *topic, *cause)),
            _ => None,
        })
        .collect();
    let noted = |(minute, topic, cause): &(usize, Topic, Option<Kind>)| {
        run.deeds.contains(&(*minute, Deed::Noted(*topic, *cause)))
    };
    // What a rule removed or was to be told of after the end does not count.
    let last = minutes.len() - 1;
    for trouble in run.troubles.clone() {
        let within = |minute: usize| (trouble.began..=trouble.deadline).contains(&minute);
        let tells = |(minute, topic, _): &&(usize, Topic, Option<Kind>)| *topic != Topic::Normal && within(*minute);
        if trouble.deadline == usize::MAX {
            continue;
        }
        let in_time: Vec<_> = told.iter().filter(tells).collect();
        if in_time.iter().any(|(_, _, cause)| cause.is_some_and(|cause| means(cause, trouble.causes))) {
            run.told += 1;
        } else if in_time.iter().any(|(_, _, cause)| cause.is_none()) {
            run.vague += 1;
        } else if trouble.deadline <= last {
            run.late.push(trouble);
        }
    }
    let sent: Vec<_> = told.iter().filter(|told| !noted(told)).copied().collect();
    run.surplus = surplus(&run.troubles, &sent, means);
    run
}

fn surplus(troubles: &[Trouble], told: &[(usize, Topic, Option<Kind>)], means: Means) -> Vec<(usize, Deed)> {
    const NEARLY_A_DAY: usize = 23 * 60;
    let mut surplus = Vec::new();
    // When each was told last.
    let mut last: Vec<Option<usize>> = vec![None; troubles.len()];
    let (mut last_calls, mut open) = (0, false);
    for (minute, topic, cause) in told {
        let says = Deed::Told(*topic, *cause);
        if *topic == Topic::Normal {
            let active = troubles.iter().any(|trouble| (trouble.onset..trouble.end).contains(minute));
            if !open || active {
                surplus.push((*minute, says));
            }
            open = false;
            continue;
        }
        open = true;
        // It may have ended while the message was under way.
        let fits = |trouble: &Trouble| {
            (trouble.began..=trouble.end.max(trouble.onset.max(trouble.end.min(trouble.deadline)))).contains(minute)
                && cause.is_none_or(|cause| means(cause, trouble.causes))
        };
        let fitting: Vec<_> = (0..troubles.len()).filter(|index| fits(&troubles[*index])).collect();
        let fresh = fitting.iter().find(|index| last[**index].is_none_or(|before| minute - before >= NEARLY_A_DAY));
        match fresh {
            Some(index) => last[*index] = Some(*minute),
            None if *topic == Topic::LastCall && !fitting.is_empty() && last_calls == 0 => last_calls += 1,
            None => surplus.push((*minute, says)),
        }
    }
    surplus
}
