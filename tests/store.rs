//! What the store promises, as one suite that runs on SQLite and on PostgreSQL, and what concerns one of them alone.

#[path = "store/back.rs"]
mod back;
#[path = "store/postgres.rs"]
mod only_postgres;
#[path = "store/sqlite.rs"]
mod only_sqlite;

use std::sync::Arc;
use std::time::Duration;

use crate::support::postgres::TestDatabase;
use back::{
    an_empty_schema_goes_all_the_way_back_and_what_1_0_0_wrote_then_comes_through,
    the_schema_goes_back_version_by_version_and_refuses_to_lose_what_is_in_it,
    what_keeps_people_out_of_a_namespace_comes_back_and_what_is_disabled_is_never_due,
};
use futures::future::join_all;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::domain::account::{Account, Adopted, Schedule};
use taskcluster_pulse::domain::audit::{Actor, Audit, AuditFilter, By, Deed};
use taskcluster_pulse::domain::barred::{Barred, Disabled, Revoked};
use taskcluster_pulse::domain::exemption::{Exempted, Requested};
use taskcluster_pulse::domain::history::{Counters, History, Incarnation, Look, MAX_BYTES};
use taskcluster_pulse::domain::hold::{Beat, Heartbeat};
use taskcluster_pulse::domain::ladder::{Exemption, Mail, Stage, Told, Watch};
use taskcluster_pulse::domain::name::{Name, Slot};
use taskcluster_pulse::domain::namespace::{Gone, Namespace, Version};
use taskcluster_pulse::domain::notice::{About, Brief, Matter, Notice, Undelivered};
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::domain::recipients::{Mute, Recipients};
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::domain::rotation::{Login, Pending, Rotation};
use taskcluster_pulse::domain::session::{BarredPerson, Person, Session};
use taskcluster_pulse::domain::verdict::Kind;
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::store::{
    self, Accepted, Change, DatabaseUrl, Figures, Keep, KeyRing, Making, Outline, Record, Rekeyed, Select, Sighting,
    Store, StoreError, StoreLimits, Summary, TaskRun, Write,
};
use tempfile::TempDir;

const KEY_A: &str = r#"{"id": "a", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}"#;
const KEY_B: &str = r#"{"id": "b", "algo": "aes-256", "key": "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="}"#;

/// A database of the test's own.
enum Backend {
    Sqlite(TempDir),
    Postgres(TestDatabase),
}

impl Backend {
    fn url(&self) -> DatabaseUrl {
        match self {
            Backend::Sqlite(directory) => format!("sqlite:{}/pulse.sqlite", directory.path().display()),
            Backend::Postgres(database) => database.url(),
        }
        .parse()
        .unwrap()
    }

    /// The same as the service has it, which may lead through a pooler.
    fn service_url(&self) -> DatabaseUrl {
        match self {
            Backend::Sqlite(_) => self.url(),
            Backend::Postgres(database) => database.service_url().parse().unwrap(),
        }
    }

    async fn open_with(&self, keys: &[&str]) -> Result<Arc<dyn Store>, StoreError> {
        let keys = KeyRing::parse(&format!("[{}]", keys.join(","))).unwrap();
        let limits = StoreLimits { timeout: Duration::from_secs(20), ..StoreLimits::default() };
        store::open(&self.service_url(), Some(keys), limits).await
    }

    async fn rekey(&self, keys: &[&str]) -> Rekeyed {
        let keys = KeyRing::parse(&format!("[{}]", keys.join(","))).unwrap();
        store::rekey(&self.service_url(), Some(keys), StoreLimits::default()).await.unwrap()
    }

    /// Migrates and opens.
    async fn store(&self) -> Arc<dyn Store> {
        store::migrate(&self.url()).await.unwrap();
        self.open_with(&[KEY_A]).await.unwrap()
    }

    fn sqlite(directory: &TempDir) -> rusqlite::Connection {
        let connection = rusqlite::Connection::open(directory.path().join("pulse.sqlite")).unwrap();
        connection.busy_timeout(Duration::from_secs(20)).unwrap();
        connection
    }

    /// Changes the database behind the store's back.
    async fn execute(&self, sql: &str) {
        match self {
            Backend::Sqlite(directory) => Backend::sqlite(directory).execute_batch(sql).unwrap(),
            Backend::Postgres(database) => database.client().await.batch_execute(sql).await.unwrap(),
        }
    }

    /// The first column of what `sql` gives, as text.
    async fn texts(&self, sql: &str) -> Vec<Option<String>> {
        match self {
            Backend::Sqlite(directory) => {
                let connection = Backend::sqlite(directory);
                let mut statement = connection.prepare(sql).unwrap();
                let rows = statement.query_map([], |row| row.get(0)).unwrap();
                rows.collect::<Result<_, _>>().unwrap()
            }
            Backend::Postgres(database) => {
                database.client().await.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
            }
        }
    }
}

macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Backend::Sqlite(tempfile::tempdir().unwrap())).await;
            })*
        }

        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Backend::Postgres(super::TestDatabase::new().await)).await;
            })*
        }

        mod pooled {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Backend::Postgres(super::TestDatabase::behind_a_pooler(false).await)).await;
            })*
        }
    };
}

