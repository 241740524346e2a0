//! Numbers and times as people read them.

use crate::clock::Timestamp;

/// A number with a comma before each three digits: `41,200`.
pub fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `41,200 messages`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(n), if n == 1 { one } else { many })
}

/// To the minute, with its date where that is not today's: `14:05 UTC`, `2026-11-28 14:05 UTC`.
pub fn moment(at: Timestamp, now: Timestamp) -> String {
    let (text, today) = (at.to_string(), now.to_string());
    let (date, time) = (text.get(..10).unwrap_or_default(), text.get(11..16).unwrap_or_default());
    if today.starts_with(date) { format!("{time} UTC") } else { format!("{date} {time} UTC") }
}

/// A change, rounded, by the minute where it is quick and by the hour or day where it is slow: `120 a minute`.
pub fn pace(hourly: f64) -> String {
    let hourly = hourly.abs();
    let (each, name) = match hourly {
        fast if fast >= 600.0 => (fast / 60.0, "minute"),
        middle if middle >= 10.0 => (middle, "hour"),
        slow => (slow * 24.0, "day"),
    };
    // Two digits are as much as is known. A float that is too large becomes the largest integer.
    let unit = 10f64.powf((each.max(1.0).log10().floor() - 1.0).max(0.0));
    format!("{} a {name}", number(((each / unit).round() * unit) as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_times_and_paces_are_short() {
        assert_eq!([0, 999, 1000, 41_200, 1_234_567].map(number), ["0", "999", "1,000", "41,200", "1,234,567"]);
        assert_eq!((count(1, "look", "looks"), count(2000, "look", "looks")), ("1 look".into(), "2,000 looks".into()));
        let at = |text| Timestamp::parse(text).unwrap();
        let now = at("2026-11-29T15:00:00Z");
        assert_eq!(moment(at("2026-11-29T14:05:59Z"), now), "14:05 UTC");
        assert_eq!(moment(at("2026-11-28T14:05:00Z"), now), "2026-11-28 14:05 UTC");
        let paces = [7234.0, -7234.0, 61.7, 2.0, 0.0, f64::MAX].map(pace);
        assert_eq!(
            paces[..5],
            ["120 a minute", "120 a minute", "62 an hour", "48 a day", "0 a day"].map(|p| p.replace("an", "a"))
        );
    }
}
