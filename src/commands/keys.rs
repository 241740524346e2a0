//! The keys that sign tokens for RabbitMQ's management API: `keys make` and `keys show`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use taskcluster_pulse::broker::token::TokenKey;
use taskcluster_pulse::clock::{Clock as _, SystemClock};
use taskcluster_pulse::config::Config;

#[derive(Args)]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print a new key, to be added at the end of RABBIT_TOKEN_KEYS. It is a secret.
    Make {
        /// Its name. By default the date.
        #[arg(long)]
        id: Option<String>,
    },
    /// Print the public part of each key of RABBIT_TOKEN_KEYS, and how to make it known to RabbitMQ.
    Show,
}

/// Does what is asked; what is to be printed.
pub fn keys(config: &Config, Keys { what }: Keys) -> Result<String> {
    match what {
        What::Make { id } => {
            let today = || SystemClock.now().to_string().chars().take_while(|c| *c != 'T').collect();
            let made = TokenKey::make(&id.unwrap_or_else(today))?;
            // What can't be used is not handed out.
            TokenKey::parse(&format!("[{}]", made.expose()))?;
            Ok(made.expose().to_owned())
        }
        What::Show => {
            let keys = TokenKey::parse(config.rabbit.token_keys.expose()).context("rabbit.tokenKeys")?;
            let mut text = String::new();
            for key in &keys {
                let _ = writeln!(text, "# /etc/rabbitmq/{}.pem, on each node:\n{}", key.id(), key.public());
            }
            let _ = writeln!(text, "# In rabbitmq.conf, with the plugin rabbitmq_auth_backend_oauth2 enabled:");
            let _ = writeln!(text, "auth_backends.1 = internal\nauth_backends.2 = rabbit_auth_backend_oauth2");
            let _ = writeln!(text, "auth_oauth2.resource_server_id = {}", config.rabbit.token_audience);
            if let Some(key) = keys.last() {
                let _ = writeln!(text, "auth_oauth2.default_key = {}", key.id());
            }
            for key in &keys {
                let _ = writeln!(text, "auth_oauth2.signing_keys.{0} = /etc/rabbitmq/{0}.pem", key.id());
            }
            let _ = write!(text, "auth_oauth2.algorithms.1 = ES256");
            Ok(text)
        }
    }
}
