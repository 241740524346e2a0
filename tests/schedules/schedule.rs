//! One schedule: what was done so far, what is under way, and how it goes on.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use taskcluster_pulse::clock::{Clock as _, Timestamp};
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::hold::HoldPolicy;
use taskcluster_pulse::domain::name::{Name, Names};
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::service::{Claimed, ConnectionTemplate, Outcome, Policy, Service, ServiceError};
use tokio::runtime::Runtime;
use url::Url;

use super::gate::{Fate, Gates, Line, ProcessClock, Side, TrueTime};
use super::outside::Outside;
use super::planted::Plant;
use super::state::{ALERT, DELAY, DELETE, OLDEST_CONNECTION, REMINDER, State};
use super::step::{Setup, Step, Work};

/// When schedules begin, in milliseconds since 1970.
pub const BEGIN: i64 = 1_800_000_000_000;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const NAMES: [&str; 2] = ["taskcluster-a", "taskcluster-b"];
pub const QUEUES: [&str; 3] = ["queue/taskcluster-a/x", "queue/taskcluster-a/y", "queue/taskcluster-b/x"];

/// How long putting one password in force may take.
pub fn settle_budget(every: Duration) -> Duration {
    (30 * SECOND).min(every / 4)
}

enum End {
    Claimed(Result<Claimed, ServiceError>),
    Ran(Result<Outcome, ServiceError>),
    Refreshed(Result<(), ServiceError>),
}

/// An operation that is under way.
pub struct Running {
    pub op: usize,
    work: Work,
    process: usize,
    future: Pin<Box<dyn Future<Output = End>>>,
}

/// A credential that was handed out.
pub struct Handed {
    pub by: usize,
    pub name: Name,
    pub user: String,
    pub password: Password,
    /// The hash by which it was last seen to log in.
    pub hash: Option<PasswordHash>,
    pub at: Timestamp,
    pub reclaim_at: Timestamp,
    /// Whether a process answered from memory, because the store did not answer it.
    pub recalled: bool,
}

/// A claim that said when its namespace shall end, which ends what was promised before.
pub struct Said {
    pub by: usize,
    pub name: Name,
    pub end: Timestamp,
    /// The first operation that began after this one had ended.
    pub over: Option<usize>,
}

/// The broker lost something, or somebody changed it.
pub struct Broken {
    /// The first operation that began afterwards.
    pub before: usize,
    /// A sweep that begins from this one on makes it good: all that were under way then have ended before.
    pub repaired_by: Option<usize>,
}

/// A process: it lives until it crashes, and remembers what it likes.
struct Process {
    service: Arc<Service>,
    sweep: SweepPolicy,
    expiry: ExpiryPolicy,
    outside: Arc<Outside>,
    clock: Arc<ProcessClock>,
}

pub struct Schedule {
    pub setup: Setup,
    plant: Option<Plant>,
    pub steps: Vec<Step>,
    /// What happened, for who reads it; nothing is noted where there is none.
    pub trace: Option<Vec<String>>,
    pub state: Arc<Mutex<State>>,
    gates: Arc<Gates>,
    pub time: Arc<TrueTime>,
    processes: Vec<Process>,
    pub running: Vec<Running>,
    /// What no operation is called yet.
    pub next: usize,
    pub handed: Vec<Handed>,
    pub said: Vec<Said>,
    pub broken: Option<Broken>,
    /// Its clock stands still until time passes here.
    runtime: Runtime,
}

impl Schedule {
    pub fn new(setup: Setup, plant: Option<Plant>) -> Schedule {
        let names = Names::new("taskcluster-", "");
        let mut schedule = Schedule {
            plant,
            steps: Vec::new(),
            trace: None,
            state: Arc::new(Mutex::new(State::new(names, setup.orphans_after.is_some()))),
            gates: Arc::new(Gates::default()),
            time: Arc::new(TrueTime::starting_at(BEGIN)),
            processes: Vec::new(),
            running: Vec::new(),
            next: 0,
            handed: Vec::new(),
            said: Vec::new(),
            broken: None,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
            setup,
        };
        schedule.processes = (0..3).map(|n| schedule.process(n, schedule.setup.ahead[n])).collect();
        schedule
    }

    pub fn every(&self, process: usize) -> Duration {
        Duration::from_millis(self.setup.every[process])
    }

