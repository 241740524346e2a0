//! What claims and rotation do while the database fails, while nobody can claim, and with a wrong clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::fake_broker::Queue;
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};
use async_trait::async_trait;
use futures::future::join_all;
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::account::Account;
use taskcluster_pulse::domain::audit::{Audit, AuditFilter, By};
use taskcluster_pulse::domain::claim::ClaimRequest;
use taskcluster_pulse::domain::guard::HistoryChange;
use taskcluster_pulse::domain::history::History;
use taskcluster_pulse::domain::hold::{Beat, HoldPolicy, Vitals};
use taskcluster_pulse::domain::identity::Tag;
use taskcluster_pulse::domain::ladder::Exemption;
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::domain::namespace::{Gone, Namespace, Version};
use taskcluster_pulse::domain::notice::{Notice, Undelivered};
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::domain::recipients::{Mute, Recipients};
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::domain::session::{BarredPerson, Session};
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::service::{Claimed, Service, ServiceError, SuffixRule, Wish};
use taskcluster_pulse::store::{
    Accepted, Audits, Change, Deployment, Digest, Figures, Heartbeats, Keep, Leases, Making, Named, Namespaces,
    Notices, Outline, RecipientRecords, Record, Records, SeenOf, Select, Sessions, Sighting, Sightings, Store,
    StoreError, Summary, Sums, TaskRun, Wanted, Watches, Write,
};
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
impl Watches for Moody {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        self.call(false, self.store.watches()).await
    }
    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        self.call(false, self.store.histories()).await
    }
    async fn seen_of(&self, queues: &[String]) -> Result<SeenOf, StoreError> {
        self.call(false, self.store.seen_of(queues)).await
    }
    async fn write_histories(&self, changes: &[HistoryChange]) -> Result<(), StoreError> {
        self.call(true, self.store.write_histories(changes)).await
    }
}

#[async_trait]
impl Namespaces for Moody {
    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        self.call(false, self.store.outlines()).await
    }
    async fn namespace(&self, name: &Name) -> Result<Option<Namespace>, StoreError> {
        self.call(false, self.store.namespace(name)).await
    }
    async fn named(&self, names: &[Name]) -> Result<Vec<Named>, StoreError> {
        self.call(false, self.store.named(names)).await
    }
    async fn summaries(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.call(false, self.store.summaries(after, limit)).await
    }
    async fn unowned(&self, after: Option<&str>, limit: u32) -> Result<Vec<Summary>, StoreError> {
        self.call(false, self.store.unowned(after, limit)).await
    }
    async fn summary(&self, name: &Name) -> Result<Option<Summary>, StoreError> {
        self.call(false, self.store.summary(name)).await
    }
    async fn namespaces_where(&self, wanted: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        self.call(false, self.store.namespaces_where(wanted)).await
    }
    async fn namespaces(&self, select: Select) -> Result<Vec<Namespace>, StoreError> {
        self.call(false, self.store.namespaces(select)).await
    }
    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        self.call(false, self.store.accounts()).await
    }
    async fn changed(&self, known: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        self.call(false, self.store.changed(known)).await
    }
}

#[async_trait]
impl Audits for Moody {
    async fn note(&self, audits: &[Audit]) -> Result<(), StoreError> {
        self.call(true, self.store.note(audits)).await
    }
    async fn audits(&self, filter: &AuditFilter, limit: u32) -> Result<Vec<Audit>, StoreError> {
        self.call(false, self.store.audits(filter, limit)).await
    }
    async fn forget_audits(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.call(true, self.store.forget_audits(before, most)).await
    }
}

#[async_trait]
impl Records for Moody {
    async fn write(&self, changes: &[Change]) -> Result<Vec<Write>, StoreError> {
        self.call(true, self.store.write(changes)).await
    }
    async fn renew(&self, renewals: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        self.call(true, self.store.renew(renewals)).await
    }
    async fn write_within(&self, makings: &[Making], most: usize) -> Result<Vec<Option<Write>>, StoreError> {
        self.call(true, self.store.write_within(makings, most)).await
    }
}

