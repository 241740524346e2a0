//! One schedule: what is done in which order, and what must hold after each step.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::hold::HoldPolicy;
use taskcluster_pulse::domain::inventory::BrokerConnection;
use taskcluster_pulse::domain::name::{Name, Names, Permissions, Slot, USER_TAG};
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::service::{Claimed, ConnectionTemplate, Outcome, Policy, Service, ServiceError};
use url::Url;

use super::gate::{Fate, Gates, Line, ProcessClock, TrueTime};
use super::outside::{ALERT, APART, DELAY, DELETE, FOREIGN, OLDEST_CONNECTION, Outside, Queue, State};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
const NAMES: [&str; 2] = ["taskcluster-a", "taskcluster-b"];
/// A queue that looks like ours, of a namespace that nobody claimed.
const LOST: &str = "queue/taskcluster-lost/x";
const QUEUES: [&str; 3] = ["queue/taskcluster-a/x", "queue/taskcluster-a/y", "queue/taskcluster-b/x"];

#[derive(Debug, Clone)]
enum Work {
    Claim(Name, Option<Timestamp>, Option<&'static str>),
    Rotate,
    Sweep,
    Expire,
    Deliver,
}

enum End {
    Claimed(Result<Claimed, ServiceError>),
    Ran(Result<Outcome, ServiceError>),
}

/// An operation that is under way.
struct Running {
    id: usize,
    work: Work,
    process: usize,
    future: Pin<Box<dyn Future<Output = End>>>,
}

/// A credential that was handed out.
struct Handed {
    by: usize,
    name: Name,
    user: String,
    password: Password,
    /// The hash by which it was last seen to log in.
    hash: Option<PasswordHash>,
    at: Timestamp,
    reclaim_at: Timestamp,
}

/// A claim that said when its namespace shall end, which ends what was promised before.
struct Said {
    by: usize,
    name: Name,
    end: Timestamp,
    /// The first operation that began after this one had ended.
    over: Option<usize>,
}

/// The broker lost something, or somebody changed it.
struct Broken {
    /// The operations that were under way then, or are the first that began afterwards.
    before: usize,
    /// A sweep that begins from this one on makes it good.
    repaired_by: Option<usize>,
}

/// How one process is configured.
#[derive(Clone)]
struct Process {
    every: Duration,
    ahead: Duration,
}

pub struct Schedule {
    pub trace: Vec<String>,
    rng: StdRng,
    state: Arc<Mutex<State>>,
    gates: Arc<Gates>,
    time: Arc<TrueTime>,
    processes: Vec<Process>,
    running: Vec<Running>,
    next: usize,
    handed: Vec<Handed>,
    said: Vec<Said>,
    broken: Option<Broken>,
    /// How many of a hundred calls fail.
    failing: u32,
    breaks: bool,
    expires: bool,
    /// Whether there is always the same contact to be told.
    one_contact: bool,
    brakes: Brakes,
    orphans_after: Option<Duration>,
}

impl Schedule {
    pub fn new(seed: u64) -> Schedule {
        let mut rng = StdRng::seed_from_u64(seed);
        let expires = rng.random_bool(0.7);
        let every = *pick(&mut rng, &[HOUR, HOUR, 10 * MINUTE, 20 * SECOND]);
        let breaks = rng.random_bool(0.3);
        let others = [every, every, 10 * every, every / 4 + 2 * SECOND];
        // A sweep knows when others rotate only if they do it as often.
        let changed = if breaks { every } else { *pick(&mut rng, &others) };
        let apart = if expires { APART.min(every / 4) } else { every / 4 };
        let processes = (0..3)
            .map(|n| Process {
                every: if n == 0 { every } else { changed },
                ahead: if n == 0 || rng.random_bool(0.5) {
                    Duration::ZERO
                } else {
                    apart.mul_f64(rng.random_range(0.0..1.0))
                },
            })
            .collect();
        Schedule {
            trace: vec![format!("interval {every:?}, for others {changed:?}")],
            state: Arc::new(Mutex::new(State::new(Names::new("taskcluster-", "")))),
            gates: Arc::new(Gates::default()),
            time: Arc::new(TrueTime::starting_at(1_800_000_000_000)),
            processes,
            running: Vec::new(),
            next: 0,
            handed: Vec::new(),
            said: Vec::new(),
            broken: None,
            failing: *pick(&mut rng, &[0, 0, 2, 10]),
            breaks,
            expires,
            one_contact: rng.random_bool(0.5),
            brakes: Brakes { most: *pick(&mut rng, &[500, 500, 4]), percent: 25 },
            orphans_after: *pick(&mut rng, &[None, Some(HOUR)]),
            rng,
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn run(&mut self) -> Result<(), String> {
        for _ in 0..self.rng.random_range(20..150) {
            self.step();
            self.check()?;
        }
        self.calm_down()
    }

    fn note(&mut self, what: impl AsRef<str>) {
        let seconds = (self.time.now().millis() - 1_800_000_000_000) as f64 / 1000.0;
        self.trace.push(format!("{seconds:>10.1} {}", what.as_ref()));
    }

    fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..55 if !self.running.is_empty() => {
                let at = self.rng.random_range(0..self.running.len());
                let calls = *pick(&mut self.rng, &[1, 1, 2, 3, 8, 100, 100]);
                self.advance(at, calls);
            }
            55..73 if self.running.len() < 5 => self.start_any(),
            73..87 => {
                let spans =
                    [SECOND, SECOND, 5 * SECOND, 20 * SECOND, 2 * MINUTE, 10 * MINUTE, 35 * MINUTE, HOUR, 5 * HOUR];
                let by = *pick(&mut self.rng, &spans);
                self.time.advance(by);
            }
            87..90 if !self.running.is_empty() => {
                let at = self.rng.random_range(0..self.running.len());
                let crashed = self.running.remove(at);
                self.note(format!("#{} crashes", crashed.id));
                self.ended(crashed.id, &crashed.work, None);
            }
            90.. => self.meddle(),
            _ => {}
        }
    }

