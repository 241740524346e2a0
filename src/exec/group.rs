//! The processes of a command: signals them together, reaps them, and knows when they are gone.
//!
//! The command runs in a process group of its own. Processes that it starts are in the group unless they leave it. Some
//! move to another group of our session: by a shell's job control, by `timeout`, or as the command of another `exec`.
//! These are left to the process that started them, and ended once that is gone. Others begin a session of their own
//! (by `setsid`, as daemons do). They are meant to outlive the command: we never signal them, and reap them if they
//! become our children.
//!
//! To see this, we adopt each process of the command that loses its parent (`PR_SET_CHILD_SUBREAPER` of Linux; process
//! 1 of a container adopts by itself). A process that uses this module must have no other children, because it reaps
//! all that end.

use std::collections::HashSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, test_kill_process_group, wait,
};

/// The processes of one start of the command.
pub(super) struct Group {
    /// The process that we started. Its id is also the group's.
    leader: Pid,
    /// How the leader ended.
    status: Option<ExitStatus>,
    /// Whether no process of the group is left, so that another group may have its id by now.
    gone: bool,
    /// Children that we had before. They don't belong to the command.
    foreign: HashSet<Pid>,
    /// The strays that we told to end.
    told: HashSet<Pid>,
}

impl Group {
    /// The group in which `leader` was just started; see [`children`] for `foreign`.
    pub fn new(leader: Pid, foreign: HashSet<Pid>) -> Group {
        Group { leader, status: None, gone: false, foreign, told: HashSet::new() }
    }

    /// How the leader ended, once we have reaped it.
    pub fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Signals the leader alone, while it runs.
    pub fn signal_leader(&self, signal: Signal) {
        if self.status.is_none() {
            report(kill_process(self.leader, signal));
        }
    }

    /// Signals all of the group.
    pub fn signal(&self, signal: Signal) {
        if !self.gone {
            report(kill_process_group(self.leader, signal));
        }
    }

    /// Reaps every child that has ended.
    pub fn reap(&mut self) {
        for (pid, status) in reap() {
            self.told.remove(&pid);
            self.foreign.remove(&pid);
            if pid == self.leader {
                self.status = Some(status);
            }
        }
    }

    /// Whether all processes that are to end with the command are gone.
    pub fn is_over(&mut self) -> bool {
        self.is_gone() && self.strays().is_empty()
    }

    fn is_gone(&mut self) -> bool {
        self.gone = self.gone || self.status.is_some() && !exists(self.leader);
        self.gone
    }

    /// Once their group is gone, tells those strays to end that we have not told yet.
    pub fn end_strays(&mut self) {
        if !self.is_gone() {
            return;
        }
        for stray in self.strays() {
            if self.told.insert(stray) {
                report(kill_process(stray, Signal::TERM));
                report(kill_process(stray, Signal::CONT));
            }
        }
    }

    /// Kills all that is left.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if self.is_gone() {
            for stray in self.strays() {
                report(kill_process(stray, Signal::KILL));
            }
        }
    }

    /// Processes of another group of our session that lost their parent. No other process can have their ids, because
    /// only we reap them.
    fn strays(&self) -> Vec<Pid> {
        let own = getpid();
        let session = process(own).map(|own| own.session);
        let is_stray = |process: &Process| {
            process.parent == Some(own)
                && Some(process.session) == session
                && process.group != Some(self.leader)
                && !process.has_ended
                && !self.foreign.contains(&process.id)
        };
        processes().into_iter().flatten().filter(is_stray).map(|process| process.id).collect()
    }
}

/// No process of the command outlives the process that renews its credentials.
impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Makes us the parent of each process of the command that loses its own parent.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    report(rustix::process::set_child_subreaper(Some(getpid())));
}

/// Reaps every child that has ended.
pub(super) fn reap() -> Vec<(Pid, ExitStatus)> {
    let mut reaped = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => reaped.push((pid, ExitStatus::from_raw(status.as_raw()))),
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return reaped,
        }
    }
}

/// Our children.
pub(super) fn children() -> HashSet<Pid> {
    let own = Some(getpid());
    processes().into_iter().flatten().filter(|process| process.parent == own).map(|process| process.id).collect()
}

/// Whether a shell can stop us and continue us. If our group is that of the session's leader, nobody is left to do so.
pub(super) fn is_a_job() -> bool {
    process(getpid()).is_some_and(|own| own.group != own.session)
}

/// Whether we ignore the end of a terminal (`nohup`). Then the command does, too.
pub(super) fn ignores_hangups() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 << (Signal::HUP.as_raw() - 1) != 0)
}

/// Stops this process, as the system would have done if we did not handle the signal.
pub(super) fn suspend() {
    if is_a_job() {
        report(kill_process(getpid(), Signal::STOP));
    }
}

/// Whether a process runs in this group. A process that has ended and is not yet reaped does not count.
fn exists(group: Pid) -> bool {
    match test_kill_process_group(group) {
        Err(Errno::SRCH) => false,
        // A process that we may not signal may be hidden from us, too.
        Err(_) => true,
        Ok(()) => {
            processes().is_none_or(|all| all.iter().any(|process| process.group == Some(group) && !process.has_ended))
        }
    }
}

/// What the system says about a process.
struct Process {
    id: Pid,
    parent: Option<Pid>,
    group: Option<Pid>,
    session: Option<Pid>,
    has_ended: bool,
}

/// All processes that we can see. `None` if the system has no `/proc` as on Linux, or one of another namespace.
fn processes() -> Option<Vec<Process>> {
    let own = fs::read_link("/proc/self").ok()?.to_str()?.parse().ok()?;
    if Pid::from_raw(own) != Some(getpid()) {
        return None;
    }
    let entries = fs::read_dir("/proc").ok()?;
    let ids = entries.filter_map(|entry| Pid::from_raw(entry.ok()?.file_name().to_str()?.parse().ok()?));
    Some(ids.filter_map(process).collect())
}

/// See proc_pid_stat(5). The name, in parentheses, may hold anything.
fn process(id: Pid) -> Option<Process> {
    let stat = fs::read(format!("/proc/{}/stat", id.as_raw_nonzero())).ok()?;
    let stat = String::from_utf8_lossy(&stat);
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X" | "x");
    let mut next = || Some(Pid::from_raw(fields.next()?.parse().ok()?));
    Some(Process { id, parent: next()?, group: next()?, session: next()?, has_ended })
}

fn report(sent: rustix::io::Result<()>) {
    if let Err(error) = sent {
        tracing::debug!("the command got no signal: {error}");
    }
}
