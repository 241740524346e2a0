//! The console as browsers meet it, but for what only a browser shows: sessions, cookies, where forms come from, rights, headers.

use reqwest::Method;
use taskcluster_pulse::access::people::People;
use taskcluster_pulse::domain::audit::{Audit, AuditFilter, By};
use taskcluster_pulse::domain::inventory::{Binding, QueueKind};
use taskcluster_pulse::domain::name::Slot;
use taskcluster_pulse::domain::owner::Owner;
use taskcluster_pulse::domain::session::Person;

use taskcluster_pulse::clock::Clock as _;

use crate::http::site::{Answer, Site};
use crate::support::fake_broker::{Failure, Fault, VHOST};
use crate::support::world::{BrokerKind, HOUR, StoreKind, World};

const PERSON: &str = "owner@example.com";
const FORM: &str = "application/x-www-form-urlencoded";

/// A site at which this person can sign in, on this world.
async fn site_on(world: World, person: &str) -> Site {
    let development = Some(person.to_owned());
    let administrators = vec![Owner::parse("boss@example.com").unwrap()];
    let people = People { administrators, development, plain: true, ..People::default() };
    Site::on(world, |wishes| wishes.settings.console.people = people).await
}

async fn site() -> Site {
    site_on(World::new(StoreKind::Sqlite, BrokerKind::Fake).await, PERSON).await
}

/// A form, sent by a page of ours.
async fn send(site: &Site, path: &str, cookie: &str, form: &str) -> Answer {
    let ask = site.ask(Method::POST, path).header("content-type", FORM).header("sec-fetch-site", "same-origin");
    ask.header("cookie", cookie).body(form).send().await
}

async fn get(site: &Site, path: &str, cookie: &str) -> Answer {
    site.get(path).header("cookie", cookie).send().await
}

/// Signs in, and gives the cookie.
async fn sign_in(site: &Site) -> String {
    let answer = send(site, "/console/sign-in/development", "", "to=/console/queues?q=a").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/console/queues?q=a"), "{}", answer.text);
    answer.header("set-cookie").split(';').next().unwrap().to_owned()
}

async fn trail(site: &Site) -> Vec<Audit> {
    site.world.store.audits(&AuditFilter::default(), 100).await.unwrap()
}

#[tokio::test]
async fn a_session_begins_at_sign_in_and_the_store_never_has_its_id() {
    let site = site().await;
    let (cookie, other) = (sign_in(&site).await, sign_in(&site).await);
    assert_ne!(cookie, other);
    let me = get(&site, "/console/me", &cookie).await;
    assert_eq!(me.status, 200);
    assert!(me.text.contains(PERSON) && me.text.contains("this one"), "{}", me.text);
    let id = cookie.split_once('=').unwrap().1;
    for file in ["", "-wal"] {
        let path = format!("{}{file}", site.world.sqlite().display());
        let bytes = std::fs::read(path).unwrap_or_default();
        assert!(!bytes.windows(id.len()).any(|part| part == id.as_bytes()), "the id is in the database");
    }
    let records = trail(&site).await;
    let of: Vec<_> = records.iter().map(|of| (of.action.as_str(), of.by.actor.to_string())).collect();
    assert_eq!(of, vec![("sign-in", format!("person {PERSON}")); 2]);
    assert!(records.iter().all(|of| of.by.request.is_some()));
}

#[tokio::test]
async fn a_session_ends_after_twelve_hours_however_much_it_is_used() {
    let site = site().await;
    let cookie = sign_in(&site).await;
    for _ in 0..11 {
        site.world.clock.advance(HOUR);
        assert_eq!(get(&site, "/console/me", &cookie).await.status, 200);
    }
    site.world.clock.advance(HOUR);
    let over = get(&site, "/console/me", &cookie).await;
    assert_eq!((over.status.as_u16(), over.header("location")), (303, "/console/sign-in?to=%2Fconsole%2Fme"));
    assert!(over.header("set-cookie").contains("Max-Age=0"), "the browser forgets it");
}

#[tokio::test]
async fn who_signs_out_is_out_here_or_everywhere_and_the_trail_says_so() {
    let site = site().await;
    let all = [sign_in(&site).await, sign_in(&site).await, sign_in(&site).await];
    let is_in = async |cookie: &str| get(&site, "/console/me", cookie).await.status == 200;
    let out = send(&site, "/console/sign-out", &all[0], "").await;
    assert_eq!((out.status.as_u16(), out.header("location")), (303, "/console/status"));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    assert!(!is_in(&all[0]).await && is_in(&all[1]).await && is_in(&all[2]).await);
    send(&site, "/console/sign-out", &all[1], "everywhere=1").await;
    assert!(!is_in(&all[1]).await && !is_in(&all[2]).await);
    let outs = trail(&site).await.into_iter().filter(|of| of.action == "sign-out");
    assert_eq!(outs.map(|of| of.reason).collect::<Vec<_>>(), ["all sessions", "this session"]);
    assert_eq!(send(&site, "/console/sign-out", "", "everywhere=1").await.status, 303, "nobody is out already");
}

#[tokio::test]
async fn what_changes_something_is_taken_from_our_own_pages_alone() {
    let site = site().await;
    let cookie = sign_in(&site).await;
    let post = |headers: &[(&str, &str)]| {
        let mut ask =
            site.ask(Method::POST, "/console/sign-out").header("content-type", FORM).header("cookie", &cookie);
        for (name, value) in headers {
            ask = ask.header(name, value);
        }
        ask.body("").send()
    };
    let own = format!("http://127.0.0.1:{}", site.url.port().unwrap());
    for headers in [
        &[][..],
        &[("sec-fetch-site", "cross-site"), ("origin", &own)],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none")],
        &[("origin", "null")],
        &[("origin", "http://127.0.0.1")],
        &[("origin", "https://evil.example.com")],
    ] {
        let answer = post(headers).await;
        assert_eq!(answer.status, 403, "{headers:?}");
        assert!(answer.text.contains("nothing was done"), "{}", answer.text);
    }
    assert_eq!(get(&site, "/console/me", &cookie).await.status, 200, "nothing was done");
    // A browser that doesn't know that header yet.
    assert_eq!(post(&[("origin", &own)]).await.status, 303);
    assert_eq!(get(&site, "/console/me", &cookie).await.status, 303);
    let json =
        site.ask(Method::POST, "/console/sign-in/development").json("{}").header("sec-fetch-site", "same-origin");
    assert_eq!(json.send().await.status, 415);
    // Somebody else's page may have its own name lead to this machine.
    let elsewhere = site.ask(Method::POST, "/console/sign-in/development").header("content-type", FORM);
    let elsewhere =
        elsewhere.header("sec-fetch-site", "same-origin").header("host", "evil.example.com").body("").send();
    let elsewhere = elsewhere.await;
    assert_eq!((elsewhere.status.as_u16(), elsewhere.header("set-cookie")), (403, ""), "{}", elsewhere.text);
    let long = format!("to={}", "a".repeat(5000));
    assert_eq!(send(&site, "/console/sign-in/development", "", &long).await.status, 413);
}

