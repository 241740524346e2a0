//! Accounts, as callers of the API meet them.

use reqwest::Method;
use serde_json::{Value, json};
use taskcluster_pulse::domain::account::Schedule;
use taskcluster_pulse::domain::inventory::BrokerUser;
use taskcluster_pulse::domain::name::Permissions;
use taskcluster_pulse::secret::Password;

use super::site::Site;

const JOE: &str = "/api/pulse/v1/account/joe";

async fn site() -> Site {
    let admin: (&str, &str, &[&str]) = ("admin", "canary-access-token-of-admin", &["pulse:admin"]);
    Site::wish(|wishes| wishes.client = Some(admin)).await
}

async fn call(site: &Site, who: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let ask = site.ask(method, path);
    let ask = if let Some(body) = body { ask.json(body.to_string()) } else { ask };
    let answer = match who {
        "admin" => ask.signed_with("admin", "canary-access-token-of-admin"),
        who => ask.signed(who),
    };
    let answer = answer.send().await;
    (answer.status.as_u16(), answer.body)
}

fn logs_in(site: &Site, of: &Value) -> bool {
    site.world.fake().can_log_in(of["username"].as_str().unwrap(), of["password"].as_str().unwrap())
}

#[tokio::test]
async fn an_administrator_makes_an_account_and_its_owner_gets_new_credentials() {
    let site = site().await;
    let owners = json!({"owners": ["joe@example.com", "group:releng"]});
    let make =
        async |who: &str, path: &str, body: &Value| call(&site, who, Method::PUT, path, Some(body.clone())).await;
    assert_eq!(make("only-x", JOE, &owners).await.0, 403);
    let (status, first) = make("admin", JOE, &owners).await;
    assert_eq!((status, &first["namespace"], &first["username"]), (200, &json!("joe"), &json!("joe-1")), "{status}");
    assert!(logs_in(&site, &first));
    assert_eq!(make("admin", JOE, &owners).await.1["code"], "RequestConflict");
    assert_eq!(make("admin", "/api/pulse/v1/account/admins", &owners).await.1["code"], "InputError", "it is reserved");
    assert_eq!(make("admin", "/api/pulse/v1/account/a%2Fb", &owners).await.1["code"], "InputError");
    for wrong in [json!({}), json!({"owners": []}), json!({"owners": ["a@example.com"], "password": "mine"})] {
        assert_eq!(make("admin", "/api/pulse/v1/account/jim", &wrong).await.1["code"], "InputValidationError");
    }
    let credentials = format!("{JOE}/credentials");
    let renew = async |who: &str, body: Value| call(&site, who, Method::POST, &credentials, Some(body)).await;
    assert_eq!(renew("only-x", json!({})).await.0, 403);
    let (status, second) = renew("test-client", json!({})).await;
    assert_eq!((status, &second["username"]), (200, &json!("joe-2")));
    assert!(logs_in(&site, &first) && logs_in(&site, &second));
    let (status, third) = renew("test-client", json!({"endOld": true})).await;
    assert_eq!((status, &third["oldEnded"]), (200, &json!(true)));
    assert!(!logs_in(&site, &first) && !logs_in(&site, &second) && logs_in(&site, &third));
    let claimed = site.claim("joe", "{}").signed("test-client").send().await;
    assert_eq!((claimed.status.as_u16(), &claimed.body["code"]), (409, &json!("RequestConflict")));
    let message = claimed.body["message"].as_str().unwrap();
    assert!(message.starts_with("`joe` is an account: its credentials change when an owner asks"), "{message}");
    let (_, shown) = call(&site, "admin", Method::GET, JOE, None).await;
    assert_eq!(
        (&shown["schedule"], &shown["owners"]),
        (&json!("on-demand"), &json!(["joe@example.com", "group:releng"]))
    );
    assert!(shown.get("adopted").is_none() && !shown.to_string().contains(third["password"].as_str().unwrap()));
    // It is a namespace like others, though its name has no prefix.
    let path = "/api/pulse/v1/namespace/joe/owners";
    assert_eq!(call(&site, "admin", Method::PUT, path, Some(json!({"owners": ["jim@example.com"]}))).await.0, 200);
    let missing = call(&site, "admin", Method::GET, "/api/pulse/v1/account/jim", None).await;
    assert_eq!((missing.0, &missing.1["code"]), (400, &json!("InvalidRequestArguments")));
    let claimable = site.claim("taskcluster-x", "{}").signed("test-client").send().await;
    claimable.good();
    let (status, body) = call(&site, "admin", Method::GET, "/api/pulse/v1/account/taskcluster-x", None).await;
    assert_eq!(status, 409, "{body}");
}

#[tokio::test]
async fn an_owner_moves_on_from_an_adopted_user_and_retires_it() {
    let site = site().await;
    let password = Password::random();
    {
        let mut state = site.world.fake().state();
        let made = BrokerUser { name: "joe".into(), tags: [].into(), hash: password.hash() };
        state.users.insert("joe".into(), made);
        let own = "^(queue/joe/.*|exchange/joe/.*)".to_owned();
        let read = "^(queue/joe/.*|exchange/.*)".to_owned();
        state.permissions.insert("joe".into(), Permissions { configure: own.clone(), write: own, read });
    }
    let adopt = async |who: &str, user: &str| {
        let owners = Some(json!({"owners": ["joe@example.com"]}));
        call(&site, who, Method::PUT, &format!("/api/pulse/v1/account/{user}/user"), owners).await
    };
    assert_eq!(adopt("only-x", "joe").await.0, 403);
    let (status, missing) = adopt("admin", "jim").await;
    let message = missing["message"].as_str().unwrap();
    assert_eq!((status, message.lines().next()), (409, Some("jim is left: RabbitMQ has no such user.")));
    let (status, shown) = adopt("admin", "joe").await;
    assert_eq!((status, &shown["adopted"]["username"]), (200, &json!("joe")));
    assert_eq!(call(&site, "admin", Method::GET, JOE, None).await.1, shown);
    assert_eq!(adopt("admin", "joe").await, (200, shown), "it stays as it is");
    let retire = async |who: &str| call(&site, who, Method::DELETE, &format!("{JOE}/user"), None).await;
    assert_eq!((retire("only-x").await.0, retire("admin").await.0), (403, 409));
    let path = format!("{JOE}/move-on");
    let move_on =
        async |who: &str, to: &str| call(&site, who, Method::POST, &path, Some(json!({"schedule": to}))).await;
    assert_eq!(move_on("only-x", "on-demand").await.0, 403);
    assert_eq!(move_on("admin", "never").await.1["code"], "InputValidationError");
    let (status, moved) = move_on("admin", Schedule::OnDemand.word()).await;
    assert_eq!(status, 200, "{moved}");
    assert!(logs_in(&site, &moved["credentials"]) && site.world.fake().can_log_in("joe", password.expose()));
    assert_eq!(move_on("admin", "rotating").await.0, 409);
    assert_eq!(retire("admin").await, (200, json!({"namespace": "joe", "username": "joe", "done": true})));
    assert!(logs_in(&site, &moved["credentials"]) && !site.world.fake().can_log_in("joe", password.expose()));
    assert_eq!(retire("admin").await.0, 409);
    let (_, trail) = call(&site, "test-client", Method::GET, "/api/pulse/v1/namespace/joe/audit", None).await;
    let actions: Vec<_> =
        trail["records"].as_array().unwrap().iter().map(|of| of["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions.iter().filter(|action| **action != "refuse").collect::<Vec<_>>(),
        [&"retire", &"move-on", &"adopt"]
    );
}
