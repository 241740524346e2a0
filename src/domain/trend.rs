//! How a number changes over time, with a range: the slope of Theil and Sen, with the interval of Sen and Kendall.
//!
//! The slope is the median of the slopes between all pairs of points, which nearly a third of the points can't mislead. A
//! line of least squares is led astray by one burst.

use std::time::Duration;

use crate::clock::Timestamp;

/// So many points are looked at; of more, as many that are evenly spread.
const MOST_POINTS: usize = 30;
/// How many standard deviations each edge of the range is away: 95 % of the ranges hold the true slope.
const Z: f64 = 1.96;
const HOUR_MILLIS: f64 = 3_600_000.0;

/// How a number changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// By how much an hour.
    pub hourly: f64,
    /// By how much an hour at least (negative where it falls).
    pub least: f64,
    /// By how much an hour at most.
    pub most: f64,
    /// Where the number is at the end, by the slope and all points.
    pub level: f64,
    /// The time from the first point to the last.
    pub span: Duration,
    /// How many points there were.
    pub points: usize,
}

impl Trend {
    /// The trend of points in the order of time; `None` of fewer than three.
    pub fn of(points: &[(Timestamp, u64)]) -> Option<Trend> {
        let (first, last) = (points.first()?.0, points.last()?.0);
        // Exact: counts are below 2^53.
        let all: Vec<_> =
            points.iter().map(|(at, count)| (at.since(first).as_millis() as f64, *count as f64)).collect();
        let step = all.len().div_ceil(MOST_POINTS).max(1);
        // The last point is always one of them.
        let kept: Vec<_> = all.iter().rev().step_by(step).rev().copied().collect();
        let mut slopes = Vec::with_capacity(kept.len() * kept.len() / 2);
        for (index, (at, count)) in kept.iter().enumerate() {
            let later = kept[index + 1..].iter().filter(|(other, _)| other > at);
            slopes.extend(later.map(|(other, to)| (to - count) / (other - at)));
        }
        if kept.len() < 3 || slopes.len() < 3 {
            return None;
        }
        slopes.sort_by(f64::total_cmp);
        let slope = median(&slopes);
        let (least, most) = interval(&slopes, kept.len());
        let end = last.since(first).as_millis() as f64;
        let mut levels: Vec<_> = kept.iter().map(|(at, count)| count + slope * (end - at)).collect();
        levels.sort_by(f64::total_cmp);
        Some(Trend {
            hourly: slope * HOUR_MILLIS,
            least: least * HOUR_MILLIS,
            most: most * HOUR_MILLIS,
            level: median(&levels),
            span: last.since(first),
            points: points.len(),
        })
    }

    /// By how much the number changed over all points, by the slope.
    pub fn change(&self) -> f64 {
        self.hourly * self.span.as_secs_f64() / 3600.0
    }

    /// Whether it surely rises, and by more than a ripple, which is so much of its level.
    pub fn rises(&self, ripple: f64) -> bool {
        self.least > 0.0 && self.change() >= self.ripple(ripple)
    }

    /// Whether it surely falls, and by more than a ripple.
    pub fn falls(&self, ripple: f64) -> bool {
        self.most < 0.0 && -self.change() >= self.ripple(ripple)
    }

    fn ripple(&self, share: f64) -> f64 {
        (self.level * share).max(10.0)
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// The slopes between which the true one lies: as far from the middle as Kendall's statistic of unrelated points strays.
/// With three or four points, these are the least and the greatest.
fn interval(sorted: &[f64], points: usize) -> (f64, f64) {
    let n = points as f64;
    let stray = Z * (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
    let last = sorted.len() - 1;
    // A negative number becomes zero.
    let below = ((sorted.len() as f64 - stray) / 2.0).floor() as usize;
    let below = below.min(last / 2);
    (sorted[below], sorted[last - below])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(counts: &[u64]) -> Trend {
        let at = |index: usize| Timestamp::from_millis(1_780_000_000_000 + index as i64 * 120_000);
        let points: Vec<_> = counts.iter().enumerate().map(|(index, count)| (at(index), *count)).collect();
        Trend::of(&points).unwrap()
    }

    #[test]
    fn a_straight_line_has_its_slope() {
        let trend = trend(&[1000, 1100, 1200, 1300, 1400]);
        assert_eq!((trend.hourly, trend.least, trend.most, trend.level), (3000.0, 3000.0, 3000.0, 1400.0));
        assert!(trend.rises(0.01) && !trend.falls(0.01));
        assert_eq!(Trend::of(&[(Timestamp::from_millis(0), 1), (Timestamp::from_millis(9), 2)]), None);
        assert_eq!(Trend::of(&[(Timestamp::from_millis(0), 1); 9]), None, "all at one moment");
    }

    #[test]
    fn one_burst_and_one_dip_change_nothing() {
        let mut counts: Vec<u64> = (0..20).map(|n| 1000 + 10 * n).collect();
        counts[7] = 90_000;
        counts[12] = 0;
        let trend = trend(&counts);
        assert!((trend.hourly - 300.0).abs() < 1.0 && trend.rises(0.01), "{trend:?}");
    }

    #[test]
    fn a_ripple_is_neither_a_rise_nor_a_fall() {
        let ripple: Vec<u64> = (0..30).map(|n| 4000 + n * 7919 % 400).collect();
        assert!(!trend(&ripple).rises(0.01) && !trend(&ripple).falls(0.01), "{:?}", trend(&ripple));
        assert!(!trend(&[4000, 4001, 4002, 4003, 4004, 4005]).rises(0.01));
        assert!(!trend(&[9000; 12]).falls(0.01));
    }

    #[test]
    fn three_looks_that_all_fall_are_a_fall_and_others_are_not() {
        assert!(trend(&[9000, 8000, 7000]).falls(0.01));
        assert!(!trend(&[9000, 9100, 7000]).falls(0.01));
        assert!(trend(&[9000, 9000, 9000, 8000, 7000, 6000, 5000]).falls(0.01));
    }

    #[test]
    fn of_many_points_as_many_are_looked_at_as_are_worth_it() {
        let counts: Vec<u64> = (0..90).map(|n| 5000 + 3 * n).collect();
        let trend = trend(&counts);
        assert_eq!((trend.points, trend.level), (90, 5267.0));
        assert!((trend.hourly - 90.0).abs() < 0.01);
    }
}
