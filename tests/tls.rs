//! A certificate authority of one's own, and client certificates: RabbitMQ's management API, Taskcluster and an identity provider
//! behind a real nginx, and PostgreSQL. The mail server is in `notify`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, Url};
use serde_json::json;
use taskcluster_pulse::access::attempt::{Attempt, SignInError};
use taskcluster_pulse::access::oidc::{Oidc, Settings};
use taskcluster_pulse::broker::Broker;
use taskcluster_pulse::broker::management::{ManagementApi, ManagementConfig};
use taskcluster_pulse::clock::SystemClock;
use taskcluster_pulse::secret::Secret;
use taskcluster_pulse::store::{self, DatabaseUrl, KeyRing, StoreLimits};
use taskcluster_pulse::taskcluster::{RetryPolicy, Taskcluster};
use taskcluster_pulse::tls::Trust;

use crate::support::authority::Authority;
use crate::support::nginx::{Nginx, free_port};
use crate::support::rabbitmq::{RabbitMq, eventually};
use crate::support::services::exclusive;

const NONE: &str = "";

fn trust(ca: &Path, certificate: &Path, key: &Path) -> Trust {
    Trust::read(ca, certificate, key).unwrap()
}

#[tokio::test]
async fn rabbitmq_is_reached_through_a_proxy_with_a_private_authority_and_a_client_certificate() {
    let vhost = RabbitMq::from_env().vhost().await;
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let (server, server_key) = ours.sign("localhost");
    let (own, own_key) = ours.sign("pulse");
    let (wrong, wrong_key) = others.sign("stranger");
    let (asking, decoding) = (free_port(), free_port());
    let api = vhost.rabbitmq.api.trim_end_matches('/');
    let tls = format!("ssl_certificate {}; ssl_certificate_key {};", server.display(), server_key.display());
    let issuer: Url = format!("https://localhost:{asking}").parse().unwrap();
    let [authorize, rest] = ["authorize", "rest"].map(|path| issuer.join(path).unwrap());
    let published = json!({
        "issuer": issuer, "authorization_endpoint": authorize, "token_endpoint": rest, "jwks_uri": rest,
    });
    let servers = format!(
        "server {{ listen 127.0.0.1:{asking} ssl; {tls} ssl_client_certificate {ca}; ssl_verify_client on;\n\
         location / {{ proxy_pass {api}; }} location /api/tc/v1/ {{ return 200 '{{}}'; }}\n\
         location = /.well-known/openid-configuration {{ return 200 '{published}'; }} }}\n\
         server {{ listen 127.0.0.1:{decoding} ssl; {tls} location / {{ proxy_pass {api}/; }} }}",
        ca = ours.file.display(),
    );
    let _nginx = Nginx::start(folder.path(), asking, &servers).await;
    let none = Path::new(NONE);
    let reach = |url: String, trust: Trust| {
        let config = ManagementConfig { base_urls: vec![url.parse().unwrap()], trust, ..vhost.config() };
        ManagementApi::new(config).unwrap()
    };
    let there = format!("https://localhost:{asking}");
    let known = trust(&ours.file, &own, &own_key);
    let good = reach(there.clone(), known.clone());
    good.ping().await.unwrap();
    assert!(good.users().await.unwrap().iter().any(|user| user.name == vhost.rabbitmq.username));
    vhost.declare_queue("queue/taskcluster-x/a b%", "classic").await;
    assert!(good.queue("queue/taskcluster-x/a b%").await.unwrap().is_some());
    for (url, trust, says) in [
        (there.clone(), Trust::default(), "not of an authority that is trusted"),
        (there.clone(), trust(&others.file, &own, &own_key), "not of an authority that is trusted"),
        (there.clone(), trust(&ours.file, none, none), "it wants a certificate of ours"),
        (there.clone(), trust(&ours.file, &wrong, &wrong_key), "400"),
        (there.replace("https", "http"), known.clone(), "is this the https port? Then the URL begins with https://"),
        (api.replace("http", "https"), known.clone(), "is this the https port? It does not speak TLS"),
        (format!("https://localhost:{decoding}"), known.clone(), "decodes %2F"),
    ] {
        let told = reach(url.clone(), trust).ping().await.unwrap_err().to_string();
        assert!(told.contains(says), "{url}: {told}");
    }

    // The deployment, likewise.
    let deployment = Taskcluster::new(there.parse().unwrap(), None, Arc::new(SystemClock), quick()).unwrap();
    let refused = deployment.call(Method::GET, "tc", "x", None).await.unwrap_err().to_string();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let deployment = Taskcluster::new(there.parse().unwrap(), None, Arc::new(SystemClock), quick()).unwrap();
    deployment.trusting(&known).unwrap().call(Method::GET, "tc", "x", None).await.unwrap();

    // Whom people sign in at, likewise.
    let provider = |trust: &Trust| {
        let (client_id, client_secret) = ("pulse".to_owned(), Secret::new("kept"));
        let [redirect, scopes, groups_claim] =
            ["https://pulse.example.com/back", "openid", "groups"].map(str::to_owned);
        let trust = trust.clone();
        let issuer = issuer.clone();
        Oidc::new(Settings { issuer, client_id, client_secret, redirect, scopes, groups_claim, trust }).unwrap()
    };
    let attempt = Attempt::begin();
    let there = provider(&known).authorize(&attempt).await.unwrap();
    assert_eq!((there.host_str(), there.path()), (Some("localhost"), "/authorize"));
    for trust in [Trust::default(), trust(&others.file, &own, &own_key), trust(&ours.file, none, none)] {
        assert_eq!(provider(&trust).authorize(&attempt).await.unwrap_err(), SignInError::Provider);
    }
}