on_both! {
    every_field_comes_back_as_it_was_written,
    a_client_has_no_more_live_namespaces_than_asked_however_many_are_written_at_once,
    of_several_namespaces_that_are_made_as_one_each_client_has_as_many_as_it_may,
    what_the_audit_trail_has_of_a_change_is_stored_with_it_and_only_then,
    the_audit_trail_is_read_by_page_and_filter_and_forgets_the_oldest,
    what_nobody_owns_is_found,
    of_two_inserts_the_second_is_lost,
    writing_over_a_stale_version_is_lost,
    a_mixed_batch_is_answered_in_order,
    the_second_change_of_one_record_in_a_batch_is_lost,
    an_empty_batch_writes_nothing,
    notices_are_stored_with_the_change_that_wins_and_only_then,
    of_two_writers_at_once_one_wins,
    many_batches_at_once_in_any_order_all_get_through,
    summaries_come_in_pages_by_name_without_tombstones,
    all_gives_tombstones_too,
    those_that_are_wanted_of_all_are_read_in_pages,
    what_older_keys_sealed_is_sealed_anew_while_others_write,
    what_cannot_be_opened_is_counted_and_left_as_it_is,
    due_gives_what_is_due_or_abandoned_longest_due_first,
    changed_gives_what_others_wrote_or_removed_since_it_was_read,
    a_beat_begins_anew_after_a_pause,
    the_served_time_grows_by_what_has_passed_by_both_clocks_and_never_by_more_than_a_pause,
    a_beat_tells_how_far_the_calendar_of_its_host_is_ahead,
    watches_may_have_any_queue_name,
    an_accepted_notice_is_forgotten_and_noted_in_the_watch_that_it_tells_of,
    many_notices_are_accepted_at_once_and_each_counts_for_its_own_queue,
    more_notices_to_one_address_are_taken_if_they_can_be_told_together,
    recipients_are_known_by_any_name,
    histories_are_written_and_removed_many_at_once,
    a_history_of_two_weeks_takes_few_bytes_of_the_database,
    a_notice_is_taken_once_until_it_is_retried_or_removed,
    two_takers_at_once_get_different_notices,
    a_notice_that_is_given_up_is_kept_with_why_for_a_while,
    a_session_is_known_by_its_hash_until_it_is_ended_and_the_trail_has_both,
    the_last_run_of_each_task_is_kept,
    figures_are_sums_over_all_tables,
    who_is_kept_from_signing_in_has_no_session_until_let_in_again,
    outlines_show_live_namespaces_with_all_that_lists_need,
    a_lease_has_one_holder_until_it_ends_or_is_released,
    of_many_who_ask_for_a_lease_at_once_one_gets_it,
    of_many_sightings_of_one_request_the_first_counts,
    old_sightings_are_forgotten_by_and_by,
    many_namespaces_are_read_at_once_in_the_order_of_their_names,
    the_ends_of_many_namespaces_are_moved_at_once_each_over_what_was_read,
    the_tag_of_a_deployment_is_made_once_and_for_it_alone,
    foreign_users_are_kept_until_they_are_removed,
    stored_passwords_are_sealed,
    a_sealed_password_does_not_open_in_another_row_or_column,
    without_its_key_a_password_does_not_open,
    an_old_key_opens_and_the_newest_seals,
    a_row_that_cannot_be_opened_does_not_hide_the_others,
    rows_that_cannot_be_opened_do_not_take_the_places_of_those_that_are_due,
    migrations_run_once_however_many_run_them,
    an_empty_schema_goes_all_the_way_back_and_what_1_0_0_wrote_then_comes_through,
    the_schema_goes_back_version_by_version_and_refuses_to_lose_what_is_in_it,
    what_keeps_people_out_of_a_namespace_comes_back_and_what_is_disabled_is_never_due,
    a_newer_schema_is_refused,
    a_foreign_schema_is_refused,
    the_schema_refuses_what_may_never_be,
    two_stores_on_one_database_see_each_others_writes,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn name(text: &str) -> Name {
    Name::from_stored(text.to_owned())
}

fn login(slot: Slot) -> Login {
    Login { slot, password: Password::random() }
}

/// What is stored of an account that was adopted, with what it has of each kind.
fn adopted() -> Account {
    let (since, looked) = (at(1), at(9));
    let addresses = [("10.0.0.1".to_owned(), at(8)), ("fe80::1".to_owned(), at(7))].into();
    let (moved, retired, used, told) = (Some(at(2)), Some(at(3)), Some(at(4)), Some(at(5)));
    let adopted = Adopted { since, moved, retired, used, looked, addresses, told };
    Account { schedule: Schedule::Rotating, used: at(6), warned: Some(7), adopted: Some(adopted) }
}

/// A namespace that was claimed, and settled once; its next rotation is due at `due` seconds.
fn settled(text: &str, due: i64) -> Namespace {
    Namespace {
        name: name(text),
        contact: "owner@example.com".to_owned(),
        created: at(1),
        expires: at(100_000),
        rotation: Rotation {
            active: Some(login(Slot::One)),
            previous: None,
            pending: None,
            due: at(due),
            grace: Duration::from_secs(1800),
        },
        gone: None,
        warned: None,
        claimed_by: None,
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: None,
        end_asked: None,
        matures: None,
        version: Version(0),
    }
}

/// `namespace` as it is after it was written.
fn stored(namespace: &Namespace) -> Namespace {
    Namespace { version: namespace.version.next(), ..namespace.clone() }
}

fn pending(namespace: Namespace, since: i64) -> Namespace {
    let pending = Pending { login: login(Slot::Two), since: at(since) };
    Namespace { rotation: Rotation { pending: Some(pending), ..namespace.rotation.clone() }, ..namespace }
}

fn tombstone(namespace: Namespace) -> Namespace {
    Namespace { gone: Some(Gone { since: at(7), cleaning_until: None }), ..namespace }
}

fn watched(queue: &str) -> Watched {
    let incarnation = Incarnation { first_seen: at(1), fingerprint: u64::MAX - 3 };
    let told = Told { at: at(3), cause: Kind::NoConsumer, messages: 5000, mail: Mail::Waiting };
    let watch = Watch {
        stage: Stage::Warned,
        told: Some(told),
        last_told: Some(at(3)),
        quiet: Some(at(4)),
        relapses: 1,
        changes: 2,
        closings: 3,
        closed: Some(at(2)),
        kept_out: true,
        ..Watch::new(incarnation, at(3))
    };
    Watched {
        queue: queue.to_owned(),
        namespace: name("taskcluster-x"),
        messages: 5000,
        watch,
        decided: true,
        failure_told: Some(at(5)),
        version: Version(0),
    }
}

fn notice(id: &str, due: i64) -> Notice {
    Notice {
        id: id.to_owned(),
        namespace: name("taskcluster-x"),
        to: "owner@example.com".to_owned(),
        subject: format!("about {id}"),
        text: "Your queue grows.\n\n* it's **big**".to_owned(),
        created: at(due),
        attempts: 0,
        due: at(due),
        about: Some(About { queue: "q\0".to_owned(), first_seen: at(1), told: Some(at(2)) }),
        brief: Some(Brief {
            matter: Matter::Trouble(Kind::NoConsumer),
            messages: 5000,
            removal: Some(at(9)),
            lines: vec!["`q\\u{0}\u{1a}`".to_owned(), "it's \"big\"".to_owned()],
        }),
        instead_of: vec![],
    }
}

fn put(namespace: &Namespace) -> Change {
    Change { record: Record::Namespace(namespace.clone()), notices: Vec::new(), audits: Vec::new() }
}

fn put_watched(watched: &Watched) -> Change {
    Change { record: Record::Watch(watched.clone()), notices: Vec::new(), audits: Vec::new() }
}

async fn insert(store: &dyn Store, namespaces: &[Namespace]) {
    let changes: Vec<Change> = namespaces.iter().map(put).collect();
    let written = store.write(&changes).await.unwrap();
    assert!(written.iter().all(|write| *write == Write::Done), "{written:?}");
}

async fn insert_notices(store: &dyn Store, notices: Vec<Notice>) {
    let carrier = settled("taskcluster-carrier", 0);
    let change = Change { record: Record::Namespace(carrier), notices, audits: Vec::new() };
    assert_eq!(store.write(&[change]).await.unwrap(), [Write::Done]);
}

fn names(namespaces: &[Namespace]) -> Vec<&str> {
    namespaces.iter().map(|namespace| namespace.name.as_str()).collect()
}

async fn a_client_has_no_more_live_namespaces_than_asked_however_many_are_written_at_once(backend: Backend) {
    let stores = [backend.store().await, backend.store().await];
    let of = |text: &str, client: Option<&str>| Namespace {
        claimed_by: client.map(str::to_owned),
        ..settled(&format!("taskcluster-{text}"), 50)
    };
    let others = [tombstone(of("gone", Some("a"))), of("other", Some("b")), of("unknown", None)];
    insert(&*stores[0], &others).await;
    let made = join_all((0..20).map(|number| {
        let (store, namespace) = (&stores[number % 2], of(&number.to_string(), Some("a")));
        async move { within(&**store, &[namespace], 7).await }
    }));
    let made = made.await.concat();
    assert_eq!(made.iter().filter(|made| **made == Some(Write::Done)).count(), 7);
    assert_eq!(made.iter().filter(|made| made.is_none()).count(), 13);
    let store = &stores[0];
    let live = store.namespaces(Select::All).await.unwrap();
    let own = live.iter().filter(|found| found.gone.is_none() && found.claimed_by.as_deref() == Some("a"));
    let own: Vec<_> = own.collect();
    assert_eq!(own.len(), 7);
    // One that is there already is no further one, and a tombstone is one once it is none.
    let own = [own[0].clone()];
    assert_eq!(within(&**store, &own, 7).await, [Some(Write::Done)]);
    assert_eq!(within(&**store, &own, 7).await, [Some(Write::Lost)], "it was read before");
    let gone = [stored(&of("gone", Some("a")))];
    assert_eq!(within(&**store, &gone, 7).await, [None]);
    assert_eq!(within(&**store, &gone, 8).await, [Some(Write::Done)]);
    assert_eq!(within(&**store, &[of("new", None)], 0).await, [Some(Write::Done)]);
}

async fn of_several_namespaces_that_are_made_as_one_each_client_has_as_many_as_it_may(backend: Backend) {
    let store = backend.store().await;
    let of = |text: &str, client: Option<&str>| Namespace {
        claimed_by: client.map(str::to_owned),
        ..settled(&format!("taskcluster-{text}"), 50)
    };
    insert(&*store, &[tombstone(of("gone", Some("a"))), of("old", Some("a")), of("b-old", Some("b"))]).await;
    let batch = [
        of("x", Some("b")),
        stored(&of("gone", Some("a"))),
        of("old", Some("a")),
        of("free", None),
        of("m", Some("a")),
        of("c", Some("b")),
        of("n", Some("a")),
    ];
    let (done, lost) = (Some(Write::Done), Some(Write::Lost));
    // "a" has one, which the batch would make once more: it may have two others, in their order. "b" may have two others, too.
    assert_eq!(within(&*store, &batch, 3).await, [done, done, lost, done, done, done, None]);
    let audits = store.audits(&AuditFilter::default(), 100).await.unwrap();
    let mut told: Vec<_> = audits.iter().map(|audit| audit.object.as_str()).collect();
    told.sort_unstable();
    let stored = ["taskcluster-c", "taskcluster-free", "taskcluster-gone", "taskcluster-m", "taskcluster-x"];
    assert_eq!(told, stored, "nothing is told of what was not made");
    assert!(store.write_within(&[], 3).await.unwrap().is_empty());
}

/// Makes namespaces as one, each with a record for the audit trail.
async fn within(store: &dyn Store, namespaces: &[Namespace], most: usize) -> Vec<Option<Write>> {
    let making = |(number, namespace): (usize, &Namespace)| {
        let text = namespace.name.as_str();
        let audit = Audit {
            id: format!("{text}-{number}-{}-{most}", namespace.version.0),
            object: text.to_owned(),
            ..audit(number, 1, Some(text), Actor::Client("me".to_owned()))
        };
        Making { namespace: namespace.clone(), audits: vec![audit] }
    };
    let makings: Vec<_> = namespaces.iter().enumerate().map(making).collect();
    store.write_within(&makings, most).await.unwrap()
}

async fn every_field_comes_back_as_it_was_written(backend: Backend) {
    let store = backend.store().await;
    let base = settled("taskcluster-0", 50);
    let first = Namespace {
        contact: String::new(),
        rotation: Rotation::first(Password::random(), Timestamp::from_millis(1_736_942_400_007)),
        ..base.clone()
    };
    let switched = Namespace {
        rotation: Rotation { previous: Some(login(Slot::Two)), ..base.rotation.clone() },
        warned: Some(at(99)),
        claimed_by: Some("project/a:b@c/*".to_owned()),
        end_asked: Some(at(98)),
        matures: Some(Duration::from_millis(1234)),
        owners: ["a@example.com", "group:b"].map(|owner| Owner::parse(owner).unwrap()).into(),
        account: Some(adopted().into()),
        exemptions: vec![
            exempted("queue/taskcluster-0/ünï\0\u{1a}0'\"*", Some(50_000), Some(at(97))),
            exempted("queue/taskcluster-0/*", None, None),
        ],
        requests: vec![requested("queue/taskcluster-0/ünï\0\u{1a}0'\"*", Some(at(96))), requested("queue/x/y", None)],
        ..base.clone()
    };
    let switching = pending(switched.clone(), 60);
    let gone = tombstone(switched.clone());
    let cleaning = Namespace { gone: Some(Gone { since: at(7), cleaning_until: Some(at(8)) }), ..base.clone() };
    let odd = Namespace {
        contact: "ünï\0\u{1a}0'\"\\ 💌".to_owned(),
        created: Timestamp::from_millis(i64::MIN),
        expires: Timestamp::from_millis(i64::MAX),
        ..base.clone()
    };
    let kinds = [base, first, switched, switching, gone, cleaning, odd];
    let namespaces: Vec<Namespace> =
        (0..kinds.len()).map(|n| Namespace { name: name(&format!("taskcluster-{n}")), ..kinds[n].clone() }).collect();
    insert(&*store, &namespaces).await;
    for namespace in &namespaces {
        assert_eq!(store.namespace(&namespace.name).await.unwrap(), Some(stored(namespace)));
    }
    // The same rows written over one another: no field is forgotten by a replacement either.
    for turn in 1..namespaces.len() {
        let changed: Vec<Namespace> = (0..namespaces.len())
            .map(|n| Namespace {
                name: namespaces[n].name.clone(),
                version: Version(turn as i64),
                ..namespaces[(n + turn) % namespaces.len()].clone()
            })
            .collect();
        insert(&*store, &changed).await;
        assert_eq!(store.namespaces(Select::All).await.unwrap(), changed.iter().map(stored).collect::<Vec<_>>());
    }
    assert_eq!(store.namespace(&name("taskcluster-none")).await.unwrap(), None);
}

fn exempted(queue: &str, up_to: Option<u64>, until: Option<Timestamp>) -> Exempted {
    let (reason, by) = ("slow \u{1a} reader".to_owned(), "client me".to_owned());
    Exempted { queue: queue.to_owned(), exemption: Exemption { up_to, until }, reason, by, since: at(3) }
}

fn requested(queue: &str, until: Option<Timestamp>) -> Requested {
    let Exempted { queue, exemption, reason, by, since } = exempted(queue, None, until);
    let address = until.map(|_| "me@example.com".to_owned());
    Requested { queue, exemption, reason, by, address, since }
}

fn audit(id: usize, seconds: i64, namespace: Option<&str>, actor: Actor) -> Audit {
    Audit {
        id: format!("id-{id:03}"),
        at: at(seconds),
        by: By { request: id.is_multiple_of(2).then(|| format!("request-{id}")), actor },
        action: Deed::ALL[id % 2].word().to_owned(),
        namespace: namespace.map(name),
        object: format!("queue/ünï\0\u{1a}{id}"),
        reason: "because\nof 'this'".to_owned(),
    }
}

async fn what_the_audit_trail_has_of_a_change_is_stored_with_it_and_only_then(backend: Backend) {
    let store = backend.store().await;
    let record = |id, text: &str| Change {
        audits: vec![audit(id, 1, Some(text), Actor::Client("me".to_owned()))],
        ..put(&settled(text, 1))
    };
    let all = [record(1, "taskcluster-a"), record(2, "taskcluster-b")];
    assert_eq!(store.write(&all[..1]).await.unwrap(), [Write::Done], "alone");
    assert_eq!(store.write(&all).await.unwrap(), [Write::Lost, Write::Done]);
    let again = Change { audits: record(3, "taskcluster-a").audits, ..all[0].clone() };
    assert_eq!(store.write(&[again]).await.unwrap(), [Write::Lost]);
    let made = audit(4, 1, Some("taskcluster-c"), Actor::Person("you@example.com".to_owned()));
    for (text, most) in [("taskcluster-c", 7), ("taskcluster-c", 7), ("taskcluster-d", 0)] {
        let claimed_by = (most == 0).then(|| "nobody".to_owned());
        let made = Audit { id: if most == 0 { "id-005".to_owned() } else { made.id.clone() }, ..made.clone() };
        let namespace = Namespace { claimed_by, ..settled(text, 1) };
        store.write_within(&[Making { namespace, audits: vec![made] }], most).await.unwrap();
    }
    store.note(&[audit(6, 1, None, Actor::Task("monitor-rabbit".to_owned()))]).await.unwrap();
    store.note(&[audit(6, 9, None, Actor::Task("monitor-rabbit".to_owned()))]).await.unwrap();
    let found = store.audits(&AuditFilter::default(), 10).await.unwrap();
    let expected = [
        audit(6, 1, None, Actor::Task("monitor-rabbit".to_owned())),
        made,
        all[1].audits[0].clone(),
        all[0].audits[0].clone(),
    ];
    assert_eq!(found, expected);
}

async fn the_audit_trail_is_read_by_page_and_filter_and_forgets_the_oldest(backend: Backend) {
    let store = backend.store().await;
    let texts = ["taskcluster-a", "taskcluster-b"];
    let actors = [Actor::Client("me".to_owned()), Actor::Command("ünï\0".to_owned())];
    // Several in each second.
    let all: Vec<_> = (0..40)
        .map(|n| audit(n, n as i64 / 3, (n % 5 > 0).then(|| texts[n % 2]), actors[usize::from(n % 3 == 0)].clone()))
        .collect();
    store.note(&all).await.unwrap();
    store.note(&[]).await.unwrap();
    let newest: Vec<_> = all.iter().rev().cloned().collect();
    let any = AuditFilter::default();
    let (mut after, mut found) = (None, Vec::new());
    loop {
        let page = store.audits(&AuditFilter { after, ..any.clone() }, 7).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.at, last.id.clone()));
        found.extend(page);
    }
    assert_eq!(found, newest);
    type Holds<'a> = &'a dyn Fn(&Audit) -> bool;
    let filters: [(AuditFilter, Holds<'_>); 5] = [
        (AuditFilter { namespace: Some(name(texts[1])), ..any.clone() }, &|one| one.namespace == Some(name(texts[1]))),
        (AuditFilter { actor: Some("ünï\0".to_owned()), ..any.clone() }, &|one| one.by.actor == actors[1]),
        (AuditFilter { action: Some("claim".to_owned()), ..any.clone() }, &|one| one.action == "claim"),
        (AuditFilter { from: Some(at(3)), to: Some(at(7)), ..any.clone() }, &|one| one.at >= at(3) && one.at < at(7)),
        (
            AuditFilter {
                namespace: Some(name(texts[0])),
                actor: Some("me".to_owned()),
                from: Some(at(2)),
                ..any.clone()
            },
            &|one| one.namespace == Some(name(texts[0])) && one.by.actor == actors[0] && one.at >= at(2),
        ),
    ];
    for (filter, holds) in filters {
        let expected: Vec<_> = newest.iter().filter(|one| holds(one)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len());
        assert_eq!(store.audits(&filter, 100).await.unwrap(), expected, "{filter:?}");
    }
    assert_eq!(store.forget_audits(at(5), 10).await.unwrap(), 10);
    assert_eq!(store.audits(&any, 100).await.unwrap(), newest[..30]);
    assert_eq!(store.forget_audits(at(5), 10).await.unwrap(), 5);
    assert_eq!(store.forget_audits(at(5), 10).await.unwrap(), 0);
    assert_eq!(store.audits(&any, 100).await.unwrap(), newest[..25]);
}