#[tokio::test]
async fn without_an_identity_provider_the_console_says_how_to_have_one_and_how_things_are() {
    let site = Site::new().await;
    let root = site.get("/").send().await;
    assert_eq!((root.status.as_u16(), root.header("location")), (303, "/console"));
    assert_eq!(site.get("/console").send().await.header("location"), "/console/status");
    let status = site.get("/console/status").send().await;
    assert_eq!(status.status, 200);
    assert!(status.text.contains("RabbitMQ") && status.text.contains("Namespaces"), "{}", status.text);
    let sign_in = site.get("/console/sign-in").send().await;
    assert!(
        sign_in.text.contains("FAKE_ACCOUNT") && sign_in.text.contains("CONSOLE_ADMINISTRATORS"),
        "{}",
        sign_in.text
    );
    assert_eq!(send(&site, "/console/sign-in/development", "", "").await.status, 404);
    assert_eq!(trail(&site).await, []);
}

/// Each page and each form that needs somebody, with what it is about.
const GUARDED: [(&str, &str); 50] = [
    ("GET", "/console/exchange?name=exchange/taskcluster-x/a"),
    ("GET", "/console/namespaces/taskcluster-x/extend"),
    ("POST", "/console/namespaces/taskcluster-x/extend"),
    ("POST", "/console/namespaces/taskcluster-x/disable"),
    ("POST", "/console/namespaces/taskcluster-x/enable"),
    ("POST", "/console/namespaces/taskcluster-x/retire"),
    ("POST", "/console/queue/ask-exemption"),
    ("GET", "/console/administration"),
    ("GET", "/console/administration/people"),
    ("POST", "/console/administration/people/sign-out"),
    ("GET", "/console/administration/people/disable?subject=x"),
    ("POST", "/console/administration/people/disable"),
    ("POST", "/console/administration/people/enable"),
    ("GET", "/console/administration/exemptions"),
    ("POST", "/console/administration/requests/grant"),
    ("POST", "/console/administration/requests/refuse"),
    ("GET", "/console/administration/things?unknown=1"),
    ("GET", "/console/administration/unknown?name=taskcluster-x"),
    ("POST", "/console/administration/unknown"),
    ("POST", "/console/administration/account"),
    ("POST", "/console/administration/adopt"),
    ("GET", "/console/administration/tasks"),
    ("GET", "/console/administration/tasks/plan?task=monitor-rabbit"),
    ("GET", "/console/administration/tasks/run?task=monitor-rabbit"),
    ("POST", "/console/administration/tasks/run"),
    ("GET", "/console/administration/notices"),
    ("GET", "/console/inspector"),
    ("POST", "/console/inspector"),
    ("GET", "/console/inspector/watch"),
    ("POST", "/console/inspector/stop"),
    ("GET", "/console/me"),
    ("GET", "/console/namespaces"),
    ("GET", "/console/namespaces/taskcluster-x"),
    ("GET", "/console/namespaces/taskcluster-x/owners"),
    ("POST", "/console/namespaces/taskcluster-x/owners"),
    ("POST", "/console/namespaces/taskcluster-x/release"),
    ("POST", "/console/namespaces/taskcluster-x/revoke"),
    ("POST", "/console/namespaces/taskcluster-x/credentials"),
    ("GET", "/console/queues"),
    ("POST", "/console/queues/ask"),
    ("POST", "/console/queues/do"),
    ("GET", "/console/queue?name=queue/taskcluster-x/a"),
    ("POST", "/console/queue/purge"),
    ("POST", "/console/queue/delete"),
    ("POST", "/console/queue/exempt"),
    ("POST", "/console/queue/end-exemption"),
    ("GET", "/console/exchanges"),
    ("POST", "/console/exchange/delete"),
    ("GET", "/console/audit"),
    ("GET", "/console/queue/delete?name=queue/taskcluster-x/a"),
];

#[tokio::test]
async fn nobody_gets_anywhere_without_a_session() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let before = site.world.fake().all_requests();
    for (method, path) in GUARDED {
        for cookie in ["", "pulse-development=x", &format!("pulse-development={}", "A".repeat(43))] {
            let answer = match method {
                "GET" => get(&site, path, cookie).await,
                _ => {
                    send(
                        &site,
                        path,
                        cookie,
                        "name=queue/taskcluster-x/a&typed=a&act=delete&queue=queue/taskcluster-x/a",
                    )
                    .await
                }
            };
            let expected = if method == "GET" { 303 } else { 401 };
            assert_eq!(answer.status.as_u16(), expected, "{method} {path} {cookie}");
            assert!(!answer.text.contains("taskcluster-x") || method == "GET", "{path}: {}", answer.text);
        }
    }
    assert_eq!(site.world.fake().all_requests(), before, "the broker is asked nothing");
}

#[tokio::test]
async fn what_a_person_owns_is_theirs_to_see_and_empty_and_nobody_elses() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", "Owner@example.com", 9 * HOUR).await;
    site.world.claim_for("taskcluster-y", "else@example.com", 9 * HOUR).await;
    for queue in ["queue/taskcluster-x/a", "queue/taskcluster-y/b"] {
        site.world.fill(queue, QueueKind::Classic, 3).await;
    }
    let cookie = sign_in(&site).await;
    let list = get(&site, "/console/queues", &cookie).await;
    assert!(list.text.contains("queue/taskcluster-x/a") && !list.text.contains("taskcluster-y"), "{}", list.text);
    let delete = async |queue: &str, typed: &str| {
        let form = format!("name={queue}&typed={typed}&reason=tidy");
        send(&site, "/console/queue/delete", &cookie, &form).await.status.as_u16()
    };
    assert_eq!(delete("queue/taskcluster-y/b", "b").await, 403);
    assert_eq!(delete("queue/taskcluster-x/a", "").await, 422, "its name is to be typed");
    assert_eq!(delete("queue/taskcluster-x/a", "b").await, 422);
    assert_eq!(site.world.queues().await.len(), 2);
    assert_eq!(delete("queue/taskcluster-x/a", "a").await, 200);
    assert_eq!(site.world.queues().await, ["queue/taskcluster-y/b"]);
    let records = trail(&site).await;
    let found = records.iter().find(|of| of.action == "delete-queue").unwrap();
    assert_eq!(
        (found.by.actor.to_string(), found.reason.contains("it had 3 messages; tidy")),
        (format!("person {PERSON}"), true)
    );
    let refused = records.iter().find(|of| of.action == "refuse").unwrap();
    assert_eq!(
        (refused.by.actor.to_string(), refused.namespace.as_ref().unwrap().as_str()),
        (format!("person {PERSON}"), "taskcluster-y")
    );
}