    /// A process that has just begun.
    fn process(&self, n: usize, ahead: i64) -> Process {
        let every = self.every(n);
        let line = Line { gates: self.gates.clone(), time: self.time.clone() };
        let patience = (3 * SECOND).min(every / 10);
        let outside = Arc::new(Outside { state: self.state.clone(), line, patience, every, plant: self.plant });
        let clock = Arc::new(ProcessClock { time: self.time.clone(), ahead: AtomicI64::new(ahead) });
        let settle_budget = settle_budget(every);
        let names = Names::new("taskcluster-", "");
        let connection = ConnectionTemplate {
            protocol: "amqp://".into(),
            hostname: "localhost".into(),
            port: 5672,
            vhost: "/".into(),
            suffix: String::new(),
        };
        let mut policy = Policy {
            names: names.clone(),
            connection,
            rotation_interval: every,
            expiration_delay: DELAY,
            settle_budget,
            first_claim_timeout: 2 * patience,
            hold: HoldPolicy { silence: every / 4, longest: DAY, skew: every / 4 },
            remembered: 100,
        };
        let brakes = Brakes { most: self.setup.most, percent: 25 };
        let mut sweep = SweepPolicy {
            names: names.clone(),
            alert_threshold: ALERT,
            delete_threshold: DELETE,
            connection_max_lifetime: OLDEST_CONNECTION,
            reminder: REMINDER,
            margin: settle_budget + every / 4,
            brakes,
        };
        let mut expiry = ExpiryPolicy {
            names,
            delay: DELAY,
            warning: HOUR,
            orphans_after: self.setup.orphans_after.map(Duration::from_millis),
            margin: settle_budget,
            brakes,
        };
        if let Some(plant) = self.plant {
            plant.policies(&mut policy, &mut sweep, &mut expiry);
        }
        let service = Arc::new(Service::new(outside.clone(), outside.clone(), clock.clone(), policy));
        Process { service, sweep, expiry, outside, clock }
    }

    /// Takes these steps, then becomes quiet.
    ///
    /// # Errors
    /// What is wrong.
    pub fn replay(&mut self, steps: &[Step]) -> Result<(), String> {
        steps.iter().try_for_each(|step| self.take(step.clone()))?;
        self.calm_down()
    }

