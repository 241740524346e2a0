//! Going back to earlier schemas, with rows in them.

use super::*;

/// The versions of the schema, in order.
fn versions() -> Vec<u32> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations/postgres");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut versions: Vec<u32> =
        files.map(|file| file.strip_prefix('V').unwrap().split('_').next().unwrap().parse().unwrap()).collect();
    versions.sort_unstable();
    versions
}

/// The columns of all our tables, as PostgreSQL has them.
const COLUMNS: &str = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable \
     FROM information_schema.columns WHERE table_schema = current_schema() AND table_name <> 'refinery_schema_history' \
     ORDER BY 1";

const VERSION: &str = "SELECT CAST(max(version) AS text) FROM refinery_schema_history";

fn full() -> Namespace {
    let disabled = Some(Disabled { since: at(5), by: "person b@b.com".into(), reason: "it\0was leaked".into() });
    let barred = Barred { disabled: disabled.map(Box::new), ..Barred::default() };
    let owners = vec![Owner::parse("you@example.com").unwrap()];
    let (claimed_by, end_asked, matures) = (Some("somebody".into()), Some(at(9)), Some(Duration::from_secs(9)));
    Namespace { barred, owners, claimed_by, end_asked, matures, ..settled("taskcluster-x", 9) }
}

/// Writes something that only this version and later ones keep, for each version.
async fn fill(store: &dyn Store) {
    let audit = Audit {
        id: "1".into(),
        at: at(1),
        by: By::client("somebody"),
        action: Deed::Claim.word().into(),
        namespace: None,
        object: "x".into(),
        reason: "why".into(),
    };
    let change = |record, notices, audits| Change { record, notices, audits };
    let notices = vec![notice("a", 1), notice("b", 1)];
    let first = change(Record::Namespace(full()), notices, vec![audit]);
    let other = change(Record::Watch(watched("queue/taskcluster-x/a")), Vec::new(), Vec::new());
    let account = Some(Account::of_adopted(at(1)).into());
    let person = Namespace { account, ..settled("some.body", 9) };
    let person = change(Record::Namespace(person), Vec::new(), Vec::new());
    assert_eq!(store.write(&[first, other, person]).await.unwrap(), [Write::Done; 3]);
    store.give_up_notice("b", at(2), "no such mailbox", Keep { most: 10, since: at(0) }).await.unwrap();
    store.mute("taskcluster-x", Some(Mute { since: at(1), until: None })).await.unwrap();
    let sighting = Sighting { body: [1; 32], seen: at(1) };
    store.sight(&[([2; 32], sighting)]).await.unwrap();
    let beat = Beat { now: at(1), gap: Duration::from_secs(9), elapsed: Duration::ZERO, boot: None };
    store.beat(&beat).await.unwrap();
    let (subject, groups, scopes) = ("test|1".to_owned(), Vec::new(), Vec::new());
    let session = Session::begin(Person { subject, address: None, groups, scopes }, at(1));
    let by = By { actor: Actor::Person("test|1".into()), request: None };
    let (id, action) = ("b".into(), Deed::SignIn.word().into());
    let audit =
        Audit { id, at: at(1), by, action, namespace: None, object: "test|1".into(), reason: "of a test".into() };
    store.begin_session(&[1; 32], &session, &audit).await.unwrap();
    let (subject, since) = ("test|2".to_owned(), at(1));
    let barred = BarredPerson { name: subject.clone(), subject, since, by: "me".to_owned(), reason: "left".to_owned() };
    assert!(store.bar_person(&barred, &Audit { id: "c".into(), ..audit }).await.unwrap());
}