#[tokio::test]
async fn many_queues_are_deleted_only_if_all_of_them_are_ones_own() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    site.world.claim_for("taskcluster-y", "else@example.com", 9 * HOUR).await;
    for queue in ["queue/taskcluster-x/a", "queue/taskcluster-x/b", "queue/taskcluster-y/c"] {
        site.world.fill(queue, QueueKind::Classic, 0).await;
    }
    let cookie = sign_in(&site).await;
    let both = "act=delete&queue=queue/taskcluster-x/a&queue=queue/taskcluster-y/c";
    assert_eq!(send(&site, "/console/queues/do", &cookie, both).await.status, 403);
    for nothing in
        ["act=delete", "queue=queue/taskcluster-x/a", "act=drop&queue=queue/taskcluster-x/a", "act=delete&queue=x"]
    {
        assert_eq!(send(&site, "/console/queues/do", &cookie, nothing).await.status, 400, "{nothing}");
    }
    assert_eq!(site.world.queues().await.len(), 3);
    let own = "act=delete&queue=queue/taskcluster-x/a&queue=queue/taskcluster-x/b&queue=queue/taskcluster-x/gone&typed=delete+3+queues";
    let done = send(&site, "/console/queues/do", &cookie, own).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(done.text.contains("it was gone already"), "{}", done.text);
    assert_eq!(site.world.queues().await, ["queue/taskcluster-y/c"]);
}

#[tokio::test]
async fn an_administrator_is_who_the_settings_say_at_each_request() {
    let boss = site_on(World::new(StoreKind::Sqlite, BrokerKind::Fake).await, "boss@example.com").await;
    boss.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let cookie = sign_in(&boss).await;
    for path in
        ["/console/namespaces/taskcluster-x", "/console/audit", "/console/audit?namespace=taskcluster-x&format=json"]
    {
        assert_eq!(get(&boss, path, &cookie).await.status, 200, "{path}");
    }
    let own = site().await;
    let cookie = sign_in(&own).await;
    assert_eq!(get(&own, "/console/audit", &cookie).await.status, 403);
}

#[tokio::test]
async fn new_credentials_of_an_account_are_shown_once_and_kept_nowhere() {
    let site = site().await;
    let owners = [Owner::parse(PERSON).unwrap()];
    let service = site.world.service();
    let by = By::client("test");
    let name = "taskcluster-people";
    service.create_account(name, &owners, &by).await.unwrap();
    let cookie = sign_in(&site).await;
    let shown = send(&site, &format!("/console/namespaces/{name}/credentials"), &cookie, "end-old=1").await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!((shown.header("cache-control"), shown.header("content-encoding")), ("private, no-store", ""));
    let password = shown.text.split("<code id=\"password\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
    let string = shown.text.split("<code id=\"string\">").nth(1).unwrap().split('<').next().unwrap();
    assert!(password.len() == 32 && string.contains(&password));
    assert!(site.world.logs_in(&string.replace("&amp;", "&")).await);
    let page = get(&site, &format!("/console/namespaces/{name}"), &cookie).await;
    assert!(page.status == 200 && !page.text.contains(&password));
    assert!(trail(&site).await.iter().all(|of| !of.reason.contains(&password)));
}

#[tokio::test]
async fn a_broker_that_is_down_is_a_banner_over_what_is_known() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    site.world.fake().down().await;
    let cookie = sign_in(&site).await;
    for path in ["/console/namespaces", "/console/queues", "/console/status", "/console/namespaces/taskcluster-x"] {
        let page = get(&site, path, &cookie).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(
            page.text.contains("RabbitMQ does not answer. What is shown is the last that is known."),
            "{path}: {}",
            page.text
        );
    }
    let purge = send(&site, "/console/queue/purge", &cookie, "name=queue/taskcluster-x/a").await;
    assert_eq!((purge.status.as_u16(), purge.header("retry-after")), (503, "5"));
    assert!(purge.text.contains("RabbitMQ does not answer"), "{}", purge.text);
}

#[tokio::test]
async fn what_renews_itself_is_answered_without_a_body_where_nothing_changed() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let cookie = sign_in(&site).await;
    let ask = || site.get("/console/queues").header("cookie", &cookie).header("x-live", "1");
    let first = ask().send().await;
    assert_eq!(first.status, 200);
    assert!(!first.text.contains("<html") && !first.header("x-as-of").is_empty(), "{}", first.text);
    let same = ask().header("if-none-match", first.header("etag")).send().await;
    assert_eq!((same.status.as_u16(), same.text.as_str()), (304, ""));
    assert!(!same.header("x-as-of").is_empty());
    let gone = site.get("/console/queues").header("x-live", "1").send().await;
    assert_eq!(gone.status, 401, "a script is not led to the page for signing in");
}

#[tokio::test]
async fn pages_run_nothing_but_their_own_and_are_kept_by_nobody() {
    let site = site().await;
    let cookie = sign_in(&site).await;
    for path in ["/console/status", "/console/queues", "/console/nowhere", "/console/sign-in"] {
        let page = get(&site, path, &cookie).await;
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), "private, no-store", "{path}");
        assert_eq!((page.header("referrer-policy"), page.header("x-content-type-options")), ("same-origin", "nosniff"));
        assert!(!page.text.contains("style=\"") && !page.text.contains("<script>") && !page.text.contains("onclick"));
    }
    let page = get(&site, "/console/status", &cookie).await;
    for file in page.text.split('"').filter(|part| part.starts_with("/console/assets/")) {
        let asset = site.get(file).send().await;
        assert_eq!(
            (asset.status.as_u16(), asset.header("cache-control")),
            (200, "public, max-age=31536000, immutable"),
            "{file}"
        );
    }
    assert_eq!(site.get("/console/assets/000000000000.css").send().await.status, 404);
    let api = site.get("/api/pulse/v1/ping").send().await;
    assert_eq!(
        api.header("content-security-policy"),
        "report-uri /__cspreport__;default-src 'none';frame-ancestors 'none';"
    );
}

