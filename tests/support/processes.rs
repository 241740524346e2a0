//! The program itself, started as people start it: what it is given, what it writes, and how it ends.
//!
//! A process is killed when its handle is dropped, also by a test that fails. Whatever any process has written is searched
//! for secrets when its deployment is dropped.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::clock::{SystemClock, Timestamp};
use taskcluster_pulse::taskcluster::{ClientCredentials, RetryPolicy, Taskcluster, TaskclusterError};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use url::Url;

use super::fake_broker::FakeBroker;
use super::postgres::TestDatabase;
use super::rabbitmq::{RabbitMq, log_in};
use super::services::Services;
use super::world::{BrokerKind, Side, StoreKind};

/// How long a process may take for anything that a test waits for. It is generous, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that can be logged.
const LEVEL: &str = "root:debug hyper:debug hyper_util:debug reqwest:debug rustls:debug tokio_postgres:debug \
                     tokio_rusqlite:debug lettre:debug deadpool_postgres:debug";

/// The client that may claim everything.
pub const CLIENT_ID: &str = "test/client";
/// Its access token.
pub const ACCESS_TOKEN: &str = "canary-access-token-0123456789abcdefABCDEF";
const DATABASE_PASSWORD: &str = "canary-database-password";
/// The key under which stored passwords are sealed.
pub const CRYPTO_KEY: &str = "Y2FuYXJ5LWNyeXB0by1rZXktMDEyMzQ1Njc4OWFiY2Q=";

/// The settings that all processes of a test share, and the database and broker that they name.
pub struct Deployment {
    /// The broker.
    pub side: Side,
    /// The database; `None` for a SQLite file in `folder`.
    pub database: Option<TestDatabase>,
    /// Where the processes run.
    pub folder: TempDir,
    variables: BTreeMap<String, String>,
    /// Clients of the services that were called, since it takes a while to make one.
    clients: Mutex<BTreeMap<Url, Arc<Taskcluster>>>,
    secrets: Mutex<Vec<String>>,
    written: Arc<Mutex<Vec<Written>>>,
}

/// Something that was written, to be searched for secrets.
#[derive(Default)]
pub struct Written {
    /// What wrote it.
    by: String,
    text: String,
}

/// What a claim was answered.
#[derive(Clone)]
pub struct Answer {
    /// What logs in.
    pub connection_string: String,
    /// Until when it does.
    pub reclaim_at: Timestamp,
}

impl Deployment {
    /// On an empty store, whose schema is up to date, and a broker of its own.
    pub async fn new(store: StoreKind, broker: BrokerKind) -> Deployment {
        let deployment = Deployment::unmigrated(store, broker).await;
        if deployment.database.is_some() {
            assert_eq!(deployment.run(&["migrate"]).await.code, Some(0));
        }
        deployment
    }

    /// The same with no schema in the store.
    pub async fn unmigrated(store: StoreKind, broker: BrokerKind) -> Deployment {
        let database = match store {
            StoreKind::Sqlite => None,
            StoreKind::Postgres => Some(TestDatabase::new().await),
        };
        let side = match broker {
            BrokerKind::Fake => Side::Fake(FakeBroker::start().await),
            BrokerKind::Real => Side::Real(RabbitMq::from_env().vhost().await),
        };
        Deployment::made_of(database, side)
    }

    /// On these servers, with a database whose schema is up to date and a virtual host of its own.
    pub async fn on(services: &Services) -> Deployment {
        let database = TestDatabase::at(services.postgres.clone()).await;
        let deployment = Deployment::made_of(Some(database), Side::Real(services.rabbitmq.vhost().await));
        assert_eq!(deployment.run(&["migrate"]).await.code, Some(0));
        deployment
    }

    fn made_of(database: Option<TestDatabase>, side: Side) -> Deployment {
        let (config, amqp, prefix) = match &side {
            Side::Fake(fake) => (fake.config(), "localhost:5672".to_owned(), ""),
            Side::Real(vhost) => (vhost.config(), vhost.rabbitmq.amqp.clone(), vhost.prefix.as_str()),
        };
        let (host, port) = amqp.split_once(':').unwrap();
        let clients = json!([{"clientId": CLIENT_ID, "accessToken": ACCESS_TOKEN, "scopes": ["pulse:namespace:*"]}]);
        let variables = [
            ("RABBIT_BASE_URL", config.base_urls[0].as_str()),
            ("RABBIT_USERNAME", &config.account.username),
            ("RABBIT_PASSWORD", config.account.password.expose()),
            ("TASKCLUSTER_AMQP_PROTOCOL", "amqp://"),
            ("TASKCLUSTER_AMQP_HOSTNAME", host),
            ("TASKCLUSTER_AMQP_PORT", port),
            ("TASKCLUSTER_AMQP_VHOST", &config.vhost),
            ("USERNAME_PREFIX", prefix),
            ("SERVER_ADDRESS", "127.0.0.1"),
            ("PORT", "0"),
            ("LEVEL", LEVEL),
            ("STATIC_CLIENTS", &clients.to_string()),
            ("TASKCLUSTER_CLIENT_ID", CLIENT_ID),
            ("TASKCLUSTER_ACCESS_TOKEN", ACCESS_TOKEN),
        ];
        let mut variables: BTreeMap<_, _> = variables.map(|(name, value)| (name.into(), value.to_owned())).into();
        if let Some(database) = &database {
            let keys = json!([{"id": "a", "algo": "aes-256", "key": CRYPTO_KEY}]);
            variables.insert("DB_CRYPTO_KEYS".into(), keys.to_string());
            variables.insert("DATABASE_URL".into(), with_password(&database.url()));
        }
        let management = format!("{}:{}", config.account.username, config.account.password.expose());
        let secrets = [
            config.account.password.expose(),
            &STANDARD.encode(management),
            ACCESS_TOKEN,
            DATABASE_PASSWORD,
            CRYPTO_KEY,
        ];
        let secrets = Mutex::new(secrets.map(str::to_owned).into());
        let folder = tempfile::tempdir().unwrap();
        Deployment { side, database, folder, variables, clients: Mutex::default(), secrets, written: Arc::default() }
    }