async fn what_nobody_owns_is_found(backend: Backend) {
    let store = backend.store().await;
    let owned = vec![Owner::parse("group:a").unwrap()];
    let silent = |text: &str| Namespace { contact: String::new(), ..settled(text, 1) };
    let all = [
        silent("taskcluster-a"),
        Namespace { owners: owned, ..silent("taskcluster-b") },
        settled("taskcluster-c", 1),
        tombstone(silent("taskcluster-d")),
        silent("taskcluster-e"),
    ];
    insert(&*store, &all).await;
    let found = async |after, limit| {
        let found = store.unowned(after, limit).await.unwrap();
        found.iter().map(|found| found.name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(found(None, 10).await, ["taskcluster-a", "taskcluster-e"]);
    assert_eq!(found(None, 1).await, ["taskcluster-a"]);
    assert_eq!(found(Some("taskcluster-a"), 10).await, ["taskcluster-e"]);
}

async fn of_two_inserts_the_second_is_lost(backend: Backend) {
    let store = backend.store().await;
    let (first, second) = (settled("taskcluster-x", 1), settled("taskcluster-x", 2));
    assert_eq!(store.write(&[put(&first)]).await.unwrap(), [Write::Done]);
    assert_eq!(store.write(&[put(&second)]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.namespace(&first.name).await.unwrap(), Some(stored(&first)));
    let (first, second) =
        (watched("queue/taskcluster-x/q"), Watched { messages: 1, ..watched("queue/taskcluster-x/q") });
    assert_eq!(store.write(&[put_watched(&first)]).await.unwrap(), [Write::Done]);
    assert_eq!(store.write(&[put_watched(&second)]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.watches().await.unwrap(), [Watched { version: Version(1), ..first }]);
}

async fn writing_over_a_stale_version_is_lost(backend: Backend) {
    let store = backend.store().await;
    let first = settled("taskcluster-x", 1);
    insert(&*store, std::slice::from_ref(&first)).await;
    let second = Namespace { expires: at(7), ..stored(&first) };
    insert(&*store, std::slice::from_ref(&second)).await;
    let stale = Namespace { expires: at(8), ..stored(&first) };
    let ahead = Namespace { version: Version(3), ..stale.clone() };
    let remove = |version| Change {
        record: Record::RemoveNamespace(first.name.clone(), Version(version)),
        notices: Vec::new(),
        audits: Vec::new(),
    };
    for lost in [put(&stale), put(&ahead), remove(1), remove(3), remove(0)] {
        assert_eq!(store.write(std::slice::from_ref(&lost)).await.unwrap(), [Write::Lost], "{lost:?}");
    }
    assert_eq!(store.namespace(&first.name).await.unwrap(), Some(stored(&second)));
    assert_eq!(store.write(&[remove(2)]).await.unwrap(), [Write::Done]);
    assert_eq!(store.write(&[remove(2)]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.write(&[put(&stored(&second))]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.namespace(&first.name).await.unwrap(), None);
}

async fn a_mixed_batch_is_answered_in_order(backend: Backend) {
    let store = backend.store().await;
    let old: Vec<Namespace> = ["a", "b", "c", "d"].map(|n| settled(&format!("taskcluster-{n}"), 1)).into();
    insert(&*store, &old).await;
    let queues = ["q-b", "q-a"].map(watched);
    store.write(&queues.each_ref().map(put_watched)).await.unwrap();
    let change = |record| Change { record, notices: Vec::new(), audits: Vec::new() };
    let longer = Namespace { expires: at(200_000), ..stored(&old[1]) };
    let removing = Watch { stage: Stage::Removing, told: None, warned: Some(at(9)), ..queues[0].watch.clone() };
    let louder = Watched { version: Version(1), watch: removing, failure_told: None, ..queues[0].clone() };
    let batch = [
        change(Record::RemoveWatch("q-a".to_owned(), Version(9))),
        put(&longer),
        put(&old[2]),
        change(Record::RemoveNamespace(old[3].name.clone(), Version(1))),
        put_watched(&louder),
        put(&settled("taskcluster-0", 1)),
        change(Record::RemoveNamespace(old[0].name.clone(), Version(2))),
        put_watched(&watched("q-c")),
        put_watched(&watched("q-a")),
    ];
    use Write::{Done, Lost};
    assert_eq!(store.write(&batch).await.unwrap(), [Lost, Done, Lost, Done, Done, Done, Lost, Done, Lost]);
    let left = store.namespaces(Select::All).await.unwrap();
    assert_eq!(names(&left), ["taskcluster-0", "taskcluster-a", "taskcluster-b", "taskcluster-c"]);
    assert_eq!(left[2], stored(&longer));
    let watches = store.watches().await.unwrap();
    assert_eq!(watches.iter().map(|watched| watched.queue.as_str()).collect::<Vec<_>>(), ["q-a", "q-b", "q-c"]);
    assert_eq!(watches[1], Watched { version: Version(2), ..louder });
    let gone = change(Record::RemoveWatch("q-b".to_owned(), Version(2)));
    assert_eq!(store.write(&[gone]).await.unwrap(), [Done]);
    assert_eq!(store.watches().await.unwrap().len(), 2);
}

async fn the_second_change_of_one_record_in_a_batch_is_lost(backend: Backend) {
    let store = backend.store().await;
    let first = settled("taskcluster-x", 1);
    let next = Namespace { expires: at(7), ..stored(&first) };
    let remove = Change {
        record: Record::RemoveNamespace(first.name.clone(), Version(1)),
        notices: Vec::new(),
        audits: Vec::new(),
    };
    // A watch of the same key is another record.
    let batch = [put(&first), put(&next), remove, put_watched(&watched("taskcluster-x"))];
    let expected = [Write::Done, Write::Lost, Write::Lost, Write::Done];
    assert_eq!(store.write(&batch).await.unwrap(), expected);
    assert_eq!(store.namespaces(Select::All).await.unwrap(), [stored(&first)]);
}

async fn an_empty_batch_writes_nothing(backend: Backend) {
    assert_eq!(backend.store().await.write(&[]).await.unwrap(), []);
}

async fn notices_are_stored_with_the_change_that_wins_and_only_then(backend: Backend) {
    let store = backend.store().await;
    let first = settled("taskcluster-x", 1);
    let told = |record, ids: &[&str]| Change {
        record,
        notices: ids.iter().map(|id| notice(id, 1)).collect(),
        audits: Vec::new(),
    };
    let batch = [
        told(Record::Namespace(first.clone()), &["1", "2"]),
        told(Record::RemoveWatch("q".to_owned(), Version(1)), &["3"]),
        told(Record::Watch(watched("q")), &["4"]),
    ];
    assert_eq!(store.write(&batch).await.unwrap(), [Write::Done, Write::Lost, Write::Lost]);
    assert_eq!(store.write(&[told(Record::Namespace(first), &["5"])]).await.unwrap(), [Write::Lost]);
    // A notice that is stored already is not told twice.
    assert_eq!(store.write(&[told(Record::Watch(watched("p")), &["6", "1"])]).await.unwrap(), [Write::Done]);
    let taken = store.take_notices(at(1), at(2), 9).await.unwrap();
    assert_eq!(taken.iter().map(|notice| notice.id.as_str()).collect::<Vec<_>>(), ["1", "2", "6"]);
    assert_eq!(taken[0], Notice { attempts: 1, due: at(2), ..notice("1", 1) });
}

async fn of_two_writers_at_once_one_wins(backend: Backend) {
    let stores = [backend.store().await, backend.store().await];
    let first = settled("taskcluster-x", 1);
    insert(&*stores[0], std::slice::from_ref(&first)).await;
    for version in 1..40 {
        let write = |writer: usize| {
            let (store, expires) = (stores[writer].clone(), at(version * 10 + writer as i64));
            let changed = Namespace { expires, version: Version(version), ..first.clone() };
            let notices = vec![notice(&format!("{version}-{writer}"), 1)];
            let change = Change { record: Record::Namespace(changed), notices, audits: Vec::new() };
            tokio::spawn(async move { store.write(&[change]).await.unwrap()[0] })
        };
        let (a, b) = tokio::join!(write(0), write(1));
        let winner = match (a.unwrap(), b.unwrap()) {
            (Write::Done, Write::Lost) => 0,
            (Write::Lost, Write::Done) => 1,
            both => panic!("{both:?}"),
        };
        let found = stores[0].namespace(&first.name).await.unwrap().unwrap();
        assert_eq!((found.expires, found.version), (at(version * 10 + winner), Version(version + 1)));
        let told = stores[1].take_notices(at(1), at(2), 9).await.unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].id, format!("{version}-{winner}"));
    }
}

async fn many_batches_at_once_in_any_order_all_get_through(backend: Backend) {
    let store = backend.store().await;
    let all: Vec<Namespace> = (10..40).map(|n| settled(&format!("taskcluster-{n}"), 1)).collect();
    insert(&*store, &all).await;
    let writers = (0..6).map(|writer| {
        let (store, all) = (store.clone(), all.clone());
        tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..20 {
                let found = store.namespaces(Select::All).await.unwrap();
                let version = |name: &Name| found.iter().find(|found| found.name == *name).map(|found| found.version);
                // What one writer replaces, the next one removes, so that they lock the same rows in two statements.
                let change = |(n, namespace): (usize, &Namespace)| match version(&namespace.name) {
                    Some(version) if (n + writer) % 2 == 0 => Change {
                        record: Record::RemoveNamespace(namespace.name.clone(), version),
                        notices: Vec::new(),
                        audits: Vec::new(),
                    },
                    version => put(&Namespace { version: version.unwrap_or(Version(0)), ..namespace.clone() }),
                };
                let mut changes: Vec<Change> = all.iter().enumerate().map(change).collect();
                changes.rotate_left(writer * 5);
                done += store.write(&changes).await.unwrap().iter().filter(|write| **write == Write::Done).count();
            }
            done
        })
    });
    let mut done = 0;
    for writer in writers.collect::<Vec<_>>() {
        done += writer.await.unwrap();
    }
    assert!(done >= 300, "{done}");
}

async fn summaries_come_in_pages_by_name_without_tombstones(backend: Backend) {
    let store = backend.store().await;
    let texts = ["taskcluster-b", "taskcluster-B", "taskcluster-_", "taskcluster-", "taskcluster-0"];
    let mut all: Vec<Namespace> = texts.map(|text| settled(text, 1)).into();
    all.push(tombstone(settled("taskcluster-a", 1)));
    insert(&*store, &all).await;
    let (mut after, mut pages) = (None, Vec::new());
    loop {
        let page = store.summaries(after.as_deref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.name.as_str().to_owned());
        pages.push(page.iter().map(|summary| summary.name.as_str().to_owned()).collect::<Vec<_>>());
    }
    let [a, b, c] = &pages[..] else { panic!("{pages:?}") };
    assert_eq!(
        [a.join(" "), b.join(" "), c.join(" ")],
        ["taskcluster- taskcluster-0", "taskcluster-B taskcluster-_", "taskcluster-b"]
    );
    let Namespace { name: known, contact, created, expires, .. } = all[0].clone();
    let summary = Summary { name: known.clone(), contact, owners: Vec::new(), created, expires };
    assert_eq!(store.summary(&known).await.unwrap(), Some(summary));
    assert_eq!(store.summary(&name("taskcluster-a")).await.unwrap(), None);
    assert_eq!(store.summary(&name("taskcluster-c")).await.unwrap(), None);
}

async fn all_gives_tombstones_too(backend: Backend) {
    let store = backend.store().await;
    let all = [settled("taskcluster-a", 1), tombstone(settled("taskcluster-b", 1))];
    insert(&*store, &all).await;
    assert_eq!(store.namespaces(Select::All).await.unwrap(), all.each_ref().map(stored));
    assert_eq!(store.namespace(&all[1].name).await.unwrap(), Some(stored(&all[1])));
}

async fn those_that_are_wanted_of_all_are_read_in_pages(backend: Backend) {
    let store = backend.store().await;
    let mut all: Vec<Namespace> = (0..2500).map(|n| settled(&format!("taskcluster-{n:04}"), n)).collect();
    all[1000] = tombstone(all[1000].clone());
    insert(&*store, &all).await;
    let mut seen = Vec::new();
    let mut wanted = |found: &Namespace| {
        seen.push(found.name.clone());
        found.name.as_str().ends_with("00")
    };
    let found = store.namespaces_where(&mut wanted).await.unwrap();
    assert_eq!(found, all.iter().step_by(100).map(stored).collect::<Vec<_>>());
    assert_eq!(seen, all.iter().map(|found| found.name.clone()).collect::<Vec<_>>(), "each once, and in order");
    // What can't be opened hides no other.
    let other = backend.open_with(&[KEY_B]).await.unwrap();
    insert(&*other, &[settled("taskcluster-a", 1)]).await;
    let found = other.namespaces_where(&mut |_| true).await.unwrap();
    assert_eq!(found.iter().map(|found| found.name.as_str()).collect::<Vec<_>>(), ["taskcluster-a"]);
}

async fn what_older_keys_sealed_is_sealed_anew_while_others_write(backend: Backend) {
    let old = backend.store().await;
    let mut all: Vec<Namespace> = (0..1200).map(|n| settled(&format!("taskcluster-{n:04}"), n)).collect();
    all[0] = tombstone(pending(all[0].clone(), 1));
    insert(&*old, &all).await;
    let other = backend.open_with(&[KEY_A, KEY_B]).await.unwrap();
    let renewed = tokio::spawn({
        let other = other.clone();
        async move {
            // Others go on writing, as claims do.
            let mut wrote = 0;
            while wrote < 200 {
                let found = other.namespace(&name("taskcluster-0007")).await.unwrap().unwrap();
                let renewed = Namespace { expires: found.expires.plus(Duration::from_secs(1)), ..found };
                wrote += other.write(&[put(&renewed)]).await.unwrap().iter().filter(|w| **w == Write::Done).count();
            }
        }
    });
    let rekeyed = backend.rekey(&[KEY_A, KEY_B]).await;
    renewed.await.unwrap();
    assert_eq!((rekeyed.unreadable, rekeyed.left), (0, 0), "{rekeyed:?}");
    assert!((1199..=1200).contains(&rekeyed.resealed), "{rekeyed:?}");
    for column in ["active_password", "previous_password", "pending_password"] {
        let sql = format!("SELECT {column} FROM namespace WHERE {column} NOT LIKE '1.b.%'");
        assert_eq!(backend.texts(&sql).await, [], "{column}");
    }
    let newest = backend.open_with(&[KEY_B]).await.unwrap();
    let found = newest.namespaces(Select::All).await.unwrap();
    assert_eq!(found.len(), all.len());
    for (found, first) in found.iter().zip(&all) {
        assert_eq!(found.rotation, first.rotation);
    }
    assert_eq!(found[7].expires, all[7].expires.plus(Duration::from_secs(200)), "no write was undone");
    assert_eq!(backend.rekey(&[KEY_A, KEY_B]).await, Rekeyed::default(), "nothing is left to do");
}

async fn what_cannot_be_opened_is_counted_and_left_as_it_is(backend: Backend) {
    let store = backend.store().await;
    insert(&*store, &[settled("taskcluster-a", 1), settled("taskcluster-b", 1)]).await;
    backend.execute("UPDATE namespace SET active_password = '1.lost.AAAA' WHERE name = 'taskcluster-a'").await;
    let rekeyed = backend.rekey(&[KEY_A, KEY_B]).await;
    assert_eq!(rekeyed, Rekeyed { resealed: 1, unreadable: 1, left: 0 });
    let sealed = backend.texts("SELECT active_password FROM namespace WHERE name = 'taskcluster-a'").await;
    assert_eq!(sealed, [Some("1.lost.AAAA".to_owned())]);
}

async fn due_gives_what_is_due_or_abandoned_longest_due_first(backend: Backend) {
    let store = backend.store().await;
    let all = [
        settled("taskcluster-now", 100),
        settled("taskcluster-later", 101),
        settled("taskcluster-long", 20),
        pending(settled("taskcluster-working", 10), 91),
        pending(settled("taskcluster-died", 30), 90),
        // It was begun although it was not due.
        pending(settled("taskcluster-early", 500), 80),
        tombstone(settled("taskcluster-gone", 1)),
        tombstone(pending(settled("taskcluster-gone-died", 1), 1)),
        Namespace { rotation: Rotation::first(Password::random(), at(90)), ..settled("taskcluster-first", 0) },
    ];
    insert(&*store, &all).await;
    let due = |limit| store.namespaces(Select::Due { now: at(100), abandoned: at(90), limit });
    let expected =
        ["taskcluster-long", "taskcluster-died", "taskcluster-first", "taskcluster-now", "taskcluster-early"];
    for limit in [0, 1, 3, 4, 5, 100] {
        let found = due(limit).await.unwrap();
        assert_eq!(names(&found), expected[..expected.len().min(limit as usize)], "{limit}");
        let (abandoned, now) = (Duration::from_secs(10), at(100));
        assert!(found.iter().all(|namespace| namespace.rotation.is_due(now, abandoned)));
    }
}

async fn changed_gives_what_others_wrote_or_removed_since_it_was_read(backend: Backend) {
    let store = backend.store().await;
    let names = ["same", "written", "gone", "removed", "sealed"].map(|n| format!("taskcluster-{n}"));
    let old = names.each_ref().map(|name| settled(name, 1));
    insert(&*store, &old).await;
    insert(&*store, &[settled("taskcluster-unasked", 1)]).await;
    let known: Vec<_> = old.iter().map(|namespace| (namespace.name.clone(), Version(1))).collect();
    assert_eq!(store.changed(&known).await.unwrap(), []);
    assert_eq!(store.changed(&[]).await.unwrap(), []);

    let written = pending(stored(&old[1]), 5);
    let gone = tombstone(stored(&old[2]));
    insert(&*store, &[written.clone(), gone.clone()]).await;
    let remove = Record::RemoveNamespace(old[3].name.clone(), Version(1));
    store.write(&[Change { record: remove, notices: Vec::new(), audits: Vec::new() }]).await.unwrap();
    backend.execute("UPDATE namespace SET active_password = 'x', version = 2 WHERE name = 'taskcluster-sealed'").await;
    let mut changed = store.changed(&known).await.unwrap();
    changed.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        (name("taskcluster-gone"), Some(stored(&gone))),
        (name("taskcluster-removed"), None),
        (name("taskcluster-written"), Some(stored(&written))),
    ];
    assert_eq!(changed, expected);
    // An older version than the known one, as after a restored backup, is another one.
    let ahead = [(old[0].name.clone(), Version(7))];
    assert_eq!(store.changed(&ahead).await.unwrap(), [(old[0].name.clone(), Some(stored(&old[0])))]);
}

async fn a_beat_begins_anew_after_a_pause(backend: Backend) {
    const MINUTE: Duration = Duration::from_secs(60);
    let (store, served) = (backend.store().await, Duration::ZERO);
    // Only a store without a server takes the time from the caller.
    let now = match &backend {
        Backend::Sqlite(_) => at(1000),
        Backend::Postgres(_) => at(-1000),
    };
    let beat = async |gap| store.beat(&Beat { now, gap, elapsed: Duration::ZERO, boot: None }).await;
    assert_eq!(store.vitals(now, None).await.unwrap().heartbeat, None);
    let first = beat(MINUTE).await.unwrap();
    let vitals = store.vitals(now, None).await.unwrap();
    assert_eq!(
        vitals.heartbeat,
        Some(Heartbeat { last: first, since: at(0), served }),
        "nobody was cut off before the first"
    );
    match &backend {
        Backend::Sqlite(_) => assert_eq!((first, vitals.now), (now, now)),
        Backend::Postgres(_) => {
            let real = SystemClock.now();
            assert!(vitals.now >= first && real.since(first) < MINUTE && first.since(real) < MINUTE, "{vitals:?}");
        }
    }

    let sets_back = |seconds: i64| format!("UPDATE heartbeat SET last = last - {seconds}000");
    backend.execute(&sets_back(59)).await;
    let second = beat(2 * MINUTE).await.unwrap();
    assert_eq!(
        store.vitals(now, None).await.unwrap().heartbeat,
        Some(Heartbeat { last: second, since: at(0), served })
    );
    backend.execute(&sets_back(121)).await;
    let back = beat(2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now, None).await.unwrap().heartbeat, Some(Heartbeat { last: back, since: back, served }));
    let next = beat(2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now, None).await.unwrap().heartbeat, Some(Heartbeat { last: next, since: back, served }));
    // The store's clock was wrong, and is set back.
    backend.execute("UPDATE heartbeat SET last = 9000000000000").await;
    let right = beat(2 * MINUTE).await.unwrap();
    assert!(right < Timestamp::from_millis(9_000_000_000_000));
    assert_eq!(store.vitals(now, None).await.unwrap().heartbeat, Some(Heartbeat { last: right, since: back, served }));
    backend.execute("UPDATE heartbeat SET last = 9000000000000, since = 9000000000000").await;
    let right = beat(2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now, None).await.unwrap().heartbeat, Some(Heartbeat { last: right, since: right, served }));
    assert_eq!(backend.texts("SELECT CAST(count(*) AS TEXT) FROM heartbeat").await, [Some("1".to_owned())]);
}

