//! What systemd is told where it has started this process (`Type=notify`, `WatchdogSec=`): that it is ready, that it still answers,
//! and that it ends. Elsewhere nobody is told anything.

use sd_notify::NotifyState;

use super::heartbeat::Itself;
use super::stop::{Stop, stopped};

/// The process listens where it has to, and its tasks run.
pub(super) fn ready() {
    tell(NotifyState::Ready);
}

/// Tells again and again that the process is well, until `stop`: as long as it answers its own request where it listens, and as
/// long as it gets round to telling anything where it does not listen.
pub(super) async fn watch(itself: Option<Itself>, stop: Stop) {
    let watched = async {
        let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
        // One answer that is late is no reason to be restarted.
        let mut ticks = tokio::time::interval(limit / 4);
        loop {
            ticks.tick().await;
            let well = match &itself {
                Some(itself) => itself.answers().await,
                None => Ok(()),
            };
            match well {
                Ok(()) => tell(NotifyState::Watchdog),
                Err(error) => tracing::warn!("systemd is not told that this process is well: {error:#}"),
            }
        }
    };
    tokio::select! {
        () = watched => {}
        () = stopped(stop) => tell(NotifyState::Stopping),
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!("systemd can't be told how this process is: {error}");
    }
}
