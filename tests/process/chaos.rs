//! A web process and two workers on one PostgreSQL and one RabbitMQ, killed and started again without end, while clients
//! claim, log in, and let queues grow.
//!
//! `PULSE_CHAOS_SECONDS` says for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use taskcluster_pulse::broker::Broker as _;
use taskcluster_pulse::broker::management::ManagementApi;
use taskcluster_pulse::clock::{Clock as _, SystemClock};
use taskcluster_pulse::taskcluster::TaskclusterError;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use url::Url;

use super::obstacles::{Mail, lag};
use super::{fill, seeded};
use crate::support::processes::{Answer, Deployment, PATIENCE, Program};
use crate::support::rabbitmq::Vhost;
use crate::support::world::{BrokerKind, Side, StoreKind};

const NAMESPACES: [&str; 4] = ["taskcluster-a", "taskcluster-b", "taskcluster-c", "taskcluster-d"];

/// How many messages are in a queue that is left alone, in one that is warned of, and in one that is deleted.
const FEW: u64 = 5;
const MANY: u64 = 15;
const TOO_MANY: u64 = 60;

/// Short, so that much happens in the time of a test.
const SETTINGS: [(&str, &str); 12] = [
    ("NAMESPACE_ROTATION_INTERVAL", "4 s"),
    ("RABBIT_REQUEST_TIMEOUT", "400 ms"),
    ("WORKER_ROTATE_INTERVAL", "200 ms"),
    ("WORKER_MONITOR_INTERVAL", "300 ms"),
    ("WORKER_EXPIRE_INTERVAL", "400 ms"),
    ("WORKER_DELIVER_INTERVAL", "300 ms"),
    ("NAMESPACES_EXPIRATION_DELAY", "0 s"),
    ("MONITOR_ALERT_THRESHOLD", "10"),
    ("MONITOR_DELETE_THRESHOLD", "40"),
    ("MONITOR_GRACE", "2 s"),
    ("MONITOR_MAX_REMOVAL_SHARE", "100%"),
    ("NOTIFY_METHOD", "taskcluster"),
];

/// What goes on. Whoever sees a process do something delicate may have all of them killed by `strike`.
struct Chaos {
    deployment: Deployment,
    /// Where the web process listens; out of date while it is down.
    web: watch::Sender<Option<Url>>,
    /// When it ends.
    until: Instant,
    strike: Arc<Notify>,
    tally: Mutex<Tally>,
}

/// What happened, to be printed.
#[derive(Debug, Default)]
struct Tally {
    claims: usize,
    unanswered: usize,
    logins: usize,
    passwords: usize,
    kills: usize,
}

/// What has to have become of queues and namespaces in the end.
#[derive(Default)]
struct Expected {
    warned: BTreeSet<String>,
    deleted: BTreeSet<String>,
    expired: usize,
}

impl Chaos {
    fn goes_on(&self) -> bool {
        // A busy machine has to get something done first.
        let now = Instant::now();
        now < self.until || (!self.has_rotated() && now < self.until + PATIENCE)
    }

    fn has_rotated(&self) -> bool {
        self.tally.lock().unwrap().passwords > NAMESPACES.len()
    }

    fn vhost(&self) -> &Vhost {
        match &self.deployment.side {
            Side::Real(vhost) => vhost,
            Side::Fake(_) => panic!("RabbitMQ was asked for"),
        }
    }

    /// Claims; `None` where the web process is down, or says that it can't for now.
    async fn claim(&self, name: &str, payload: &Value) -> Option<Answer> {
        let url = self.web.subscribe().wait_for(Option::is_some).await.unwrap().clone()?;
        let asked = SystemClock.now();
        match self.deployment.claim(&url, name, payload).await {
            Ok(answer) => {
                assert!(answer.reclaim_at > asked, "reclaimAt {} is past", answer.reclaim_at);
                Some(answer)
            }
            Err(TaskclusterError::Unreachable { .. } | TaskclusterError::Refused { status: 503, .. }) => None,
            Err(error) => panic!("a claim of {name} failed: {error}"),
        }
    }

