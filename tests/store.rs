//! What the store promises, as one suite that runs on SQLite and on PostgreSQL, and what concerns one of them alone.

#[path = "store/postgres.rs"]
mod only_postgres;
#[path = "store/sqlite.rs"]
mod only_sqlite;
#[path = "support/postgres.rs"]
mod support_postgres;

use std::sync::Arc;
use std::time::Duration;

use support_postgres::TestDatabase;
use taskcluster_pulse::clock::{Clock, SystemClock, Timestamp};
use taskcluster_pulse::domain::alert::{Alert, Level};
use taskcluster_pulse::domain::hold::Heartbeat;
use taskcluster_pulse::domain::name::{Name, Slot};
use taskcluster_pulse::domain::namespace::{Gone, Namespace, Version};
use taskcluster_pulse::domain::notice::Notice;
use taskcluster_pulse::domain::rotation::{Credentials, Pending, Rotation};
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::store::{
    self, Change, DatabaseUrl, KeyRing, Limits, Record, Rekeyed, Select, Sighting, Store, StoreError, Summary, Write,
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

    async fn open_with(&self, keys: &[&str]) -> Result<Arc<dyn Store>, StoreError> {
        let keys = KeyRing::parse(&format!("[{}]", keys.join(","))).unwrap();
        let limits = Limits { timeout: Duration::from_secs(20), ..Limits::default() };
        store::open(&self.url(), Some(keys), limits).await
    }

    async fn rekey(&self, keys: &[&str]) -> Rekeyed {
        let keys = KeyRing::parse(&format!("[{}]", keys.join(","))).unwrap();
        store::rekey(&self.url(), Some(keys), Limits::default()).await.unwrap()
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
    };
}