/// Begins an inspection, and gives the address of its page.
async fn inspect(site: &Site, cookie: &str, form: &str) -> String {
    let begun = send(site, "/console/inspector", cookie, form).await;
    assert_eq!(begun.status, 303, "{}", begun.text);
    begun.header("location").to_owned()
}

#[tokio::test]
async fn messages_are_seen_as_they_are_published_by_whoever_has_signed_in() {
    let site = site().await;
    site.world.claim_for("taskcluster-y", "else@example.com", 9 * HOUR).await;
    let exchange = "exchange/taskcluster-y/events";
    site.world.fake().state().exchanges.insert(exchange.to_owned());
    let cookie = sign_in(&site).await;
    let page = inspect(&site, &cookie, &format!("exchange={exchange}&key=task.%23")).await;
    assert!(page.ends_with("&exchange=exchange%2Ftaskcluster-y%2Fevents&key=task.%23"), "{page}");
    let queue = site.world.queues().await.pop().unwrap();
    assert!(queue.starts_with("inspector/"), "{queue}");
    let arguments = site.world.fake().state().arguments[&queue].clone();
    assert_eq!((&arguments["x-expires"], &arguments["x-overflow"]), (&60_000.into(), &"drop-head".into()));
    assert!(get(&site, &page, &cookie).await.text.contains("Nothing was published"));
    let publish = |body: &str| site.world.fake().state().publish(exchange, "task.<b>", body);
    publish(r#"{"taskId": "<script>window.hacked=1</script>"}"#);
    publish("second");
    let live = || site.get(&page).header("cookie", &cookie).header("x-live", "1");
    let part = live().send().await;
    assert!(part.text.contains("&#34;taskId&#34;: &#34;&#60;script&#62;window"), "{}", part.text);
    assert!(part.text.find("second").unwrap() < part.text.find("taskId").unwrap(), "the newest is first");
    assert!(!part.text.contains("<script") && !part.text.contains("<b>") && !part.text.contains("<html"));
    assert_eq!(live().send().await.text.trim(), "", "each is shown once");
    publish("third");
    let file = get(&site, &format!("{page}&format=json"), &cookie).await;
    assert!(file.text.contains(r#""routingKey": "task.<b>""#) && file.text.contains("third"), "{}", file.text);
    let record = trail(&site).await.into_iter().find(|of| of.action == "inspect").unwrap();
    assert_eq!((record.object.as_str(), record.namespace.unwrap().as_str()), (exchange, "taskcluster-y"));
    // Its queue is nobody's: no sweep touches it, and no page shows it.
    site.world.service().sweep(&site.world.sweep_policy(), false).await.unwrap();
    assert_eq!(site.world.queues().await, std::slice::from_ref(&queue));
    assert!(!get(&site, "/console/queues", &cookie).await.text.contains("inspector/"));
    let id = page.split("id=").nth(1).unwrap().split('&').next().unwrap();
    let stopped = send(&site, "/console/inspector/stop", &cookie, &format!("id={id}&exchange={exchange}")).await;
    assert_eq!(stopped.header("location"), "/console/inspector?exchange=exchange%2Ftaskcluster-y%2Fevents&key=");
    assert_eq!(site.world.queues().await, [""; 0]);
    assert_eq!(live().send().await.status, 410);
    assert!(get(&site, &page, &cookie).await.text.contains("It has ended."));
}

#[tokio::test]
async fn an_inspection_is_its_owners_alone_and_there_are_few_at_once() {
    let site = site().await;
    let exchange = "exchange/taskcluster-y/events";
    site.world.fake().state().exchanges.insert(exchange.to_owned());
    let cookie = sign_in(&site).await;
    let form = format!("exchange={exchange}");
    let mut pages = Vec::new();
    for _ in 0..3 {
        pages.push(inspect(&site, &cookie, &form).await);
    }
    let fourth = send(&site, "/console/inspector", &cookie, &form).await;
    assert_eq!(fourth.status, 422);
    assert!(fourth.text.contains("You look at 3 things already"), "{}", fourth.text);
    assert_eq!(site.world.queues().await.len(), 3);
    // Somebody else's page leads nowhere.
    let person = "other";
    let id = pages[0].split("id=").nth(1).unwrap().split('&').next().unwrap();
    assert_eq!(site.world.service().inspected(person, id).await.unwrap(), None);
    site.world.service().end_inspection(person, id).await.unwrap();
    assert_eq!(site.world.queues().await.len(), 3);
    for number in 0..17 {
        site.world.fill(&format!("inspector/other/{number}"), QueueKind::Classic, 0).await;
    }
    let by = By::client("test");
    let wanted = Binding { exchange: exchange.to_owned(), routing_key: "#".to_owned() };
    let full = site.world.service().inspect(person, std::slice::from_ref(&wanted), &by).await.unwrap_err();
    assert!(full.to_string().starts_with("people look at 20 things already"), "{full}");
}

#[tokio::test]
async fn only_exchanges_that_everybody_may_read_are_inspected() {
    let site = site().await;
    site.world.fake().state().exchanges.insert("exchange/taskcluster-y/events".to_owned());
    let cookie = sign_in(&site).await;
    for (exchange, told) in [
        ("amq.rabbitmq.trace", "begins with &#34;exchange/&#34;"),
        ("EVENTS", "begins with &#34;exchange/&#34;"),
        ("exchange/taskcluster-y/event", "There is no exchange exchange/taskcluster-y/event."),
        ("", "Choose an exchange."),
        ("exchange/a/<b>", "There is no exchange exchange/a/&#60;b&#62;."),
    ] {
        let wrong = send(&site, "/console/inspector", &cookie, &format!("exchange={exchange}&key=a")).await;
        assert_eq!(wrong.status, 422, "{exchange}");
        assert!(wrong.text.contains(told), "{exchange}: {}", wrong.text);
        let found = wrong.text.contains("/console/inspector?exchange=exchange%2Ftaskcluster-y%2Fevents&#38;key=a");
        assert_eq!(found, ["EVENTS", "exchange/taskcluster-y/event"].contains(&exchange), "{exchange}");
    }
    assert_eq!(site.world.queues().await, [""; 0], "what could not be bound is gone");
    for path in ["/console/inspector/watch?id=../../x", "/console/inspector/watch"] {
        assert!(get(&site, path, &cookie).await.text.contains("It has ended."), "{path}");
    }
    assert!(trail(&site).await.iter().all(|of| of.action != "inspect"));
    site.world.fake().down().await;
    let down = send(&site, "/console/inspector", &cookie, "exchange=exchange/taskcluster-y/events").await;
    assert_eq!(down.status, 503, "{}", down.text);
}

/// A site at which the administrator has signed in, with the cookie.
async fn boss() -> (Site, String) {
    let site = site_on(World::new(StoreKind::Sqlite, BrokerKind::Fake).await, "boss@example.com").await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let cookie = sign_in(&site).await;
    (site, cookie)
}

#[tokio::test]
async fn what_is_for_administrators_is_for_them_alone() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let cookie = sign_in(&site).await;
    let before = site.world.fake().all_requests();
    for (method, path) in GUARDED {
        let for_them = path.contains("/administration") || path.ends_with("/disable") || path.ends_with("/enable");
        if !for_them {
            continue;
        }
        let form = "subject=x&task=monitor-rabbit&name=queue/taskcluster-x/a&reason=x&typed=taskcluster-x&owners=a@example.com";
        let answer = match method {
            "GET" => get(&site, path, &cookie).await,
            _ => send(&site, path, &cookie, form).await,
        };
        assert_eq!(answer.status, 403, "{method} {path}");
    }
    assert_eq!(site.world.fake().all_requests(), before, "the broker is asked nothing");
    assert!(!get(&site, "/console/me", &cookie).await.text.contains("/console/administration"));
    let (site, cookie) = boss().await;
    for (method, path) in GUARDED {
        if method == "GET" && path.contains("/administration") && !path.contains('=') {
            let page = get(&site, path, &cookie).await;
            assert_eq!(page.status, 200, "{path}: {}", page.text);
            assert!(page.text.contains("aria-current=\"page\">Administration"), "{path}");
        }
    }
}

#[tokio::test]
async fn an_owner_asks_that_a_queue_may_grow_and_an_administrator_decides() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    site.world.fill("queue/taskcluster-x/a", QueueKind::Classic, 3).await;
    let cookie = sign_in(&site).await;
    let queue = "/console/queue?name=queue/taskcluster-x/a";
    assert!(get(&site, queue, &cookie).await.text.contains("Ask that it may grow"));
    let ask = async |form: &str| {
        send(&site, "/console/queue/ask-exemption", &cookie, &format!("name=queue/taskcluster-x/a&{form}")).await
    };
    for wrong in ["", "reason=x&up-to=many", "reason=x&until=soon", "reason=x&until=2020-01-01"] {
        assert_eq!(ask(wrong).await.status, 422, "{wrong}");
    }
    let asked = ask("reason=<slow>&up-to=5,000").await;
    assert!(asked.text.contains("may grow up to 5,000 messages"), "{}", asked.text);
    assert!(get(&site, queue, &cookie).await.text.contains("&#60;slow&#62;"));
    assert_eq!(send(&site, "/console/queue/exempt", &cookie, "name=queue/taskcluster-x/a&reason=x").await.status, 403);
    let boss = {
        let person = Person {
            subject: "boss".to_owned(),
            address: Some("boss@example.com".to_owned()),
            groups: Vec::new(),
            scopes: Vec::new(),
        };
        let id = taskcluster_pulse::access::sessions::SessionId::random();
        site.world.service().sign_in(&id.hash(), person, "test", &By::client("test")).await.unwrap();
        format!("pulse-development={}", id.expose())
    };
    let list = get(&site, "/console/administration/exemptions", &boss).await;
    assert!(list.text.contains("requests/grant?name=queue%2Ftaskcluster-x%2Fa"), "{}", list.text);
    assert!(
        get(&site, "/console/administration/requests/grant?name=queue/taskcluster-x/a", &boss)
            .await
            .text
            .contains("Grant it")
    );
    let refuse = async |form: &str| {
        send(&site, "/console/administration/requests/refuse", &boss, &format!("name=queue/taskcluster-x/a{form}"))
            .await
            .status
    };
    assert_eq!(refuse("").await, 422, "a reason is needed");
    let granted = send(&site, "/console/administration/requests/grant", &boss, "name=queue/taskcluster-x/a").await;
    assert!(granted.text.contains("may grow up to 5,000 messages"), "{}", granted.text);
    assert_eq!(refuse("&reason=x").await, 404, "it is decided");
    assert!(get(&site, "/console/administration/exemptions", &boss).await.text.contains("End it"));
    let subjects: Vec<_> = trail(&site).await.into_iter().map(|of| of.action).collect();
    assert!(subjects.contains(&"ask-exemption".to_owned()) && subjects.contains(&"exempt".to_owned()));
}

#[tokio::test]
async fn a_person_is_signed_out_and_kept_from_signing_in() {
    let (site, cookie) = boss().await;
    let person = |subject: &str| Person {
        subject: subject.to_owned(),
        address: Some("who@example.com".to_owned()),
        groups: vec!["releng".to_owned()],
        scopes: Vec::new(),
    };
    let (service, by) = (site.world.service(), By::client("test"));
    let enter = async || {
        let id = taskcluster_pulse::access::sessions::SessionId::random();
        let entered = service.sign_in(&id.hash(), person("oidc|<who>"), "test", &by).await;
        entered.map(|_| format!("pulse-development={}", id.expose()))
    };
    let who = enter().await.unwrap();
    assert_eq!(get(&site, "/console/me", &who).await.status, 200);
    let list = get(&site, "/console/administration/people", &cookie).await.text;
    assert!(
        list.contains("who@example.com") && list.contains("oidc|&#60;who&#62;") && list.contains(">you</span>"),
        "{list}"
    );
    let post = async |act: &str, form: &str| {
        send(&site, &format!("/console/administration/people/{act}"), &cookie, form).await
    };
    assert_eq!(post("sign-out", "subject=oidc|<who>").await.status, 200);
    assert_eq!(get(&site, "/console/me", &who).await.status, 303);
    assert_eq!(post("sign-out", "subject=oidc|<who>").await.status, 404, "nobody of that kind is there");
    let who = enter().await.unwrap();
    assert_eq!(post("disable", "subject=oidc|<who>").await.status, 422, "a reason is needed");
    assert_eq!(post("disable", "subject=oidc|<who>&reason=left").await.status, 200);
    assert_eq!(get(&site, "/console/me", &who).await.status, 303);
    let refused = enter().await.unwrap_err().to_string();
    assert!(refused.starts_with("who@example.com may not sign in, since") && refused.ends_with("left"), "{refused}");
    let own = post("disable", "subject=development|boss@example.com&reason=x").await;
    assert_eq!(own.status, 409, "{}", own.text);
    assert_eq!(post("enable", "subject=oidc|<who>").await.status, 200);
    assert_eq!(get(&site, "/console/me", &enter().await.unwrap()).await.status, 200);
    let actions: Vec<_> = trail(&site).await.into_iter().map(|of| of.action).collect();
    assert!(["disable-person", "enable-person", "sign-out"].iter().all(|of| actions.iter().any(|found| found == of)));
}

#[tokio::test]
async fn a_task_shows_what_it_would_do_and_runs_once_with_more_than_its_brakes_allow() {
    let mut world = World::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    world.policy.names = taskcluster_pulse::domain::name::Names::new("taskcluster-", "");
    let site = {
        let people = People {
            administrators: vec![Owner::parse("boss@example.com").unwrap()],
            development: Some("boss@example.com".to_owned()),
            plain: true,
            ..People::default()
        };
        Site::on(world, |wishes| {
            wishes.settings.console.people = people;
            wishes.settings.console.tasks.expiry.brakes.most = 2;
        })
        .await
    };
    for number in 0..5 {
        site.world.claim_for(&format!("taskcluster-{number}"), PERSON, HOUR).await;
    }
    let cookie = sign_in(&site).await;
    assert!(get(&site, "/console/administration/tasks", &cookie).await.text.contains("What would it do?"));
    let plan = "/console/administration/tasks/plan?task=expire-namespaces";
    assert!(get(&site, plan, &cookie).await.text.contains("Nothing."));
    assert_eq!(get(&site, "/console/administration/tasks/plan?task=deliver-notices", &cookie).await.status, 400);
    assert_eq!(get(&site, "/console/administration/tasks/plan?task=x", &cookie).await.status, 404);
    let run = "/console/administration/tasks/run";
    assert_eq!(
        get(&site, &format!("{run}?task=expire-namespaces"), &cookie).await.status,
        400,
        "no brake is in the way"
    );
    assert_eq!(get(&site, &format!("{run}?task=rotate-namespaces"), &cookie).await.status, 400);
    site.world.clock.advance(11 * HOUR);
    let cookie = sign_in(&site).await;
    let shown = get(&site, plan, &cookie).await.text;
    assert!(shown.contains("held back") && shown.contains("Run once with more"), "{shown}");
    let asked = get(&site, &format!("{run}?task=expire-namespaces"), &cookie).await.text;
    assert!(asked.contains("remove 5 things"), "{asked}");
    let wrong = send(&site, run, &cookie, "task=expire-namespaces&typed=remove+4+things&reason=x").await;
    assert_eq!(wrong.status, 422);
    let ran = send(&site, run, &cookie, "task=expire-namespaces&typed=remove+5+things&reason=tidy").await;
    assert!(ran.status == 200 && ran.text.contains("expire-namespaces: seen"), "{}", ran.text);
    assert_eq!(site.world.service().list(None, 10).await.unwrap().len(), 0);
    let record = trail(&site).await.into_iter().find(|of| of.action == "run-task").unwrap();
    assert_eq!((record.object.as_str(), record.reason.as_str()), ("expire-namespaces", "with up to 5 removals: tidy"));
}

#[tokio::test]
async fn accounts_are_made_and_users_adopted_by_administrators() {
    let (site, cookie) = boss().await;
    let make = async |form: &str| send(&site, "/console/administration/account", &cookie, form).await;
    for (form, told) in [
        ("name=taskcluster-people&owners=", "Name at least one owner"),
        ("name=taskcluster-people&owners=nobody", "is no owner"),
        ("name=.x&owners=a@example.com", ".x"),
        ("name=taskcluster-x&owners=a@example.com", "already"),
    ] {
        let wrong = make(form).await;
        assert_eq!(wrong.status, 422, "{form}");
        assert!(wrong.text.contains(told), "{form}: {}", wrong.text);
    }
    let made = make("name=taskcluster-people&owners=a@example.com%0Agroup:releng").await;
    assert!(made.status == 200 && made.text.contains("<code id=\"password\">"), "{}", made.text);
    assert_eq!(made.header("content-encoding"), "");
    site.world.make_user("legacy", "").await;
    let things = get(&site, "/console/administration/things?unknown=1", &cookie).await.text;
    assert!(things.contains("<th scope=\"row\" class=\"name\">legacy</th>"), "{things}");
    let adopt = send(&site, "/console/administration/adopt", &cookie, "name=legacy&owners=a@example.com").await;
    assert!(adopt.status == 422 && adopt.text.contains("Nothing was changed"), "{}", adopt.text);
    // What a former deployment left.
    site.world.fill("queue/taskcluster-gone/a", QueueKind::Classic, 1).await;
    let things = get(&site, "/console/administration/things?unknown=1", &cookie).await.text;
    assert!(things.contains("taskcluster-gone"), "{things}");
    site.world.claim_for("taskcluster-nobody", "", 9 * HOUR).await;
    let things = get(&site, "/console/administration/things", &cookie).await.text;
    assert!(things.contains("/console/namespaces/taskcluster-nobody/owners"), "{things}");
}

#[tokio::test]
async fn a_namespace_is_extended_disabled_and_enabled_on_its_page() {
    let (site, cookie) = boss().await;
    let post = async |act: &str, form: &str| {
        send(&site, &format!("/console/namespaces/taskcluster-x/{act}"), &cookie, form).await
    };
    for wrong in ["", "until=x", "until=2020-01-01", "until=2999-01-01"] {
        assert_eq!(post("extend", wrong).await.status, 422, "{wrong}");
    }
    let day = site.world.clock.now().plus(30 * 24 * HOUR).to_string()[..10].to_owned();
    let extended = post("extend", &format!("until={day}")).await;
    assert!(
        extended.status == 200 && extended.text.contains(&format!("it ends at {day}T23:59:59")),
        "{}",
        extended.text
    );
    assert_eq!(post("disable", "typed=taskcluster-x").await.status, 422);
    assert_eq!(post("disable", "typed=taskcluster-x&reason=leaked").await.status, 200);
    let page = get(&site, "/console/namespaces/taskcluster-x", &cookie).await.text;
    assert!(page.contains("/enable") && !page.contains("/disable") && page.contains("leaked"), "{page}");
    assert!(get(&site, "/console/administration/things", &cookie).await.text.contains("taskcluster-x/enable"));
    assert_eq!(post("enable", "reason=found").await.status, 200);
    assert!(get(&site, "/console/namespaces/taskcluster-x", &cookie).await.text.contains("/disable"));
    assert_eq!(post("retire", "typed=taskcluster-x").await.status, 409);
}

#[tokio::test]
async fn an_exchange_shows_who_publishes_to_it_and_what_is_bound() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let exchange = "exchange/taskcluster-x/events";
    {
        let mut state = site.world.fake().state();
        state.exchanges.insert(exchange.to_owned());
        let bound = ("queue/taskcluster-y/<q>", exchange, "a.<b>");
        state.bindings.push((bound.0.to_owned(), bound.1.to_owned(), bound.2.to_owned()));
        let channel = serde_json::json!({
            "connection_name": "10.0.0.1:5 -> 10.0.0.2:5672", "user": "taskcluster-x-1", "peer_host": "10.0.0.1", "peer_port": 5,
        });
        let publishers = serde_json::json!([{ "channel_details": channel, "stats": { "publish": 1234 } }, {}]);
        state.publishers.insert(exchange.to_owned(), publishers);
    }
    let cookie = sign_in(&site).await;
    let page = get(&site, &format!("/console/exchange?name={exchange}"), &cookie).await.text;
    for told in ["taskcluster-x-1", "10.0.0.1:5", "1,234", "queue/taskcluster-y/&#60;q&#62;", "a.&#60;b&#62;"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(!page.contains("/console/queue?name=queue%2Ftaskcluster-y"), "somebody else's queue is no link");
    assert!(!page.contains("to some exchange"));
    // With the usual rates, RabbitMQ tells of connections alone.
    {
        let mut state = site.world.fake().state();
        state.publishers.clear();
        for (name, published) in [("10.0.0.9:1 -> b", 77), ("10.0.0.8:1 -> b", 0)] {
            let open = crate::support::fake_broker::Connection {
                user: site.world.policy.names.user(&site.world.name("taskcluster-x"), Slot::One),
                connected_at: 1,
                listed: true,
            };
            state.connections.insert(name.to_owned(), open);
            state.channels.insert(name.to_owned(), published);
        }
    }
    let usual = get(&site, &format!("/console/exchange?name={exchange}"), &cookie).await.text;
    assert!(usual.contains("to some exchange") && usual.contains("10.0.0.9") && !usual.contains("10.0.0.8"), "{usual}");
    assert_eq!(get(&site, "/console/exchange?name=exchange/taskcluster-x/none", &cookie).await.status, 404);
    assert_eq!(get(&site, "/console/exchange?name=amq.topic", &cookie).await.status, 404);
    let asked = site.get("/api/pulse/v1/namespace/taskcluster-x/exchanges/exchange%2Ftaskcluster-x%2Fevents");
    let body = asked.signed("only-x").send().await.good();
    assert_eq!((&body["publishers"][0]["messages"], &body["bound"][0]["kind"]), (&77.into(), &"queue".into()));
    assert_eq!(body["exact"], false);
}

#[tokio::test]
async fn queues_are_found_by_an_owner_and_told_with_what_they_were_declared_with() {
    let (site, cookie) = boss().await;
    site.world.claim_for("taskcluster-y", "else@example.com", 9 * HOUR).await;
    for queue in ["queue/taskcluster-x/a", "queue/taskcluster-y/b"] {
        site.world.fill(queue, QueueKind::Classic, 3).await;
    }
    let told = serde_json::json!({
        "durable": true, "auto_delete": false, "policy": "", "operator_policy": "taskcluster-pulse",
        "arguments": { "x-max-length": 500, "x-<b>": "<i>" },
    });
    site.world.fake().state().told.insert("queue/taskcluster-x/a".to_owned(), told);
    let list = get(&site, "/console/queues?owner=ELSE", &cookie).await.text;
    assert!(list.contains("queue/taskcluster-y/b") && !list.contains("queue/taskcluster-x/a"), "{list}");
    assert!(list.contains("<details class=\"more\" open>"), "what is chosen is in view");
    assert!(!get(&site, "/console/queues", &cookie).await.text.contains("<details class=\"more\" open>"));
    let page = get(&site, "/console/queue?name=queue/taskcluster-x/a", &cookie).await.text;
    for told in [
        "x-max-length</dt><dd><code>500",
        "x-&#60;b&#62;",
        "&#60;i&#62;",
        "Operator policy</dt>",
        "Outlives a restart</dt><dd><code>yes",
    ] {
        assert!(page.contains(told), "{told}: {page}");
    }
    assert!(!page.contains("<dt>Policy</dt>"));
}

#[tokio::test]
async fn a_script_has_many_done_a_few_at_a_time_with_what_became_of_each() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    for queue in ["queue/taskcluster-x/a", "queue/taskcluster-x/b"] {
        site.world.fill(queue, QueueKind::Classic, 1).await;
    }
    let cookie = sign_in(&site).await;
    let ask = site
        .ask(Method::POST, "/console/queues/do")
        .header("content-type", FORM)
        .header("sec-fetch-site", "same-origin");
    let form = "act=delete&queue=queue/taskcluster-x/a&queue=queue/taskcluster-x/none&typed=delete+2+queues";
    let part = ask.header("cookie", &cookie).header("x-live", "1").body(form).send().await;
    assert_eq!(part.status, 200, "{}", part.text);
    assert!(
        part.text.contains("deleted: it had 1 message") && part.text.contains("it was gone already"),
        "{}",
        part.text
    );
    assert!(part.text.starts_with("<table>") && !part.text.contains("<html"), "{}", part.text);
    assert_eq!(site.world.queues().await, ["queue/taskcluster-x/b"]);
}

