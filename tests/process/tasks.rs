//! The scheduled tasks as commands: run once, looked at before, or repeated.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::broker::Broker as _;
use taskcluster_pulse::broker::management::ManagementApi;
use taskcluster_pulse::domain::name::Permissions;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::fill;
use crate::support::fake_broker::Queue;
use crate::support::processes::{Deployment, Ended, PATIENCE};
use crate::support::world::{BrokerKind, Side, StoreKind};

const TASKS: [&str; 4] = ["rotate-namespaces", "monitor-rabbit", "expire-namespaces", "deliver-notices"];

/// A deployment on PostgreSQL and RabbitMQ in which each task has something to do: two namespaces whose rotation is due,
/// two queues above the delete threshold whose owner was warned long enough ago, a namespace that has expired, and a message that nobody has sent yet.
async fn busy() -> Deployment {
    let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
    for (name, value) in [
        ("NAMESPACES_EXPIRATION_DELAY", "0 s"),
        ("MONITOR_ALERT_THRESHOLD", "8"),
        ("MONITOR_DELETE_THRESHOLD", "12"),
        ("MONITOR_GRACE", "1 s"),
    ] {
        deployment.set(name, value);
    }
    let (_web, url) = deployment.serve(&["web"]).await;
    for name in ["taskcluster-a", "taskcluster-b"] {
        let answer = deployment.claim(&url, name, &json!({"contact": "owner@example.com"})).await.unwrap();
        fill(&answer.connection_string, name, &format!("queue/{name}/large"), 16).await.unwrap();
        // Fewer than a quarter of the alert threshold are no trouble, whoever reads them.
        fill(&answer.connection_string, name, &format!("queue/{name}/small"), 1).await.unwrap();
    }
    ripen(&mut deployment, 2).await;
    deployment.claim(&url, "taskcluster-over", &json!({"expires": "2020-01-01T00:00:00.000Z"})).await.unwrap();
    let client = deployment.database.as_ref().unwrap().client().await;
    let due = "UPDATE namespace SET due = 0 WHERE name <> 'taskcluster-over';
        UPDATE namespace SET expires = 0, end_asked = 0, matures = 0 WHERE name = 'taskcluster-over';
        INSERT INTO notice VALUES ('1', 'taskcluster-a', 'owner@example.com', 'A subject', 'A text', 0, 0, 0)";
    client.batch_execute(due).await.unwrap();
    deployment
}

