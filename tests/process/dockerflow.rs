//! Dockerflow's checklist, line by line, on the running program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::{Value, json};
use url::Url;

use crate::support::processes::{Deployment, PATIENCE, get};
use crate::support::world::{BrokerKind, Side, StoreKind};

/// A reply with its headers.
async fn ask(url: &Url, path: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let request =
        headers.iter().fold(http.get(url.join(path).unwrap()), |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

fn lines(stdout: &str) -> Vec<Value> {
    stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no line of mozlog: {line}")))
        .collect()
}

#[tokio::test]
async fn the_program_keeps_to_dockerflow() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("LOG_REQUEST_SUMMARY", "true");
    deployment.set("SERVER_ERROR_PATH", "true");
    deployment.set("TRUST_PROXY", "true");
    // Configuration only by environment variables, and it listens on $PORT.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    deployment.set("PORT", port.to_string());
    let (program, url) = deployment.serve(&["serve"]).await;
    assert_eq!(url.port(), Some(port));

    // `__version__`: the fields of the version object.
    let (status, version) = get(&url, "/__version__").await;
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!((status, &version["version"]), (200, &json!(env!("CARGO_PKG_VERSION"))));
    for key in ["source", "version", "commit", "build"] {
        assert!(version[key].is_string(), "{version}");
    }

    // `__heartbeat__`: what it checks, by levels; `__lbheartbeat__`: 200 without looking at anything.
    let (status, body) = get(&url, "/__heartbeat__").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &body["status"], &body["checks"]["rabbitmq"]), (200, &json!("ok"), &json!("ok")), "{body}");
    let Side::Fake(fake) = &deployment.side else { panic!("it is a fake") };
    fake.down().await;
    let (status, body) = get(&url, "/__heartbeat__").await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(
        (status, &body["status"], &body["checks"]["rabbitmq"]),
        (502, &json!("error"), &json!("error")),
        "{body}"
    );
    assert_eq!(body["details"]["rabbitmq"]["level"], 40, "{body}");
    assert_eq!(get(&url, "/__lbheartbeat__").await.0, 200);

    // `__error__`, and its own static content.
    assert_eq!(get(&url, "/__error__").await.0, 500);
    let page = get(&url, "/console/").await.1;
    let style =
        page.split("href=\"").find_map(|rest| rest.split('"').next().filter(|path| path.ends_with(".css"))).unwrap();
    assert_eq!(get(&url, style).await.0, 200, "{style}");

    // The id of a request: that of the proxy, else a new UUID; on every line about it. What could do harm is not taken over.
    let given = ask(
        &url,
        "/api/pulse/v1/ping?a=secret-query",
        &[("x-request-id", "abc-123"), ("user-agent", "tester/1"), ("accept-language", "de")],
    )
    .await;
    assert_eq!(given.headers()["x-for-request-id"], "abc-123");
    let harmful = ask(&url, "/api/pulse/v1/ping", &[("x-request-id", "a b<script>")]).await;
    let made = harmful.headers()["x-for-request-id"].to_str().unwrap().to_owned();
    assert_eq!(uuid::Uuid::parse_str(&made).unwrap().get_version_num(), 4);

    program.signal("TERM");
    let ended = program.end().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let lines = lines(&ended.stdout);
    for line in &lines {
        assert!(line["Timestamp"].as_u64().unwrap() > 1_700_000_000_000_000_000, "nanoseconds: {line}");
        assert!(line["Type"].is_string() && line["Logger"].is_string() && line["Hostname"].is_string(), "{line}");
        assert!(
            line["EnvVersion"] == "2.0" && line["Pid"].is_u64() && line["Severity"].as_u64().unwrap() <= 7,
            "{line}"
        );
        let nests = |value: &Value| value.as_object().is_some_and(|inner| inner.values().any(Value::is_object));
        assert!(line["Fields"].as_object().unwrap().values().all(|value| !nests(value)), "{line}");
    }
    let of = |id: &str| lines.iter().filter(|line| line["requestId"] == id).collect::<Vec<_>>();
    for id in ["abc-123", &made] {
        let kinds: Vec<_> = of(id).iter().map(|line| line["Type"].as_str().unwrap()).collect();
        assert!(kinds.contains(&"request.summary") && kinds.contains(&"monitor.apiMethod"), "{id}: {kinds:?}");
    }
    let summary = of("abc-123").into_iter().find(|line| line["Type"] == "request.summary").unwrap();
    let fields = &summary["Fields"];
    let expected = json!({"errno": 0, "agent": "tester/1", "lang": "de", "method": "GET", "path": "/api/pulse/v1/ping", "rid": "abc-123"});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&fields[key], value, "{summary}");
    }
    assert!(fields["t"].is_u64() && !ended.stdout.contains("secret-query"), "{summary}");
    let failed =
        lines.iter().find(|line| line["Type"] == "request.summary" && line["Fields"]["path"] == "/__error__").unwrap();
    assert_eq!(failed["Fields"]["errno"], 500);
    let error =
        lines.iter().find(|line| line["Type"] == "monitor.error" && line["requestId"] == failed["requestId"]).unwrap();
    assert_eq!(error["Severity"], 3);
}

#[tokio::test]
async fn without_the_settings_there_is_no_error_to_be_had_and_no_id_of_strangers() {
    let deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (program, url) = deployment.serve(&["web"]).await;
    assert_eq!(get(&url, "/__error__").await.0, 404);
    let reply = ask(&url, "/api/pulse/v1/ping", &[("x-request-id", "abc-123")]).await;
    assert_ne!(reply.headers()["x-for-request-id"], "abc-123");
    assert!(!program.stdout().contains("request.summary"));
}

#[tokio::test]
async fn the_version_is_that_of_the_file_beside_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("taskcluster-pulse");
    fs::copy(env!("CARGO_BIN_EXE_taskcluster-pulse"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let file = json!({"source": "https://example.com/x", "version": "v9", "commit": "0123abc", "build": "https://ci.example.com/1"});
    fs::write(folder.path().join("version.json"), file.to_string()).unwrap();
    let mut child = Command::new(&program)
        .arg("web")
        .current_dir(folder.path())
        .env_clear()
        .envs([
            ("RABBIT_BASE_URL", "http://127.0.0.1:9"),
            ("RABBIT_USERNAME", "x"),
            ("RABBIT_PASSWORD", "x"),
            ("STATIC_CLIENTS", r#"[{"clientId": "me", "accessToken": "canary-access-token-0123", "scopes": []}]"#),
            ("SERVER_ADDRESS", "127.0.0.1"),
            ("PORT", "0"),
            ("LOG_FORMAT", "json"),
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap());
    let url = tokio::task::spawn_blocking(move || {
        let mut lines = std::io::BufRead::lines(output).map(Result::unwrap);
        let line = lines.find_map(|line| Some(line.split_once("listening at ")?.1.split('"').next()?.to_owned()));
        line.unwrap().parse::<Url>().unwrap()
    });
    let version: Value = serde_json::from_str(&get(&url.await.unwrap(), "/__version__").await.1).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(version, file);
}