    fn start_any(&mut self) {
        let name = Name::from_stored((*pick(&mut self.rng, &NAMES)).to_owned());
        let work = match self.rng.random_range(0..10) {
            0..4 => {
                let spans = [Duration::ZERO, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 10 * HOUR, 100 * DAY];
                let now = self.time.now();
                let soon = self.expires && self.rng.random_bool(0.5);
                let lives = if soon { Some(*pick(&mut self.rng, &spans)) } else { None };
                let expires = lives.map(|lives| now.plus(lives)).or((!self.expires).then(|| now.plus(100 * DAY)));
                {
                    let contact = *pick(&mut self.rng, &[None, Some("a@a.com"), Some("")]);
                    Work::Claim(name, expires, if self.one_contact { Some("a@a.com") } else { contact })
                }
            }
            4..6 => Work::Rotate,
            6..8 => Work::Sweep,
            8 if self.expires => Work::Expire,
            _ => Work::Deliver,
        };
        let process = self.rng.random_range(0..self.processes.len());
        self.start(work, process);
    }

    /// Starts an operation; it stands at its first call then.
    fn start(&mut self, work: Work, process: usize) -> usize {
        let id = self.next;
        self.next += 1;
        self.note(format!("#{id} begins in process {process}: {work:?}"));
        if let Work::Claim(name, Some(expires), _) = &work {
            let (name, end) = (name.clone(), expires.plus(DELAY));
            self.said.push(Said { by: id, name, end, over: None });
        }
        let Process { every, ahead } = self.processes[process].clone();
        let line = Line { gates: self.gates.clone(), time: self.time.clone(), op: id };
        let outside = Arc::new(Outside { state: self.state.clone(), line });
        let clock = Arc::new(ProcessClock { time: self.time.clone(), ahead });
        let settle_budget = (30 * SECOND).min(every / 4);
        let names = Names::new("taskcluster-", "");
        let connection = ConnectionTemplate {
            protocol: "amqp://".into(),
            hostname: "localhost".into(),
            port: 5672,
            vhost: "/".into(),
            suffix: String::new(),
        };
        let policy = Policy {
            names: names.clone(),
            connection,
            rotation_interval: every,
            expiration_delay: DELAY,
            settle_budget,
            hold: HoldPolicy { silence: every / 4, longest: DAY, skew: every / 4 },
            remembered: 100,
            first_claim_timeout: Duration::from_secs(20),
        };
        let service = Service::new(outside.clone(), outside.clone(), clock, policy);
        let brakes = self.brakes;
        let sweep = SweepPolicy {
            names: names.clone(),
            alert_threshold: ALERT,
            delete_threshold: DELETE,
            connection_max_lifetime: OLDEST_CONNECTION,
            reminder: DAY,
            margin: settle_budget + every / 4,
            brakes,
        };
        let expiry = ExpiryPolicy {
            names,
            delay: DELAY,
            warning: HOUR,
            orphans_after: self.orphans_after,
            margin: settle_budget,
            brakes,
        };
        let done = work.clone();
        let future = async move {
            match done {
                Work::Claim(name, expires, contact) => {
                    let contact = contact.map(str::to_owned);
                    End::Claimed(service.claim(&ClaimRequest { name, expires, contact }).await)
                }
                Work::Rotate => End::Ran(service.rotate(false).await),
                Work::Sweep => End::Ran(service.sweep(&sweep, false).await),
                Work::Expire => End::Ran(service.expire(&expiry, false).await),
                Work::Deliver => End::Ran(service.deliver(&*outside, false).await),
            }
        };
        self.running.push(Running { id, work, process, future: Box::pin(future) });
        self.advance(self.running.len() - 1, 0);
        id
    }

