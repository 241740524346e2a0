//! A running service: a real server on a port of its own, and requests to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, StatusCode, redirect};
use serde_json::Value;
use taskcluster_pulse::access::Authenticator;
use taskcluster_pulse::access::clients::{AccessToken, Client as KnownClient, LocalDirectory};
use taskcluster_pulse::access::roles::Roles;
use taskcluster_pulse::clock::{Clock, Timestamp};
use taskcluster_pulse::domain::account::Account;
use taskcluster_pulse::domain::audit::{Audit, AuditFilter};
use taskcluster_pulse::domain::guard::HistoryChange;
use taskcluster_pulse::domain::history::History;
use taskcluster_pulse::domain::hold::{Beat, Vitals};
use taskcluster_pulse::domain::identity::Tag;
use taskcluster_pulse::domain::name::Name;
use taskcluster_pulse::domain::namespace::{Namespace, Version};
use taskcluster_pulse::domain::notice::{Notice, Undelivered};
use taskcluster_pulse::domain::recipients::{Mute, Recipients};
use taskcluster_pulse::domain::renewal::Renewal;
use taskcluster_pulse::domain::session::{BarredPerson, Session};
use taskcluster_pulse::domain::watched::Watched;
use taskcluster_pulse::hawk::Signer;
use taskcluster_pulse::service::Sightings;
use taskcluster_pulse::store::{
    self, Accepted, Audits, Change, Deployment, Digest, Figures, Heartbeats, Keep, Leases, Making, Named, Namespaces,
    Notices, Outline, RecipientRecords, Records, SeenOf, Select, Sessions, Sighting, Store, StoreError, Summary, Sums,
    TaskRun, Wanted, Watches, Write,
};
use taskcluster_pulse::web::api::app::{App, Settings};
use taskcluster_pulse::web::edge::around;
use taskcluster_pulse::web::edge::connection::Patience;
use taskcluster_pulse::web::edge::limits::Limits;
use taskcluster_pulse::web::edge::server::{Connections, serve};
use taskcluster_pulse::web::router;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use url::Url;

use super::recorder;
use crate::support::fake_broker::PASSWORD;
use crate::support::world::{BrokerKind, StoreKind, World, closed_console};

/// What every access token holds, so that none can be logged unseen.
const CANARY: &str = "canary";

/// The root URL of the deployment.
pub const ROOT: &str = "https://tc.example.com";

/// For how long a test waits for what must happen.
pub const SOON: Duration = Duration::from_secs(10);

/// The clients that the service knows: name, scopes.
const CLIENTS: [(&str, &[&str]); 5] = [
    ("test-client", &["*"]),
    ("weak", &[]),
    ("only-x", &["pulse:namespace:taskcluster-x"]),
    ("issuer", &["pulse:namespace:taskcluster-*", "auth:create-client:temporary"]),
    ("expired", &["*"]),
];

/// A client's access token.
pub fn access_token(client: &str) -> String {
    format!("{CANARY}-access-token-of-{client}")
}

/// How a site is run.
pub struct Wishes {
    pub settings: Settings,
    pub connections: Connections,
    /// The clock that requests are judged by, where it isn't the world's.
    pub clock: Option<Arc<dyn Clock>>,
    /// One more client: name, access token, scopes.
    pub client: Option<(&'static str, &'static str, &'static [&'static str])>,
}

/// A running service. It stops when it is dropped.
pub struct Site {
    pub world: World,
    pub url: Url,
    http: Client,
    clock: Arc<dyn Clock>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
    /// Passwords that it handed out.
    secrets: Mutex<Vec<String>>,
}

impl Site {
    /// One on SQLite and the fake broker.
    pub async fn new() -> Site {
        Site::wish(|_| ()).await
    }

    /// One that is run in another way.
    pub async fn wish(wish: impl FnOnce(&mut Wishes)) -> Site {
        Site::on(World::new(StoreKind::Sqlite, BrokerKind::Fake).await, wish).await
    }

