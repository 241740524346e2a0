//! A cluster of three nodes, on loopback and real: nodes are killed, frozen, cut off and brought back while clients claim, log in and rotate.
//! And two nodes at the wire, one of which is behind.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::{Connection, ConnectionProperties};
use reqwest::Method;
use serde_json::json;
use taskcluster_pulse::broker::management::{ManagementApi, ManagementConfig};
use taskcluster_pulse::broker::{Broker, BrokerError, Deleted};
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::inventory::QueueKind;

use crate::support::cluster::{Cluster, at, cluster};
use crate::support::fake_broker::{FakeBroker, Queue};
use crate::support::rabbitmq::{escaped, eventually};
use crate::support::world::World;

/// For how long a node is away at least, and clients go on.
const AWAY: Duration = Duration::from_secs(6);

/// What a claim promised.
struct Promise {
    string: String,
    reclaim_at: Timestamp,
}

/// Whether a node lets a client in; `None` where it says nothing.
async fn welcomes(amqp: &str, string: &str) -> Option<bool> {
    let url = at(string, amqp);
    let attempt = Connection::connect(&url, ConnectionProperties::default());
    match tokio::time::timeout(Duration::from_secs(5), attempt).await {
        Ok(Ok(connection)) => {
            let _ = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
            Some(true)
        }
        Ok(Err(error)) if error.to_string().contains("ACCESS_REFUSED") || error.to_string().contains("access") => {
            Some(false)
        }
        _ => None,
    }
}

