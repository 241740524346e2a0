//! The command while it runs: signals and credentials for it, and the steps in which it ends.

use std::collections::HashSet;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::Instant;

use super::group::Group;
use super::published::Published;
use super::{ExecError, OnReclaim, Options, environment, group};
use crate::client::Credentials;

/// How long until we retry a file that could not be written.
const REWRITE: Duration = Duration::from_secs(10);
/// How often we check whether the command's group is empty while it ends. The system tells us of most ends.
const LOOK: Duration = Duration::from_millis(100);
/// How long processes that the command has left running may take to end by themselves, for example to write their last
/// data.
const LINGER: Duration = Duration::from_secs(1);
/// How long killed processes may take to disappear. Only a process that hangs in the kernel, or that we may not kill,
/// takes longer.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// What happens when the command ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// We end with its exit code.
    Running,
    /// We start it again.
    Restarting,
    /// We end with its exit code, and give it no new credentials until then.
    Stopping,
}

/// An end in progress.
#[derive(Clone, Copy)]
struct Ending {
    step: Step,
    /// When the next step is due; `None` for never.
    next: Option<Instant>,
    /// When we check again.
    look_at: Instant,
}

/// How far an end has got.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The command has ended by itself, and processes that it left running may do so too.
    Lingering,
    /// We told it to end.
    Told,
    /// We killed it.
    Killed,
}

/// The command while it runs.
pub(super) struct Run<'a> {
    options: &'a Options,
    credentials: Credentials,
    file: Option<Published>,
    /// Children of this process that don't belong to the command.
    foreign: HashSet<Pid>,
    group: Group,
    phase: Phase,
    ending: Option<Ending>,
    /// When to retry to announce new credentials whose file could not be written.
    pub rewrite_at: Option<Instant>,
}

