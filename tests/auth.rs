//! Verification of requests against Taskcluster's own cases (`tests/vectors`), which are from its auth code, and laws
//! that hold for any input.

use std::fmt::Debug;
use std::net::IpAddr;

use proptest::prelude::*;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use taskcluster_pulse::access::clients::{AccessToken, Client, Directory, LocalDirectory};
use taskcluster_pulse::access::origin::Origin;
use taskcluster_pulse::access::roles::{Role, Roles};
use taskcluster_pulse::access::scope::{self, Expression};
use taskcluster_pulse::access::{Authenticator, Caller, Failure, Read, Refusal, SignedRequest, Who, hawk};
use taskcluster_pulse::clock::Timestamp;
use taskcluster_pulse::hawk::{Artifacts, Kind, Signer, mac, normalized, payload_hash};
use url::Url;

/// 2025-01-15T12:00:00.000Z, when the cases were made.
const NOW: Timestamp = Timestamp::from_millis(1_736_942_400_000);

fn vectors<T: DeserializeOwned>(text: &str) -> T {
    serde_json::from_str(text).expect("a file in tests/vectors is not what the test expects")
}

/// Collects what differs, so that one run names every case that fails.
#[derive(Default)]
struct Table {
    cases: usize,
    failures: Vec<String>,
}

impl Table {
    fn check<T: PartialEq + Debug>(&mut self, case: &str, got: T, expected: T) {
        self.cases += 1;
        if got != expected {
            self.failures.push(format!("{case}:\n  expected {expected:?}\n  got      {got:?}"));
        }
    }

    #[track_caller]
    fn done(self, at_least: usize) {
        assert!(self.failures.is_empty(), "{} of {}:\n{}", self.failures.len(), self.cases, self.failures.join("\n"));
        assert!(self.cases >= at_least, "only {} checks", self.cases);
    }
}

fn origin(host: &str, port: u16) -> Origin {
    Origin { host: host.to_owned(), port, source_ip: IpAddr::from([127, 0, 0, 1]) }
}

/// The bytes of a header as Node shows it.
fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn client(id: &str, key: &str, scopes: &[&str]) -> Client {
    Client {
        id: id.to_owned(),
        access_token: AccessToken::new(key.to_owned()),
        scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
        expires: None,
    }
}

