//! A command that is run with the current credentials of a namespace: started anew or signalled when they change.
//!
//! The command runs in a process group of its own. Signals that end it go to the whole group, so that they reach what a
//! shell or another wrapper has started; the others go to the command alone, because most programs die of a signal that
//! they don't know. A terminal's Ctrl-C reaches it through here, once, and a terminal is not its standard input: what is
//! started anew by itself can't hold a conversation.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures::stream::{self, SelectAll};
use futures::{Stream, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use crate::client::{Claims, Credentials, Trouble};

/// The variable that holds the connection string with which the command was started.
pub const VARIABLE: &str = "PULSE_CONNECTION_STRING";
/// The variable that holds the path of the file with the current connection string, where there is one.
pub const FILE_VARIABLE: &str = "PULSE_CONNECTION_STRING_FILE";

/// How long until a file that could not be written is tried again.
const REWRITE: Duration = Duration::from_secs(10);

/// What to run, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program; looked up in `PATH` where it has no slash.
    pub command: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What happens on a new connection string.
    pub on_reclaim: OnReclaim,
    /// How long the command may take to end after SIGTERM, before it is killed.
    pub stop_timeout: Duration,
    /// The file that always holds the current connection string, and nothing else. Its owner alone can read it, it is
    /// replaced in one step, and it is removed at the end.
    pub file: Option<PathBuf>,
    /// How long the first claim is tried, where the service can't be reached.
    pub wait: Duration,
}

/// What happens to the command on a new connection string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnReclaim {
    /// It is ended and started anew.
    Restart,
    /// It is sent this signal, after the file is written.
    Signal(Signal),
}

/// Why the command did not run, or is not waited for any more.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// The first claim was refused.
    #[error("{0}")]
    Refused(Trouble),
    /// The first claim did not succeed in time.
    #[error("the namespace could not be claimed within {}: {why}", humantime::format_duration(*.wait))]
    NotClaimed {
        /// How long it was tried.
        wait: Duration,
        /// The last that is known of it.
        why: String,
    },
    /// The file could not be written.
    #[error("{} can't be written: {error}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The command could not be started.
    #[error("{} can't be started: {error}", .command.display())]
    Start {
        /// The program.
        command: OsString,
        /// Why not.
        error: io::Error,
    },
    /// The operating system refused something else.
    #[error("signals and child processes can't be waited for: {0}")]
    System(#[from] io::Error),
}

/// The signal of this name, with or without `SIG` before it.
///
/// # Errors
/// A sentence that says which there are.
pub fn signal_named(text: &str) -> Result<Signal, String> {
    let name = text.to_ascii_uppercase();
    Ok(match name.strip_prefix("SIG").unwrap_or(&name) {
        "HUP" => Signal::HUP,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "TERM" => Signal::TERM,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "WINCH" => Signal::WINCH,
        _ => return Err("give HUP, INT, QUIT, TERM, USR1, USR2 or WINCH".to_owned()),
    })
}

