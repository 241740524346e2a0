//! Sessions of people: begun at sign-in, ended at sign-out; both are in the audit trail. While the store fails, those who were signed
//! in a while ago still are, to see what is known.

use super::outcome::Outcome;
use super::{Service, ServiceError};
use crate::domain::audit::{By, Deed};
use crate::domain::session::{BarredPerson, Person, Session};
use crate::store::{Digest, StoreError, TaskRun};

/// So many sessions are shown to administrators.
const SHOWN: u32 = 1000;

/// A person whom the service knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Tells this person from all others.
    pub subject: String,
    /// The name.
    pub name: String,
    /// The live sessions, the one that was used last first.
    pub sessions: Vec<Session>,
    /// Why they may not sign in, if that is so.
    pub barred: Option<BarredPerson>,
}

impl Service {
    /// Begins a session under the hash of its id. `how` says by which provider the person is known.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_in(&self, id: &Digest, person: Person, how: &str, by: &By) -> Result<Session, ServiceError> {
        self.memory.check_store()?;
        if let Some(barred) = self.store.barred_people().await?.into_iter().find(|of| of.subject == person.subject) {
            let BarredPerson { name, since, reason, .. } = barred;
            return Err(ServiceError::PersonBarred { name, since, reason });
        }
        let session = Session::begin(person, self.now());
        let audit = self.audit(by, Deed::SignIn, None, &session.person.subject, how);
        self.store.begin_session(id, &session, &audit).await?;
        self.log(&audit);
        Ok(session)
    }

    /// The live session of this id, whose use is noted.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn session(&self, id: &Digest) -> Result<Option<Session>, ServiceError> {
        self.memory.check_store()?;
        let now = self.now();
        let found = self.store.session(id).await?.filter(|session| session.is_live(now));
        self.signed_in.note(id, found.as_ref());
        if found.as_ref().is_some_and(|session| session.is_news(now)) {
            let (store, id) = (self.store.clone(), *id);
            tokio::spawn(async move {
                if let Err(error) = store.see_session(&id, now).await {
                    tracing::debug!("the use of a session could not be noted: {error}");
                }
            });
        }
        Ok(found)
    }

    /// The same, for who only looks: while the store does not answer, as it was known to this process some minutes ago.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn session_to_look(&self, id: &Digest) -> Result<Option<Session>, ServiceError> {
        match self.session(id).await {
            Err(error @ ServiceError::Store(StoreError::Unavailable(_) | StoreError::Unwritable(_))) => {
                let now = self.now();
                let known = self.signed_in.recall(id).filter(|session| session.is_live(now));
                known.map_or(Err(error), |session| Ok(Some(session)))
            }
            found => found,
        }
    }

    /// All live sessions of a person, the latest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sessions_of(&self, person: &Person) -> Result<Vec<Session>, ServiceError> {
        let now = self.now();
        let mut found = self.store.sessions_of(&person.subject).await?;
        found.retain(|session| session.is_live(now));
        Ok(found)
    }

    /// Ends the session of this id. Whether there was one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_out(&self, id: &Digest, person: &Person, by: &By) -> Result<bool, ServiceError> {
        let audit = self.audit(by, Deed::SignOut, None, &person.subject, "this session");
        self.signed_in.note(id, None);
        let ended = self.store.end_session(id, &audit).await?;
        if ended {
            self.log(&audit);
        }
        Ok(ended)
    }

    /// Ends all sessions of a person. How many there were.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_out_everywhere(&self, person: &Person, by: &By) -> Result<usize, ServiceError> {
        self.sign_out_all(&person.subject, "all sessions", by).await
    }

    /// The same of somebody else, for administrators.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn sign_out_person(&self, subject: &str, by: &By) -> Result<usize, ServiceError> {
        self.sign_out_all(subject, "all sessions, by an administrator", by).await
    }

    async fn sign_out_all(&self, subject: &str, what: &str, by: &By) -> Result<usize, ServiceError> {
        self.signed_in.forget_person(subject);
        let audit = self.audit(by, Deed::SignOut, None, subject, what);
        let ended = self.store.end_sessions_of(subject, &audit).await?;
        if ended > 0 {
            self.log(&audit);
        }
        Ok(ended)
    }

    /// Who is signed in, the one who was seen last first, and then who may not sign in.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn people(&self) -> Result<Vec<Known>, ServiceError> {
        self.memory.check_store()?;
        let now = self.now();
        let (sessions, barred) = tokio::try_join!(self.store.sessions(SHOWN), self.store.barred_people())?;
        let mut people: Vec<Known> = Vec::new();
        for session in sessions.into_iter().filter(|session| session.is_live(now)) {
            let subject = session.person.subject.clone();
            match people.iter_mut().find(|known| known.subject == subject) {
                Some(known) => known.sessions.push(session),
                None => {
                    let name = session.person.name().to_owned();
                    people.push(Known { subject, name, sessions: vec![session], barred: None });
                }
            }
        }
        // Nobody who is barred has a session that holds.
        people.retain(|known| barred.iter().all(|of| of.subject != known.subject));
        people.extend(barred.into_iter().map(|of| {
            let (subject, name) = (of.subject.clone(), of.name.clone());
            Known { subject, name, sessions: Vec::new(), barred: Some(of) }
        }));
        Ok(people)
    }

    /// The one of [`Service::people`] whom this tells from all others.
    ///
    /// # Errors
    /// [`ServiceError::Missing`], and those of the store.
    pub async fn person(&self, subject: &str) -> Result<Known, ServiceError> {
        let found = self.people().await?.into_iter().find(|of| of.subject == subject);
        found.ok_or_else(|| ServiceError::Missing("person", subject.to_owned()))
    }

    /// Keeps a person from signing in, and ends all sessions of theirs. `false` where that is so already.
    ///
    /// # Errors
    /// [`ServiceError::Oneself`] for `own`, the person who asks for it; those of the store.
    pub async fn disable_person(
        &self,
        person: &Known,
        own: Option<&Person>,
        reason: &str,
        by: &By,
    ) -> Result<bool, ServiceError> {
        if own.is_some_and(|own| own.subject == person.subject) {
            return Err(ServiceError::Oneself);
        }
        self.signed_in.forget_person(&person.subject);
        let Known { subject, name, .. } = person.clone();
        let audit = self.audit(by, Deed::DisablePerson, None, subject.as_str(), reason);
        let barred =
            BarredPerson { subject, name, since: self.now(), by: by.actor.to_string(), reason: reason.to_owned() };
        let done = self.store.bar_person(&barred, &audit).await?;
        if done {
            self.log(&audit);
        }
        Ok(done)
    }

    /// Lets a person sign in again. `false` where nobody keeps them from it.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn enable_person(&self, subject: &str, reason: &str, by: &By) -> Result<bool, ServiceError> {
        let audit = self.audit(by, Deed::EnablePerson, None, subject, reason);
        let done = self.store.let_person_in(subject, &audit).await?;
        if done {
            self.log(&audit);
        }
        Ok(done)
    }

    /// Notes how a run of a task went, for those who look: what became of it, or why it did not come to its end.
    pub async fn note_run(&self, task: &str, ran: Result<&Outcome, &str>) {
        let summary = ran.map_or_else(str::to_owned, Outcome::to_string);
        let counted = ran.map(Outcome::counted).unwrap_or_default();
        let figures = counted.into_iter().map(|(name, count)| (name.to_owned(), count as u64)).collect();
        let refused = ran.map_or(0, |outcome| outcome.refused as u64);
        let (task, summary) = (task.to_owned(), summary.chars().take(500).collect());
        let run = TaskRun { task, at: self.now(), good: ran.is_ok(), summary, refused, figures, good_at: None };
        if let Err(error) = self.store.note_run(&run).await {
            tracing::debug!("how a run went could not be noted: {error}");
        }
    }

    /// How the last run of each task went.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn runs(&self) -> Result<Vec<TaskRun>, ServiceError> {
        self.memory.check_store()?;
        Ok(self.store.runs().await?)
    }
}
