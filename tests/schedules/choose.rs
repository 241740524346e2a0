//! Choosing what happens, at random.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use taskcluster_pulse::clock::Timestamp;

use super::gate::{ANSWER, Fate, Side};
use super::planted::Plant;
use super::schedule::{BEGIN, DAY, HOUR, MINUTE, NAMES, QUEUES, SECOND, Schedule};
use super::state::{ADOPTED, ALERT, DELETE, PERSON, REFUSES};
use super::step::{Setup, Step, Work, millis};

/// What a schedule is about: how often which work begins, how often others do something, and of how many namespaces.
#[derive(Debug)]
pub struct Focus {
    claim: u32,
    rotate: u32,
    sweep: u32,
    expire: u32,
    deliver: u32,
    /// Namespaces are ended, disabled and enabled, and credentials are revoked.
    end: u32,
    /// Accounts are made, and given credentials.
    people: u32,
    meddle: u32,
    names: usize,
    /// How likely it begins with a claim that nothing disturbs.
    claimed: f64,
    /// How likely somebody breaks the broker now and then.
    breaks: f64,
    /// How likely a time that passes is long.
    long: f64,
    /// How likely all are on one host whose clock is set by any amount.
    jumps: f64,
    /// Whether that host is restarted.
    boots: bool,
    /// How likely an operation is begun by the first of the processes.
    alone: f64,
}

/// What all are alike in: one namespace, of which nothing is done.
const ONE: Focus = Focus {
    claim: 0,
    rotate: 0,
    sweep: 0,
    expire: 0,
    deliver: 0,
    end: 0,
    people: 0,
    meddle: 0,
    names: 1,
    claimed: 0.9,
    breaks: 0.0,
    long: 0.5,
    jumps: 0.0,
    boots: false,
    alone: 0.0,
};
const ALL: Focus = Focus {
    claim: 4,
    rotate: 2,
    sweep: 2,
    expire: 2,
    deliver: 1,
    end: 1,
    people: 1,
    meddle: 10,
    names: 2,
    claimed: 0.5,
    breaks: 0.3,
    ..ONE
};
pub const ROTATING: Focus = Focus { claim: 5, rotate: 5, sweep: 1, claimed: 0.3, ..ONE };
pub const WAITING: Focus = Focus { claim: 3, rotate: 7, long: 0.8, ..ONE };
pub const REPAIRING: Focus = Focus { claim: 3, rotate: 4, sweep: 4, meddle: 6, claimed: 0.7, breaks: 1.0, ..ONE };
pub const EXPIRING: Focus =
    Focus { claim: 4, rotate: 3, sweep: 1, expire: 5, meddle: 3, claimed: 0.5, breaks: 0.3, ..ONE };
/// Credentials are revoked, and namespaces are disabled and ended.
pub const CUTTING: Focus =
    Focus { claim: 6, rotate: 2, sweep: 4, expire: 2, end: 5, meddle: 5, claimed: 0.9, breaks: 0.3, long: 0.3, ..ONE };
/// Many claims come to one process at once.
pub const CROWDING: Focus =
    Focus { claim: 20, rotate: 2, expire: 2, sweep: 1, names: 4, claimed: 0.5, long: 0.3, alone: 0.9, ..ONE };
/// People have accounts.
pub const PEOPLE: Focus = Focus { claim: 1, sweep: 6, expire: 2, deliver: 2, people: 9, meddle: 4, breaks: 0.2, ..ONE };
pub const GUARDING: Focus = Focus { claim: 2, sweep: 7, deliver: 2, meddle: 20, breaks: 0.1, ..ONE };
/// Much is to be told before anybody is told.
pub const TELLING: Focus = Focus { claim: 1, sweep: 12, deliver: 1, meddle: 20, claimed: 1.0, long: 0.8, ..ONE };
/// Clocks are set.
pub const JUMPING: Focus = Focus {
    claim: 4,
    rotate: 4,
    sweep: 1,
    expire: 4,
    deliver: 1,
    meddle: 3,
    claimed: 0.9,
    long: 0.3,
    jumps: 1.0,
    ..ONE
};
/// The host is restarted with a clock that is wrong. That nothing tells until a client comes, so that rotation goes on.
pub const REBOOTING: Focus = Focus { rotate: 0, sweep: 0, boots: true, ..JUMPING };
const FOCUSES: [&Focus; 12] = [
    &ALL, &CROWDING, &PEOPLE, &ROTATING, &WAITING, &REPAIRING, &EXPIRING, &CUTTING, &GUARDING, &TELLING, &JUMPING,
    &REBOOTING,
];

/// Where an operation may fall asleep until all others are done, one at a time: it has stored what it is about to do.
const ASLEEP: &str = "write: answer";
const ENDLESS: usize = usize::MAX;

