//! Everything outside the service, in memory, and what is wrong in how it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::account::Account;
use taskcluster_pulse::domain::audit::{Actor, Audit, Deed};
use taskcluster_pulse::domain::barred::Barred;
use taskcluster_pulse::domain::history::History;
use taskcluster_pulse::domain::hold::{Beat, Heartbeat, Right};
use taskcluster_pulse::domain::inventory::{BrokerConnection, BrokerUser};
use taskcluster_pulse::domain::ladder::Mail;
use taskcluster_pulse::domain::name::{Name, Names, Permissions};
use taskcluster_pulse::domain::namespace::{Gone, Namespace, Version};
use taskcluster_pulse::domain::notice::{About, Notice};
use taskcluster_pulse::domain::owner::Groups;
use taskcluster_pulse::domain::recipients::Recipients;
use taskcluster_pulse::domain::rotation::{NEVER, Rotation};
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::secret::{Password, PasswordHash};
use taskcluster_pulse::store::{Change, Record};

pub const ALERT: u64 = 10;
pub const DELETE: u64 = 20;
/// How long after its date a namespace is taken.
pub const DELAY: Duration = Duration::from_secs(3600);
/// How old a connection may get.
pub const OLDEST_CONNECTION: Duration = Duration::from_secs(72 * 3600);
/// How long after an owner was told of a queue it is told again.
pub const REMINDER: Duration = Duration::from_secs(86_400);
/// How far the clocks of two processes may be apart where namespaces expire.
pub const APART: Duration = Duration::from_secs(20);

/// For how long a client that is refused for its time is remembered.
const HEARD: Duration = Duration::from_secs(3600);

/// How long after a warning was accepted a queue may be removed.
/// It is longer than clocks are apart.
pub const GRACE: Duration = Duration::from_secs(1200);

/// How long the delivery of a notice is tried.
pub const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// How long after it was taken a notice may be sent.
const TAKEN: Duration = Duration::from_secs(20 * 60);

/// An address that refuses mail for good.
pub const REFUSES: &str = "refuses@a.com";

/// The tag of the deployment.
pub const TAG: &str = "taskcluster-pulse-here";

/// How long after a revocation was stored or carried out connections may be closed for it.
const CUT: Duration = Duration::from_secs(120);

/// How long after a user was looked at it may be acted on.
const LOOKED_AT: Duration = Duration::from_secs(90);

#[derive(Clone)]
pub struct Queue {
    pub messages: u64,
    pub owner: Option<String>,
    /// When it last had more messages than may be.
    pub above: Option<Timestamp>,
    /// Which queue of its name it is.
    pub born: u64,
}

/// What the broker holds.
#[derive(Clone, Default)]
pub struct Held {
    pub users: BTreeMap<String, BrokerUser>,
    pub permissions: BTreeMap<String, Permissions>,
    pub queues: BTreeMap<String, Queue>,
    pub exchanges: BTreeSet<String>,
    pub connections: BTreeMap<String, BrokerConnection>,
}

/// What the store holds of namespaces and queues in trouble.
#[derive(Clone, Default)]
pub struct Records {
    pub namespaces: BTreeMap<Name, Namespace>,
    pub watches: BTreeMap<String, Watched>,
}

