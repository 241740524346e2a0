//! The heartbeat of the web part: rotation waits while there is none.
//!
//! A process beats only while it gets an answer from itself at the address where clients ask, so that one which runs but
//! does not answer is as silent as one that has ended; and while the auth service answers, where it is asked, because the
//! clients that only that one knows can't claim without it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::redirect;

use crate::tls;
use crate::web::api::app::App;

/// How often it beats; more often where less silence is borne.
const INTERVAL: Duration = Duration::from_secs(15);
const BEATS_PER_SILENCE: u32 = 4;

/// How long an answer may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);

/// What asks this process at its own address.
#[derive(Clone)]
pub(super) struct Itself {
    http: reqwest::Client,
    url: String,
}

impl Itself {
    /// Of the web part that listens at `address`.
    pub(super) fn at(address: SocketAddr) -> Result<Itself> {
        tls::install_crypto_provider();
        // Each time a new connection: those that are open say nothing of whether new ones are accepted.
        let http = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(CHECK_TIMEOUT);
        let http = http.redirect(redirect::Policy::none()).build();
        let url = format!("http://{}/__lbheartbeat__", reachable(address));
        Ok(Itself { http: http.context("the heartbeat's HTTP client")?, url })
    }

    /// Asks as a proxy would which has ended TLS.
    pub(super) async fn answers(&self) -> Result<()> {
        let answer = self.http.get(&self.url).header("x-forwarded-proto", "https").send().await;
        let answer = answer.and_then(reqwest::Response::error_for_status);
        answer.map(drop).with_context(|| format!("no answer from ourselves at {}", self.url))
    }
}

/// What beats.
pub(super) struct Heartbeat {
    app: Arc<App>,
    itself: Itself,
}

impl Heartbeat {
    /// Of the web part that `itself` asks.
    pub(super) fn new(app: Arc<App>, itself: Itself) -> Heartbeat {
        Heartbeat { app, itself }
    }

    /// Beats; it never ends.
    pub(super) async fn run(self) {
        let service = &self.app.context.service;
        let every = INTERVAL.min(service.policy().hold.silence / BEATS_PER_SILENCE);
        let mut serves = true;
        loop {
            let served = self.ask().await;
            match &served {
                // The store's failures are told of by whoever keeps the memory.
                Ok(()) => drop(service.beat().await.inspect_err(|error| tracing::debug!("no heartbeat: {error}"))),
                Err(error) if serves => {
                    tracing::error!("this process has no heartbeat, and rotation waits if no other has: {error:#}")
                }
                Err(_) => {}
            }
            serves = served.is_ok();
            tokio::time::sleep(every).await;
        }
    }

    /// Asks ourselves, and the auth service.
    async fn ask(&self) -> Result<()> {
        self.itself.answers().await?;
        let auth = self.app.authenticator.health(CHECK_TIMEOUT).await;
        auth.unwrap_or(Ok(())).map_err(|error| anyhow!("no answer from the auth service: {error}"))
    }
}

/// Where to reach a listener of this host: one that listens everywhere, at the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_asked_where_it_listens() {
        for (listens, asked) in [
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::]:8080", "[::1]:8080"),
            ("10.1.2.3:80", "10.1.2.3:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), asked);
        }
    }
}