async fn the_served_time_grows_by_what_has_passed_by_both_clocks_and_never_by_more_than_a_pause(backend: Backend) {
    const SECOND: Duration = Duration::from_secs(1);
    let store = backend.store().await;
    // By the store's clock, `later` seconds after the last beat, of a process with this `elapsed` time since its own.
    let served = async |later: i64, elapsed: u32| {
        let last = match &backend {
            Backend::Sqlite(_) => format!("{}", 1_000_000 - later * 1000),
            Backend::Postgres(_) => {
                format!("floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {later} * 1000")
            }
        };
        backend.execute(&format!("UPDATE heartbeat SET last = {last}")).await;
        let beat = Beat { now: at(1000), gap: 120 * SECOND, elapsed: elapsed * SECOND, boot: None };
        store.beat(&beat).await.unwrap();
        store.vitals(at(1000), None).await.unwrap().heartbeat.unwrap().served.as_secs()
    };
    assert_eq!(served(0, 50).await, 0, "it begins with the first");
    assert_eq!(served(15, 15).await, 15);
    assert_eq!(served(7, 15).await, 22, "another process had one");
    assert_eq!(served(21_600, 15).await, 37, "the calendar was set forward");
    assert_eq!(served(21_600, 21_600).await, 157, "it stood still for long");
    assert_eq!(served(-21_600, 15).await, 157, "the calendar was set back");
    assert_eq!(served(21_600, 0).await, 157, "it has just begun");
}

