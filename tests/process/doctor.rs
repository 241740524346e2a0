//! `doctor` on the real parts, well and with faults.

use std::fs;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;

use crate::support::processes::{Deployment, Ended};
use crate::support::rabbitmq::escaped;
use crate::support::services::{Part, exclusive};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// What it finds, by name; of each name the worst.
fn findings(ended: &Ended) -> Vec<(String, String, String, String)> {
    let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"));
    let text = |check: &Value, key: &str| check[key].as_str().unwrap().to_owned();
    let read =
        |check: &Value| (text(check, "name"), text(check, "level"), text(check, "message"), text(check, "advice"));
    let found: Vec<_> = report["checks"].as_array().unwrap().iter().map(read).collect();
    for (name, level, message, advice) in &found {
        assert!(level == "ok" || !advice.is_empty(), "{name} says not what to do: {message}");
    }
    found
}

/// That something is found at this level, in words that hold this.
fn assert_found(ended: &Ended, name: &str, level: &str, words: &str) {
    let found = findings(ended);
    let good = found.iter().any(|(of, is, message, _)| of == name && is == level && message.contains(words));
    assert!(good, "no {level} of {name} says {words:?}: {found:#?}");
}

async fn doctor(deployment: &Deployment) -> Ended {
    deployment.run(&["doctor", "--json"]).await
}

#[tokio::test]
async fn an_installation_that_is_well_has_nothing_that_does_not_work() {
    for store in [StoreKind::Sqlite, StoreKind::Postgres] {
        let mut deployment = Deployment::new(store, BrokerKind::Real).await;
        let (program, url) = deployment.serve(&["serve"]).await;
        deployment.set("TASKCLUSTER_ROOT_URL", url.as_str());
        deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
        program.says("expire-namespaces: seen").await;
        let ended = doctor(&deployment).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let release = format!("RabbitMQ {}", std::env::var("PULSE_TEST_RABBITMQ_VERSION").unwrap());
        for (name, words) in [
            ("settings", "all are right"),
            ("database", "answers"),
            ("keys", "opens all"),
            ("clock", "that of the database"),
            ("clock", "that of RabbitMQ"),
            ("rabbitmq", release.as_str()),
            ("rights", "may do all"),
            ("alarms", "no node"),
            ("amqp", "accepts connections"),
            ("root-url", "answers at"),
            ("web", "could serve claims"),
        ] {
            assert_found(&ended, name, "ok", words);
        }
        assert_found(&ended, "mail", "warning", "only written to the log");
        let shown = deployment.run(&["doctor"]).await;
        assert!(shown.stdout.lines().all(|line| line.chars().count() <= 80 || !line.contains(' ')), "{}", shown.stdout);
    }
}

#[tokio::test]
async fn what_is_wrong_with_the_settings_is_found_before_all_else() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("RABBIT_BASE_URL", "");
    deployment.set("MONITOR_ALERT_THRESHOLD", "none");
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "settings", "error", "RABBIT_BASE_URL");
    assert_found(&ended, "settings", "error", "MONITOR_ALERT_THRESHOLD");
}

#[tokio::test]
async fn a_database_that_is_not_migrated_or_whose_keys_are_lost_is_found() {
    let mut deployment = Deployment::unmigrated(StoreKind::Postgres, BrokerKind::Fake).await;
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "database", "error", "taskcluster-pulse migrate");
    assert_eq!(deployment.run(&["migrate"]).await.code, Some(0));
    {
        let (_web, url) = deployment.serve(&["web"]).await;
        deployment.claim(&url, "taskcluster-a", &json!({})).await.unwrap();
    }
    let other = json!([{"id": "b", "algo": "aes-256", "key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}]);
    deployment.set("DB_CRYPTO_KEYS", other.to_string());
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "keys", "error", "does not open the passwords of 1 namespaces, taskcluster-a first");
}

#[tokio::test]
async fn neighbours_that_stand_still_are_found() {
    let (_turn, services) = exclusive().await;
    let mut deployment = Deployment::on(services).await;
    deployment.set("STORE_QUERY_TIMEOUT", "1 s");
    deployment.set("RABBIT_REQUEST_TIMEOUT", "1 s");
    services.freeze(Part::Postgres);
    let ended = doctor(&deployment).await;
    services.thaw();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "database", "error", "not available");
    assert_found(&ended, "rabbitmq", "ok", "answers");
    services.stop(Part::RabbitMq, "KILL").await;
    let ended = doctor(&deployment).await;
    services.start_again().await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "rabbitmq", "error", "not available");
    assert_found(&ended, "amqp", "warning", "does not accept connections");
    assert_found(&ended, "database", "ok", "PostgreSQL");
}

