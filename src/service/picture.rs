//! All namespaces and their queues, as the pages of the console show them: one picture that all who look share. It is made
//! anew when somebody looks and it is older than [`AGE`], or than ten times what it took to make it; meanwhile the one
//! before is shown. Where the broker or the store is down, the last one stays, with why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use tokio::time::Instant;

use super::error::ServiceError;
use crate::clock::Timestamp;
use crate::domain::history::History;
use crate::domain::name::Name;
use crate::domain::shown::ShownQueue;
use crate::store::Outline;

/// How old a picture may be that is shown without making a new one.
const AGE: Duration = Duration::from_secs(5);
/// An older one is not shown while a new one is made, unless that takes long.
const OLD: Duration = Duration::from_secs(60);
/// How many points a small line of a queue's size has at most, and over how long.
const POINTS: i64 = 32;
const SPAN: Duration = Duration::from_secs(3 * 3600);

/// A queue in a list.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What is shown of it.
    pub shown: ShownQueue,
    /// How many messages it had lately, as far as it was looked at: moments in order, the most of each stretch.
    pub line: Vec<(Timestamp, u64)>,
}

/// A namespace and its queues, in the order of their names.
#[derive(Debug, Clone)]
pub struct Pictured {
    /// The namespace.
    pub outline: Outline,
    /// Its queues.
    pub queues: Vec<Listed>,
}

/// All live namespaces and their queues.
#[derive(Debug)]
pub struct Overview {
    /// When it was looked.
    pub at: Timestamp,
    /// Whether the broker was asked: if not, there are no queues in it.
    pub complete: bool,
    /// Whether the broker is in memory or disk alarm; `None` where it does not say.
    pub alarm: Option<bool>,
    /// The namespaces, by name.
    pub namespaces: BTreeMap<Name, Pictured>,
    pub(super) ended: Instant,
    pub(super) took: Duration,
}

/// What whoever looks is shown.
#[derive(Debug, Clone)]
pub struct Glance {
    /// The picture.
    pub overview: Arc<Overview>,
    /// Why there is no newer one.
    pub problem: Option<Arc<ServiceError>>,
}

pub(super) type Answer = Result<Arc<Overview>, Arc<ServiceError>>;

/// One that is being made.
pub(super) type Flight = Shared<BoxFuture<'static, Option<Answer>>>;

#[derive(Default)]
pub(super) struct State {
    pub(super) last: Option<Arc<Overview>>,
    pub(super) problem: Option<(Instant, Arc<ServiceError>)>,
    pub(super) flight: Option<Flight>,
    /// Something was changed since the last one began.
    pub(super) outdated: bool,
}

/// The last picture, and the one that is being made.
#[derive(Default, Clone)]
pub(super) struct Overviews(Arc<Mutex<State>>);

/// Ends a flight, however it ends: whoever looks next may begin another one.
pub(super) struct Landing(pub(super) Overviews);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.lock().flight = None;
    }
}

impl Overviews {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What may be shown now without waiting; and whether a new one is to be made.
    pub(super) fn ready(&self) -> (Option<Glance>, bool) {
        let failed = self.problem.as_ref().filter(|(at, _)| at.elapsed() <= AGE);
        let problem = self.problem.as_ref().map(|(_, why)| why.clone());
        let Some(last) = &self.last else { return (None, failed.is_none()) };
        let age = last.ended.elapsed();
        let due = self.outdated || age > AGE.max(last.took * 10);
        let shown = !due || failed.is_some() || (age <= OLD && !self.outdated);
        let glance = Glance { overview: last.clone(), problem };
        (shown.then_some(glance), due && failed.is_none())
    }
}

/// The sizes of a queue over the last hours, the largest one of each stretch.
pub(super) fn line(history: &History, now: Timestamp) -> Vec<(Timestamp, u64)> {
    let lately = || history.looks().filter(|look| now.since(look.at) <= SPAN);
    let Some(first) = lately().next() else { return Vec::new() };
    let stretch = ((now.millis() - first.at.millis()) / POINTS).max(1);
    let mut points: Vec<(Timestamp, u64)> = Vec::new();
    for look in lately() {
        match points.last_mut() {
            Some((at, most)) if at.millis() / stretch == look.at.millis() / stretch => *most = (*most).max(look.total),
            _ => points.push((look.at, look.total)),
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_flight_that_panics_keeps_nobody_from_beginning_another_one() {
        let overviews = Overviews::default();
        let landing = Landing(overviews.clone());
        let task = tokio::spawn(async move {
            let _landing = landing;
            panic!("it falls")
        });
        overviews.lock().flight = Some(std::future::pending().boxed().shared());
        assert!(task.await.is_err());
        assert!(overviews.lock().flight.is_none());
    }
}