#[tokio::test]
async fn the_page_of_a_queue_takes_no_list_of_all_and_what_is_lost_is_told_afresh() {
    let (site, cookie) = boss().await;
    site.world.fill("queue/taskcluster-x/a", QueueKind::Classic, 3).await;
    site.world.fake().state().totals_in_lists_only = true;
    let lists = || site.world.fake().requests("GET", &format!("/api/queues/{VHOST}"));
    let before = lists();
    let page = get(&site, "/console/queue?name=queue/taskcluster-x/a", &cookie).await.text;
    assert!(page.contains("<span class=\"figure\">3</span> <span class=\"what\">messages</span>"), "{page}");
    assert_eq!(lists(), before);
    let asked = get(&site, "/console/queue/delete?name=queue/taskcluster-x/a", &cookie).await.text;
    assert!(asked.contains("3 messages are deleted for good"), "{asked}");
    assert_eq!(lists(), before + 1);
}

#[tokio::test]
async fn however_many_look_the_broker_is_asked_once() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    let cookie = sign_in(&site).await;
    let lists = || site.world.fake().requests("GET", &format!("/api/queues/{VHOST}"));
    let before = lists();
    let looks = (0..30).map(|n| {
        get(&site, ["/console/queues", "/console/namespaces", "/console/namespaces/taskcluster-x"][n % 3], &cookie)
    });
    let all = futures::future::join_all(looks).await;
    assert!(all.iter().all(|page| page.status == 200));
    assert_eq!(lists() - before, 1);
}