    /// One on this world.
    pub async fn on(world: World, wish: impl FnOnce(&mut Wishes)) -> Site {
        recorder::start();
        let mut wishes = Wishes {
            settings: Settings {
                root_url: Some(ROOT.parse().unwrap()),
                body_limit: 64 * 1024,
                body_timeout: SOON,
                request_timeout: SOON,
                console: closed_console(),
                edge: around::Settings {
                    force_ssl: false,
                    trust_proxy: false,
                    trusted_proxies: Vec::new(),
                    limits: Limits::default(),
                    ..around::Settings::default()
                },
            },
            connections: Connections {
                patience: Patience { idle: SOON, head: SOON, reply: SOON },
                drain: SOON,
                most: 1000,
                trusted_proxies: Vec::new(),
            },
            clock: None,
            client: None,
        };
        wish(&mut wishes);
        let clock = wishes.clock.unwrap_or_else(|| world.clock.clone());
        let known = |id: &str, key: String, scopes: &[&str]| KnownClient {
            id: id.to_owned(),
            access_token: AccessToken::new(key),
            scopes: scopes.iter().map(|&scope| scope.to_owned()).collect(),
            expires: (id == "expired").then_some(Timestamp::from_millis(0)),
        };
        let mut clients: Vec<_> = CLIENTS.iter().map(|(id, scopes)| known(id, access_token(id), scopes)).collect();
        clients.extend(wishes.client.map(|(id, key, scopes)| known(id, key.to_owned(), scopes)));
        let authenticator = Authenticator::new(LocalDirectory::new(clients, Roles::default()));
        let authenticator = authenticator.remembering_in(Sightings::new(world.store.clone()));
        let app = App::new(Arc::new(world.service()), authenticator, clock.clone(), wishes.settings).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move { stopped.await.unwrap_or_default() };
        let serving = tokio::spawn(serve(listener, router(Arc::new(app)), wishes.connections, until));
        taskcluster_pulse::tls::install_crypto_provider();
        let http = Client::builder().redirect(redirect::Policy::none()).no_proxy().build().unwrap();
        let secrets = Mutex::new(vec![CANARY.to_owned(), PASSWORD.to_owned()]);
        Site { world, url, http, clock, stop: Some(stop), serving: Some(serving), secrets }
    }

    /// A request to `target`, a path and perhaps a query.
    pub fn ask(&self, method: Method, target: &str) -> Ask<'_> {
        let url = format!("http://{}:{}{target}", self.url.host_str().unwrap(), self.url.port().unwrap());
        Ask { site: self, method, url: url.parse().unwrap(), headers: HeaderMap::new(), body: None, signer: None }
    }

    /// A `GET`.
    pub fn get(&self, target: &str) -> Ask<'_> {
        self.ask(Method::GET, target)
    }

    /// A signed claim with this payload.
    pub fn claim(&self, namespace: &str, payload: &str) -> Ask<'_> {
        self.ask(Method::POST, &format!("/api/pulse/v1/namespace/{namespace}")).json(payload).signed("test-client")
    }

    /// The `Authorization` header of a client for this request.
    pub fn sign(&self, client: &str, method: &str, url: &Url, payload: Option<&str>) -> String {
        let signer = Signer { id: client, key: &access_token(client), ext: None };
        signer.header(method, url, payload.map(|text| ("application/json", text.as_bytes())), self.clock.now())
    }

    /// A connection of the test's own.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.url.port().unwrap())).await.unwrap()
    }

    /// Sends this, and gives back everything that comes until the service closes the connection.
    pub async fn raw(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        until_closed(&mut stream).await
    }

    /// Tells the service to stop.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the service has stopped.
    pub async fn stopped(&mut self) {
        let serving = self.serving.take().unwrap();
        tokio::time::timeout(SOON, serving).await.expect("the service did not stop").unwrap();
    }

    /// Waits until the store has this.
    pub async fn until_stored(&self, name: &str, wanted: impl Fn(&Namespace) -> bool) -> Namespace {
        let name = self.world.name(name);
        let stored = async {
            loop {
                match self.world.store.namespace(&name).await.unwrap() {
                    Some(found) if wanted(&found) => return found,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(SOON, stored).await.expect("it was never stored")
    }

    /// What a refusal must not change: what is stored, and what the broker was asked.
    pub async fn state(&self) -> (Vec<Namespace>, usize) {
        (self.world.store.namespaces(Select::All).await.unwrap(), self.world.fake().all_requests())
    }
}

impl Drop for Site {
    /// Looks through the log for whatever was secret here.
    fn drop(&mut self) {
        let leak = recorder::leak(&self.secrets.lock().unwrap());
        if !std::thread::panicking() {
            assert_eq!(leak, None, "a secret was logged");
        }
    }
}

/// What comes until the other end closes the connection.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await;
    read.expect("the connection was not closed").unwrap();
    String::from_utf8(bytes).unwrap()
}

/// A request that is being made.
#[derive(Clone)]
pub struct Ask<'s> {
    site: &'s Site,
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    signer: Option<Signature>,
}

/// How a request is signed.
#[derive(Clone)]
struct Signature {
    id: String,
    key: String,
    ext: Option<String>,
    at: Timestamp,
    payload: Option<Vec<u8>>,
}