/// Warns until so many queues may be deleted, and deletes none.
async fn ripen(deployment: &mut Deployment, queues: usize) {
    let ripe = async {
        loop {
            deployment.set("MONITOR_ACTION", "warn");
            let ended = deployment.run(&["monitor-rabbit"]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            deployment.set("MONITOR_ACTION", "delete");
            let plan = json_of(&deployment.run(&["monitor-rabbit", "--dry-run", "--json"]).await)["plan"].clone();
            let deleted = plan.as_array().unwrap().iter().filter(|step| step["action"] == "delete queue").count();
            if deleted >= queues {
                return;
            }
        }
    };
    timeout(PATIENCE, ripe).await.unwrap();
}

/// All that is stored, and all that the broker holds of it.
async fn everything(deployment: &Deployment) -> Vec<String> {
    let client = deployment.database.as_ref().unwrap().client().await;
    let mut found = Vec::new();
    for table in ["namespace", "watch", "history", "notice", "lease"] {
        let rows = client.query(&format!("SELECT row_to_json(t)::text FROM {table} t ORDER BY 1"), &[]).await.unwrap();
        found.extend(rows.iter().map(|row| format!("{table} {}", row.get::<_, String>(0))));
    }
    let Side::Real(vhost) = &deployment.side else { panic!("RabbitMQ was asked for") };
    let users = vhost.rabbitmq.admin(Method::GET, "users", None).await;
    let ours = |user: &&Value| user["name"].as_str().unwrap().starts_with(&vhost.prefix);
    found.extend(users.as_array().unwrap().iter().filter(ours).map(Value::to_string));
    let broker = ManagementApi::new(vhost.config()).unwrap();
    found.push(format!("{:?}", broker.permissions().await.unwrap()));
    found.push(format!("{:?}", broker.exchanges().await.unwrap()));
    found.push(format!("{:?}", broker.queues().await.unwrap()));
    found.sort();
    found
}

async fn queues(deployment: &Deployment) -> Vec<String> {
    let Side::Real(vhost) = &deployment.side else { panic!("RabbitMQ was asked for") };
    vhost.queues().await
}

/// Fails unless the last line is the summary of a run that saw something, with these numbers.
fn assert_summary(ended: &Ended, task: &str, changed: usize, failed: usize, refused: usize) {
    let line = ended.stdout.lines().last().unwrap_or_default();
    let rest = line.strip_prefix(&format!("{task}: seen ")).unwrap_or_else(|| panic!("{ended:?}"));
    let (seen, rest) = rest.split_once(", ").unwrap();
    assert!(seen.parse::<usize>().unwrap() > 0, "{line}");
    assert!(rest.starts_with(&format!("changed {changed}, failed {failed}, refused {refused}, ms ")), "{line}");
}

fn json_of(ended: &Ended) -> Value {
    let result: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    for number in ["seen", "changed", "failed", "refused", "ms"] {
        assert!(result[number].is_u64(), "{number}: {result}");
    }
    result
}

#[tokio::test]
async fn a_dry_run_prints_the_plan_with_reasons_and_changes_nothing() {
    let mut deployment = busy().await;
    let before = everything(&deployment).await;
    let planned = |task: &str| match task {
        "rotate-namespaces" => vec![("rotate", "taskcluster-a"), ("rotate", "taskcluster-b")],
        "monitor-rabbit" => {
            vec![("delete queue", "queue/taskcluster-a/large"), ("delete queue", "queue/taskcluster-b/large")]
        }
        "expire-namespaces" => vec![("expire namespace", "taskcluster-over")],
        _ => Vec::new(),
    };
    for mocked in [false, true] {
        deployment.set("MOCK_MAINTENANCE", mocked.to_string());
        let with = |task, argument: Option<&'static str>| {
            [Some(task), (!mocked).then_some("--dry-run"), argument].into_iter().flatten().collect::<Vec<_>>()
        };
        for task in TASKS {
            let ended = deployment.run(&with(task, None)).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let lines: Vec<_> = ended.stdout.lines().collect();
            assert!(lines.last().unwrap().starts_with(&format!("{task}: seen ")), "{ended:?}");
            let ended = deployment.run(&with(task, Some("--json"))).await;
            let plan = json_of(&ended)["plan"].as_array().unwrap().clone();
            assert_eq!(plan.len(), planned(task).len(), "{plan:?}");
            for (at, (action, object)) in planned(task).into_iter().enumerate() {
                assert_eq!((&plan[at]["action"], &plan[at]["object"]), (&json!(action), &json!(object)));
                let reason = plan[at]["reason"].as_str().unwrap();
                let line = lines.iter().find(|line| line.starts_with(action) && line.contains(object)).unwrap();
                assert!(!reason.is_empty() && line.ends_with(reason), "{line}");
            }
        }
    }
    let worker = deployment.start(&["worker"]);
    worker.says("would rotate taskcluster-b: its password is due").await;
    worker.says("would delete queue queue/taskcluster-a/large: it has 16 messages").await;
    worker.says("would expire namespace taskcluster-over: it expired at").await;
    worker.says("deliver-notices: seen 0").await;
    worker.signal("TERM");
    assert_eq!(worker.end().await.code, Some(0));
    assert_eq!(everything(&deployment).await, before);
}