async fn a_beat_tells_how_far_the_calendar_of_its_host_is_ahead(backend: Backend) {
    let store = backend.store().await;
    let beat = async |now, boot: &str, right| {
        let beat =
            Beat { now: at(now), gap: Duration::ZERO, elapsed: Duration::ZERO, boot: Some((boot.into(), right)) };
        store.beat(&beat).await.unwrap();
    };
    let right = async |boot| store.vitals(at(1000), boot).await.unwrap().right.map(|right| right.ahead);
    assert_eq!(right(Some("a")).await, None);
    beat(1000, "a", 5).await;
    beat(1000, "b", -7).await;
    beat(1000, "a", 6).await;
    assert_eq!(
        [right(Some("a")).await, right(Some("b")).await, right(Some("c")).await, right(None).await],
        [Some(6), Some(-7), None, None]
    );
    backend.execute("UPDATE boot SET seen = seen - 8000000000 WHERE boot = 'b'").await;
    beat(1000, "a", 6).await;
    assert_eq!([right(Some("a")).await, right(Some("b")).await], [Some(6), None]);
}

async fn watches_may_have_any_queue_name(backend: Backend) {
    let store = backend.store().await;
    let queues = ["queue/a/\0", "queue/a/\u{1a}", "queue/a/\u{1a}0", "queue/a/'; --", "queue/a/ü\n💌"];
    let all: Vec<Watched> = queues.iter().map(|queue| Watched { failure_told: None, ..watched(queue) }).collect();
    let changes: Vec<Change> = all.iter().map(put_watched).collect();
    for expected in [Write::Done, Write::Lost] {
        assert_eq!(store.write(&changes).await.unwrap(), vec![expected; queues.len()]);
    }
    let found = store.watches().await.unwrap();
    for watched in &all {
        assert!(found.contains(&Watched { version: Version(1), ..watched.clone() }), "{watched:?} in {found:?}");
    }
    for (number, mail) in [Mail::Nobody, Mail::Waiting, Mail::Accepted(at(7))].into_iter().enumerate() {
        let told = Told { at: at(6), cause: Kind::Looping, messages: i64::MAX as u64, mail };
        let watch = Watch { told: Some(told), ..all[0].watch.clone() };
        let huge = Watched { watch, messages: i64::MAX as u64, queue: number.to_string(), ..all[0].clone() };
        store.write(&[put_watched(&huge)]).await.unwrap();
        assert!(store.watches().await.unwrap().contains(&Watched { version: Version(1), ..huge }));
    }
    let changes: Vec<Change> = queues
        .iter()
        .map(|queue| Change {
            record: Record::RemoveWatch((*queue).to_owned(), Version(1)),
            notices: Vec::new(),
            audits: Vec::new(),
        })
        .collect();
    assert_eq!(store.write(&changes).await.unwrap(), vec![Write::Done; queues.len()]);
}

async fn an_accepted_notice_is_forgotten_and_noted_in_the_watch_that_it_tells_of(backend: Backend) {
    let store = backend.store().await;
    let about = |id: &str, queue: &str, told| {
        let about = About { queue: queue.to_owned(), first_seen: at(1), told: Some(at(told)) };
        Notice { about: Some(about), ..notice(id, 1) }
    };
    let queue = "queue/a/\0";
    let notices = vec![about("old", queue, 2), about("it", queue, 3), about("again", queue, 3)];
    store.write(&[Change { notices, ..put_watched(&watched(queue)) }, put_watched(&watched("other"))]).await.unwrap();
    let mut expected = store.watches().await.unwrap();
    let taken = store.take_notices(at(9), at(99), 9).await.unwrap();
    assert_eq!(taken.iter().find(|taken| taken.id == "it").unwrap().about, about("it", queue, 3).about);
    let accepted = |ids: &[&str], told| {
        let accepted = |id: &&str| Accepted { id: (*id).to_owned(), warning: Some((queue.to_owned(), at(told))) };
        ids.iter().map(accepted).collect::<Vec<_>>()
    };
    // One that told of something before counts for nothing.
    store.accept_notices("a@a.com", &accepted(&["old"], 2), at(20)).await.unwrap();
    assert_eq!(store.watches().await.unwrap(), expected);
    let mine = expected.iter_mut().find(|found| found.queue == queue).unwrap();
    assert!(mine.watch.accept(at(3), at(30)));
    mine.version = mine.version.next();
    for ids in [&["it"][..], &["it"], &["again", "unknown"]] {
        store.accept_notices("a@a.com", &accepted(ids, 3), at(if ids == ["it"] { 30 } else { 40 })).await.unwrap();
        assert_eq!(store.watches().await.unwrap(), expected, "{ids:?}");
    }
    assert!(store.take_notices(at(199), at(299), 9).await.unwrap().is_empty());
    // Whoever read it before has lost.
    assert_eq!(
        store.write(&[put_watched(&Watched { version: Version(1), ..watched(queue) })]).await.unwrap(),
        [Write::Lost]
    );
}

async fn many_notices_are_accepted_at_once_and_each_counts_for_its_own_queue(backend: Backend) {
    let store = backend.store().await;
    let of = |number: usize| format!("queue/a/{number}\0");
    let warned = |number: usize| {
        let about = About { queue: of(number), first_seen: at(1), told: Some(at(3)) };
        Notice { about: Some(about), ..notice(&number.to_string(), 1) }
    };
    let told = |number| Change { notices: vec![warned(number)], ..put_watched(&watched(&of(number))) };
    store.write(&(0..300).map(told).collect::<Vec<_>>()).await.unwrap();
    let plain = Notice { about: None, ..notice("plain", 1) };
    insert_notices(&*store, vec![plain.clone()]).await;
    store.note_refusal("a@a.com", at(9), at(0)).await.unwrap();
    let accepted: Vec<_> = (0..300)
        .filter(|number: &usize| !number.is_multiple_of(3))
        .map(|number| Accepted::from(&warned(number)))
        .collect();
    let accepted = [accepted, vec![Accepted::from(&plain)]].concat();
    // A sweep writes the same records, in its order.
    let sweep = async {
        let read = store.watches().await.unwrap();
        let changes: Vec<_> = read
            .iter()
            .rev()
            .map(|watched| Change { record: Record::Watch(watched.clone()), notices: vec![], audits: vec![] })
            .collect();
        store.write(&changes).await.unwrap()
    };
    let (noted, _) = tokio::join!(store.accept_notices("a@a.com", &accepted, at(30)), sweep);
    noted.unwrap();
    for watched in store.watches().await.unwrap() {
        let number: usize = watched.queue.trim_start_matches("queue/a/").trim_end_matches('\0').parse().unwrap();
        let mail = if number.is_multiple_of(3) { Mail::Waiting } else { Mail::Accepted(at(30)) };
        assert_eq!(watched.watch.told.unwrap().mail, mail, "{watched:?}");
    }
    assert_eq!(store.take_notices(at(99), at(999), 1000).await.unwrap().len(), 100);
    assert!(store.recipients().await.unwrap().refusals.is_empty(), "it took a mail");
}

async fn recipients_are_known_by_any_name(backend: Backend) {
    let store = backend.store().await;
    assert_eq!(store.recipients().await.unwrap(), Recipients::default());
    for (address, seconds, forget) in [("a\0", 1, 0), ("b", 2, 0), ("a\0", 5, 0), ("c", 6, 2)] {
        store.note_refusal(address, at(seconds), at(forget)).await.unwrap();
    }
    let mute = |since, until: Option<i64>| Mute { since: at(since), until: until.map(at) };
    let queue = "queue/a/\0\u{1a}";
    assert!(!store.mute(queue, Some(mute(1, Some(2)))).await.unwrap());
    assert!(store.mute(queue, Some(mute(3, None))).await.unwrap());
    assert!(!store.mute("taskcluster-x", Some(mute(4, Some(5)))).await.unwrap());
    let refusals = [("a\0".to_owned(), at(5)), ("c".to_owned(), at(6))].into();
    let mutes = [(queue.to_owned(), mute(3, None)), ("taskcluster-x".to_owned(), mute(4, Some(5)))].into();
    assert_eq!(store.recipients().await.unwrap(), Recipients { refusals, mutes });
    assert_eq!([store.mute(queue, None).await.unwrap(), store.mute(queue, None).await.unwrap()], [true, false]);
    assert_eq!(store.recipients().await.unwrap().mutes.len(), 1);
}

async fn more_notices_to_one_address_are_taken_if_they_can_be_told_together(backend: Backend) {
    let store = backend.store().await;
    let to = |id: &str, to: &str, due| Notice { to: to.to_owned(), ..notice(id, due) };
    let alone = Notice { brief: None, ..to("alone", "a\0@a.com", 1) };
    let all = vec![
        to("1", "a\0@a.com", 2),
        to("2", "a\0@a.com", 1),
        to("late", "a\0@a.com", 9),
        to("b", "b@a.com", 1),
        alone,
    ];
    insert_notices(&*store, all).await;
    let take = async |limit| store.take_notices_to("a\0@a.com", at(5), at(50), limit).await.unwrap();
    assert_eq!(take(1).await, [Notice { attempts: 1, due: at(50), ..to("2", "a\0@a.com", 1) }]);
    assert_eq!(take(9).await.into_iter().map(|notice| notice.id).collect::<Vec<_>>(), ["1"]);
    assert_eq!(take(9).await, []);
    assert_eq!(store.take_notices(at(5), at(50), 9).await.unwrap().len(), 2);
}

