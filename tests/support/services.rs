//! A RabbitMQ and a PostgreSQL that no other test uses, to be stopped, frozen, wiped, and started again.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::rabbitmq::RabbitMq;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/script/services");

/// Prints the variables, and ends with the process that it is given: then the script stops the services.
const HOLD: &str = "env && echo && exec tail --pid=$0 -f /dev/null >/dev/null";

/// Two pairs of servers, and who has them: most of an outage is waiting, so that two tests share the machine well.
static PAIRS: [(Mutex<()>, OnceCell<Services>); 2] = [const { (Mutex::const_new(()), OnceCell::const_new()) }; 2];

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// RabbitMQ.
    RabbitMq,
    /// PostgreSQL.
    Postgres,
}

/// Two servers, which go when the test program does.
pub struct Services {
    folder: PathBuf,
    /// RabbitMQ, on the same ports and with the same account whenever it runs.
    pub rabbitmq: RabbitMq,
    /// PostgreSQL, as a superuser's URL.
    pub postgres: String,
}

/// A pair of the servers of this test program, which its tests share: for one of them at a time, and running at first.
pub async fn exclusive() -> (MutexGuard<'static, ()>, &'static Services) {
    let [one, other] = &PAIRS;
    let (turn, services) = tokio::select! {
        turn = one.0.lock() => (turn, &one.1),
        turn = other.0.lock() => (turn, &other.1),
    };
    let start = async || tokio::task::spawn_blocking(Services::start).await.unwrap();
    let services = services.get_or_init(start).await;
    // The test before may have failed in the middle of an outage.
    services.thaw();
    services.start_again().await;
    (turn, services)
}

impl Services {
    fn start() -> Services {
        let own_id = std::process::id().to_string();
        let mut command = Command::new(SCRIPT);
        command.args(["run", "rabbitmq", "postgresql", "--", "sh", "-c", HOLD, &own_id]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let lines: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        std::thread::spawn(move || child.wait());
        Services::named(|name| {
            let name = format!("{name}=");
            let value = lines.iter().find_map(|line| line.strip_prefix(&name));
            value.unwrap_or_else(|| panic!("script/services did not start: it gives no {name}")).to_owned()
        })
    }

    /// Those that the environment names, which nobody else may use.
    pub fn from_env() -> Services {
        Services::named(|name| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: see script/services")))
    }

    fn named(variable: impl Fn(&str) -> String) -> Services {
        let read = |name: &str| variable(&format!("PULSE_TEST_{name}"));
        Services {
            folder: read("SERVICES_DIR").into(),
            rabbitmq: RabbitMq {
                api: read("RABBITMQ_API"),
                amqp: read("RABBITMQ_AMQP"),
                username: read("RABBITMQ_USERNAME"),
                password: read("RABBITMQ_PASSWORD"),
            },
            postgres: read("POSTGRES"),
        }
    }

    fn folder(&self, part: Part) -> PathBuf {
        self.folder.join(if part == Part::RabbitMq { "rabbitmq" } else { "postgresql" })
    }

    /// Where PostgreSQL keeps its data and its settings.
    pub fn postgres_data(&self) -> PathBuf {
        fs::canonicalize(self.folder(Part::Postgres).join("data")).unwrap()
    }

    fn process_id(&self, part: Part) -> String {
        let noted = fs::read_to_string(self.folder(part).join("server.pid")).unwrap();
        noted.lines().next().unwrap().to_owned()
    }

    fn signal(&self, part: Part, signal: &str) -> bool {
        send(signal, &self.process_id(part))
    }

    /// The processes that a server has started: PostgreSQL has one for each connection.
    fn children(&self, part: Part) -> String {
        let id = self.process_id(part);
        fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default()
    }

    /// Sends the signal, which ends the server, and waits for its end: `KILL`, say.
    pub async fn stop(&self, part: Part, signal: &str) {
        let process = PathBuf::from(format!("/proc/{}/stat", self.process_id(part)));
        assert!(self.signal(part, signal), "{part:?} does not run");
        // One that has ended is there as long as nobody has asked how.
        let runs = |stat: String| !stat.contains(") Z ");
        while fs::read_to_string(&process).is_ok_and(runs) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Lets a server stand still: it accepts connections, and answers nothing.
    pub fn freeze(&self, part: Part) {
        assert!(self.signal(part, "STOP"), "{part:?} does not run");
        // From now on there are no more of them.
        send("STOP", &self.children(part));
    }

    /// Lets both go on.
    pub fn thaw(&self) {
        for part in [Part::RabbitMq, Part::Postgres] {
            send("CONT", &self.children(part));
            self.signal(part, "CONT");
        }
    }

    /// Starts what does not run, with the data that it had, and waits until it is ready.
    pub async fn start_again(&self) {
        let folder = self.folder.clone();
        let start = move || Command::new(SCRIPT).arg("start").arg(folder).stdin(Stdio::null()).status().unwrap();
        assert!(tokio::task::spawn_blocking(start).await.unwrap().success(), "script/services start failed");
    }

    /// Lets RabbitMQ keep statistics or not, as `management.disable_stats` does.
    pub async fn keep_statistics(&self, kept: bool) {
        let set = format!("application:set_env(rabbitmq_management, disable_management_stats, {}).", !kept);
        self.rabbitmqctl(&["eval", &set]).await;
    }

    /// Runs RabbitMQ's own program for operators.
    pub async fn rabbitmqctl(&self, arguments: &[&str]) {
        let mut command = Command::new(self.folder(Part::RabbitMq).join("rabbitmqctl"));
        command.args(arguments);
        succeed(command).await;
    }

    /// Enables a plugin.
    pub async fn enable(&self, plugin: &str) {
        let home = self.folder(Part::RabbitMq);
        let programs = fs::read_to_string(home.join("programs")).unwrap();
        let mut command = Command::new(home.join("in-environment"));
        command.arg(format!("{}/rabbitmq-plugins", programs.trim())).args(["enable", plugin]);
        succeed(command).await;
    }

    /// Loses all that RabbitMQ has; it must be stopped.
    pub fn wipe_rabbitmq(&self) {
        fs::remove_dir_all(self.folder(Part::RabbitMq).join("data")).unwrap();
    }
}

async fn succeed(mut command: Command) {
    let ended = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

/// Sends a signal to these processes; whether all of them got it.
fn send(signal: &str, ids: &str) -> bool {
    let kill = format!("kill -{signal} {ids} 2>/dev/null");
    Command::new("sh").args(["-c", &kill]).status().unwrap().success()
}
