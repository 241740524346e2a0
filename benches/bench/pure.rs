//! How many instructions the pure parts take, next to the cryptography and the look-ups that they can't do without.
//!
//! Valgrind counts a process as a whole. Each part is run once and then some times more, and the difference is told. Its
//! processor has no instructions for SHA-256, on either side of the comparison.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use futures::FutureExt as _;
use taskcluster_pulse::access::clients::{AccessToken, Client, LocalDirectory};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::access::scope::{self, Expression};
use taskcluster_pulse::access::{Authenticator, Read, SignedRequest};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::domain::account::AccountPolicy;
use taskcluster_pulse::domain::expiry::{ExpiryPolicy, plan_expiry};
use taskcluster_pulse::domain::guard::GuardPolicy;
use taskcluster_pulse::domain::identity::Tag;
use taskcluster_pulse::domain::inventory::{BrokerPermissions, BrokerQueue, BrokerUser, Inventory, QueueKind};
use taskcluster_pulse::domain::ladder::{self, Measure, Thresholds};
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::namespace::Namespace;
use taskcluster_pulse::domain::owner::Groups;
use taskcluster_pulse::domain::plan::Brakes;
use taskcluster_pulse::domain::snapshot::Snapshot;
use taskcluster_pulse::domain::sweep::{SweepPolicy, plan_sweep};
use taskcluster_pulse::hawk::{Artifacts, Kind, Signer, mac, payload_hash};
use taskcluster_pulse::secret::{Password, PasswordHash};
use url::Url;

use crate::report::Report;
use crate::world::{names, namespaces};

/// A part, or its counterpart.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Who signed a claim.
    Verify,
    /// One MAC and one payload hash.
    Crypto,
    /// Whether the caller's scopes are enough.
    Scope,
    /// Each of the caller's scopes compared once.
    Compare,
    /// What a sweep of 10,000 queues does.
    Sweep,
    /// What an expiry run over 10,000 queues does.
    Expiry,
    /// Every password hash checked.
    Passwords,
    /// Every queue's namespace looked up.
    LookUps,
}

const NAMESPACES: usize = 500;
const QUEUES_EACH: usize = 20;
const URL: &str = "http://127.0.0.1:8080/api/pulse/v1/namespace/taskcluster-bench-1";
const BODY: &[u8] = br#"{"expires": "2026-12-01T00:00:00.000Z", "contact": "owner@example.com"}"#;
const JSON: &str = "application/json";
const TAG: &str = "taskcluster-pulse-bench";
const KEY: &str = "a-key-of-the-benchmark-alone";

/// Fails where valgrind is not installed.
pub fn require_valgrind() -> Result<()> {
    let found = Command::new("valgrind").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = "valgrind, which counts instructions, is missing. Install it (Debian and Ubuntu: apt-get install \
                   valgrind), or leave this part out by --no-valgrind";
    ensure!(found.is_ok_and(|status| status.success()), missing);
    Ok(())
}

/// Counts the instructions of all parts.
pub fn measure(report: &mut Report) -> Result<()> {
    for (what, work, times, counterpart, raw) in [
        ("verify the signature of a claim", Work::Verify, 1000, "MAC and hash alone", Work::Crypto),
        ("check the scope of a claim", Work::Scope, 1000, "compare scopes", Work::Compare),
        ("plan a sweep, 10000 queues", Work::Sweep, 1, "check passwords", Work::Passwords),
        ("plan an expiry, 10000 queues", Work::Expiry, 1, "look up queues", Work::LookUps),
    ] {
        report.add(what.to_owned(), "instructions", &[count(work, times)?], counterpart, &[count(raw, times)?]);
    }
    Ok(())
}

/// The instructions of one run of `work`, on average of so many.
fn count(work: Work, times: u32) -> Result<f64> {
    let more = counted(work, 1 + times)?;
    Ok((more - counted(work, 1)?) / f64::from(times))
}