on_both! {
    every_field_comes_back_as_it_was_written,
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
    what_older_keys_sealed_is_sealed_anew_while_others_write,
    what_cannot_be_opened_is_counted_and_left_as_it_is,
    due_gives_what_is_due_or_abandoned_longest_due_first,
    changed_gives_what_others_wrote_or_removed_since_it_was_read,
    a_beat_begins_anew_after_a_pause,
    alerts_may_have_any_queue_name,
    a_notice_is_taken_once_until_it_is_retried_or_removed,
    two_takers_at_once_get_different_notices,
    a_lease_has_one_holder_until_it_ends_or_is_released,
    of_many_who_ask_for_a_lease_at_once_one_gets_it,
    of_many_sightings_of_one_request_the_first_counts,
    old_sightings_are_forgotten_by_and_by,
    stored_passwords_are_sealed,
    a_sealed_password_does_not_open_in_another_row_or_column,
    without_its_key_a_password_does_not_open,
    an_old_key_opens_and_the_newest_seals,
    a_row_that_cannot_be_opened_does_not_hide_the_others,
    rows_that_cannot_be_opened_do_not_take_the_places_of_those_that_are_due,
    migrations_run_once_however_many_run_them,
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

fn credentials(slot: Slot) -> Credentials {
    Credentials { slot, password: Password::random() }
}

/// A namespace that was claimed, and settled once; its next rotation is due at `due` seconds.
fn settled(text: &str, due: i64) -> Namespace {
    Namespace {
        name: name(text),
        contact: "owner@example.com".to_owned(),
        created: at(1),
        expires: at(100_000),
        rotation: Rotation {
            active: Some(credentials(Slot::One)),
            previous: None,
            pending: None,
            due: at(due),
            grace: Duration::from_secs(1800),
        },
        gone: None,
        warned: None,
        version: Version(0),
    }
}

/// `namespace` as it is after it was written.
fn stored(namespace: &Namespace) -> Namespace {
    Namespace { version: namespace.version.next(), ..namespace.clone() }
}

fn pending(namespace: Namespace, since: i64) -> Namespace {
    let pending = Pending { credentials: credentials(Slot::Two), since: at(since) };
    Namespace { rotation: Rotation { pending: Some(pending), ..namespace.rotation.clone() }, ..namespace }
}

fn tombstone(namespace: Namespace) -> Namespace {
    Namespace { gone: Some(Gone { since: at(7), cleaning_until: None }), ..namespace }
}

fn alert(queue: &str) -> Alert {
    Alert {
        queue: queue.to_owned(),
        namespace: name("taskcluster-x"),
        level: Level::Warning,
        since: at(3),
        messages: 5000,
        seen: at(4),
        growth: Some(-12),
        told: Some(at(3)),
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
    }
}

fn put(namespace: &Namespace) -> Change {
    Change { record: Record::Namespace(namespace.clone()), notices: Vec::new() }
}

fn put_alert(alert: &Alert) -> Change {
    Change { record: Record::Alert(alert.clone()), notices: Vec::new() }
}

async fn insert(store: &dyn Store, namespaces: &[Namespace]) {
    let changes: Vec<Change> = namespaces.iter().map(put).collect();
    let written = store.write(&changes).await.unwrap();
    assert!(written.iter().all(|write| *write == Write::Done), "{written:?}");
}

async fn insert_notices(store: &dyn Store, notices: Vec<Notice>) {
    let carrier = settled("taskcluster-carrier", 0);
    let change = Change { record: Record::Namespace(carrier), notices };
    assert_eq!(store.write(&[change]).await.unwrap(), [Write::Done]);
}

fn names(namespaces: &[Namespace]) -> Vec<&str> {
    namespaces.iter().map(|namespace| namespace.name.as_str()).collect()
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
        rotation: Rotation { previous: Some(credentials(Slot::Two)), ..base.rotation.clone() },
        warned: Some(at(99)),
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

async fn of_two_inserts_the_second_is_lost(backend: Backend) {
    let store = backend.store().await;
    let (first, second) = (settled("taskcluster-x", 1), settled("taskcluster-x", 2));
    assert_eq!(store.write(&[put(&first)]).await.unwrap(), [Write::Done]);
    assert_eq!(store.write(&[put(&second)]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.namespace(&first.name).await.unwrap(), Some(stored(&first)));
    let (first, second) = (alert("queue/taskcluster-x/q"), Alert { messages: 1, ..alert("queue/taskcluster-x/q") });
    assert_eq!(store.write(&[put_alert(&first)]).await.unwrap(), [Write::Done]);
    assert_eq!(store.write(&[put_alert(&second)]).await.unwrap(), [Write::Lost]);
    assert_eq!(store.alerts().await.unwrap(), [Alert { version: Version(1), ..first }]);
}

async fn writing_over_a_stale_version_is_lost(backend: Backend) {
    let store = backend.store().await;
    let first = settled("taskcluster-x", 1);
    insert(&*store, std::slice::from_ref(&first)).await;
    let second = Namespace { expires: at(7), ..stored(&first) };
    insert(&*store, std::slice::from_ref(&second)).await;
    let stale = Namespace { expires: at(8), ..stored(&first) };
    let ahead = Namespace { version: Version(3), ..stale.clone() };
    let remove =
        |version| Change { record: Record::RemoveNamespace(first.name.clone(), Version(version)), notices: Vec::new() };
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
    let queues = ["q-b", "q-a"].map(alert);
    store.write(&queues.each_ref().map(put_alert)).await.unwrap();
    let change = |record| Change { record, notices: Vec::new() };
    let longer = Namespace { expires: at(200_000), ..stored(&old[1]) };
    let louder = Alert { version: Version(1), level: Level::Deleting, growth: None, told: None, ..queues[0].clone() };
    let batch = [
        change(Record::RemoveAlert("q-a".to_owned(), Version(9))),
        put(&longer),
        put(&old[2]),
        change(Record::RemoveNamespace(old[3].name.clone(), Version(1))),
        put_alert(&louder),
        put(&settled("taskcluster-0", 1)),
        change(Record::RemoveNamespace(old[0].name.clone(), Version(2))),
        put_alert(&alert("q-c")),
        put_alert(&alert("q-a")),
    ];
    use Write::{Done, Lost};
    assert_eq!(store.write(&batch).await.unwrap(), [Lost, Done, Lost, Done, Done, Done, Lost, Done, Lost]);
    let left = store.namespaces(Select::All).await.unwrap();
    assert_eq!(names(&left), ["taskcluster-0", "taskcluster-a", "taskcluster-b", "taskcluster-c"]);
    assert_eq!(left[2], stored(&longer));
    let alerts = store.alerts().await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.queue.as_str()).collect::<Vec<_>>(), ["q-a", "q-b", "q-c"]);
    assert_eq!(alerts[1], Alert { version: Version(2), ..louder });
    let gone = change(Record::RemoveAlert("q-b".to_owned(), Version(2)));
    assert_eq!(store.write(&[gone]).await.unwrap(), [Done]);
    assert_eq!(store.alerts().await.unwrap().len(), 2);
}

async fn the_second_change_of_one_record_in_a_batch_is_lost(backend: Backend) {
    let store = backend.store().await;
    let first = settled("taskcluster-x", 1);
    let next = Namespace { expires: at(7), ..stored(&first) };
    let remove = Change { record: Record::RemoveNamespace(first.name.clone(), Version(1)), notices: Vec::new() };
    // An alert of the same key is another record.
    let batch = [put(&first), put(&next), remove, put_alert(&alert("taskcluster-x"))];
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
    let told = |record, ids: &[&str]| Change { record, notices: ids.iter().map(|id| notice(id, 1)).collect() };
    let batch = [
        told(Record::Namespace(first.clone()), &["1", "2"]),
        told(Record::RemoveAlert("q".to_owned(), Version(1)), &["3"]),
        told(Record::Alert(alert("q")), &["4"]),
    ];
    assert_eq!(store.write(&batch).await.unwrap(), [Write::Done, Write::Lost, Write::Lost]);
    assert_eq!(store.write(&[told(Record::Namespace(first), &["5"])]).await.unwrap(), [Write::Lost]);
    // A notice that is stored already is not told twice.
    assert_eq!(store.write(&[told(Record::Alert(alert("p")), &["6", "1"])]).await.unwrap(), [Write::Done]);
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
            let change = Change { record: Record::Namespace(changed), notices };
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
                    Some(version) if (n + writer) % 2 == 0 => {
                        Change { record: Record::RemoveNamespace(namespace.name.clone(), version), notices: Vec::new() }
                    }
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
    let summary = Summary { name: known.clone(), contact, created, expires };
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
    store.write(&[Change { record: remove, notices: Vec::new() }]).await.unwrap();
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
    let store = backend.store().await;
    // Only a store without a server takes the time from the caller.
    let now = match &backend {
        Backend::Sqlite(_) => at(1000),
        Backend::Postgres(_) => at(-1000),
    };
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, None);
    let first = store.beat(now, MINUTE).await.unwrap();
    let vitals = store.vitals(now).await.unwrap();
    assert_eq!(vitals.heartbeat, Some(Heartbeat { last: first, since: at(0) }), "nobody was cut off before the first");
    match &backend {
        Backend::Sqlite(_) => assert_eq!((first, vitals.now), (now, now)),
        Backend::Postgres(_) => {
            let real = SystemClock.now();
            assert!(vitals.now >= first && real.since(first) < MINUTE && first.since(real) < MINUTE, "{vitals:?}");
        }
    }

    let sets_back = |seconds: i64| format!("UPDATE heartbeat SET last = last - {seconds}000");
    backend.execute(&sets_back(59)).await;
    let second = store.beat(now, 2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, Some(Heartbeat { last: second, since: at(0) }));
    backend.execute(&sets_back(121)).await;
    let back = store.beat(now, 2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, Some(Heartbeat { last: back, since: back }));
    let next = store.beat(now, 2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, Some(Heartbeat { last: next, since: back }));
    // The store's clock was wrong, and is set back.
    backend.execute("UPDATE heartbeat SET last = 9000000000000").await;
    let right = store.beat(now, 2 * MINUTE).await.unwrap();
    assert!(right < Timestamp::from_millis(9_000_000_000_000));
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, Some(Heartbeat { last: right, since: back }));
    backend.execute("UPDATE heartbeat SET last = 9000000000000, since = 9000000000000").await;
    let right = store.beat(now, 2 * MINUTE).await.unwrap();
    assert_eq!(store.vitals(now).await.unwrap().heartbeat, Some(Heartbeat { last: right, since: right }));
    assert_eq!(backend.texts("SELECT CAST(count(*) AS TEXT) FROM heartbeat").await, [Some("1".to_owned())]);
}

