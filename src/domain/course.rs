//! Which way a queue goes: up, down, or neither, as far as its history is sure of it.

use std::time::Duration;

use crate::clock::Timestamp;
use crate::domain::history::{History, Look};
use crate::domain::trend::Trend;

/// The stretches that are looked at, the shortest first: the first one that is sure decides, so that a queue which grew
/// for hours and shrinks since ten minutes ago is seen to shrink.
const STRETCHES: [Duration; 4] = [minutes(7), minutes(11), minutes(30), minutes(180)];
/// Of shorter stretches, a few looks that happen to rise or fall prove nothing: the change has to be more than what
/// a walk at random of that jitter comes to.
const SHORT: Duration = minutes(30);
/// A change by a smaller share of the level is a ripple.
const RIPPLE: f64 = 0.01;
/// The same of short stretches: what drains more slowly than this takes hours.
const SHORT_RIPPLE: f64 = 0.025;
/// How far back the lowest points of stretches are looked at, for what grows over days.
const DAYS: Duration = minutes(3 * 24 * 60);
/// So many lowest points make days.
const FEWEST_LOWS: usize = 10;

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

/// Which way a queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It surely gains messages.
    Up,
    /// It surely loses messages.
    Down,
    /// Neither, or nobody knows.
    Level,
}

/// Which way a queue goes, and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Course {
    /// Which way.
    pub way: Way,
    /// The trend that is sure of it; of a level queue, its latest one; `None` before there were three looks.
    pub trend: Option<Trend>,
}

/// Which way the queue goes by its total, judged by trends of `fewest` looks or more. Looks before a silence don't count.
///
/// A longer stretch is believed only where no shorter one gainsays it: a queue that drained for an hour, and whose consumer
/// then died, does not go down.
pub fn course(history: &History, silence: Duration, fewest: usize) -> Course {
    let window: Vec<_> = history.window(silence).map(|sample| point(&sample.look)).collect();
    let Some(now) = window.first().map(|(at, _)| *at) else { return Course { way: Way::Level, trend: None } };
    let mut shorter: Vec<Trend> = Vec::new();
    let jitter = jitter(&since(&window, now.minus(SHORT)));
    let stray = |points: usize| 2.0 * jitter * (points as f64 - 1.0).sqrt();
    for stretch in STRETCHES {
        let Some(trend) = Trend::of(&since(&window, now.minus(stretch))) else { continue };
        let counts = trend.points >= fewest && (stretch >= SHORT || trend.change().abs() >= stray(trend.points));
        let ripple = if stretch < SHORT { SHORT_RIPPLE } else { RIPPLE };
        let half = trend.hourly / 2.0;
        if counts && trend.rises(ripple) && shorter.iter().all(|short| short.most >= half) {
            return Course { way: Way::Up, trend: Some(trend) };
        }
        if counts && trend.falls(ripple) && shorter.iter().all(|short| short.least <= half) {
            return Course { way: Way::Down, trend: Some(trend) };
        }
        shorter.push(trend);
    }
    let lows: Vec<_> = history.lows().filter(|low| now.since(low.at) <= DAYS).map(point).collect();
    let days = Trend::of(&lows).filter(|days| lows.len() >= FEWEST_LOWS.max(fewest) && days.rises(0.1));
    match days {
        Some(days) => Course { way: Way::Up, trend: Some(days) },
        None => Course { way: Way::Level, trend: shorter.last().copied() },
    }
}

/// The points since then, the oldest first, of those with the newest first.
fn since(window: &[(Timestamp, u64)], since: Timestamp) -> Vec<(Timestamp, u64)> {
    let mut points: Vec<_> = window.iter().take_while(|(at, _)| *at >= since).copied().collect();
    points.reverse();
    points
}

/// By how much the number leaps about, whichever way it goes: the median of how far each point is off the line between its
/// neighbours, twice. Neither a steady change nor a single jump is jitter.
fn jitter(points: &[(Timestamp, u64)]) -> f64 {
    let off = |three: &[(Timestamp, u64)]| (three[0].1 as f64 - 2.0 * three[1].1 as f64 + three[2].1 as f64).abs();
    let mut off: Vec<_> = points.windows(3).map(off).collect();
    off.sort_by(f64::total_cmp);
    off.get(off.len() / 2).copied().unwrap_or(0.0)
}

fn point(look: &Look) -> (Timestamp, u64) {
    (look.at, look.total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(totals: impl IntoIterator<Item = u64>) -> Way {
        let mut history: Option<History> = None;
        for (n, total) in (0..).zip(totals) {
            let at = Timestamp::from_millis(1_780_000_000_000 + n * 120_000);
            let look = Look { at, ready: total, unacked: 0, total, consumers: None, counters: None };
            match &mut history {
                None => history = Some(History::begin(look, 0)),
                Some(history) => _ = history.add(look, 0),
            }
        }
        course(&history.unwrap(), minutes(10), 3).way
    }

    fn noise(n: u64) -> u64 {
        let mixed = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ (mixed >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40
    }

    #[test]
    fn the_latest_turn_decides() {
        assert_eq!(way((0..60).map(|n| 100 * n)), Way::Up);
        assert_eq!(way((0..60).map(|n| 100 * n).chain((0..4).map(|n| 5900 - 200 * n))), Way::Down);
        assert_eq!(way((0..60).map(|n| 12_000 - 100 * n).chain([6100; 6])), Way::Level, "its consumer died");
        assert_eq!(way((0..60).map(|n| 12_000 - 100 * n).chain((0..6).map(|n| 6100 + 5 * n))), Way::Level);
        assert_eq!(way([9000, 8500, 8000]), Way::Down);
        assert_eq!(way([9000, 8500]), Way::Level);
    }

    #[test]
    fn a_slow_change_under_much_noise_is_seen_in_a_longer_stretch() {
        assert_eq!(way((0..90).map(|n| 20_000 - 10 * n + noise(n) % 200)), Way::Down);
        assert_eq!(way((0..90).map(|n| 5000 + 10 * n + noise(n) % 200)), Way::Up);
        assert_eq!(way((0..90).map(|n| 5000 + noise(n) % 200)), Way::Level);
    }

    #[test]
    fn what_grows_over_days_is_seen_by_its_lowest_points() {
        // Each hour it fills by 2,000 and is emptied, but for a little more.
        let sawtooth = |n: u64| 1000 + n / 2 + (n % 30) * 60;
        assert_eq!(way((0..2 * 720).map(sawtooth).chain([1000 + 720 + 900; 8])), Way::Up);
    }
}