impl Ask<'_> {
    /// With this header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        self
    }

    /// With this body, of no type.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// With this body, which is said to be JSON.
    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.header("content-type", "application/json").body(body)
    }

    /// Signed by one of the clients; to be called after what is signed is there.
    pub fn signed(self, client: &str) -> Self {
        let key = access_token(client);
        self.signed_with(client, &key)
    }

    /// Signed under this key.
    pub fn signed_with(mut self, id: &str, key: &str) -> Self {
        let (payload, at) = (self.body.clone(), self.site.clock.now());
        self.signer = Some(Signature { id: id.to_owned(), key: key.to_owned(), ext: None, at, payload });
        self
    }

    /// With this `ext` in the signature.
    pub fn ext(self, ext: &Value) -> Self {
        let ext = STANDARD.encode(ext.to_string());
        self.signature(|signature| signature.ext = Some(ext))
    }

    /// As if it had been signed at another time.
    pub fn signed_at(self, at: Timestamp) -> Self {
        self.signature(|signature| signature.at = at)
    }

    /// As if another body had been signed.
    pub fn signed_for(self, body: &str) -> Self {
        self.signature(|signature| signature.payload = Some(body.as_bytes().to_vec()))
    }

    fn signature(mut self, change: impl FnOnce(&mut Signature)) -> Self {
        change(self.signer.as_mut().unwrap());
        self
    }

    /// The answer.
    pub async fn send(mut self) -> Answer {
        let content_type = self.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
        if let Some(Signature { id, key, ext, at, payload }) = &self.signer {
            let signer = Signer { id, key, ext: ext.as_deref() };
            let payload = payload.as_ref().map(|body| (content_type.as_deref().unwrap_or_default(), body.as_slice()));
            let header = signer.header(self.method.as_str(), &self.url, payload, *at);
            self.headers.insert(AUTHORIZATION, HeaderValue::from_str(&header).unwrap());
        }
        let mut request = self.site.http.request(self.method, self.url).headers(self.headers);
        if let Some(body) = self.body {
            request = request.body(body);
        }
        let response = tokio::time::timeout(2 * SOON, request.send()).await.expect("no answer in time").unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let answer = Answer { status, headers, body: serde_json::from_str(&text).unwrap_or_default(), text, bytes };
        if let Some(string) = answer.body["connectionString"].as_str() {
            let password = Url::parse(string).unwrap().password().unwrap().to_owned();
            self.site.secrets.lock().unwrap().push(password);
        }
        answer
    }
}

/// What the service answered.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// The body as JSON; null where it isn't.
    pub body: Value,
    pub text: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Answer {
    /// A header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status and the error's code.
    pub fn verdict(&self) -> (u16, &str) {
        (self.status.as_u16(), self.body["code"].as_str().unwrap_or_default())
    }

    /// The error's text, without what is appended to each.
    pub fn message(&self) -> &str {
        let message = self.body["message"].as_str().unwrap_or_default();
        message.split("\n\n---\n\n").next().unwrap_or_default()
    }

    /// The same, of an answer that must be good.
    #[track_caller]
    pub fn good(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }
}

/// A store that fails, whatever it is asked.
pub struct BrokenStore(pub fn() -> StoreError);

