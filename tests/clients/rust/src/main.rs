//! Calls the API with Taskcluster's client for Rust.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};
use taskcluster::{Client, ClientBuilder, Credentials};

const NAMESPACE: &str = "taskcluster-rust";
const SCOPE: &str = "pulse:namespace:taskcluster-rust";
const SOMEBODY_ELSES: &str = "taskcluster-rust-a";
const HOUR: Duration = Duration::from_secs(3600);

/// A client for the deployment of the environment.
fn client(credentials: Credentials) -> Result<ClientBuilder> {
    Ok(ClientBuilder::new(env::var("TASKCLUSTER_ROOT_URL")?).credentials(credentials))
}

async fn claim(client: &Client, namespace: &str, payload: Value) -> Result<Value> {
    let path = format!("api/pulse/v1/namespace/{namespace}");
    Ok(client.request("POST", &path, None, Some(&payload)).await?.json().await?)
}

/// Logs in, and uses what the namespace is allowed to use.
async fn log_in(claimed: &Value) -> Result<()> {
    let url = claimed["connectionString"].as_str().context("no connectionString")?;
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let (exchange, queue) = (format!("exchange/{NAMESPACE}/greetings"), format!("queue/{NAMESPACE}/greetings"));
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    let topic = ExchangeKind::Topic;
    channel.exchange_declare(exchange.as_str().into(), topic, durable, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, FieldTable::default()).await?;
    let (options, none) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.as_str().into(), exchange.as_str().into(), "#".into(), options, none).await?;
    Ok(connection.close(0, "".into()).await?)
}

/// Passes when the claim is refused, and the error begins with this.
async fn refused(client: &Client, namespace: &str, payload: Value, text: &str) -> Result<()> {
    let Err(error) = claim(client, namespace, payload).await else { bail!("it was not refused") };
    ensure!(error.to_string().starts_with(text), "another error: {error:#}");
    Ok(())
}

/// Passes when the client may claim its namespace, and no other.
async fn limited(client: Client) -> Result<()> {
    log_in(&claim(&client, NAMESPACE, json!({})).await?).await?;
    refused(&client, SOMEBODY_ELSES, json!({}), "Client ID ").await
}

async fn claims_and_logs_in() -> Result<()> {
    let owner = client(Credentials::from_env()?)?.build()?;
    let claimed = claim(&owner, NAMESPACE, json!({"contact": "somebody@example.com"})).await?;
    ensure!(claimed["namespace"] == NAMESPACE, "another namespace: {}", claimed["namespace"]);
    log_in(&claimed).await
}

async fn gets_and_lists_without_credentials() -> Result<()> {
    let anybody = ClientBuilder::new(env::var("TASKCLUSTER_ROOT_URL")?).build()?;
    let path = format!("api/pulse/v1/namespace/{NAMESPACE}");
    let found: Value = anybody.request("GET", &path, None, None).await?.json().await?;
    ensure!(found["contact"] == "", "{found}");
    let owner = client(Credentials::from_env()?)?.build()?;
    let seen: Value = owner.request("GET", &path, None, None).await?.json().await?;
    ensure!(seen["contact"] == "somebody@example.com", "{seen}");
    let one = Some(vec![("limit", "1")]);
    let page: Value = anybody.request("GET", "api/pulse/v1/namespaces", one, None).await?.json().await?;
    ensure!(page["namespaces"].as_array().is_some_and(|found| found.len() == 1), "{page}");
    Ok(())
}

