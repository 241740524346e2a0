//! The program behind a reverse proxy, a real nginx that ends TLS, configured as `docs/operating.md` shows.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::support::nginx::{Nginx, free_port};
use crate::support::processes::{ACCESS_TOKEN, CLIENT_ID, Deployment, PATIENCE, Program};
use crate::support::rabbitmq::eventually;
use crate::support::world::{BrokerKind, StoreKind};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use reqwest::{Certificate, Client, RequestBuilder, Response, redirect};
use serde_json::Value;
use taskcluster_pulse::clock::{Clock, SystemClock};
use taskcluster_pulse::hawk::Signer;
use tempfile::TempDir;
use url::Url;

/// Where the proxy's connections to the service come from.
const PROXY: &str = "127.0.0.3";
/// Where those of its clients come from.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const CLAIM: &str = "api/pulse/v1/namespace/taskcluster-x";

/// An nginx at this port of 127.0.0.1 that passes everything on, with the certificate in `folder`, in front of `service`.
async fn in_front(folder: &Path, port: u16, service: &Url) -> Nginx {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operating.md")).unwrap();
    let documented = guide.split("```nginx\n").nth(1).unwrap().split("```").next().unwrap();
    let documented = documented.replace("http://127.0.0.1:8080", service.as_str().trim_end_matches('/'));
    let server = format!(
        "server {{\nlisten 127.0.0.1:{port} ssl;\nssl_certificate cert.pem; ssl_certificate_key key.pem;\n\
         proxy_bind {PROXY};\n{documented}}}"
    );
    Nginx::start(folder, port, &server).await
}

/// A service behind a proxy.
struct Proxied {
    deployment: Deployment,
    service: Program,
    /// Where it is reached directly.
    inside: Url,
    /// The root URL.
    outside: Url,
    /// A client that knows the proxy's certificate.
    http: Client,
    _nginx: Nginx,
    _folder: TempDir,
}

impl Proxied {
    async fn new() -> Proxied {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = folder.path().join("cert.pem");
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let outside: Url = format!("https://localhost:{port}/some/prefix").parse().unwrap();
        let mut deployment = Deployment::new(StoreKind::Postgres, BrokerKind::Real).await;
        for (name, value) in [
            ("TASKCLUSTER_ROOT_URL", outside.as_str()),
            ("SSL_CERT_FILE", certificate.to_str().unwrap()),
            ("TRUST_PROXY", "true"),
            ("TRUSTED_PROXIES", PROXY),
            ("FORCE_SSL", "true"),
        ] {
            deployment.set(name, value);
        }
        let (service, inside) = deployment.serve(&["web"]).await;
        let nginx = in_front(folder.path(), port, &inside).await;
        let certificate = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        let http = client().tls_certs_only([certificate]).local_address(CLIENT).build().unwrap();
        Proxied { deployment, service, inside, outside, http, _nginx: nginx, _folder: folder }
    }

    /// What is below the root URL.
    fn url(&self, path: &str) -> Url {
        format!("{}/{path}", self.outside).parse().unwrap()
    }
}

fn client() -> reqwest::ClientBuilder {
    taskcluster_pulse::tls::install_crypto_provider();
    Client::builder().no_proxy().timeout(PATIENCE).redirect(redirect::Policy::none())
}

/// A claim that is sent to `to`, and was signed for `signed_for`.
fn claim(http: &Client, to: Url, signed_for: &str) -> RequestBuilder {
    let signer = Signer { id: CLIENT_ID, key: ACCESS_TOKEN, ext: None };
    let url = signed_for.parse().unwrap();
    let header = signer.header("POST", &url, Some(("application/json", b"{}")), SystemClock.now());
    http.post(to).header(AUTHORIZATION, header).header(CONTENT_TYPE, "application/json").body("{}")
}