fn quick() -> RetryPolicy {
    RetryPolicy { timeout: Duration::from_secs(20), retries: 0, ..RetryPolicy::default() }
}

/// Gives the server that has `data` files of its own, and lets it read them.
fn install(data: &Path, files: &[&PathBuf]) {
    for file in files {
        let to = data.join(file.file_name().unwrap());
        std::fs::copy(file, &to).unwrap();
        let owned = Command::new("chown").arg(format!("--reference={}/", data.display())).arg(&to).status().unwrap();
        let secret = Command::new("chmod").arg("600").arg(&to).status().unwrap();
        assert!(owned.success() && secret.success());
    }
}

#[tokio::test]
async fn postgresql_is_reached_with_a_private_authority_and_a_client_certificate() {
    let (_turn, services) = exclusive().await;
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (Authority::new(folder.path(), "ours"), Authority::new(folder.path(), "others"));
    let (server, server_key) = ours.sign("localhost");
    let (own, own_key) = ours.sign("tester");
    let data = services.postgres_data();
    install(&data, &[&ours.file, &server, &server_key]);
    let (admin, connection) = tokio_postgres::connect(&services.postgres, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    for sql in [
        "CREATE ROLE tester SUPERUSER LOGIN",
        "CREATE DATABASE tls",
        "ALTER SYSTEM SET ssl_ca_file = 'ours.pem'",
        "ALTER SYSTEM SET ssl_cert_file = 'localhost.crt'",
        "ALTER SYSTEM SET ssl_key_file = 'localhost.key'",
        "ALTER SYSTEM SET ssl = on",
    ] {
        admin.batch_execute(sql).await.unwrap();
    }
    let rules = std::fs::read_to_string(data.join("pg_hba.conf")).unwrap();
    let ruled =
        format!("hostssl all tester all trust clientcert=verify-full\nhostnossl all tester all reject\n{rules}");
    std::fs::write(data.join("pg_hba.conf"), ruled).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();

    let address = services.postgres.rsplit_once('@').unwrap().1.replace("127.0.0.1", "localhost");
    let port = address.rsplit_once(':').unwrap().1.split('/').next().unwrap();
    let url = |host: &str, parameters: &str| format!("postgres://tester@{host}:{port}/tls?{parameters}");
    let (ca, certificate, key) = (ours.file.display(), own.display(), own_key.display());
    let mine = format!("sslcert={certificate}&sslkey={key}");
    let ping = async |url: String| {
        let url: DatabaseUrl = url.parse().unwrap();
        let keys = r#"[{"id": "a", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]"#;
        store::migrate(&url).await.map_err(|error| error.to_string())?;
        let store = store::open(&url, Some(KeyRing::parse(keys).unwrap()), StoreLimits::default()).await;
        store.map_err(|error| error.to_string())?.ping().await.map_err(|error| error.to_string())
    };
    let full = url("localhost", &format!("sslmode=verify-full&sslrootcert={ca}&{mine}"));
    // The server reads its settings in a moment.
    eventually("a connection with certificates", async || ping(full.clone()).await.ok()).await;
    ping(url("127.0.0.1", &format!("sslmode=verify-ca&sslrootcert={ca}&{mine}"))).await.unwrap();
    ping(url("127.0.0.1", &format!("sslmode=require&sslrootcert={ca}&{mine}"))).await.unwrap();
    let strangers = others.file.display();
    for (url, says) in [
        (url("127.0.0.1", &format!("sslmode=verify-full&sslrootcert={ca}&{mine}")), "not valid for name"),
        (url("localhost", &format!("sslmode=verify-full&sslrootcert={strangers}&{mine}")), "UnknownIssuer"),
        (url("localhost", &format!("sslmode=verify-full&{mine}")), "UnknownIssuer"),
        (url("localhost", &format!("sslmode=verify-full&sslrootcert={ca}")), "client certificate"),
        (url("localhost", &format!("sslmode=verify-full&sslrootcert={key}&{mine}")), "there is no CA in"),
        (url("localhost", &format!("sslmode=disable&{mine}")), "pg_hba.conf rejects"),
    ] {
        let told = ping(url.clone()).await.unwrap_err();
        assert!(told.contains(says), "{url}: {told}");
    }
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
    admin.batch_execute("ALTER SYSTEM RESET ALL").await.unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").await.unwrap();
}
