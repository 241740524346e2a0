//! Stopping: signals, and how long what is under way may go on.

use std::time::Duration;

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Turns true once the process is to end.
pub(super) type Stop = watch::Receiver<bool>;

pub(super) async fn stopped(mut stop: Stop) {
    // The sender lives as long as the process does; its end would be a reason to stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Lets `work` go on to its end; once the process is to end, for no longer than `drain`. What is cut off is left as a crash
/// would leave it.
pub(super) async fn finish<T>(work: impl Future<Output = T>, stop: Stop, drain: Duration) -> Option<T> {
    let late = async {
        stopped(stop).await;
        tokio::time::sleep(drain).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = late => None,
    }
}

/// Watches for SIGTERM and SIGINT. The second one ends the process at once, with the exit code of a failure.
pub(super) fn stop_signal() -> Result<Stop> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (sender, stop) = watch::channel(false);
    tokio::spawn(async move {
        for stopping in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stopping {
                tracing::warn!("stopped by a second signal: what was under way is cut off");
                std::process::exit(1);
            }
            tracing::info!("stopping: what is under way is finished first");
            let _ = sender.send(true);
        }
    });
    Ok(stop)
}