/// Everything outside the service.
pub struct State {
    pub names: Names,
    pub store: Records,
    pub histories: BTreeMap<String, History>,
    /// Of each queue, by its name and which of that name it is, when its owner first got a warning or, where nobody can be told,
    /// when one was stored.
    pub warnings: BTreeMap<(String, u64), Timestamp>,
    /// Who can't be told, as far as the service knows.
    pub recipients: Recipients,
    /// Namespaces of which at some time nobody could be told.
    pub unheard: BTreeSet<Name>,
    /// In the order in which they were stored.
    pub notices: Vec<Notice>,
    pub leases: BTreeMap<String, (String, Timestamp)>,
    pub broker: Held,
    /// What the broker held before time last moved, and when that was.
    pub earlier: (Held, Timestamp),
    /// Whether what the store does not know may be marked as gone.
    pub orphans: bool,
    /// How far the clocks of two processes may be apart for what ends.
    pub apart: Duration,
    /// What beats told: when they came, and what they told of calendars.
    pub heartbeat: Option<Heartbeat>,
    pub boots: BTreeMap<String, Right>,
    /// When a client was last refused for the time of its request alone, by the process that did it, as long as it lives and
    /// its clock is not set; and by which operation.
    pub refused: BTreeMap<usize, (Timestamp, usize)>,
    /// Which process an operation runs in.
    pub process: BTreeMap<usize, usize>,
    /// Which warnings were stored.
    pub warned: BTreeSet<(String, u64, Option<String>, String)>,
    /// What the broker is told later, by operation, where such a fault is planted.
    pub deferred: Vec<(usize, BrokerUser)>,
    /// When queues that were deleted for their size last had more messages than may be. Whoever looked at one then may
    /// delete its successor, too.
    pub large: BTreeMap<String, Timestamp>,
    /// Deletions of queues that an operation has sent since it last looked at the queue.
    pub deleting: BTreeSet<(usize, String)>,
    /// Whether one sweep began while another one may have been at work still.
    pub overlap: bool,
    /// Whether the store ever knew a live namespace.
    pub lived: bool,
    /// What was ever to be told, in the order in which it was stored.
    pub told: Vec<Notice>,
    /// What the audit trail has, in the order in which it was stored.
    pub audits: Vec<Audit>,
    /// Who is told of the troubles of a namespace, and since when.
    pub owners: BTreeMap<Name, (BTreeSet<String>, Timestamp)>,
    /// Since when all queues of a namespace may grow.
    pub exempted: BTreeMap<Name, Timestamp>,
    /// When a namespace's earlier credentials were last to be cut off.
    pub cut: BTreeMap<Name, Timestamp>,
    /// Operations that end something on demand, and users that they have written, where such faults are planted.
    pub ending: BTreeSet<usize>,
    pub unseen: BTreeMap<(usize, String), BrokerUser>,
    /// How many queues were declared.
    pub births: u64,
    /// Which queue of its name a warning is of, by its id.
    pub born: BTreeMap<String, u64>,
    /// The ids of what was delivered.
    pub delivered: Vec<String>,
    /// The ids of what was taken from the store after it was delivered.
    pub removed: Vec<String>,
    /// When an operation took a notice that was not removed then.
    pub taken: BTreeMap<(usize, String), Timestamp>,
    /// Queues of live namespaces that were deleted for their size, with how much was told before, and queues that went
    /// otherwise.
    pub deleted: Vec<(String, usize)>,
    pub vanished: Vec<String>,
    /// Namespaces that were marked as gone.
    pub buried: Vec<Name>,
    /// Operations that were given a list which was not as it should have been.
    pub misled: BTreeSet<usize>,
    /// Whether an operation had an answer to the last that it asked the store.
    pub heard: BTreeMap<usize, bool>,
    /// Which claims were begun, by which process.
    pub claiming: BTreeMap<usize, (usize, Name)>,
    /// When namespaces were to expire, by what was ever stored.
    pub ends: BTreeSet<(Name, Timestamp)>,
    /// Whether nobody uses the user any more that an account was made of, and whether that was ever to be deleted.
    pub abandoned: bool,
    pub retired: bool,
    /// Users of somebody else that stand under names of ours, and since when.
    pub intruders: BTreeMap<String, Timestamp>,
    /// What the store holds of them.
    pub noted: BTreeSet<String>,
    /// What is wrong.
    pub faults: Vec<String>,
}

