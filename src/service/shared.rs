//! What sweeping and expiring share: a lease, a snapshot, and messages to owners.

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::outcome::{Outcome, Step};
use super::{Service, ServiceError};
use crate::broker::{BrokerError, Rights};
use crate::clock::Timestamp;
use crate::domain::inventory::{BrokerPermissions, Inventory};
use crate::domain::ladder::{Topic, Watch};
use crate::domain::name::{Accounts, Name, Names};
use crate::domain::namespace::Namespace;
use crate::domain::notice::{About, Event, Notice, Trouble};
use crate::domain::owner::Groups;
use crate::domain::plan::Plan;
use crate::domain::snapshot;
use crate::notify::message;
use crate::store::Select;

/// How long one process has a task to itself, from each look at the broker on. A process that dies holds the others up for
/// no longer; where a look and what follows from it take longer, another process at it does no harm.
const TASK_LEASE: Duration = Duration::from_secs(30);

impl Service {
    /// Takes the sole right to a task, or notes that another process has it. A dry run changes nothing, and needs none.
    pub(super) async fn take_lease(&self, outcome: &mut Outcome, dry_run: bool) -> Result<Lease, ServiceError> {
        let lease = Lease { started: Instant::now(), holder: (!dry_run).then(|| Uuid::new_v4().to_string()) };
        if !self.renew_lease(&lease, outcome.task).await? {
            outcome.held = Some("another process is at it".to_owned());
            outcome.elsewhere = true;
        }
        Ok(lease)
    }

    /// Keeps the sole right to a task for one more look. `false` where another process has it.
    pub(super) async fn renew_lease(&self, lease: &Lease, task: &str) -> Result<bool, ServiceError> {
        let Some(holder) = &lease.holder else { return Ok(true) };
        let now = self.shared_time().await?;
        Ok(self.store.lease(task, holder, now, now.plus(TASK_LEASE)).await?)
    }

    pub(super) async fn release_lease(&self, lease: Lease, outcome: &mut Outcome) -> Result<(), ServiceError> {
        if let Some(holder) = &lease.holder {
            self.store.release(outcome.task, holder).await?;
        }
        outcome.took = lease.started.elapsed();
        Ok(())
    }

    /// The accounts in the store. To be read before the broker is, so that nothing of one that is made meanwhile is known yet.
    pub(super) async fn accounts(&self) -> Result<Accounts, ServiceError> {
        let found = self.store.accounts().await?;
        Ok(found.into_iter().map(|(name, account)| (name, account.users())).collect())
    }

    /// What the broker holds; to be read before the store is. What users may do is looked at where it is not as `names` says, and
    /// only where that is asked for.
    pub(super) async fn inventory(&self, names: Option<&Names>) -> Result<Inventory, ServiceError> {
        let broker = &self.broker;
        // A node that is starting answers with lists that are too short. One whose virtual host runs has recovered it.
        broker.ping().await?;
        // Two lists at a time: RabbitMQ cuts off one that it can't begin to send within a minute.
        let of_users = async {
            let (users, Rights { here: mut granted, elsewhere }) = (broker.users().await?, broker.rights().await?);
            let permissions = match names {
                Some(names) => broker.odd_permissions(&|found| !is_as_it_should_be(found, names)).await?,
                None => Vec::new(),
            };
            granted.sort();
            Ok::<_, BrokerError>((users, granted, elsewhere, permissions))
        };
        let of_things = async { Ok((broker.queues().await?, broker.exchanges().await?, broker.connections().await?)) };
        let ((users, granted, elsewhere, permissions), (queues, exchanges, connections)) =
            tokio::try_join!(of_users, of_things)?;
        Ok(Inventory { users, permissions, granted, elsewhere, queues, exchanges, connections })
    }

    /// All namespaces that can be opened. What the broker holds of the others is taken out of the inventory, so that nobody
    /// believes that the store doesn't know it.
    pub(super) async fn namespaces(
        &self,
        names: &Names,
        inventory: &mut Inventory,
        outcome: &mut Outcome,
    ) -> Result<Vec<Namespace>, ServiceError> {
        let namespaces = self.store.namespaces(Select::All).await?;
        let known: HashSet<_> = namespaces.iter().map(|namespace| &namespace.name).collect();
        self.leave_out_sealed(names, inventory, |name| known.contains(name), outcome).await?;
        Ok(namespaces)
    }

    /// Takes out of the inventory what the broker holds of namespaces that can't be opened, where it holds anything of such that
    /// are not `known`.
    pub(super) async fn leave_out_sealed(
        &self,
        names: &Names,
        inventory: &mut Inventory,
        known: impl Fn(&Name) -> bool,
        outcome: &mut Outcome,
    ) -> Result<(), ServiceError> {
        if !snapshot::remains(inventory, names, |name| !known(name)).is_empty() {
            let sealed = self.store.namespaces(Select::Sealed).await?;
            let sealed: BTreeSet<_> = sealed.into_iter().map(|namespace| namespace.name).collect();
            if let Some(first) = sealed.first() {
                let count = sealed.len();
                outcome.mention(format!(
                    "{count} namespaces can't be opened with the key ring, {first} first: what the broker holds of them is left \
                     alone"
                ));
                snapshot::leave_out(inventory, names, |name| sealed.contains(name));
            }
        }
        Ok(())
    }
}

/// Whether a user of ours may do what it should. Of those of others nobody asks.
fn is_as_it_should_be(found: &BrokerPermissions, names: &Names) -> bool {
    let owner = names.owner_of_user(&found.user);
    owner.is_none_or(|(name, _)| found.permissions == names.permissions(&name))
}

/// All steps of a plan, with what is withheld.
pub(super) fn plan_steps(plan: &Plan) -> Vec<Step> {
    plan.actions.iter().map(Step::from).chain(plan.withheld.iter().map(Step::withheld)).collect()
}

/// A run that has its task to itself.
pub(super) struct Lease {
    pub(super) started: Instant,
    /// `None` for a dry run.
    pub(super) holder: Option<String>,
}

/// The messages to all who are told of a namespace's troubles, one an address, so that one that is refused hides none; about
/// a queue, with what is remembered of it.
pub(super) fn notices(
    namespace: Option<&Namespace>,
    event: &Event,
    watch: Option<&Watch>,
    groups: &Groups,
    now: Timestamp,
) -> Vec<Notice> {
    let Some(namespace) = namespace else { return Vec::new() };
    let about = event.queue().zip(watch).map(|(queue, watch)| {
        // Only a message that tells of a trouble is a warning of it.
        let warns = matches!(event, Event::QueueTrouble(Trouble { topic, .. }) if *topic != Topic::Normal);
        About {
            queue: queue.to_owned(),
            first_seen: watch.incarnation.first_seen,
            told: watch.told.filter(|_| warns).map(|told| told.at),
        }
    });
    let to_one = |to: String| {
        let notice = message::notice(&namespace.name, &to, event, Uuid::new_v4().to_string(), now);
        Notice { about: about.clone(), ..notice }
    };
    namespace.told(groups).into_iter().map(to_one).collect()
}
