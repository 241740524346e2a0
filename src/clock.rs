//! Time: [`Timestamp`] and the [`Clock`] it is read from.
//!
//! This is the only file that asks what time it is. Everything else is handed a `Timestamp`, read once per request or
//! tick, so that tests set the time by hand and every decision within one request sees the same moment.
//!
//! The calendar can be set, by hand or by a time server that is wrong. [`Clock::uptime`] can't, so that the two together
//! show it; see [`calendar`](crate::domain::calendar).

use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use rustix::time::{ClockId, clock_gettime};

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

    /// Reads a date and time as RFC 3339 writes it, and with the liberties that Taskcluster's validator allows (`ajv-formats`
    /// 2): any one blank or a lower-case `t` before the time, a lower-case `z`, an offset without a colon or without minutes,
    /// a missing offset (read as UTC), and, whatever the offset, a leap second at 23:59 (read as the second after it).
    /// `None` where the text is none of these.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (date, rest) = (text.get(..10)?, text.get(10..)?);
        let rest = rest.strip_prefix(is_separator)?;
        let zone_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
        let (time, zone) = rest.split_at(zone_at);
        let (whole, fraction) = time.split_once('.').unwrap_or((time, "0"));
        let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let leaps = whole.ends_with(":60") && whole != "23:59:60";
        if !digits || leaps || !has_digits_as(date, "0000-00-00") || !has_digits_as(whole, "00:00:00") {
            return None;
        }
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

/// What may part a date from its time: a `t`, or one of what JavaScript's expressions take for a blank.
fn is_separator(c: char) -> bool {
    matches!(c, 'T' | 't' | '\u{feff}') || (c.is_whitespace() && c != '\u{85}')
}

/// Whether `text` has a digit wherever `shape` has a zero, and otherwise what `shape` has. (chrono also reads shorter
/// numbers, and blanks and signs before them.)
fn has_digits_as(text: &str, shape: &str) -> bool {
    let fits = |(byte, like)| if like == b'0' { u8::is_ascii_digit(&byte) } else { byte == like };
    text.len() == shape.len() && text.bytes().zip(shape.bytes()).all(fits)
}

/// Minutes east of UTC that `zone` (`Z`, `+02:00`, `+0200`, `+02` or nothing) stands for. Those of a day and more, and of
/// more than 59 minutes, are none, although Taskcluster's validator lets them pass: JavaScript's dates don't have them either.
fn offset_minutes(zone: &str) -> Option<i64> {
    if zone.is_empty() || zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, zone) = zone.split_at_checked(1)?;
    if !["00", "0000", "00:00"].iter().any(|shape| has_digits_as(zone, shape)) {
        return None;
    }
    let hours: i64 = zone.get(..2)?.parse().ok()?;
    let minutes = zone.get(2..)?.trim_start_matches(':');
    let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
    let offset = hours * 60 + minutes;
    (hours < 24 && minutes < 60).then_some(if sign == "-" { -offset } else { offset })
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
    /// The current time, by the calendar.
    fn now(&self) -> Timestamp;

    /// For how long the host has run, the time included in which it was suspended. Nobody sets it. A clock that has nothing
    /// but its calendar gives the time by that.
    fn uptime(&self) -> Duration {
        self.now().since(Timestamp::from_millis(0))
    }

    /// A name for what [`Clock::uptime`] counts from, the same in all processes that count from it; `None` where there is none.
    fn boot(&self) -> Option<&str> {
        None
    }
}

/// The host's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(Utc::now().timestamp_millis())
    }

    fn uptime(&self) -> Duration {
        #[cfg(target_os = "linux")]
        const UPTIME: ClockId = ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        const UPTIME: ClockId = ClockId::Monotonic;
        Duration::try_from(clock_gettime(UPTIME)).unwrap_or_default()
    }

    fn boot(&self) -> Option<&str> {
        static BOOT: OnceLock<Option<String>> = OnceLock::new();
        BOOT.get_or_init(boot).as_deref()
    }
}

/// Linux's id of this start of the host, and the time namespace, in which a container may have an uptime of its own.
fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let space = fs::read_link("/proc/self/ns/time").ok();
    let space = space.as_ref().and_then(|space| space.to_str()).unwrap_or_default();
    Some(format!("{} {space}", boot.trim()).trim().to_owned())
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
            "2025-01-15T12:00:00.0001234567890Z",
            "2025-01-15\t12:00:00Z",
            "2025-01-15\n12:00:00Z",
            "2025-01-15\u{a0}12:00:00Z",
            "2025-01-15\u{3000}12:00:00Z",
            "2025-01-15\u{feff}12:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), noon, "{text}");
        }
        for (text, read) in [
            ("2025-01-15T23:59:60Z", "2025-01-16T00:00:00.000Z"),
            ("2025-01-15T23:59:60", "2025-01-16T00:00:00.000Z"),
            ("2025-01-15T23:59:60.5Z", "2025-01-16T00:00:00.500Z"),
            ("2025-01-15T23:59:60-01:00", "2025-01-16T01:00:00.000Z"),
            ("0000-02-29T00:00:00Z", "0000-02-29T00:00:00.000Z"),
            ("2000-02-29T00:00:00+2359", "2000-02-28T00:01:00.000Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|read| read.to_string()).as_deref(), Some(read), "{text}");
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
            "2026-12-01T00:00:00+1:00",
            "2026-12-01T00:00:00+01:",
            "2026-12-01T00:00:00+010",
            "2026-12-01T00:00:00+0:100",
            "2026-12-01T00:00:00+25:00",
            "2026-12-01T00:00:00+00:60",
            "2026-12-01T00:00:00 Z",
            "2026-12-01T00:00:00Z ",
            "2026-12-01T00:00:00.Z",
            "2026-12-01T00:00:00,5Z",
            "2026-12-01  00:00:00Z",
            "2026-12-01\u{85}00:00:00Z",
            "2026-12-01\u{200b}00:00:00Z",
            "2026-12-01\u{1c}00:00:00Z",
            "2026-12-01TT00:00:00Z",
            "2026-12-01T0:00:00Z",
            "2026-12-01T00:0:00Z",
            "2026-12-01T00:00:0Z",
            "2026-12-01T 0:00:00Z",
            "2026-12-01T00: 00:00Z",
            "2026-12-01T00:00:\u{660}Z",
            "2026-12-01T00:60:00Z",
            "2026-12-01T23:59:61Z",
            "2026-12-01T22:59:60Z",
            "2026-12-01T12:00:60Z",
            "2026-12-01T12:00:60.9",
            "2026-12-01T00:59:60+01",
            " 2026-12-01T00:00:00Z",
            " 026-12-01T00:00:00Z",
            "+026-12-01T00:00:00Z",
            "2026-12- 1T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-12-01T00:00:00ZZ",
            "é026-12-01T00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_uptime_goes_on_and_the_boot_stays_the_same() {
        let before = SystemClock.uptime();
        assert!(before > Duration::ZERO && SystemClock.uptime() >= before);
        assert_eq!(SystemClock.boot(), SystemClock.boot());
    }

    #[test]
    fn arithmetic_saturates() {
        let latest = Timestamp::from_millis(i64::MAX);
        assert_eq!(latest.plus(Duration::from_secs(1)), latest);
        assert_eq!(Timestamp::from_millis(5).since(Timestamp::from_millis(9)), Duration::ZERO);
        assert_eq!(Timestamp::from_millis(5).minus(Duration::from_millis(4)).millis(), 1);
    }
}