async fn alerts_may_have_any_queue_name(backend: Backend) {
    let store = backend.store().await;
    let queues = ["queue/a/\0", "queue/a/\u{1a}", "queue/a/\u{1a}0", "queue/a/'; --", "queue/a/ü\n💌"];
    let alerts: Vec<Alert> = queues.iter().map(|queue| Alert { growth: None, told: None, ..alert(queue) }).collect();
    let changes: Vec<Change> = alerts.iter().map(put_alert).collect();
    for turn in 0..2 {
        let expected = if turn == 0 { Write::Done } else { Write::Lost };
        assert_eq!(store.write(&changes).await.unwrap(), vec![expected; queues.len()]);
    }
    let found = store.alerts().await.unwrap();
    for alert in &alerts {
        assert!(found.contains(&Alert { version: Version(1), ..alert.clone() }), "{alert:?} in {found:?}");
    }
    for level in [Level::Watched, Level::Warning, Level::Deleting] {
        let huge = Alert { level, messages: i64::MAX as u64, queue: format!("{level:?}"), ..alerts[0].clone() };
        store.write(&[put_alert(&huge)]).await.unwrap();
        assert!(store.alerts().await.unwrap().contains(&Alert { version: Version(1), ..huge }));
    }
    let changes: Vec<Change> = queues
        .iter()
        .map(|queue| Change { record: Record::RemoveAlert((*queue).to_owned(), Version(1)), notices: Vec::new() })
        .collect();
    assert_eq!(store.write(&changes).await.unwrap(), vec![Write::Done; queues.len()]);
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
    store.remove_notice("c").await.unwrap();
    store.remove_notice("c").await.unwrap();
    store.postpone_notice("b", at(30)).await.unwrap();
    let ids =
        |taken: Vec<Notice>| taken.iter().map(|n| format!("{}{}", n.id, n.attempts)).collect::<Vec<_>>().join(" ");
    assert_eq!(ids(take(29, 40, 9).await), "a2 d1");
    assert_eq!(ids(take(30, 40, 9).await), "b2");
    assert_eq!(ids(take(39, 50, 9).await), "");
    assert_eq!(ids(take(40, 50, 9).await), "b3 a3 d2");
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
    assert_eq!(one.sight(&[1; 32], sighting(1, 10), at(0)).await.unwrap(), sighting(1, 10));
    assert_eq!(other.sight(&[1; 32], sighting(2, 20), at(0)).await.unwrap(), sighting(1, 10));
    assert_eq!(one.sight(&[1; 32], sighting(1, 30), at(20)).await.unwrap().body, [1; 32], "old, but just seen");
    assert_eq!(other.sight(&[2; 32], sighting(2, 20), at(0)).await.unwrap(), sighting(2, 20));
    let at_once = (0..20).map(|n| {
        let store = if n % 2 == 0 { &one } else { &other };
        async move { store.sight(&[3; 32], Sighting { body: [n; 32], seen: at(40) }, at(0)).await.unwrap() }
    });
    let firsts = futures::future::join_all(at_once).await;
    assert!(firsts.iter().all(|first| *first == firsts[0]), "{firsts:?}");
}