async fn histories_are_written_and_removed_many_at_once(backend: Backend) {
    let store = backend.store().await;
    let look = |n: u64| Look { at: at(1000), ready: n, unacked: 0, total: n, consumers: Some(1), counters: None };
    let names = ["queue/a/\0", "queue/a/\u{1a}0", "b", "c"];
    let all: Vec<_> = (0..).zip(names).map(|(n, queue)| (queue.to_owned(), Some(History::begin(look(n), n)))).collect();
    store.write_histories(&all).await.unwrap();
    let next = ("b".to_owned(), Some(History::begin(look(9), 9)));
    store.write_histories(&[next.clone(), ("c".to_owned(), None), ("unknown".to_owned(), None)]).await.unwrap();
    let found = store.histories().await.unwrap();
    let expected = [all[0].clone(), all[1].clone(), next];
    assert_eq!(found, expected.into_iter().filter_map(|(queue, history)| Some((queue, history?))).collect());
    store.write_histories(&[]).await.unwrap();
    let some = ["unknown", "queue/a/\u{1a}0", "b"].map(str::to_owned);
    let (watches, seen) = store.seen_of(&some).await.unwrap();
    assert_eq!((watches, seen.keys().map(String::as_str).collect::<Vec<_>>()), (vec![], vec!["b", "queue/a/\u{1a}0"]));
    assert_eq!(store.seen_of(&[]).await.unwrap(), Default::default());
}

/// A busy queue with statistics, looked at every two minutes. `--nocapture` shows the figure.
fn two_weeks() -> History {
    const LOOKS: u64 = 14 * 24 * 30;
    let look = |n: u64| {
        let (ready, unacked) = (n * 7919 % 40_000, n * 104_729 % 500);
        let counters = Counters { acknowledged: n * 7000 + n % 13, delivered: n * 7100, redelivered: n * 90 };
        let at = at(120 * n as i64);
        Look { at, ready, unacked, total: ready + unacked, consumers: Some(n as u32 % 9), counters: Some(counters) }
    };
    let mut history = History::begin(look(0), 7);
    (1..LOOKS).for_each(|n| {
        history.add(look(n), 7);
    });
    history
}

async fn a_history_of_two_weeks_takes_few_bytes_of_the_database(backend: Backend) {
    const QUEUES: usize = 500;
    let store = backend.store().await;
    let history = two_weeks();
    let all: Vec<_> = (0..QUEUES).map(|n| (format!("queue/taskcluster-{n}/tasks"), Some(history.clone()))).collect();
    let size = async || {
        let sql = match &backend {
            Backend::Sqlite(_) => {
                "SELECT CAST(page_count * page_size AS TEXT) FROM pragma_page_count, pragma_page_size"
            }
            Backend::Postgres(_) => "SELECT pg_total_relation_size('history')::text",
        };
        backend.texts(sql).await[0].as_deref().unwrap().parse::<usize>().unwrap()
    };
    let before = size().await;
    store.write_histories(&all).await.unwrap();
    let bytes = (size().await - before) / QUEUES;
    println!("{bytes} bytes a queue, of which the history is {}", history.to_bytes().len());
    assert!((history.to_bytes().len()..MAX_BYTES).contains(&bytes), "{bytes}");
}

async fn a_notice_is_taken_once_until_it_is_retried_or_removed(backend: Backend) {
    let store = backend.store().await;
    insert_notices(&*store, vec![notice("c", 3), notice("a", 5), notice("b", 4), notice("d", 6)]).await;
    let take = |now, retry, limit| {
        let store = store.clone();
        async move { store.take_notices(at(now), at(retry), limit).await.unwrap() }
    };
    let expected =
        [Notice { attempts: 1, due: at(15), ..notice("c", 3) }, Notice { attempts: 1, due: at(15), ..notice("b", 4) }];
    assert_eq!(take(5, 15, 2).await, expected);
    assert_eq!(take(5, 15, 9).await, [Notice { attempts: 1, due: at(15), ..notice("a", 5) }]);
    assert_eq!(take(5, 15, 9).await, []);
    for _ in 0..2 {
        store.accept_notices("a@a.com", &[Accepted { id: "c".to_owned(), warning: None }], at(6)).await.unwrap();
    }
    store.postpone_notices(&["b".to_owned(), "unknown".to_owned()], at(30)).await.unwrap();
    let ids =
        |taken: Vec<Notice>| taken.iter().map(|n| format!("{}{}", n.id, n.attempts)).collect::<Vec<_>>().join(" ");
    assert_eq!(ids(take(29, 40, 9).await), "a2 d1");
    assert_eq!(ids(take(30, 40, 9).await), "b2");
    assert_eq!(ids(take(39, 50, 9).await), "");
    assert_eq!(ids(take(40, 50, 9).await), "b3 a3 d2");
}

async fn a_notice_that_is_given_up_is_kept_with_why_for_a_while(backend: Backend) {
    let store = backend.store().await;
    let of = |namespace: &str, id: &str| Notice { namespace: name(namespace), ..notice(id, 10) };
    let odd = Notice { subject: "\0\u{1a} odd".into(), ..of("taskcluster-y", "y1") };
    let mut all: Vec<_> = ["x1", "x2", "x3"].into_iter().map(|id| of("taskcluster-x", id)).collect();
    all.push(odd.clone());
    insert_notices(&*store, all).await;
    let keep = |since| Keep { since: at(since), most: 2 };
    let why = "no such \0 mailbox";
    store.give_up_notice("y1", at(20), why, keep(0)).await.unwrap();
    let given_up = Undelivered { notice: odd, given_up: at(20), why: why.into() };
    assert_eq!(store.undelivered(9).await.unwrap(), [given_up]);
    for (id, seconds) in [("x1", 30), ("x2", 40), ("x3", 50), ("x3", 60), ("unknown", 70)] {
        store.give_up_notice(id, at(seconds), "why", keep(0)).await.unwrap();
    }
    let kept = async || {
        let kept = store.undelivered(9).await.unwrap();
        kept.into_iter().map(|given_up| (given_up.notice.id, given_up.given_up)).collect::<Vec<_>>()
    };
    let (x3, x2) = (("x3".to_owned(), at(50)), ("x2".to_owned(), at(40)));
    assert_eq!(kept().await, [x3.clone(), x2, ("y1".to_owned(), at(20))], "two of each namespace, the last ones");
    assert_eq!(store.undelivered(1).await.unwrap().len(), 1);
    store.give_up_notice("unknown", at(80), "why", keep(40)).await.unwrap();
    assert_eq!(kept().await, [x3]);
    assert_eq!(store.take_notices(at(1000), at(2000), 10).await.unwrap(), []);
}

async fn two_takers_at_once_get_different_notices(backend: Backend) {
    let stores = [backend.store().await, backend.store().await];
    insert_notices(&*stores[0], (0..200).map(|n| notice(&format!("{n:03}"), n)).collect()).await;
    let takers = stores.map(|store| {
        tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let some = store.take_notices(at(1000), at(2000), 7).await.unwrap();
                if some.is_empty() {
                    return taken;
                }
                taken.extend(some.into_iter().map(|notice| notice.id));
            }
        })
    });
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    taken.sort();
    assert_eq!(taken, (0..200).map(|n| format!("{n:03}")).collect::<Vec<_>>());
}

async fn of_many_sightings_of_one_request_the_first_counts(backend: Backend) {
    let (one, other) = (backend.store().await, backend.open_with(&[KEY_A]).await.unwrap());
    let sighting = |body: u8, seen| Sighting { body: [body; 32], seen: at(seen) };
    let sight = async |store: &Arc<dyn Store>, request: u8, seen| {
        store.sight(&[([request; 32], seen)]).await.unwrap()[..] == [seen]
    };
    assert!(sight(&one, 1, sighting(1, 10)).await);
    assert_eq!(other.sight(&[([1; 32], sighting(2, 20))]).await.unwrap(), [sighting(1, 10)]);
    assert!(sight(&other, 2, sighting(2, 20)).await);
    // Several at once: each has its own, also where one is there twice.
    let several = [
        ([2; 32], sighting(9, 30)),
        ([4; 32], sighting(4, 30)),
        ([1; 32], sighting(9, 30)),
        ([4; 32], sighting(5, 31)),
    ];
    let firsts = [sighting(2, 20), sighting(4, 30), sighting(1, 10), sighting(4, 30)];
    assert_eq!(one.sight(&several).await.unwrap(), firsts);
    assert!(one.sight(&[]).await.unwrap().is_empty());
    let at_once = (0..20).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        async move {
            let seen = |request: u8| ([request; 32], Sighting { body: [n; 32], seen: at(40) });
            let order = if n % 4 < 2 { [seen(3), seen(5)] } else { [seen(5), seen(3)] };
            let mut firsts = store.sight(&order).await.unwrap();
            if n % 4 >= 2 {
                firsts.reverse();
            }
            firsts
        }
    });
    let firsts = futures::future::join_all(at_once).await;
    assert!(firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
}

async fn old_sightings_are_forgotten_by_and_by(backend: Backend) {
    let store = backend.store().await;
    let seen = |request: u8| ([request; 32], Sighting { body: [0; 32], seen: at(request.into()) });
    let count = || backend.texts("SELECT CAST(count(*) AS TEXT) FROM sighting");
    store.sight(&(0..20).map(seen).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.forget_sightings(at(9), 8).await.unwrap(), 8);
    assert_eq!(count().await, [Some("12".to_owned())], "eight of the ten that are old");
    assert_eq!(store.forget_sightings(at(9), 8).await.unwrap(), 2);
    assert_eq!(store.forget_sightings(at(9), 8).await.unwrap(), 0);
    let again = ([10; 32], Sighting { body: [0; 32], seen: at(22) });
    assert_eq!(store.sight(&[again]).await.unwrap()[0].seen, at(10), "what is not old is kept");
}

async fn many_namespaces_are_read_at_once_in_the_order_of_their_names(backend: Backend) {
    let store = backend.store().await;
    insert(&*store, &["a", "b"].map(|name| settled(name, 100))).await;
    let names = ["b", "none", "a", "b"].map(name);
    let found = store.named(&names).await.unwrap();
    for (one, found) in names.iter().zip(found) {
        assert_eq!(found.unwrap(), store.namespace(one).await.unwrap());
    }
    assert!(store.named(&[]).await.unwrap().is_empty());
    // One that can't be opened hides no other.
    backend.execute("UPDATE namespace SET active_password = '1.unknown.AAAA' WHERE name = 'a'").await;
    let found = store.named(&names).await.unwrap();
    assert!(matches!(found[2], Err(StoreError::Sealed(_))), "{found:?}");
    assert!(found[0].as_ref().is_ok_and(Option::is_some) && found[1].as_ref().is_ok_and(Option::is_none));
}