#[async_trait]
impl Watches for BrokenStore {
    async fn watches(&self) -> Result<Vec<Watched>, StoreError> {
        Err(self.0())
    }
    async fn histories(&self) -> Result<BTreeMap<String, History>, StoreError> {
        Err(self.0())
    }
    async fn seen_of(&self, _: &[String]) -> Result<SeenOf, StoreError> {
        Err(self.0())
    }
    async fn write_histories(&self, _: &[HistoryChange]) -> Result<(), StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Namespaces for BrokenStore {
    async fn outlines(&self) -> Result<Vec<Outline>, StoreError> {
        Err(self.0())
    }
    async fn namespace(&self, _: &Name) -> Result<Option<Namespace>, StoreError> {
        Err(self.0())
    }
    async fn named(&self, _: &[Name]) -> Result<Vec<Named>, StoreError> {
        Err(self.0())
    }
    async fn summaries(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        Err(self.0())
    }
    async fn unowned(&self, _: Option<&str>, _: u32) -> Result<Vec<Summary>, StoreError> {
        Err(self.0())
    }
    async fn summary(&self, _: &Name) -> Result<Option<Summary>, StoreError> {
        Err(self.0())
    }
    async fn namespaces_where(&self, _: Wanted<'_>) -> Result<Vec<Namespace>, StoreError> {
        Err(self.0())
    }
    async fn namespaces(&self, _: Select) -> Result<Vec<Namespace>, StoreError> {
        Err(self.0())
    }
    async fn accounts(&self) -> Result<Vec<(Name, Account)>, StoreError> {
        Err(self.0())
    }
    async fn changed(&self, _: &[(Name, Version)]) -> Result<Vec<(Name, Option<Namespace>)>, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Audits for BrokenStore {
    async fn note(&self, _: &[Audit]) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn audits(&self, _: &AuditFilter, _: u32) -> Result<Vec<Audit>, StoreError> {
        Err(self.0())
    }
    async fn forget_audits(&self, _: Timestamp, _: u32) -> Result<usize, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Records for BrokenStore {
    async fn write(&self, _: &[Change]) -> Result<Vec<Write>, StoreError> {
        Err(self.0())
    }
    async fn renew(&self, _: &[Renewal]) -> Result<Vec<Write>, StoreError> {
        Err(self.0())
    }
    async fn write_within(&self, _: &[Making], _: usize) -> Result<Vec<Option<Write>>, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Notices for BrokenStore {
    async fn take_notices(&self, _: Timestamp, _: Timestamp, _: u32) -> Result<Vec<Notice>, StoreError> {
        Err(self.0())
    }
    async fn take_notices_to(&self, _: &str, _: Timestamp, _: Timestamp, _: u32) -> Result<Vec<Notice>, StoreError> {
        Err(self.0())
    }
    async fn postpone_notices(&self, _: &[String], _: Timestamp) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn accept_notices(&self, _: &str, _: &[Accepted], _: Timestamp) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn give_up_notice(&self, _: &str, _: Timestamp, _: &str, _: Keep) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn undelivered(&self, _: u32) -> Result<Vec<Undelivered>, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl RecipientRecords for BrokenStore {
    async fn recipients(&self) -> Result<Recipients, StoreError> {
        Err(self.0())
    }
    async fn note_refusal(&self, _: &str, _: Timestamp, _: Timestamp) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn mute(&self, _: &str, _: Option<Mute>) -> Result<bool, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Sums for BrokenStore {
    async fn figures(&self, _: Timestamp) -> Result<Figures, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Leases for BrokenStore {
    async fn note_run(&self, _: &TaskRun) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn runs(&self) -> Result<Vec<TaskRun>, StoreError> {
        Err(self.0())
    }
    async fn lease(&self, _: &str, _: &str, _: Timestamp, _: Timestamp) -> Result<bool, StoreError> {
        Err(self.0())
    }
    async fn release(&self, _: &str, _: &str) -> Result<(), StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Heartbeats for BrokenStore {
    async fn beat(&self, _: &Beat) -> Result<Timestamp, StoreError> {
        Err(self.0())
    }
    async fn vitals(&self, _: Timestamp, _: Option<&str>) -> Result<Vitals, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl store::Sightings for BrokenStore {
    async fn sight(&self, _: &[(Digest, Sighting)]) -> Result<Vec<Sighting>, StoreError> {
        Err(self.0())
    }
    async fn forget_sightings(&self, _: Timestamp, _: u32) -> Result<usize, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Sessions for BrokenStore {
    async fn begin_session(&self, _: &Digest, _: &Session, _: &Audit) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn session(&self, _: &Digest) -> Result<Option<Session>, StoreError> {
        Err(self.0())
    }
    async fn sessions_of(&self, _: &str) -> Result<Vec<Session>, StoreError> {
        Err(self.0())
    }
    async fn sessions(&self, _: u32) -> Result<Vec<Session>, StoreError> {
        Err(self.0())
    }
    async fn bar_person(&self, _: &BarredPerson, _: &Audit) -> Result<bool, StoreError> {
        Err(self.0())
    }
    async fn let_person_in(&self, _: &str, _: &Audit) -> Result<bool, StoreError> {
        Err(self.0())
    }
    async fn barred_people(&self) -> Result<Vec<BarredPerson>, StoreError> {
        Err(self.0())
    }
    async fn see_session(&self, _: &Digest, _: Timestamp) -> Result<(), StoreError> {
        Err(self.0())
    }
    async fn end_session(&self, _: &Digest, _: &Audit) -> Result<bool, StoreError> {
        Err(self.0())
    }
    async fn end_sessions_of(&self, _: &str, _: &Audit) -> Result<usize, StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Deployment for BrokenStore {
    async fn tag(&self) -> Result<Tag, StoreError> {
        Err(self.0())
    }
    async fn foreign_users(&self, _: u32) -> Result<Vec<String>, StoreError> {
        Err(self.0())
    }
    async fn note_foreign_users(&self, _: &[String], _: &[String]) -> Result<(), StoreError> {
        Err(self.0())
    }
}

#[async_trait]
impl Store for BrokenStore {
    async fn ping(&self) -> Result<(), StoreError> {
        Err(self.0())
    }
}