    /// Keeps a process running by starting it again whenever it was killed, which happens at random moments of its start
    /// and of its life. Gives the last one back, alive.
    async fn torment(&self, arguments: &[&str], mut random: StdRng) -> Program {
        while self.goes_on() {
            let mut program = self.deployment.start(arguments);
            let life = async {
                self.publish(&program, arguments).await;
                pending::<()>().await;
            };
            tokio::select! {
                () = life => {}
                () = sleep(Duration::from_millis(random.random_range(20..3000))) => {}
                () = self.strike.notified() => {}
            }
            assert!(program.is_alive(), "a process ended by itself");
            drop(program);
            self.tally.lock().unwrap().kills += 1;
            self.free_what_the_dead_hold().await;
        }
        let program = self.deployment.start(arguments);
        self.publish(&program, arguments).await;
        program
    }

    /// Makes known where the web process listens.
    async fn publish(&self, program: &Program, arguments: &[&str]) {
        if arguments == ["web"] {
            self.web.send_replace(Some(program.url().await));
        }
    }

    /// What a process takes for itself is free again some minutes after its death. Those minutes are cut short here; that
    /// also robs those who are alive, which they have to bear.
    async fn free_what_the_dead_hold(&self) {
        let client = self.deployment.database.as_ref().unwrap().client().await;
        let sql = "DELETE FROM lease; UPDATE notice SET due = 0; UPDATE namespace SET cleaning_until = NULL";
        client.batch_execute(sql).await.unwrap();
    }

    /// Claims one namespace again and again, and logs in with what was returned before and is still good.
    async fn claim_and_log_in(&self, name: &str, mut random: StdRng) {
        let mut held: Vec<Answer> = Vec::new();
        while self.goes_on() {
            // One address gets a few e-mails in ten minutes only, so that it is another one each second.
            let left = self.until.saturating_duration_since(Instant::now()).as_secs();
            match self.claim(name, &json!({"contact": format!("owner-{left}@example.com")})).await {
                Some(answer) => {
                    self.tally.lock().unwrap().claims += 1;
                    match held.iter_mut().find(|old| old.connection_string == answer.connection_string) {
                        // Every promise has to be kept, so the longest one counts.
                        Some(old) => old.reclaim_at = old.reclaim_at.max(answer.reclaim_at),
                        None => {
                            self.tally.lock().unwrap().passwords += 1;
                            held.push(answer);
                        }
                    }
                }
                None => self.tally.lock().unwrap().unanswered += 1,
            }
            held.retain(|answer| answer.reclaim_at > SystemClock.now());
            // The oldest is the one that will be overwritten next.
            let logins = [held.first(), held.last()].into_iter().flatten().map(|answer| self.log_in(answer));
            self.tally.lock().unwrap().logins += join_all(logins).await.len();
            sleep(Duration::from_millis(random.random_range(0..100))).await;
        }
    }

    async fn log_in(&self, answer: &Answer) {
        let began = SystemClock.now();
        if let Err(why) = self.deployment.try_login(&answer.connection_string).await {
            let (now, good_until) = (SystemClock.now(), answer.reclaim_at);
            let user = Url::parse(&answer.connection_string).unwrap().username().to_owned();
            assert!(now >= good_until, "{user} could not log in from {began} to {now}, good until {good_until}: {why}");
        }
    }

    /// Lets queues grow, more and less, and namespaces expire.
    async fn grow(&self, mut random: StdRng) -> Expected {
        let mut expected = Expected::default();
        for number in 0.. {
            if !self.goes_on() {
                break;
            }
            let name = NAMESPACES[number % NAMESPACES.len()];
            let Some(answer) = self.claim(name, &json!({})).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let (queue, messages, outcome) = match number % 3 {
                0 => (format!("queue/{name}/huge-{number}-"), TOO_MANY, &mut expected.deleted),
                _ => (format!("queue/{name}/large-{number}-"), MANY, &mut expected.warned),
            };
            match fill(&answer.connection_string, name, &queue, messages).await {
                Ok(()) => drop(outcome.insert(queue)),
                Err(why) => assert!(SystemClock.now() >= answer.reclaim_at, "{queue} could not be filled: {why}"),
            }
            let short = format!("taskcluster-short-{number}");
            let expires = SystemClock.now().plus(Duration::from_millis(random.random_range(0..1500)));
            if self.claim(&short, &json!({"expires": expires.to_string()})).await.is_some() {
                expected.expired += 1;
            }
            sleep(Duration::from_millis(random.random_range(0..500))).await;
        }
        expected
    }

