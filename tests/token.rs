//! Logging in to a real RabbitMQ by tokens that we sign, with its plugin for OAuth 2: no password of an administrator is stored.

use taskcluster_pulse::broker::management::{ManagementApi, ManagementConfig};
use taskcluster_pulse::broker::token::{TokenKey, Tokens};
use taskcluster_pulse::broker::{Broker, BrokerError, Deleted, Limiting};
use taskcluster_pulse::domain::inventory::{QueueKind, UserLimit};
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::Password;

use crate::support::rabbitmq::log_in;
use crate::support::services::{Services, exclusive};

const QUEUE: &str = "queue/taskcluster-x/jobs";

fn keys(ids: &[&str]) -> Vec<TokenKey> {
    let made: Vec<_> = ids.iter().map(|id| TokenKey::make(id).unwrap().expose().to_owned()).collect();
    TokenKey::parse(&format!("[{}]", made.join(","))).unwrap()
}

/// Makes the public parts of these keys known to RabbitMQ, beside its own users; without any, as it was before.
async fn know(services: &Services, keys: &[&TokenKey]) {
    let known = |key: &&TokenKey| {
        format!("<<\"{}\">> => {{pem, <<\"{}\">>}}", key.id(), key.public().trim_end().replace('\n', "\\n"))
    };
    let signing: Vec<_> = keys.iter().map(known).collect();
    let backends = if keys.is_empty() { "" } else { ", rabbit_auth_backend_oauth2" };
    let set = format!(
        "application:set_env(rabbitmq_auth_backend_oauth2, resource_server_id, <<\"rabbitmq\">>), \
         application:set_env(rabbitmq_auth_backend_oauth2, key_config, [{{signing_keys, #{{{}}}}}, {{algorithms, [<<\"ES256\">>]}}]), \
         application:set_env(rabbit, auth_backends, [rabbit_auth_backend_internal{backends}]).",
        signing.join(", ")
    );
    services.rabbitmqctl(&["eval", &set]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_do_all_that_the_service_needs_and_a_new_key_takes_over_without_an_outage() {
    let (_turn, services) = exclusive().await;
    services.enable("rabbitmq_auth_backend_oauth2").await;
    let (old, new) = (keys(&["old"]).remove(0), keys(&["new"]).remove(0));
    know(services, &[&old]).await;
    let vhost = services.rabbitmq.vhost().await;
    let by = |keys: &[&TokenKey]| {
        let keys = keys.iter().map(|key| (*key).clone()).collect();
        let tokens = Tokens { keys, audience: "rabbitmq".into(), subject: "pulse".into() };
        let mut config = ManagementConfig { tokens: Some(tokens), ..vhost.config() };
        config.account.password = Password::from_stored("of no use".into());
        ManagementApi::new(config).unwrap()
    };

    let api = by(&[&old]);
    api.ping().await.unwrap();
    assert_eq!(api.lacks().await.unwrap(), Vec::<String>::new());
    let (user, password) = (format!("{}x-1", vhost.prefix), Password::random());
    api.put_user(&user, &password.hash(), "pulse-test").await.unwrap();
    let all = || ".*".to_owned();
    api.put_permissions(&user, &Permissions { configure: all(), write: all(), read: all() }).await.unwrap();
    assert!(api.users().await.unwrap().iter().any(|known| known.name == user));
    api.limit_user(&user, UserLimit::Connections, Some(3)).await.unwrap();
    let connection = log_in(&vhost.connection_string(&user, password.expose())).await.unwrap();
    assert_eq!(api.close_connections_of(&user, "test").await.unwrap(), Deleted::Done);
    drop(connection);
    vhost.declare_queue(QUEUE, "quorum").await;
    let queues = api.queues().await.unwrap();
    assert_eq!(queues.iter().map(|queue| queue.kind).collect::<Vec<_>>(), [QueueKind::Quorum]);
    assert!(api.queue(QUEUE).await.unwrap().is_some() && api.queue_detail(QUEUE).await.unwrap().is_some());
    assert!(!api.alarm().await.unwrap() && !api.exchanges().await.unwrap().is_empty());
    api.release().await.unwrap();
    assert_eq!(api.delete_queue(QUEUE).await.unwrap(), Deleted::Done);

    // The new key is the last one, and signs as soon as RabbitMQ knows it; until then the old one does.
    let both = by(&[&old, &new]);
    both.ping().await.unwrap();
    let stranger = by(&[&new]).ping().await;
    assert!(matches!(&stranger, Err(BrokerError::Denied(why)) if why.contains("`keys show` prints")), "{stranger:?}");
    know(services, &[&old, &new]).await;
    by(&[&new]).ping().await.unwrap();
    both.ping().await.unwrap();
    know(services, &[&new]).await;
    both.ping().await.unwrap();
    assert!(by(&[&old]).ping().await.is_err());
    api.delete_user(&user).await.unwrap_err();
    assert_eq!(both.delete_user(&user).await.unwrap(), Deleted::Done);
    know(services, &[]).await;
    assert!(both.ping().await.is_err());
}
