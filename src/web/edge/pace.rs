//! The share of what is answered whatever else is asked, because it takes no place (see [`super::limits`]): monitoring, the
//! published contract, paths that there are not, and refusals of callers who are not known.
//!
//! None of it is refused, because a balancer takes a process for dead that does not answer; it is answered later. Each
//! connection has [`FIRST`] such answers at its beginning, gets a new one every [`OWN_STEP`], and may save up [`OWN`] of them:
//! more than a balancer asks for, and too few for a flood on connections that are made anew again and again. What a
//! connection asks for beyond that is answered at [`Limits::spare_rate`](super::limits::Limits::spare_rate) for all together.
//! So a flood gets that rate, however many connections it comes on and whatever it costs, and who checks now and then
//! does not wait behind it, even from the same address.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many answers of this kind a connection may save up.
const OWN: u32 = 20;
/// How many of them it has at its beginning.
const FIRST: u32 = 4;
/// How long it takes until it has another one.
const OWN_STEP: Duration = Duration::from_millis(500);
/// How many the rate for all saves up, as a time.
const SAVED: Duration = Duration::from_millis(100);
/// The longest that an answer is held back.
const LONGEST: Duration = Duration::from_secs(2);

/// What goes no faster than one step at a time, and may save up some steps.
#[derive(Debug)]
struct Bucket {
    step: Duration,
    saved: Duration,
    /// Until when the steps are taken, some of them saved ones.
    taken: Option<Instant>,
}

impl Bucket {
    /// When the next step would be over, and by how much that is too early for it.
    fn next(&self, now: Instant) -> (Instant, Duration) {
        let next = self.taken.map_or(now, |taken| taken.max(now)) + self.step;
        (next, next.saturating_duration_since(now).saturating_sub(self.saved))
    }
}

/// What one connection has of its own.
#[derive(Debug, Clone)]
pub(in crate::web) struct Allowance(Arc<Mutex<Bucket>>);

impl Allowance {
    /// Of a connection that begins now.
    pub fn new(now: Instant) -> Allowance {
        let taken = Some(now + OWN_STEP * (OWN - FIRST));
        Allowance(Arc::new(Mutex::new(Bucket { step: OWN_STEP, saved: OWN_STEP * OWN, taken })))
    }

    fn take(&self, now: Instant) -> bool {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, early) = own.next(now);
        if early.is_zero() {
            own.taken = Some(next);
        }
        early.is_zero()
    }
}

/// What is left for all connections together.
#[derive(Debug)]
pub(in crate::web) struct Pace(Mutex<Bucket>);

impl Pace {
    /// So many answers a second.
    pub fn new(rate: u32) -> Pace {
        Pace(Mutex::new(Bucket { step: Duration::from_secs(1) / rate.max(1), saved: SAVED, taken: None }))
    }

    /// For how long an answer on a connection with this allowance is to be held back.
    pub fn wait(&self, own: &Allowance, now: Instant) -> Duration {
        if own.take(now) {
            return Duration::ZERO;
        }
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, early) = shared.next(now);
        if early < LONGEST {
            shared.taken = Some(next);
        }
        early.min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_now_and_then_never_waits_and_a_flood_gets_its_rate() {
        let (pace, start) = (Pace::new(100), Instant::now());
        let flood: Vec<_> = (0..50).map(|_| Allowance::new(start)).collect();
        let mut answers = Vec::new();
        // Each connection asks again as soon as it has an answer.
        let mut asks: Vec<_> = flood.iter().map(|own| (start, own)).collect();
        let end = start + Duration::from_secs(30);
        while let Some(at) = asks.iter().map(|(at, _)| *at).min().filter(|at| *at < end) {
            for (next, own) in asks.iter_mut().filter(|(next, _)| *next == at) {
                *next += pace.wait(own, at).max(Duration::from_micros(1));
                answers.push(*next);
            }
        }
        // What the connections have of their own, and what is left for all.
        let most = 50 * (FIRST as usize + 60) + 100 * 30 + 10;
        assert!((most / 2..=most).contains(&answers.len()), "{}", answers.len());
        let balancer = Allowance::new(start);
        for second in 0..30 {
            assert_eq!(pace.wait(&balancer, start + Duration::from_secs(second)), Duration::ZERO);
        }
        // By then it has saved up some.
        assert!((0..OWN).all(|_| pace.wait(&balancer, start + Duration::from_secs(60)).is_zero()));
    }

    #[test]
    fn no_answer_is_held_back_for_long() {
        let (pace, now) = (Pace::new(1), Instant::now());
        let own = Allowance::new(now);
        let waits: Vec<_> = (0..FIRST + 10).map(|_| pace.wait(&own, now)).collect();
        assert!(waits[..FIRST as usize].iter().all(Duration::is_zero), "{waits:?}");
        assert_eq!(waits.last(), Some(&LONGEST));
    }

    #[test]
    fn connections_that_are_made_anew_bring_a_flood_little() {
        let (pace, start) = (Pace::new(100), Instant::now());
        // Each sends twenty requests, takes what is answered at once, and makes way for the next one.
        let at_once = |own: Allowance| (0..20).filter(|_| pace.wait(&own, start).is_zero()).count();
        let answers: usize = (0..500).map(|_| at_once(Allowance::new(start))).sum();
        assert!(answers <= 500 * FIRST as usize + 10, "{answers}");
    }
}
