//! Replacing passwords that are lost: the store has them, but the keys that open them are gone.

use std::collections::HashMap;
use std::time::Instant;

use super::outcome::{Outcome, Step};
use super::{Service, ServiceError};
use crate::domain::namespace::Namespace;
use crate::domain::rotation::{Login, Rotation};
use crate::secret::{Password, PasswordHash};
use crate::store::{Change, Record, Select, Write};

impl Service {
    /// Gives a new password to each namespace whose stored ones can't be opened. The next claim puts it in force, or the
    /// rotation does.
    ///
    /// Connection strings that were returned since the last switch go on logging in: the broker knows the hash of their
    /// password, which is stored in place of it. Those that were returned before the last switch may be relied on for half a
    /// rotation interval after it; so long a namespace is left as it is and named in the reports, but for `at_once`.
    ///
    /// # Errors
    /// Those of the broker and of the store; nothing is changed then.
    pub async fn replace_lost(&self, at_once: bool, dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("replace-lost-passwords");
        // A node that is starting answers with lists that are too short.
        self.broker.ping().await?;
        let users: HashMap<_, _> = self.broker.users().await?.into_iter().map(|user| (user.name, user.hash)).collect();
        let now = self.clock.now();
        let (mut changes, mut steps) = (Vec::new(), Vec::new());
        for namespace in self.store.namespaces(Select::Sealed).await? {
            outcome.seen += 1;
            if namespace.is_on_demand() {
                let (rotation, reason) = (self.behind_hashes(&namespace, &users), "the stored ones can't be opened");
                let (action, object) = ("keep passwords", namespace.name.to_string());
                steps.push(Step { action, object, reason: reason.to_owned() });
                let record = Record::Namespace(Namespace { rotation, ..namespace });
                changes.push(Change { record, notices: Vec::new(), audits: Vec::new() });
                continue;
            }
            let free = namespace.rotation.standby_is_free(self.policy.settle_budget);
            if free > now && !at_once {
                let name = &namespace.name;
                outcome
                    .reports
                    .push(format!("{name} is left until {free}, until when older connection strings are good"));
                continue;
            }
            let handed_out = namespace.rotation.handed_out();
            let kept = handed_out.and_then(|last| {
                users.get(&self.policy.names.user(&namespace.name, last.slot)).and_then(Password::behind)
            });
            let reason = match (handed_out, &kept) {
                (Some(_), None) => "the stored ones can't be opened, and RabbitMQ has not the last one either",
                _ => "the stored ones can't be opened",
            };
            steps.push(Step {
                action: "replace passwords",
                object: namespace.name.to_string(),
                reason: reason.to_owned(),
            });
            let rotation = namespace.rotation.replace_lost(kept, Password::random(), now);
            let record = Record::Namespace(Namespace { rotation, ..namespace });
            changes.push(Change { record, notices: Vec::new(), audits: Vec::new() });
        }
        if dry_run {
            outcome.plan = Some(steps);
        } else {
            for (step, written) in steps.iter().zip(self.store.write(&changes).await?) {
                match written {
                    Write::Done => outcome.done(step),
                    Write::Lost => outcome.fail(step, &"another process wrote it at the same time"),
                }
            }
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    /// The passwords of an account by their hashes at the broker: people go on with what they have.
    fn behind_hashes(&self, namespace: &Namespace, users: &HashMap<String, PasswordHash>) -> Rotation {
        let behind = |login: &Option<Login>| {
            let slot = login.as_ref()?.slot;
            let password = users.get(&self.policy.names.user(&namespace.name, slot)).and_then(Password::behind)?;
            Some(Login { slot, password })
        };
        let Rotation { active, previous, .. } = &namespace.rotation;
        let (active, previous) = (behind(active), behind(previous));
        Rotation { active, previous, ..namespace.rotation.without_pending() }
    }
}
