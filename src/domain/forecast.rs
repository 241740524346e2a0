//! When a queue will reach a size, with a range. It is shown, and never acted upon but to warn earlier.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::course::{Course, Way, course};
use crate::domain::history::History;
use crate::domain::words::{moment, number};

/// From fewer looks nothing is foretold.
const FEWEST_LOOKS: usize = 10;
/// What is further away is not foretold.
const FURTHEST: Duration = Duration::from_secs(24 * 3600);

/// When a queue will reach a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The number of messages.
    pub messages: u64,
    /// At about this time.
    pub at: Timestamp,
    /// The near edge of the range.
    pub earliest: Timestamp,
    /// The far edge of the range.
    pub latest: Timestamp,
}

/// When a queue that gains messages will have `messages`, or one that loses them no more than that. `None` where that can't
/// be said: the queue does not surely go that way, there were fewer than ten looks, or it is further away than a day.
pub fn forecast(history: &History, messages: u64, silence: Duration, now: Timestamp) -> Option<Forecast> {
    let Course { way, trend } = course(history, silence, FEWEST_LOOKS);
    let last = history.last()?;
    let (trend, total) = (trend?, last.total);
    let missing = messages as f64 - trend.level;
    let (near, far) = match way {
        Way::Up if total < messages => (trend.most, trend.least),
        Way::Down if total > messages => (trend.least, trend.most),
        _ => return None,
    };
    // By the slope it may be there already, although it is not.
    let after = |hourly: f64| Duration::try_from_secs_f64((missing / hourly).max(0.0) * 3600.0).ok();
    let at = |hourly| after(hourly).map(|after| last.at.plus(after).max(now));
    let far = at(far).unwrap_or(Timestamp::from_millis(i64::MAX));
    let forecast = Forecast { messages, at: at(trend.hourly)?, earliest: at(near)?, latest: far };
    (forecast.at.since(now) <= FURTHEST).then_some(forecast)
}

impl Forecast {
    /// `reaches 8,000 messages at about 14:20 UTC (14:05 UTC to 15:10 UTC)`.
    pub fn sentence(&self, now: Timestamp) -> String {
        let [at, earliest, latest] = [self.at, self.earliest, self.latest].map(|at| moment(at, now));
        format!("reaches {} messages at about {at} ({earliest} to {latest})", number(self.messages))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::history::Look;

    const SILENCE: Duration = Duration::from_secs(900);

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_millis(1_780_012_800_000 + minute * 60_000)
    }

    fn history(totals: impl IntoIterator<Item = u64>) -> (History, Timestamp) {
        let mut history: Option<History> = None;
        let mut now = at(0);
        for (n, total) in (0..).zip(totals) {
            now = at(2 * n);
            let look = Look { at: now, ready: total, unacked: 0, total, consumers: None, counters: None };
            match &mut history {
                None => history = Some(History::begin(look, 0)),
                Some(history) => _ = history.add(look, 0),
            }
        }
        (history.unwrap(), now)
    }

    #[test]
    fn a_line_is_drawn_on() {
        let (history, now) = history((0..16).map(|n| 1000 + 100 * n));
        let told = forecast(&history, 8000, SILENCE, now).unwrap();
        assert_eq!((told.at, told.earliest, told.latest), (at(30 + 110), at(30 + 110), at(30 + 110)));
        assert!(told.sentence(now).starts_with("reaches 8,000 messages at about "), "{}", told.sentence(now));
        assert_eq!(forecast(&history, 2000, SILENCE, now), None, "it has more");
        assert_eq!(forecast(&history, 90_000, SILENCE, now), None, "further than a day");
    }

    #[test]
    fn noise_makes_a_range_and_much_noise_makes_none() {
        let noise = |n: u64| {
            let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40
        };
        let (some, now) = history((0..16).map(|n| 1000 + 100 * n + noise(n) % 150));
        let told = forecast(&some, 8000, SILENCE, now).unwrap();
        assert!(told.earliest < told.at && told.at < told.latest, "{told:?}");
        assert!(told.earliest < at(140) && at(140) < told.latest, "{told:?}");
        let (much, now) = history((0..16).map(|n| 4000 + n + noise(n) % 900));
        assert_eq!(forecast(&much, 8000, SILENCE, now), None);
    }

    #[test]
    fn few_looks_tell_nothing_and_a_drain_tells_its_end() {
        let (few, now) = history((0..9).map(|n| 1000 + 100 * n));
        assert_eq!(forecast(&few, 8000, SILENCE, now), None);
        let (drain, now) = history((0..12).map(|n| 9000 - 100 * n));
        assert_eq!(forecast(&drain, 4000, SILENCE, now).map(|told| told.at), Some(at(100)));
        assert_eq!(forecast(&drain, 9500, SILENCE, now), None);
    }
}
