//! Which paths and methods there are, at which mounts.

use reqwest::Method;
use serde_json::json;
use taskcluster_pulse::web::api::contract::Contract;
use taskcluster_pulse::web::api::endpoint::Verb;
use taskcluster_pulse::web::api::routes::ROUTES;

use super::site::{ROOT, Site};

const NOT_FOUND: &str = "{\n  \"error\": \"Not found\"\n}";

#[tokio::test]
async fn unknown_paths_and_methods_are_not_found_in_taskclusters_words() {
    let site = Site::new().await;
    let api = "/api/pulse/v1";
    let root = site.get("/").send().await;
    assert_eq!((root.status.as_u16(), root.header("location")), (303, "/console"), "people are led to the console");
    for target in [
        "/api",
        "/api/pulse",
        "/api/pulse/v1",
        "/api/pulse/v1/",
        "/api/pulse/v1/nope",
        "/api/pulse/v1//ping",
        "/api/pulse/v1/ping//",
        "/api/pulse/v1/PING",
        "/api/pulse/v1ping",
        "/api/pulse/v2/ping",
        "/api/pulse/v1/namespace",
        "/api/pulse/v1/namespace/",
        "/api/pulse/v1/namespace/taskcluster-x/y",
        "/v1",
        "/ping",
        "/schemas/pulse/v1/nope.json",
        "/schemas/pulse/v1/namespace.yml",
        "/references/pulse/v1/",
    ] {
        let answer = site.get(target).send().await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, NOT_FOUND), "{target}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8", "{target}");
    }
    for entry in ROUTES {
        let target = format!("{api}{}", entry.route.replace("<namespace>", "taskcluster-x").replace("<queue>", "x"));
        let has = |verb: Verb| ROUTES.iter().any(|other| other.route == entry.route && other.verb == verb);
        let others = [(Method::PUT, has(Verb::Put)), (Method::DELETE, has(Verb::Delete))];
        let others = others.into_iter().filter(|(_, known)| !known).map(|(method, _)| method);
        for method in others.chain([Method::PATCH, Method::TRACE]) {
            let answer = site.ask(method.clone(), &target).json("{x").send().await;
            assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, NOT_FOUND), "{method} {target}");
            assert_eq!(answer.header("allow"), "", "{method} {target}");
        }
    }
    for target in ["/api/pulse/v1/ping", "/schemas/pulse/v1/namespace.json", "/references/pulse/v1/api.json"] {
        let answer = site.ask(Method::POST, target).send().await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (404, NOT_FOUND), "{target}");
        assert_eq!(answer.header("allow"), "", "{target}");
    }
}

#[tokio::test]
async fn each_path_may_end_in_one_slash_and_the_mount_may_be_in_any_case() {
    let site = Site::new().await;
    for target in
        ["/api/pulse/v1/ping", "/api/pulse/v1/ping/", "/API/Pulse/V1/ping", "/v1/ping", "/V1/ping/", "/v1/namespaces/"]
    {
        site.get(target).send().await.good();
    }
    site.claim("taskcluster-x/", "{}").send().await.good();
    let shown = site.get("/API/pulse/v1/namespace/taskcluster-x/").send().await.good();
    assert_eq!(shown["namespace"], "taskcluster-x");
}

/// A signature covers the path as the client wrote it, whatever the mount.
#[tokio::test]
async fn claims_work_at_every_mount() {
    let prefixed =
        Site::wish(|wishes| wishes.settings.root_url = Some(format!("{ROOT}/some/prefix/").parse().unwrap()));
    let prefixed = prefixed.await;
    let plain = Site::new().await;
    for (site, mount, status) in [
        (&plain, "/api/pulse/v1", 200),
        (&plain, "/v1", 200),
        (&plain, "/api/PULSE/v1", 200),
        (&plain, "/some/prefix/api/pulse/v1", 404),
        (&prefixed, "/some/prefix/api/pulse/v1", 200),
        (&prefixed, "/some/prefix/v1", 200),
        (&prefixed, "/api/pulse/v1", 200),
        (&prefixed, "/v1", 200),
    ] {
        let ask = site.ask(Method::POST, &format!("{mount}/namespace/taskcluster-x")).json("{}").signed("test-client");
        let answer = ask.send().await;
        assert_eq!(answer.status, status, "{mount}: {}", answer.text);
    }
    for target in ["/some/prefix/schemas/pulse/v1/namespace.json", "/schemas/pulse/v1/namespace.json"] {
        let schema = prefixed.get(target).send().await.good();
        assert_eq!(schema["$id"], format!("{ROOT}/some/prefix/schemas/pulse/v1/namespace.json#"));
    }
}

