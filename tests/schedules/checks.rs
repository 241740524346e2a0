//! What must hold: after each step, when it has become quiet, and when everything has expired.

use std::collections::BTreeMap;
use std::time::Duration;

use taskcluster_pulse::domain::name::{Name, Slot};
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::notice::Notice;

use super::schedule::{Asked, DAY, HOUR, Handed, MINUTE, NAMES, QUEUES, Said, Schedule};
use super::state::{ADOPTED, DELAY, DELETE, FOREIGN, PERSON, REFUSES, TAG};
use super::step::{Step, Work};

impl Schedule {
    /// What must hold after each step.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&mut self) -> Result<(), String> {
        let now = self.time.now();
        let state = self.state.clone();
        let state = &mut *state.lock().unwrap();
        state
            .broker
            .queues
            .values_mut()
            .filter(|queue| queue.messages > DELETE)
            .for_each(|queue| queue.above = Some(now));
        if let Some(fault) = state.faults.first() {
            return Err(fault.clone());
        }
        let (said, cuts, asked) = (&self.said, &self.cuts, &self.asked);
        self.handed.retain(|handed| {
            let ends = |said: &Said| {
                let own = said.by == handed.by && said.end > handed.at.plus(DELAY / 2);
                said.name == handed.name
                    && said.end <= now.plus(state.apart)
                    && (!own || said.end > now)
                    // Nobody who can't ask the store knows what others said.
                    && (handed.recalled || said.over.is_none_or(|over| over > handed.by))
            };
            let later = |asked: &&Asked| {
                asked.name == handed.name && asked.by != handed.by && asked.over.is_none_or(|over| over > handed.by)
            };
            let replaced = asked.iter().filter(later).map(|asked| if asked.ends { 2 } else { 1 }).sum::<u32>() >= 2;
            handed.reclaim_at > now && !said.iter().any(ends) && !cuts.ends(handed) && !replaced
        });
        self.cuts.check(state)?;
        if self.broken.is_some() {
            return Ok(());
        }
        for handed in &mut self.handed {
            handed.hash = state.lets_in(&handed.user, &handed.password, handed.hash.as_ref());
            if handed.hash.is_none() {
                let Handed { user, by, reclaim_at, .. } = handed;
                return Err(format!("{user}, handed out by #{by} until {reclaim_at}, does not log in"));
            }
        }
        Ok(())
    }

    /// Runs an operation to its end.
    fn run_alone(&mut self, work: Work) -> Result<(), String> {
        self.run_in(0, work)
    }

    fn run_in(&mut self, process: usize, work: Work) -> Result<(), String> {
        let op = self.next;
        self.begin(op, process, &work);
        self.complete(op);
        self.check()
    }

    /// Ends what is under way, and lets the tasks do their work without faults: then store and broker must agree, and later
    /// nothing may be left of what has expired.
    ///
    /// # Errors
    /// What is wrong.
    pub fn calm_down(&mut self) -> Result<(), String> {
        self.note(|| "it becomes quiet".to_owned());
        if self.setup.embedded {
            (0..3).try_for_each(|process| self.take(Step::Clock { process, ahead: 0 }))?;
        }
        self.take(Step::Down { store: false, broker: false })?;
        for user in NAMES.iter().flat_map(|name| [format!("{name}-1"), format!("{name}-2")]) {
            self.take(Step::Leave(user))?;
        }
        while let Some(op) = self.running.first().map(|running| running.op) {
            self.complete(op);
            self.check()?;
        }
        (0..3).try_for_each(|process| self.run_in(process, Work::Refresh))?;
        NAMES.iter().chain(&[PERSON]).try_for_each(|name| self.run_alone(Work::Enable((*name).to_owned())))?;
        if self.setup.embedded {
            // If the host was started with another time, that it is right now is believed once clients tell.
            for _ in 0..3 {
                self.hear("somebody with a right clock");
                self.serve(0, HOUR)?;
            }
        }
        self.pass(10 * MINUTE)?;
        for _ in 0..3 {
            for work in [Work::Rotate, Work::Sweep, Work::Expire, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.pass(10 * MINUTE)?;
        }
        self.run_alone(Work::Rotate)?;
        self.run_alone(Work::Sweep)?;
        self.agrees()?;
        // What was claimed by a clock that was ahead lives for longer.
        self.wait(if self.setup.embedded { 2000 * DAY } else { 200 * DAY });
        if let Some(heartbeat) = &mut self.state.lock().unwrap().heartbeat {
            heartbeat.served += 2000 * DAY;
        }
        self.pass(HOUR)?;
        self.end_accounts()?;
        for _ in 0..4 {
            for work in [Work::Expire, Work::Sweep, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.pass(HOUR)?;
        }
        self.nothing_is_left()
    }

    /// Accounts end when nobody has used them for long, and their owners were told before.
    fn end_accounts(&mut self) -> Result<(), String> {
        let ends = |found: &Namespace| found.account.is_some() && found.adopted().is_none();
        let theirs = |user: &str| user.starts_with(PERSON) || (user.starts_with(ADOPTED) && user != ADOPTED);
        self.state.lock().unwrap().broker.connections.retain(|_, connection| !theirs(&connection.user));
        for _ in 0..2 {
            if !self.state.lock().unwrap().store.namespaces.values().any(ends) {
                return Ok(());
            }
            for span in [40 * DAY, 2 * DAY] {
                self.wait(span);
                if let Some(heartbeat) = &mut self.state.lock().unwrap().heartbeat {
                    heartbeat.served += span;
                }
                self.pass(HOUR)?;
                for work in [Work::Sweep, Work::Deliver, Work::Expire] {
                    self.run_alone(work)?;
                }
            }
        }
        Ok(())
    }

    /// Time passes in which all is well: where processes beat, one does.
    fn pass(&mut self, by: Duration) -> Result<(), String> {
        match self.setup.embedded {
            true => self.serve(0, by),
            false => {
                self.wait(by);
                self.check()
            }
        }
    }

    /// A process has its heartbeat for so long.
    ///
    /// # Errors
    /// What is wrong then.
    pub fn serve(&mut self, process: usize, by: Duration) -> Result<(), String> {
        let beats = by.as_millis().div_ceil((self.every(process) / 5).as_millis());
        let beats = u32::try_from(beats).unwrap().clamp(1, 50);
        self.run_in(process, Work::Beat)?;
        (0..beats).try_for_each(|_| {
            self.wait(by / beats);
            self.run_in(process, Work::Beat)
        })
    }

    fn agrees(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        if self.broken.is_some() {
            return Err("a sweep in peace and quiet did not make the broker good".into());
        }
        // An account whose making was cut off has no users; whoever asks again makes them.
        let unmade = |found: &&Namespace| found.account.is_some() && found.rotation.active.is_none();
        let ours = |found: &&Namespace| found.gone.is_none() && found.adopted().is_none() && !unmade(found);
        for namespace in state.store.namespaces.values().filter(ours) {
            if namespace.barred.is_pending() {
                return Err(format!("the credentials of {} were not revoked", namespace.name));
            }
            for slot in Slot::BOTH {
                let user = state.names.user(&namespace.name, slot);
                let found = state.broker.users.get(&user).ok_or(format!("{user} is missing"))?;
                let good = match namespace.rotation.password_of(slot) {
                    Some(password) => found.hash.verifies(password),
                    None => found.hash.is_blocked(),
                };
                let allowed = match state.broker.permissions.get(&user) {
                    Some(may) => *may == state.names.permissions(&namespace.name),
                    None => namespace.rotation.password_of(slot).is_none(),
                };
                if !good || !allowed || *found.tags != [TAG] {
                    return Err(format!("{user} is not as the store says"));
                }
            }
        }
        Ok(())
    }

    fn nothing_is_left(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        for foreign in FOREIGN.iter().map(|name| (*name).to_owned()) {
            let there = state.broker.users.contains_key(&foreign)
                && state.broker.queues.contains_key(&foreign)
                && state.broker.exchanges.contains(&foreign)
                && state.broker.connections.contains_key(&foreign);
            if !there {
                return Err(format!("something foreign that is called {foreign} was removed"));
            }
        }
        let adopted = state.store.namespaces.get(&Name::from_stored(ADOPTED.to_owned()));
        let was_retired = adopted.is_none_or(|found| found.adopted().is_none()) && state.retired;
        let stays = adopted.is_some_and(|found| found.gone.is_none() && found.adopted().is_some())
            && state.broker.users.get(ADOPTED).is_some_and(|user| user.tags.is_empty() && !user.hash.is_blocked())
            && state.broker.permissions.contains_key(ADOPTED)
            && state.broker.queues.contains_key(&format!("queue/{ADOPTED}/x"))
            && state.broker.exchanges.contains(&format!("exchange/{ADOPTED}/x"))
            && (state.broker.connections.contains_key(ADOPTED) || state.abandoned);
        if self.setup.adopted && !stays && !was_retired {
            return Err(format!("something of {ADOPTED} was removed, which was adopted"));
        }
        if was_retired && state.broker.users.contains_key(ADOPTED) {
            return Err(format!("{ADOPTED} is left, which was retired"));
        }
        // One that was retired just now lives on.
        let is_over = was_retired && adopted.is_none_or(|found| found.expires.plus(DAY) < self.time.now());
        let ended = [PERSON].into_iter().chain(Some(ADOPTED).filter(|_| is_over));
        for name in NAMES.into_iter().chain(ended) {
            let name = Name::from_stored(name.to_owned());
            if let Some(left) = state.store.namespaces.get(&name) {
                return Err(format!("the record of {name} is left: {left:?}"));
            }
            let remains = state.remains(&name);
            if !remains.is_empty() {
                return Err(format!("of {name}, {remains:?} are left"));
            }
        }
        if let Some(watched) = state.store.watches.values().next() {
            return Err(format!("what is remembered of a queue is left: {watched:?}"));
        }
        if let Some(notice) =
            state.told.iter().find(|notice| notice.to != REFUSES && !state.delivered.contains(&notice.id))
        {
            return Err(format!("nobody was told: {}", notice.subject));
        }
        for queue in QUEUES {
            // Each address is told for itself.
            let told = |what: &str| {
                let about = |n: &&Notice| n.subject.contains(queue) && n.subject.contains(what);
                let mut each = BTreeMap::new();
                state.told.iter().filter(about).for_each(|n| *each.entry(&n.to).or_insert(0) += 1);
                each.into_values().max().unwrap_or(0)
            };
            let deleted = state.deleted.iter().filter(|(name, _)| name == queue);
            let vanished = state.vanished.iter().filter(|name| *name == queue);
            // Two sweeps at once may both have begun a deletion; each tells of what it began. One that read an outdated list
            // and died before it looked leaves what it began to the next, which can't tell whether it was done.
            let may_be_told = deleted.clone().count() + vanished.count() + state.misled.len();
            if !state.overlap && told(" was deleted ") > may_be_told {
                return Err(format!("more deletions of {queue} were told than happened"));
            }
            // Whatever becomes of a deletion, its owner hears of the queue afterwards, if there is one by then.
            let hears = |before: usize| state.told[before..].iter().any(|n| n.subject.contains(queue));
            if self.setup.one_contact && state.buried.is_empty() && !deleted.clone().all(|(_, before)| hears(*before)) {
                return Err(format!("a deletion of {queue} was not told"));
            }
        }
        Ok(())
    }
}
