//! What claims and rotation do while the database fails, while nobody can claim, and with a wrong clock.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use support::world::{BrokerKind, HOUR, StoreKind, World};
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::alert::Alert;
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::hold::{HoldPolicy, Vitals};
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::domain::namespace::{Gone, Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Claimed, Service, ServiceError};
use taskcluster_pulse::store::{Change, Digest, Record, Select, Sighting, Store, StoreError, Summary, Write};
use tokio::time::{sleep, timeout};

const MINUTE: Duration = Duration::from_secs(60);
/// How long anything may take that a test waits for. Less than the pause between two looks at a store that works.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a hanging store takes to give up.
const HANG: Duration = Duration::from_millis(200);

/// What a store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Works,
    FailsBefore,
    /// It does what it is asked, and the answer is lost.
    FailsAfter,
    FailsWrites,
    LosesAnswersToWrites,
    Hangs,
    /// It can't open what it has stored.
    Locked,
}

/// A store that fails as it is told to.
struct Moody {
    store: Arc<dyn Store>,
    mood: Mutex<Mood>,
    calls: AtomicUsize,
}

impl Moody {
    fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// How often it was asked for anything.
    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    async fn call<T>(&self, writes: bool, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mood = *self.mood.lock().unwrap();
        let failure = Err(StoreError::Unavailable("as the test wants it".into()));
        match mood {
            Mood::FailsBefore => failure,
            Mood::FailsWrites if writes => failure,
            Mood::Hangs => {
                sleep(HANG).await;
                failure
            }
            Mood::Locked => Err(StoreError::Sealed("as the test wants it".into())),
            Mood::FailsAfter => call.await.and(failure),
            Mood::LosesAnswersToWrites if writes => call.await.and(failure),
            Mood::Works | Mood::FailsWrites | Mood::LosesAnswersToWrites => call.await,
        }
    }
}

#[async_trait]
impl Store for Moody {
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        self.call(false, self.store.namespace(name)).await
    }
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.call(false, self.store.summaries(after, limit)).await
    }
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        self.call(false, self.store.summary(name)).await
    }
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.call(false, self.store.namespaces(select)).await
    }
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.call(false, self.store.changed(known)).await
    }
    async fn alerts(&self) -> Result<Vec<Alert>, StoreError> {
        self.call(false, self.store.alerts()).await
    }
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        self.call(true, self.store.write(changes)).await
    }
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.call(true, self.store.take_notices(now, retry, limit)).await
    }
    async fn postpone_notice(&self, id: &str, retry: Timestamp) -> Result<(), StoreError> {
        self.call(true, self.store.postpone_notice(id, retry)).await
    }
    async fn remove_notice(&self, id: &str) -> Result<(), StoreError> {
        self.call(true, self.store.remove_notice(id)).await
    }
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.call(true, self.store.lease(task, holder, now, until)).await
    }
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.call(true, self.store.release(task, holder)).await
    }
    async fn beat(&self, now: Timestamp, gap: Duration) -> Result<Timestamp, StoreError> {
        self.call(true, self.store.beat(now, gap)).await
    }
    async fn vitals(&self, now: Timestamp) -> Result<Vitals, StoreError> {
        self.call(false, self.store.vitals(now)).await
    }
    async fn sight(&self, request: &Digest, new: Sighting, forget: Timestamp) -> Result<Sighting, StoreError> {
        self.call(true, self.store.sight(request, new, forget)).await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.call(false, self.store.ping()).await
    }
}

/// A world on the fake broker, one web process on it, and the store as that process has it.
async fn web() -> (World, Service, Arc<Moody>) {
    web_on(World::new(StoreKind::Sqlite, BrokerKind::Fake).await)
}

fn web_on(world: World) -> (World, Service, Arc<Moody>) {
    let store = Moody { store: world.store.clone(), mood: Mutex::new(Mood::Works), calls: AtomicUsize::new(0) };
    let store = Arc::new(store);
    let service = Service::new(store.clone(), world.broker.clone(), world.clock.clone(), world.policy.clone());
    (world, service, store)
}

fn ask(name: &str, expires: Option<Timestamp>) -> ClaimRequest {
    ClaimRequest { name: Name::from_stored(name.to_owned()), expires, contact: None }
}

async fn claim(service: &Service, name: &str) -> Result<Claimed, ServiceError> {
    service.claim(&ask(name, None)).await
}

