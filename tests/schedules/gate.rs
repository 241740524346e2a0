//! Gates: each call that the service makes to the outside waits at one before it takes effect, and at another one before
//! its answer is seen. So the schedule decides in which order things happen, and what fails.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use taskcluster_pulse::clock::{Clock, Timestamp};

/// The true time; it stands still until it is moved.
pub struct TrueTime(AtomicI64);

impl TrueTime {
    pub fn starting_at(millis: i64) -> TrueTime {
        TrueTime(AtomicI64::new(millis))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// One process' clock, which may be ahead, and may be set.
pub struct ProcessClock {
    pub time: Arc<TrueTime>,
    pub ahead: AtomicI64,
    /// Which boot of the one host it is, where all processes are on one; else nothing is known but the calendar.
    pub boot: Option<String>,
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.time.now().millis() + self.ahead.load(Ordering::SeqCst))
    }

    fn uptime(&self) -> Duration {
        let from = if self.boot.is_some() { self.time.now() } else { self.now() };
        from.since(Timestamp::from_millis(0))
    }

    fn boot(&self) -> Option<&str> {
        self.boot.as_deref()
    }
}

/// What becomes of a call at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    Pass,
    /// It fails: before it takes effect, or its answer is lost.
    Fail,
    /// There is no answer within the caller's patience.
    Hang,
    /// The broker refuses the account.
    Deny,
    /// The broker's answer can't be read.
    Garble,
    /// Nothing of a write is stored, as if other processes had been first.
    Lose,
    /// A list is answered as it was before the time last moved.
    Stale,
    /// A list lacks every other thing.
    Partial,
}

/// Whom a call is made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Store,
    Broker,
    Mail,
}

/// Why a call failed.
pub enum Failure {
    Unavailable(String),
    Denied,
    Garbled,
}

struct Ticket {
    id: u64,
    op: usize,
    side: Side,
    call: String,
    fate: Option<Fate>,
    waker: Option<Waker>,
}

/// All gates of a schedule.
#[derive(Default)]
pub struct Gates {
    tickets: Mutex<(u64, Vec<Ticket>)>,
    /// The operation that is going on, whose calls come to the gates.
    pub current: AtomicUsize,
    /// Whether nobody reaches the store, or the broker.
    pub store_down: AtomicBool,
    pub broker_down: AtomicBool,
}

impl Gates {
    /// The calls of an operation that wait at a gate.
    pub fn waiting(&self, op: usize) -> Vec<(u64, Side, String)> {
        let tickets = &self.tickets.lock().unwrap().1;
        tickets.iter().filter(|t| t.op == op && t.fate.is_none()).map(|t| (t.id, t.side, t.call.clone())).collect()
    }

    /// Decides what becomes of one that waits.
    pub fn open(&self, id: u64, fate: Fate) {
        let tickets = &mut self.tickets.lock().unwrap().1;
        let ticket = tickets.iter_mut().find(|t| t.id == id).unwrap();
        ticket.fate = Some(fate);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
    }

    fn pass(self: &Arc<Gates>, op: usize, side: Side, call: String) -> Pass {
        let mut inner = self.tickets.lock().unwrap();
        inner.0 += 1;
        let id = inner.0;
        inner.1.push(Ticket { id, op, side, call, fate: None, waker: None });
        Pass { gates: self.clone(), id }
    }
}

/// Waiting at a gate.
struct Pass {
    gates: Arc<Gates>,
    id: u64,
}

impl Future for Pass {
    type Output = Fate;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fate> {
        let mut inner = self.gates.tickets.lock().unwrap();
        let ticket = inner.1.iter_mut().find(|t| t.id == self.id).unwrap();
        match ticket.fate {
            Some(fate) => Poll::Ready(fate),
            None => {
                ticket.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gates.tickets.lock().unwrap().1.retain(|t| t.id != self.id);
    }
}

/// The line on which a process calls the outside.
#[derive(Clone)]
pub struct Line {
    pub gates: Arc<Gates>,
    pub time: Arc<TrueTime>,
}

/// How the gate before the answer to a call is called.
pub const ANSWER: &str = ": answer";

impl Line {
    /// The operation that is going on.
    pub fn op(&self) -> usize {
        self.gates.current.load(Ordering::SeqCst)
    }

    /// Calls: `apply` is what the call does. The caller waits as long as its `patience`; a call that began longer ago has
    /// no effect any more. A caller that stood still may see an answer later.
    pub async fn call<T>(
        &self,
        side: Side,
        call: impl Into<String>,
        patience: Duration,
        apply: impl FnOnce(Fate) -> T,
    ) -> Result<T, Failure> {
        let (call, asked, op) = (call.into(), self.time.now(), self.op());
        let fate = self.gates.pass(op, side, call.clone()).await;
        self.suffer(side, &call, fate, asked.plus(patience)).await?;
        if self.time.now().since(asked) > patience {
            return Err(Failure::Unavailable(call));
        }
        let answer = apply(fate);
        let call = call + ANSWER;
        let fate = self.gates.pass(op, side, call.clone()).await;
        self.suffer(side, &call, fate, asked.plus(patience)).await?;
        Ok(answer)
    }

    async fn suffer(&self, side: Side, call: &str, fate: Fate, late: Timestamp) -> Result<(), Failure> {
        let unavailable = || Err(Failure::Unavailable(call.to_owned()));
        let down = match side {
            Side::Store => self.gates.store_down.load(Ordering::SeqCst),
            Side::Broker => self.gates.broker_down.load(Ordering::SeqCst),
            Side::Mail => false,
        };
        match fate {
            Fate::Fail => unavailable(),
            Fate::Hang => {
                tokio::time::sleep(late.since(self.time.now())).await;
                unavailable()
            }
            Fate::Deny => Err(Failure::Denied),
            Fate::Garble => Err(Failure::Garbled),
            Fate::Pass | Fate::Lose | Fate::Stale | Fate::Partial if down => unavailable(),
            Fate::Pass | Fate::Lose | Fate::Stale | Fate::Partial => Ok(()),
        }
    }
}