/// Chooses the steps of one schedule.
struct Chooser {
    rng: StdRng,
    focus: &'static Focus,
    /// Whether the broker is broken now and then.
    breaks: bool,
    /// Whether a client comes with many namespaces.
    crowd: bool,
    /// Whether store and broker are down now and then.
    outages: bool,
    /// How many of a hundred calls fail.
    failing: u32,
    /// How far clocks may be ahead.
    apart: i64,
    /// Operations that stand still until there are so many steps.
    standing: BTreeMap<usize, usize>,
    /// Operations that were given a list which is not as it should be. No node lies twice in a row.
    misled: BTreeSet<usize>,
}

/// Runs the schedule that belongs to a seed. It is given back as far as it went.
pub fn run(seed: u64, plant: Option<Plant>) -> (Schedule, Result<(), String>) {
    let (mut chooser, setup) = Chooser::new(seed, plant.map(Plant::focus));
    let mut schedule = Schedule::new(setup, plant);
    let ran = chooser.drive(&mut schedule).and_then(|()| schedule.calm_down());
    (schedule, ran)
}

impl Chooser {
    fn new(seed: u64, focus: Option<&'static Focus>) -> (Chooser, Setup) {
        let mut rng = StdRng::seed_from_u64(seed);
        let any = *pick(&mut rng, &FOCUSES);
        let focus = focus.unwrap_or(any);
        let every = *pick(&mut rng, &[HOUR, HOUR, 10 * MINUTE, 20 * SECOND]);
        let embedded = focus.jumps > 0.0 && rng.random_bool(focus.jumps);
        let every = if embedded { HOUR } else { every };
        let breaks = rng.random_bool(focus.breaks);
        let others = [every, every, 10 * every, every / 4 + 2 * SECOND];
        // A sweep knows when others rotate only if they do it as often.
        let changed = if breaks || embedded { every } else { *pick(&mut rng, &others) };
        let quarter = every.min(changed) / 4;
        let apart = i64::try_from(millis(quarter)).unwrap();
        let mut ahead = || if embedded || rng.random_bool(0.5) { 0 } else { rng.random_range(0..apart) };
        let setup = Setup {
            every: [millis(every), millis(changed), millis(changed)],
            ahead: [0, ahead(), ahead()],
            // A client may have all namespaces, and where they are many, they end together.
            most: if focus.names > 2 { 500 } else { *pick(&mut rng, &[500, 500, 4]) },
            orphans_after: *pick(&mut rng, &[None, Some(millis(HOUR))]),
            one_contact: rng.random_bool(0.5),
            expiring: focus.expire > 0,
            embedded,
            adopted: rng.random_bool(0.3),
        };
        let (outages, crowd) = (rng.random_bool(0.2), rng.random_bool(0.1));
        let failing = *pick(&mut rng, &[0, 0, 2, 10]);
        (
            Chooser {
                focus,
                breaks,
                crowd,
                outages,
                failing,
                apart,
                standing: BTreeMap::new(),
                misled: BTreeSet::new(),
                rng,
            },
            setup,
        )
    }

