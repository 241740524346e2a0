//! One schedule: what was done so far, what is under way, and how it goes on.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use taskcluster_pulse::clock::{Clock as _, Timestamp};
use taskcluster_pulse::domain::account::{self, AccountPolicy};
use taskcluster_pulse::domain::audit::By;
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::expiry::ExpiryPolicy;
use taskcluster_pulse::domain::guard::GuardPolicy;
use taskcluster_pulse::domain::hold::HoldPolicy;
use taskcluster_pulse::domain::ladder::Exemption;
use taskcluster_pulse::domain::ladder::{self, Measure, Thresholds};
use taskcluster_pulse::domain::limits::LimitsPolicy;
use taskcluster_pulse::domain::name::{Name, Names};
use taskcluster_pulse::domain::owner::{Groups, Owner};
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::sweep::SweepPolicy;
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::service::{
    Claimed, ConnectionTemplate, Credentials, Ended, Outcome, Policy, Service, ServiceError,
};
use tokio::runtime::Runtime;
use url::Url;

use super::cuts::Cuts;
use super::gate::{Fate, Gates, Line, ProcessClock, Side, TrueTime};
use super::outside::Outside;
use super::planted::Plant;
use super::state::{ALERT, APART, DELAY, DELETE, GRACE, OLDEST_CONNECTION, REMINDER, State};
use super::step::{Setup, Step, Work};

/// When schedules begin, in milliseconds since 1970.
pub const BEGIN: i64 = 1_800_000_000_000;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);
pub const NAMES: [&str; 4] = ["taskcluster-a", "taskcluster-b", "taskcluster-c", "taskcluster-d"];
pub const QUEUES: [&str; 3] = ["queue/taskcluster-a/x", "queue/taskcluster-a/y", "queue/taskcluster-b/x"];

/// How long putting one password in force may take.
/// How accounts are named, and for how long they live.
fn account_policy() -> AccountPolicy {
    AccountPolicy {
        names: vec!["taskcluster-*".into()],
        reserved: Vec::new(),
        lifetime: 30 * DAY,
        retire_after: 2 * HOUR,
    }
}

pub fn settle_budget(every: Duration) -> Duration {
    (30 * SECOND).min(every / 4)
}

/// How far the time of a signed request may be from that of who verifies it.
const SIGNED: Duration = Duration::from_secs(15 * 60);

enum End {
    /// A claim was refused for the time at which it was signed.
    Stale,
    Claimed(Result<Claimed, ServiceError>),
    Ran(Result<Outcome, ServiceError>),
    Refreshed(Result<(), ServiceError>),
    Ended(Result<Ended, ServiceError>),
    Gave(Result<Option<Credentials>, ServiceError>),
}

/// An operation that is under way.
pub struct Running {
    pub op: usize,
    work: Work,
    process: usize,
    future: Pin<Box<dyn Future<Output = End>>>,
}