    /// Sets a variable for the processes that are started from now on.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Has one more text that no process may write.
    pub fn add_secret(&self, secret: &str) {
        assert!(secret.len() > 5, "{secret:?} would be found by chance");
        self.secrets.lock().unwrap().push(secret.to_owned());
    }

    /// Has a text that somebody got to see, which is no process's output, searched for secrets too.
    pub fn shown(&self, by: &str, text: impl Into<String>) {
        self.written.lock().unwrap().push(Written { by: by.to_owned(), text: text.into() });
    }

    /// Starts a process with these arguments.
    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::start(arguments, self.folder.path(), &self.variables, Stdio::piped(), self.written.clone())
    }

    /// Starts a process that serves, and waits until it listens.
    pub async fn serve(&self, arguments: &[&str]) -> (Program, Url) {
        let program = self.start(arguments);
        let url = program.url().await;
        (program, url)
    }

    /// Runs a process to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).end().await
    }

    /// Runs a process to its end whose standard output goes to `output`.
    pub async fn run_into(&self, arguments: &[&str], output: Stdio) -> Ended {
        Program::start(arguments, self.folder.path(), &self.variables, output, self.written.clone()).end().await
    }

    /// Claims as a client of the service at `url` does, without a second attempt.
    pub async fn claim(&self, url: &Url, namespace: &str, payload: &Value) -> Result<Answer, TaskclusterError> {
        let client = self.clients.lock().unwrap().entry(url.clone()).or_insert_with(|| Arc::new(client(url))).clone();
        let reply = client.call(Method::POST, "pulse", &format!("namespace/{namespace}"), Some(payload)).await?;
        let text = |key: &str| reply.body[key].as_str().unwrap_or_else(|| panic!("no {key}")).to_owned();
        let connection_string = text("connectionString");
        self.add_secret(password(&connection_string).as_str());
        Ok(Answer { connection_string, reclaim_at: Timestamp::parse(&text("reclaimAt")).unwrap() })
    }

    /// Whether the broker lets a client in that connects with this; if not, why.
    pub async fn try_login(&self, connection_string: &str) -> Result<(), String> {
        match &self.side {
            Side::Fake(fake) => {
                let url = Url::parse(connection_string).unwrap();
                let welcome = fake.can_log_in(url.username(), url.password().unwrap());
                welcome.then_some(()).ok_or_else(|| "refused".to_owned())
            }
            Side::Real(_) => {
                let connection = log_in(connection_string).await.map_err(|error| error.to_string())?;
                // It is in; how it leaves is no matter.
                let _ = connection.close(200, "bye".into()).await;
                Ok(())
            }
        }
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let secrets = self.secrets.lock().unwrap();
        for Written { by, text } in self.written.lock().unwrap().iter() {
            let shown = leak(&secrets, text);
            assert!(shown.is_none(), "a process wrote a secret: `{by}`: {shown:?}");
        }
    }
}

/// The first line of `text` that shows one of `secrets`: as it is, as it stands in JSON (twice over, as where an error is
/// quoted), in a URL, or in base64.
pub fn leak<'a>(secrets: &[String], text: &'a str) -> Option<&'a str> {
    let forms: Vec<String> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    text.lines().find(|line| forms.iter().any(|form| line.contains(form)))
}

fn forms(secret: &str) -> [String; 5] {
    let quoted = |text: &str| {
        let json = json!(text).to_string();
        json[1..json.len() - 1].to_owned()
    };
    let in_url = percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    // The last characters depend on what follows.
    let base64 = STANDARD_NO_PAD.encode(&secret.as_bytes()[..secret.len() / 3 * 3]);
    [secret.to_owned(), quoted(secret), quoted(&quoted(secret)), in_url, base64]
}

fn client(url: &Url) -> Taskcluster {
    let (client_id, access_token) = (CLIENT_ID.to_owned(), ACCESS_TOKEN.to_owned());
    let credentials = ClientCredentials { client_id, access_token, certificate: None };
    let limits = RetryPolicy { timeout: PATIENCE, retries: 0, ..RetryPolicy::default() };
    Taskcluster::new(url.clone(), Some(credentials), Arc::new(SystemClock), limits).unwrap()
}