async fn assert_unavailable(service: &Service, name: &str) {
    let error = claim(service, name).await.unwrap_err();
    assert!(matches!(error, ServiceError::Store(_)), "{error}");
}

async fn stored(world: &World, name: &str) -> Namespace {
    world.store.namespace(&world.name(name)).await.unwrap().unwrap()
}

#[tokio::test]
async fn however_the_store_fails_known_namespaces_are_answered_with_what_is_stored() {
    use Mood::{FailsAfter, FailsBefore, FailsWrites, Hangs, Locked, LosesAnswersToWrites};
    for mood in [FailsBefore, FailsAfter, FailsWrites, LosesAnswersToWrites, Hangs, Locked] {
        let (world, service, store) = web().await;
        let known = claim(&service, "taskcluster-a").await.unwrap();
        world.clock.advance(10 * MINUTE);
        store.be(mood);
        let later = world.clock.now().plus(50 * HOUR);
        let answer =
            service.claim(&ask("taskcluster-a", Some(later))).await.unwrap_or_else(|e| panic!("{mood:?}: {e}"));
        assert_eq!(answer, known, "{mood:?}");
        assert!(world.logs_in(&answer.connection_string).await, "{mood:?}");
        assert_unavailable(&service, "taskcluster-b").await;

        store.be(Mood::Works);
        service.refresh_memory().await.unwrap();
        let answer = service.claim(&ask("taskcluster-a", Some(later))).await.unwrap();
        assert_eq!((answer.expires, stored(&world, "taskcluster-a").await.expires), (later, later), "{mood:?}");
        claim(&service, "taskcluster-b").await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_from_memory_ends_where_it_is_no_longer_certain() {
    let (world, service, store) = web().await;
    let rotating = claim(&service, "taskcluster-a").await.unwrap();
    let soon = world.clock.now().plus(20 * MINUTE);
    let ending = service.claim(&ask("taskcluster-b", Some(soon))).await.unwrap();
    assert_eq!(ending.reclaim_at, soon.plus(HOUR / 2));
    // What is to end at any moment is never certain.
    service.claim(&ask("taskcluster-c", Some(world.clock.now().minus(HOUR)))).await.unwrap();
    store.be(Mood::FailsBefore);
    assert_unavailable(&service, "taskcluster-c").await;
    let millisecond = Duration::from_millis(1);
    for (name, known) in [("taskcluster-b", ending), ("taskcluster-a", rotating)] {
        world.clock.advance(known.reclaim_at.since(world.clock.now()) - millisecond);
        assert_eq!(claim(&service, name).await.unwrap(), known);
        world.clock.advance(millisecond);
        assert_unavailable(&service, name).await;
    }
}

#[tokio::test]
async fn a_clock_that_stands_still_or_is_set_back_does_not_prolong_what_is_certain() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.rotation_interval = Duration::from_secs(2);
    let (world, service, store) = web_on(world);
    let known = claim(&service, "taskcluster-a").await.unwrap();
    store.be(Mood::FailsBefore);
    assert_eq!(claim(&service, "taskcluster-a").await.unwrap(), known);
    sleep(known.reclaim_at.since(world.clock.now())).await;
    assert_unavailable(&service, "taskcluster-a").await;
}

#[tokio::test]
async fn a_process_learns_of_switches_by_others_so_that_a_claim_at_reclaim_at_is_answered() {
    let (world, service, store) = web().await;
    let first = claim(&service, "taskcluster-a").await.unwrap();
    world.clock.advance(HOUR);
    assert_eq!(world.service().rotate(false).await.unwrap().changed, 1);
    service.refresh_memory().await.unwrap();
    world.clock.advance(first.reclaim_at.since(world.clock.now()));
    store.be(Mood::FailsBefore);
    let second = claim(&service, "taskcluster-a").await.unwrap();
    assert_ne!(second.connection_string, first.connection_string);
    assert!(world.logs_in(&second.connection_string).await);
    assert_eq!(second.reclaim_at, stored(&world, "taskcluster-a").await.rotation.due.plus(HOUR / 2));
}

/// Another process acts on what is stored, the store fails for us alone, and what we hand out logs in all the same.
#[tokio::test]
async fn what_is_certain_logs_in_whatever_others_do_meanwhile() {
    let (world, service, store) = web().await;
    claim(&service, "taskcluster-a").await.unwrap();
    store.be(Mood::FailsBefore);
    let mut answered = 0;
    for _ in 0..100 {
        world.clock.advance(MINUTE);
        world.service().rotate(false).await.unwrap();
        let _ = service.refresh_memory().await;
        if let Ok(claimed) = claim(&service, "taskcluster-a").await {
            answered += 1;
            assert!(world.logs_in(&claimed.connection_string).await && claimed.reclaim_at > world.clock.now());
        }
    }
    assert_eq!(answered, 89, "for an interval and a half");
}

#[tokio::test]
async fn a_namespace_that_others_ended_is_forgotten() {
    let (world, service, store) = web().await;
    for name in ["taskcluster-buried", "taskcluster-removed"] {
        claim(&service, name).await.unwrap();
    }
    let found = stored(&world, "taskcluster-buried").await;
    let gone = Some(Gone { since: world.clock.now(), cleaning_until: None });
    let bury = Record::Namespace(Namespace { gone, ..found });
    let found = stored(&world, "taskcluster-removed").await;
    let remove = Record::RemoveNamespace(found.name, found.version);
    let changes = [bury, remove].map(|record| Change { record, notices: Vec::new() });
    assert_eq!(world.store.write(&changes).await.unwrap(), [Write::Done; 2]);
    service.refresh_memory().await.unwrap();
    store.be(Mood::FailsBefore);
    assert_unavailable(&service, "taskcluster-buried").await;
    assert_unavailable(&service, "taskcluster-removed").await;
}

#[tokio::test]
async fn a_tombstone_that_a_claim_finds_is_forgotten_too() {
    let (world, service, store) = web().await;
    claim(&service, "taskcluster-a").await.unwrap();
    let gone = Some(Gone { since: world.clock.now(), cleaning_until: Some(world.clock.now().plus(HOUR)) });
    let bury = Record::Namespace(Namespace { gone, ..stored(&world, "taskcluster-a").await });
    world.store.write(&[Change { record: bury, notices: Vec::new() }]).await.unwrap();
    assert!(matches!(claim(&service, "taskcluster-a").await, Err(ServiceError::CleaningUp { .. })));
    store.be(Mood::FailsBefore);
    assert_unavailable(&service, "taskcluster-a").await;
}

#[tokio::test]
async fn no_more_is_remembered_than_is_configured_and_the_last_claimed_stays() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.remembered = 2;
    let (world, service, store) = web_on(world);
    for name in ["taskcluster-a", "taskcluster-b", "taskcluster-a", "taskcluster-c"] {
        claim(&service, name).await.unwrap();
    }
    world.clock.advance(HOUR);
    world.service().rotate(false).await.unwrap();
    service.refresh_memory().await.unwrap();
    store.be(Mood::FailsBefore);
    claim(&service, "taskcluster-a").await.unwrap();
    claim(&service, "taskcluster-c").await.unwrap();
    assert_unavailable(&service, "taskcluster-b").await;

    // What is learned of others' changes is no claim.
    store.be(Mood::Works);
    world.clock.advance(HOUR);
    world.service().rotate(false).await.unwrap();
    service.refresh_memory().await.unwrap();
    claim(&service, "taskcluster-d").await.unwrap();
    store.be(Mood::FailsBefore);
    claim(&service, "taskcluster-c").await.unwrap();
    assert_unavailable(&service, "taskcluster-a").await;
}