#[tokio::test]
async fn options_tell_the_methods_of_a_path_and_head_is_a_get_without_the_body() {
    let site = Site::new().await;
    for (target, allow) in [("ping", "GET, HEAD"), ("namespace/taskcluster-x", "GET, HEAD, POST")] {
        let answer = site.ask(Method::OPTIONS, &format!("/api/pulse/v1/{target}")).send().await;
        assert_eq!((answer.status.as_u16(), answer.header("allow"), answer.text.as_str()), (200, allow, allow));
        assert!(answer.header("content-type").starts_with("text/plain"));
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    let unknown = site.ask(Method::OPTIONS, "/api/pulse/v1/nope").send().await;
    assert_eq!(unknown.status, 404);

    for target in ["/api/pulse/v1/namespaces", "/api/pulse/v1/namespace/nope", "/__version__", "/v1/nope"] {
        let (get, head) = (site.get(target).send().await, site.ask(Method::HEAD, target).send().await);
        assert_eq!((get.status, get.text.is_empty()), (head.status, false), "{target}");
        assert_eq!(head.text, "");
        for name in ["content-length", "content-type", "cache-control"] {
            assert_eq!(get.header(name), head.header(name), "{target} {name}");
        }
    }
}

#[tokio::test]
async fn those_who_watch_the_service_find_it_at_the_root_and_below_the_api() {
    let site = Site::new().await;
    for target in [
        "/__heartbeat__",
        "/__lbheartbeat__",
        "/__heartbeat__/",
        "/__Heartbeat__/foo",
        "/__lbheartbeat__/foo/bar",
        "/__LBHEARTBEAT__",
    ] {
        for method in [Method::GET, Method::POST, Method::DELETE] {
            let answer = site.ask(method, target).send().await;
            assert_eq!(answer.header("access-control-allow-origin"), "");
            assert_eq!(answer.header("cache-control"), "");
            let body = answer.good();
            assert!(body == json!({}) || body["status"] == "ok", "{target}: {body}");
        }
    }
    for target in ["/api/pulse/v1/__heartbeat__", "/api/pulse/v1/__lbheartbeat__"] {
        let body = site.get(target).send().await.good();
        assert!(body == json!({}) || body["status"] == "ok", "{target}: {body}");
    }
    for target in ["/__version__", "/__VERSION__", "/__version__/", "/__Version__/foo", "/api/pulse/v1/__version__"] {
        let version = site.get(target).send().await.good();
        let keys: Vec<_> = version.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["version", "commit", "source", "build"]);
        assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    }
    for target in ["/robots.txt", "/robots.TXT", "/Robots.txt/x"] {
        let robots = site.get(target).send().await;
        assert_eq!(robots.text, "User-Agent: *\nDisallow: /\n", "{target}");
        assert!(robots.header("content-type").starts_with("text/plain"));
    }
    let before = site.get("/api/pulse/v1/ping").send().await.good();
    site.world.clock.advance(std::time::Duration::from_millis(1500));
    let after = site.get("/api/pulse/v1/ping").send().await.good();
    assert_eq!((&after["alive"], before["uptime"].as_f64()), (&json!(true), Some(0.0)));
    assert_eq!(after["uptime"], json!(1.5));
}

/// What is served is the contract of this deployment, with its root URL before each name.
#[tokio::test]
async fn the_contract_is_served_in_its_absolute_form() {
    let site = Site::new().await;
    let contract = Contract::new(Some(&ROOT.parse().unwrap())).unwrap();
    assert_eq!(site.get("/references/pulse/v1/api.json").send().await.good(), contract.reference());
    assert_eq!(site.get("/references/manifest.json").send().await.good(), contract.manifest());
    assert_eq!(contract.manifest()["references"], json!([format!("{ROOT}/references/pulse/v1/api.json")]));
    let mut served = 0;
    for path in contract.schema_paths() {
        let schema = site.get(&format!("/schemas/pulse/{path}")).send().await.good();
        assert_eq!(Some(&schema), contract.schema(path));
        assert_eq!(schema["$id"], format!("{ROOT}/schemas/pulse/{path}#"));
        served += 1;
    }
    assert_eq!(served, 40);
}

#[test]
fn the_table_names_every_parameter_once_and_reads_are_gets() {
    for entry in ROUTES {
        assert!(entry.route.starts_with('/') && !entry.route.ends_with('/'), "{}", entry.route);
        assert_eq!(matches!(entry.verb, Verb::Get | Verb::Delete), entry.input.is_none(), "{}", entry.name);
        for scope in entry.scopes().into_iter().flatten() {
            let params = scope.split('<').skip(1).map(|rest| rest.split('>').next().unwrap());
            assert!(params.clone().all(|param| entry.args().contains(&param)), "{scope} in {}", entry.name);
        }
    }
    let open: Vec<_> = ROUTES.iter().filter(|entry| entry.right.is_none()).map(|entry| entry.name).collect();
    assert_eq!(open, ["ping", "lbheartbeat", "version", "listNamespaces", "namespace", "heartbeat"]);
}
