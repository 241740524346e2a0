//! Taking over the users of a former deployment, whose database is lost: an act of the operator, and never done unasked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::outcome::{Outcome, Step};
use super::{Service, ServiceError};

impl Service {
    /// Gives our tag to the users under names of ours that the deployments with the tags `from` made, and leaves their
    /// passwords and permissions as they are. A user with rights on topics or on other virtual hosts, or with further tags, is
    /// left alone. Where no deployment is named, or in a dry run, only plans: for all of them in the first case.
    ///
    /// # Errors
    /// Those of the broker's listings and of the store; nothing is changed then.
    pub async fn take_over_users(&self, from: &[String], dry_run: bool) -> Result<Outcome, ServiceError> {
        let started = Instant::now();
        let mut outcome = Outcome::of("take-over-users");
        let (tag, names) = (self.tag().await?, &self.policy.names);
        // A node that is starting answers with lists that are too short.
        self.broker.ping().await?;
        let (users, elsewhere) = tokio::try_join!(self.broker.users(), self.broker.rights_elsewhere(None))?;
        let elsewhere: BTreeSet<_> = elsewhere.into_iter().map(|right| right.user).collect();
        let (mut steps, mut left) = (Vec::new(), BTreeMap::<_, usize>::new());
        for user in users.iter().filter(|user| names.owner_of_user(&user.name).is_some()) {
            outcome.seen += 1;
            let Some(maker) = tag.maker(&user.tags) else { continue };
            if elsewhere.contains(&user.name) {
                let name = &user.name;
                outcome.report(&format!("{name} is left: it has rights on topics or on other virtual hosts"));
            } else if from.is_empty() || from.iter().any(|from| from == maker) {
                let (action, object, reason) = ("take over user", user.name.clone(), format!("it is of {maker}"));
                steps.push(Step { action, object, reason });
            } else {
                *left.entry(maker.to_owned()).or_default() += 1;
            }
        }
        for (maker, count) in left {
            outcome.report(&format!("{count} users are of {maker}, which --from does not name"));
        }
        if dry_run || from.is_empty() {
            outcome.plan = Some(steps);
        } else {
            for step in &steps {
                match self.take_over(&step.object, from).await {
                    Ok(true) => outcome.done(step),
                    Ok(false) => outcome.report(&format!("{} was changed by somebody meanwhile", step.object)),
                    Err(error) => outcome.fail(step, &error),
                }
            }
        }
        outcome.took = started.elapsed();
        Ok(outcome)
    }

    /// Gives our tag to one user; `false` where it is none of these deployments' any more.
    async fn take_over(&self, user: &str, from: &[String]) -> Result<bool, ServiceError> {
        let tag = self.tag().await?;
        let Some(found) = self.broker.user(user).await? else { return Ok(false) };
        let theirs = tag.maker(&found.tags).is_some_and(|maker| from.iter().any(|from| from == maker));
        if theirs {
            self.broker.put_user(user, &found.hash, tag.as_str()).await?;
        }
        Ok(theirs)
    }
}