#[tokio::test]
async fn a_management_account_without_its_rights_is_found() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Real).await;
    let Side::Real(vhost) = &deployment.side else { panic!("it is real") };
    let (rabbitmq, name) = (vhost.rabbitmq.clone(), format!("{}doctor", vhost.prefix));
    let password = "canary-of-the-doctor";
    rabbitmq.make_user(&name, password, "monitoring").await;
    let in_vhost = format!("permissions/{}/{name}", escaped(&vhost.name));
    let nothing = json!({"configure": "", "write": "", "read": ""});
    rabbitmq.admin(Method::PUT, &in_vhost, Some(nothing)).await;
    deployment.set("RABBIT_USERNAME", name.as_str());
    deployment.set("RABBIT_PASSWORD", password);
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "rights", "error", "has not the tag `administrator`");
    rabbitmq.make_user(&name, password, "administrator").await;
    assert_found(&doctor(&deployment).await, "rights", "warning", "has only these permissions");
    deployment.set("RABBIT_PASSWORD", "canary-wrong-password");
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "rabbitmq", "error", "refuses the management account");
    rabbitmq.admin(Method::DELETE, &format!("users/{name}"), None).await;
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_and_an_address_without_one_are_found() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = acceptor.accept(stream).await;
        }
    });
    deployment.set("TASKCLUSTER_AMQP_PROTOCOL", "amqps://");
    deployment.set("TASKCLUSTER_AMQP_HOSTNAME", "localhost");
    deployment.set("TASKCLUSTER_AMQP_PORT", port.to_string());
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "certificate", "error", "is not trusted");
    // Vouched for, and good for ages.
    let authority = deployment.folder.path().join("authority.pem");
    fs::write(&authority, signed.cert.pem()).unwrap();
    deployment.set("SSL_CERT_FILE", authority.display().to_string());
    let ended = doctor(&deployment).await;
    assert_found(&ended, "certificate", "ok", "is good for");
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = plain.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = plain.accept().await.unwrap();
            let _ = stream.write_all(b"AMQP\x00\x00\x09\x01").await;
        }
    });
    deployment.set("TASKCLUSTER_AMQP_PORT", port.to_string());
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "certificate", "error", "shows none");
}

#[tokio::test]
async fn a_test_message_goes_to_who_asks_for_it_and_what_the_mail_server_says_is_found() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).lines();
        let (mut said, mut data) = (String::new(), false);
        writer.write_all(b"220 hello\r\n").await.unwrap();
        while let Ok(Some(line)) = lines.next_line().await {
            said += &format!("{line}\n");
            let answer: &[u8] = match (data, line.as_str()) {
                (true, ".") => {
                    data = false;
                    b"250 taken\r\n"
                }
                (true, _) => continue,
                (false, "DATA") => {
                    data = true;
                    b"354 go on\r\n"
                }
                (false, "QUIT") => b"221 bye\r\n",
                _ => b"250 ok\r\n",
            };
            writer.write_all(answer).await.unwrap();
            if line == "QUIT" {
                break;
            }
        }
        said
    });
    deployment.set("NOTIFY_METHOD", "smtp");
    deployment.set("NOTIFY_FROM", "pulse@example.com");
    deployment.set("NOTIFY_SMTP_URL", format!("smtp://127.0.0.1:{port}?tls=none"));
    assert_found(&doctor(&deployment).await, "mail", "ok", "not tried");
    let ended = deployment.run(&["doctor", "--json", "--mail-to", "you@example.com"]).await;
    assert_found(&ended, "mail", "ok", "took a test message to you@example.com");
    let said = tokio::time::timeout(std::time::Duration::from_secs(20), server).await;
    if let Ok(said) = said {
        let said = said.unwrap();
        assert!(said.contains("RCPT TO:<you@example.com>") && said.contains("A test message"), "{said}");
    }
    deployment.set("NOTIFY_SMTP_URL", "smtp://127.0.0.1:9?tls=none");
    let ended = deployment.run(&["doctor", "--json", "--mail-to", "you@example.com"]).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "mail", "error", "not delivered");
}

#[tokio::test]
async fn the_auth_service_and_the_root_url_are_asked() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("AUTH_MODE", "both");
    deployment.set("TASKCLUSTER_ROOT_URL", "http://127.0.0.1:9");
    let ended = doctor(&deployment).await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_found(&ended, "auth", "error", "does not answer");
    assert_found(&ended, "root-url", "error", "no answer of this service");
    deployment.set("NOTIFY_METHOD", "taskcluster");
    assert_found(&doctor(&deployment).await, "scopes", "error", "does not tell the scopes");
}