#[async_trait]
impl Notices for Moody {
    async fn take_notices(&self, now: Timestamp, retry: Timestamp, limit: u32) -> Result<Vec<Notice>, StoreError> {
        self.call(true, self.store.take_notices(now, retry, limit)).await
    }
    async fn take_notices_to(
        &self,
        address: &str,
        now: Timestamp,
        retry: Timestamp,
        limit: u32,
    ) -> Result<Vec<Notice>, StoreError> {
        self.call(true, self.store.take_notices_to(address, now, retry, limit)).await
    }
    async fn postpone_notices(&self, ids: &[String], retry: Timestamp) -> Result<(), StoreError> {
        self.call(true, self.store.postpone_notices(ids, retry)).await
    }
    async fn accept_notices(&self, address: &str, accepted: &[Accepted], at: Timestamp) -> Result<(), StoreError> {
        self.call(true, self.store.accept_notices(address, accepted, at)).await
    }
    async fn give_up_notice(&self, id: &str, at: Timestamp, why: &str, keep: Keep) -> Result<(), StoreError> {
        self.call(true, self.store.give_up_notice(id, at, why, keep)).await
    }
    async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        self.call(false, self.store.undelivered(limit)).await
    }
}

#[async_trait]
impl RecipientRecords for Moody {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        self.call(false, self.store.recipients()).await
    }
    async fn note_refusal(&self, address: &str, at: Timestamp, forget: Timestamp) -> Result<(), StoreError> {
        self.call(true, self.store.note_refusal(address, at, forget)).await
    }
    async fn mute(&self, target: &str, mute: Option<Mute>) -> Result<bool, StoreError> {
        self.call(true, self.store.mute(target, mute)).await
    }
}

#[async_trait]
impl Sums for Moody {
    async fn figures(&self, now: Timestamp) -> Result<Figures, StoreError> {
        self.call(false, self.store.figures(now)).await
    }
}

#[async_trait]
impl Leases for Moody {
    async fn note_run(&self, run: &TaskRun) -> Result<(), StoreError> {
        self.call(true, self.store.note_run(run)).await
    }
    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        self.call(false, self.store.runs()).await
    }
    async fn lease(&self, task: &str, holder: &str, now: Timestamp, until: Timestamp) -> Result<bool, StoreError> {
        self.call(true, self.store.lease(task, holder, now, until)).await
    }
    async fn release(&self, task: &str, holder: &str) -> Result<(), StoreError> {
        self.call(true, self.store.release(task, holder)).await
    }
}

#[async_trait]
impl Heartbeats for Moody {
    async fn beat(&self, beat: &Beat) -> Result<Timestamp, StoreError> {
        self.call(true, self.store.beat(beat)).await
    }
    async fn vitals(&self, now: Timestamp, boot: Option<&str>) -> Result<Vitals, StoreError> {
        self.call(false, self.store.vitals(now, boot)).await
    }
}

#[async_trait]
impl Sightings for Moody {
    async fn sight(&self, seen: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        self.call(true, self.store.sight(seen)).await
    }
    async fn forget_sightings(&self, before: Timestamp, most: u32) -> Result<usize, StoreError> {
        self.call(true, self.store.forget_sightings(before, most)).await
    }
}

