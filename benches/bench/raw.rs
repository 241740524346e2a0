//! The raw calls of RabbitMQ's management API that our work can't do without: sent, answered, and not looked at.

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Subcommand;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};
use taskcluster_pulse::domain::identity::USER_TAG;
use taskcluster_pulse::domain::name::{Name, Slot};
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
        /// The tag that they are given.
        tag: String,
    },
    /// Reads the lists.
    Listings,
    /// Deletes what namespaces have: both users of each, and then its queues and its exchange.
    Deletes {
        /// How many namespaces.
        count: usize,
        /// How many queues each has.
        queues: usize,
    },
}

/// Makes the calls, on a runtime like the program's.
pub fn run(calls: &Calls) -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new()?.block_on(async {
        let api = Api::new()?;
        match calls {
            Calls::Puts { count, tag } => {
                let puts = stream::iter(0..*count).map(|number| {
                    let user = names().user(&name(number), Slot::One);
                    let api = &api;
                    async move { api.put_user(&user, tag).await }
                });
                let puts = puts.buffer_unordered(IN_FLIGHT);
                puts.try_collect::<()>().await
            }
            Calls::Deletes { count, queues } => {
                let users = (0..*count).flat_map(|number| Slot::BOTH.map(|slot| names().user(&name(number), slot)));
                api.delete_all(users.map(|user| format!("users/{user}"))).await?;
                let queue = |number| move |queue| format!("queues/%2F/queue%2F{}%2Ftasks-{queue}", name(number));
                let queues = (0..*count).flat_map(|number| (0..*queues).map(queue(number)));
                let exchanges = (0..*count).map(|number| format!("exchanges/%2F/exchange%2F{}%2Fevents", name(number)));
                tokio::try_join!(api.delete_all(queues), api.delete_all(exchanges)).map(drop)
            }
            Calls::Listings => futures::future::try_join_all(LISTINGS.map(|list| api.get(list))).await.map(drop),
        }
    })
}

/// The management API, to be called without any ado.
pub struct Api {
    client: Client,
    base: String,
    username: String,
    password: String,
}

impl Api {
    /// That of the services that the environment names.
    pub fn new() -> Result<Api> {
        Ok(Api {
            client: Client::builder().no_proxy().timeout(Duration::from_secs(60)).build()?,
            base: variable("RABBITMQ_API")?,
            username: variable("RABBITMQ_USERNAME")?,
            password: variable("RABBITMQ_PASSWORD")?,
        })
    }

    /// Makes two users with permissions, one call after the other.
    pub async fn make(&self, namespace: &str) -> Result<()> {
        for slot in Slot::BOTH {
            let user = names().user(&Name::from_stored(namespace.to_owned()), slot);
            self.put_user(&user, USER_TAG).await?;
            let pattern = format!("^(queue/{namespace}/.*|exchange/{namespace}/.*)");
            let may = json!({"configure": pattern, "write": pattern, "read": pattern});
            self.put(&format!("permissions/%2F/{user}"), &may).await?;
        }
        Ok(())
    }

    async fn put_user(&self, user: &str, tag: &str) -> Result<()> {
        let body = json!({
            "password_hash": Password::random().hash().as_str(),
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": tag,
        });
        self.put(&format!("users/{user}"), &body).await
    }

    async fn put(&self, path: &str, body: &Value) -> Result<()> {
        let url = format!("{}/api/{path}", self.base);
        let sent = self.client.put(url).basic_auth(&self.username, Some(&self.password)).json(body).send().await?;
        ensure!(sent.status().is_success(), "a PUT was answered {}", sent.status());
        Ok(())
    }

    async fn delete_all(&self, paths: impl Iterator<Item = String>) -> Result<()> {
        let deletes = stream::iter(paths).map(|path| async move {
            let url = format!("{}/api/{path}", self.base);
            let sent = self.client.delete(url).basic_auth(&self.username, Some(&self.password)).send().await?;
            ensure!(sent.status().is_success(), "the deletion of {path} was answered {}", sent.status());
            anyhow::Ok(())
        });
        deletes.buffer_unordered(IN_FLIGHT).try_collect::<()>().await
    }

    async fn get(&self, list: &str) -> Result<()> {
        let url = format!("{}/api/{list}", self.base);
        let sent = self.client.get(url).basic_auth(&self.username, Some(&self.password)).send().await?;
        sent.error_for_status()?.bytes().await?;
        Ok(())
    }
}