impl Running {
    /// What it is asked to do.
    pub fn work(&self) -> &Work {
        &self.work
    }
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

/// Somebody asked for credentials of an account. Those before work until the next but one are asked for, or the next where
/// that ends them.
pub struct Asked {
    pub by: usize,
    pub name: Name,
    pub ends: bool,
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
    /// How often the host was started.
    boots: usize,
    pub handed: Vec<Handed>,
    pub said: Vec<Said>,
    pub asked: Vec<Asked>,
    pub cuts: Cuts,
    pub broken: Option<Broken>,
    /// Its clock stands still until time passes here.
    runtime: Runtime,
}

impl Schedule {
    pub fn new(setup: Setup, plant: Option<Plant>) -> Schedule {
        let names = Names::new("taskcluster-", "");
        let mut setup = setup;
        setup.adopted |= plant.is_some_and(Plant::is_about_adoption);
        // Half of the delay is left for clocks that differ.
        let apart = if setup.embedded { DELAY / 2 } else { APART };
        let mut schedule = Schedule {
            plant,
            boots: 0,
            steps: Vec::new(),
            trace: None,
            state: Arc::new(Mutex::new(State::new(names, setup.orphans_after.is_some(), apart, setup.adopted))),
            gates: Arc::new(Gates::default()),
            time: Arc::new(TrueTime::starting_at(BEGIN)),
            processes: Vec::new(),
            running: Vec::new(),
            next: 0,
            handed: Vec::new(),
            said: Vec::new(),
            asked: Vec::new(),
            cuts: Cuts::default(),
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
        let embedded = self.setup.embedded;
        let outside =
            Arc::new(Outside { state: self.state.clone(), line, patience, every, embedded, plant: self.plant });
        let knows = embedded && self.plant != Some(Plant::UptimeUnread);
        let boot = knows.then(|| format!("boot {}", self.boots));
        let clock = Arc::new(ProcessClock { time: self.time.clone(), ahead: AtomicI64::new(ahead), boot });
        let settle_budget = settle_budget(every);
        let names = Names::new("taskcluster-", "");
        let connection = ConnectionTemplate {
            protocol: "amqp://".into(),
            hostname: "localhost".into(),
            port: 5672,
            vhost: "/".into(),
            suffix: String::new(),
            suffixes: Vec::new(),
        };
        let thresholds = Thresholds { alert: ALERT, delete: DELETE, unacked_alert: 1000, unacked_limit: 4000 };
        // Sweeps are minutes or hours apart.
        let ladder = ladder::Policy::new(Measure::Delete, GRACE, GRACE, REMINDER, HOUR);
        let guard = GuardPolicy::new(thresholds, ladder);
        let mut policy = Policy {
            criteria: guard.criteria,
            audit_kept: Duration::from_secs(365 * 86_400),
            names: names.clone(),
            connection,
            rotation_interval: every,
            expiration_delay: DELAY,
            settle_budget,
            first_claim_timeout: 2 * patience,
            // One clock of several on a host that goes wrong for so long that nobody comes is more than can be borne.
            hold: HoldPolicy { silence: every / 4, longest: if embedded { 1000 * DAY } else { DAY }, skew: every / 4 },
            accounts: account_policy(),
            groups: Groups::default(),
            administrators: Vec::new(),
            namespaces_per_client: 1000,
            remembered: 100,
        };
        let brakes = Brakes { most: self.setup.most, percent: 25, owner_percent: 50 };
        let mut sweep = SweepPolicy {
            names: names.clone(),
            guard,
            limits: LimitsPolicy::default(),
            accounts: account_policy(),
            groups: Groups::default(),
            connection_max_lifetime: OLDEST_CONNECTION,
            margin: settle_budget + every / 4,
            brakes,
        };
        let mut expiry = ExpiryPolicy {
            names,
            groups: Groups::default(),
            delay: DELAY,
            warning: HOUR,
            orphans_after: self.setup.orphans_after.map(Duration::from_millis),
            margin: settle_budget,
            reclaim: every * 3 / 2,
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
                if self.waiting(*op).is_empty() {
                    // Another one may make its calls for it, and looks at the time, too.
                    self.beside(*op).into_iter().for_each(|other| _ = self.poll(other));
                }
                self.poll(*op);
            }
            Step::Cancel(op) => self.end(|running| running.op == *op),
            Step::Crash(process) => {
                self.end(|running| running.process == *process);
                let ahead = self.processes[*process].clock.ahead.load(Ordering::SeqCst);
                self.processes[*process] = self.process(*process, ahead);
                self.state.lock().unwrap().refused.remove(process);
            }
            Step::Clock { process, ahead } => {
                self.processes[*process].clock.ahead.store(*ahead, Ordering::SeqCst);
                self.state.lock().unwrap().refused.remove(process);
            }
            Step::Serve { process, millis } => self.serve(*process, Duration::from_millis(*millis))?,
            Step::Reboot(ahead) => {
                self.end(|_| true);
                self.boots += 1;
                self.processes = (0..3).map(|n| self.process(n, *ahead)).collect();
                self.state.lock().unwrap().refused.clear();
            }
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
        let stale = matches!(work, Work::Claim { .. }) && self.setup.embedded && self.refuses(op, process);
        self.state.lock().unwrap().process.insert(op, process);
        if let Work::Claim { name, expires: Some(expires), .. } = work
            && !stale
        {
            // What is past means now.
            let expires = Timestamp::from_millis(BEGIN + expires).max(self.time.now());
            let (name, end) = (Name::from_stored(name.clone()), expires.plus(DELAY));
            self.said.push(Said { by: op, name, end, over: None });
        }
        if let Work::Claim { name, .. } = work {
            self.state.lock().unwrap().claiming.insert(op, (process, Name::from_stored(name.clone())));
        }
        self.note_cut(op, work);
        if let Some((name, ends)) = work.gives() {
            self.asked.push(Asked { by: op, name: Name::from_stored(name.to_owned()), ends, over: None });
        }
        self.next = op + 1;
        let Process { service, sweep, expiry, outside, .. } = &self.processes[process];
        let (service, sweep, expiry, outside) = (service.clone(), sweep.clone(), expiry.clone(), outside.clone());
        let asked = work.clone();
        let hears = self.setup.embedded && self.plant != Some(Plant::DeafToClients);
        let future = async move {
            match asked {
                Work::Claim { name, .. } if stale => {
                    if hears {
                        service.hear(&name, false);
                    }
                    End::Stale
                }
                Work::Claim { name, expires, contact, client } => {
                    if hears {
                        service.hear(&name, true);
                    }
                    let expires = expires.map(|expires| Timestamp::from_millis(BEGIN + expires));
                    let name = Name::from_stored(name);
                    End::Claimed(service.claim(&ClaimRequest { by: by(), name, expires, contact, client }).await)
                }
                Work::Rotate => End::Ran(service.rotate(false).await),
                Work::Sweep => End::Ran(service.sweep(&sweep, false).await),
                Work::Expire => End::Ran(service.expire(&expiry, false).await),
                Work::Deliver => End::Ran(service.deliver(&*outside, false).await),
                Work::Refresh => End::Refreshed(service.refresh_memory().await),
                Work::Beat => End::Refreshed(service.beat().await),
                Work::Own { name, owners } => {
                    let (name, owners) =
                        (Name::from_stored(name), owners.iter().map(|owner| Owner::parse(owner).unwrap()));
                    unless_unknown(service.set_owners(&name, owners.collect(), true, &by()).await.map(drop))
                }
                Work::Exempt { name, end } => {
                    let (name, pattern) = (Name::from_stored(name.clone()), format!("queue/{name}/*"));
                    let endless = Exemption { up_to: None, until: None };
                    unless_unknown(match end {
                        true => service.end_exemption(&name, &pattern, &by()).await.map(drop),
                        false => service.exempt(&name, &pattern, endless, "it may", &by()).await.map(drop),
                    })
                }
                Work::Release(name) => End::Ended(service.release(&Name::from_stored(name), "why", &by()).await),
                Work::Revoke(name) => End::Ended(service.revoke(&Name::from_stored(name), "why", &by()).await),
                Work::Disable(name) => End::Ended(service.disable(&Name::from_stored(name), "why", &by()).await),
                Work::Enable(name) => End::Ended(service.enable(&Name::from_stored(name), "why", &by()).await),
                Work::Account(name) => {
                    let owners = [Owner::parse("p@p.com").unwrap()];
                    End::Gave(service.create_account(&name, &owners, &by()).await.map(Some))
                }
                Work::Credentials { name, end_old } => {
                    End::Gave(service.new_credentials(&Name::from_stored(name), end_old, &by()).await.map(Some))
                }
                Work::MoveOn(name) => {
                    End::Gave(service.move_on(&Name::from_stored(name), account::Schedule::OnDemand, &by()).await)
                }
                Work::Retire(name) => End::Refreshed(service.retire(&Name::from_stored(name), &by()).await.map(drop)),
            }
        };
        self.running.push(Running { op, work: work.clone(), process, future: Box::pin(future) });
        self.poll(op);
    }

    /// All processes accept a request of this client.
    pub fn hear(&mut self, client: &str) {
        self.processes.iter().for_each(|process| process.service.hear(client, true));
    }

    /// Whether a process refuses requests of who has a right clock, which is noted.
    fn refuses(&mut self, op: usize, process: usize) -> bool {
        let (ours, now) = (self.processes[process].clock.now(), self.time.now());
        let refuses = ours.since(now).max(now.since(ours)) > SIGNED;
        if refuses {
            self.state.lock().unwrap().refused.insert(process, (now, op));
        }
        refuses
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
                None => {
                    // Another one may make its calls for it.
                    for other in self.beside(op) {
                        if let Some((ticket, ..)) = self.waiting(other).first() {
                            self.gates.open(*ticket, Fate::Pass);
                        }
                        self.poll(other);
                    }
                    self.wait(SECOND);
                }
            }
            if !self.poll(op) {
                return;
            }
        }
        panic!("#{op} does not end");
    }

