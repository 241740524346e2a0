//! Gates: each call that the service makes to the outside waits at one before it takes effect, and at another one before
//! its answer is seen. So the schedule decides in which order things happen, and what fails.

use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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

/// One process' clock, which may be wrong.
pub struct ProcessClock {
    pub time: Arc<TrueTime>,
    pub ahead: Duration,
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.time.now().plus(self.ahead)
    }
}

/// What becomes of a call at a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Fail,
}

struct Ticket {
    id: u64,
    op: usize,
    call: &'static str,
    fate: Option<Fate>,
    waker: Option<Waker>,
}

/// All gates of a schedule.
#[derive(Default)]
pub struct Gates(Mutex<(u64, Vec<Ticket>)>);

impl Gates {
    /// The calls of an operation that wait at a gate.
    pub fn waiting(&self, op: usize) -> Vec<(u64, &'static str)> {
        let tickets = &self.0.lock().unwrap().1;
        tickets.iter().filter(|t| t.op == op && t.fate.is_none()).map(|t| (t.id, t.call)).collect()
    }

    /// Decides what becomes of one that waits.
    pub fn open(&self, id: u64, fate: Fate) {
        let tickets = &mut self.0.lock().unwrap().1;
        let ticket = tickets.iter_mut().find(|t| t.id == id).unwrap();
        ticket.fate = Some(fate);
        if let Some(waker) = ticket.waker.take() {
            waker.wake();
        }
    }

    fn pass(self: &Arc<Gates>, op: usize, call: &'static str) -> Pass {
        let mut inner = self.0.lock().unwrap();
        inner.0 += 1;
        let id = inner.0;
        inner.1.push(Ticket { id, op, call, fate: None, waker: None });
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
        let mut inner = self.gates.0.lock().unwrap();
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
        self.gates.0.lock().unwrap().1.retain(|t| t.id != self.id);
    }
}

/// The line on which one operation calls the outside.
#[derive(Clone)]
pub struct Line {
    pub gates: Arc<Gates>,
    pub time: Arc<TrueTime>,
    pub op: usize,
}

impl Line {
    /// Calls: `apply` is what the call does. It fails before that, after it, or because the caller's `patience` is over,
    /// which is also as long as the call may take to have an effect.
    pub async fn call<T>(
        &self,
        call: &'static str,
        patience: Option<Duration>,
        apply: impl FnOnce() -> T,
    ) -> Result<T, &'static str> {
        let asked = self.time.now();
        let late = || patience.is_some_and(|patience| self.time.now().since(asked) > patience);
        if self.gates.pass(self.op, call).await == Fate::Fail || late() {
            return Err(call);
        }
        let answer = apply();
        if self.gates.pass(self.op, "the answer").await == Fate::Fail || late() {
            return Err(call);
        }
        Ok(answer)
    }
}