#[async_trait]
impl Sessions for Moody {
    async fn begin_session(&self, id: &Digest, session: &Session, audit: &Audit) -> Result<(), StoreError> {
        self.call(true, self.store.begin_session(id, session, audit)).await
    }
    async fn session(&self, id: &Digest) -> Result<Option<Session>, StoreError> {
        self.call(false, self.store.session(id)).await
    }
    async fn sessions_of(&self, subject: &str) -> Result<Vec<Session>, StoreError> {
        self.call(false, self.store.sessions_of(subject)).await
    }
    async fn sessions(&self, limit: u32) -> Result<Vec<Session>, StoreError> {
        self.call(false, self.store.sessions(limit)).await
    }
    async fn bar_person(&self, person: &BarredPerson, audit: &Audit) -> Result<bool, StoreError> {
        self.call(true, self.store.bar_person(person, audit)).await
    }
    async fn let_person_in(&self, subject: &str, audit: &Audit) -> Result<bool, StoreError> {
        self.call(true, self.store.let_person_in(subject, audit)).await
    }
    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        self.call(false, self.store.barred_people()).await
    }
    async fn see_session(&self, id: &Digest, at: Timestamp) -> Result<(), StoreError> {
        self.call(true, self.store.see_session(id, at)).await
    }
    async fn end_session(&self, id: &Digest, audit: &Audit) -> Result<bool, StoreError> {
        self.call(true, self.store.end_session(id, audit)).await
    }
    async fn end_sessions_of(&self, subject: &str, audit: &Audit) -> Result<usize, StoreError> {
        self.call(true, self.store.end_sessions_of(subject, audit)).await
    }
}

#[async_trait]
impl Deployment for Moody {
    async fn tag(&self) -> Result<Tag, StoreError> {
        self.call(false, self.store.tag()).await
    }
    async fn foreign_users(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        self.call(false, self.store.foreign_users(limit)).await
    }
    async fn note_foreign_users(&self, add: &[String], remove: &[String]) -> Result<(), StoreError> {
        self.call(true, self.store.note_foreign_users(add, remove)).await
    }
}

#[async_trait]
impl Store for Moody {
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
    ClaimRequest {
        by: By::client("somebody"),
        name: Name::from_stored(name.to_owned()),
        expires,
        contact: None,
        client: None,
    }
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
async fn an_answer_from_memory_ends_in_what_its_caller_gets_and_not_who_claimed_before() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let rule = |client: &str, suffix: &str| SuffixRule {
        namespace: None,
        client: Some(client.to_owned()),
        suffix: suffix.to_owned(),
    };
    world.policy.connection.suffixes = vec![rule("one", "?one"), rule("two", "?two")];
    let (_world, service, store) = web_on(world);
    let by = |client: &str| ClaimRequest {
        by: By::client("somebody"),
        client: Some(client.to_owned()),
        ..ask("taskcluster-a", None)
    };
    let first = service.claim(&by("one")).await.unwrap();
    store.be(Mood::FailsBefore);
    for client in ["two", "one", "three"] {
        let answer = service.claim(&by(client)).await.unwrap();
        let suffix = if client == "three" { String::new() } else { format!("?{client}") };
        let expected = first.connection_string.replace("?one", &suffix);
        assert_eq!(*answer.connection_string, expected, "{client}");
    }
}