#[tokio::test]
async fn while_the_store_hangs_claims_from_memory_do_not_wait_for_it() {
    let (_world, service, store) = web().await;
    for name in ["taskcluster-a", "taskcluster-b"] {
        claim(&service, name).await.unwrap();
    }
    store.be(Mood::Hangs);
    claim(&service, "taskcluster-a").await.unwrap();
    let calls = store.calls();
    let claims = (0..200).map(|n| claim(&service, ["taskcluster-a", "taskcluster-b"][n % 2]));
    assert!(join_all(claims).await.iter().all(Result::is_ok));
    assert_eq!(store.calls(), calls, "the store was asked");
    // Others do ask it, and may be the first to find it well; but not many at a time.
    let others: Vec<_> = (0..100).map(|n| format!("taskcluster-{n}")).collect();
    let refused = join_all(others.iter().map(|name| claim(&service, name))).await;
    assert!(refused.iter().all(|refused| matches!(refused, Err(ServiceError::Store(StoreError::Unavailable(_))))));
    assert!((1..10).contains(&(store.calls() - calls)), "{} calls", store.calls() - calls);
    service.refresh_memory().await.unwrap_err();
    store.be(Mood::Works);
    service.refresh_memory().await.unwrap();
    let calls = store.calls();
    claim(&service, "taskcluster-a").await.unwrap();
    assert!(store.calls() > calls, "the store was not asked");
}

