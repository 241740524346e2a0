//! A pace: at most so many messages to one address in a time window, however many wait.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

/// Counts the latest messages to each address. It keeps nothing older than two windows.
#[derive(Debug)]
pub struct Pace {
    most: usize,
    window: Duration,
    /// When the last messages to each address were sent, oldest first; at most `most` of them.
    sent: HashMap<String, VecDeque<Timestamp>>,
    tidied: Timestamp,
}

impl Pace {
    /// Allows `most` messages to each address in any time span of length `window`.
    pub fn new(most: usize, window: Duration) -> Pace {
        Pace { most, window, sent: HashMap::new(), tidied: Timestamp::from_millis(0) }
    }

    /// Counts a message to `address` that somebody wants to send `now`.
    ///
    /// # Errors
    /// How long the message has to wait, if it may not be sent now. It is not counted then.
    pub fn admit(&mut self, address: &str, now: Timestamp) -> Result<(), Duration> {
        self.tidy(now);
        let sent = self.sent.entry(address.to_owned()).or_default();
        // A time later than now is from before the clock was set back. It counts as now.
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

    /// Once a window, forgets the addresses that got nothing for a window.
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