// Taskcluster's cases.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fixture {
    clients: std::collections::BTreeMap<String, FixtureClient>,
    loader_errors: std::collections::BTreeMap<String, String>,
    expand_rules: Vec<ExpandRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FixtureClient {
    client_id: String,
    access_token: String,
    expires: String,
    scopes: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExpandRule {
    if_contains_exactly: String,
    add: Vec<String>,
}

/// The clients and rules that the cases were made with.
struct FixtureDirectory {
    clients: Vec<Client>,
    fixture: Fixture,
}

impl FixtureDirectory {
    fn new(fixture: Fixture) -> FixtureDirectory {
        let client = |client: &FixtureClient| Client {
            id: client.client_id.clone(),
            access_token: AccessToken::new(client.access_token.clone()),
            scopes: client.scopes.clone(),
            expires: Some(Timestamp::parse(&client.expires).unwrap()),
        };
        FixtureDirectory { clients: fixture.clients.values().map(client).collect(), fixture }
    }
}

impl Directory for FixtureDirectory {
    fn knows(&self, id: &str) -> bool {
        self.clients.iter().any(|client| client.id == id)
    }

    fn client(&self, id: &str, _now: Timestamp) -> Result<&Client, String> {
        let found = self.clients.iter().find(|client| client.id == id);
        found.ok_or_else(|| self.fixture.loader_errors[id].clone())
    }

    fn expand(&self, scopes: &[String]) -> Vec<String> {
        let mut expanded = scopes.to_vec();
        for rule in &self.fixture.expand_rules {
            if expanded.contains(&rule.if_contains_exactly) {
                expanded = scope::merge(&expanded, &rule.add);
            }
        }
        expanded
    }
}

#[derive(Deserialize)]
struct Validator {
    now: String,
    fixture: Fixture,
    cases: Vec<ValidatorCase>,
}

#[derive(Deserialize)]
struct ValidatorCase {
    id: String,
    request: ValidatorRequest,
    expect: Value,
}

#[derive(Deserialize)]
struct ValidatorRequest {
    method: String,
    resource: String,
    host: String,
    port: u16,
    authorization: Option<String>,
}

impl ValidatorRequest {
    fn with<T>(&self, ask: impl FnOnce(&SignedRequest<'_>) -> T) -> T {
        let authorization = self.authorization.as_deref().map(latin1);
        ask(&SignedRequest {
            method: &self.method,
            resource: &self.resource,
            origin: &origin(&self.host, self.port),
            authorization: authorization.as_deref(),
        })
    }
}

/// The result as the auth service puts it.
fn answer(result: Result<Caller, Refusal>) -> Value {
    match result {
        Err(refusal) => json!({"status": "auth-failed", "message": refusal.to_string()}),
        Ok(Caller { who: Who::Anonymous, scopes, expires, .. }) => json!({
            "status": "no-auth", "scheme": "none", "scopes": scopes, "expires": expires.unwrap().to_string()
        }),
        Ok(Caller { who: Who::Machine { client_id: id }, scopes, expires, .. }) => json!({
            "status": "auth-success", "scheme": "hawk", "clientId": id, "scopes": scopes,
            "expires": expires.unwrap().to_string()
        }),
    }
}

/// Who made the request, as told without the auth service.
fn authenticate(authenticator: &Authenticator, request: &SignedRequest<'_>, now: Timestamp) -> Result<Caller, Refusal> {
    futures::executor::block_on(authenticator.authenticate(&Read::of(request), "trace", now)).map_err(|failure| {
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Unanswered(error) => panic!("there is no auth service to ask: {error}"),
        }
    })
}

fn validator() -> Validator {
    vectors(include_str!("vectors/validator.json"))
}

#[test]
fn every_case_of_the_validator_ends_as_in_taskcluster() {
    let Validator { now, fixture, cases } = validator();
    let now = Timestamp::parse(&now).unwrap();
    let authenticator = Authenticator::new(FixtureDirectory::new(fixture));
    let mut table = Table::default();
    for case in cases {
        let got = case.request.with(|request| authenticator.validate(&Read::of(request), now));
        table.check(&case.id, answer(got), case.expect);
    }
    table.done(83);
}

#[test]
fn with_a_local_directory_the_cases_end_alike() {
    let Validator { now, fixture, cases } = validator();
    let now = Timestamp::parse(&now).unwrap();
    let role = |rule: &ExpandRule| Role {
        id: rule.if_contains_exactly.trim_start_matches("assume:").to_owned(),
        scopes: rule.add.clone(),
    };
    let roles = Roles::new(fixture.expand_rules.iter().map(role).collect()).unwrap();
    let mut clients = FixtureDirectory::new(fixture).clients;
    let expired = Some(now.minus(std::time::Duration::from_millis(1)));
    clients.push(Client { expires: expired, ..client("expired-client", "x", &[]) });
    let authenticator = Authenticator::new(LocalDirectory::new(clients, roles));
    let mut table = Table::default();
    for mut case in cases {
        match case.id.as_str() {
            // The local list has no such thing as a disabled client.
            "client-disabled" => continue,
            "header-and-bewit" => {
                let message = "Cannot use two authentication schemes at once this request has both bewit in querystring \
                               and 'authorization' header";
                case.expect = json!({"status": "auth-failed", "message": message});
            }
            _ => {}
        }
        if let Some(scopes) = case.expect.get_mut("scopes").and_then(Value::as_array_mut) {
            // Roles are expanded to a set in order, unlike what the rules of the cases do.
            scopes.sort_by(|a, b| scope::compare(a.as_str().unwrap(), b.as_str().unwrap()));
        }
        let got = case.request.with(|request| authenticate(&authenticator, request, now));
        table.check(&case.id, answer(got), case.expect);
    }
    table.done(82);
}

#[test]
fn macs_and_the_texts_under_them_are_hawks() {
    #[derive(Deserialize)]
    struct Case {
        description: String,
        r#type: String,
        key: String,
        ts: u64,
        nonce: String,
        method: String,
        resource: String,
        host: String,
        port: u16,
        #[serde(default)]
        ext: String,
        app: Option<String>,
        #[serde(default)]
        dlg: String,
        normalized: String,
        mac: String,
    }
    let mut table = Table::default();
    for case in vectors::<Vec<Case>>(include_str!("vectors/hawk_macs.json")) {
        let kind = if case.r#type == "bewit" { Kind::Bewit } else { Kind::Header };
        let artifacts = Artifacts {
            ts: &case.ts.to_string(),
            nonce: &case.nonce,
            method: &case.method,
            resource: &case.resource,
            host: &case.host,
            port: case.port,
            hash: "",
            ext: &case.ext,
            app: case.app.as_deref().map(|app| (app, case.dlg.as_str())),
        };
        table.check(&case.description, normalized(kind, &artifacts), case.normalized);
        table.check(&case.description, mac(kind, &case.key, &artifacts), case.mac);
    }
    table.done(10);
}

#[test]
fn payload_hashes_are_hawks() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Case {
        payload: String,
        content_type: Option<String>,
        hash: String,
    }
    let mut table = Table::default();
    for case in vectors::<Vec<Case>>(include_str!("vectors/payload_hashes.json")) {
        let content_type = case.content_type.unwrap_or_default();
        table.check(&case.payload, payload_hash(&content_type, case.payload.as_bytes()), case.hash);
    }
    table.done(4);
}