    /// The other claims that are under way in the process of a claim.
    fn beside(&self, op: usize) -> Vec<usize> {
        let claims = |running: &&Running| matches!(running.work, Work::Claim { .. });
        let Some(own) = self.running.iter().filter(claims).find(|running| running.op == op) else { return Vec::new() };
        let beside = |running: &&Running| running.process == own.process && running.op != op;
        self.running.iter().filter(claims).filter(beside).map(|running| running.op).collect()
    }

    fn finish(&mut self, op: usize, work: &Work, process: usize, end: End) {
        match end {
            End::Claimed(Ok(claimed)) => {
                let url = Url::parse(&claimed.connection_string).unwrap();
                let password = Password::from_stored(url.password().unwrap().to_owned());
                // Where clocks are set, it is the client's that counts.
                let clock = &self.processes[process].clock;
                let now = if self.setup.embedded { self.time.now() } else { clock.now() };
                let late = |plant: Plant| plant.reclaim_at(claimed.reclaim_at, self.every(process));
                let reclaim_at = self.plant.map_or(claimed.reclaim_at, late);
                self.note(|| format!("#{op} hands out {} until {}", url.username(), claimed.reclaim_at));
                // On a host that was started with a wrong clock nobody knows better at first.
                if self.boots == 0 && (reclaim_at <= now || reclaim_at > now.plus(24 * DAY)) {
                    let fault = format!("#{op} returned a reclaimAt that is past, or too far for JavaScript's timers");
                    self.state.lock().unwrap().faults.push(fault);
                }
                let (name, user) = (claimed.name, url.username().to_owned());
                let recalled = !self.state.lock().unwrap().heard.get(&op).is_some_and(|heard| *heard);
                let at = self.time.now();
                if !recalled {
                    self.state.lock().unwrap().require_stored(op, &name, claimed.expires);
                }
                self.note_handed(op, &name, &user, &password, recalled);
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
            End::Gave(Ok(given)) => {
                if let Some(Credentials { name, user, password, .. }) = given {
                    self.note(|| format!("#{op} gives {user}"));
                    self.note_handed(op, &name, &user, &password, false);
                    let (at, hash, recalled) = (self.time.now(), None, false);
                    // In truth for longer than any schedule takes.
                    let reclaim_at = at.plus(20 * DAY);
                    self.handed.push(Handed { by: op, name, user, password, hash, at, reclaim_at, recalled });
                }
                self.ended(op, work, None);
            }
            End::Gave(Err(error)) => {
                self.note(|| format!("#{op} fails: {error}"));
                self.ended(op, work, None);
            }
            End::Ended(Ok(ended)) => {
                self.note(|| format!("#{op} ends: {ended:?}"));
                self.note_ended(op, work, &ended);
                self.ended(op, work, None);
            }
            End::Ended(Err(error)) => {
                self.note(|| format!("#{op} fails: {error}"));
                self.ended(op, work, None);
            }
            End::Refreshed(Ok(())) | End::Stale => self.ended(op, work, None),
            End::Ran(Err(error)) | End::Refreshed(Err(error)) => {
                self.note(|| format!("#{op} fails: {error}"));
                self.ended(op, work, None);
            }
        }
    }

    fn ended(&mut self, op: usize, work: &Work, outcome: Option<&Outcome>) {
        let next = self.next;
        self.said.iter_mut().filter(|said| said.by == op).for_each(|said| said.over = Some(next));
        self.cuts.over(op, next);
        self.asked.iter_mut().filter(|asked| asked.by == op).for_each(|asked| asked.over = Some(next));
        let Some(broken) = &mut self.broken else { return };
        if broken.repaired_by.is_none() && self.running.iter().all(|running| running.op >= broken.before) {
            broken.repaired_by = Some(next);
        }
        let misled = self.state.lock().unwrap().misled.contains(&op);
        if !self.state.lock().unwrap().intruders.is_empty() {
            // No sweep makes good what somebody else holds.
            return;
        }
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

fn by() -> By {
    By::client("somebody")
}

/// What became of a change of a namespace, which may not be there.
fn unless_unknown(done: Result<(), ServiceError>) -> End {
    End::Refreshed(match done {
        Err(ServiceError::NoNamespace(_)) => Ok(()),
        done => done,
    })
}
