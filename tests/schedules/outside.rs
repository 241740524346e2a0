//! The outside as a process sees it: its calls to the store, the broker and the mailbox, each through two gates.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use taskcluster_pulse::broker::{Broker, BrokerError, Put};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::alert::Alert;
use taskcluster_pulse::domain::hold::Vitals;
use taskcluster_pulse::domain::inventory::{BrokerConnection, BrokerPermissions, BrokerQueue, BrokerUser, QueueKind};
use taskcluster_pulse::domain::name::{Name, Permissions, USER_TAG};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::domain::rotation::Pending;
use taskcluster_pulse::notify::{Delivered, Notifier, NotifyError};
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{Change, Digest, Select, Sighting, Store, StoreError, Summary, Write};

use super::gate::{Failure, Fate, Line, Side};
use super::planted::Plant;
use super::schedule::settle_budget;
use super::state::{DELETE, Held, Queue, State, WEEK};

/// How long the store may take to answer, the broker for a list, and the mail server.
const STORING: Duration = Duration::from_secs(5);
const LISTING: Duration = Duration::from_secs(30);
const MAILING: Duration = Duration::from_secs(60);
/// How old a list may be.
const STALE: Duration = Duration::from_secs(60);

/// How one process reaches the outside.
#[derive(Clone)]
pub struct Outside {
    pub state: Arc<Mutex<State>>,
    pub line: Line,
    /// How long the broker may take to answer.
    pub patience: Duration,
    /// The rotation interval of this process.
    pub every: Duration,
    pub plant: Option<Plant>,
}

impl Outside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn is(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    async fn store<T>(&self, call: &str, apply: impl FnOnce(&mut State, Fate) -> T) -> Result<T, StoreError> {
        let op = self.line.op();
        let done = self.line.call(Side::Store, call, STORING, |fate| apply(&mut self.state(), fate)).await;
        self.state().heard.insert(op, done.is_ok());
        done.map_err(|failure| match failure {
            Failure::Unavailable(call) => StoreError::Unavailable(call),
            Failure::Denied | Failure::Garbled => StoreError::Failed("it is odd".into()),
        })
    }

    async fn broker<T>(
        &self,
        call: impl Into<String>,
        apply: impl FnOnce(&mut State, Timestamp) -> T,
    ) -> Result<T, BrokerError> {
        let apply = |_| apply(&mut self.state(), self.line.time.now());
        self.line.call(Side::Broker, call, self.patience, apply).await.map_err(broker_error)
    }

    /// A list, of which `each` makes an item.
    async fn list<T>(&self, call: &str, list: impl FnOnce(&Held) -> Vec<T>) -> Result<Vec<T>, BrokerError> {
        let (now, op) = (|| self.line.time.now(), self.line.op());
        let odd = op % 2;
        let apply = |fate| {
            let mut state = self.state();
            if matches!(fate, Fate::Stale | Fate::Partial) {
                state.misled.insert(op);
            }
            let stale = fate == Fate::Stale && now().since(state.earlier.1) < STALE;
            let listed = list(if stale { &state.earlier.0 } else { &state.broker });
            let kept = |(at, item)| (fate != Fate::Partial || at == 0 || at % 2 == odd).then_some(item);
            listed.into_iter().enumerate().filter_map(kept).collect()
        };
        self.line.call(Side::Broker, call, LISTING, apply).await.map_err(broker_error)
    }

    /// The record as it is read.
    fn read(&self, mut found: Namespace) -> Namespace {
        let rotation = &mut found.rotation;
        if let Some(pending) = rotation.pending.clone().filter(|_| rotation.active.is_none()) {
            let mut credentials = pending.credentials.clone();
            if self.is(Plant::FreshPending) {
                credentials.password = Password::random();
                rotation.pending = Some(Pending { credentials, ..pending });
            } else if self.is(Plant::PendingHandedOut) {
                rotation.active = Some(credentials);
            }
        }
        found
    }
}

fn broker_error(failure: Failure) -> BrokerError {
    match failure {
        Failure::Unavailable(call) => BrokerError::Unavailable(call),
        Failure::Denied => BrokerError::Denied("wrong password".into()),
        Failure::Garbled => BrokerError::Garbled("it is no JSON".into()),
    }
}

fn summary(found: &Namespace) -> Summary {
    Summary { name: found.name.clone(), contact: found.contact.clone(), created: found.created, expires: found.expires }
}