fn counted(work: Work, times: u32) -> Result<f64> {
    let work = work.to_possible_value().context("a name")?;
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    let output = command.args(["pure", work.get_name(), &times.to_string()]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :"));
    Ok(collected.with_context(|| format!("valgrind counted nothing: {said}"))?.1.trim().parse()?)
}

/// Does the work so many times. Everything else is done the same whatever the number.
pub fn run(work: Work, times: u32) -> Result<()> {
    match work {
        Work::Verify | Work::Crypto => verify(work, times),
        Work::Scope | Work::Compare => check_scope(work, times),
        Work::Sweep | Work::Expiry | Work::Passwords | Work::LookUps => plan(work, times),
    }
}

fn verify(work: Work, times: u32) -> Result<()> {
    let now = Timestamp::from_millis(1_790_000_000_000);
    let client = Client {
        id: "bench".to_owned(),
        access_token: AccessToken::new(KEY.to_owned()),
        scopes: vec!["pulse:namespace:taskcluster-*".to_owned()],
        expires: None,
    };
    let authenticator = Authenticator::new(LocalDirectory::new(vec![client], Roles::default()));
    let url = Url::parse(URL)?;
    let signature = Signer { id: "bench", key: KEY, ext: None }.header("POST", &url, Some((JSON, BODY)), now);
    let origin = Origin { host: "127.0.0.1".to_owned(), port: 8080, source_ip: IpAddr::from([127, 0, 0, 1]) };
    let request = SignedRequest {
        method: "POST",
        resource: url.path(),
        origin: &origin,
        authorization: Some(signature.as_bytes()),
    };
    let hash = payload_hash(JSON, BODY);
    let artifacts = Artifacts {
        ts: "1790000000",
        nonce: "QlzCLo4WmwLY",
        method: "POST",
        resource: url.path(),
        host: "127.0.0.1",
        port: 8080,
        hash: &hash,
        ext: "",
        app: None,
    };
    for _ in 0..times {
        if work == Work::Verify {
            // A client of our own is checked without waiting for anybody.
            let checked = authenticator.authenticate(&Read::of(black_box(&request)), "", now).now_or_never();
            let caller = checked.context("a local client should be checked at once")??;
            caller.verify_payload(JSON, black_box(BODY))?;
        } else {
            black_box((mac(Kind::Header, KEY, black_box(&artifacts)), payload_hash(JSON, black_box(BODY))));
        }
    }
    Ok(())
}

fn check_scope(work: Work, times: u32) -> Result<()> {
    let needed = "pulse:namespace:taskcluster-bench-1";
    let template = Expression::Scope("pulse:namespace:<namespace>".to_owned());
    let scopes = ["assume:anonymous", "pulse:namespace:taskcluster-*", "queue:create-task:*"].map(str::to_owned);
    for _ in 0..times {
        let enough = if work == Work::Scope {
            let required = black_box(&template).with(&[("namespace", "taskcluster-bench-1")])?;
            required.satisfying(black_box(&scopes)).is_some()
        } else {
            scope::any_satisfies(black_box(&scopes), black_box(needed))
        };
        ensure!(enough, "the scopes are not enough");
    }
    Ok(())
}

fn plan(work: Work, times: u32) -> Result<()> {
    // The clock moves from run to run, and no decision may depend on that.
    let now = namespaces(1, Duration::ZERO, Duration::ZERO)[0].created;
    let seen = snapshot(namespaces(NAMESPACES, Duration::from_secs(36_000), Duration::from_secs(1800)));
    let brakes = Brakes { most: 500, percent: 25, owner_percent: 50 };
    let tag = Tag::from_stored(TAG.to_owned());
    let thresholds = Thresholds { alert: 4000, delete: 8000, unacked_alert: 1000, unacked_limit: 4000 };
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let ladder = ladder::Policy::new(Measure::Delete, minutes(15), minutes(5), minutes(1440), minutes(2));
    let sweep = SweepPolicy {
        limits: taskcluster_pulse::domain::limits::LimitsPolicy::default(),
        names: names(),
        groups: Groups::default(),
        accounts: AccountPolicy {
            names: vec![],
            reserved: vec![],
            lifetime: minutes(525_600),
            retire_after: minutes(43_200),
        },
        guard: GuardPolicy::new(thresholds, ladder),
        connection_max_lifetime: Duration::from_secs(72 * 3600),
        margin: Duration::from_secs(30),
        brakes,
    };
    let hour = Duration::from_secs(3600);
    let expiry = ExpiryPolicy {
        names: names(),
        groups: Groups::default(),
        delay: hour,
        warning: hour,
        orphans_after: None,
        margin: hour,
        reclaim: hour,
        brakes,
    };
    for _ in 0..times {
        match work {
            Work::Sweep => {
                ensure!(plan_sweep(black_box(&seen), &tag, now, &sweep).actions.is_empty(), "a sweep of nothing")
            }
            Work::Expiry => {
                ensure!(plan_expiry(black_box(&seen), now, None, &expiry).actions.is_empty(), "nothing expires")
            }
            Work::Passwords => ensure!(check_passwords(black_box(&seen)), "a password is not ours"),
            _ => ensure!(look_up(black_box(&seen)) == NAMESPACES * QUEUES_EACH, "a queue is not ours"),
        }
    }
    Ok(())
}

/// What a broker that is in order shows of these namespaces.
fn snapshot(namespaces: Vec<Namespace>) -> Snapshot {
    let mut inventory = Inventory::default();
    for namespace in &namespaces {
        let name = &namespace.name;
        for slot in Slot::BOTH {
            let hash = namespace.rotation.password_of(slot).map_or_else(PasswordHash::blocked, Password::hash);
            let user = names().user(name, slot);
            let permissions = names().permissions(name);
            inventory.permissions.push(BrokerPermissions { user: user.clone(), permissions });
            inventory.users.push(BrokerUser { name: user, tags: [TAG.to_owned()].into(), hash });
        }
        inventory.queues.extend((0..QUEUES_EACH).map(|number| BrokerQueue {
            name: format!("queue/{name}/tasks-{number}"),
            messages: Some(0),
            unacked: Some(0),
            fingerprint: 0,
            kind: QueueKind::Classic,
            exclusive: false,
        }));
        inventory.exchanges.push(format!("exchange/{name}/events"));
    }
    Snapshot { inventory, namespaces, ..Snapshot::default() }
}

fn check_passwords(seen: &Snapshot) -> bool {
    let users = seen.inventory.users.chunks(2);
    seen.namespaces.iter().zip(users).all(|(namespace, users)| {
        let held = Slot::BOTH.map(|slot| namespace.rotation.password_of(slot));
        users.iter().zip(held).all(|(user, held)| held.is_some_and(|password| user.hash.verifies(password)))
    })
}

fn look_up(seen: &Snapshot) -> usize {
    let known: HashMap<_, _> = seen.namespaces.iter().map(|found| (found.name.as_str(), found)).collect();
    let owned = |queue: &&BrokerQueue| queue.name.split('/').nth(1).is_some_and(|owner| known.contains_key(owner));
    seen.inventory.queues.iter().filter(owned).count()
}