#[tokio::test]
async fn a_long_table_leads_from_page_to_page_and_keeps_what_was_searched_for() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    for number in 0..201 {
        site.world.fill(&format!("queue/taskcluster-x/a{number:03}"), QueueKind::Classic, 0).await;
        site.world.fake().state().exchanges.insert(format!("exchange/taskcluster-x/a{number:03}"));
    }
    let cookie = sign_in(&site).await;
    for (page, base) in [("/console/queues", "/console/queues"), ("/console/exchanges", "")] {
        let mut at = format!("{page}?q=a&page=2");
        for number in [2, 1] {
            let shown = get(&site, &at, &cookie).await.text;
            assert!(shown.contains(&format!("Page {number} of 3")), "{at}: {shown}");
            let to = |other: u32| format!("{base}?q=a&#38;page={other}");
            let next = format!("rel=\"next\" href=\"{}\"", to(number + 1));
            let before = format!("rel=\"prev\" href=\"{}\"", to(number.saturating_sub(1)));
            assert!(shown.contains(&next), "{next}: {shown}");
            assert_eq!(shown.contains(&before), number == 2, "{before}: {shown}");
            at = format!("{page}?q=a&page=1");
        }
        let last = get(&site, &format!("{page}?q=a&page=9"), &cookie).await.text;
        assert!(last.contains("Page 3 of 3") && !last.contains("rel=\"next\""), "{last}");
    }
}