#[test]
fn scopes_are_compared_sorted_and_merged_as_in_taskcluster() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Match {
        pattern: String,
        scope: String,
        matches: bool,
    }
    #[derive(Deserialize)]
    struct Sort {
        input: Vec<String>,
        sorted: Vec<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Normalize {
        sorted_input: Vec<String>,
        normalized: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Merge {
        a: Vec<String>,
        b: Vec<String>,
        merged: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Valid {
        scope: String,
        valid: bool,
    }
    #[derive(Deserialize)]
    struct Scopes {
        pattern_match: Vec<Match>,
        sort: Vec<Sort>,
        normalize: Vec<Normalize>,
        merge: Vec<Merge>,
        valid: Vec<Valid>,
    }
    let cases: Scopes = vectors(include_str!("vectors/scopes.json"));
    let mut table = Table::default();
    for Match { pattern, scope, matches } in cases.pattern_match {
        table.check(&format!("{pattern} satisfies {scope}"), scope::satisfies(&pattern, &scope), matches);
    }
    for Sort { mut input, sorted } in cases.sort {
        input.sort_by(|a, b| scope::compare(a, b));
        table.check("sort", input, sorted);
    }
    for Normalize { sorted_input, normalized } in cases.normalize {
        table.check("normalize", scope::normalize(sorted_input), normalized);
    }
    for Merge { a, b, merged } in cases.merge {
        table.check(&format!("merge {a:?} {b:?}"), scope::merge(&a, &b), merged);
    }
    for Valid { scope, valid } in cases.valid {
        table.check(&format!("valid {scope}"), scope::is_valid(&scope), valid);
    }
    table.done(24);
}

#[test]
fn expressions_are_satisfied_as_in_taskcluster() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Case {
        scopes: Vec<String>,
        expression: Expression,
        satisfied: bool,
        satisfying_scopes: Option<Vec<String>>,
        unsatisfied: Option<Expression>,
    }
    #[derive(Deserialize)]
    struct Cases {
        expressions: Vec<Case>,
    }
    let mut table = Table::default();
    for case in vectors::<Cases>(include_str!("vectors/scopes.json")).expressions {
        let name = format!("{:?} for {}", case.scopes, case.expression);
        let used = case.expression.satisfying(&case.scopes);
        table.check(&name, used.is_some(), case.satisfied);
        table.check(&name, used, case.satisfying_scopes);
        table.check(&name, case.expression.missing(&case.scopes), case.unsatisfied);
    }
    table.done(24);
}

#[test]
fn roles_are_expanded_as_in_taskcluster() {
    #[derive(Deserialize)]
    struct Case {
        roles: std::collections::BTreeMap<String, Vec<String>>,
        scopes: Vec<String>,
        expanded: Vec<String>,
    }
    let mut table = Table::default();
    for case in vectors::<Vec<Case>>(include_str!("vectors/roles.json")) {
        let name = format!("{:?} with {:?}", case.scopes, case.roles);
        let roles = case.roles.into_iter().map(|(id, scopes)| Role { id, scopes }).collect();
        table.check(&name, Roles::new(roles).unwrap().expand(&case.scopes), case.expanded);
    }
    table.done(12);
}

#[test]
fn the_origin_of_a_request_is_the_one_that_services_tell_the_auth_service() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Http {
        headers: std::collections::BTreeMap<String, String>,
        peer: IpAddr,
        trust_proxy: bool,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked {
        host: String,
        port: u16,
        source_ip: IpAddr,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Case {
        description: String,
        http: Http,
        authenticate_hawk: Asked,
    }
    let mut table = Table::default();
    for Case { description, http, authenticate_hawk } in vectors::<Vec<Case>>(include_str!("vectors/origins.json")) {
        let header = |name: &str| http.headers.get(name).map(String::as_str);
        let Asked { host, port, source_ip } = authenticate_hawk;
        table.check(
            &description,
            Origin::read(header, http.peer, http.trust_proxy),
            Ok(Origin { host, port, source_ip }),
        );
    }
    table.done(9);
}

#[test]
fn requests_that_real_clients_made_are_let_in() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Case {
        client: String,
        content_type: String,
        body: String,
        id: String,
        key: String,
        #[serde(flatten)]
        request: ValidatorRequest,
    }
    let mut table = Table::default();
    for case in vectors::<Vec<Case>>(include_str!("vectors/recorded_client_requests.json")) {
        let header = case.request.authorization.as_deref().unwrap();
        let ts = header.split("ts=\"").nth(1).unwrap().split('"').next().unwrap();
        let now = Timestamp::from_millis(ts.parse::<i64>().unwrap() * 1000);
        let list = vec![client(&case.id, &case.key, &["pulse:namespace:*"])];
        let authenticator = Authenticator::new(LocalDirectory::new(list, Roles::default()));
        let caller = case.request.with(|request| authenticate(&authenticator, request, now)).unwrap();
        let needed = Expression::Scope("pulse:namespace:taskcluster-x".into());
        table.check(&case.client, caller.require(&needed), Ok(vec!["pulse:namespace:taskcluster-x".into()]));
        table.check(&case.client, caller.verify_payload(&case.content_type, case.body.as_bytes()), Ok(()));
        let other = caller.verify_payload(&case.content_type, b"{}");
        table.check(&case.client, other.is_err(), header.contains("hash="));
    }
    table.done(9);
}

// Where we differ, and what the cases leave out.

/// What a header is made of: name, value.
type Attributes<'a> = Vec<(&'a str, String)>;