impl State {
    pub fn new(names: Names, orphans: bool, apart: Duration, adopted: bool) -> State {
        let mut broker = Held { exchanges: BTreeSet::from([String::new()]), ..Held::default() };
        for foreign in FOREIGN.iter().map(|name| (*name).to_owned()) {
            let user = BrokerUser { name: foreign.clone(), tags: [].into(), hash: PasswordHash::blocked() };
            broker.users.insert(foreign.clone(), user);
            broker.queues.insert(foreign.clone(), Queue { messages: DELETE + 1, owner: None, above: None, born: 0 });
            broker.exchanges.insert(foreign.clone());
            let connected = Some(Timestamp::from_millis(0));
            let connection = BrokerConnection {
                name: foreign.clone(),
                user: foreign.clone(),
                connected,
                address: "10.0.0.9".into(),
                program: String::new(),
            };
            broker.connections.insert(foreign, connection);
        }
        let mut store = Records::default();
        if adopted {
            adopt(&mut broker, &mut store, &names);
        }
        State {
            names,
            orphans,
            apart,
            heartbeat: None,
            boots: BTreeMap::new(),
            refused: BTreeMap::new(),
            process: BTreeMap::new(),
            broker,
            earlier: (Held::default(), Timestamp::from_millis(0)),
            warned: BTreeSet::new(),
            histories: BTreeMap::new(),
            warnings: BTreeMap::new(),
            audits: Vec::new(),
            owners: BTreeMap::new(),
            exempted: BTreeMap::new(),
            cut: BTreeMap::new(),
            ending: BTreeSet::new(),
            unseen: BTreeMap::new(),
            recipients: Recipients::default(),
            unheard: BTreeSet::new(),
            births: 0,
            born: BTreeMap::new(),
            deferred: Vec::new(),
            large: BTreeMap::new(),
            deleting: BTreeSet::new(),
            overlap: false,
            lived: adopted,
            store,
            notices: Vec::new(),
            leases: BTreeMap::new(),
            told: Vec::new(),
            delivered: Vec::new(),
            removed: Vec::new(),
            taken: BTreeMap::new(),
            deleted: Vec::new(),
            vanished: Vec::new(),
            buried: Vec::new(),
            misled: BTreeSet::new(),
            heard: BTreeMap::new(),
            claiming: BTreeMap::new(),
            ends: BTreeSet::new(),
            abandoned: false,
            retired: false,
            intruders: BTreeMap::new(),
            noted: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// Stores a beat that comes at `now` by the store's clock.
    pub fn beat(&mut self, beat: &Beat, now: Timestamp) {
        let first = Heartbeat { last: now, since: Timestamp::from_millis(0), served: Duration::ZERO };
        let Heartbeat { last, since, served } = self.heartbeat.unwrap_or(first);
        let since = if last < now.minus(beat.gap) { now } else { since.min(now) };
        let served = served + beat.gap.min(beat.elapsed).min(now.since(last));
        self.heartbeat = Some(Heartbeat { last: now, since, served });
        self.boots.extend(beat.boot.clone().map(|(boot, ahead)| (boot, Right { ahead, told: now })));
    }

    /// The hash by which a client gets in; `None` where it does not. One by which it got in before is `known`.
    pub fn lets_in(&self, user: &str, password: &Password, known: Option<&PasswordHash>) -> Option<PasswordHash> {
        let found = &self.broker.users.get(user).filter(|_| self.broker.permissions.contains_key(user))?.hash;
        (Some(found) == known || found.verifies(password)).then(|| found.clone())
    }

    /// Whether a client of this namespace may be at work.
    pub fn has_clients(&self, name: &Name) -> bool {
        self.broker.users.values().any(|user| {
            !user.hash.is_blocked()
                && !self.intruders.contains_key(&user.name)
                && self.names.owner_of_user(&user.name).is_some_and(|(owner, _)| owner == *name)
        })
    }

    /// What the broker holds of a namespace, by name.
    pub fn remains(&self, name: &Name) -> Vec<String> {
        let owner = |user: &str| self.names.owner_of_user(user).map(|(owner, _)| owner);
        let ours = |user: &str| !self.intruders.contains_key(user);
        let users = self.broker.users.keys().filter(|user| owner(user).as_ref() == Some(name) && ours(user));
        let queues = self.broker.queues.keys().filter(|queue| self.names.owner_of_queue(queue).as_ref() == Some(name));
        let exchanges = self.broker.exchanges.iter().filter(|e| self.names.owner_of_exchange(e).as_ref() == Some(name));
        let of = |user: &str| owner(user).as_ref() == Some(name) && ours(user);
        let connections = self.broker.connections.values().filter(|c| of(&c.user));
        users.chain(queues).chain(exchanges).chain(connections.map(|c| &c.name)).cloned().collect()
    }

    /// Somebody else makes a user of this name, in the place of the one that is there.
    pub fn intrude(&mut self, user: &str, now: Timestamp) {
        self.remove_user(user);
        let hash = Password::random().hash();
        let theirs = BrokerUser { name: user.to_owned(), tags: ["administrator".to_owned()].into(), hash };
        self.broker.users.insert(user.to_owned(), theirs);
        // So old that it would be closed if it were ours.
        let connected = Some(Timestamp::from_millis(0));
        let name = format!("connection of the other {user}");
        let connection = BrokerConnection {
            name: name.clone(),
            user: user.to_owned(),
            connected,
            address: "10.0.0.9".into(),
            program: String::new(),
        };
        self.broker.connections.insert(name, connection);
        self.intruders.insert(user.to_owned(), now);
    }

    /// A user goes, and its connections with it.
    pub fn remove_user(&mut self, user: &str) {
        self.intruders.remove(user);
        self.broker.users.remove(user);
        self.broker.permissions.remove(user);
        let theirs = self.broker.connections.extract_if(.., |_, c| c.user == user);
        let theirs: Vec<_> = theirs.map(|(name, _)| Some(name)).collect();
        let queues =
            self.broker.queues.extract_if(.., |_, queue| theirs.contains(&queue.owner) && queue.owner.is_some());
        self.vanished.extend(queues.map(|(name, _)| name));
    }

    /// Nobody may do this to a user of somebody else. Whoever looked at it just before may have seen another one.
    pub fn spare(&mut self, user: &str, done: &str, now: Timestamp) {
        let record = self.store.namespaces.get(&Name::from_stored(ADOPTED.to_owned()));
        let is_retired = record.and_then(Namespace::adopted).is_some_and(|adopted| adopted.retired.is_some());
        if user == ADOPTED && self.broker.users.contains_key(user) && !(is_retired && done == "deleted") {
            self.fault(format!("{user} was {done}, which was adopted, and is not to be retired"));
        }
        if self.intruders.get(user).is_some_and(|since| now.since(*since) > LOOKED_AT) {
            self.fault(format!("{user} was {done}, which is somebody else's"));
        }
    }

    /// Loses what is ours at the broker.
    pub fn wipe(&mut self) {
        self.intruders.clear();
        let foreign = |name: &String| name.is_empty() || name.contains(ADOPTED) || FOREIGN.contains(&name.as_str());
        self.vanished.extend(self.broker.queues.keys().filter(|name| !foreign(name)).cloned());
        self.broker.users.retain(|name, _| foreign(name));
        self.broker.permissions.retain(|name, _| foreign(name));
        self.broker.queues.retain(|name, _| foreign(name));
        self.broker.exchanges.retain(foreign);
        self.broker.connections.retain(|name, _| foreign(name));
    }

    pub fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// Whether a tombstone counts already; where clocks are set, that can't be seen from its time.
    fn counts(&self, gone: Gone, now: Timestamp) -> bool {
        self.apart > APART || gone.since <= now.plus(self.apart)
    }

    /// A user that was adopted is retired only after its owner has moved on, and by a task only if nobody uses it.
    fn require_disuse(&mut self, change: &Change) {
        let Record::Namespace(after) = &change.record else { return };
        let before = self.store.namespaces.get(&after.name).and_then(Namespace::adopted);
        let newly = before.is_some_and(|before| before.retired.is_none());
        let Some(adopted) = after.adopted().filter(|after| newly && after.retired.is_some()) else { return };
        let asked = change.audits.iter().any(|audit| matches!(audit.by.actor, Actor::Client(_)));
        if adopted.moved.is_none() {
            self.fault(format!("{} is to be retired, and nobody has moved on from it", after.name));
        } else if !asked && self.broker.connections.contains_key(ADOPTED) {
            self.fault(format!("{} is to be retired, and is in use", after.name));
        }
        self.retired = true;
    }

    pub fn require_gone(&mut self, owner: Option<Name>, what: &str, now: Timestamp) {
        match owner.map(|owner| self.store.namespaces.get(&owner)) {
            None => self.fault(format!("{what} was removed, which is not ours")),
            Some(Some(found)) if found.gone.is_some_and(|gone| self.counts(gone, now)) => {}
            Some(_) => self.fault(format!("{what} was removed, whose namespace is not gone")),
        }
    }

    /// What a change of a namespace does to somebody's things is in the audit trail.
    fn require_audit(&mut self, change: &Change) {
        let Record::Namespace(after) = &change.record else { return };
        let before = self.store.namespaces.get(&after.name);
        let live = |found: &&Namespace| found.gone.is_none();
        let (was, is) = (before.filter(live), Some(after).filter(live));
        let done = match (was, is) {
            (None, Some(is)) if is.account.is_some() => vec![Deed::MakeAccount],
            (None, Some(_)) => vec![Deed::Claim],
            (None, None) if before.is_some() => shut(before, after).into_iter().collect(),
            (_, None) if change.audits.iter().any(|audit| audit.action == Deed::Release.word()) => vec![Deed::Release],
            (_, None) => vec![Deed::Expire],
            (Some(was), Some(is)) if shut(before, after).is_some() || is_revoked(was, is) => {
                vec![shut(before, after).unwrap_or(Deed::Revoke)]
            }
            (Some(was), Some(is)) => {
                let exempted = if is.exemptions.is_empty() { Deed::EndExemption } else { Deed::Exempt };
                let changes = [
                    (Deed::SetOwners, was.owners != is.owners),
                    (Deed::SetContact, was.contact != is.contact),
                    (exempted, was.exemptions != is.exemptions),
                    (Deed::NewCredentials, is_asked_anew(was, is)),
                    (Deed::MoveOn, has_moved(was) != has_moved(is) && is.adopted().is_some()),
                    (Deed::Retire, is_retired(is) && !is_retired(was)),
                ];
                changes.into_iter().filter(|(_, changed)| *changed).map(|(deed, _)| deed).collect()
            }
        };
        // An exemption that is granted again at the same moment is the same.
        let again = |action: &str| {
            let same = was.zip(is).is_some_and(|(was, is)| was.exemptions == is.exemptions);
            // Who begins anew with an account whose making was cut off may ask for that or for other credentials.
            let first = was.is_some_and(|was| was.rotation.active.is_none());
            same && action == Deed::Exempt.word() || first && action == Deed::NewCredentials.word()
        };
        // With a tombstone it is stored what was just removed of that namespace.
        let owner = |object: &str| self.names.owner_of_queue(object).or_else(|| self.names.owner_of_exchange(object));
        let cleaned = |audit: &Audit| {
            let deeds = [Deed::DeleteQueue, Deed::DeleteExchange].map(Deed::word);
            was.is_none()
                && is.is_none()
                && deeds.contains(&audit.action.as_str())
                && owner(&audit.object).as_ref() == Some(&after.name)
        };
        let others = change.audits.iter().filter(|audit| !cleaned(audit));
        let noted: Vec<_> = others.map(|audit| audit.action.as_str()).filter(|action| !again(action)).collect();
        if noted != done.iter().map(|deed| deed.word()).collect::<Vec<_>>() {
            self.fault(format!("the audit trail has {noted:?} of what was {done:?}"));
        }
    }

    fn note_rights(&mut self, namespace: &Namespace, now: Timestamp) {
        let name = &namespace.name;
        let told = namespace.told(&Groups::default()).into_iter().collect();
        if self.owners.get(name).is_none_or(|(before, _)| *before != told) {
            self.owners.insert(name.clone(), (told, now));
        }
        match namespace.exemptions.is_empty() || namespace.gone.is_some() {
            true => _ = self.exempted.remove(name),
            false => _ = self.exempted.entry(name.clone()).or_insert(now),
        }
    }

    /// Everybody who is to be told of a queue is, in a notice of its own, and what is told is in the audit trail. Who changed
    /// right before may be told or not.
    fn require_telling(&mut self, change: &Change, now: Timestamp) {
        let to: Vec<_> = change.notices.iter().map(|notice| notice.to.clone()).collect();
        let Some(first) = change.notices.first() else { return };
        let settled = self.owners.get(&first.namespace).filter(|(_, since)| since.plus(Duration::from_secs(600)) < now);
        let all = settled.map(|(all, _)| all.clone());
        if all.is_some_and(|all| to.len() != all.len() || !to.iter().all(|to| all.contains(to))) {
            self.fault(format!("only {to:?} are told: {}", first.subject));
        }
        let deed = match &change.record {
            Record::Watch(_) if first.about.as_ref().is_some_and(|about| about.told.is_some()) => Deed::Warn,
            Record::RemoveWatch(..) if first.subject.contains(" was deleted ") => Deed::DeleteQueue,
            _ => return,
        };
        if !change.audits.iter().any(|audit| audit.action == deed.word()) {
            self.fault(format!("the audit trail lacks {deed:?}: {}", first.subject));
        }
    }

    /// A queue that may grow is not removed for its size; whoever looked right before may do it still.
    fn require_no_exemption(&mut self, queue: &str, now: Timestamp) {
        let Some(owner) = self.names.owner_of_queue(queue) else { return };
        if self.exempted.get(&owner).is_some_and(|since| since.plus(Duration::from_secs(60)) < now) {
            self.fault(format!("the queue {queue} was removed, which may grow"));
        }
    }

    /// A queue is removed for its size only if its owner got a warning of this very queue long enough ago.
    fn require_warning(&mut self, queue: &str, born: u64, now: Timestamp) {
        self.require_no_exemption(queue, now);
        // Whoever looked at its predecessor right before may delete it in its place.
        let replaced = self.large.get(queue).is_some_and(|at| now.since(*at) < Duration::from_secs(20));
        let of_it = |(name, which): &(String, u64)| name == queue && (replaced || *which == born);
        let warned = self.warnings.iter().filter(|(of, _)| of_it(of)).map(|(_, at)| *at).min();
        // Where clocks are set, nobody knows how long ago that was; that there was one has to be all the same.
        let early = |at: Timestamp| self.apart <= APART && at.plus(GRACE) > now.plus(APART);
        match warned {
            None => self.fault(format!("the queue {queue} was removed, of which nobody was warned")),
            Some(at) if early(at) => self.fault(format!("the queue {queue} was removed too soon after its warning")),
            Some(_) => {}
        }
        // By what was stored of it, it lost messages in the grace time.
        let Some(history) = self.histories.get(queue) else { return };
        let Some(last) = history.last().copied() else { return };
        let lately = history.looks().find(|look| last.at.since(look.at) <= GRACE);
        if lately.is_some_and(|before| before.total >= last.total * 2 && last.total > DELETE) {
            self.fault(format!("the queue {queue} was removed while it drained"));
        }
    }

    pub fn remove_queue(&mut self, name: &str, now: Timestamp) {
        let Some(queue) = self.broker.queues.remove(name) else { return };
        let Some(owner) = self.names.owner_of_queue(name) else {
            return self.fault(format!("the queue {name} was removed, which is not ours"));
        };
        let found = self.store.namespaces.get(&owner);
        if found.and_then(|found| found.gone).is_some_and(|gone| self.counts(gone, now)) {
            self.vanished.push(name.to_owned());
        } else if found.is_some() && queue.above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
            self.require_warning(name, queue.born, now);
            self.deleted.push((name.to_owned(), self.told.len()));
            self.large.extend(queue.above.map(|at| (name.to_owned(), at)));
        } else {
            self.fault(format!("the queue {name} was removed, whose namespace is not gone and which is not too large"));
        }
    }

    pub fn close(&mut self, name: &str, now: Timestamp) {
        let Some(connection) = self.broker.connections.remove(name) else { return };
        if connection.user == ADOPTED {
            return self.spare(ADOPTED, "cut off", now);
        }
        if self.intruders.contains_key(&connection.user) {
            return self.spare(&connection.user, "cut off", now);
        }
        let owner = self.names.owner_of_user(&connection.user).map(|(owner, _)| owner);
        let old = connection.connected.is_some_and(|at| at.plus(OLDEST_CONNECTION) < now.plus(self.apart));
        let queues = self.broker.queues.iter().filter(|(_, queue)| queue.owner.as_deref() == Some(name));
        let queues: Vec<String> = queues.map(|(name, _)| name.clone()).collect();
        if owner.is_none() {
            self.fault(format!("the connection {name} was closed, which is not ours"));
        }
        // One from before its namespace was revived: whoever still saw it gone may close it.
        let before = |found: &Namespace| connection.connected.is_some_and(|at| at < found.created);
        let revived = owner.as_ref().and_then(|owner| self.store.namespaces.get(owner)).is_some_and(before);
        let found = owner.as_ref().and_then(|owner| self.store.namespaces.get(owner));
        let gone = found.and_then(|found| found.gone).is_some_and(|gone| self.counts(gone, now));
        // Whoever carries out a revocation looks right before.
        let cut = owner.as_ref().is_some_and(|owner| {
            let lately = self.cut.get(owner).is_some_and(|at| now.since(*at) < CUT);
            let before = found.and_then(|found| found.barred.revoked).is_some_and(|revoked| {
                !revoked.done || connection.connected.is_some_and(|at| at < revoked.from.plus(self.apart))
            });
            lately || before
        });
        let mut cause = old || revived || cut;
        for queue in queues {
            let (above, born) = self.broker.queues.remove(&queue).map_or((None, 0), |queue| (queue.above, queue.born));
            if !old && above.is_some_and(|at| now.since(at) < Duration::from_secs(20)) {
                cause = true;
                if !gone && !revived && !cut {
                    self.require_warning(&queue, born, now);
                }
                self.large.extend(above.map(|at| (queue.clone(), at)));
                self.deleted.push((queue, self.told.len()));
            } else {
                self.vanished.push(queue);
            }
        }
        if !cause {
            self.require_gone(owner, &format!("the connection {name}"), now);
        }
    }

    pub fn close_all_of(&mut self, user: &str, now: Timestamp) {
        let theirs = self.broker.connections.values().filter(|c| c.user == user);
        let theirs: Vec<_> = theirs.map(|c| c.name.clone()).collect();
        theirs.iter().for_each(|name| self.close(name, now));
    }

    /// Notes that somebody got a mail from this operation.
    pub fn deliver(&mut self, op: usize, id: &str, now: Timestamp) {
        if !self.told.iter().any(|notice| notice.id == id) {
            self.fault("a mail tells of something that was not stored");
        }
        // Whoever stood still after sending removes it when another one has taken it to send it, too; but that one is quick.
        let taken = self.taken.get(&(op, id.to_owned())).filter(|at| now.since(**at) < TAKEN);
        if self.removed.iter().any(|removed| removed == id) && taken.is_none() {
            self.fault("a mail was sent again");
        }
        self.delivered.push(id.to_owned());
        let about = self.told.iter().find(|notice| notice.id == id).and_then(|notice| notice.about.clone());
        if let Some(About { queue, told: Some(_), .. }) = about {
            let born = self.born.get(id).copied().unwrap_or_default();
            self.warnings.entry((queue, born)).or_insert(now);
        }
    }

    /// Notes whether the claims of these namespaces, which this operation asks for together with its own, had an answer.
    pub fn hear_together<'a>(&mut self, op: usize, names: impl Iterator<Item = &'a Name>, heard: bool) {
        let Some(process) = self.process.get(&op).copied() else { return };
        for name in names {
            let theirs = self.claiming.iter().filter(|(_, (by, claimed))| *by == process && claimed == name);
            self.heard.extend(theirs.map(|(op, _)| (*op, heard)));
        }
    }

