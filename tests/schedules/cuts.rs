//! Ends on demand: which credentials must not log in any more, and who must not get any.

use std::collections::BTreeMap;

use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::Ended;

use super::schedule::{Handed, Running, Schedule};
use super::state::State;
use super::step::Work;

/// An operation that cuts off the earlier credentials of a namespace.
struct Cut {
    by: usize,
    name: Name,
    /// When it began, and how many credentials were handed out by then.
    at: Timestamp,
    before: usize,
    /// Whether somebody was just letting it be claimed.
    enabling: bool,
    /// The first operation that began after this one had ended.
    over: Option<usize>,
}

/// What was handed out, and what was cut off.
#[derive(Default)]
pub struct Cuts {
    cuts: Vec<Cut>,
    /// All credentials that were ever handed out.
    strings: Vec<(Name, String, Password)>,
    /// Those of which it was answered that they are refused.
    dead: Vec<(String, Password)>,
    /// From which operation on a namespace is not to be claimed.
    shut: BTreeMap<Name, usize>,
    /// The last operation that began to let a namespace be claimed.
    enabled: BTreeMap<Name, usize>,
}

impl Cuts {
    /// Whether what was promised with these credentials does not count any more. What came at the same time may be either.
    pub fn ends(&self, handed: &Handed) -> bool {
        self.cuts
            .iter()
            .any(|cut| cut.name == handed.name && (handed.recalled || cut.over.is_none_or(|over| over > handed.by)))
    }

    /// An operation has ended, be it because nobody waits for it.
    pub fn over(&mut self, op: usize, next: usize) {
        self.cuts.iter_mut().filter(|cut| cut.by == op).for_each(|cut| cut.over = Some(next));
    }

    /// Nobody logs in with what was said to be refused.
    ///
    /// # Errors
    /// Who does.
    pub fn check(&self, state: &State) -> Result<(), String> {
        match self.dead.iter().find(|(user, password)| state.lets_in(user, password, None).is_some()) {
            Some((user, _)) => Err(format!("{user} logs in with a password that was revoked")),
            None => Ok(()),
        }
    }
}

impl Schedule {
    /// An operation begins.
    pub fn note_cut(&mut self, op: usize, work: &Work) {
        if let Work::Enable(name) = work {
            let name = Name::from_stored(name.clone());
            self.cuts.shut.remove(&name);
            self.cuts.enabled.insert(name, op);
            self.state.lock().unwrap().ending.insert(op);
        }
        let Some(name) = work.cuts_off() else { return };
        let (name, at, before) = (Name::from_stored(name.to_owned()), self.time.now(), self.cuts.strings.len());
        let enables = |running: &Running| matches!(running.work(), Work::Enable(of) if *of == *name.as_str());
        let enabling = self.running.iter().any(enables);
        self.cuts.cuts.push(Cut { by: op, name, at, before, enabling, over: None });
        self.state.lock().unwrap().ending.insert(op);
    }

    /// A claim has handed out credentials.
    pub fn note_handed(&mut self, op: usize, name: &Name, user: &str, password: &Password, recalled: bool) {
        if !recalled && self.cuts.shut.get(name).is_some_and(|from| *from <= op) {
            self.state.lock().unwrap().fault(format!("#{op} hands out {user}, which is disabled"));
        }
        self.cuts.strings.push((name.clone(), user.to_owned(), password.clone()));
    }

    /// An end on demand was answered.
    pub fn note_ended(&mut self, op: usize, work: &Work, ended: &Ended) {
        let Some(cut) = self.cuts.cuts.iter().find(|cut| cut.by == op) else { return };
        let enabled = self.cuts.enabled.get(&cut.name).is_some_and(|by| *by > op);
        if matches!(work, Work::Disable(_)) && !cut.enabling && !enabled {
            self.cuts.shut.insert(cut.name.clone(), self.next);
        }
        if *ended != Ended::Done {
            return;
        }
        let theirs = self.cuts.strings[..cut.before].iter().filter(|(of, ..)| *of == cut.name);
        self.cuts.dead.extend(theirs.map(|(_, user, password)| (user.clone(), password.clone())));
        let state = &mut *self.state.lock().unwrap();
        let of = |user: &str| state.names.owner_of_user(user).map(|(name, _)| name);
        let left = state.broker.connections.values().find(|connection| {
            of(&connection.user).as_ref() == Some(&cut.name)
                && !state.intruders.contains_key(&connection.user)
                && connection.connected.is_some_and(|at| at < cut.at)
        });
        if let Some(left) = left.map(|left| left.name.clone()) {
            state.fault(format!("{left} is still open, which was cut off"));
        }
    }
}
