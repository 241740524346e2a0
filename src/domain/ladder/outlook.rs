//! What will be done about a queue if it stays as it is, for people to read.

use super::rules::{Rung, marks};
use super::{Held, Measure, Policy, Situation, Stage};
use crate::clock::Timestamp;
use crate::domain::course::Way;
use crate::domain::forecast::{Forecast, forecast};

/// What will be done about a queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Above how many messages its owner is warned.
    pub alert: u64,
    /// Above how many it may be removed; of a queue that may grow, more.
    pub delete: u64,
    /// When it is foretold to be above that.
    pub forecast: Option<Forecast>,
    /// When it may be removed at the earliest, as far as that is known; `None` where it may not, or is not about to.
    pub removal: Option<Timestamp>,
    /// Why it is not removed now, where it is above the limit.
    pub held: Option<Held>,
    /// What the guard may do at all.
    pub measure: Measure,
    /// Whether it is being removed.
    pub removing: bool,
}

/// What will be done about a queue if it stays as it is.
pub fn outlook(at: &Situation<'_>, now: Timestamp, policy: &Policy) -> Outlook {
    let look = at.verdict.look;
    let exempt = at.exemption.is_some_and(|exemption| exemption.holds(look.total, now));
    let marks = marks(at.thresholds, at.exemption, now);
    let grows = at.verdict.course.way == Way::Up && look.total <= marks.delete;
    let forecast = grows.then(|| forecast(at.history, marks.delete, at.silence, now)).flatten();
    let (alert, delete) = (marks.alert, marks.delete);
    let rung = Rung { at, now, policy, look, marks, exempt, forecast };
    let watch = rung.known();
    let held = rung.held(&watch);
    let threatened = held.is_some() || forecast.is_some();
    let removal = threatened.then(|| rung.earliest_removal(&watch)).flatten();
    let (measure, removing) = (policy.measure, watch.stage == Stage::Removing);
    Outlook { alert, delete, forecast, removal, held: held.flatten(), measure, removing }
}