/// Clients claim new namespaces and known ones, log in, and rotate, for a while.
async fn clients(world: &World, cluster: &Cluster, up: &[usize], promised: &mut Vec<Promise>, what: &str) -> usize {
    let (began, mut answered, mut round) = (Instant::now(), 0, 0);
    while began.elapsed() < AWAY || round < 2 {
        round += 1;
        for name in [format!("taskcluster-{what}-{round}"), "taskcluster-known".to_owned()] {
            let Ok(claimed) = world.claim(&name).await else { continue };
            answered += 1;
            let string = claimed.connection_string.as_str().to_owned();
            promised.push(Promise { string, reclaim_at: claimed.reclaim_at });
        }
        world.clock.advance(Duration::from_secs(20 * 60));
        let _ = world.service().rotate(false).await;
        let now = world.clock.now();
        promised.retain(|promise| promise.reclaim_at > now);
        for Promise { string, .. } in promised.iter().rev().take(6) {
            for &node in up {
                let welcome = welcomes(&cluster.amqp[node], string).await;
                assert_ne!(welcome, Some(false), "{what}, round {round}: node {node} refuses what was promised");
            }
        }
    }
    answered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_login_is_refused_that_was_promised_while_nodes_are_killed_frozen_cut_off_and_brought_back() {
    let (_turn, cluster) = cluster().await;
    let world = World::on(cluster.rabbitmq.vhost().await).await;
    let mut promised = Vec::new();
    let all = clients(&world, &cluster, &[0, 1, 2], &mut promised, "all").await;
    assert!(all > 0);
    for (node, fault) in [(0, "killed"), (1, "killed"), (2, "killed"), (0, "frozen"), (2, "frozen"), (0, "cut")] {
        let what = format!("{fault}{node}");
        match fault {
            "frozen" => cluster.freeze(node),
            "cut" => cluster.cut(node).await,
            _ => cluster.kill(node),
        }
        let up: Vec<_> = (0..3).filter(|up| *up != node).collect();
        let answered = clients(&world, &cluster, &up, &mut promised, &what).await;
        println!("{what}: {answered} claims were answered");
        assert!(answered > 0, "{what}: nobody could claim, not even a known namespace");
        match fault {
            "frozen" => cluster.thaw(node).await,
            "cut" => cluster.mend(node).await,
            _ => {}
        }
        cluster.complete().await;
        // RabbitMQ 4.3 lets clients in at a node before that has learned what it missed.
        eventually("what the node missed", async || {
            let users = async |node| cluster.node(node).admin(Method::GET, "users?sort=name", None).await;
            (users(node).await == users((node + 1) % 3).await).then_some(())
        })
        .await;
        // What was begun meanwhile is finished, and then all nodes let in whoever was promised it.
        eventually("claims and a rotation on the whole cluster", async || {
            world.service().rotate(false).await.ok()?;
            world.claim("taskcluster-known").await.ok()
        })
        .await;
        let now = world.clock.now();
        promised.retain(|promise| promise.reclaim_at > now);
        for Promise { string, .. } in promised.iter().rev().take(6) {
            for amqp in &cluster.amqp {
                assert_eq!(
                    welcomes(amqp, string).await,
                    Some(true),
                    "{what}: {amqp} does not let in after all came back"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorum_queues_are_counted_and_streams_are_seen_wherever_their_leader_is() {
    let (_turn, cluster) = cluster().await;
    let vhost = cluster.rabbitmq.vhost().await;
    let path = |queue: &str| format!("queues/{}/{}", escaped(&vhost.name), escaped(queue));
    for node in 0..3 {
        let names = cluster.node(node).admin(Method::GET, "overview?columns=node", None).await;
        for kind in ["quorum", "stream"] {
            let body = json!({"durable": true, "node": names["node"],
                "arguments": {"x-queue-type": kind, "x-queue-leader-locator": "client-local"}});
            let queue = format!("queue/taskcluster-x/{kind}-{node}");
            cluster.node(node).admin(Method::PUT, &path(&queue), Some(body)).await;
            for _ in 0..3 {
                vhost.publish(&queue).await;
            }
        }
    }
    let counted = async |nodes: &[usize]| {
        let base_urls = nodes.iter().map(|node| cluster.node(*node).api.parse().unwrap()).collect();
        let api = ManagementApi::new(ManagementConfig { base_urls, ..vhost.config() }).unwrap();
        let mut queues = api.queues().await.ok()?;
        queues.sort_by(|a, b| a.name.cmp(&b.name));
        let seen: Vec<_> = queues.iter().map(|queue| (queue.kind, queue.messages)).collect();
        let wanted = [[(QueueKind::Quorum, Some(3)); 3], [(QueueKind::Stream, None); 3]].concat();
        (seen == wanted).then_some(())
    };
    for node in 0..3 {
        eventually("the counts of a node", async || counted(&[node]).await).await;
    }
    cluster.kill(0);
    // Each has a new leader soon.
    eventually("the counts without a node", async || counted(&[0, 1, 2]).await).await;
    cluster.complete().await;
}

/// A client of these nodes, in this order.
fn client(nodes: &[&FakeBroker]) -> ManagementApi {
    let base_urls = nodes.iter().map(|node| node.url().parse().unwrap()).collect();
    ManagementApi::new(ManagementConfig { base_urls, ..nodes[0].config() }).unwrap()
}

const QUEUE: &str = "queue/taskcluster-x/jobs";

/// Two nodes of one cluster at the wire. The second has a queue and a user that the first does not know.
async fn two() -> (FakeBroker, FakeBroker) {
    let (one, other) = (FakeBroker::start().await, FakeBroker::start().await);
    let jobs = Queue { kind: QueueKind::Quorum, messages: 7, owner: None };
    other.state().queues.insert(QUEUE.to_owned(), jobs);
    (one, other)
}

#[tokio::test]
async fn a_node_that_is_behind_is_not_believed() {
    let down = |name: &str| json!({"name": name, "running": false});
    let runs = |name: &str| json!({"name": name, "running": true});
    let minority = json!([runs("rabbit@a"), down("rabbit@b"), down("rabbit@c")]);
    let split =
        json!([{"name": "rabbit@a", "running": true, "partitions": ["rabbit@b"]}, runs("rabbit@b"), runs("rabbit@c")]);
    let young = json!([{"name": "rabbit@a", "running": true, "uptime": 900}, runs("rabbit@b"), runs("rabbit@c")]);
    for (sees, says) in [(minority, "sees 1 of the 3"), (split, "is partitioned from"), (young, "was started 0 s ago")]
    {
        let (behind, other) = two().await;
        behind.state().sees = Some(sees);
        let both = client(&[&behind, &other]);
        assert_eq!(both.queues().await.unwrap().len(), 1, "{says}");
        // Nor is it believed that something is gone.
        assert!(both.queue(QUEUE).await.unwrap().is_some(), "{says}");
        both.ping().await.unwrap();
        let alone = client(&[&behind]);
        match (alone.queues().await, says) {
            (Ok(_), "was started 0 s ago") => {}
            (Err(BrokerError::Unavailable(why)), _) => assert!(why.contains(says), "{why}"),
            (other, _) => panic!("{says}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_deletion_is_not_taken_for_done_because_a_node_that_is_behind_does_not_know_the_thing() {
    let (behind, other) = two().await;
    let both = client(&[&behind, &other]);
    assert_eq!(both.delete_queue("queue/taskcluster-x/none").await.unwrap(), Deleted::Absent, "both are well");
    let (behind, other) = two().await;
    behind.state().sees =
        Some(json!([{"name": "rabbit@a"}, {"name": "rabbit@b", "running": false}, {"name": "c", "running": false}]));
    let both = client(&[&behind, &other]);
    assert!(matches!(both.delete_queue(QUEUE).await, Err(BrokerError::Unavailable(_))));
    assert_eq!(both.delete_queue(QUEUE).await.unwrap(), Deleted::Done);
    assert!(other.state().queues.is_empty());
}

#[tokio::test]
async fn a_node_that_is_down_is_not_tried_first_each_time_and_a_change_is_made_at_another() {
    let (one, other) = two().await;
    let both = client(&[&one, &other]);
    one.down().await;
    let password = taskcluster_pulse::secret::Password::random();
    for _ in 0..5 {
        both.put_user("taskcluster-x-1", &password.hash(), "t").await.unwrap();
    }
    assert!(other.state().users.contains_key("taskcluster-x-1"));
    one.up();
    let before = one.all_requests();
    both.put_user("taskcluster-x-1", &password.hash(), "t").await.unwrap();
    assert_eq!(one.all_requests(), before, "it rests for some seconds");
    other.down().await;
    both.put_user("taskcluster-x-2", &password.hash(), "t").await.unwrap();
    assert!(one.state().users.contains_key("taskcluster-x-2"), "where all others fail, it is tried");
}

#[tokio::test]
async fn a_node_that_hangs_takes_half_of_one_calls_time_and_nothing_of_the_next() {
    use crate::support::fake_broker::{Failure, Fault};
    let (one, other) = two().await;
    let both = Arc::new(client(&[&one, &other]));
    one.fault(Fault::new(Failure::Hang));
    let password = taskcluster_pulse::secret::Password::random();
    both.put_user("taskcluster-x-1", &password.hash(), "t").await.unwrap();
    let asked = one.all_requests();
    both.put_user("taskcluster-x-2", &password.hash(), "t").await.unwrap();
    assert_eq!((asked, one.all_requests()), (1, 1));
    assert_eq!(other.state().users.len(), 3);
}
