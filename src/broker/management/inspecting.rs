//! Looking at what is published, by the management API alone: it makes a queue that goes by itself, binds it, and takes messages out
//! of it in batches. No connection of an AMQP client is needed for that, nor its port.

use async_trait::async_trait;
use reqwest::Method;
use serde_json::json;

use super::ManagementApi;
use crate::broker::call::{Call, Sent};
use crate::broker::{BrokerError, Inspecting, answer};
use crate::domain::inspection::{Published, Room};
use crate::domain::inventory::Binding;

#[async_trait]
impl Inspecting for ManagementApi {
    /// It is durable, because RabbitMQ 4.3 refuses a queue that is neither that nor exclusive.
    async fn make_inspection(&self, queue: &str, room: Room) -> Result<(), BrokerError> {
        let Room { messages, bytes, idle_seconds } = room;
        let body = json!({
            "durable": true,
            "auto_delete": false,
            "arguments": {
                "x-queue-type": "classic",
                "x-expires": u64::from(idle_seconds) * 1000,
                "x-max-length": messages,
                "x-max-length-bytes": bytes,
                "x-overflow": "drop-head",
            },
        });
        self.put(&Call::new(Method::PUT, &["queues", &self.vhost, queue]).json(body)).await.map(drop)
    }

    async fn bind(&self, queue: &str, binding: &Binding) -> Result<bool, BrokerError> {
        let segments = ["bindings", &self.vhost, "e", &binding.exchange, "q", queue];
        let call =
            Call::new(Method::POST, &segments).json(json!({ "routing_key": binding.routing_key, "arguments": {} }));
        match self.within(self.timeout, &call, self.caller.send(&call)).await? {
            Sent::Answered(_) => Ok(true),
            Sent::Absent => Ok(false),
            Sent::Cut(lost) => Err(lost),
        }
    }

    async fn take(&self, queue: &str, most: u32, longest: u32) -> Result<Option<Vec<Published>>, BrokerError> {
        let body = json!({ "count": most, "ackmode": "ack_requeue_false", "encoding": "auto", "truncate": longest });
        let call = Call::new(Method::POST, &["queues", &self.vhost, queue, "get"]).json(body);
        match self.within(self.timeout, &call, self.caller.send(&call)).await? {
            Sent::Answered(found) => self.readable(&call, answer::messages(&found.body)).map(Some),
            Sent::Cut(lost) => Err(lost),
            Sent::Absent => {
                // That there is none is said only by a node that was seen to be up.
                self.up().await?;
                Ok(None)
            }
        }
    }

    async fn queues_named(&self, prefix: &str) -> Result<Vec<String>, BrokerError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
        let safe: String = prefix.chars().filter(|c| plain(*c)).collect();
        let query = format!("disable_stats=true&columns=name&use_regex=true&page=1&page_size=500&name=%5E{safe}");
        self.list(&["queues", self.vhost.as_str()], &query, answer::name_page).await
    }
}