/// The server lets everybody in, so that any password is right.
fn with_password(url: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_password(Some(DATABASE_PASSWORD)).unwrap();
    url.to_string()
}

/// The password in a connection string.
pub fn password(connection_string: &str) -> String {
    let url = Url::parse(connection_string).expect("a connection string is a URL");
    url.password().expect("a connection string has a password").to_owned()
}

/// What a process has written so far.
#[derive(Default)]
struct Output {
    stdout: String,
    stderr: String,
    /// How many of the two are at their end.
    ended: usize,
}

/// A running process.
pub struct Program {
    name: String,
    child: Child,
    output: watch::Receiver<Output>,
    readers: Vec<JoinHandle<()>>,
    written: Arc<Mutex<Vec<Written>>>,
}

/// What is left of a process.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote to its standard output.
    pub stdout: String,
    /// All that it wrote to its standard error.
    pub stderr: String,
}

impl Program {
    /// Starts a process in `folder` with these variables and no others.
    pub fn start(
        arguments: &[&str],
        folder: &Path,
        variables: &BTreeMap<String, String>,
        stdout: Stdio,
        written: Arc<Mutex<Vec<Written>>>,
    ) -> Program {
        // A file that may not grow is to be an error, as it is in containers, and not the end of the process.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_taskcluster-pulse")]);
        command.args(arguments).current_dir(folder).env_clear().envs(variables);
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, output) = watch::channel(Output::default());
        let mut readers = Vec::new();
        match child.stdout.take() {
            Some(stdout) => readers.push(read(stdout, sender.clone(), |output| &mut output.stdout)),
            None => sender.send_modify(|output| output.ended += 1),
        }
        readers.push(read(child.stderr.take().unwrap(), sender, |output| &mut output.stderr));
        Program { name: arguments.join(" "), child, output, readers, written }
    }

    /// Waits until it has written `text`, to either output, so many times.
    pub async fn says_times(&self, text: &str, times: usize) {
        let count = |output: &Output| output.stdout.matches(text).count() + output.stderr.matches(text).count();
        let mut output = self.output.clone();
        let said = output.wait_for(|output| count(output) >= times || output.ended == 2);
        let said = timeout(PATIENCE, said).await.is_ok_and(|output| count(&output.unwrap()) >= times);
        assert!(said, "`{}` did not say {text:?} {times} times:\n{}", self.name, self.shown());
    }

    /// Waits until it has written `text`.
    pub async fn says(&self, text: &str) {
        self.says_times(text, 1).await;
    }

    /// Where it listens, once it does.
    pub async fn url(&self) -> Url {
        let marker = "listening at ";
        self.says(marker).await;
        let output = self.stdout();
        let (_, rest) = output.split_once(marker).unwrap();
        Url::parse(rest.split(['"', '\n']).next().unwrap()).unwrap()
    }

    /// What it has written to its standard output so far.
    pub fn stdout(&self) -> String {
        self.output.borrow().stdout.clone()
    }

    fn shown(&self) -> String {
        let output = self.output.borrow();
        format!("---- its output\n{}---- its errors\n{}----", output.stdout, output.stderr)
    }

    /// What everybody on the machine can see of it: its arguments.
    pub fn command_line(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/cmdline", self.child.id())).unwrap()
    }

    /// Sends a signal: `TERM`, say.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success(), "{kill}");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub async fn end(mut self) -> Ended {
        let ended = timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        let Ok(status) = ended.await else { panic!("`{}` did not end:\n{}", self.name, self.shown()) };
        self.read_to_the_end();
        let output = self.output.borrow();
        Ended { code: status.code(), stdout: output.stdout.clone(), stderr: output.stderr.clone() }
    }

    fn read_to_the_end(&mut self) {
        self.readers.drain(..).for_each(|reader| reader.join().unwrap());
    }
}

impl Drop for Program {
    /// Kills it, which it can neither notice nor refuse.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.read_to_the_end();
        let output = self.output.borrow();
        let mut written = self.written.lock().unwrap();
        let mut push = |text: &str| written.push(Written { by: self.name.clone(), text: text.to_owned() });
        // What `claim` prints is a secret, and meant to be.
        if !self.name.starts_with("claim ") {
            push(&output.stdout);
        }
        push(&output.stderr);
    }
}

/// Reads one output to its end, on a thread of its own.
fn read(
    from: impl Read + Send + 'static,
    into: watch::Sender<Output>,
    text: fn(&mut Output) -> &mut String,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            into.send_modify(|output| *text(output) += &format!("{line}\n"));
        }
        into.send_modify(|output| output.ended += 1);
    })
}

/// Asks a service for a path, and gives status and body.
pub async fn get(url: &Url, path: &str) -> (u16, String) {
    taskcluster_pulse::tls::install_crypto_provider();
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let answer = client.get(url.join(path).unwrap()).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}