    /// A claim is answered with what is stored.
    pub fn require_stored(&mut self, op: usize, name: &Name, expires: Timestamp) {
        if !self.ends.contains(&(name.clone(), expires)) {
            self.fault(format!("#{op} answered that {name} expires {expires}, which was not stored"));
        }
    }

    /// Writes one record over the version that it carries; where it is `forced`, over any.
    pub fn write(&mut self, op: usize, change: &Change, forced: bool, now: Timestamp) -> bool {
        let stored = |found: Option<Version>, version: Version| match found {
            None => version.is_new(),
            Some(found) => forced || (!version.is_new() && found == version),
        };
        let done = match &change.record {
            Record::Namespace(namespace) => {
                let found = self.store.namespaces.get(&namespace.name);
                let before = found.map(|found| found.version);
                let done = stored(before, namespace.version);
                let unknown = found.is_none() && namespace.gone.is_some();
                let released = change.audits.iter().any(|audit| audit.action == Deed::Release.word());
                // Those before end, because their owner asked for others.
                let previous = found.is_some_and(|found| found.rotation.previous.is_some());
                let ends = previous && namespace.rotation.previous.is_none() && namespace.is_on_demand();
                let pending =
                    ends || namespace.barred.is_pending() || found.is_some_and(|found| found.barred.is_pending());
                let early = namespace.gone.is_some()
                    && !released
                    && found
                        .is_some_and(|found| found.gone.is_none() && found.expires.plus(DELAY) > now.plus(self.apart));
                if done && early {
                    self.fault(format!("{} was buried before its time", namespace.name));
                }
                let process = self.process.get(&op);
                let deaf = process
                    .and_then(|process| self.refused.get(process))
                    .is_some_and(|(at, by)| now.since(*at) < HEARD && *by < op);
                if done && namespace.gone.is_some() && !released && deaf {
                    self.fault(format!(
                        "{} was buried by a process that refuses who has a right clock",
                        namespace.name
                    ));
                }
                if done && unknown && !(self.orphans && self.lived) {
                    self.fault(format!("{} is to be removed because the store does not know it", namespace.name));
                }
                self.lived |= done && namespace.gone.is_none();
                if done && namespace.gone.is_some() {
                    self.buried.push(namespace.name.clone());
                }
                if done && namespace.told(&Groups::default()).iter().all(|to| to == REFUSES) {
                    self.unheard.insert(namespace.name.clone());
                }
                if done && pending {
                    self.cut.insert(namespace.name.clone(), now);
                }
                if done {
                    self.require_disuse(change);
                    self.require_audit(change);
                    self.note_rights(namespace, now);
                    self.ends.insert((namespace.name.clone(), namespace.expires));
                    let version = before.unwrap_or(namespace.version).next();
                    let written = Namespace { version, ..namespace.clone() };
                    self.store.namespaces.insert(namespace.name.clone(), written);
                }
                done
            }
            Record::RemoveNamespace(name, version) => {
                let done = self.store.namespaces.get(name).is_some_and(|found| found.version == *version);
                if done && let Some(found) = self.store.namespaces.remove(name) {
                    // Nobody had a string of one that was never in force: its queues are of somebody else.
                    let had = found.gone.is_some() || found.rotation.active.is_some();
                    let mut remains = self.remains(name);
                    remains.retain(|what| had || !what.contains('/'));
                    if !had {
                        // And whose they are takes them away.
                        let names = &self.names;
                        self.broker.queues.retain(|queue, _| names.owner_of_queue(queue).as_ref() != Some(name));
                        self.broker.exchanges.retain(|one| names.owner_of_exchange(one).as_ref() != Some(name));
                    }
                    if !remains.is_empty() {
                        self.fault(format!("{name} was forgotten while the broker holds {remains:?}"));
                    }
                }
                done
            }
            Record::Watch(watched) => {
                let found = self.store.watches.get(&watched.queue).map(|found| found.version);
                let done = stored(found, watched.version);
                if done {
                    let version = found.unwrap_or(watched.version).next();
                    self.store.watches.insert(watched.queue.clone(), Watched { version, ..watched.clone() });
                    let recorded = watched.watch.told.is_some_and(|told| told.mail == Mail::Nobody);
                    if recorded && self.unheard.contains(&watched.namespace) {
                        let which = (watched.queue.clone(), watched.watch.incarnation.fingerprint);
                        self.warnings.entry(which).or_insert(now);
                    }
                }
                done
            }
            Record::RemoveWatch(queue, version) => {
                let done = self.store.watches.get(queue).is_some_and(|found| found.version == *version);
                if done {
                    self.store.watches.remove(queue);
                }
                done
            }
        };
        if done {
            self.audits.extend(change.audits.iter().cloned());
            self.require_telling(change, now);
        }
        for notice in change.notices.iter().filter(|_| done) {
            if let Record::Watch(watched) = &change.record {
                let Watched { queue, watch, .. } = watched;
                self.born.insert(notice.id.clone(), watch.incarnation.fingerprint);
                let told = watch.told.map(|told| format!("{}, {:?}", told.at, told.cause));
                let which = (queue.clone(), watch.incarnation.fingerprint, told, notice.to.clone());
                let warns = notice.about.as_ref().is_some_and(|about| about.told.is_some());
                if warns && !self.warned.insert(which) {
                    self.fault(format!("told again: {}", notice.subject));
                }
            }
            self.told.push(notice.clone());
            self.notices.push(notice.clone());
        }
        done
    }
}