pub(super) async fn the_schema_goes_back_version_by_version_and_refuses_to_lose_what_is_in_it(backend: Backend) {
    let url = &backend.url();
    fill(&*backend.store().await).await;
    let version = async || backend.texts(VERSION).await[0].clone().unwrap();
    let versions = versions();
    for (to, from) in versions.iter().copied().zip(versions[1..].iter().copied()).rev() {
        let refused = store::migrate_back(url, to, false).await;
        if to == 1 {
            assert_eq!(refused.unwrap(), ["V2__heartbeat"], "a heartbeat comes again");
        } else if from == 13 {
            assert_eq!(refused.unwrap(), ["V13__sessions"], "people sign in again");
        } else if from == 15 {
            assert_eq!(refused.unwrap(), ["V15__figures"], "the next runs count anew");
        } else if from == 16 {
            assert_eq!(refused.unwrap(), ["V16__growth"], "it is slower with more namespaces, and all are there");
        } else {
            let why = refused.unwrap_err().to_string();
            assert!(why.contains("would lose: ") && why.contains("Nothing was changed"), "{why}");
            assert_eq!(version().await, from.to_string());
            let undone = store::migrate_back(url, to, true).await.unwrap();
            assert!(undone.len() == 1 && undone[0].starts_with(&format!("V{from}__")), "{undone:?}");
        }
        assert_eq!(version().await, to.to_string());
        if let Backend::Postgres(_) = &backend {
            let older = backend.open_with(&[KEY_A]).await.unwrap().ping().await.unwrap_err().to_string();
            assert!(older.contains(&format!("has version {to}, which is older")), "{older}");
            let fresh = Backend::Postgres(TestDatabase::new().await);
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations/postgres");
            for n in versions.iter().filter(|n| **n <= to) {
                let mut files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap());
                let named =
                    |file: &std::fs::DirEntry| file.file_name().display().to_string().starts_with(&format!("V{n}__"));
                let file = files.find(named).unwrap();
                fresh.execute(&std::fs::read_to_string(file.path()).unwrap()).await;
            }
            assert_eq!(backend.texts(COLUMNS).await, fresh.texts(COLUMNS).await, "version {to}");
        }
    }
    // What the first version kept comes through.
    let store = backend.store().await;
    let found = store.namespace(&full().name).await.unwrap().unwrap();
    let Namespace { contact, created, expires, rotation, .. } = full();
    assert_eq!((found.contact, found.created, found.expires), (contact, created, expires));
    assert!(found.rotation.active.is_some() && found.rotation.due == rotation.due);
    assert_eq!((found.barred, found.owners, found.matures), (Barred::default(), vec![], None));
}

pub(super) async fn an_empty_schema_goes_all_the_way_back_and_what_1_0_0_wrote_then_comes_through(backend: Backend) {
    let url = &backend.url();
    backend.store().await;
    let undone = store::migrate_back(url, 3, false).await.unwrap();
    let (versions, newest) = (versions(), *versions().last().unwrap());
    assert_eq!((undone.len(), undone[0].as_str()), (versions.len() - 3, "V16__growth"));
    assert_eq!(store::migrate_back(url, 3, false).await.unwrap(), [""; 0]);
    for none in [0, 4, newest, u32::MAX] {
        let why = store::migrate_back(url, none, true).await.unwrap_err().to_string();
        assert!(why.contains("has version 3: name one from 1 to 3"), "{why}");
    }
    // A namespace that version 1.0.0 is about to make, and one that is gone.
    backend
        .execute(
            "INSERT INTO namespace (name, contact, created, expires, due, grace, gone_since, version) VALUES \
             ('taskcluster-new', 'a@a.com', 1000, 9000000, 1000, 0, NULL, 1), \
             ('taskcluster-old', '', 1000, 2000, 1000, 0, 3000, 4); \
             INSERT INTO heartbeat VALUES (1, 1000, 500)",
        )
        .await;
    let store = backend.store().await;
    let found = store.namespaces(Select::All).await.unwrap();
    assert_eq!(names(&found), ["taskcluster-new", "taskcluster-old"]);
    assert!(found.iter().all(|found| found.barred == Barred::default() && found.owners.is_empty()));
    assert_eq!((found[0].contact.as_str(), found[1].gone.map(|gone| gone.since)), ("a@a.com", Some(at(3))));
    assert_eq!(store.summaries(None, 10).await.unwrap().len(), 1);
}

pub(super) async fn what_keeps_people_out_of_a_namespace_comes_back_and_what_is_disabled_is_never_due(
    backend: Backend,
) {
    let store = backend.store().await;
    let barred = |barred| Namespace { barred, ..settled("taskcluster-y", 9) };
    let revoked = |done| Some(Revoked { from: at(7), done });
    let kept = [
        full(),
        barred(Barred { revoked: revoked(false), writing_until: Some(at(8)), ..Barred::default() }),
        Namespace { name: name("taskcluster-z"), ..barred(Barred { revoked: revoked(true), ..Barred::default() }) },
    ];
    insert(&*store, &kept).await;
    let found = store.namespaces(Select::All).await.unwrap();
    assert_eq!(found, kept.iter().map(stored).collect::<Vec<_>>());
    let due = store.namespaces(Select::Due { now: at(100), abandoned: at(0), limit: 10 }).await.unwrap();
    assert_eq!(names(&due), ["taskcluster-y", "taskcluster-z"]);
}