async fn the_ends_of_many_namespaces_are_moved_at_once_each_over_what_was_read(backend: Backend) {
    let store = backend.store().await;
    insert(&*store, &["a", "b", "c", "d"].map(|name| settled(name, 100))).await;
    let read = async |text: &str| store.namespace(&name(text)).await.unwrap().unwrap();
    let renewal = async |text: &str, expires| {
        let before = read(text).await;
        let (end_asked, matures) = (Some(at(expires)), Some(Duration::from_secs(7)));
        let after = Namespace { expires: at(expires), end_asked, matures, ..before.clone() };
        (Renewal::between(&before, &after).unwrap(), before)
    };
    let (a, before) = renewal("a", 500).await;
    assert_eq!(store.renew(std::slice::from_ref(&a)).await.unwrap(), [Write::Done]);
    assert_eq!(read("a").await, a.applied_to(&before), "and nothing else is changed");
    let (b, c, d) = (renewal("b", 600).await.0, renewal("c", 700).await.0, renewal("d", 800).await.0);
    let other = Renewal { due: at(123_456), ..c.clone() };
    let absent = Renewal { name: name("none"), ..b.clone() };
    let written = store.renew(&[d.clone(), a.clone(), b.clone(), absent, other]).await.unwrap();
    assert_eq!(written, [Write::Done, Write::Lost, Write::Done, Write::Lost, Write::Lost]);
    assert_eq!((read("a").await.expires, read("b").await.expires), (at(500), at(600)));
    assert_eq!((read("c").await.expires, read("d").await.expires), (settled("c", 100).expires, at(800)));
    assert_eq!(store.renew(&[c]).await.unwrap(), [Write::Done]);
    assert!(store.renew(&[]).await.unwrap().is_empty());
}

fn signed(id: usize) -> Audit {
    audit(id, 1, None, Actor::Person("you@example.com".to_owned()))
}

fn session_of(subject: &str, created: i64) -> Session {
    let scopes = vec!["pulse:namespace:x\0".to_owned()];
    let person = Person {
        subject: subject.to_owned(),
        address: Some("you@example.com".to_owned()),
        groups: vec!["releng".to_owned(), "\u{fc}\"".to_owned()],
        scopes,
    };
    Session::begin(person, at(created))
}

async fn a_session_is_known_by_its_hash_until_it_is_ended_and_the_trail_has_both(backend: Backend) {
    let store = backend.store().await;
    let noted = async || store.audits(&AuditFilter::default(), 100).await.unwrap().len();
    let (one, two, other) = (session_of("a|1\0", 1000), session_of("a|1\0", 2000), session_of("b|1", 3000));
    for (id, session) in [(1, &one), (2, &two), (3, &other)] {
        store.begin_session(&[id; 32], session, &signed(id.into())).await.unwrap();
    }
    assert_eq!(noted().await, 3);
    assert_eq!(store.session(&[1; 32]).await.unwrap(), Some(one.clone()));
    assert_eq!(store.session(&[9; 32]).await.unwrap(), None);
    assert_eq!(store.sessions_of("a|1\0").await.unwrap(), [two.clone(), one.clone()]);
    store.see_session(&[1; 32], at(5000)).await.unwrap();
    assert_eq!(store.session(&[1; 32]).await.unwrap().map(|session| session.seen), Some(at(5000)));
    assert!(store.end_session(&[1; 32], &signed(11)).await.unwrap());
    assert!(!store.end_session(&[1; 32], &signed(12)).await.unwrap());
    assert_eq!((store.session(&[1; 32]).await.unwrap(), noted().await), (None, 4));
    assert_eq!(store.end_sessions_of("a|1\0", &signed(13)).await.unwrap(), 1);
    assert_eq!(store.end_sessions_of("a|1\0", &signed(14)).await.unwrap(), 0);
    assert_eq!((store.sessions_of("b|1").await.unwrap(), noted().await), (vec![other.clone()], 5));
    // Those that are over go as others begin.
    let later = session_of("c|1", 3000 + 12 * 3600);
    store.begin_session(&[4; 32], &later, &signed(15)).await.unwrap();
    assert_eq!((store.session(&[3; 32]).await.unwrap(), store.session(&[4; 32]).await.unwrap()), (None, Some(later)));
}

async fn who_is_kept_from_signing_in_has_no_session_until_let_in_again(backend: Backend) {
    let store = backend.store().await;
    let (one, other) = (session_of("a|1\0", 1000), session_of("b|1", 3000));
    for (id, session) in [(1, &one), (2, &one), (3, &other)] {
        store.begin_session(&[id; 32], session, &signed(id.into())).await.unwrap();
    }
    let subjects = async || {
        let found = store.sessions(10).await.unwrap().into_iter();
        found.map(|session| session.person.subject).collect::<Vec<_>>()
    };
    assert_eq!(subjects().await, ["b|1", "a|1\0", "a|1\0"]);
    assert_eq!(store.sessions(1).await.unwrap(), std::slice::from_ref(&other));
    let barred = BarredPerson {
        subject: "a|1\0".to_owned(),
        name: "you@example.com".to_owned(),
        since: at(5),
        by: "person boss".to_owned(),
        reason: "left\0".to_owned(),
    };
    assert!(store.bar_person(&barred, &signed(11)).await.unwrap());
    assert!(
        !store.bar_person(&BarredPerson { reason: "again".to_owned(), ..barred.clone() }, &signed(12)).await.unwrap()
    );
    assert_eq!(store.barred_people().await.unwrap(), [barred]);
    assert_eq!((subjects().await, store.session(&[1; 32]).await.unwrap()), (vec!["b|1".to_owned()], None));
    // One that begins at the same moment holds no more.
    store.begin_session(&[4; 32], &one, &signed(13)).await.unwrap();
    assert_eq!(store.session(&[4; 32]).await.unwrap(), None);
    assert_eq!(store.session(&[3; 32]).await.unwrap(), Some(other));
    assert!(store.let_person_in("a|1\0", &signed(14)).await.unwrap());
    assert!(!store.let_person_in("a|1\0", &signed(15)).await.unwrap());
    assert_eq!(store.session(&[4; 32]).await.unwrap(), Some(one));
    let ids: Vec<_> = store.audits(&AuditFilter::default(), 100).await.unwrap().into_iter().map(|of| of.id).collect();
    assert_eq!(ids, ["id-014", "id-013", "id-011", "id-003", "id-002", "id-001"]);
}

async fn the_last_run_of_each_task_is_kept(backend: Backend) {
    let store = backend.store().await;
    assert_eq!(store.runs().await.unwrap(), []);
    let run = |task: &str, seconds, good, seen: Option<u64>| TaskRun {
        task: task.to_owned(),
        at: at(seconds),
        good,
        summary: "seen 1\0".to_owned(),
        refused: seconds.unsigned_abs(),
        figures: seen.map(|seen| ("seen".to_owned(), seen)).into_iter().collect(),
        good_at: None,
    };
    let noted =
        [run("b", 1, false, None), run("a", 2, true, None), run("b", 3, true, Some(7)), run("b", 4, false, None)];
    for one in noted {
        store.note_run(&one).await.unwrap();
    }
    let good = |run: TaskRun, seconds| TaskRun { good_at: Some(at(seconds)), ..run };
    let (a, b) = (good(run("a", 2, true, None), 2), good(run("b", 4, false, Some(7)), 3));
    assert_eq!(store.runs().await.unwrap(), [a, b], "figures stay until there are others");
}

async fn figures_are_sums_over_all_tables(backend: Backend) {
    let store = backend.store().await;
    assert_eq!(store.figures(at(0)).await.unwrap(), Figures::default());
    let of = |name: &str, due: i64| {
        let rotation = Rotation { due: at(due), grace: Duration::from_secs(100), ..settled(name, 1).rotation };
        Namespace { rotation, ..settled(name, 1) }
    };
    let disabled = Disabled { since: at(1), by: "client x".to_owned(), reason: "so".to_owned() };
    let barred = Barred { disabled: Some(disabled.into()), ..Barred::default() };
    let revoked = Barred { revoked: Some(Revoked { from: at(1), done: false }), ..Barred::default() };
    let account = Namespace { account: Some(Account::new(at(7)).into()), ..of("taskcluster-e", 0) };
    let account = Namespace { rotation: account.rotation.settle_until_asked(), ..account };
    let records = [
        of("taskcluster-a", 1000),
        Namespace { barred: revoked, ..of("taskcluster-b", 2000) },
        Namespace { barred, ..of("taskcluster-c", 1) },
        Namespace { gone: Some(Gone { since: at(5), cleaning_until: None }), ..of("taskcluster-d", 1) },
        account,
    ];
    let changes: Vec<_> = records
        .iter()
        .map(|of| Change { record: Record::Namespace(of.clone()), notices: vec![], audits: vec![] })
        .collect();
    store.write(&changes).await.unwrap();
    let figures = Figures {
        namespaces: 2,
        accounts: 1,
        disabled: 1,
        gone: 1,
        revoking: 1,
        due: 1,
        first_due: Some(at(1000)),
        first_end: Some(at(1100)),
        last_switch: Some(at(1800)),
        oldest_password: Some(at(800)),
        ..Figures::default()
    };
    assert_eq!(store.figures(at(1000)).await.unwrap(), figures);
    assert_eq!(store.figures(at(999)).await.unwrap(), Figures { due: 0, ..figures });
}

async fn outlines_show_live_namespaces_with_all_that_lists_need(backend: Backend) {
    let store = backend.store().await;
    let live = Namespace {
        owners: vec![Owner::parse("group:releng").unwrap()],
        exemptions: vec![exempted("queue/taskcluster-a/*", Some(9), None)],
        requests: vec![requested("queue/taskcluster-a/b", None)],
        claimed_by: Some("me".to_owned()),
        ..settled("taskcluster-a", 1)
    };
    let gone = Namespace { gone: Some(Gone { since: at(5), cleaning_until: None }), ..settled("taskcluster-b", 1) };
    let account = Namespace { account: Some(Account::new(at(7)).into()), ..settled("taskcluster-c", 1) };
    let change = |of: &Namespace| Change { record: Record::Namespace(of.clone()), notices: vec![], audits: vec![] };
    store.write(&[change(&live), change(&gone), change(&account)]).await.unwrap();
    let outlines = store.outlines().await.unwrap();
    let names: Vec<_> = outlines.iter().map(|of| of.summary.name.as_str()).collect();
    assert_eq!(names, ["taskcluster-a", "taskcluster-c"]);
    let Outline { summary, exemptions, requests, claimed_by, disabled, account: none } = outlines[0].clone();
    assert_eq!((summary.owners, exemptions, requests), (live.owners, live.exemptions, live.requests));
    assert_eq!((claimed_by, disabled, none), (live.claimed_by, false, None));
    assert_eq!(outlines[1].account.clone().map(Box::new), account.account);
}

async fn a_lease_has_one_holder_until_it_ends_or_is_released(backend: Backend) {
    let store = backend.store().await;
    let lease = |task, holder, now, until| {
        let store = store.clone();
        async move { store.lease(task, holder, at(now), at(until)).await.unwrap() }
    };
    assert!(lease("rotate", "a", 0, 10).await);
    assert!(!lease("rotate", "b", 9, 20).await);
    assert!(lease("expire", "b", 9, 20).await);
    assert!(lease("rotate", "a", 9, 15).await);
    assert!(!lease("rotate", "b", 14, 20).await);
    assert!(lease("rotate", "b", 15, 20).await);
    assert!(!lease("rotate", "a", 16, 20).await);
    store.release("rotate", "a").await.unwrap();
    assert!(!lease("rotate", "a", 16, 20).await);
    store.release("rotate", "b").await.unwrap();
    assert!(lease("rotate", "a", 16, 20).await);
    store.release("unknown", "a").await.unwrap();
    assert!(lease("sweep", "a clock that is ahead", 100, 130).await);
    assert!(lease("sweep", "b", 1, 31).await);
}

