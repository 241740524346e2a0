//! What will happen to a queue next, and when at the earliest, in sentences.

use crate::clock::Timestamp;
use crate::domain::exemption::Exempted;
use crate::domain::ladder::{Held, Measure, Outlook, Thresholds};
use crate::domain::words::{moment, number};

/// What will happen, in the order in which it is told. `None` for a queue that was never looked at.
pub(super) fn sentences(
    outlook: Option<&Outlook>,
    exempted: Option<&Exempted>,
    thresholds: Thresholds,
    measure: Measure,
    told: bool,
    now: Timestamp,
) -> Vec<String> {
    let Some(outlook) = outlook else { return vec![usual(thresholds.alert, thresholds.delete, measure, told)] };
    let (act, being) = match measure {
        Measure::Purge => ("its messages may be deleted", "Its messages are being deleted."),
        _ => ("it may be deleted", "It is being deleted."),
    };
    if outlook.removing && outlook.held.is_none() {
        return vec![being.to_owned()];
    }
    let mut all = Vec::new();
    if let Some(exempted) = exempted {
        all.push(format!("{}.", capital(&exempted.sentence(now))));
    }
    let limit = number(outlook.delete);
    let earliest = outlook
        .removal
        .map_or("after a time of grace".to_owned(), |at| format!("at {} at the earliest", moment(at, now)));
    let only = if measure == Measure::Observe {
        "Nothing is done: the guard only watches here."
    } else {
        "Its owners are told, and no more: the guard may only warn here."
    };
    match outlook.held {
        Some(Held::Exempt) => all.push("It is above the usual limit, and is left alone because of that.".to_owned()),
        Some(_) if matches!(measure, Measure::Observe | Measure::Warn) => all.push(only.to_owned()),
        Some(Held::TooFewLooks) => {
            all.push(format!(
                "It is above the limit of {limit} messages since a short while. If it stays so, {act} {earliest}."
            ));
        }
        Some(Held::Draining) => {
            all.push(format!(
                "It is above the limit of {limit} messages, and loses some: it is left alone as long as it does."
            ));
        }
        Some(Held::Hoarder) => {
            all.push("The connection that holds its messages is closed first, after a time of grace.".to_owned());
        }
        Some(Held::NotWarned) => {
            all.push(format!(
                "It is above the limit of {limit} messages. First its owners are warned; then {act} {earliest}."
            ));
        }
        Some(Held::Until(at)) => {
            let at = moment(outlook.removal.unwrap_or(at), now);
            all.push(format!("If it stays above {limit} messages and does not drain, {act} at {at} at the earliest."));
        }
        Some(Held::NotAllowed) => all.push(only.to_owned()),
        None => {}
    }
    if let Some(forecast) = &outlook.forecast {
        all.push(format!("At this pace it {}.", forecast.sentence(now)));
        if outlook.removal.is_some() && outlook.held.is_none() && !matches!(measure, Measure::Observe | Measure::Warn) {
            all.push(format!("From then on {act}, {earliest}."));
        }
    }
    if all.is_empty() {
        all.push(usual(outlook.alert, outlook.delete, measure, told));
    }
    all
}

/// What would happen to a queue that has no trouble.
fn usual(alert: u64, delete: u64, measure: Measure, told: bool) -> String {
    let removed = match measure {
        Measure::Observe => return "Nothing: the guard only watches here.".to_owned(),
        Measure::Warn => None,
        Measure::Purge => Some(format!("its messages may be deleted above {}", number(delete))),
        Measure::Delete => Some(format!("it may be deleted above {}", number(delete))),
    };
    let (alert, never) = (number(alert), "never without a warning before");
    match (told, removed) {
        (false, None) => format!("Nothing for now. Its owners are warned above {alert} messages."),
        (false, Some(removed)) => {
            format!("Nothing for now. Its owners are warned above {alert} messages, and {removed}, {never}.")
        }
        (true, None) => "Its owners were told, and are again from time to time as long as this lasts.".to_owned(),
        (true, Some(removed)) => {
            format!("Its owners were told. Nothing more is done for now: {removed} messages, {never}.")
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().to_string() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const THRESHOLDS: Thresholds = Thresholds { alert: 4000, delete: 8000, unacked_alert: 1000, unacked_limit: 4000 };

    fn told(held: Option<Held>, removal: Option<i64>, measure: Measure) -> String {
        let now = Timestamp::parse("2026-11-30T08:00:00Z").unwrap();
        let removal = removal.map(|minutes| now.plus(Duration::from_secs(60 * minutes.unsigned_abs())));
        let outlook = Outlook { alert: 4000, delete: 8000, forecast: None, removal, held, measure, removing: false };
        sentences(Some(&outlook), None, THRESHOLDS, measure, false, now).join(" ")
    }

    #[test]
    fn each_situation_is_told_with_the_time_that_it_leaves() {
        let later = Timestamp::parse("2026-11-30T08:15:00Z").unwrap();
        for (held, removal, expected) in [
            (
                None,
                None,
                "Nothing for now. Its owners are warned above 4,000 messages, and it may be deleted above 8,000",
            ),
            (Some(Held::Until(later)), Some(20), "it may be deleted at 08:20 UTC at the earliest"),
            (Some(Held::Until(later)), None, "it may be deleted at 08:15 UTC at the earliest"),
            (Some(Held::TooFewLooks), Some(9), "it may be deleted at 08:09 UTC at the earliest"),
            (Some(Held::NotWarned), None, "First its owners are warned; then it may be deleted after a time of grace"),
            (Some(Held::Draining), None, "left alone as long as it does"),
            (Some(Held::Hoarder), None, "The connection that holds its messages is closed first"),
            (Some(Held::Exempt), None, "left alone because of that"),
        ] {
            assert!(
                told(held, removal, Measure::Delete).contains(expected),
                "{held:?}: {}",
                told(held, removal, Measure::Delete)
            );
        }
        assert!(told(Some(Held::Until(later)), None, Measure::Purge).contains("its messages may be deleted at 08:15"));
        assert!(told(Some(Held::NotAllowed), None, Measure::Warn).contains("may only warn"));
        assert!(told(Some(Held::NotWarned), None, Measure::Observe).contains("only watches"));
        let unseen = sentences(None, None, THRESHOLDS, Measure::Warn, false, later).join(" ");
        assert_eq!(unseen, "Nothing for now. Its owners are warned above 4,000 messages.");
        let known = sentences(None, None, THRESHOLDS, Measure::Delete, true, later).join(" ");
        assert!(
            known.starts_with("Its owners were told. Nothing more is done for now: it may be deleted above 8,000"),
            "{known}"
        );
    }
}
