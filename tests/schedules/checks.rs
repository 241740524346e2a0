//! What must hold: after each step, when it has become quiet, and when everything has expired.

use taskcluster_pulse::domain::name::{Name, Slot, USER_TAG};

use super::schedule::{DAY, HOUR, Handed, MINUTE, NAMES, QUEUES, Said, Schedule};
use super::state::{APART, DELAY, DELETE, FOREIGN};
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
        let said = &self.said;
        self.handed.retain(|handed| {
            let ends = |said: &Said| {
                let own = said.by == handed.by && said.end > handed.at.plus(DELAY / 2);
                said.name == handed.name
                    && said.end <= now.plus(APART)
                    && (!own || said.end > now)
                    // Nobody who can't ask the store knows what others said.
                    && (handed.recalled || said.over.is_none_or(|over| over > handed.by))
            };
            handed.reclaim_at > now && !said.iter().any(ends)
        });
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
        self.take(Step::Down { store: false, broker: false })?;
        while let Some(op) = self.running.first().map(|running| running.op) {
            self.complete(op);
            self.check()?;
        }
        (0..3).try_for_each(|process| self.run_in(process, Work::Refresh))?;
        self.wait(10 * MINUTE);
        self.check()?;
        for _ in 0..3 {
            for work in [Work::Rotate, Work::Sweep, Work::Expire, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.wait(10 * MINUTE);
        }
        self.run_alone(Work::Rotate)?;
        self.run_alone(Work::Sweep)?;
        self.agrees()?;
        self.wait(200 * DAY);
        for _ in 0..4 {
            for work in [Work::Expire, Work::Sweep, Work::Deliver] {
                self.run_alone(work)?;
            }
            self.wait(HOUR);
        }
        self.nothing_is_left()
    }

    fn agrees(&self) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        if self.broken.is_some() {
            return Err("a sweep in peace and quiet did not make the broker good".into());
        }
        for namespace in state.store.namespaces.values().filter(|found| found.gone.is_none()) {
            for slot in Slot::BOTH {
                let user = state.names.user(&namespace.name, slot);
                let found = state.broker.users.get(&user).ok_or(format!("{user} is missing"))?;
                let good = match namespace.rotation.password_of(slot) {
                    Some(password) => found.hash.verifies(password),
                    None => found.hash.is_blocked(),
                };
                let allowed = state.broker.permissions.get(&user) == Some(&state.names.permissions(&namespace.name));
                if !good || !allowed || found.tags != [USER_TAG] {
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
        for name in NAMES {
            let name = Name::from_stored(name.to_owned());
            if state.store.namespaces.contains_key(&name) {
                return Err(format!("the record of {name} is left"));
            }
            let remains = state.remains(&name);
            if !remains.is_empty() {
                return Err(format!("of {name}, {remains:?} are left"));
            }
        }
        if let Some(alert) = state.store.alerts.values().next() {
            return Err(format!("an alert is left: {alert:?}"));
        }
        if let Some(notice) = state.told.iter().find(|notice| !state.delivered.contains(&notice.id)) {
            return Err(format!("nobody was told: {}", notice.subject));
        }
        for queue in QUEUES {
            let told = |what: &str| {
                state.told.iter().filter(|n| n.subject.contains(queue) && n.subject.contains(what)).count()
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