impl<'a> Run<'a> {
    /// Starts the command.
    ///
    /// # Errors
    /// [`ExecError::File`] and [`ExecError::Start`].
    pub fn start(options: &'a Options, credentials: Credentials) -> Result<Run<'a>, ExecError> {
        let file = options.file.as_deref().map(|path| Published::new(path, &credentials)).transpose()?;
        let foreign = group::children();
        let group = Group::new(spawn(options, &credentials, file.as_ref())?, foreign.clone());
        let (phase, ending, rewrite_at) = (Phase::Running, None, None);
        Ok(Run { options, credentials, file, foreign, group, phase, ending, rewrite_at })
    }

    /// Does what is due. Returns the exit code, unless the command continues or restarts.
    ///
    /// # Errors
    /// [`ExecError::Start`].
    pub fn go_on(&mut self) -> Result<Option<u8>, ExecError> {
        self.group.reap();
        if self.group.status().is_none() && self.ending.is_none() {
            return Ok(None);
        }
        if !self.group.is_over() && !self.is_given_up() {
            return Ok(None);
        }
        if self.phase != Phase::Restarting {
            return Ok(Some(self.group.status().map_or(signal_code(Signal::KILL.as_raw()), exit_code)));
        }
        let leader = spawn(self.options, &self.credentials, self.file.as_ref())?;
        self.group = Group::new(leader, self.foreign.clone());
        (self.phase, self.ending) = (Phase::Running, None);
        Ok(None)
    }

    /// Takes the steps of an end that are due, and says whether it was the last.
    fn is_given_up(&mut self) -> bool {
        let now = Instant::now();
        let Some(Ending { step, next, .. }) = self.ending else {
            self.phase = Phase::Stopping;
            self.step(Step::Lingering, LINGER);
            return false;
        };
        if next.is_some_and(|next| next <= now) {
            match step {
                Step::Lingering => {
                    tracing::warn!("the command has ended, and what it has left running is ended too");
                    self.end();
                }
                Step::Told => {
                    tracing::warn!("the command did not end in time, and is killed");
                    self.step(Step::Killed, LAST_PATIENCE);
                }
                Step::Killed => {
                    tracing::warn!("the command could not be killed, and is waited for no longer");
                    return true;
                }
            }
        }
        match self.ending.as_mut().map(|ending| (ending.look_at = now + LOOK, ending.step)) {
            Some((_, Step::Told)) => self.group.end_strays(),
            // Repeatedly, because a process that loses its parent only now comes to us only now.
            Some((_, Step::Killed)) => self.group.kill(),
            Some((_, Step::Lingering)) | None => {}
        }
        false
    }

    fn step(&mut self, step: Step, patience: Duration) {
        let now = Instant::now();
        let next = now.checked_add(patience);
        self.ending = Some(Ending { step, next, look_at: now + LOOK });
    }

    /// When the next step of an end is due.
    pub fn look_at(&self) -> Option<Instant> {
        self.ending.as_ref().map(|ending| ending.next.map_or(ending.look_at, |next| next.min(ending.look_at)))
    }

    /// Takes newly claimed credentials, and tells the command if the string has changed.
    pub fn renew(&mut self, fresh: Credentials) {
        let same = fresh.connection_string == self.credentials.connection_string;
        self.credentials = fresh;
        if !same {
            self.announce();
        }
    }

    /// Writes the file, then tells the command, so that the command finds the new string in the file.
    pub fn announce(&mut self) {
        if self.phase == Phase::Stopping {
            return;
        }
        self.rewrite_at = None;
        if let Some(file) = &self.file
            && let Err(error) = file.replace(&self.credentials)
        {
            tracing::warn!("{} can't be written, which is tried again: {error}", file.path().display());
            self.rewrite_at = Some(Instant::now() + REWRITE);
            return;
        }
        match self.options.on_reclaim {
            OnReclaim::Signal(signal) => {
                tracing::info!("new credentials: the command is signalled");
                self.group.signal_leader(signal);
            }
            OnReclaim::Restart if self.phase == Phase::Running => {
                tracing::info!("new credentials: the command is started anew");
                self.phase = Phase::Restarting;
                self.end();
            }
            OnReclaim::Restart => {}
        }
    }

    /// Passes a signal on, if it is meant for the command.
    pub fn pass_on(&mut self, event: Signal) {
        match event {
            Signal::TERM => {
                self.phase = Phase::Stopping;
                self.end();
            }
            Signal::INT | Signal::QUIT => {
                if self.phase == Phase::Restarting {
                    // Somebody who interrupts it does not want it to start again.
                    self.phase = Phase::Stopping;
                }
                self.group.signal(event);
            }
            Signal::TSTP if group::is_a_job() => {
                self.group.signal(event);
                group::suspend();
            }
            Signal::CONT => self.group.signal(event),
            Signal::CHILD | Signal::TSTP => {}
            other => self.group.signal_leader(other),
        }
    }

    /// Tells all processes of the command to end. Also continues suspended ones, which could not react otherwise.
    fn end(&mut self) {
        self.group.signal(Signal::TERM);
        self.group.signal(Signal::CONT);
        // A second order to end gives no more time.
        if self.ending.as_ref().is_none_or(|ending| ending.step == Step::Lingering) {
            self.step(Step::Told, self.options.stop_timeout);
        }
    }
}

/// Starts the command, and returns its process id. Its [`Group`] waits for it, not the `Child` that we drop here.
fn spawn(options: &Options, credentials: &Credentials, file: Option<&Published>) -> Result<Pid, ExecError> {
    let mut command = Command::new(&options.command);
    command.args(&options.arguments).process_group(0);
    environment::prepare(&mut command, credentials, file, &options.withheld);
    if io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    let child = command.spawn().map_err(|error| ExecError::Start { command: options.command.clone(), error })?;
    Ok(Pid::from_child(&child))
}

fn exit_code(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, signal) => signal_code(signal.unwrap_or_default()),
    }
}

/// The exit code for an end by a signal, as in shells.
pub(super) fn signal_code(signal: i32) -> u8 {
    u8::try_from(128_i32.saturating_add(signal)).unwrap_or(u8::MAX)
}