/// A signed request to `/x` at `a.example:443`, as `me` with the key `key`, and with this `ts` and `ext`.
fn signed(id: &'static str, key: &str, ts: &str, ext: Option<&Value>) -> Attributes<'static> {
    let ext = ext.map(|ext| in_base64(ext.to_string()));
    let artifacts = Artifacts {
        ts,
        nonce: "n",
        method: "GET",
        resource: "/x",
        host: "a.example",
        port: 443,
        hash: "",
        ext: ext.as_deref().unwrap_or_default(),
        app: None,
    };
    let mac = mac(Kind::Header, key, &artifacts);
    let mut header = vec![("id", id.to_owned()), ("ts", ts.to_owned()), ("nonce", "n".to_owned()), ("mac", mac)];
    header.extend(ext.map(|ext| ("ext", ext)));
    header
}

fn written(header: &Attributes<'_>) -> String {
    let attributes: Vec<String> = header.iter().map(|(name, value)| format!(r#"{name}="{value}""#)).collect();
    format!("Hawk {}", attributes.join(", "))
}

fn get_x(authenticator: &Authenticator, header: &str) -> Result<Caller, Refusal> {
    let origin = origin("a.example", 443);
    let request =
        SignedRequest { method: "GET", resource: "/x", origin: &origin, authorization: Some(header.as_bytes()) };
    authenticate(authenticator, &request, NOW)
}

#[test]
fn what_our_client_signs_for_an_address_of_ipv6_is_verified() {
    for root in
        ["http://[::1]:8080", "https://[2001:DB8::7]", "http://[0:0:0:0:0:0:0:1]/tc", "http://[::ffff:7f00:1]:80"]
    {
        let url = Url::parse(&format!("{root}/api/pulse/v1/namespaces")).unwrap();
        let header = Signer { id: "me", key: "key", ext: None }.header("GET", &url, None, NOW);
        // As an HTTP client writes it.
        let host =
            url.port().map_or(url.host_str().unwrap().to_owned(), |port| format!("{}:{port}", url.host_str().unwrap()));
        let headers = [("host", host.as_str()), ("x-forwarded-proto", "https")];
        let headers = &headers[..if url.scheme() == "https" { 2 } else { 1 }];
        let find = |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let origin = Origin::read(find, IpAddr::from([127, 0, 0, 1]), true).unwrap();
        let authorization = Some(header.as_bytes());
        let request = SignedRequest { method: "GET", resource: url.path(), origin: &origin, authorization };
        assert!(gets_in(authenticate(&me(), &request, NOW)), "{root}");
    }
}

fn refusal(result: Result<Caller, Refusal>) -> String {
    result.map_or_else(|refusal| refusal.to_string(), |caller| format!("{caller:?}"))
}

fn gets_in(result: Result<Caller, Refusal>) -> bool {
    result.is_ok_and(|caller| caller.is_known())
}

fn me() -> Authenticator {
    let me = client("me", "key", &["a:*", "assume:dev"]);
    let dev = Role { id: "dev".into(), scopes: vec!["dev:x".into()] };
    let anonymous = Role { id: "anonymous".into(), scopes: vec!["public".into()] };
    Authenticator::new(LocalDirectory::new(vec![me], Roles::new(vec![dev, anonymous]).unwrap()))
}

#[test]
fn who_cant_sign_learns_nothing_of_a_clients_scopes() {
    let ext = json!({"authorizedScopes": ["b"]});
    let told = "Supplied credentials do not satisfy authorizedScopes; credentials have scopes:\n\n\
                ```\na:*\nassume:anonymous\nassume:dev\ndev:x\npublic\n```\n\nauthorizedScopes are:\n\n```\nb\n```";
    assert_eq!(refusal(get_x(&me(), &written(&signed("me", "key", "1736942400", Some(&ext))))), told);
    let not_me = written(&signed("me", "other", "1736942400", Some(&ext)));
    assert_eq!(refusal(get_x(&me(), &not_me)), "Unauthorized: Bad mac");
}

/// The verdicts are those of npm's `hawk` 9, but for what is no decimal number.
#[test]
fn a_time_is_a_decimal_number_as_javascript_writes_them() {
    let no_number =
        ["x", "NaN", "nan", "inf", "0x67878d80", ".", "+", "e1", "1.2.3", "1 736942400", "--1736942400", "1736942400e"];
    let stale = ["Infinity", "-1", "-1736942400", " ", "1e9", "1e999", "-1e999", "1736941499.999", "17369424000"];
    for ts in no_number.into_iter().chain(stale) {
        assert_eq!(
            refusal(get_x(&me(), &written(&signed("me", "key", ts, None)))),
            "Unauthorized: Stale timestamp",
            "{ts}"
        );
    }
    for ts in [
        "1736941500",
        "1736943300",
        "1736942400.0",
        "1736942400.",
        "01736942400",
        " 1736942400",
        "1736942400  ",
        "+1736942400",
        "1736942400e0",
        "1736942400E+0",
        "17369424000e-1",
        ".17369424e10",
        " +173694240.05e1 ",
    ] {
        assert!(get_x(&me(), &written(&signed("me", "key", ts, None))).is_ok(), "{ts}");
        assert!(get_x(&me(), &written(&signed("me", "another", ts, None))).is_err(), "{ts}");
    }
}

#[test]
fn headers_that_are_wrong_in_other_ways_are_refused_in_taskclusters_words() {
    for (header, text) in [
        (format!("Hawk {}", "a".repeat(4092)), "Bad Request: Header length too long"),
        (format!("Hawk {}", "a".repeat(4091)), "Bad Request: Bad header format"),
        ("Hawk ".into(), "Bad Request: Invalid header syntax"),
        ("Hawk, x".into(), "Bad Request: Invalid header syntax"),
        ("Hawk a=\"b\" c=\"d\"".into(), "Bad Request: Unknown attribute: c"),
        ("Hawk zz=\"b\", id=\"\", ts=\"1\", ts=\"1\"".into(), "Bad Request: Duplicate attribute: ts"),
        ("Hawk id=\"a\\b\"".into(), "Bad Request: Bad header format"),
        ("Hawk id=\"a\",, ts=\"1\"".into(), "Bad Request: Bad header format"),
        ("Hawk id=\"a\" , ts=\"1\",".into(), "Bad Request: Missing attributes"),
    ] {
        assert_eq!(refusal(get_x(&me(), &header)), text, "{header}");
    }
}

#[test]
fn an_empty_header_is_none() {
    assert_eq!(get_x(&me(), "").unwrap().who, Who::Anonymous);
}

/// A bewit for `/x` as `me`, with this expiry.
fn bewit(expiry: &str, ext: &str) -> String {
    let artifacts = Artifacts {
        ts: expiry,
        nonce: "",
        method: "GET",
        resource: "/x",
        host: "a.example",
        port: 443,
        hash: "",
        ext,
        app: None,
    };
    in_base64(format!("me\\{expiry}\\{}\\{ext}", mac(Kind::Bewit, "key", &artifacts)))
}

fn in_base64(bewit: impl AsRef<[u8]>) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bewit)
}

fn get(resource: &str) -> Result<Caller, Refusal> {
    let origin = origin("a.example", 443);
    authenticate(&me(), &SignedRequest { method: "GET", resource, origin: &origin, authorization: None }, NOW)
}

#[test]
fn bewits_that_are_wrong_in_other_ways_are_refused() {
    let good = bewit("1736942401", "");
    assert_eq!(get(&format!("/x?bewit={good}")).unwrap().who.name(), Some("me"));
    for expiry in [" 1736942401", "+1736942401", "1736942401e0", "1e99", "1e308"] {
        assert!(gets_in(get(&format!("/x?bewit={}", bewit(expiry, "")))), "{expiry}");
    }
    for expiry in ["soon", "NaN", "Infinity", "1e999", "-1e999", "-1", " ", "0x67878d81"] {
        assert_eq!(
            refusal(get(&format!("/x?bewit={}", bewit(expiry, "")))),
            "Unauthorized: Access expired",
            "{expiry}"
        );
    }
    for (resource, text) in [
        (format!("/y?bewit={good}"), "Unauthorized: Bad mac"),
        (format!("/x?bewit={good}&a"), "Unauthorized: Bad mac"),
        (format!("/x?bewit={good}&"), "Unauthorized: Unauthorized"),
        (format!("/x?bewit={good}$"), "Unauthorized: Unauthorized"),
        (format!("/x?bewit={}", bewit("1736942401", "!")), "Failed to parse ext"),
        (format!("/x?bewit={good}&a={}", "a".repeat(4096)), "Bad Request: Resource path exceeds max length"),
        ("/x?bewit=a".into(), "Bad Request: Invalid bewit structure"),
        (format!("/x?bewit={}", in_base64("m\ne\\9999999999\\mac\\")), "Bad Request: Invalid bewit structure"),
        (format!("/x?bewit={}", in_base64("me\\9999999999\\\\")), "Bad Request: Missing bewit attributes"),
        ("/x?bewit=é".into(), "Bad Request: Invalid bewit encoding"),
    ] {
        assert_eq!(refusal(get(&resource)), text, "{resource}");
    }
    assert_eq!(get(&format!("/xbewit={good}")).unwrap().who, Who::Anonymous);
}

#[test]
fn a_body_other_than_the_signed_one_is_refused_with_both_hashes() {
    let caller = Caller { who: Who::Anonymous, scopes: vec![], expires: None, hash: Some("somethingelse".into()) };
    assert_eq!(
        caller.verify_payload("application/json", b"{}").unwrap_err().to_string(),
        "Invalid payload hash: somethingelse\n\
         Computed payload hash: vNZvU+y3rJKqH4hu1yxrNuaijNPgIJ2Rgj/sHzsQhXY=\n\
         This happens when your request carries a signed hash of the payload and the hash doesn't match the hash we've \
         computed on the server-side."
    );
}

#[test]
fn what_a_caller_lacks_is_told_in_taskclusters_words() {
    let template = Expression::AllOf(vec![Expression::Scope("pulse:namespace:<namespace>".into())]);
    let needed = template.with(&[("namespace", "bad%")]).unwrap();
    let mut caller =
        Caller { who: Who::Machine { client_id: "weak".into() }, scopes: vec!["x".into()], expires: None, hash: None };
    assert_eq!(
        caller.require(&needed).unwrap_err().to_string(),
        "Client ID weak does not have sufficient scopes and is missing the following scopes:\n\n\
         ```\npulse:namespace:bad%\n```\n\n\
         This request requires the client to satisfy the following scope expression:\n\n\
         ```\n{\n  \"AllOf\": [\n    \"pulse:namespace:bad%\"\n  ]\n}\n```"
    );
    caller.who = Who::Anonymous;
    assert_eq!(
        caller.require(&Expression::Scope("a".into())).unwrap_err().to_string(),
        "This request requires Taskcluster credentials that satisfy the following scope expression:\n\n```\na\n```"
    );
    caller.scopes = vec!["pulse:*".into()];
    assert_eq!(caller.require(&needed), Ok(vec!["pulse:namespace:bad%".to_owned()]));
}

// Laws.

/// Scopes over so few characters that they often have to do with each other. Only the last may be a star: with two, as
/// in `a**`, satisfaction is no order (it satisfies `a*`, which satisfies `ab`, which it doesn't), in Taskcluster
/// either.
fn a_scope() -> impl Strategy<Value = String> {
    r"[ab]{0,3}\*?"
}

fn scopes() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(a_scope(), 0..6)
}