    /// Lets an operation make so many calls.
    fn advance(&mut self, at: usize, calls: usize) {
        for done in 0..=calls {
            let Running { id, work, process, future } = &mut self.running[at];
            let (id, work, process) = (*id, work.clone(), *process);
            if let Poll::Ready(end) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                self.running.remove(at);
                self.finish(id, &work, process, end);
                return;
            }
            if done == calls {
                return;
            }
            let waiting = self.gates.waiting(id);
            let &(ticket, call) = waiting.get(self.rng.random_range(0..waiting.len())).unwrap();
            let fate = if self.rng.random_range(0..100) < self.failing { Fate::Fail } else { Fate::Pass };
            self.note(format!("#{id} {fate:?} {call}"));
            self.gates.open(ticket, fate);
        }
    }

    fn finish(&mut self, id: usize, work: &Work, process: usize, end: End) {
        match end {
            End::Claimed(Ok(claimed)) => {
                let url = Url::parse(&claimed.connection_string).unwrap();
                let password = Password::from_stored(url.password().unwrap().to_owned());
                let now = self.time.now().plus(self.processes[process].ahead);
                self.note(format!("#{id} hands out {} until {}", url.username(), claimed.reclaim_at));
                if claimed.reclaim_at <= now || claimed.reclaim_at > now.plus(24 * DAY) {
                    let fault = format!("#{id} returned a reclaimAt that is past, or too far for JavaScript's timers");
                    self.state.lock().unwrap().faults.push(fault);
                }
                let (name, user, reclaim_at) = (claimed.name, url.username().to_owned(), claimed.reclaim_at);
                self.handed.push(Handed { by: id, name, user, password, hash: None, at: self.time.now(), reclaim_at });
                self.ended(id, work, None);
            }
            End::Claimed(Err(error)) => {
                self.note(format!("#{id} fails: {error}"));
                self.ended(id, work, None);
            }
            End::Ran(Ok(outcome)) => {
                self.note(format!("#{id} ends: {outcome}"));
                self.ended(id, work, Some(&outcome));
            }
            End::Ran(Err(error)) => {
                self.note(format!("#{id} fails: {error}"));
                self.ended(id, work, None);
            }
        }
    }

    fn ended(&mut self, id: usize, work: &Work, outcome: Option<&Outcome>) {
        let next = self.next;
        self.said.iter_mut().filter(|said| said.by == id).for_each(|said| said.over = Some(next));
        let Some(broken) = &mut self.broken else { return };
        if broken.repaired_by.is_none() && self.running.iter().all(|running| running.id >= broken.before) {
            broken.repaired_by = Some(next);
        }
        let good = outcome.is_some_and(|outcome| outcome.failed == 0 && outcome.held.is_none());
        if matches!(work, Work::Sweep) && good && broken.repaired_by.is_some_and(|from| id >= from) {
            self.broken = None;
        }
    }