#[tokio::test]
async fn a_run_does_its_work_once_and_ends_with_a_summary() {
    let deployment = busy().await;
    let client = deployment.database.as_ref().unwrap().client().await;
    // The sweep delivers, too; what there is to deliver is kept for later.
    client.batch_execute("UPDATE notice SET due = (extract(epoch FROM now()) * 1000)::bigint + 3600000").await.unwrap();
    for (task, changed, before) in [
        ("rotate-namespaces", 2, ""),
        ("monitor-rabbit", 2, ""),
        ("deliver-notices", 1, "UPDATE notice SET due = 0"),
        // Buried and cleaned up, and forgotten once nobody can be at it any more.
        ("expire-namespaces", 2, ""),
        ("expire-namespaces", 1, "UPDATE namespace SET gone_since = 0 WHERE gone_since IS NOT NULL"),
    ] {
        client.batch_execute(before).await.unwrap();
        let ended = deployment.run(&[task]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert_summary(&ended, task, changed, 0, 0);
        let again = deployment.run(&[task, "--json"]).await;
        assert_eq!(again.code, Some(0), "{again:?}");
        assert_eq!((&json_of(&again)["task"], &json_of(&again)["changed"]), (&json!(task), &json!(0)), "{again:?}");
    }
    assert_eq!(queues(&deployment).await, ["queue/taskcluster-a/small", "queue/taskcluster-b/small"]);
    let left = everything(&deployment).await;
    assert!(left.iter().all(|thing| !thing.contains("taskcluster-over") && !thing.starts_with("notice")), "{left:?}");
}

#[tokio::test]
async fn a_run_that_would_remove_too_much_is_refused_and_says_so() {
    let mut deployment = busy().await;
    deployment.set("MONITOR_MAX_REMOVALS", "1");
    for arguments in [&["monitor-rabbit"][..], &["monitor-rabbit", "--dry-run"]] {
        let ended = deployment.run(arguments).await;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        let line = ended.stdout.lines().last().unwrap();
        assert!(line.contains("refused 2") && line.contains("MONITOR_MAX_REMOVALS"), "{line}");
    }
    assert_eq!(queues(&deployment).await.len(), 4);
}

#[tokio::test]
async fn a_repeated_task_runs_until_it_is_told_to_stop() {
    let deployment = busy().await;
    let ended = deployment.run(&["rotate-namespaces", "--every", "2 h"]).await;
    assert!(ended.code == Some(1) && ended.stderr.contains("--every is 2h, and the rotation interval 1h"), "{ended:?}");
    let rotate = deployment.start(&["rotate-namespaces", "--every", "50 ms", "--json"]);
    rotate.says_times("\"ms\":", 3).await;
    rotate.signal("TERM");
    let ended = rotate.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let results: Vec<Value> =
        serde_json::Deserializer::from_str(&ended.stdout).into_iter().collect::<Result<_, _>>().unwrap();
    assert_eq!(results[0]["changed"], 2);
    assert!(results.len() >= 3 && results[1..].iter().all(|result| result["changed"] == 0), "{results:?}");
}

#[tokio::test]
async fn runs_that_fail_come_ever_more_rarely_and_end_nothing() {
    const EVERY: Duration = Duration::from_millis(50);
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
    fake.down().await;
    let ended = deployment.run(&["monitor-rabbit"]).await;
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
    assert!(ended.stderr.contains("can't connect to 127.0.0.1"), "{ended:?}");

    let monitor = deployment.start(&["monitor-rabbit", "--every", "50 ms"]);
    monitor.says_times("the run failed", 6).await;
    let at = |line: &str| serde_json::from_str::<Value>(line).unwrap()["Timestamp"].as_u64().unwrap();
    let output = monitor.stdout();
    let failures: Vec<_> = output.lines().filter(|line| line.contains("the run failed")).map(at).collect();
    for (failed, pair) in failures.windows(2).enumerate() {
        let pause = Duration::from_nanos(pair[1] - pair[0]);
        // Logged in whole milliseconds.
        let least = EVERY * 16.min(1 << (failed + 1)) - Duration::from_millis(1);
        assert!(pause >= least, "after failure {}: {pause:?}", failed + 1);
    }
    fake.up();
    monitor.says("monitor-rabbit: seen 0").await;
    let output = monitor.stdout();
    for (text, status, severity) in [("the run failed", "exception", 3), ("monitor-rabbit: seen 0", "success", 5)] {
        let line = output.lines().find(|line| line.contains(text)).unwrap();
        let record: Value = serde_json::from_str(line).unwrap();
        assert_eq!((&record["Type"], &record["Severity"]), (&json!("monitor.periodic"), &json!(severity)), "{line}");
        let fields = &record["Fields"];
        let told = (&fields["name"], &fields["status"], &fields["v"]);
        assert_eq!(told, (&json!("monitor-rabbit"), &json!(status), &json!(1)), "{line}");
        assert!(fields["duration"].as_f64().is_some_and(|duration| duration > 0.0), "{line}");
    }
    monitor.signal("TERM");
    assert_eq!(monitor.end().await.code, Some(0));
}

/// What has to be told waits for a notify service that hangs; nothing else does.
#[tokio::test]
async fn a_notify_service_that_hangs_delays_no_sweep_and_a_message_is_delivered_as_soon_as_there_is_one() {
    for arguments in [&["worker"][..], &["monitor-rabbit", "--every", "100 ms"]] {
        let hanging = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
        for (name, value) in [
            ("NOTIFY_METHOD", "taskcluster"),
            ("WORKER_MONITOR_INTERVAL", "100 ms"),
            ("MONITOR_GRACE", "1 s"),
            ("WORKER_DELIVER_INTERVAL", "1 hour"),
            ("SERVER_DRAIN_TIMEOUT", "1 ms"),
        ] {
            deployment.set(name, value);
        }
        deployment.set("TASKCLUSTER_ROOT_URL", format!("http://{}", hanging.local_addr().unwrap()));
        let (web, url) = deployment.serve(&["web"]).await;
        deployment.claim(&url, "taskcluster-a", &json!({"contact": "owner@example.com"})).await.unwrap();
        drop(web);
        let Side::Fake(fake) = &deployment.side else { panic!("the fake broker was asked for") };
        let grow = |queue: &str| drop(fake.state().queues.insert(queue.to_owned(), Queue::classic(5000)));
        let process = deployment.start(arguments);
        process.says("deliver-notices: seen 0").await;
        grow("queue/taskcluster-a/x");
        let (_asked, _) = timeout(PATIENCE, hanging.accept()).await.unwrap().unwrap();
        grow("queue/taskcluster-a/y");
        process.says("warn of queue queue/taskcluster-a/y").await;
        process.signal("TERM");
        process.end().await;
    }
}

#[tokio::test]
async fn reminders_are_muted_by_command_and_a_dry_run_shows_it() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("MONITOR_ALERT_THRESHOLD", "8");
    deployment.set("MONITOR_DELETE_THRESHOLD", "12");
    let (_web, url) = deployment.serve(&["web"]).await;
    deployment.claim(&url, "taskcluster-a", &json!({"contact": "owner@example.com"})).await.unwrap();
    let queue = "queue/taskcluster-a/jobs\u{1b}[2J";
    let Side::Fake(broker) = &deployment.side else { panic!("a fake broker was asked for") };
    broker.state().queues.insert(queue.to_owned(), Queue::classic(20));
    for (arguments, code, said) in [
        (&["mute", "jobs"][..], 1, "jobs is neither a queue"),
        (&["mute", "taskcluster-b"], 1, "there is no namespace taskcluster-b"),
        (&["mute", "queue/taskcluster-b/x"], 1, "there is no namespace taskcluster-b"),
        (&["mute", queue, "--until", "2020-01-01T00:00:00Z"], 1, "the end of the mute is past"),
        (&["mute", queue, "--until", "tomorrow"], 2, "give a date such as"),
        (&["mute", queue, "--for", "1 day", "--undo"], 2, "cannot be used with"),
        (&["mute", queue, "--undo"], 0, "were not muted"),
        (&["mute", "taskcluster-a"], 0, "reminders of taskcluster-a are muted"),
        (&["mute", queue, "--for", "2 days"], 0, "are muted until 2"),
    ] {
        let ended = deployment.run(arguments).await;
        let shown = ended.stdout.clone() + &ended.stderr;
        assert!(ended.code == Some(code) && shown.contains(said) && !shown.contains('\u{1b}'), "{ended:?}");
    }
    let verdicts =
        async || json_of(&deployment.run(&["monitor-rabbit", "--dry-run", "--json"]).await)["verdicts"].clone();
    let muted = async || verdicts().await[0]["muted"].as_str().unwrap_or_default().to_owned();
    // One look is no trouble yet.
    let watched = async {
        while verdicts().await.as_array().is_none_or(Vec::is_empty) {
            let ended = deployment.run(&["monitor-rabbit"]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
        }
    };
    timeout(PATIENCE, watched).await.unwrap();
    assert_eq!(muted().await, "reminders are muted");
    deployment.run(&["mute", "taskcluster-a", "--undo"]).await;
    assert!(muted().await.starts_with("reminders are muted until 2"));
    let shown = deployment.run(&["monitor-rabbit", "--dry-run"]).await.stdout;
    assert!(shown.contains("; reminders are muted until 2"), "{shown}");
    assert!(deployment.run(&["mute", queue, "--undo"]).await.stdout.contains("are sent again"));
    assert_eq!(muted().await, "");
}

/// The whole program, by an account that can change nothing.
#[tokio::test]
async fn the_guard_observes_with_the_tag_monitoring_alone() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let (watcher, queue) = {
        let Side::Real(vhost) = &deployment.side else { panic!("RabbitMQ was asked for") };
        let watcher = format!("{}watcher", vhost.prefix);
        vhost.rabbitmq.make_user(&watcher, "canary-watcher-password", "monitoring").await;
        let nothing = Permissions { configure: "^$".into(), write: "^$".into(), read: "^$".into() };
        ManagementApi::new(vhost.config()).unwrap().put_permissions(&watcher, &nothing).await.unwrap();
        let queue = "queue/taskcluster-a/x";
        vhost.declare_queue(queue, "classic").await;
        for _ in 0..16 {
            vhost.publish(queue).await;
        }
        (watcher, queue)
    };
    deployment.add_secret("canary-watcher-password");
    for (name, value) in [
        ("RABBIT_USERNAME", watcher.as_str()),
        ("RABBIT_PASSWORD", "canary-watcher-password"),
        ("MONITOR_ALERT_THRESHOLD", "8"),
        ("MONITOR_DELETE_THRESHOLD", "12"),
        ("MONITOR_GRACE", "1 s"),
    ] {
        deployment.set(name, value);
    }
    let judged = async {
        loop {
            let ended = deployment.run(&["guard", "--observe", "--json"]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            let result = json_of(&ended);
            let verdicts = result["verdicts"].as_array().into_iter().flatten();
            if let Some(verdict) = verdicts.into_iter().find(|verdict| verdict["would"] == "would be deleted") {
                return verdict.clone();
            }
        }
    };
    let verdict = timeout(PATIENCE, judged).await.unwrap();
    // How many consumers a new queue has is known some seconds after how many messages it has.
    let states = [json!("no consumer"), json!("stopped")];
    assert!(verdict["queue"] == queue && states.contains(&verdict["state"]), "{verdict}");
    assert_eq!(queues(&deployment).await, [queue]);
}