async fn of_many_who_ask_for_a_lease_at_once_one_gets_it(backend: Backend) {
    let stores = [backend.store().await, backend.store().await];
    for turn in 0..10 {
        let askers: Vec<_> = (0..8)
            .map(|asker| {
                let store = stores[asker % 2].clone();
                let (now, until) = (at(turn * 10), at(turn * 10 + 10));
                tokio::spawn(async move { store.lease("task", &format!("{turn}-{asker}"), now, until).await.unwrap() })
            })
            .collect();
        let mut given = 0;
        for asker in askers {
            given += usize::from(asker.await.unwrap());
        }
        assert_eq!(given, 1);
    }
}

const PASSWORDS: &str = "SELECT active_password FROM namespace UNION ALL SELECT previous_password FROM namespace \
                         UNION ALL SELECT pending_password FROM namespace";

async fn stored_passwords_are_sealed(backend: Backend) {
    let store = backend.store().await;
    let mut namespace = pending(settled("taskcluster-x", 1), 1);
    namespace.rotation.previous = Some(login(Slot::Two));
    insert(&*store, std::slice::from_ref(&namespace)).await;
    let sealed: Vec<String> = backend.texts(PASSWORDS).await.into_iter().map(Option::unwrap).collect();
    assert_eq!(sealed.len(), 3);
    assert!(sealed.iter().all(|sealed| sealed.starts_with("1.a.")), "{sealed:?}");
    let Rotation { active, previous, pending, .. } = &namespace.rotation;
    let plain = [active.as_ref(), previous.as_ref(), pending.as_ref().map(|pending| &pending.login)];
    let rows = sealed.join(" ");
    assert!(plain.iter().all(|login| !rows.contains(login.unwrap().password.expose())));
    // The same password is sealed differently each time.
    insert(&*store, &[stored(&namespace)]).await;
    assert!(backend.texts(PASSWORDS).await.into_iter().all(|again| !sealed.contains(&again.unwrap())));
}

async fn sealed_error(store: &dyn Store, text: &str) -> String {
    match store.namespace(&name(text)).await {
        Err(error @ StoreError::Sealed(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn a_sealed_password_does_not_open_in_another_row_or_column(backend: Backend) {
    let store = backend.store().await;
    let all = [settled("taskcluster-a", 1), pending(settled("taskcluster-b", 1), 1)];
    insert(&*store, &all).await;
    let from_b = "(SELECT active_password FROM namespace WHERE name = 'taskcluster-b')";
    backend.execute(&format!("UPDATE namespace SET active_password = {from_b} WHERE name = 'taskcluster-a'")).await;
    let error = sealed_error(&*store, "taskcluster-a").await;
    assert!(error.contains("column active_password of namespace taskcluster-a"), "{error}");
    assert_eq!(store.namespace(&all[1].name).await.unwrap(), Some(stored(&all[1])));
    backend.execute("UPDATE namespace SET pending_password = active_password WHERE name = 'taskcluster-b'").await;
    let error = sealed_error(&*store, "taskcluster-b").await;
    assert!(error.contains("column pending_password of namespace taskcluster-b"), "{error}");
    for garbled in ["", "1.a.AAAA", "2.a.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "1.a.!", "plain"] {
        backend.execute(&format!("UPDATE namespace SET active_password = '{garbled}'")).await;
        sealed_error(&*store, "taskcluster-a").await;
    }
}

async fn without_its_key_a_password_does_not_open(backend: Backend) {
    let namespace = settled("taskcluster-x", 1);
    insert(&*backend.store().await, std::slice::from_ref(&namespace)).await;
    let other_key = backend.open_with(&[KEY_B]).await.unwrap();
    let error = sealed_error(&*other_key, "taskcluster-x").await;
    assert!(error.contains("its key \"a\" is not in the key ring"), "{error}");
    let same_id = backend.open_with(&[&KEY_B.replace(r#""b""#, r#""a""#)]).await.unwrap();
    let error = sealed_error(&*same_id, "taskcluster-x").await;
    assert!(error.contains("is not the one that sealed it"), "{error}");
    // What is no secret is read all the same.
    assert_eq!(other_key.summaries(None, 9).await.unwrap().len(), 1);
}

async fn an_old_key_opens_and_the_newest_seals(backend: Backend) {
    let namespace = settled("taskcluster-x", 1);
    insert(&*backend.store().await, std::slice::from_ref(&namespace)).await;
    let both = backend.open_with(&[KEY_A, KEY_B]).await.unwrap();
    let found = both.namespace(&namespace.name).await.unwrap().unwrap();
    assert_eq!(found, stored(&namespace));
    insert(&*both, &[found]).await;
    let sealed = backend.texts("SELECT active_password FROM namespace").await.remove(0).unwrap();
    assert!(sealed.starts_with("1.b."), "{sealed}");
    let newest = backend.open_with(&[KEY_B]).await.unwrap();
    assert_eq!(newest.namespace(&namespace.name).await.unwrap().unwrap().rotation, namespace.rotation);
}

async fn a_row_that_cannot_be_opened_does_not_hide_the_others(backend: Backend) {
    let store = backend.store().await;
    insert(&*store, &["a", "b", "c"].map(|n| settled(&format!("taskcluster-{n}"), 1))).await;
    backend.execute("UPDATE namespace SET active_password = 'broken' WHERE name = 'taskcluster-b'").await;
    let found = store.namespaces(Select::All).await.unwrap();
    assert_eq!(names(&found), ["taskcluster-a", "taskcluster-c"]);
    sealed_error(&*store, "taskcluster-b").await;
    let sealed = store.namespaces(Select::Sealed).await.unwrap();
    assert_eq!(names(&sealed), ["taskcluster-b"]);
    let active = sealed[0].rotation.active.as_ref().unwrap();
    assert_eq!((active.slot, active.password.expose()), (Slot::One, ""));
    let Namespace { rotation, .. } = settled("taskcluster-b", 9);
    insert(&*store, &[Namespace { rotation, ..sealed[0].clone() }]).await;
    assert_eq!(store.namespaces(Select::Sealed).await.unwrap(), []);
    assert_eq!(store.namespaces(Select::All).await.unwrap().len(), 3);
}

async fn rows_that_cannot_be_opened_do_not_take_the_places_of_those_that_are_due(backend: Backend) {
    let store = backend.store().await;
    let all: Vec<Namespace> = (10..30).map(|n| settled(&format!("taskcluster-{n}"), n / 7)).collect();
    insert(&*store, &all).await;
    backend.execute("UPDATE namespace SET active_password = 'broken' WHERE name < 'taskcluster-27'").await;
    for (limit, expected) in [(1, 1), (2, 2), (3, 3), (4, 3), (17, 3), (20, 3)] {
        let found = store.namespaces(Select::Due { now: at(100), abandoned: at(0), limit }).await.unwrap();
        assert_eq!(names(&found), ["taskcluster-27", "taskcluster-28", "taskcluster-29"][..expected], "{limit}");
    }
}

async fn the_tag_of_a_deployment_is_made_once_and_for_it_alone(backend: Backend) {
    let migrators = (0..4).map(|_| {
        let url = backend.url();
        tokio::spawn(async move { store::migrate(&url).await.unwrap() })
    });
    for migrator in migrators.collect::<Vec<_>>() {
        migrator.await.unwrap();
    }
    let tag = backend.store().await.tag().await.unwrap();
    let id = tag.as_str().strip_prefix("taskcluster-pulse-").unwrap();
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{tag:?}");
    assert_eq!(backend.store().await.tag().await.unwrap(), tag);
    let other = Backend::Sqlite(tempfile::tempdir().unwrap());
    assert_ne!(other.store().await.tag().await.unwrap(), tag);
    backend.execute("DELETE FROM deployment").await;
    assert!(matches!(backend.store().await.tag().await, Err(StoreError::Failed(_))));
}

async fn foreign_users_are_kept_until_they_are_removed(backend: Backend) {
    let store = backend.store().await;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    store.note_foreign_users(&names(&["b", "a"]), &[]).await.unwrap();
    store.note_foreign_users(&names(&["c", "b"]), &names(&["a", "x"])).await.unwrap();
    assert_eq!(store.foreign_users(10).await.unwrap(), ["b", "c"]);
    assert_eq!(store.foreign_users(1).await.unwrap(), ["b"]);
    store.note_foreign_users(&[], &names(&["b", "c"])).await.unwrap();
    assert!(store.foreign_users(10).await.unwrap().is_empty());
}

async fn migrations_run_once_however_many_run_them(backend: Backend) {
    let migrators: Vec<_> = (0..8)
        .map(|_| {
            let url = backend.url();
            tokio::spawn(async move { store::migrate(&url).await.unwrap() })
        })
        .collect();
    let mut applied = Vec::new();
    for migrator in migrators {
        applied.extend(migrator.await.unwrap());
    }
    assert_eq!(
        applied,
        [
            "V1__initial",
            "V2__heartbeat",
            "V3__sightings",
            "V4__clock",
            "V5__deployment",
            "V6__claimed_by",
            "V7__undelivered",
            "V8__watches",
            "V9__digests",
            "V10__audit",
            "V11__ends",
            "V12__accounts",
            "V13__sessions",
            "V14__requests",
            "V15__figures",
            "V16__growth"
        ]
    );
    assert_eq!(store::migrate(&backend.url()).await.unwrap(), Vec::<String>::new());
    backend.open_with(&[KEY_A]).await.unwrap().ping().await.unwrap();
}

async fn schema_error(backend: &Backend) -> [String; 2] {
    let opened = backend.open_with(&[KEY_A]).await.err();
    let migrated = store::migrate(&backend.url()).await.err();
    [opened, migrated].map(|error| match error {
        Some(StoreError::Schema(why)) => why,
        other => panic!("{other:?}"),
    })
}

async fn a_newer_schema_is_refused(backend: Backend) {
    backend.store().await;
    backend.execute("INSERT INTO refinery_schema_history VALUES (99, 'later', '2030-01-01T00:00:00Z', '1')").await;
    for error in schema_error(&backend).await {
        assert!(error.contains("has version 99") && error.contains("newer program"), "{error}");
    }
}

async fn a_foreign_schema_is_refused(backend: Backend) {
    backend.store().await;
    backend.execute("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1").await;
    for error in schema_error(&backend).await {
        assert!(error.contains("version 1 of the database's schema is not the one"), "{error}");
    }
}

async fn the_schema_refuses_what_may_never_be(backend: Backend) {
    let store = backend.store().await;
    let fine = settled("taskcluster-x", 1);
    let mut two_passwords_for_one_user = pending(fine.clone(), 1);
    two_passwords_for_one_user.rotation.pending.as_mut().unwrap().login.slot = Slot::One;
    for never in [
        two_passwords_for_one_user,
        settled("no name", 1),
        settled("no.name", 1),
        settled("", 1),
        settled(&"x".repeat(65), 1),
    ] {
        let result = store.write(&[put(&never), put(&fine)]).await;
        assert!(matches!(result, Err(StoreError::Failed(_))), "{result:?}");
        assert_eq!(store.namespaces(Select::All).await.unwrap(), []);
    }
}

async fn two_stores_on_one_database_see_each_others_writes(backend: Backend) {
    let stores = [backend.store().await, backend.store().await];
    let namespace = settled("taskcluster-x", 1);
    insert(&*stores[0], std::slice::from_ref(&namespace)).await;
    let found = stores[1].namespace(&namespace.name).await.unwrap().unwrap();
    let changed = Namespace { contact: String::new(), ..found };
    insert(&*stores[1], std::slice::from_ref(&changed)).await;
    assert_eq!(stores[0].namespace(&namespace.name).await.unwrap(), Some(stored(&changed)));
}