    /// Somebody else does something at the broker.
    fn meddle(&mut self) {
        let now = self.time.now();
        let name = Name::from_stored((*pick(&mut self.rng, &NAMES)).to_owned());
        let queue = *pick(&mut self.rng, &QUEUES);
        let what = self.rng.random_range(0..12);
        let state = self.state.clone();
        let state = &mut *state.lock().unwrap();
        let at_work = state.has_clients(&name);
        match what {
            0..5 if queue.contains(name.as_str()) && (at_work || state.queues.contains_key(queue)) => {
                let messages = *pick(&mut self.rng, &[0, 0, 3, ALERT + 1, DELETE + 1, DELETE + 1]);
                let owner = state.queues.get(queue).and_then(|queue| queue.owner.clone());
                let theirs = state
                    .connections
                    .values()
                    .find(|c| state.names.owner_of_user(&c.user).map(|(o, _)| o).as_ref() == Some(&name));
                let owner = owner.or(theirs
                    .filter(|_| !state.queues.contains_key(queue) && self.rng.random_bool(0.3))
                    .map(|c| c.name.clone()));
                let before = state.queues.get(queue);
                let above = if messages > DELETE || before.is_some_and(|q| q.messages > DELETE) {
                    Some(now)
                } else {
                    before.and_then(|q| q.above)
                };
                self.note(format!("{queue} has {messages} messages"));
                state.queues.insert(queue.to_owned(), Queue { messages, owner, above });
            }
            5 if state.queues.remove(queue).is_some() => {
                self.note(format!("{queue} is deleted by its owner"));
                state.vanished.push(queue.to_owned());
            }
            6 if at_work => {
                state.exchanges.insert(format!("exchange/{name}/x"));
            }
            7..10 => {
                let good = |handed: &&Handed| {
                    handed.name == name && state.lets_in(&handed.user, &handed.password, handed.hash.as_ref()).is_some()
                };
                if let Some(handed) = self.handed.iter().rev().find(good) {
                    let (user, connection) = (handed.user.clone(), format!("connection {}", self.trace.len()));
                    let connected = BrokerConnection { name: connection.clone(), user, connected: Some(now) };
                    state.connections.insert(connection, connected);
                }
            }
            6 => {
                let lost = Queue { messages: DELETE + 1, owner: None, above: None };
                state.queues.insert(LOST.to_owned(), lost);
            }
            10 if self.breaks => {
                self.note("the broker loses everything");
                state.wipe();
                self.broken =
                    Some(Broken { before: self.next, repaired_by: self.running.is_empty().then_some(self.next) });
            }
            11 if self.breaks => {
                let user = state.names.user(&name, *pick(&mut self.rng, &Slot::BOTH));
                if let Some(found) = state.users.get_mut(&user) {
                    found.hash = Password::random().hash();
                    let permissions = Permissions { configure: ".*".into(), write: ".*".into(), read: ".*".into() };
                    state.permissions.insert(user.clone(), permissions);
                    self.note(format!("somebody changes {user}"));
                    self.broken =
                        Some(Broken { before: self.next, repaired_by: self.running.is_empty().then_some(self.next) });
                }
            }
            _ => {}
        }
        // A queue that is too large now is so until somebody empties it.
        state.queues.values_mut().filter(|queue| queue.messages > DELETE).for_each(|queue| queue.above = Some(now));
    }

    fn check(&mut self) -> Result<(), String> {
        let now = self.time.now();
        let state = self.state.clone();
        let state = &mut *state.lock().unwrap();
        state.queues.values_mut().filter(|queue| queue.messages > DELETE).for_each(|queue| queue.above = Some(now));
        if let Some(fault) = state.faults.first() {
            return Err(fault.clone());
        }
        for foreign in FOREIGN.iter().map(|name| (*name).to_owned()) {
            let there = state.users.contains_key(&foreign)
                && state.queues.contains_key(&foreign)
                && state.exchanges.contains(&foreign)
                && state.connections.contains_key(&foreign);
            if !there {
                return Err(format!("something foreign that is called {foreign} was removed"));
            }
        }
        let said = &self.said;
        self.handed.retain(|handed| {
            let ends = |said: &Said| {
                let own = said.by == handed.by && said.end > handed.at.plus(DELAY / 2);
                said.name == handed.name
                    && said.end <= now.plus(APART)
                    && (!own || said.end > now)
                    && said.over.is_none_or(|over| over > handed.by)
            };
            handed.reclaim_at > now && !said.iter().any(ends)
        });
        if self.broken.is_some() {
            return Ok(());
        }
        for handed in &mut self.handed {
            handed.hash = state.lets_in(&handed.user, &handed.password, handed.hash.as_ref());
            if handed.hash.is_none() {
                let Handed { user, by, reclaim_at, .. } = handed;
                return Err(format!("{user}, handed out by #{by} until {reclaim_at}, does not log in"));
            }
        }
        Ok(())
    }