fn expressions() -> impl Strategy<Value = Expression> {
    a_scope().prop_map(Expression::Scope).prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expression::AllOf),
            prop::collection::vec(inner, 0..4).prop_map(Expression::AnyOf),
        ]
    })
}

fn all_roles() -> impl Strategy<Value = Vec<Role>> {
    let granted = prop_oneof![a_scope(), a_scope().prop_map(|id| format!("assume:{id}")), Just("assume:a<..>".into())];
    let role = (a_scope(), prop::collection::vec(granted, 0..4)).prop_map(|(id, scopes)| Role { id, scopes });
    prop::collection::vec(role, 0..6)
}

/// Adds what can be a certificate or nearly one, by chance right or wrong in any field.
fn exts() -> impl Strategy<Value = Value> {
    let odd = || {
        prop_oneof![
            Just(json!(null)),
            Just(json!(0)),
            Just(json!("x")),
            Just(json!([])),
            any::<f64>().prop_map(|n| json!(n))
        ]
    };
    let number = || prop_oneof![Just(json!(1_736_942_400_000_i64)), Just(json!(1.5e308)), Just(json!(-1e30)), odd()];
    let held = prop::sample::subsequence(vec!["a:*", "a:x", "dev:x", "public"], 0..=4);
    let list =
        move || prop_oneof![scopes().prop_map(|list| json!(list)), held.clone().prop_map(|list| json!(list)), odd()];
    let seed = prop_oneof![Just(json!("s".repeat(44))), Just(json!("é".repeat(44))), odd()];
    let name = || prop_oneof![Just(json!("me")), Just(json!("you")), odd()];
    let certificate = (prop_oneof![Just(json!(1)), odd()], seed, number(), number(), list(), name(), name()).prop_map(
        |(version, seed, start, expiry, scopes, issuer, signature)| {
            json!({"version": version, "seed": seed, "start": start, "expiry": expiry, "scopes": scopes, "issuer": issuer,
                "signature": signature})
        },
    );
    (prop_oneof![certificate, odd()], list())
        .prop_map(|(certificate, scopes)| json!({"certificate": certificate, "authorizedScopes": scopes}))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_header_whatever_breaks_the_authenticator_or_gets_in_unsigned(
        header in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let origin = origin("a.example", 443);
        for header in [header.clone(), [b"Hawk ", &header[..]].concat()] {
            let authorization = Some(&header[..]);
            let request = SignedRequest { method: "GET", resource: "/x", origin: &origin, authorization };
            prop_assert!(!gets_in(authenticate(&me(), &request, NOW)));
        }
    }

    #[test]
    fn nor_does_any_made_of_attributes(
        header in r#"[Hh]awk ((id|ts|nonce|mac|ext|hash|app|dlg|x)="(me|17369424..|[ -~]{0,9}|.)"(, | |,)){0,7}"#
    ) {
        prop_assert!(!gets_in(get_x(&me(), &header)));
    }

    #[test]
    fn nor_does_any_bewit(
        bewit in "\\PC{0,40}", raw in prop::collection::vec(any::<u8>(), 0..60),
        parts in r"me\\[0-9.e]{0,12}\\.{0,9}\\.{0,9}"
    ) {
        for bewit in [bewit, in_base64(raw), in_base64(parts)] {
            let resource = format!("/x?bewit={bewit}");
            prop_assert!(!gets_in(get(&resource)), "{resource}");
        }
    }

    #[test]
    fn no_ext_whatever_breaks_the_authenticator_or_gives_more_scopes(ext in exts()) {
        for key in ["key", "other"] {
            if let Ok(caller) = get_x(&me(), &written(&signed("me", key, "1736942400", Some(&ext)))) {
                let held = ["a:*", "assume:dev", "dev:x", "assume:anonymous", "public"].map(str::to_owned);
                prop_assert_eq!(key, "key");
                prop_assert!(caller.scopes.iter().all(|scope| scope::any_satisfies(&held, scope)), "{caller:?}");
            }
        }
    }

    #[test]
    fn what_we_sign_we_let_in(
        id in "[A-Za-z0-9!@/:.+|_-]{1,30}", key in "[A-Za-z0-9_-]{22,66}", method in "(GET|POST|HEAD)",
        path in "(/[a-zA-Z0-9%_.~-]{0,8}){0,4}", query in prop::option::of("[a-z0-9=&%+]{0,20}"), port in 1u16..,
        body in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)), skew in -900_000_i64..900_000,
    ) {
        let query = query.map(|query| format!("?{query}")).unwrap_or_default();
        let url = Url::parse(&format!("https://A.example:{port}{path}{query}")).unwrap();
        let signer = Signer { id: &id, key: &key, ext: Some("e30=") };
        let payload = body.as_deref().map(|body| ("application/json; charset=utf-8", body));
        let header = signer.header(&method, &url, payload, NOW);
        let authenticator = Authenticator::new(LocalDirectory::new(vec![client(&id, &key, &["s"])], Roles::default()));
        let resource = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
        let origin = origin("a.example", port);
        let authorization = Some(header.as_bytes());
        let request = SignedRequest { method: &method, resource: &resource, origin: &origin, authorization };
        let at = Timestamp::from_millis(NOW.millis() + skew);
        let caller = authenticate(&authenticator, &request, at).unwrap();
        prop_assert_eq!(caller.who.name(), Some(id.as_str()));
        prop_assert_eq!(caller.hash.is_some(), body.is_some());
        let elsewhere = Origin { host: "b.example".into(), ..origin.clone() };
        let beside = Origin { port: port ^ 1, ..origin.clone() };
        for altered in [
            SignedRequest { method: "PUT", ..request },
            SignedRequest { resource: &format!("{resource}x"), ..request },
            SignedRequest { origin: &elsewhere, ..request },
            SignedRequest { origin: &beside, ..request },
        ] {
            prop_assert_eq!(authenticate(&authenticator, &altered, at), Err(hawk::Error::BadMac.into()));
        }
        let other_key = LocalDirectory::new(vec![client(&id, &format!("{key}x"), &["s"])], Roles::default());
        prop_assert_eq!(authenticate(&Authenticator::new(other_key), &request, at), Err(hawk::Error::BadMac.into()));
        if let Some(body) = body {
            prop_assert_eq!(caller.verify_payload("Application/JSON", &body), Ok(()));
            let other = [&body[..], b"x"].concat();
            prop_assert!(caller.verify_payload("application/json", &other).is_err());
            prop_assert!(caller.verify_payload("text/plain", &body).is_err());
        }
    }

    #[test]
    fn whatever_is_altered_is_noticed(which in 0usize..6, at in any::<prop::sample::Index>(), to in "[A-Za-z0-9+/=]") {
        let mut header = signed("me", "key", "1736942400", Some(&json!({})));
        header.push(("app", "A".into()));
        header.push(("dlg", "D".into()));
        let ext = header[4].1.clone();
        let artifacts = Artifacts {
            ts: "1736942400", nonce: "n", method: "GET", resource: "/x", host: "a.example", port: 443, hash: "HASH",
            ext: &ext, app: Some(("A", "D")),
        };
        header[3].1 = mac(Kind::Header, "key", &artifacts);
        header.push(("hash", "HASH".into()));
        prop_assert!(get_x(&me(), &written(&header)).is_ok());
        let altered = [1, 2, 3, 5, 6, 7][which];
        let value = &mut header[altered].1;
        let at = at.index(value.len());
        prop_assume!(value[at..=at] != to);
        value.replace_range(at..=at, &to);
        prop_assert!(get_x(&me(), &written(&header)).is_err(), "{}", written(&header));
    }

    #[test]
    fn satisfaction_is_an_order_and_sets_mean_what_their_members_mean(
        a in scopes(), b in scopes(), x in a_scope(), y in a_scope(), z in a_scope()
    ) {
        prop_assert!(scope::satisfies(&x, &x) && scope::satisfies("*", &x));
        prop_assert!(!(scope::satisfies(&x, &y) && scope::satisfies(&y, &z)) || scope::satisfies(&x, &z));
        prop_assert!(!(scope::satisfies(&x, &y) && scope::satisfies(&y, &x)) || x == y);
        let (set_a, set_b) = (scope::normalize(a.clone()), scope::normalize(b.clone()));
        prop_assert_eq!(scope::normalize(set_a.clone()), set_a.clone());
        prop_assert_eq!(scope::any_satisfies(&set_a, &x), scope::any_satisfies(&a, &x));
        let union = [a, b].concat();
        prop_assert_eq!(scope::merge(&set_a, &set_b), scope::normalize(union));
    }

    #[test]
    fn an_expression_is_satisfied_exactly_when_nothing_is_missing(held in scopes(), needed in expressions()) {
        let used = needed.satisfying(&held);
        prop_assert_eq!(used.is_some(), needed.missing(&held).is_none());
        if let Some(used) = used {
            prop_assert!(used.iter().all(|scope| scope::any_satisfies(&held, scope)));
            prop_assert!(needed.satisfying(&used).is_some());
        }
    }

    #[test]
    fn expanding_ends_and_takes_nothing_away_and_comes_to_rest(
        roles in all_roles(), held in scopes(), more in a_scope()
    ) {
        let Ok(roles) = Roles::new(roles) else { return Ok(()) };
        let held: Vec<String> = held.into_iter().map(|scope| format!("assume:{scope}")).collect();
        let expanded = roles.expand(&held);
        prop_assert!(held.iter().all(|scope| scope::any_satisfies(&expanded, scope)));
        prop_assert_eq!(roles.expand(&expanded), expanded.clone());
        let with_more = roles.expand(&[held, vec![more]].concat());
        prop_assert!(expanded.iter().all(|scope| scope::any_satisfies(&with_more, scope)));
    }
}
