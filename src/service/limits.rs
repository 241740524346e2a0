//! The limits that the broker keeps by itself: looked at in each sweep, and written where they differ.

use futures::{StreamExt, stream};

use super::apply::Namespaces;
use super::outcome::{Outcome, Step};
use super::{Deadline, IN_FLIGHT, Service, ServiceError};
use crate::domain::action::{Action, Limit};
use crate::domain::inventory::LimitsSeen;
use crate::domain::namespace::Namespace;
use crate::domain::plan::{Plan, Planned};

impl Service {
    /// What limits the broker has; `None` where it does not tell, which stops nothing else.
    pub(super) async fn limits_seen(&self, outcome: &mut Outcome) -> Result<Option<LimitsSeen>, ServiceError> {
        match self.broker.limits(self.tag().await?.as_str()).await {
            Ok(seen) => Ok(Some(seen)),
            Err(error) => {
                outcome.report(&format!("limits are left alone, because they can't be looked at: {error}"));
                Ok(None)
            }
        }
    }

    /// Takes the steps about limits out of a plan, and carries them out: before the others, so that who is kept out by one of
    /// those stays so; and the note of what is ours first, so that no limit is set that is not known as ours later.
    pub(super) async fn apply_limits(
        &self,
        plan: &mut Plan,
        namespaces: &[Namespace],
        deadline: Deadline,
        outcome: &mut Outcome,
    ) -> Result<(), ServiceError> {
        let namespaces: &Namespaces = &namespaces.iter().map(|found| (&found.name, found)).collect();
        let is_limit = |step: &Planned| matches!(step.action, Action::Limit(_));
        let (steps, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.actions).into_iter().partition(is_limit);
        plan.actions = rest;
        let is_note = |step: &Planned| matches!(step.action, Action::Limit(Limit::Note(_)));
        let (notes, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(is_note);
        for step in &notes {
            if let Err(error) = self.limit(step, namespaces, deadline).await {
                outcome.fail(&Step::from(step), &error);
                return Ok(());
            }
        }
        let steps = stream::iter(others).map(|step| async move {
            let done = self.limit(&step, namespaces, deadline).await;
            (step, done)
        });
        let mut done = std::pin::pin!(steps.buffer_unordered(IN_FLIGHT));
        let mut late = 0;
        while let Some((step, done)) = done.next().await {
            match done {
                Ok(true) => outcome.done(&Step::from(&step)),
                Ok(false) => {}
                Err(ServiceError::TooSlow(_)) => late += 1,
                Err(error @ ServiceError::ForeignUser { .. }) => outcome.report(&error.to_string()),
                Err(error) => outcome.fail(&Step::from(&step), &error),
            }
        }
        if late > 0 {
            outcome.report(&format!("{late} limits are left to the next run"));
        }
        Ok(())
    }

    /// Whether there was something to do.
    async fn limit(
        &self,
        step: &Planned,
        namespaces: &Namespaces<'_>,
        deadline: Deadline,
    ) -> Result<bool, ServiceError> {
        deadline.check(self.clock.now())?;
        let Action::Limit(limit) = &step.action else { return Ok(false) };
        match limit {
            Limit::Note(noted) => self.broker.note_limits(self.tag().await?.as_str(), noted).await?,
            Limit::Queues(policy) => self.broker.put_operator_policy(policy).await?,
            Limit::NoQueues(name) => self.broker.delete_operator_policy(name).await?,
            Limit::User { name, slot, limit, most } => {
                let Some(namespace) = namespaces.get(name) else { return Ok(false) };
                let Some(user) = self.look(namespace, *slot).await? else { return Ok(false) };
                self.broker.limit_user(&user.name, *limit, *most).await?;
            }
        }
        Ok(true)
    }
}