#[tokio::test]
async fn a_store_that_can_be_read_and_not_be_written_to_fails_until_it_can() {
    let (world, service, store) = web().await;
    let known = claim(&service, "taskcluster-a").await.unwrap();
    let database = async || service.health(PATIENCE).await.into_iter().find(|(part, _)| *part == "database").unwrap().1;
    database().await.unwrap();
    store.be(Mood::FailsWrites);
    let later = world.clock.now().plus(50 * HOUR);
    for _ in 0..2 {
        assert_eq!(service.claim(&ask("taskcluster-a", Some(later))).await.unwrap(), known);
        service.refresh_memory().await.unwrap_err();
        assert!(database().await.unwrap_err().contains("claims can't be stored"));
        assert_eq!(service.list(None, 10).await.unwrap().len(), 1, "it can be read");
    }
    store.be(Mood::Works);
    service.refresh_memory().await.unwrap();
    database().await.unwrap();
    assert_eq!(service.claim(&ask("taskcluster-a", Some(later))).await.unwrap().expires, later);
}

#[tokio::test]
async fn one_record_that_cannot_be_opened_does_not_keep_others_from_the_store() {
    let (_world, service, store) = web().await;
    claim(&service, "taskcluster-a").await.unwrap();
    store.be(Mood::Locked);
    claim(&service, "taskcluster-a").await.unwrap();
    let calls = store.calls();
    claim(&service, "taskcluster-a").await.unwrap();
    assert!(store.calls() > calls);
}

#[tokio::test]
async fn the_memory_keeps_itself_up_to_date_and_finds_out_when_the_store_is_back() {
    let (world, service, store) = web().await;
    let service = Arc::new(service);
    let keeper = tokio::spawn({
        let service = service.clone();
        async move { service.keep_memory().await }
    });
    let first = claim(&service, "taskcluster-a").await.unwrap();
    store.be(Mood::FailsBefore);
    let later = world.clock.now().plus(50 * HOUR);
    assert_eq!(service.claim(&ask("taskcluster-a", Some(later))).await.unwrap().expires, first.expires);
    store.be(Mood::Works);
    let stored = timeout(PATIENCE, async {
        while service.claim(&ask("taskcluster-a", Some(later))).await.unwrap().expires != later {
            sleep(Duration::from_millis(10)).await;
        }
    });
    assert!(stored.await.is_ok());
    keeper.abort();
}

#[tokio::test]
async fn rotation_waits_while_no_web_process_beats_and_a_while_after_but_not_for_ever() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let service = world.service();
    let (mut strings, advance) = (vec![], |by| world.clock.advance(by));
    strings.push(world.claim("taskcluster-a").await.unwrap().connection_string);
    service.beat().await.unwrap();
    advance(HOUR);
    service.beat().await.unwrap();
    // The pause of an hour: programs that were cut off come first.
    let held = service.rotate(false).await.unwrap();
    assert!(held.changed == 0 && held.held.unwrap().contains("are given time until"));
    advance(2 * MINUTE);
    assert_eq!(service.rotate(false).await.unwrap().changed, 1);

    let last = world.clock.now().minus(2 * MINUTE);
    advance(HOUR);
    let plan = service.rotate(true).await.unwrap();
    assert_eq!((plan.seen, plan.plan.unwrap().len()), (1, 1));
    assert!(plan.held.unwrap().contains(&format!("no web process was able to serve all claims since {last}")));
    let before = stored(&world, "taskcluster-a").await;
    let held = service.rotate(false).await.unwrap();
    assert!(held.changed == 0 && held.failed == 0 && held.held.unwrap().contains(&last.to_string()));
    assert_eq!(stored(&world, "taskcluster-a").await, before);

    // Until a day after the last beat.
    advance(23 * HOUR - 2 * MINUTE);
    assert_eq!(service.rotate(false).await.unwrap().changed, 0);
    advance(Duration::from_millis(1));
    let went_on = service.rotate(false).await.unwrap();
    assert_eq!((went_on.changed, went_on.held), (1, None));
    assert!(
        went_on.reports[0].contains("although no web process was able to serve all claims since"),
        "{:?}",
        went_on.reports
    );
}

