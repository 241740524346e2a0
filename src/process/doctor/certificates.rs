//! Certificates: those that are shown to us, and to our clients.

use std::time::Duration;

use humantime::format_duration;

use super::report::Finding;
use crate::clock::Clock;
use crate::config::Config;
use crate::process::certificates::{Shown, addresses, look as look_at};

const NAME: &str = "certificate";
/// So long before its end somebody should look at one.
const SOON: Duration = Duration::from_secs(14 * 86_400);

pub(super) async fn look(config: &Config, clock: &dyn Clock) -> Vec<Finding> {
    let mut found = Vec::new();
    for address in addresses(config) {
        let (name, now) = (address.name, clock.now());
        found.push(match look_at(&address).await {
            Err(why) => {
                Finding::error(NAME, format!("{name} at {address} shows none: {why}"), "Does it speak TLS there? Is the address right?")
            }
            Ok(Shown { until, .. }) if until <= now => {
                Finding::error(NAME, format!("that of {name} at {address} ended at {until}"), "Renew it.")
            }
            Ok(Shown { refused: Some(why), .. }) => Finding::error(
                NAME,
                format!("that of {name} at {address} is not trusted: {why}"),
                "Does it name this host? Add its authority to the system's (ca-certificates), or name it in SSL_CERT_FILE.",
            ),
            Ok(Shown { until, .. }) => {
                let left = until.since(now);
                let days = format_duration(Duration::from_secs(left.as_secs() / 86_400 * 86_400)).to_string();
                match left < SOON {
                    true => Finding::warning(NAME, format!("that of {name} at {address} ends at {until}, in {days}"), "Renew it."),
                    false => Finding::ok(NAME, format!("that of {name} at {address} is good for {days}")),
                }
            }
        });
    }
    found
}