#[tokio::test]
async fn what_nobody_accounts_for_is_deleted_once_its_name_is_typed_and_a_reason_given() {
    let (site, cookie) = boss().await;
    site.world.fill("queue/taskcluster-lost/a", QueueKind::Classic, 3).await;
    let list = get(&site, "/console/administration/things?unknown=1", &cookie).await.text;
    let path = "/console/administration/unknown?name=taskcluster-lost";
    assert!(list.contains(path), "{list}");
    let asked = get(&site, path, &cookie).await;
    assert!(asked.status == 200 && asked.text.contains("1 queue with all its messages."), "{}", asked.text);
    let end = async |form: &str| send(&site, "/console/administration/unknown", &cookie, form).await;
    for wrong in ["", "&reason=tidy", "&typed=taskcluster-lost", "&typed=taskcluster&reason=tidy"] {
        assert_eq!(end(&format!("name=taskcluster-lost{wrong}")).await.status, 422, "{wrong}");
    }
    for other in ["taskcluster-x", "taskcluster-none", "../x"] {
        let missing = end(&format!("name={other}&typed={other}&reason=tidy")).await;
        assert_eq!(missing.status, 404, "{other}: {}", missing.text);
    }
    assert!(trail(&site).await.iter().all(|of| of.action != "end-unknown"));
    let done = end("name=taskcluster-lost&typed=taskcluster-lost&reason=tidy").await;
    assert!(done.status == 200 && done.text.contains("expire-namespaces remove it"), "{}", done.text);
    let record = trail(&site).await.into_iter().find(|of| of.action == "end-unknown").unwrap();
    let told = (record.by.actor.to_string(), record.reason.as_str());
    assert_eq!(told, ("person boss@example.com".to_owned(), "1 thing; tidy"));
    assert!(!get(&site, "/console/administration/things?unknown=1", &cookie).await.text.contains("taskcluster-lost"));
}

