//! What is stored, and what names and opens it: URLs, key rings, and rows that somebody changed.

use std::time::Duration;

use rusqlite::types::Value as Field;
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::barred::Barred;
use taskcluster_pulse::domain::name::{Names, Slot};
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::rotation::{Login, Pending, Rotation};
use taskcluster_pulse::secret::Password;
use taskcluster_pulse::store::{self, Change, DatabaseUrl, KeyRing, Record, Select, StoreError, StoreLimits};

use crate::driver::{Case, Random, assert_hides, cases, fuzz};

const KEY: &str = "Y2FuYXJ5LWNyeXB0by1rZXktMDEyMzQ1Njc4OWFiY2Q=";

fn keys() -> String {
    format!(r#"[{{"id": "a", "algo": "aes-256", "key": "{KEY}"}}, {{"id": "b", "algo": "aes-256", "key": "{KEY}"}}]"#)
}

#[test]
fn a_key_ring_is_read_or_refused_without_showing_a_key() {
    let ring = serde_json::from_str(&keys()).unwrap();
    fuzz(2, |random| {
        let text = if random.once_in(2) {
            random.mutated_text(&keys(), &["\"", "}", "[", "aes-256", "\\u0000", "é"])
        } else {
            random.mutated_json(serde_json::Value::clone(&ring)).to_string()
        };
        match KeyRing::parse(&text) {
            Ok(ring) => assert_hides(&format!("{ring:?}"), &[&KEY[..20], &KEY[20..]]),
            Err(error) => assert_hides(&format!("{error} {error:?}"), &[&KEY[..20], &KEY[20..]]),
        }
    });
}

/// Passwords with characters that must be escaped in a URL, and are not, or wrongly.
#[test]
fn a_database_url_is_read_or_refused_without_showing_its_password() {
    fuzz(1, |random| {
        let password =
            format!("canary{}", random.text(&["@", "?", "/", ":", "#", "%", "&", "=", "canary", " ", "é"], 6));
        let options =
            random.text(&["?", "&", "sslmode=", "require", "ssl=1", "port=", "host=/run", "x=1", "options=a"], 4);
        let rest = format!("db.example.com:5432/pulse{options}");
        let rest = if random.once_in(3) { random.mutated_text(&rest, &["@", "/", ":", "%4", "[", "]"]) } else { rest };
        let url = format!("postgres://user:{password}@{rest}");
        match url.parse::<DatabaseUrl>() {
            Ok(url) => assert_hides(&format!("{url:?}"), &["canary"]),
            Err(error) => assert_hides(&format!("{error} {error:?}"), &["canary"]),
        }
    });
}

fn namespace(random: &mut Random) -> Namespace {
    let password = |random: &mut Random| {
        Password::from_stored(format!("canary{}", random.text(&["a", "\0", "é", "\u{1f600}", "'", "\\", ".", " "], 12)))
    };
    let moment = |random: &mut Random| Timestamp::from_millis(random.below(3_000_000_000_000_usize) as i64);
    let [active, pending] = Slot::BOTH.map(|slot| Login { slot, password: password(random) });
    Namespace {
        name: Names::new("", "").namespace(&format!("x{}", random.text(&["a", "-", "_", "Z", "0"], 40))).unwrap(),
        contact: random.text(&["a", "@", "\0", "\u{1a}", "é", "'", ";"], 12),
        created: moment(random),
        expires: moment(random),
        rotation: Rotation {
            active: Some(active),
            previous: None,
            pending: Some(Pending { login: pending, since: moment(random) }),
            due: moment(random),
            grace: Duration::from_secs(60),
        },
        gone: None,
        warned: None,
        claimed_by: Some(random.text(&["a", "/", "é", "*"], 12)),
        owners: Vec::new(),
        exemptions: Vec::new(),
        requests: Vec::new(),
        barred: Barred::default(),
        account: None,
        end_asked: None,
        matures: None,
        version: Version::new_at(Timestamp::from_millis(0)),
    }
}

const COLUMNS: &[&str] = &[
    "contact",
    "created",
    "expires",
    "active_slot",
    "active_password",
    "pending_slot",
    "pending_password",
    "pending_since",
    "due",
    "grace",
    "gone_since",
    "cleaning_until",
    "warned",
    "version",
    "claimed_by",
    "end_asked",
];

/// Whoever can write to the database, and has no key, can make records unreadable, but no password of another kind.
#[tokio::test]
async fn a_row_comes_back_as_it_was_and_one_that_was_changed_gives_no_other_password() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pulse.sqlite");
    let url: DatabaseUrl = format!("sqlite:{}", path.display()).parse().unwrap();
    let store = store::open(&url, Some(KeyRing::parse(&keys()).unwrap()), StoreLimits::default()).await.unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON").unwrap();
    for seed in cases(100) {
        let (running, mut random) = (Case::begin(seed), Random::new(seed));
        let written = namespace(&mut random);
        raw.execute_batch("DELETE FROM namespace").unwrap();
        store
            .write(&[Change { record: Record::Namespace(written.clone()), notices: Vec::new(), audits: Vec::new() }])
            .await
            .unwrap();
        let read = store.namespace(&written.name).await.unwrap().unwrap();
        assert_eq!(Namespace { version: written.version, ..read.clone() }, written);

        let column = random.pick(COLUMNS);
        let select = format!("SELECT {column} FROM namespace");
        let value: Field = raw.query_row(&select, [], |row| row.get(0)).unwrap();
        let changed = changed(&mut random, value);
        // A column may refuse what is of another type.
        let _ = raw.execute(&format!("UPDATE namespace SET {column} = ?1"), [changed]);
        if random.once_in(8) {
            raw.execute("UPDATE namespace SET pending_password = active_password", []).unwrap();
        }
        let all = store.namespaces(Select::All).await;
        match store.namespace(&written.name).await {
            Ok(Some(read)) => assert!(same_passwords(&read.rotation, &written.rotation), "{column}: {read:?}"),
            Ok(None) => panic!("{column}: it is gone"),
            Err(error) => assert_hides(&format!("{error} {error:?}"), &["canary"]),
        }
        if let Err(error) = all {
            assert!(matches!(error, StoreError::Failed(_)), "{column}: {error}");
        }
        running.end();
    }
}