    /// Takes one step.
    ///
    /// # Errors
    /// What is wrong after it.
    pub fn take(&mut self, step: Step) -> Result<(), String> {
        self.note(|| serde_json::to_string(&step).unwrap());
        match &step {
            Step::Wait(millis) => self.wait(Duration::from_millis(*millis)),
            Step::Begin { op, process, work } => self.begin(*op, *process, work),
            Step::Call { op, call, fate } => self.call(*op, call, *fate),
            Step::Wake(op) => {
                self.poll(*op);
            }
            Step::Cancel(op) => self.end(|running| running.op == *op),
            Step::Crash(process) => {
                self.end(|running| running.process == *process);
                let ahead = self.processes[*process].clock.ahead.load(Ordering::SeqCst);
                self.processes[*process] = self.process(*process, ahead);
            }
            Step::Clock { process, ahead } => self.processes[*process].clock.ahead.store(*ahead, Ordering::SeqCst),
            Step::Down { store, broker } => {
                self.gates.store_down.store(*store, Ordering::SeqCst);
                self.gates.broker_down.store(*broker, Ordering::SeqCst);
            }
            meddling => self.meddle(meddling),
        }
        self.steps.push(step);
        self.check()
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        let seconds = (self.time.now().millis() - BEGIN) as f64 / 1000.0;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{seconds:>10.1} {}", what()));
        }
    }

    pub fn wait(&mut self, by: Duration) {
        let state = &mut *self.state.lock().unwrap();
        state.earlier = (state.broker.clone(), self.time.now());
        self.time.advance(by);
        self.runtime.block_on(tokio::time::advance(by));
    }

    fn end(&mut self, which: impl Fn(&Running) -> bool) {
        for ended in self.running.extract_if(.., |running| which(running)).collect::<Vec<_>>() {
            self.ended(ended.op, &ended.work, None);
        }
    }

    /// Starts an operation; it stands at its first call then.
    pub fn begin(&mut self, op: usize, process: usize, work: &Work) {
        if let Work::Claim { name, expires: Some(expires), .. } = work {
            let (name, end) = (Name::from_stored(name.clone()), Timestamp::from_millis(BEGIN + expires).plus(DELAY));
            self.said.push(Said { by: op, name, end, over: None });
        }
        self.next = op + 1;
        let Process { service, sweep, expiry, outside, .. } = &self.processes[process];
        let (service, sweep, expiry, outside) = (service.clone(), sweep.clone(), expiry.clone(), outside.clone());
        let asked = work.clone();
        let future = async move {
            match asked {
                Work::Claim { name, expires, contact } => {
                    let expires = expires.map(|expires| Timestamp::from_millis(BEGIN + expires));
                    let name = Name::from_stored(name);
                    End::Claimed(service.claim(&ClaimRequest { name, expires, contact }).await)
                }
                Work::Rotate => End::Ran(service.rotate(false).await),
                Work::Sweep => End::Ran(service.sweep(&sweep, false).await),
                Work::Expire => End::Ran(service.expire(&expiry, false).await),
                Work::Deliver => End::Ran(service.deliver(&*outside, false).await),
                Work::Refresh => End::Refreshed(service.refresh_memory().await),
            }
        };
        self.running.push(Running { op, work: work.clone(), process, future: Box::pin(future) });
        self.poll(op);
    }

    /// The calls of an operation that stand at a gate.
    pub fn waiting(&self, op: usize) -> Vec<(u64, Side, String)> {
        self.gates.waiting(op)
    }

    /// Lets an operation look what there is to do. `false` where it has ended.
    fn poll(&mut self, op: usize) -> bool {
        let Some(at) = self.running.iter().position(|running| running.op == op) else { return false };
        self.gates.current.store(op, Ordering::SeqCst);
        let polled = {
            let _time = self.runtime.enter();
            self.running[at].future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        };
        let Poll::Ready(end) = polled else { return true };
        let Running { work, process, .. } = self.running.remove(at);
        self.finish(op, &work, process, end);
        false
    }

    /// Lets an operation go on until it comes to this call, and decides what becomes of that.
    fn call(&mut self, op: usize, call: &str, fate: Fate) {
        for _ in 0..100 {
            let waiting = self.waiting(op);
            if let Some((ticket, ..)) = waiting.iter().find(|(.., waits)| waits == call) {
                self.gates.open(*ticket, fate);
                self.poll(op);
                return;
            }
            if let Some((ticket, ..)) = waiting.first() {
                self.gates.open(*ticket, Fate::Pass);
            }
            if !self.poll(op) || self.waiting(op).is_empty() {
                return;
            }
        }
    }

    /// Lets an operation go on to its end.
    pub fn complete(&mut self, op: usize) {
        for _ in 0..10_000 {
            match self.waiting(op).first() {
                Some((ticket, ..)) => self.gates.open(*ticket, Fate::Pass),
                None => self.wait(SECOND),
            }
            if !self.poll(op) {
                return;
            }
        }
        panic!("#{op} does not end");
    }

    fn finish(&mut self, op: usize, work: &Work, process: usize, end: End) {
        match end {
            End::Claimed(Ok(claimed)) => {
                let url = Url::parse(&claimed.connection_string).unwrap();
                let password = Password::from_stored(url.password().unwrap().to_owned());
                let now = self.processes[process].clock.now();
                let late = |plant: Plant| plant.reclaim_at(claimed.reclaim_at, self.every(process));
                let reclaim_at = self.plant.map_or(claimed.reclaim_at, late);
                self.note(|| format!("#{op} hands out {} until {}", url.username(), claimed.reclaim_at));
                if reclaim_at <= now || reclaim_at > now.plus(24 * DAY) {
                    let fault = format!("#{op} returned a reclaimAt that is past, or too far for JavaScript's timers");
                    self.state.lock().unwrap().faults.push(fault);
                }
                let (name, user) = (claimed.name, url.username().to_owned());
                let recalled = !self.state.lock().unwrap().heard.get(&op).is_some_and(|heard| *heard);
                let at = self.time.now();
                self.handed.push(Handed { by: op, name, user, password, hash: None, at, reclaim_at, recalled });
                self.ended(op, work, None);
            }
            End::Claimed(Err(error)) => {
                self.note(|| format!("#{op} fails: {error}"));
                self.ended(op, work, None);
            }
            End::Ran(Ok(outcome)) => {
                self.note(|| format!("#{op} ends: {outcome}"));
                self.ended(op, work, Some(&outcome));
            }
            End::Refreshed(Ok(())) => self.ended(op, work, None),
            End::Ran(Err(error)) | End::Refreshed(Err(error)) => {
                self.note(|| format!("#{op} fails: {error}"));
                self.ended(op, work, None);
            }
        }
    }

    fn ended(&mut self, op: usize, work: &Work, outcome: Option<&Outcome>) {
        let next = self.next;
        self.said.iter_mut().filter(|said| said.by == op).for_each(|said| said.over = Some(next));
        let Some(broken) = &mut self.broken else { return };
        if broken.repaired_by.is_none() && self.running.iter().all(|running| running.op >= broken.before) {
            broken.repaired_by = Some(next);
        }
        let misled = self.state.lock().unwrap().misled.contains(&op);
        let good = !misled && outcome.is_some_and(|outcome| outcome.failed == 0 && outcome.held.is_none());
        if matches!(work, Work::Sweep) && good && broken.repaired_by.is_some_and(|from| op >= from) {
            self.broken = None;
            // A sweep leaves the standby user to the next switch where that is near.
            let state = self.state.lock().unwrap();
            let is_active = |handed: &Handed| {
                let found = state.store.namespaces.get(&handed.name);
                let active = found.and_then(|found| found.rotation.active.as_ref());
                active.is_some_and(|active| state.names.user(&handed.name, active.slot) == handed.user)
            };
            self.handed
                .retain(|handed| is_active(handed) || state.lets_in(&handed.user, &handed.password, None).is_some());
        }
    }
}