async fn lists_and_deletes_queues() -> Result<()> {
    let owner = client(Credentials::from_env()?)?.build()?;
    let namespace = format!("api/pulse/v1/namespace/{NAMESPACE}");
    // This client signs wrongly what has a query.
    let get = async |path: &str| -> Result<Value> {
        Ok(owner.request("GET", &format!("{namespace}/{path}"), None, None).await?.json().await?)
    };
    // Lists may be some seconds old.
    let list = async |path: &str, key: &str, wanted: &str| -> Result<()> {
        for _ in 0..40 {
            if get(path).await?[path][0][key] == wanted {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        bail!("{wanted} is not listed: {}", get(path).await?)
    };
    let delete = async |path: &str| -> Result<Value> {
        Ok(owner.request("DELETE", &format!("{namespace}/{path}"), None, None).await?.json().await?)
    };
    log_in(&claim(&owner, NAMESPACE, json!({})).await?).await?;
    let queue = format!("queue/{NAMESPACE}/greetings");
    list("queues", "queue", &queue).await?;
    let path = format!("queues/{}", queue.replace('/', "%2F"));
    let shown = get(&path).await?;
    ensure!(shown["total"] == 0 && shown["bindings"][0]["routingKey"] == "#", "{shown}");
    let purged = delete(&format!("{path}/messages")).await?;
    ensure!(purged["result"] == "emptied", "{purged}");
    let all = json!({"pattern": format!("queue/{NAMESPACE}/*"), "dryRun": true});
    let dry = owner.request("POST", &format!("{namespace}/delete-queues"), None, Some(&all)).await?;
    let dry: Value = dry.json().await?;
    ensure!(dry["results"][0]["result"] == "would be deleted", "{dry}");
    let deleted = delete(&path).await?;
    ensure!(deleted["result"] == "deleted", "{deleted}");
    let exchange = format!("exchange/{NAMESPACE}/greetings");
    list("exchanges", "exchange", &exchange).await?;
    delete(&format!("exchanges/{}", exchange.replace('/', "%2F"))).await?;
    Ok(())
}

async fn revokes() -> Result<()> {
    let owner = client(Credentials::from_env()?)?.build()?;
    let before = claim(&owner, NAMESPACE, json!({})).await?;
    let path = format!("api/pulse/v1/namespace/{NAMESPACE}/revoke");
    let why = json!({"reason": "it was leaked"});
    let revoked: Value = owner.request("POST", &path, None, Some(&why)).await?.json().await?;
    ensure!(revoked == json!({"namespace": NAMESPACE, "state": "done"}), "{revoked}");
    ensure!(log_in(&before).await.is_err(), "the string from before logs in");
    log_in(&claim(&owner, NAMESPACE, json!({})).await?).await
}

async fn temporary_credentials() -> Result<()> {
    let owner = Credentials::from_env()?;
    limited(client(owner.create_temp_creds(HOUR, [SCOPE])?)?.build()?).await?;
    let name = format!("{}/temporary", owner.client_id);
    limited(client(owner.create_named_temp_creds(&name, HOUR, [SCOPE])?)?.build()?).await
}

async fn authorized_scopes() -> Result<()> {
    limited(client(Credentials::from_env()?)?.authorized_scopes([SCOPE]).build()?).await
}

async fn errors() -> Result<()> {
    let owner = client(Credentials::from_env()?)?.build()?;
    refused(&owner, "taskcluster-a%20b", json!({}), "Invalid URL patterns:\n").await?;
    refused(&owner, NAMESPACE, json!({"expires": 1}), "\nSchema Validation Failed!\n").await?;
    let text = "Client ID tests/owner does not have sufficient scopes and is missing the following scopes:\n";
    refused(&owner, "elsewhere", json!({}), text).await?;
    let stranger = client(Credentials::new("tests/owner", "a-wrong-access-token-of-44-characters-or-so"))?.build()?;
    refused(&stranger, NAMESPACE, json!({}), "Unauthorized: Bad mac\n").await
}

/// Says in one line how a check went; true where it failed.
fn report(name: &str, result: Result<()>) -> bool {
    let name = format!("taskcluster 114.0.0 (Rust): {name}");
    match &result {
        Ok(()) => println!("ok {name}"),
        Err(error) => println!("FAILED {name}: {}", format!("{error:#}").replace('\n', " / ")),
    }
    result.is_err()
}

#[tokio::main]
async fn main() -> ExitCode {
    let failed = [
        report("Client::request claims, and the connection string logs in", claims_and_logs_in().await),
        report("Client::request gets and lists without credentials", gets_and_lists_without_credentials().await),
        report("Client::request lists, looks at and deletes queues and exchanges", lists_and_deletes_queues().await),
        report("a revocation has the broker refuse earlier strings", revokes().await),
        report("temporary credentials, named or not, claim what their scopes allow", temporary_credentials().await),
        report("authorized_scopes limit a client to them", authorized_scopes().await),
        report("errors have the service's texts", errors().await),
    ];
    ExitCode::from(u8::from(failed.contains(&true)))
}