    fn drive(&mut self, schedule: &mut Schedule) -> Result<(), String> {
        if schedule.setup.embedded {
            schedule.take(Step::Serve { process: 0, millis: millis(HOUR / 2) })?;
        }
        if self.rng.random_bool(self.focus.claimed) {
            let (op, work) = (schedule.next, self.claim(schedule));
            schedule.take(Step::Begin { op, process: 0, work })?;
            schedule.take(Step::Call { op, call: "the end".to_owned(), fate: Fate::Pass })?;
        }
        for _ in 0..self.rng.random_range(20..200) {
            self.turn(schedule)?;
        }
        for op in schedule.running.iter().map(|running| running.op).collect::<Vec<_>>() {
            if self.rng.random_bool(0.5) {
                schedule.take(Step::Cancel(op))?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, schedule: &mut Schedule) -> Result<(), String> {
        let running = schedule.running.len();
        if schedule.setup.embedded && self.rng.random_bool(0.2) {
            return self.set_clocks(schedule);
        }
        match self.rng.random_range(0..93 + self.focus.meddle) {
            0..55 if running > 0 => {
                let op = schedule.running[self.rng.random_range(0..running)].op;
                self.advance(schedule, op)
            }
            55..73 if running < 5 => {
                let alone = self.focus.alone > 0.0 && self.rng.random_bool(self.focus.alone);
                let process = if alone { 0 } else { self.rng.random_range(0..3) };
                let (op, work) = (schedule.next, self.work(schedule));
                schedule.take(Step::Begin { op, process, work })
            }
            73..87 => {
                let every = schedule.every(0);
                let (short, long) =
                    ([SECOND, 5 * SECOND, 20 * SECOND], [every / 4, every / 2, every, 130 * SECOND, HOUR]);
                let spans = if self.rng.random_bool(self.focus.long) { &long[..] } else { &short[..] };
                schedule.take(Step::Wait(millis(*pick(&mut self.rng, spans))))
            }
            87..89 if running > 0 => {
                let op = schedule.running[self.rng.random_range(0..running)].op;
                schedule.take(Step::Cancel(op))
            }
            89 => schedule.take(Step::Crash(self.rng.random_range(0..3))),
            90 if schedule.setup.embedded => Ok(()),
            90 => {
                let (process, ahead) = (self.rng.random_range(1..3), self.rng.random_range(0..self.apart));
                schedule.take(Step::Clock { process, ahead })
            }
            91..93 if self.outages => {
                let (store, broker) =
                    *pick(&mut self.rng, &[(false, false), (true, false), (false, true), (true, true)]);
                schedule.take(Step::Down { store, broker })
            }
            93.. => match self.meddling(schedule) {
                Some(step) => schedule.take(step),
                None => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// A process serves for a while, a clock is set, or those of all processes, or the host is restarted.
    fn set_clocks(&mut self, schedule: &mut Schedule) -> Result<(), String> {
        let aheads = [Duration::ZERO, Duration::ZERO, HOUR / 3, 6 * HOUR, 3 * DAY, 400 * DAY]
            .map(|by| i64::try_from(millis(by)).unwrap());
        let ahead = *pick(&mut self.rng, &aheads) * *pick(&mut self.rng, &[1, -1]);
        let process = self.rng.random_range(0..3);
        match self.rng.random_range(0..10) {
            0..6 => {
                let served = *pick(&mut self.rng, &[MINUTE, HOUR / 2, HOUR, 3 * HOUR]);
                schedule.take(Step::Serve { process, millis: millis(served) })
            }
            6..8 => schedule.take(Step::Clock { process, ahead }),
            8 if self.focus.boots => schedule.take(Step::Reboot(ahead)),
            _ => (0..3).try_for_each(|process| schedule.take(Step::Clock { process, ahead })),
        }
    }

    /// Lets an operation make some calls.
    fn advance(&mut self, schedule: &mut Schedule, op: usize) -> Result<(), String> {
        if self.standing.get(&op).is_some_and(|until| *until > schedule.steps.len()) {
            return Ok(());
        }
        for _ in 0..*pick(&mut self.rng, &[1, 1, 2, 3, 8, 100, 100]) {
            if !schedule.running.iter().any(|running| running.op == op) {
                return Ok(());
            }
            let waiting = schedule.waiting(op);
            if waiting.is_empty() || self.rng.random_bool(0.02) {
                schedule.take(Step::Wake(op))?;
                if waiting.is_empty() {
                    return Ok(());
                }
            } else {
                let (_, side, call) = pick(&mut self.rng, &waiting).clone();
                let alone = self.standing.values().all(|until| *until != ENDLESS);
                if alone && call == ASLEEP && self.rng.random_bool(0.1) {
                    self.standing.insert(op, ENDLESS);
                    return Ok(());
                }
                let fate = self.fate(op, side, &call);
                schedule.take(Step::Call { op, call, fate })?;
            }
        }
        // Some stand still for long, while others go on.
        if self.rng.random_bool(0.2) {
            self.standing.insert(op, schedule.steps.len() + self.rng.random_range(20..150));
        }
        Ok(())
    }

    fn fate(&mut self, op: usize, side: Side, call: &str) -> Fate {
        if self.rng.random_range(0..100) >= self.failing {
            return Fate::Pass;
        }
        let fates: &[Fate] = match side {
            _ if call.starts_with("list") && !call.ends_with(ANSWER) => {
                &[Fate::Fail, Fate::Hang, Fate::Deny, Fate::Stale, Fate::Partial]
            }
            Side::Broker if call.ends_with(ANSWER) => &[Fate::Fail, Fate::Hang, Fate::Garble],
            Side::Broker => &[Fate::Fail, Fate::Hang, Fate::Deny],
            Side::Store if call == "write" => &[Fate::Fail, Fate::Hang, Fate::Lose],
            Side::Store | Side::Mail => &[Fate::Fail, Fate::Hang],
        };
        let fate = *pick(&mut self.rng, fates);
        let misled = matches!(fate, Fate::Stale | Fate::Partial) && !self.misled.insert(op);
        if misled { Fate::Fail } else { fate }
    }

    fn work(&mut self, schedule: &Schedule) -> Work {
        if self.outages && self.rng.random_bool(0.2) {
            return Work::Refresh;
        }
        let Focus { claim, rotate, sweep, expire, deliver, end, people, .. } = *self.focus;
        let mut at = self.rng.random_range(0..claim + rotate + sweep + expire + deliver + end + people);
        let mut is = |weight: u32| {
            let is = at < weight;
            at = at.wrapping_sub(weight);
            is
        };
        if is(claim) {
            match self.rng.random_range(0..20) {
                0 => self.own(),
                1 => Work::Exempt { name: self.name().to_owned(), end: self.rng.random_bool(0.5) },
                _ => self.claim(schedule),
            }
        } else if is(rotate) {
            Work::Rotate
        } else if is(sweep) {
            Work::Sweep
        } else if is(expire) {
            Work::Expire
        } else if is(end) {
            self.end()
        } else if is(people) {
            self.account()
        } else {
            Work::Deliver
        }
    }

    fn end(&mut self) -> Work {
        let name = self.name().to_owned();
        match self.rng.random_range(0..10) {
            0..5 => Work::Revoke(name),
            5 => Work::Release(name),
            6 | 7 => Work::Disable(name),
            _ => Work::Enable(name),
        }
    }

    fn account(&mut self) -> Work {
        let name = (*pick(&mut self.rng, &[PERSON, ADOPTED])).to_owned();
        match self.rng.random_range(0..12) {
            0..2 => Work::Account(PERSON.to_owned()),
            2..8 => Work::Credentials { name, end_old: self.rng.random_bool(0.2) },
            8 | 9 => Work::MoveOn(ADOPTED.to_owned()),
            10 => Work::Retire(ADOPTED.to_owned()),
            _ if self.rng.random_bool(0.5) => Work::Revoke(name),
            _ => Work::Release(PERSON.to_owned()),
        }
    }

    fn own(&mut self) -> Work {
        let owners: &[&str] = match self.rng.random_range(0..4) {
            0 => &[],
            1 => &["b@b.com", "c@c.com", "group:d"],
            _ => &["b@b.com"],
        };
        Work::Own { name: self.name().to_owned(), owners: owners.iter().map(|owner| (*owner).to_owned()).collect() }
    }

    fn claim(&mut self, schedule: &Schedule) -> Work {
        let begin = Timestamp::from_millis(BEGIN);
        let expires = if self.focus.expire == 0 {
            // Always the same, so that a claim may find nothing to change.
            Some(begin.plus(100 * DAY))
        } else {
            let lives = *pick(&mut self.rng, &[Duration::ZERO, 5 * MINUTE, HOUR / 2, 2 * HOUR, 100 * DAY]);
            // Whose end is asked for was to end at some time, be that past for as long as a namespace is kept after it.
            let past = *pick(&mut self.rng, &[Duration::ZERO, Duration::ZERO, HOUR / 2, 2 * HOUR]);
            self.rng.random_bool(0.5).then(|| schedule.time.now().plus(lives).minus(past))
        };
        let one = Some("a@a.com");
        let contact = if schedule.setup.one_contact {
            one
        } else {
            *pick(&mut self.rng, &[None, one, one, Some(""), Some(REFUSES)])
        };
        let (name, contact) = (self.name().to_owned(), contact.map(str::to_owned));
        let client = pick(&mut self.rng, &[None, Some("one"), Some("other")]).map(str::to_owned);
        Work::Claim { name, expires: expires.map(|at| at.millis() - BEGIN), contact, client }
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.random_range(0..self.focus.names)]
    }

    fn meddling(&mut self, schedule: &Schedule) -> Option<Step> {
        let queue = (*pick(&mut self.rng, &QUEUES)).to_owned();
        let name = self.name();
        let user = format!("{name}-{}", self.rng.random_range(1..3));
        Some(match self.rng.random_range(0..if self.breaks { 17 } else { 14 }) {
            0..5 => {
                let messages =
                    *pick(&mut self.rng, &[0, 3, ALERT + 1, ALERT + 1, DELETE + 1, DELETE + 1, DELETE + 500]);
                Step::Fill { queue, messages, exclusive: self.rng.random_bool(0.3) }
            }
            5 => Step::Drop(queue),
            6 => Step::Declare(format!("exchange/{name}/x")),
            7 => Step::Lost,
            8..10 if schedule.handed.is_empty() => return None,
            8..10 => Step::Connect(name.to_owned()),
            10 if self.focus.people > 0 && self.rng.random_bool(0.3) => Step::Abandon,
            11 if self.focus.people > 0 && self.rng.random_bool(0.5) => Step::Connect(PERSON.to_owned()),
            10 if self.breaks => Step::Wipe,
            11 if self.breaks => Step::Tamper(user),
            12 if self.focus.expire > 0 && self.crowd => {
                self.crowd = false;
                Step::Crowd(schedule.time.now().plus(*pick(&mut self.rng, &[MINUTE, HOUR])).millis() - BEGIN)
            }
            13 => Step::Untag(user),
            14..16 => Step::Intrude(user),
            16 => Step::Leave(user),
            _ => return None,
        })
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}