#[async_trait]
impl Store for Outside {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let read = |state: &mut State, _| state.store.namespaces.get(name).cloned();
        Ok(self.store("read a namespace", read).await?.map(|found| self.read(found)))
    }

    async fn summaries(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        let list =
            |state: &mut State, _| state.store.namespaces.values().filter(|n| n.gone.is_none()).map(summary).collect();
        self.store("list namespaces", list).await
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let show =
            |state: &mut State, _| state.store.namespaces.get(name).filter(|found| found.gone.is_none()).map(summary);
        self.store("show a namespace", show).await
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        let op = self.line.op();
        self.store("read namespaces", |state, _| {
            let wanted = |found: &&Namespace| match select {
                Select::All => true,
                Select::Sealed => false,
                Select::Due { now, abandoned, .. } => {
                    let usual = now.minus(settle_budget(self.every));
                    let abandoned = if self.is(Plant::NoDeadline) { usual } else { abandoned };
                    let since = found.rotation.pending.as_ref().map(|pending| pending.since);
                    found.gone.is_none() && since.map_or(found.rotation.due <= now, |since| since <= abandoned)
                }
            };
            let seen = state.first_seen.get(&op).unwrap_or(&state.store);
            seen.namespaces.values().filter(wanted).cloned().collect()
        })
        .await
    }

    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.store("read what changed", |state, _| {
            let found = known.iter().map(|(name, version)| (name, version, state.store.namespaces.get(name)));
            let changed = found.filter(|(_, version, found)| found.map(|found| found.version) != Some(**version));
            changed.map(|(name, _, found)| (name.clone(), found.cloned())).collect()
        })
        .await
    }

    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        let op = self.line.op();
        let read =
            |state: &mut State, _| state.first_seen.get(&op).unwrap_or(&state.store).alerts.values().cloned().collect();
        self.store("read alerts", read).await
    }

    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let op = self.line.op();
        let written = self.store("write", |state, fate| {
            let now = self.line.time.now();
            let write = |change: &Change| {
                let planted = self.plant.map(|plant| plant.change(change, &state.store, self.every));
                let (change, forced) = planted.unwrap_or_else(|| (change.clone(), false));
                let done = fate != Fate::Lose && state.write(&change, forced, now);
                if !done && self.is(Plant::MailBeforeRecord) {
                    state.notices.extend(change.notices);
                }
                if done { Write::Done } else { Write::Lost }
            };
            changes.iter().map(write).collect()
        });
        let written = written.await?;
        let state = &mut *self.state();
        for (_, user) in state.deferred.extract_if(.., |(by, _)| *by == op) {
            state.broker.users.insert(user.name.clone(), user);
        }
        Ok(written)
    }

    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        let op = self.line.op();
        self.store("take notices", |state, _| {
            let due = state.notices.iter_mut().filter(|notice| notice.due <= now).take(limit as usize);
            let taken: Vec<_> = due
                .map(|notice| {
                    notice.due = retry;
                    notice.attempts += 1;
                    notice.clone()
                })
                .collect();
            for notice in taken.iter().filter(|notice| !state.removed.contains(&notice.id)) {
                state.taken.insert((op, notice.id.clone()), self.line.time.now());
            }
            if self.is(Plant::NoticeLost) {
                state.notices.retain(|notice| notice.due != retry);
            }
            taken
        })
        .await
    }

    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        let postpone = |state: &mut State, _| {
            state.notices.iter_mut().filter(|notice| notice.id == id).for_each(|notice| notice.due = retry);
        };
        self.store("postpone a notice", postpone).await
    }

    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        self.store("remove a notice", |state, _| {
            let now = self.line.time.now();
            let fresh = state.notices.iter().any(|notice| notice.id == id && now.since(notice.created) < WEEK);
            if fresh && !state.delivered.iter().any(|delivered| delivered == id) {
                state.fault("a notice was removed that nobody got");
            }
            state.removed.push(id.to_owned());
            if !self.is(Plant::NoticeTwice) {
                state.notices.retain(|notice| notice.id != id);
            }
        })
        .await
    }

    async fn lease(&self, task: &str, holder: &str, now: Timestamp, asked: Timestamp) -> Result<bool, StoreError> {
        self.store("lease", |state, _| {
            let taken =
                state.leases.get(task).is_some_and(|(by, until)| by != holder && *until > now && *until <= asked);
            let taken = taken && !self.is(Plant::AlertWithoutCompare);
            if !taken {
                state.overlap |= asked > now && state.leases.contains_key(task);
                state.leases.insert(task.to_owned(), (holder.to_owned(), asked));
            }
            !taken
        })
        .await
    }

    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.store("release", |state, _| {
            if state.leases.get(task).is_some_and(|(by, _)| by == holder) {
                state.leases.remove(task);
            }
        })
        .await
    }

    /// The store's clock is right, and the API is always within its clients' reach.
    async fn beat(&self, _: Timestamp, _: Duration) -> Result<Timestamp, StoreError> {
        self.store("beat", |_, _| self.line.time.now()).await
    }

    async fn vitals(&self, _: Timestamp) -> Result<Vitals, StoreError> {
        self.store("tell the time", |_, _| Vitals { now: self.line.time.now(), heartbeat: None }).await
    }

    /// Requests are told apart before they come here.
    async fn sight(&self, _: &Digest, sighting: Sighting, _: Timestamp) -> Result<Sighting, StoreError> {
        Ok(sighting)
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.store("ping the store", |_, _| ()).await
    }
}

