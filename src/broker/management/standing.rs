//! Whether a node is one to be believed: it is up, it runs the virtual host, it is one of its cluster's majority, and names come
//! through to it as they are.

use reqwest::Method;

use super::{ManagementApi, answer, one_line};
use crate::broker::BrokerError;
use crate::broker::call::{Call, Sent};
use crate::broker::nodes;

/// An exchange that is in every virtual host.
const STANDARD: &str = "amq.direct";

/// What is examined of a node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Examined {
    /// Whether its lists are those of the cluster.
    Lists,
    /// That, and whether it can be used.
    Whole,
}

impl ManagementApi {
    /// The address of a node that is up and runs the virtual host, whose account is good, and that may be believed.
    pub(super) async fn up(&self) -> Result<usize, BrokerError> {
        self.first(Examined::Whole).await
    }

    /// The address of a node whose lists are those of the cluster, as far as can be told.
    pub(super) async fn sound(&self) -> Result<usize, BrokerError> {
        self.first(Examined::Lists).await
    }

    async fn passes(&self, at: usize, examined: Examined) -> Result<(), BrokerError> {
        let addresses = &self.caller.addresses;
        if addresses.are_several() && !addresses.is_sound(at) {
            // This tells whether it is this node that hangs, if what follows does.
            self.present(&Call::new(Method::GET, &["whoami"]).at(at)).await?;
        }
        if examined == Examined::Lists {
            return self.is_sound(at).await;
        }
        self.runs(at).await?;
        self.is_sound(at).await?;
        self.is_transparent(at).await
    }

    /// The first address that passes. One that hangs leaves time for the others.
    async fn first(&self, examined: Examined) -> Result<usize, BrokerError> {
        let addresses = &self.caller.addresses;
        let (order, mut share, mut failed) = (addresses.order(), self.timeout, None);
        for (tried, &at) in order.iter().enumerate() {
            share /= 2;
            let late = |_| BrokerError::Unavailable(format!("{} did not answer within {share:?}", addresses.host(at)));
            let passed = match tried + 1 == order.len() {
                true => self.passes(at, examined).await,
                false => match tokio::time::timeout(share, self.passes(at, examined)).await {
                    Ok(passed) => passed,
                    Err(elapsed) => Err(late(elapsed)),
                },
            };
            match passed {
                Ok(()) => return Ok(at),
                Err(BrokerError::Unavailable(why)) => failed = failed.or(Some(why)),
                Err(error) => return Err(error),
            }
        }
        Err(BrokerError::Unavailable(failed.unwrap_or_default()))
    }

    /// Whether the node is up, the account is good, and the virtual host runs. Of one virtual host RabbitMQ tells an
    /// administrator alone; whoever has the tag `monitoring` may list them.
    async fn runs(&self, at: usize) -> Result<(), BrokerError> {
        let columns = "columns=name,cluster_state";
        let call = Call::new(Method::GET, &["vhosts", &self.vhost]).query(columns).at(at);
        let all = Call::new(Method::GET, &["vhosts"]).query(columns).at(at);
        let runs = match self.caller.send(&call).await {
            Ok(Sent::Answered(answer)) => self.readable(&call, answer::vhost_runs(&answer.body)),
            Ok(Sent::Absent) => Err(self.not_ready(&call)),
            Ok(Sent::Cut(lost)) => return Err(lost),
            Err(BrokerError::Denied(_)) => {
                let answer = self.present(&all).await?;
                self.readable(&all, answer::runs_among_vhosts(&answer.body, &self.vhost))
            }
            Err(error @ BrokerError::Unavailable(_)) => return Err(error),
            Err(error) => Err(error),
        };
        let runs = match runs {
            Ok(runs) => runs,
            // A name with a slash is where a proxy would show that it decodes what it passes on.
            Err(error) if self.vhost.contains('/') => {
                let listed = self.present(&all).await.ok();
                match listed.map(|answer| answer::runs_among_vhosts(&answer.body, &self.vhost)) {
                    Some(Ok(true)) => return Err(self.decodes(&call)),
                    _ => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        if runs {
            return Ok(());
        }
        let what = format!("no node runs a virtual host `{}`", one_line(&self.vhost));
        Err(BrokerError::Unavailable(self.caller.told(&call, &what)))
    }

    /// Whether the node's lists are those of its cluster; asked now and then. Who has not the right to ask believes them.
    async fn is_sound(&self, at: usize) -> Result<(), BrokerError> {
        let addresses = &self.caller.addresses;
        if addresses.is_sound(at) {
            return Ok(());
        }
        // Calls that are made together need one answer.
        let _turn = addresses.turn(at).await;
        if addresses.is_sound(at) {
            return Ok(());
        }
        let call = Call::new(Method::GET, &["nodes"]).query(nodes::COLUMNS).at(at);
        let asked = self.present(&call).await;
        let known = match asked.and_then(|answer| self.readable(&call, nodes::nodes(&answer.body))) {
            Ok(known) => known,
            Err(error @ BrokerError::Unavailable(_)) => return Err(error),
            Err(_) => return Ok(()),
        };
        if known.len() > 1 {
            let call = Call::new(Method::GET, &["overview"]).query("columns=node").at(at);
            let answer = self.present(&call).await?;
            let own = self.readable(&call, answer::node(&answer.body))?;
            if let Some(why) = nodes::behind(&known, &own, addresses.are_several()) {
                addresses.fail(at, &why);
                return Err(BrokerError::Unavailable(why));
            }
        }
        addresses.found_sound(at, known.len() < 2);
        Ok(())
    }

    /// Whether names come through to the node as they are. Where a proxy decodes `%2F`, what is there would seem to be gone: nearly all
    /// names of queues and exchanges have a slash.
    async fn is_transparent(&self, at: usize) -> Result<(), BrokerError> {
        let addresses = &self.caller.addresses;
        if addresses.is_transparent(at) {
            return Ok(());
        }
        // No virtual host is called so; it is an exchange of ours, if somebody makes two segments of it.
        let odd = format!("{}/{STANDARD}", self.vhost);
        let call = Call::new(Method::GET, &["exchanges", &odd]).query("columns=name").at(at);
        match self.caller.send(&call).await {
            Ok(Sent::Answered(answer)) if answer::is_named(&answer.body, STANDARD) => return Err(self.decodes(&call)),
            Err(error @ BrokerError::Unavailable(_)) => return Err(error),
            _ => {}
        }
        addresses.found_transparent(at);
        Ok(())
    }

    fn decodes(&self, call: &Call<'_>) -> BrokerError {
        let what = "the proxy in front of RabbitMQ decodes %2F in paths: have it pass them on as they are (nginx: proxy_pass without \
                    a path or slash at its end)";
        BrokerError::Unavailable(self.caller.told(call, what))
    }
}