    /// Waits until everything that was expected has come about, with all processes left alone.
    async fn settle(&self, expected: &Expected, mail: &Mail) {
        let broker = ManagementApi::new(self.vhost().config()).unwrap();
        let settled = timeout(PATIENCE, async {
            loop {
                self.free_what_the_dead_hold().await;
                let untold = expected.warned.iter().filter(|queue| !mail.names(queue)).count();
                let unburied = expected.deleted.iter().filter(|queue| !mail.says_deleted(queue)).count();
                let users = broker.users().await.unwrap();
                let zombies = users.iter().filter(|user| user.name.contains("taskcluster-short-"));
                let zombies = zombies.filter(|user| user.name.starts_with(&self.vhost().prefix)).count();
                let left = (untold, unburied, zombies);
                if left == (0, 0, 0) {
                    return;
                }
                println!("to be warned of, to be told deleted, users of expired namespaces: {left:?}");
                sleep(Duration::from_secs(1)).await;
            }
        });
        assert!(settled.await.is_ok(), "not everything was told and removed in time");
    }

    /// Every queue is there, with all of its messages, that was not deleted on purpose.
    async fn assert_queues(&self, expected: &Expected) {
        let found = ManagementApi::new(self.vhost().config()).unwrap().queues().await.unwrap();
        let found: BTreeMap<_, _> = found.into_iter().map(|queue| (queue.name, queue.messages)).collect();
        let small = NAMESPACES.map(|name| (format!("queue/{name}/small"), Some(FEW)));
        let large = expected.warned.iter().map(|queue| (queue.clone(), Some(MANY)));
        let foreign = ("queue/somebody/huge".to_owned(), Some(TOO_MANY));
        assert_eq!(found, small.into_iter().chain(large).chain([foreign]).collect());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_credentials_stay_good_and_no_notice_or_queue_is_lost() {
    let mut random = seeded();
    let mut split = || StdRng::seed_from_u64(random.random());
    let seconds = std::env::var("PULSE_CHAOS_SECONDS").map_or(20, |seconds| seconds.parse().unwrap());
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    let strike = Arc::new(Notify::new());
    let (mail, root_url) = Mail::start(strike.clone()).await;
    let Side::Real(vhost) = &deployment.side else { panic!("RabbitMQ was asked for") };
    let api = vhost.rabbitmq.api.parse::<Url>().unwrap().socket_addrs(|| None).unwrap()[0];
    SETTINGS.into_iter().for_each(|(name, value)| deployment.set(name, value));
    deployment.set("TASKCLUSTER_ROOT_URL", root_url);
    deployment.set("RABBIT_BASE_URL", lag(api, split(), strike.clone()).await);
    let chaos = Chaos {
        deployment,
        web: watch::Sender::new(None),
        until: Instant::now() + Duration::from_secs(seconds),
        strike,
        tally: Mutex::default(),
    };

    // What is not ours, and what has few messages, is there before, and has to be there in the end.
    let vhost = chaos.vhost();
    let administrator = vhost.connection_string(&vhost.rabbitmq.username, &vhost.rabbitmq.password);
    fill(&administrator, "somebody", "queue/somebody/huge", TOO_MANY).await.unwrap();
    let (web, url) = chaos.deployment.serve(&["web"]).await;
    for name in NAMESPACES {
        let answer = chaos.deployment.claim(&url, name, &json!({"contact": "owner@example.com"})).await.unwrap();
        fill(&answer.connection_string, name, &format!("queue/{name}/small"), FEW).await.unwrap();
    }
    drop(web);

    let clients = join_all(NAMESPACES.map(|name| chaos.claim_and_log_in(name, split())));
    let (web, worker, other) = (split(), split(), split());
    let (expected, _, _web, _worker, _other) = tokio::join!(
        chaos.grow(split()),
        clients,
        chaos.torment(&["web"], web),
        chaos.torment(&["worker"], worker),
        chaos.torment(&["worker"], other),
    );
    chaos.settle(&expected, &mail).await;
    chaos.assert_queues(&expected).await;
    assert!(chaos.has_rotated(), "nothing was rotated");
    let Expected { warned, deleted, expired } = &expected;
    println!(
        "{seconds} s: {:?}, {} queues warned of, {} deleted, {expired} namespaces expired, {} e-mails",
        chaos.tally.lock().unwrap(),
        warned.len(),
        deleted.len(),
        mail.count(),
    );
}
