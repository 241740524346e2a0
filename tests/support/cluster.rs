//! A cluster of three nodes of RabbitMQ, to be killed, frozen, cut off and started again one by one.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use reqwest::Method;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::rabbitmq::{RabbitMq, eventually};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/script/services");

/// Prints the variables, and ends with the process that it is given: then the script stops the nodes.
const HOLD: &str = "env && echo && exec tail --pid=$0 -f /dev/null >/dev/null";

static TURN: Mutex<()> = Mutex::const_new(());
static CLUSTER: OnceCell<Arc<Cluster>> = OnceCell::const_new();

/// Three nodes, which go when the test program does.
pub struct Cluster {
    folder: PathBuf,
    /// All of them: the management API of each, and AMQP of the first.
    pub rabbitmq: RabbitMq,
    /// Where each speaks AMQP.
    pub amqp: Vec<String>,
}

/// The cluster of this test program: for one of its tests at a time, and complete at first.
pub async fn cluster() -> (MutexGuard<'static, ()>, Arc<Cluster>) {
    let turn = TURN.lock().await;
    let start = async || Arc::new(tokio::task::spawn_blocking(Cluster::start).await.unwrap());
    let cluster = CLUSTER.get_or_init(start).await.clone();
    cluster.complete().await;
    (turn, cluster)
}

/// A connection string, at another node's `host:port`.
pub fn at(connection_string: &str, amqp: &str) -> String {
    let (head, tail) = connection_string.split_once('@').unwrap();
    format!("{head}@{amqp}/{}", tail.split_once('/').unwrap().1)
}

impl Cluster {
    fn start() -> Cluster {
        let own_id = std::process::id().to_string();
        let mut command = Command::new(SCRIPT);
        command.args(["run", "cluster", "--", "sh", "-c", HOLD, &own_id]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        std::thread::spawn(move || child.wait());
        let read = |name: &str| {
            let name = format!("PULSE_TEST_{name}=");
            let value = lines.iter().find_map(|line| line.strip_prefix(&name));
            value.unwrap_or_else(|| panic!("script/services did not start: it gives no {name}")).to_owned()
        };
        let amqp: Vec<_> = read("CLUSTER_AMQP").split(',').map(str::to_owned).collect();
        let rabbitmq = RabbitMq {
            api: read("CLUSTER_API"),
            amqp: amqp[0].clone(),
            username: read("CLUSTER_USERNAME"),
            password: read("CLUSTER_PASSWORD"),
        };
        Cluster { folder: read("SERVICES_DIR").into(), rabbitmq, amqp }
    }

    /// One of the nodes alone.
    pub fn node(&self, node: usize) -> RabbitMq {
        let api = self.rabbitmq.apis().nth(node).unwrap().to_owned();
        RabbitMq { api, amqp: self.amqp[node].clone(), ..self.rabbitmq.clone() }
    }

    fn signal(&self, node: usize, signal: &str) {
        let noted = fs::read_to_string(self.folder.join(format!("cluster/{}/server.pid", node + 1))).unwrap();
        let kill = format!("kill -{signal} {} 2>/dev/null", noted.lines().next().unwrap());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
    }

    /// Ends a node at once.
    pub fn kill(&self, node: usize) {
        self.signal(node, "KILL");
    }

    /// Lets a node stand still.
    pub fn freeze(&self, node: usize) {
        self.signal(node, "STOP");
    }

    /// Lets a node that stood still go on, and ends it once it answers: while it stood, the others have closed their connections to it,
    /// and RabbitMQ 3 leaves it to the operator to start such a node anew.
    pub async fn thaw(&self, node: usize) {
        self.signal(node, "CONT");
        let node_alone = self.node(node);
        eventually("an answer of the node", async || node_alone.ask(Method::GET, "whoami", None).await.ok()).await;
        self.kill(node);
    }

    /// Cuts a node off from the others: it refuses their cookie, and they its own. Clients reach it as before.
    pub async fn cut(&self, node: usize) {
        self.eval(node, "[erlang:set_cookie(N, cut) || N <- Nodes], [erlang:disconnect_node(N) || N <- Nodes]").await;
    }

    /// Lets a node that was cut off have the others back.
    pub async fn mend(&self, node: usize) {
        self.eval(node, "[erlang:set_cookie(N, erlang:get_cookie()) || N <- Nodes]").await;
    }

    /// Has a node carry out a line of Erlang, in which `Nodes` are the others.
    async fn eval(&self, node: usize, line: &str) {
        let name = |node: usize| {
            let amqp = &self.amqp[node];
            format!("'pulse-{}@localhost'", amqp.rsplit_once(':').unwrap().1)
        };
        let others: Vec<_> = (0..self.amqp.len()).filter(|other| *other != node).map(name).collect();
        let line = format!("Nodes = [{}], {line}.", others.join(", "));
        let control = self.folder.join(format!("cluster/{}/rabbitmqctl", node + 1));
        let run = move || Command::new(control).args(["eval", &line]).stdin(Stdio::null()).output().unwrap();
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Lets all nodes go on, starts those that don't run, with the data that they had, and waits until they see each other.
    pub async fn complete(&self) {
        (0..self.amqp.len()).for_each(|node| self.signal(node, "CONT"));
        let folder = self.folder.clone();
        let start = move || Command::new(SCRIPT).arg("start").arg(folder).arg("cluster").stdin(Stdio::null()).status();
        assert!(tokio::task::spawn_blocking(start).await.unwrap().unwrap().success(), "script/services start failed");
    }
}
