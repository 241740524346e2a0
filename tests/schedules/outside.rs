//! The outside as a process sees it: its calls to the store, the broker and the mailbox, each through two gates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use taskcluster_pulse::broker::{Broker, BrokerError, Deleted, Inspecting, Limiting, Odd, Put, Rights};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::account::Account;
use taskcluster_pulse::domain::audit::{Audit, AuditFilter};
use taskcluster_pulse::domain::guard::HistoryChange;
use taskcluster_pulse::domain::history::{History, Look};
use taskcluster_pulse::domain::hold::{Beat, Vitals};
use taskcluster_pulse::domain::identity::Tag;
use taskcluster_pulse::domain::inspection::{Published, Room};
use taskcluster_pulse::domain::inventory::{
    Binding, BrokerConnection, BrokerExchange, BrokerPermissions, BrokerQueue, BrokerUser, QueueDetail, QueueKind,
    Right,
};
use taskcluster_pulse::domain::inventory::{ExchangeDetail, LimitsSeen, Noted, OperatorPolicy, UserLimit};
use taskcluster_pulse::domain::name::{Name, Permissions};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::{Notice, Undelivered};
use taskcluster_pulse::domain::recipients::{Mute, Recipients};
use taskcluster_pulse::domain::release::Release;
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::domain::rotation::Pending;
use taskcluster_pulse::domain::session::{BarredPerson, Session};
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::notify::{Notifier, NotifyError};
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{
    Accepted, Audits, Change, Deployment, Digest, Figures, Heartbeats, Keep, Leases, Making, Named, Namespaces,
    Notices, Outline, RecipientRecords, Record, Records, SeenOf, Select, Sessions, Sighting, Sightings, Store,
    StoreError, Summary, Sums, TaskRun, Wanted, Watches, Write,
};

use super::gate::{Failure, Fate, Line, Side};
use super::planted::Plant;
use super::schedule::{DAY, HOUR, settle_budget};
use super::state::{ADOPTED, DELETE, Held, PERSON, Queue, REFUSES, State, TAG, WEEK};

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
    /// Whether the store has no clock of its own.
    pub embedded: bool,
    pub plant: Option<Plant>,
}