#[async_trait]
impl Broker for Outside {
    async fn put_user(&self, user: &str, hash: &PasswordHash) -> Result<Put, BrokerError> {
        let op = self.line.op();
        self.broker(format!("put {user}"), |state, _| {
            let put = BrokerUser { name: user.to_owned(), tags: vec![USER_TAG.to_owned()], hash: hash.clone() };
            let known = state.broker.users.contains_key(user);
            if known && self.is(Plant::ToldAfterPromotion) {
                state.deferred.push((op, put));
            } else {
                state.broker.users.insert(user.to_owned(), put);
            }
            if known { Put::Known } else { Put::PerhapsNew }
        })
        .await
    }

    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError> {
        self.broker(format!("allow {user}"), |state, _| {
            if !state.broker.users.contains_key(user) {
                return Err(BrokerError::Refused("no such user".into()));
            }
            state.broker.permissions.insert(user.to_owned(), permissions.clone());
            Ok(())
        })
        .await?
    }

    async fn delete_user(&self, user: &str) -> Result<(), BrokerError> {
        self.broker(format!("delete {user}"), |state, now| {
            if state.broker.users.remove(user).is_some() {
                let owner = state.names.owner_of_user(user).map(|(owner, _)| owner);
                state.require_gone(owner, &format!("the user {user}"), now);
            }
            state.broker.permissions.remove(user);
            state.close_all_of(user, now);
        })
        .await
    }

    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError> {
        self.list("list users", |held| held.users.values().cloned().collect()).await
    }

    async fn permissions(&self) -> Result<Vec<BrokerPermissions>, BrokerError> {
        let given = |(user, permissions): (&String, &Permissions)| BrokerPermissions {
            user: user.clone(),
            permissions: permissions.clone(),
        };
        self.list("list permissions", |held| held.permissions.iter().map(given).collect()).await
    }

    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError> {
        self.list("list queues", |held| held.queues.iter().map(seen).collect()).await
    }

    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        let look = |state: &mut State, _| state.broker.queues.get_key_value(queue).map(seen);
        let found = self.broker(format!("look at {queue}"), look).await?;
        let messages =
            |found: &BrokerQueue| if self.is(Plant::NoSecondLook) { Some(DELETE + 1) } else { found.messages };
        Ok(found.map(|found| BrokerQueue { messages: messages(&found), ..found }))
    }

    async fn queue_owner(&self, queue: &str) -> Result<Option<BrokerConnection>, BrokerError> {
        let ask = |state: &mut State, _| {
            let owner = state.broker.queues.get(queue)?.owner.as_ref()?;
            state.broker.connections.get(owner).cloned()
        };
        self.broker(format!("ask who owns {queue}"), ask).await
    }

    async fn exchanges(&self) -> Result<Vec<String>, BrokerError> {
        self.list("list exchanges", |held| held.exchanges.iter().cloned().collect()).await
    }

    async fn connections(&self) -> Result<Vec<BrokerConnection>, BrokerError> {
        self.list("list connections", |held| held.connections.values().cloned().collect()).await
    }

    async fn delete_queue(&self, queue: &str) -> Result<(), BrokerError> {
        self.broker(format!("delete {queue}"), |state, now| {
            if state.broker.queues.get(queue).is_some_and(|found| found.owner.is_some()) {
                return Err(BrokerError::Refused("it is exclusive".into()));
            }
            state.remove_queue(queue, now);
            Ok(())
        })
        .await?
    }

    async fn delete_exchange(&self, exchange: &str) -> Result<(), BrokerError> {
        self.broker(format!("delete {exchange}"), |state, now| {
            if state.broker.exchanges.remove(exchange) {
                state.require_gone(state.names.owner_of_exchange(exchange), &format!("the exchange {exchange}"), now);
            }
        })
        .await
    }

    async fn close_connection(&self, connection: &str, _: &str) -> Result<(), BrokerError> {
        self.broker(format!("close {connection}"), |state, now| state.close(connection, now)).await
    }

    async fn close_connections_of(&self, user: &str, _: &str) -> Result<(), BrokerError> {
        self.broker(format!("close connections of {user}"), |state, now| state.close_all_of(user, now)).await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        let op = self.line.op();
        self.broker("ping", |state, _| {
            if self.is(Plant::StoreBeforeBroker) {
                state.first_seen.insert(op, state.store.clone());
            }
        })
        .await
    }
}

fn seen((name, queue): (&String, &Queue)) -> BrokerQueue {
    let (messages, exclusive) = (Some(queue.messages), queue.owner.is_some());
    BrokerQueue { name: name.clone(), messages, kind: QueueKind::Classic, exclusive }
}

#[async_trait]
impl Notifier for Outside {
    async fn deliver(&self, notice: &Notice) -> Result<Delivered, NotifyError> {
        let op = self.line.op();
        let deliver = |_| self.state().deliver(op, &notice.id, self.line.time.now());
        let sent = self.line.call(Side::Mail, "send a mail", MAILING, deliver).await;
        sent.map(|()| Delivered::Sent).map_err(|_| NotifyError::Temporary("the mail server is away".into()))
    }
}
