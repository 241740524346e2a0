//! The raw calls of RabbitMQ's management API that our work can't do without: sent, answered, and not looked at.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Subcommand;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::json;
use taskcluster_pulse::domain::name::{Slot, USER_TAG};
use taskcluster_pulse::secret::Password;

use crate::world::{name, names, variable};

/// As many calls as the service has under way at once.
const IN_FLIGHT: usize = 8;

/// The lists that a sweep reads, in the forms in which it asks for them.
const LISTINGS: [&str; 5] = [
    "users?columns=name,tags,password_hash,hashing_algorithm",
    "vhosts/%2F/permissions?columns=user,configure,write,read",
    "queues/%2F?disable_stats=true&enable_queue_totals=true&columns=name,messages,type,exclusive",
    "exchanges/%2F?disable_stats=true&columns=name",
    "vhosts/%2F/connections?columns=name,user,connected_at",
];

/// Which calls.
#[derive(Subcommand)]
pub enum Calls {
    /// Gives as many users a new password hash.
    Puts {
        /// How many.
        count: usize,
    },
    /// Reads the lists.
    Listings,
}

/// Makes the calls, on a runtime like the program's.
pub fn run(calls: &Calls) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new()?.block_on(async {
        let api = Api {
            client: Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?,
            base: variable("RABBITMQ_API")?,
            username: variable("RABBITMQ_USERNAME")?,
            password: variable("RABBITMQ_PASSWORD")?,
        };
        match calls {
            Calls::Puts { count } => {
                let puts = stream::iter(0..*count).map(|number| api.put(number)).buffer_unordered(IN_FLIGHT);
                puts.try_collect::<()>().await
            }
            Calls::Listings => futures::future::try_join_all(LISTINGS.map(|list| api.get(list))).await.map(drop),
        }
    })
}

struct Api {
    client: Client,
    base: String,
    username: String,
    password: String,
}

impl Api {
    async fn put(&self, number: usize) -> Result<()> {
        let url = format!("{}/api/users/{}", self.base, names().user(&name(number), Slot::One));
        let body = json!({
            "password_hash": Password::random().hash().as_str(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": USER_TAG,
        });
        let sent = self.client.put(url).basic_auth(&self.username, Some(&self.password)).json(&body).send().await?;
        ensure!(sent.status().is_success(), "a PUT was answered {}", sent.status());
        Ok(())
    }

    async fn get(&self, list: &str) -> Result<()> {
        let url = format!("{}/api/{list}", self.base);
        let sent = self.client.get(url).basic_auth(&self.username, Some(&self.password)).send().await?;
        sent.error_for_status()?.bytes().await?;
        Ok(())
    }
}
