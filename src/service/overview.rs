//! Looking at all namespaces and their queues for the pages of the console; see [`Overview`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;

use super::picture::{Answer, Flight, Glance, Landing, Listed, Overview, Pictured, State, line};
use super::queues::list_queues;
use super::{Service, ServiceError};
use crate::clock::Timestamp;
use crate::domain::history::History;
use crate::domain::inventory::BrokerQueue;
use crate::domain::shown::ShownQueue;
use crate::domain::watched::Watched;
use crate::store::Outline;

/// How long whoever looks waits for a new picture.
const PATIENCE: Duration = Duration::from_secs(4);

impl Service {
    /// All namespaces and their queues, as of a few seconds ago, or as they were last known.
    ///
    /// # Errors
    /// What is in the way, where nothing was known yet.
    pub async fn overview(self: &Arc<Service>) -> Result<Glance, Arc<ServiceError>> {
        let (ready, flight) = {
            let mut state = self.overviews.lock();
            let (ready, due) = state.ready();
            let flight = match state.flight.clone() {
                None if due => Some(self.begin_overview(&mut state)),
                flight => flight,
            };
            (ready, flight)
        };
        if let Some(ready) = ready {
            return Ok(ready);
        }
        if let Some(flight) = flight {
            let _ = tokio::time::timeout(PATIENCE, flight).await;
        }
        let state = self.overviews.lock();
        let problem = state.problem.as_ref().map(|(_, why)| why.clone());
        match (&state.last, problem) {
            (Some(last), problem) => Ok(Glance { overview: last.clone(), problem }),
            (None, Some(why)) => Err(why),
            (None, None) => Err(Arc::new(ServiceError::TooSlow("looking at all queues"))),
        }
    }

    /// Whoever looks next is shown what is then.
    pub fn outdate_overview(&self) {
        self.overviews.lock().outdated = true;
    }

    fn begin_overview(self: &Arc<Service>, state: &mut State) -> Flight {
        let service = self.clone();
        state.outdated = false;
        let task = tokio::spawn(async move {
            let _landing = Landing(service.overviews.clone());
            let answer: Answer = service.look_at_all().await.map(Arc::new).map_err(Arc::new);
            let mut state = service.overviews.lock();
            match &answer {
                Ok(seen) if seen.complete => (state.last, state.problem) = (Some(seen.clone()), None),
                Ok(seen) => {
                    state.last.get_or_insert_with(|| seen.clone());
                }
                Err(why) => state.problem = Some((Instant::now(), why.clone())),
            }
            answer
        });
        let flight = async move { task.await.ok() }.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    async fn look_at_all(self: &Arc<Service>) -> Result<Overview, ServiceError> {
        self.memory.check_store()?;
        let (began, at) = (Instant::now(), self.now());
        let (outlines, watches, histories, alarm, listed) = tokio::join!(
            self.store.outlines(),
            self.store.watches(),
            self.store.histories(),
            self.broker.alarm(),
            self.queues.recent(|| list_queues(self.broker.clone()))
        );
        let (outlines, mut histories) = (outlines?, histories?);
        let mut watches: HashMap<_, _> = watches?.into_iter().map(|known| (known.queue.clone(), known)).collect();
        if let Err(error) = &listed {
            self.overviews.lock().problem = Some((Instant::now(), Arc::new(error.clone().into())));
        }
        let complete = listed.is_ok();
        let listed = listed.ok();
        let deleted = listed.as_ref().map(|listed| self.queues.deleted_since(listed)).unwrap_or_default();
        let mut picture = |outline: Outline| {
            let found = listed.as_ref().and_then(|listed| listed.found.get(&outline.summary.name));
            let there = found.into_iter().flatten().filter(|queue| !deleted.contains(&queue.name));
            let queues = there.map(|queue| {
                let (history, watched) = (histories.remove(&queue.name), watches.remove(&queue.name));
                self.listed_queue(queue.clone(), history, watched, &outline, at)
            });
            let queues = queues.collect();
            (outline.summary.name.clone(), Pictured { outline, queues })
        };
        let namespaces = outlines.into_iter().map(&mut picture).collect();
        let alarm = alarm.ok();
        Ok(Overview { at, complete, alarm, namespaces, ended: Instant::now(), took: began.elapsed() })
    }

    fn listed_queue(
        &self,
        queue: BrokerQueue,
        history: Option<History>,
        watched: Option<Watched>,
        outline: &Outline,
        now: Timestamp,
    ) -> Listed {
        let shown = ShownQueue::of(queue, history.as_ref(), watched, &outline.exemptions, &self.policy.criteria, now);
        let known = history.filter(|history| history.incarnation().fingerprint == shown.queue.fingerprint);
        Listed { line: known.map(|history| line(&history, now)).unwrap_or_default(), shown }
    }
}