fn changed(random: &mut Random, value: Field) -> Field {
    match value {
        Field::Text(text) if !random.once_in(5) => {
            Field::Text(random.mutated_text(&text, &["1.a.", "2.", ".", "=", "a"]))
        }
        _ => match random.below(6) {
            0 => Field::Null,
            1 => Field::Integer(i64::MIN),
            2 => Field::Integer(i64::MAX),
            3 => Field::Integer(-1),
            4 => Field::Real(0.5),
            _ => Field::Blob(vec![0xff, 0, 1]),
        },
    }
}

/// Whether each password is the one that was there, or none.
fn same_passwords(read: &Rotation, written: &Rotation) -> bool {
    let password = |of: Option<&Login>| of.map(|login| login.password.clone());
    let pending = |of: &Rotation| password(of.pending.as_ref().map(|pending| &pending.login));
    let (read_active, read_pending) = (password(read.active.as_ref()), pending(read));
    (read_active.is_none() || read_active == password(written.active.as_ref()))
        && (read_pending.is_none() || read_pending == pending(written))
}

#[test]
fn every_moment_is_read_as_it_is_written_and_no_text_is_too_odd() {
    fuzz(1, |random| {
        let sign = *random.pick(&[&1, &-1]);
        let moment = Timestamp::from_millis(sign * random.below(300_000_000_000_000) as i64);
        assert_eq!(Timestamp::parse(&moment.to_string()), Some(moment));
        let odd =
            random.mutated_text(&moment.to_string(), &["+", "-", ":", "60", "24", "T", " ", "é", "+00:00", "0000"]);
        if let Some(read) = Timestamp::parse(&odd) {
            assert_eq!(Timestamp::parse(&read.to_string()), Some(read), "{odd:?}");
        }
    });
}
