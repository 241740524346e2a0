//! A pace: no more than so many messages to one address in a stretch of time, however many there are to send.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

/// How many messages went to which address lately. It remembers nothing that is older than two windows.
#[derive(Debug)]
pub struct Pace {
    most: usize,
    window: Duration,
    /// When the last messages to each address were sent, the first of them first; `most` at the most.
    sent: HashMap<String, VecDeque<Timestamp>>,
    tidied: Timestamp,
}

impl Pace {
    /// Lets `most` messages through to each address in any stretch of time that is as long as `window`.
    pub fn new(most: usize, window: Duration) -> Pace {
        Pace { most, window, sent: HashMap::new(), tidied: Timestamp::from_millis(0) }
    }

    /// Counts a message to `address` that is to be sent `now`.
    ///
    /// # Errors
    /// How long it has to wait, where it may not be sent; then it is not counted.
    pub fn admit(&mut self, address: &str, now: Timestamp) -> Result<(), Duration> {
        self.tidy(now);
        let sent = self.sent.entry(address.to_owned()).or_default();
        // What was sent later than now was sent before the clock was set back; it counts as sent just now.
        sent.iter_mut().for_each(|at| *at = now.min(*at));
        while sent.front().is_some_and(|at| at.plus(self.window) <= now) {
            sent.pop_front();
        }
        match sent.front() {
            Some(first) if sent.len() >= self.most => Err(first.plus(self.window).since(now)),
            _ => {
                sent.push_back(now);
                Ok(())
            }
        }
    }

    /// Forgets, once a window, the addresses that nothing was sent to for as long.
    fn tidy(&mut self, now: Timestamp) {
        self.tidied = self.tidied.min(now);
        if self.tidied.plus(self.window) <= now {
            self.sent.retain(|_, sent| sent.back().is_some_and(|last| last.plus(self.window) > now));
            self.tidied = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    fn second(second: i64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + second * 1000)
    }

    #[test]
    fn each_address_has_so_many_in_any_window_and_the_others_are_told_how_long_to_wait() {
        let mut pace = Pace::new(2, WINDOW);
        let mut wait = |address, at| pace.admit(address, second(at)).err().map(|wait| wait.as_secs());
        assert_eq!([wait("a", 0), wait("a", 400), wait("a", 401)], [None, None, Some(199)]);
        assert_eq!([wait("b", 401), wait("a", 599)], [None, Some(1)]);
        assert_eq!([wait("a", 600), wait("a", 601), wait("a", 999), wait("a", 1000)], [None, Some(399), Some(1), None]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait_for_longer_than_a_window() {
        let mut pace = Pace::new(1, WINDOW);
        assert_eq!(pace.admit("a", second(100_000)), Ok(()));
        assert_eq!(pace.admit("a", second(0)), Err(WINDOW));
        assert_eq!(pace.admit("a", second(600)), Ok(()));
    }

    #[test]
    fn addresses_are_forgotten_after_a_while() {
        let mut pace = Pace::new(1, WINDOW);
        for at in 0..10_000 {
            pace.admit(&at.to_string(), second(at)).unwrap();
            assert!(pace.sent.len() <= 1201, "{}", pace.sent.len());
        }
    }
}