impl Outside {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The time by the store's clock, which is right where it has one.
    fn now(&self, callers: Timestamp) -> Timestamp {
        if self.embedded { callers } else { self.line.time.now() }
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

    /// Deletes a user; whether there was one.
    fn deleted_user(&self, state: &mut State, user: &str, now: Timestamp) -> bool {
        state.spare(user, "deleted", now);
        if state.intruders.remove(user).is_some() {
            state.remove_user(user);
            return true;
        }
        let found = state.broker.users.remove(user).is_some();
        if found && user != ADOPTED {
            let owner = state.names.owner_of_user(user).map(|(owner, _)| owner);
            state.require_gone(owner, &format!("the user {user}"), now);
        }
        state.broker.permissions.remove(user);
        state.close_all_of(user, now);
        found
    }

    /// A user as it is seen.
    fn disguised(&self, user: &BrokerUser, is_foreign: bool) -> BrokerUser {
        let tags = if is_foreign && self.is(Plant::DeleteUnseen) { [TAG.to_owned()].into() } else { user.tags.clone() };
        BrokerUser { tags, ..user.clone() }
    }

    /// The record as it is read.
    fn read(&self, op: usize, mut found: Namespace) -> Namespace {
        if self.is(Plant::ExemptionIgnored) {
            found.exemptions.clear();
        }
        if self.is(Plant::WriterUnheeded) {
            found.barred.writing_until = None;
        }
        if self.is(Plant::DisabledHandsOut) && !self.state().ending.contains(&op) {
            found.barred.disabled = None;
        }
        let rotation = &mut found.rotation;
        if let Some(pending) = rotation.pending.clone().filter(|_| rotation.active.is_none()) {
            let mut login = pending.login.clone();
            if self.is(Plant::FreshPending) {
                login.password = Password::random();
                rotation.pending = Some(Pending { login, ..pending });
            } else if self.is(Plant::PendingHandedOut) {
                rotation.active = Some(login);
            }
        }
        found
    }
}

/// What it would be if the queue had always had as many messages as now.
fn flattened(history: &History, total: u64) -> History {
    let mut looks = history.looks().map(|look| Look { total, ready: total, ..*look });
    let mut flat = History::begin(looks.next().unwrap(), history.incarnation().fingerprint);
    looks.for_each(|look| _ = flat.add(look, history.incarnation().fingerprint));
    flat
}

impl Outside {
    /// A queue that was declared anew is another one by its arguments, but where a fault is planted.
    fn fingerprinted(&self, queue: BrokerQueue) -> BrokerQueue {
        let fingerprint = if self.is(Plant::OldIncarnation) { 0 } else { queue.fingerprint };
        BrokerQueue { fingerprint, ..queue }
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
    Summary {
        name: found.name.clone(),
        owners: found.owners.clone(),
        contact: found.contact.clone(),
        created: found.created,
        expires: found.expires,
    }
}

#[async_trait]
impl Watches for Outside {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        let read = |state: &mut State, _| state.store.watches.values().cloned().collect();
        self.store("read watches", read).await
    }

    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        let read = |state: &mut State, _| {
            let now = |queue: &str| state.broker.queues.get(queue).map(|found| found.messages);
            let mut found = state.histories.clone();
            if self.is(Plant::DrainingIgnored) {
                for (queue, history) in &mut found {
                    *history = flattened(history, now(queue).unwrap_or(0));
                }
            }
            found
        };
        self.store("read histories", read).await
    }

    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError> {
        let (mut watches, mut histories) = (self.watches().await?, self.histories().await?);
        watches.retain(|known| queues.contains(&known.queue));
        histories.retain(|queue, _| queues.contains(queue));
        Ok((watches, histories))
    }

    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError> {
        self.store("write histories", |state, _| {
            for (queue, history) in changes {
                match history {
                    // What was seen is kept, whatever was made of it.
                    Some(history) if self.is(Plant::DrainingIgnored) && state.histories.contains_key(queue) => {
                        let kept = state.histories.get_mut(queue).unwrap();
                        kept.add(*history.last().unwrap(), history.incarnation().fingerprint);
                        None
                    }
                    // As the store keeps it.
                    Some(history) => {
                        state.histories.insert(queue.clone(), History::from_bytes(&history.to_bytes()).unwrap())
                    }
                    None => state.histories.remove(queue),
                };
            }
        })
        .await
    }
}

