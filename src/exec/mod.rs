//! Runs a command with the current credentials of a namespace. When they change, restarts it or sends it a signal.
//!
//! * `options`: what to run, and how; `error`: why it did not run.
//! * `run`: the command while it runs: signals and credentials for it, and the steps in which it ends.
//! * `group`: the processes of the command, which run in a process group of their own.
//! * `environment`: the environment of the command.
//! * `published`: the file with the current connection string.
//!
//! Signals that end the command go to the whole group, so that they reach processes that a shell or another wrapper has
//! started. Other signals go only to the command, because most programs die of a signal that they don't know. The
//! command has ended only when no process of its group runs, so two copies never run at once. Ctrl-C and Ctrl-Z on a
//! terminal reach the command through us, once. Its standard input is not a terminal: a command that restarts by itself
//! can't hold a conversation.

mod environment;
mod error;
mod group;
mod options;
mod published;
mod run;

use std::io;
use std::time::Duration;

use futures::stream::{self, SelectAll};
use futures::{Stream, StreamExt as _};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use self::run::{Run, signal_code};
use crate::client::{Claims, Credentials, Trouble};

pub use environment::{FILE_VARIABLE, PARTS, VARIABLE, secret_variables};
pub use error::ExecError;
pub use options::{OnReclaim, Options};

/// The signal of this name, with or without `SIG` before it.
///
/// # Errors
/// A sentence that lists the signals.
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

/// Runs the command with the credentials that `claims` yields, until it ends by itself or by a signal that we passed
/// on. Returns its exit code, or 128 and the signal's number if a signal ended it.
///
/// We pass SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1 and SIGUSR2 on to the command. Before it runs, they end the
/// waiting, with the same exit code as if it had run. After SIGTERM we kill the command if it takes too long, and don't
/// start it again. When the command ends, we end the rest of its process group as after SIGTERM. Problems with claims
/// are logged as warnings, and the command continues.
///
/// This reaps all children of this process, so the process must not wait for children itself.
///
/// # Errors
/// See [`ExecError`]. The command does not run any more.
pub async fn run(mut claims: Claims, options: &Options) -> Result<u8, ExecError> {
    let mut events = events()?;
    group::adopt_orphans();
    let credentials = match first(&mut claims, options.wait, &mut events).await? {
        Ok(credentials) => credentials,
        Err(signal) => return Ok(signal_code(signal.as_raw())),
    };
    let mut run = Run::start(options, credentials)?;
    loop {
        tokio::select! {
            Some(event) = events.next() => run.pass_on(event),
            Some(item) = claims.next() => match item {
                Ok(fresh) => run.renew(fresh),
                Err(trouble) => tracing::warn!("{trouble}"),
            },
            () = reached(run.rewrite_at) => run.announce(),
            () = reached(run.look_at()) => {}
        }
        if let Some(code) = run.go_on()? {
            return Ok(code);
        }
    }
}

async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Waits for the first credentials, or for a signal that ends us.
async fn first(
    claims: &mut Claims,
    wait: Duration,
    events: &mut (impl Stream<Item = Signal> + Unpin),
) -> Result<Result<Credentials, Signal>, ExecError> {
    let claimed = first_claim(claims, wait);
    let mut claimed = std::pin::pin!(claimed);
    loop {
        tokio::select! {
            claimed = &mut claimed => return claimed.map(Ok),
            Some(event) = events.next() => match event {
                Signal::CHILD => drop(group::reap()),
                Signal::TSTP => group::suspend(),
                Signal::CONT => {}
                signal => return Ok(Err(signal)),
            },
        }
    }
}

async fn first_claim(claims: &mut Claims, wait: Duration) -> Result<Credentials, ExecError> {
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

/// The signals that we pass on, and those about children and job control.
fn events() -> io::Result<SelectAll<impl Stream<Item = Signal> + Unpin>> {
    let mut all = SelectAll::new();
    for sent in [
        Signal::TERM,
        Signal::INT,
        Signal::QUIT,
        Signal::HUP,
        Signal::USR1,
        Signal::USR2,
        Signal::CHILD,
        Signal::TSTP,
        Signal::CONT,
    ] {
        if sent == Signal::HUP && group::ignores_hangups() {
            continue;
        }
        let mut received = signal(SignalKind::from_raw(sent.as_raw()))?;
        all.push(stream::poll_fn(move |context| received.poll_recv(context).map(|some| some.map(|()| sent))));
    }
    Ok(all)
}