#[tokio::test]
async fn an_answer_from_memory_ends_where_it_is_no_longer_certain() {
    let (world, service, store) = web().await;
    let rotating = claim(&service, "taskcluster-a").await.unwrap();
    let soon = world.clock.now().plus(20 * MINUTE);
    let ending = service.claim(&ask("taskcluster-b", Some(soon))).await.unwrap();
    assert_eq!(ending.reclaim_at, soon.plus(HOUR / 2));
    let ended = service.claim(&ask("taskcluster-c", Some(world.clock.now().minus(9 * HOUR)))).await.unwrap();
    assert_eq!(ended.reclaim_at, world.clock.now().plus(HOUR / 2));
    store.be(Mood::FailsBefore);
    let millisecond = Duration::from_millis(1);
    for (name, known) in [("taskcluster-c", ended), ("taskcluster-b", ending), ("taskcluster-a", rotating)] {
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
    let changes = [bury, remove].map(|record| Change { record, notices: Vec::new(), audits: Vec::new() });
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
    world.store.write(&[Change { record: bury, notices: Vec::new(), audits: Vec::new() }]).await.unwrap();
    assert!(matches!(claim(&service, "taskcluster-a").await, Err(ServiceError::CleaningUp { .. })));
    store.be(Mood::FailsBefore);
    assert_unavailable(&service, "taskcluster-a").await;
}

#[tokio::test]
async fn a_client_with_many_namespaces_takes_the_memory_of_no_other() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.remembered = 6;
    let (_world, service, store) = web_on(world);
    let claim = async |client: &str, name: &str| {
        let asked = ClaimRequest { by: By::client("somebody"), client: Some(client.to_owned()), ..ask(name, None) };
        service.claim(&asked).await
    };
    claim("modest", "taskcluster-modest").await.unwrap();
    for number in 0..20 {
        claim("greedy", &format!("taskcluster-{number}")).await.unwrap();
    }
    claim("late", "taskcluster-late").await.unwrap();
    store.be(Mood::FailsBefore);
    // Whoever claims, it is the namespace that is remembered.
    for client in ["modest", "another"] {
        claim(client, "taskcluster-modest").await.unwrap();
        claim(client, "taskcluster-late").await.unwrap();
    }
    let mut remembered = Vec::new();
    for number in 0..20 {
        remembered.extend(claim("greedy", &format!("taskcluster-{number}")).await.is_ok().then_some(number));
    }
    assert_eq!(remembered, [16, 17, 18, 19], "the room that others leave is its");
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
    world.store.write(&[Change { record: begun, notices: Vec::new(), audits: Vec::new() }]).await.unwrap();
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

/// The clock of a host: a calendar that can be set, and an uptime that can't.
struct HostClock {
    uptime: Mutex<Duration>,
    ahead: Mutex<i64>,
}

impl HostClock {
    fn advance(&self, by: Duration) {
        *self.uptime.lock().unwrap() += by;
    }

    fn set(&self, ahead: i64) {
        *self.ahead.lock().unwrap() = 1_800_000_000_000 + ahead;
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        let uptime = i64::try_from(self.uptime().as_millis()).unwrap();
        Timestamp::from_millis(uptime + *self.ahead.lock().unwrap())
    }
    fn uptime(&self) -> Duration {
        *self.uptime.lock().unwrap()
    }
    fn boot(&self) -> Option<&str> {
        Some("this one")
    }
}

#[tokio::test]
async fn a_clock_that_is_set_ends_nothing_and_a_namespace_lives_for_as_long_as_it_was_to() {
    for forward in [6, 24 * 4000] {
        let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        world.policy.hold = HoldPolicy { skew: HOUR / 4, silence: HOUR / 4, ..world.policy.hold };
        let clock = Arc::new(HostClock { uptime: Mutex::new(HOUR), ahead: Mutex::new(1_800_000_000_000) });
        let process = || Service::new(world.store.clone(), world.broker.clone(), clock.clone(), world.policy.clone());
        let serve = async |service: &Service, minutes: u32| {
            for _ in 0..minutes / 10 {
                clock.advance(10 * MINUTE);
                service.beat().await.unwrap();
            }
        };
        let service = process();
        let clock_fails = async |service: &Service| {
            let health = service.health(PATIENCE).await;
            health.into_iter().find(|(part, _)| *part == "clock").unwrap().1.err()
        };
        service.beat().await.unwrap();
        serve(&service, 10).await;
        let first = claim(&service, "taskcluster-a").await.unwrap();
        let expire = async |service: &Service| service.expire(&world.expiry_policy(), false).await.unwrap();

        // For who runs, and for who begins.
        clock.set(forward * 3_600_000);
        for service in [&service, &process()] {
            assert!(clock_fails(service).await.unwrap().contains("by its uptime"));
            serve(service, 30).await;
            let outcomes = [expire(service).await, service.rotate(false).await.unwrap()];
            for outcome in outcomes {
                assert!(outcome.changed == 0 && outcome.held.is_some_and(|why| why.contains("by its uptime")));
            }
            let again = claim(service, "taskcluster-a").await.unwrap();
            assert_eq!((&again.connection_string, again.reclaim_at), (&first.connection_string, first.reclaim_at));
        }
        clock.set(0);
        assert_eq!(clock_fails(&service).await, None);

        // As on a host that was started anew with a wrong clock.
        clock.set(forward * 3_600_000);
        rusqlite::Connection::open(world.sqlite()).unwrap().execute("DELETE FROM boot", []).unwrap();
        let service = process();
        service.beat().await.unwrap();
        serve(&service, 60).await;
        let early = expire(&service).await;
        assert_eq!((early.held, early.changed), (None, 0));
        assert!(early.reports[0].contains("1 namespaces are past their date"), "{:?}", early.reports);
        service.hear("somebody", false);
        assert!(clock_fails(&service).await.unwrap().contains("for their time alone"));
        for _ in 0..5 {
            serve(&service, 120).await;
            service.hear("somebody", false);
        }
        assert!(expire(&service).await.held.is_some(), "it was no heartbeat who is refused");
        service.hear("somebody", true);
        service.hear("another one", true);
        serve(&service, 240).await;
        assert_eq!(expire(&service).await.held, None);
        assert!(stored(&world, "taskcluster-a").await.gone.is_none());
        serve(&service, 120).await;
        assert!(expire(&service).await.changed > 0, "it has lived for five hours");
    }
}

#[tokio::test]
async fn owners_exemptions_and_the_audit_trail_cost_a_claim_no_call_of_the_store() {
    let (world, service, store) = web().await;
    let calls = async |asked: ClaimRequest| {
        let before = store.calls();
        service.claim(&asked).await.unwrap();
        store.calls() - before
    };
    let name = Name::from_stored("taskcluster-a".to_owned());
    let far = Some(world.clock.now().plus(Duration::from_secs(1_000_000)));
    let asked = || ask("taskcluster-a", far);
    // It writes the record and what the trail has of it in one call.
    assert_eq!(calls(asked()).await, 5, "a first claim");
    let owners = vec![Owner::parse("you@example.com").unwrap()];
    service.set_owners(&name, owners, false, &By::client("me")).await.unwrap();
    let endless = Exemption { up_to: None, until: None };
    service.exempt(&name, "queue/taskcluster-a/*", endless, "it may", &By::client("me")).await.unwrap();
    assert_eq!(calls(asked()).await, 1, "it reads");
    let contact = Some("me@example.com".to_owned());
    assert_eq!(calls(ClaimRequest { contact, ..asked() }).await, 2, "it reads and writes");
}

#[tokio::test]
async fn no_queue_is_emptied_or_deleted_that_the_audit_trail_can_not_have() {
    let (world, service, store) = web().await;
    let (name, queue, by) = (Name::from_stored("taskcluster-a".to_owned()), "queue/taskcluster-a/x", By::client("me"));
    let wish = Wish { by: &by, reason: None };
    service.claim(&ask("taskcluster-a", Some(world.clock.now().plus(Duration::from_secs(9000))))).await.unwrap();
    world.fake().state().queues.insert(queue.to_owned(), Queue::classic(3));
    world.declare_exchange("exchange/taskcluster-a/x").await;
    for mood in [Mood::FailsWrites, Mood::FailsBefore, Mood::FailsAfter, Mood::LosesAnswersToWrites] {
        store.be(mood);
        assert!(service.empty_queue(&name, queue, wish).await.is_err());
        assert!(service.delete_one_queue(&name, queue, wish).await.is_err());
        assert!(service.delete_exchange(&name, "exchange/taskcluster-a/x", wish).await.is_err());
    }
    assert_eq!(world.fake().state().queues[queue].messages, 3);
    assert!(world.fake().state().exchanges.contains("exchange/taskcluster-a/x"));
    store.be(Mood::Works);
    service.delete_one_queue(&name, queue, wish).await.unwrap();
}