/// Whether a change revokes the credentials of a live namespace.
fn is_revoked(was: &Namespace, is: &Namespace) -> bool {
    let anew = is.barred.is_pending() && !was.barred.is_pending();
    anew || was.rotation.active.is_some() && is.rotation.active.is_none()
}

/// Whether a change begins to give an account credentials that has some.
fn is_asked_anew(was: &Namespace, is: &Namespace) -> bool {
    let begun = is.rotation.pending.is_some() && is.rotation.pending != was.rotation.pending;
    begun && is.is_on_demand() && was.rotation.active.is_some() && was.adopted().is_none_or(|_| has_moved(was))
}

fn has_moved(namespace: &Namespace) -> bool {
    namespace.adopted().is_some_and(|adopted| adopted.moved.is_some())
}

fn is_retired(namespace: &Namespace) -> bool {
    namespace.adopted().is_some_and(|adopted| adopted.retired.is_some())
}

/// Whether a change disables or enables a namespace.
fn shut(before: Option<&Namespace>, after: &Namespace) -> Option<Deed> {
    let (was, is) = (before.is_some_and(|before| before.barred.disabled.is_some()), after.barred.disabled.is_some());
    (was != is).then_some(if is { Deed::Disable } else { Deed::Enable })
}

/// An account of a person.
pub const PERSON: &str = "taskcluster-p";