    /// Runs an operation to its end.
    fn run_alone(&mut self, work: Work) -> Result<(), String> {
        let id = self.start(work, 0);
        while let Some(at) = self.running.iter().position(|running| running.id == id) {
            self.advance(at, 100);
        }
        self.check()
    }

    /// Ends what is under way, and lets the tasks do their work without faults: then store and broker must agree, and later
    /// nothing may be left of what has expired.
    fn calm_down(&mut self) -> Result<(), String> {
        self.failing = 0;
        self.note("it becomes quiet");
        while !self.running.is_empty() {
            if self.rng.random_bool(0.5) {
                let crashed = self.running.remove(0);
                self.note(format!("#{} crashes", crashed.id));
                self.ended(crashed.id, &crashed.work, None);
            } else {
                self.advance(0, 1000);
            }
            self.check()?;
        }
        self.time.advance(10 * MINUTE);
        self.check()?;
        for _ in 0..3 {
            for work in [Work::Rotate, Work::Sweep, Work::Expire, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.time.advance(10 * MINUTE);
        }
        self.run_alone(Work::Rotate)?;
        self.run_alone(Work::Sweep)?;
        self.agrees()?;
        self.time.advance(200 * DAY);
        for _ in 0..4 {
            for work in [Work::Expire, Work::Sweep, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.time.advance(HOUR);
        }
        self.nothing_is_left()
    }

    fn agrees(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        if self.broken.is_some() {
            return Err("a sweep in peace and quiet did not make the broker good".into());
        }
        for namespace in state.namespaces.values().filter(|found| found.gone.is_none()) {
            for slot in Slot::BOTH {
                let user = state.names.user(&namespace.name, slot);
                let found = state.users.get(&user).ok_or(format!("{user} is missing"))?;
                let good = match namespace.rotation.password_of(slot) {
                    Some(password) => found.hash.verifies(password),
                    None => found.hash.is_blocked(),
                };
                let allowed = state.permissions.get(&user) == Some(&state.names.permissions(&namespace.name));
                if !good || !allowed || found.tags != [USER_TAG] {
                    return Err(format!("{user} is not as the store says"));
                }
            }
        }
        Ok(())
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        for name in NAMES {
            let name = Name::from_stored(name.to_owned());
            if state.namespaces.contains_key(&name) {
                return Err(format!("the record of {name} is left"));
            }
            let remains = state.remains(&name);
            if !remains.is_empty() {
                return Err(format!("of {name}, {remains:?} are left"));
            }
        }
        if let Some(alert) = state.alerts.values().next() {
            return Err(format!("an alert is left: {alert:?}"));
        }
        if let Some(notice) = state.told.iter().find(|notice| !state.delivered.contains(&notice.id)) {
            return Err(format!("nobody was told: {}", notice.subject));
        }
        for queue in QUEUES {
            let told = |what: &str| {
                state.told.iter().filter(|n| n.subject.contains(queue) && n.subject.contains(what)).count()
            };
            let deleted = state.deleted.iter().filter(|(name, _)| name == queue);
            let vanished = state.vanished.iter().filter(|name| *name == queue);
            if told(" was deleted ") > deleted.clone().count() + vanished.count() {
                return Err(format!("more deletions of {queue} were told than happened"));
            }
            // Whatever becomes of a deletion, its owner hears of the queue afterwards, if there is one by then.
            let hears = |before: usize| state.told[before..].iter().any(|n| n.subject.contains(queue));
            if self.one_contact && state.buried.is_empty() && !deleted.clone().all(|(_, before)| hears(*before)) {
                return Err(format!("a deletion of {queue} was not told"));
            }
        }
        Ok(())
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}
