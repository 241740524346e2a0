//! Who was signed in a while ago, as this process knows, for the time when the store fails.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::session::Session;
use crate::store::Digest;

/// For so long a session counts that the store knew last, while it fails.
const REMEMBERED_FOR: Duration = Duration::from_secs(15 * 60);
/// So many are remembered.
const REMEMBERED: usize = 10_000;

/// Sessions, as the store knew them last.
#[derive(Default)]
pub(super) struct SignedIn(Mutex<HashMap<Digest, (Instant, Session)>>);

impl SignedIn {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, (Instant, Session)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the store knows of a session.
    pub(super) fn note(&self, id: &Digest, found: Option<&Session>) {
        let mut known = self.lock();
        let Some(session) = found else {
            known.remove(id);
            return;
        };
        if known.len() >= REMEMBERED {
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED_FOR);
        }
        if known.len() < REMEMBERED {
            known.insert(*id, (Instant::now(), session.clone()));
        }
    }

    /// What the store knew of a session a while ago.
    pub(super) fn recall(&self, id: &Digest) -> Option<Session> {
        self.lock().get(id).filter(|(at, _)| at.elapsed() < REMEMBERED_FOR).map(|(_, session)| session.clone())
    }

    /// Forgets all sessions of a person.
    pub(super) fn forget_person(&self, subject: &str) {
        self.lock().retain(|_, (_, session)| session.person.subject != subject);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::domain::session::Person;

    fn session(subject: &str) -> Session {
        let person = Person { subject: subject.to_owned(), address: None, groups: Vec::new(), scopes: Vec::new() };
        Session::begin(person, Timestamp::from_millis(0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_is_known_for_a_while_unless_it_has_ended() {
        let known = SignedIn::default();
        known.note(&[1; 32], Some(&session("a")));
        known.note(&[2; 32], Some(&session("a")));
        known.note(&[3; 32], Some(&session("b")));
        assert_eq!(known.recall(&[1; 32]), Some(session("a")));
        known.note(&[1; 32], None);
        assert_eq!((known.recall(&[1; 32]), known.recall(&[2; 32]).is_some()), (None, true));
        known.forget_person("a");
        assert_eq!((known.recall(&[2; 32]), known.recall(&[3; 32]).is_some()), (None, true));
        tokio::time::advance(REMEMBERED_FOR).await;
        assert_eq!(known.recall(&[3; 32]), None);
    }
}