/// A user of somebody else that was adopted. By its name alone, it would be one of ours.
pub const ADOPTED: &str = "taskcluster-old-1";

/// Makes what there is of it. Its connection is so old that it would be closed if it were ours.
fn adopt(broker: &mut Held, store: &mut Records, names: &Names) {
    let (name, now) = (Name::from_stored(ADOPTED.to_owned()), Timestamp::from_millis(0));
    let hash = Password::random().hash();
    broker.users.insert(ADOPTED.to_owned(), BrokerUser { name: ADOPTED.to_owned(), tags: [].into(), hash });
    broker.permissions.insert(ADOPTED.to_owned(), names.permissions(&name));
    let queue = Queue { messages: 1, owner: None, above: None, born: 0 };
    broker.queues.insert(format!("queue/{ADOPTED}/x"), queue);
    broker.exchanges.insert(format!("exchange/{ADOPTED}/x"));
    let (user, address) = (ADOPTED.to_owned(), "10.0.0.9".to_owned());
    let connection = BrokerConnection {
        name: user.clone(),
        user: user.clone(),
        connected: Some(now),
        address,
        program: String::new(),
    };
    broker.connections.insert(user, connection);
    let account = Namespace {
        name: name.clone(),
        contact: String::new(),
        created: now,
        expires: NEVER,
        rotation: Rotation::none(),
        gone: None,
        warned: None,
        claimed_by: None,
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: Some(Account::of_adopted(now).into()),
        end_asked: None,
        matures: None,
        version: Version(1),
    };
    store.namespaces.insert(name, account);
}

/// Names of users, queues, exchanges and connections that are not ours.
pub const FOREIGN: &[&str] = &[
    "guest",
    "taskcluster-a",
    "queue/other/x",
    "queue/taskcluster-a",
    "exchange/taskcluster-a",
    "taskcluster-a-3",
    "other-1",
];