/// Runs the command with what `claims` yields until it ends by itself or by a signal that was passed on, and gives its
/// exit code: 128 and the signal's number where a signal ended it.
///
/// SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the command; before it runs they end the
/// waiting, with the same exit code as if it had. After SIGTERM it is killed where it
/// takes too long, and not started again. Troubles of the claims are logged as warnings; the command runs on.
///
/// # Errors
/// See [`ExecError`]. The command does not run any more.
pub async fn run(mut claims: Claims, options: &Options) -> Result<u8, ExecError> {
    let mut signals = signals()?;
    let credentials = tokio::select! {
        first = first(&mut claims, options.wait) => first?,
        Some(signal) = signals.next() => return Ok(signal_code(signal.as_raw())),
    };
    let mut run = Run::start(options, credentials)?;
    loop {
        tokio::select! {
            status = run.child.wait() => {
                if let Some(code) = run.ended(status?)? {
                    return Ok(code);
                }
            }
            Some(signal) = signals.next() => run.pass_on(signal),
            Some(item) = claims.next() => match item {
                Ok(fresh) => run.renew(fresh),
                Err(trouble) => tracing::warn!("{trouble}"),
            },
            () = reached(run.rewrite_at) => run.announce(),
            () = reached(run.kill_at) => run.kill(),
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the first credentials.
async fn first(claims: &mut Claims, wait: Duration) -> Result<Credentials, ExecError> {
    let mut why = "the service has not answered".to_owned();
    let claimed = async {
        while let Some(item) = claims.next().await {
            match item {
                Ok(credentials) => return Some(Ok(credentials)),
                Err(refused @ Trouble::Refused(_)) => return Some(Err(ExecError::Refused(refused))),
                Err(trouble) => {
                    tracing::warn!("{trouble}");
                    why = trouble.to_string();
                }
            }
        }
        None
    };
    match tokio::time::timeout(wait, claimed).await {
        Ok(Some(claimed)) => claimed,
        Ok(None) | Err(_) => Err(ExecError::NotClaimed { wait, why }),
    }
}

/// The signals that are passed on.
fn signals() -> io::Result<SelectAll<impl Stream<Item = Signal> + Unpin>> {
    let mut all = SelectAll::new();
    for (kind, sent) in [
        (SignalKind::terminate(), Signal::TERM),
        (SignalKind::interrupt(), Signal::INT),
        (SignalKind::quit(), Signal::QUIT),
        (SignalKind::hangup(), Signal::HUP),
        (SignalKind::user_defined1(), Signal::USR1),
        (SignalKind::user_defined2(), Signal::USR2),
    ] {
        let mut received = signal(kind)?;
        all.push(stream::poll_fn(move |context| received.poll_recv(context).map(|some| some.map(|()| sent))));
    }
    Ok(all)
}

/// What becomes of the command when it ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Its exit code is ours.
    Running,
    /// It is started anew.
    Restarting,
    /// Its exit code is ours, and it gets no new credentials.
    Stopping,
}

/// The command while it runs.
struct Run<'a> {
    options: &'a Options,
    credentials: Credentials,
    file: Option<Published>,
    child: Child,
    phase: Phase,
    kill_at: Option<Instant>,
    rewrite_at: Option<Instant>,
}

impl<'a> Run<'a> {
    fn start(options: &'a Options, credentials: Credentials) -> Result<Run<'a>, ExecError> {
        let file = options.file.as_deref().map(|path| Published::new(path, &credentials)).transpose()?;
        let child = spawn(options, &credentials, file.as_ref())?;
        Ok(Run { options, credentials, file, child, phase: Phase::Running, kill_at: None, rewrite_at: None })
    }

    /// The exit code, unless the command is to go on and is started anew.
    fn ended(&mut self, status: ExitStatus) -> Result<Option<u8>, ExecError> {
        if self.phase != Phase::Restarting {
            return Ok(Some(exit_code(status)));
        }
        self.child = spawn(self.options, &self.credentials, self.file.as_ref())?;
        (self.phase, self.kill_at) = (Phase::Running, None);
        Ok(None)
    }

    fn renew(&mut self, fresh: Credentials) {
        let same = fresh.connection_string == self.credentials.connection_string;
        self.credentials = fresh;
        if !same {
            self.announce();
        }
    }

    /// Writes the file, then tells the command; in this order, so that the command finds there what it is told of.
    fn announce(&mut self) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.rewrite_at = None;
        if let Some(file) = &self.file
            && let Err(error) = replace(&file.0, &self.credentials)
        {
            tracing::warn!("{} can't be written, which is tried again: {error}", file.0.display());
            self.rewrite_at = Some(Instant::now() + REWRITE);
            return;
        }
        match self.options.on_reclaim {
            OnReclaim::Signal(signal) => {
                tracing::info!("new credentials: the command is signalled");
                self.send(signal, kill_process);
            }
            OnReclaim::Restart if self.phase == Phase::Running => {
                tracing::info!("new credentials: the command is started anew");
                self.phase = Phase::Restarting;
                self.end();
            }
            OnReclaim::Restart => {}
        }
    }

    fn pass_on(&mut self, signal: Signal) {
        if signal == Signal::TERM {
            self.phase = Phase::Stopping;
            self.end();
        } else if matches!(signal, Signal::INT | Signal::QUIT) {
            self.send(signal, kill_process_group);
        } else {
            self.send(signal, kill_process);
        }
    }

    fn end(&mut self) {
        self.send(Signal::TERM, kill_process_group);
        self.kill_at = Instant::now().checked_add(self.options.stop_timeout);
    }

    fn kill(&mut self) {
        tracing::warn!("the command did not end in time, and is killed");
        self.kill_at = None;
        self.send(Signal::KILL, kill_process_group);
    }

    /// The process id can't be another process's by now: it is free only after the end of the command was waited for.
    fn send(&self, signal: Signal, to: impl FnOnce(Pid, Signal) -> rustix::io::Result<()>) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id
            && let Err(error) = to(id, signal)
        {
            tracing::debug!("the command got no signal: {error}");
        }
    }
}

fn spawn(options: &Options, credentials: &Credentials, file: Option<&Published>) -> Result<Child, ExecError> {
    let mut command = Command::new(&options.command);
    command.args(&options.arguments).process_group(0).kill_on_drop(true);
    command.env(VARIABLE, credentials.connection_string.expose());
    match file {
        Some(Published(path)) => command.env(FILE_VARIABLE, path),
        None => command.env_remove(FILE_VARIABLE),
    };
    if io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    command.spawn().map_err(|error| ExecError::Start { command: options.command.clone(), error })
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => signal_code(signal.unwrap_or_default()),
    }
}

/// The exit code that stands for the end by a signal, as shells have it.
fn signal_code(signal: i32) -> u8 {
    u8::try_from(128_i32.saturating_add(signal)).unwrap_or(u8::MAX)
}

/// A file with the current connection string; removed when this is dropped. Its path is absolute, because the command may
/// work in another directory.
struct Published(PathBuf);

impl Published {
    fn new(path: &Path, credentials: &Credentials) -> Result<Published, ExecError> {
        let write = || {
            let path = std::path::absolute(path)?;
            // What is replaced must be a file that can be missed, and not a device or a link to one.
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_file()) {
                return Err(io::Error::other("there is something else than a file"));
            }
            replace(&path, credentials)?;
            Ok(Published(path))
        };
        write().map_err(|error| ExecError::File { path: path.to_owned(), error })
    }
}

/// Replaces the file at `path` in one step, by a new one that is written beside it.
fn replace(path: &Path, credentials: &Credentials) -> io::Result<()> {
    let mut name = OsString::from(".");
    name.push(path.file_name().ok_or(ErrorKind::IsADirectory)?);
    name.push(format!(".{:016x}", rand::random::<u64>()));
    let beside = path.with_file_name(name);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    let written = file
        .write_all(credentials.connection_string.expose().as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // The first error is the one that counts.
        let _ = fs::remove_file(&beside);
    }
    written
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!("{} can't be removed: {error}", self.0.display());
        }
    }
}
