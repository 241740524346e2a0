//! Time: [`Timestamp`] and the [`Clock`] it is read from.
//!
//! This is the only file that asks what time it is. Everything else is handed a `Timestamp`, read once per request or
//! tick, so that tests set the time by hand and every decision within one request sees the same moment.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};

/// A moment in UTC, in whole milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The last moment that is written with a four-digit year, `9999-12-31T23:59:59.999Z`; arithmetic stops there.
const LATEST: i64 = 253_402_300_799_999;
/// The first moment that is written with a four-digit year, `0000-01-01T00:00:00.000Z`.
const EARLIEST: i64 = -62_167_219_200_000;

impl Timestamp {
    /// The moment `millis` milliseconds after the Unix epoch, held within the years 0 to 9999.
    pub const fn from_millis(millis: i64) -> Timestamp {
        if millis > LATEST {
            Timestamp(LATEST)
        } else if millis < EARLIEST {
            Timestamp(EARLIEST)
        } else {
            Timestamp(millis)
        }
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Reads a date and time as RFC 3339 writes it, and with the liberties that Taskcluster's validator allows: a blank
    /// or a lower-case `t` before the time, a lower-case `z`, an offset without a colon or without minutes, a missing
    /// offset (read as UTC), a leap second (read as the second after it). `None` where the text is none of these.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date, rest) = (text.get(..10)?, text.get(10..)?);
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let (time, zone) = rest.split_at(zone_at);
        let local = NaiveDateTime::parse_from_str(&format!("{date}T{time}"), "%Y-%m-%dT%H:%M:%S%.f").ok()?;
        let offset = offset_minutes(zone)?;
        Some(Timestamp::from_millis(local.and_utc().timestamp_millis() - offset * 60_000))
    }

    /// This moment and `by` more.
    pub fn plus(self, by: Duration) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_add(millis(by)))
    }

    /// This moment less `by`.
    pub fn minus(self, by: Duration) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_sub(millis(by)))
    }

    /// How long after `earlier` this moment is; zero where it isn't.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis(of: Duration) -> i64 {
    i64::try_from(of.as_millis()).unwrap_or(i64::MAX)
}

/// Minutes east of UTC that `zone` (`Z`, `+02:00`, `+0200`, `+02` or nothing) stands for.
fn offset_minutes(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let digits = zone[1..].replacen(':', "", 1);
    if !digits.bytes().all(|b| b.is_ascii_digit()) || !matches!(digits.len(), 2 | 4) {
        return None;
    }
    let hours: i64 = digits[..2].parse().ok()?;
    let minutes: i64 = digits.get(2..).filter(|m| !m.is_empty()).map_or(Ok(0), str::parse).ok()?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

impl fmt::Display for Timestamp {
    /// As Taskcluster writes dates: `2026-12-01T00:00:00.000Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = DateTime::<Utc>::from_timestamp_millis(self.0).unwrap_or_default();
        f.write_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

/// Where the time comes from.
pub trait Clock: Send + Sync {
    /// The current time.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(Utc::now().timestamp_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_taskcluster_writes_them() {
        assert_eq!(Timestamp::from_millis(1_736_942_400_007).to_string(), "2025-01-15T12:00:00.007Z");
        assert_eq!(Timestamp::from_millis(i64::MAX).to_string(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Timestamp::from_millis(i64::MIN).to_string(), "0000-01-01T00:00:00.000Z");
    }

    #[test]
    fn dates_are_read_as_liberally_as_taskcluster_reads_them() {
        let noon = Some(Timestamp::from_millis(1_736_942_400_000));
        for text in [
            "2025-01-15T12:00:00.000Z",
            "2025-01-15T12:00:00Z",
            "2025-01-15t12:00:00z",
            "2025-01-15 12:00:00Z",
            "2025-01-15T12:00:00",
            "2025-01-15T14:00:00+02:00",
            "2025-01-15T14:00:00+0200",
            "2025-01-15T14:00:00+02",
            "2025-01-15T10:30:00-01:30",
            "2025-01-15T12:00:00.000123Z",
            "2025-01-15T11:59:60Z",
        ] {
            assert_eq!(Timestamp::parse(text), noon, "{text}");
        }
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        for text in [
            "",
            "x",
            "2026-12-01",
            "2026-12-01T00:00Z",
            "2026-02-30T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2026-12-01T24:00:00Z",
            "2026-12-01T00:00:00+",
            "2026-12-01T00:00:00+2",
            "2026-12-01T00:00:00+25:00",
            "2026-12-01T00:00:00ZZ",
            "é026-12-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn arithmetic_saturates() {
        let latest = Timestamp::from_millis(i64::MAX);
        assert_eq!(latest.plus(Duration::from_secs(1)), latest);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(5).minus(Duration::from_millis(4)).millis(), 1);
    }
}