#[tokio::test]
async fn while_rabbitmq_is_away_the_page_of_one_thing_shows_what_was_known_last() {
    let site = site().await;
    site.world.claim_for("taskcluster-x", PERSON, 9 * HOUR).await;
    site.world.claim_for("taskcluster-y", "else@example.com", 9 * HOUR).await;
    for queue in ["queue/taskcluster-x/seen", "queue/taskcluster-x/listed", "queue/taskcluster-y/a"] {
        site.world.fill(queue, QueueKind::Classic, 3).await;
    }
    for exchange in ["exchange/taskcluster-x/seen", "exchange/taskcluster-x/listed"] {
        site.world.fake().state().exchanges.insert(exchange.to_owned());
    }
    let bound = ["queue/taskcluster-x/seen", "exchange/taskcluster-x/seen", "a.key"].map(str::to_owned);
    let [queue, exchange, key] = bound;
    site.world.fake().state().bindings.push((queue, exchange, key));
    let cookie = sign_in(&site).await;
    let queue = |name: &str| format!("/console/queue?name=queue/{name}");
    let exchange = |name: &str| format!("/console/exchange?name=exchange/{name}");
    for path in [&queue("taskcluster-x/seen"), &exchange("taskcluster-x/seen"), "/console/queues", "/console/exchanges"]
    {
        let page = get(&site, path, &cookie).await;
        assert!(page.status == 200 && !page.text.contains("does not answer"), "{path}: {}", page.text);
    }
    site.world.fake().fault(Fault::new(Failure::Status(503)));
    for (path, known) in [
        (queue("taskcluster-x/seen"), "a.key"),
        (queue("taskcluster-x/listed"), "They are not known now."),
        (exchange("taskcluster-x/seen"), "a.key"),
        (exchange("taskcluster-x/listed"), "That is not known now."),
    ] {
        let page = get(&site, &path, &cookie).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        let banner = "RabbitMQ does not answer. What is shown is the last that is known.";
        assert!(page.text.contains(banner) && page.text.contains(known), "{path}: {}", page.text);
    }
    let page = get(&site, &queue("taskcluster-x/nowhere"), &cookie).await;
    assert!(page.text.contains("RabbitMQ does not answer. Nothing of this was known here before"), "{}", page.text);
    assert_eq!((page.status.as_u16(), page.header("retry-after")), (503, "5"));
    assert_eq!(get(&site, &queue("taskcluster-y/a"), &cookie).await.status, 403, "it is somebody else's all the same");
    site.world.fake().heal();
    let page = get(&site, &queue("taskcluster-x/listed"), &cookie).await;
    assert!(page.status == 200 && !page.text.contains("does not answer"), "{}", page.text);
}