async fn old_sightings_are_forgotten_by_and_by(backend: Backend) {
    let store = backend.store().await;
    let sight = |request: u8, seen, forget| {
        let (store, sighting) = (store.clone(), Sighting { body: [0; 32], seen: at(seen) });
        async move { store.sight(&[request; 32], sighting, at(forget)).await.unwrap() }
    };
    let count = || backend.texts("SELECT CAST(count(*) AS TEXT) FROM sighting");
    for request in 0..20 {
        sight(request, i64::from(request), -1).await;
    }
    sight(20, 20, 9).await;
    assert_eq!(count().await, [Some("13".to_owned())], "eight of the ten that are old");
    sight(21, 21, 9).await;
    assert_eq!(count().await, [Some("12".to_owned())]);
    assert_eq!(sight(10, 22, 9).await.seen, at(10), "what is not old is kept");
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
    namespace.rotation.previous = Some(credentials(Slot::Two));
    insert(&*store, std::slice::from_ref(&namespace)).await;
    let sealed: Vec<String> = backend.texts(PASSWORDS).await.into_iter().map(Option::unwrap).collect();
    assert_eq!(sealed.len(), 3);
    assert!(sealed.iter().all(|sealed| sealed.starts_with("1.a.")), "{sealed:?}");
    let Rotation { active, previous, pending, .. } = &namespace.rotation;
    let plain = [active.as_ref(), previous.as_ref(), pending.as_ref().map(|pending| &pending.credentials)];
    let rows = sealed.join(" ");
    assert!(plain.iter().all(|credentials| !rows.contains(credentials.unwrap().password.expose())));
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
    assert_eq!(applied, ["V1__initial", "V2__heartbeat", "V3__sightings"]);
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
    two_passwords_for_one_user.rotation.pending.as_mut().unwrap().credentials.slot = Slot::One;
    for never in [two_passwords_for_one_user, settled("no name", 1), settled("", 1), settled(&"x".repeat(65), 1)] {
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