#[tokio::test]
async fn expiry_waits_too_because_nobody_can_put_off_the_end_of_a_namespace() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let service = world.service();
    world.claim("taskcluster-a").await.unwrap();
    service.beat().await.unwrap();
    world.clock.advance(6 * HOUR);
    let plan = service.expire(&world.expiry_policy(), true).await.unwrap();
    assert_eq!(plan.plan.unwrap().len(), 1);
    assert!(plan.held.unwrap().contains("no web process was able to serve all claims since"));
    let held = service.expire(&world.expiry_policy(), false).await.unwrap();
    assert!(held.changed == 0 && held.held.is_some());
    assert_eq!(stored(&world, "taskcluster-a").await.gone, None);
    // However long that is: what rotation may do after a day, expiry may not.
    world.clock.advance(48 * HOUR);
    let held = service.expire(&world.expiry_policy(), false).await.unwrap();
    assert!(held.changed == 0 && held.held.unwrap().contains("no web process"), "expiry went on");
    assert_eq!(service.rotate(false).await.unwrap().changed, 1);
    // The API is back, and who holds the namespace claims it in time.
    service.beat().await.unwrap();
    assert!(service.expire(&world.expiry_policy(), false).await.unwrap().held.is_some());
    world.claim("taskcluster-a").await.unwrap();
    world.clock.advance(2 * MINUTE);
    assert_eq!(service.expire(&world.expiry_policy(), false).await.unwrap().held, None);
    assert_eq!(stored(&world, "taskcluster-a").await.gone, None);
    // However long that is: what rotation may do after a day, expiry may not.
    world.clock.advance(48 * HOUR);
    let held = service.expire(&world.expiry_policy(), false).await.unwrap();
    assert!(held.changed == 0 && held.held.unwrap().contains("no web process"), "expiry went on");
    assert_eq!(service.rotate(false).await.unwrap().changed, 1);
}

/// The broker may not have been told of the pending password yet: telling it would end the former one.
#[tokio::test]
async fn while_rotation_waits_a_switch_that_was_begun_is_not_finished() {
    let world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let service = world.service();
    service.beat().await.unwrap();
    let first = world.claim("taskcluster-a").await.unwrap();
    world.clock.advance(HOUR);
    service.beat().await.unwrap();
    world.clock.advance(2 * MINUTE);
    assert_eq!(service.rotate(false).await.unwrap().changed, 1);
    let second = world.claim("taskcluster-a").await.unwrap();
    world.clock.advance(HOUR);
    let found = stored(&world, "taskcluster-a").await;
    let rotation = found.rotation.begin(Password::random(), world.clock.now());
    let begun = Record::Namespace(Namespace { rotation, ..found });
    world.store.write(&[Change { record: begun, notices: Vec::new() }]).await.unwrap();
    world.clock.advance(HOUR);
    assert!(service.rotate(false).await.unwrap().held.is_some());
    service.sweep(&world.sweep_policy(), false).await.unwrap();
    for string in [first.connection_string, second.connection_string] {
        assert!(world.logs_in(&string).await);
    }
    // Claims of new namespaces finish what they begin.
    assert!(world.logs_in(&world.claim("taskcluster-b").await.unwrap().connection_string).await);
}

#[tokio::test]
async fn a_process_whose_clock_is_too_far_from_the_databases_does_not_rotate_and_says_so() {
    let mut world = World::new(StoreKind::Postgres, BrokerKind::Fake).await;
    world.policy.hold = HoldPolicy { skew: HOUR / 4, ..world.policy.hold };
    let service = world.service();
    world.claim("taskcluster-a").await.unwrap();
    let health = async |part| service.health(PATIENCE).await.into_iter().find(|(name, _)| *name == part).unwrap().1;
    world.clock.advance(HOUR / 4 - MINUTE);
    assert_eq!(service.rotate(false).await.unwrap().held, None);
    assert_eq!(health("clock").await, Ok(()));
    world.clock.advance(HOUR);
    let held = service.rotate(false).await.unwrap();
    let (why, now) = (held.held.unwrap(), world.clock.now());
    assert!(held.changed == 0 && why.contains(&format!("this host's clock shows {now}")), "{why}");
    assert!(health("clock").await.unwrap_err().contains(&format!("shows {now}")));
    assert_eq!(health("database").await, Ok(()));
    service.beat().await.unwrap();
}