/// From where the service says that this request came.
async fn source_of(service: &Program, response: &Response) -> String {
    let id = response.headers()["x-for-request-id"].to_str().unwrap();
    let line = eventually("the request's line in the log", async || {
        let output = service.stdout();
        let lines = output.lines().filter(|line| line.contains(id)).filter_map(|line| serde_json::from_str(line).ok());
        lines.into_iter().find(|line: &Value| line["Type"] == "monitor.apiMethod")
    });
    line.await["Fields"]["sourceIp"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn behind_a_proxy_that_ends_tls_what_is_signed_for_the_outside_is_let_in_and_nothing_else() {
    let site = Proxied::new().await;
    let (url, http) = (site.url(CLAIM), &site.http);
    let spoofed = claim(http, url.clone(), url.as_str()).header("x-forwarded-for", "192.0.2.7");
    let spoofed = spoofed.header("x-forwarded-proto", "http").header("x-forwarded-port", "80");
    for request in [claim(http, url.clone(), url.as_str()), spoofed] {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("access-control-allow-origin", "*"),
            ("strict-transport-security", "max-age=7776000; includeSubDomains"),
        ] {
            assert_eq!(response.headers()[name], value, "{name}");
        }
        assert_eq!(source_of(&site.service, &response).await, CLIENT.to_string());
        let claimed: Value = response.json().await.unwrap();
        let string = claimed["connectionString"].as_str().unwrap();
        site.deployment.add_secret(Url::parse(string).unwrap().password().unwrap());
        site.deployment.try_login(string).await.unwrap();
    }
    let port = site.outside.port().unwrap();
    for elsewhere in [
        format!("https://localhost:{port}/{CLAIM}"),
        format!("https://localhost/some/prefix/{CLAIM}"),
        format!("https://127.0.0.1:{port}/some/prefix/{CLAIM}"),
        format!("{}{CLAIM}", site.inside),
    ] {
        let response = claim(http, url.clone(), &elsewhere).send().await.unwrap();
        assert_eq!(response.status(), 401, "{elsewhere}");
    }
    let reference: Value =
        http.get(site.url("references/pulse/v1/api.json")).send().await.unwrap().json().await.unwrap();
    assert_eq!(reference["$schema"], format!("{}/schemas/common/api-reference-v0.json#", site.outside));
    let own = site.deployment.run(&["claim", "taskcluster-x"]).await;
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    site.deployment.try_login(own.stdout.trim()).await.unwrap();
}

#[tokio::test]
async fn whoever_comes_past_the_proxy_can_not_speak_for_it() {
    let site = Proxied::new().await;
    let http = client().build().unwrap();
    let direct = site.inside.join(CLAIM).unwrap();
    let outside = site.url(CLAIM);
    let port = site.outside.port().unwrap().to_string();
    // As the proxy would pass it on.
    let claim = claim(&http, site.inside.join(outside.path()).unwrap(), outside.as_str());
    let claim = claim.header(HOST, format!("localhost:{port}")).header("x-forwarded-port", port);
    let refused = claim.header("x-forwarded-proto", "https").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    assert_eq!(refused.text().await.unwrap(), "Please use HTTPS when submitting data to this server.");
    let redirected = http.get(direct).header("x-forwarded-proto", "https").send().await.unwrap();
    assert_eq!(redirected.status(), 301);
}

/// As Taskcluster has it, the port is taken from anybody where no proxies are named, and nothing else is.
#[tokio::test]
async fn forwarded_headers_of_strangers_change_neither_host_nor_source() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    for (trust, proxies, another_port) in [("false", "", 200), ("true", PROXY, 401), ("false", PROXY, 401)] {
        deployment.set("TRUST_PROXY", trust);
        deployment.set("TRUSTED_PROXIES", proxies);
        let (service, inside) = deployment.serve(&["web"]).await;
        let http = client().build().unwrap();
        let direct = inside.join(CLAIM).unwrap();
        for (signed_for, header, value, status) in [
            (direct.as_str(), "x-forwarded-for", "192.0.2.7", 200),
            ("http://other.example/api/pulse/v1/namespace/taskcluster-x", "x-forwarded-host", "other.example", 401),
            ("https://127.0.0.1/api/pulse/v1/namespace/taskcluster-x", "x-forwarded-proto", "https", another_port),
            ("https://127.0.0.1/api/pulse/v1/namespace/taskcluster-x", "x-forwarded-port", "443", another_port),
        ] {
            let request = claim(&http, direct.clone(), signed_for).header(header, value);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status, "{header} with TRUSTED_PROXIES={proxies}");
            assert_eq!(source_of(&service, &response).await, "127.0.0.1", "{header}");
        }
    }
}