#[async_trait]
impl Namespaces for Outside {
    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        Ok(Vec::new())
    }
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        let op = self.line.op();
        let read = |state: &mut State, _| state.store.namespaces.get(name).cloned();
        Ok(self.store("read a namespace", read).await?.map(|found| self.read(op, found)))
    }

    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError> {
        let op = self.line.op();
        let read = |state: &mut State, _| -> Vec<_> {
            names.iter().map(|name| state.store.namespaces.get(name).cloned()).collect()
        };
        let found = self.store("read a namespace", read).await;
        self.state().hear_together(op, names.iter(), found.is_ok());
        let mut found = found?;
        if self.is(Plant::AnswersMixed) {
            found.rotate_left(1);
        }
        Ok(found.into_iter().map(|found| Ok(found.map(|found| self.read(op, found)))).collect())
    }

    async fn summaries(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        let list =
            |state: &mut State, _| state.store.namespaces.values().filter(|n| n.gone.is_none()).map(summary).collect();
        self.store("list namespaces", list).await
    }

    async fn unowned(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        let list = |state: &mut State, _| {
            let live = state.store.namespaces.values().filter(|found| found.gone.is_none());
            live.filter(|found| found.managers().is_empty()).map(summary).collect()
        };
        self.store("list what nobody owns", list).await
    }

    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        let show =
            |state: &mut State, _| state.store.namespaces.get(name).filter(|found| found.gone.is_none()).map(summary);
        self.store("show a namespace", show).await
    }

    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        let list = |state: &mut State, _| {
            let all = state.store.namespaces.values();
            all.filter_map(|found| Some((found.name.clone(), *found.account.clone()?))).collect()
        };
        self.store("list the accounts", list).await
    }

    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        let found = self.namespaces(Select::All).await?;
        Ok(found.into_iter().filter(wanted).collect())
    }

    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.store("read namespaces", |state, _| {
            let wanted = |found: &&Namespace| match select {
                Select::All => true,
                Select::Sealed => false,
                Select::Due { now, abandoned, .. } => {
                    let usual = now.minus(settle_budget(self.every));
                    let abandoned = if self.is(Plant::NoDeadline) { usual } else { abandoned };
                    let since = found.rotation.pending.as_ref().map(|pending| pending.since);
                    found.gone.is_none()
                        && found.barred.disabled.is_none()
                        && since.map_or(found.rotation.due <= now, |since| since <= abandoned || since > now.plus(HOUR))
                }
            };
            let mut found: Vec<_> = state.store.namespaces.values().filter(wanted).cloned().collect();
            if self.is(Plant::BrakesTogether) {
                found.iter_mut().for_each(|found| found.claimed_by = Some("all".to_owned()));
            }
            if self.is(Plant::ExemptionIgnored) {
                found.iter_mut().for_each(|found| found.exemptions.clear());
            }
            if self.is(Plant::AdoptedEnds) {
                for found in found.iter_mut().filter(|found| found.adopted().is_some()) {
                    found.expires = found.created;
                    found.account.iter_mut().for_each(|account| account.adopted = None);
                }
            }
            if self.is(Plant::CalendarAlone) {
                found.iter_mut().for_each(|found| found.matures = Some(Duration::ZERO));
            }
            found
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
}

#[async_trait]
impl Records for Outside {
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        let op = self.line.op();
        let written = self.store("write", |state, fate| {
            let now = self.line.time.now();
            let write = |change: &Change| {
                let planted = self.plant.map(|plant| plant.change(change, &state.store, self.every));
                let (change, forced) = planted.unwrap_or_else(|| (change.clone(), false));
                let done = fate != Fate::Lose && state.write(op, &change, forced, now);
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

    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        let op = self.line.op();
        let written = self.store("write", |state, fate| {
            let now = self.line.time.now();
            let renew = |(at, renewal): (usize, &Renewal)| {
                let Some(found) = state.store.namespaces.get(&renewal.name) else { return Write::Lost };
                if fate == Fate::Lose || found.version != renewal.version || found.rotation.due != renewal.due {
                    return Write::Lost;
                }
                if at > 0 && self.is(Plant::AnsweredUnstored) {
                    return Write::Done;
                }
                let record = Namespace { version: renewal.version, ..renewal.applied_to(found) };
                let change = Change { record: Record::Namespace(record), notices: Vec::new(), audits: Vec::new() };
                let planted = self.plant.map(|plant| plant.change(&change, &state.store, self.every));
                let (change, forced) = planted.unwrap_or((change, false));
                if state.write(op, &change, forced, now) { Write::Done } else { Write::Lost }
            };
            renewals.iter().enumerate().map(renew).collect::<Vec<_>>()
        });
        let written = written.await;
        self.state().hear_together(op, renewals.iter().map(|renewal| &renewal.name), written.is_ok());
        written
    }

    async fn write_within(&self, makings: &[Making], _: usize) -> Result<Vec<Option<Write>>, StoreError> {
        let change = |Making { namespace, audits }: &Making| {
            let record = Record::Namespace(namespace.clone());
            Change { record, notices: Vec::new(), audits: audits.clone() }
        };
        // The first alone is stored where the others are said to be.
        let stored = if self.is(Plant::AnsweredUnstored) { makings.len().min(1) } else { makings.len() };
        let written = self.write(&makings[..stored].iter().map(change).collect::<Vec<_>>()).await?;
        let unstored = makings[stored..].iter().map(|_| Write::Done);
        Ok(written.into_iter().chain(unstored).map(Some).collect())
    }
}

#[async_trait]
impl Audits for Outside {
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError> {
        let audits = audits.to_vec();
        self.store("note in the audit trail", |state, _| state.audits.extend(audits)).await
    }

    async fn audits(&self, _: &AuditFilter, _: u32) -> Result<Vec<Audit>, StoreError> {
        self.store("read the audit trail", |state, _| state.audits.clone()).await
    }

    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        let forget = |state: &mut State, _: Fate| {
            let old = state.audits.iter().filter(|audit| audit.at < before).count().min(most as usize);
            for _ in 0..old {
                let oldest = state.audits.iter().position(|audit| audit.at < before);
                oldest.map(|at| state.audits.remove(at));
            }
            old
        };
        self.store("forget of the audit trail", forget).await
    }
}

impl Outside {
    /// Takes those of the notices that are due that are `wanted`.
    async fn take(
        &self,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
        wanted: impl Fn(&Notice) -> bool + Send,
    ) -> Result<Vec<Notice>, StoreError> {
        let op = self.line.op();
        self.store("take notices", |state, _| {
            let due = state
                .notices
                .iter_mut()
                .filter(|notice| notice.due <= now || notice.due > now.plus(DAY))
                .filter(|notice| wanted(notice))
                .take(limit as usize);
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
}

#[async_trait]
impl Notices for Outside {
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.take(now, retry, limit, |_| true).await
    }

    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        self.take(now, retry, limit, |notice| notice.to == address && notice.brief.is_some()).await
    }

    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError> {
        let postpone = |state: &mut State, _| {
            state.notices.iter_mut().filter(|notice| ids.contains(&notice.id)).for_each(|notice| notice.due = retry);
        };
        self.store("postpone notices", postpone).await
    }

    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError> {
        self.store("accept notices", |state, _| {
            for Accepted { id, warning } in accepted {
                if !state.delivered.contains(id) {
                    state.fault("a notice was accepted that nobody got");
                }
                state.removed.push(id.clone());
                let there = state.notices.iter().any(|notice| notice.id == *id);
                let watched =
                    warning.as_ref().filter(|_| there).map(|(queue, told)| (state.store.watches.get_mut(queue), told));
                if let Some((Some(watched), told)) = watched {
                    let at = if self.is(Plant::GraceFromStoring) { *told } else { at };
                    if watched.watch.accept(*told, at) {
                        watched.version = watched.version.next();
                    }
                }
                if !self.is(Plant::NoticeTwice) {
                    state.notices.retain(|notice| notice.id != *id);
                }
            }
            state.recipients.refusals.remove(address);
        })
        .await
    }

    /// Of what is not refused for good, only what was tried for a week is given up.
    async fn give_up_notice(&self, id: &str, _: Timestamp, _: &str, _: Keep) -> Result<(), StoreError> {
        self.store("give up a notice", |state, _| {
            let now = self.line.time.now();
            let fresh = |notice: &&Notice| notice.id == id && notice.to != REFUSES && now.since(notice.created) < WEEK;
            if state.notices.iter().any(|notice| fresh(&notice))
                && !state.delivered.iter().any(|delivered| delivered == id)
            {
                state.fault("a notice was given up that nobody got");
            }
            state.removed.push(id.to_owned());
            state.notices.retain(|notice| notice.id != id);
        })
        .await
    }

    async fn undelivered(&self, _: u32) -> Result<Vec<Undelivered>, StoreError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl RecipientRecords for Outside {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        self.store("read recipients", |state, _| state.recipients.clone()).await
    }

    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError> {
        self.store("note a refusal", |state, _| {
            state.recipients.refusals.retain(|_, before| *before > forget);
            state.recipients.refusals.insert(address.to_owned(), at);
        })
        .await
    }

    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError> {
        self.store("mute", |state, _| match mute {
            Some(mute) => state.recipients.mutes.insert(target.to_owned(), mute).is_some(),
            None => state.recipients.mutes.remove(target).is_some(),
        })
        .await
    }
}

#[async_trait]
impl Sums for Outside {
    async fn figures(&self, _: Timestamp) -> Result<Figures, StoreError> {
        Ok(Figures::default())
    }
}

#[async_trait]
impl Leases for Outside {
    async fn note_run(&self, _: &TaskRun) -> Result<(), StoreError> {
        Ok(())
    }
    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        Ok(Vec::new())
    }
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, asked: Timestamp) -> Result<bool, StoreError> {
        self.store("lease", |state, _| {
            let taken =
                state.leases.get(task).is_some_and(|(by, until)| by != holder && *until > now && *until <= asked);
            let taken = taken && !self.is(Plant::WatchWithoutCompare);
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
}

#[async_trait]
impl Heartbeats for Outside {
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError> {
        let now = self.now(beat.now);
        self.store("beat", |state, _| state.beat(beat, now)).await?;
        Ok(now)
    }

    /// Where nobody beats, the API is always within its clients' reach.
    async fn vitals(&self, now: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError> {
        let right = |state: &State| state.boots.get(boot?).copied();
        let now = self.now(now);
        self.store("tell the time", |state, _| Vitals { now, heartbeat: state.heartbeat, right: right(state) }).await
    }
}

#[async_trait]
impl Sightings for Outside {
    /// Requests are told apart before they come here.
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        Ok(seen.iter().map(|(_, sighting)| *sighting).collect())
    }

    async fn forget_sightings(&self, _: Timestamp, _: u32) -> Result<usize, StoreError> {
        Ok(0)
    }
}

#[async_trait]
impl Sessions for Outside {
    async fn begin_session(&self, _: &Digest, _: &Session, _: &Audit) -> Result<(), StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn session(&self, _: &Digest) -> Result<Option<Session>, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn sessions_of(&self, _: &str) -> Result<Vec<Session>, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn sessions(&self, _: u32) -> Result<Vec<Session>, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn bar_person(&self, _: &BarredPerson, _: &Audit) -> Result<bool, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn let_person_in(&self, _: &str, _: &Audit) -> Result<bool, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn see_session(&self, _: &Digest, _: Timestamp) -> Result<(), StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn end_session(&self, _: &Digest, _: &Audit) -> Result<bool, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
    async fn end_sessions_of(&self, _: &str, _: &Audit) -> Result<usize, StoreError> {
        Err(StoreError::Failed("nobody signs in".to_owned()))
    }
}

#[async_trait]
impl Deployment for Outside {
    async fn tag(&self) -> Result<Tag, StoreError> {
        self.store("read the tag", |_, _| Tag::from_stored(TAG.to_owned())).await
    }

    async fn foreign_users(&self, _: u32) -> Result<Vec<String>, StoreError> {
        self.store("read foreign users", |state, _| state.noted.iter().cloned().collect()).await
    }

    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError> {
        self.store("note foreign users", |state, _| {
            state.noted.extend(add.iter().cloned());
            state.noted.retain(|name| !remove.contains(name));
        })
        .await
    }
}

#[async_trait]
impl Store for Outside {
    async fn ping(&self) -> Result<(), StoreError> {
        self.store("ping the store", |_, _| ()).await
    }
}

#[async_trait]
impl Limiting for Outside {
    async fn limits(&self, _: &str) -> Result<LimitsSeen, BrokerError> {
        Ok(LimitsSeen::default())
    }

    async fn note_limits(&self, _: &str, _: &Noted) -> Result<(), BrokerError> {
        panic!("nothing is limited here")
    }

    async fn limit_user(&self, _: &str, _: UserLimit, _: Option<u64>) -> Result<(), BrokerError> {
        panic!("nobody is limited here")
    }

    async fn put_operator_policy(&self, _: &OperatorPolicy) -> Result<(), BrokerError> {
        panic!("nothing is limited here")
    }

    async fn delete_operator_policy(&self, _: &str) -> Result<(), BrokerError> {
        panic!("nothing is limited here")
    }
}

#[async_trait]
impl Inspecting for Outside {
    async fn make_inspection(&self, _: &str, _: Room) -> Result<(), BrokerError> {
        panic!("nobody looks at messages here")
    }

    async fn bind(&self, _: &str, _: &Binding) -> Result<bool, BrokerError> {
        panic!("nobody looks at messages here")
    }

    async fn take(&self, _: &str, _: u32, _: u32) -> Result<Option<Vec<Published>>, BrokerError> {
        panic!("nobody looks at messages here")
    }

    async fn queues_named(&self, _: &str) -> Result<Vec<String>, BrokerError> {
        panic!("nobody looks at messages here")
    }
}

#[async_trait]
impl Broker for Outside {
    async fn user(&self, user: &str) -> Result<Option<BrokerUser>, BrokerError> {
        let op = self.line.op();
        self.broker(format!("look at {user}"), |state, _| {
            if let Some(unseen) = state.unseen.get(&(op, user.to_owned())) {
                return Some(unseen.clone());
            }
            let hidden = self.is(Plant::WriteUnseen) && state.intruders.contains_key(user);
            let found = state.broker.users.get(user).filter(|_| !hidden);
            found.map(|found| self.disguised(found, state.intruders.contains_key(user)))
        })
        .await
    }

    async fn put_user(&self, user: &str, hash: &PasswordHash, tag: &str) -> Result<Put, BrokerError> {
        let op = self.line.op();
        self.broker(format!("put {user}"), |state, now| {
            if !self.is(Plant::DeleteUnseen) {
                state.spare(user, "written", now);
            }
            let put = BrokerUser { name: user.to_owned(), tags: [tag.to_owned()].into(), hash: hash.clone() };
            let known = state.broker.users.contains_key(user);
            let of_person = state.names.owner_of_user(user).filter(|(owner, _)| owner.as_str() == PERSON);
            if let Some((owner, slot)) = of_person.filter(|_| self.is(Plant::CredentialsInPlace) && !hash.is_blocked())
            {
                let other = state.names.user(&owner, slot.other());
                state.broker.users.get_mut(&other).into_iter().for_each(|other| other.hash = PasswordHash::blocked());
                state.broker.users.insert(user.to_owned(), put);
            } else if self.is(Plant::RevokedUnseen) && state.ending.contains(&op) {
                state.unseen.insert((op, user.to_owned()), put);
            } else if known && self.is(Plant::ToldAfterPromotion) {
                state.deferred.push((op, put));
            } else {
                state.intruders.remove(user);
                state.broker.users.insert(user.to_owned(), put);
            }
            if known { Put::Known } else { Put::PerhapsNew }
        })
        .await
    }

    async fn put_permissions(&self, user: &str, permissions: &Permissions) -> Result<(), BrokerError> {
        self.broker(format!("allow {user}"), |state, now| {
            if !self.is(Plant::DeleteUnseen) {
                state.spare(user, "allowed something", now);
            }
            if !state.broker.users.contains_key(user) {
                return Err(BrokerError::Refused("no such user".into()));
            }
            state.broker.permissions.insert(user.to_owned(), permissions.clone());
            Ok(())
        })
        .await?
    }

    async fn delete_user(&self, user: &str) -> Result<Deleted, BrokerError> {
        self.broker(format!("delete {user}"), |state, now| deleted(self.deleted_user(state, user, now))).await
    }

    /// One that is not there ends it half-way, as with RabbitMQ 3.
    async fn delete_users(&self, users: &[String]) -> Result<(), BrokerError> {
        self.broker(format!("delete {}", users.join(", ")), |state, now| {
            for user in users {
                if !self.deleted_user(state, user, now) {
                    return Err(BrokerError::Refused(format!("there is no user {user}")));
                }
            }
            Ok(())
        })
        .await?
    }

    async fn users(&self) -> Result<Vec<BrokerUser>, BrokerError> {
        let intruders: Vec<_> = self.state().intruders.keys().cloned().collect();
        let seen = |user: &BrokerUser| self.disguised(user, intruders.contains(&user.name));
        self.list("list users", |held| held.users.values().map(seen).collect()).await
    }

    async fn rights_elsewhere(&self, _: Option<&str>) -> Result<Vec<Right>, BrokerError> {
        self.list("list rights elsewhere", |_| Vec::new()).await
    }

    async fn revoke(&self, right: &Right) -> Result<(), BrokerError> {
        self.broker(format!("revoke a right of {}", right.user), |_, _| ()).await
    }

    async fn rights(&self) -> Result<Rights, BrokerError> {
        let here: Vec<_> = self.list("list rights", |held| held.permissions.keys().cloned().collect()).await?;
        Ok(Rights { here: here.iter().map(String::as_str).collect(), elsewhere: Vec::new() })
    }

    async fn odd_permissions(&self, odd: Odd<'_>) -> Result<Vec<BrokerPermissions>, BrokerError> {
        let given = |(user, permissions): (&String, &Permissions)| BrokerPermissions {
            user: user.clone(),
            permissions: permissions.clone(),
        };
        let found = self.list("list permissions", |held| held.permissions.iter().map(given).collect()).await?;
        Ok(found.into_iter().filter(odd).collect())
    }

    async fn queues(&self) -> Result<Vec<BrokerQueue>, BrokerError> {
        let op = self.line.op();
        let listed = self.list("list queues", |held| held.queues.iter().map(seen).collect()).await?;
        let listed = listed.into_iter().map(|queue| self.fingerprinted(queue)).collect();
        self.state().deleting.retain(|(by, _)| *by != op);
        Ok(listed)
    }

    async fn queue(&self, queue: &str) -> Result<Option<BrokerQueue>, BrokerError> {
        let op = self.line.op();
        let look = |state: &mut State, _| {
            state.deleting.remove(&(op, queue.to_owned()));
            state.broker.queues.get_key_value(queue).map(seen)
        };
        let found = self.broker(format!("look at {queue}"), look).await?;
        let messages =
            |found: &BrokerQueue| if self.is(Plant::NoSecondLook) { Some(DELETE + 1) } else { found.messages };
        Ok(found.map(|found| self.fingerprinted(BrokerQueue { messages: messages(&found), ..found })))
    }

    async fn queue_detail(&self, _: &str) -> Result<Option<QueueDetail>, BrokerError> {
        Ok(Some(QueueDetail::default()))
    }

    async fn channel_unacked(&self, _: &str) -> Result<Option<u64>, BrokerError> {
        Ok(None)
    }

    async fn exchange_detail(&self, _: &str) -> Result<Option<ExchangeDetail>, BrokerError> {
        Ok(None)
    }

    async fn published_by(&self, _: &str) -> Result<u64, BrokerError> {
        Ok(0)
    }

    async fn exchange_details(&self) -> Result<Vec<BrokerExchange>, BrokerError> {
        Ok(Vec::new())
    }

    async fn bindings(&self, _: &str) -> Result<Option<Vec<Binding>>, BrokerError> {
        Ok(None)
    }

    async fn queue_details(&self, _: &BTreeSet<String>) -> Option<BTreeMap<String, QueueDetail>> {
        None
    }

    async fn keeps_statistics(&self) -> Result<bool, BrokerError> {
        Ok(true)
    }

    async fn release(&self) -> Result<Release, BrokerError> {
        Ok(Release::default())
    }

    async fn alarm(&self) -> Result<bool, BrokerError> {
        Ok(false)
    }

    async fn purge_queue(&self, _: &str) -> Result<Deleted, BrokerError> {
        panic!("queues are deleted here")
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
        let seen = |of: &&BrokerConnection| of.user != ADOPTED || !self.is(Plant::RetiredInUse);
        self.list("list connections", |held| held.connections.values().filter(seen).cloned().collect()).await
    }

    async fn connections_of(&self, user: &str) -> Result<Vec<BrokerConnection>, BrokerError> {
        let seen = |of: &&BrokerConnection| of.user == user && (user != ADOPTED || !self.is(Plant::RetiredInUse));
        let of = |held: &Held| held.connections.values().filter(seen).cloned().collect();
        self.list("list the connections of a user", of).await
    }

    async fn connection(&self, name: &str) -> Result<Option<BrokerConnection>, BrokerError> {
        self.list("look at a connection", |held| held.connections.get(name).cloned().into_iter().collect())
            .await
            .map(|found| found.into_iter().next())
    }

    async fn delete_queue(&self, queue: &str) -> Result<Deleted, BrokerError> {
        let op = self.line.op();
        let delete = |state: &mut State, now| {
            if !state.deleting.insert((op, queue.to_owned())) {
                state.fault(format!("the queue {queue} was deleted again without a look"));
            }
            if state.broker.queues.get(queue).is_some_and(|found| found.owner.is_some()) {
                return Err(BrokerError::Refused("it is exclusive".into()));
            }
            let found = state.broker.queues.contains_key(queue);
            state.remove_queue(queue, now);
            Ok(deleted(found))
        };
        let done = self.broker(format!("delete {queue}"), delete).await;
        if done.is_err() && self.is(Plant::DeletedTwice) {
            return self.broker(format!("delete {queue}"), delete).await?;
        }
        done?
    }

    async fn delete_exchange(&self, exchange: &str) -> Result<Deleted, BrokerError> {
        self.broker(format!("delete {exchange}"), |state, now| {
            let found = state.broker.exchanges.remove(exchange);
            if found {
                state.require_gone(state.names.owner_of_exchange(exchange), &format!("the exchange {exchange}"), now);
            }
            deleted(found)
        })
        .await
    }

    async fn close_connection(&self, connection: &str, _: &str) -> Result<Deleted, BrokerError> {
        self.broker(format!("close {connection}"), |state, now| {
            let found = state.broker.connections.contains_key(connection);
            state.close(connection, now);
            deleted(found)
        })
        .await
    }

    async fn close_connections_of(&self, user: &str, _: &str) -> Result<Deleted, BrokerError> {
        let op = self.line.op();
        self.broker(format!("close connections of {user}"), |state, now| {
            if self.is(Plant::ConnectionsLeft) && state.ending.contains(&op) {
                return Deleted::Done;
            }
            state.close_all_of(user, now);
            Deleted::Done
        })
        .await
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.broker("ping", |_, _| ()).await
    }
}

fn deleted(found: bool) -> Deleted {
    if found { Deleted::Done } else { Deleted::Absent }
}

fn seen((name, queue): (&String, &Queue)) -> BrokerQueue {
    let (messages, exclusive) = (Some(queue.messages), queue.owner.is_some());
    let (unacked, fingerprint, kind) = (Some(0), queue.born, QueueKind::Classic);
    BrokerQueue { name: name.clone(), messages, unacked, fingerprint, kind, exclusive }
}

#[async_trait]
impl Notifier for Outside {
    async fn deliver(&self, notice: &Notice) -> Result<(), NotifyError> {
        let op = self.line.op();
        let refuses = notice.to == REFUSES;
        let mut told = if notice.instead_of.is_empty() { vec![notice.id.clone()] } else { notice.instead_of.clone() };
        if self.is(Plant::DigestLeavesOneOut) && told.len() > 1 {
            told.pop();
        }
        let deliver = |_| {
            let (mut state, now) = (self.state(), self.line.time.now());
            if refuses {
                return;
            }
            told.iter().for_each(|id| state.deliver(op, id, now));
        };
        let sent = self.line.call(Side::Mail, "send a mail", MAILING, deliver).await;
        match sent {
            Ok(()) if refuses => Err(NotifyError::Permanent("nobody has this address".into())),
            Ok(()) => Ok(()),
            Err(_) if self.is(Plant::WithheldDelivered) => Ok(()),
            Err(_) if self.is(Plant::AwayTakenForRefused) => {
                Err(NotifyError::Permanent("the mail server is away".into()))
            }
            Err(_) => Err(NotifyError::Temporary("the mail server is away".into())),
        }
    }
}
