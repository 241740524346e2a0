//! What anybody can send to the program costs no more than it takes to send it: measured in its processor's time, the sizes
//! of its replies, its memory, and how often it answers.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use flate2::Compression;
use flate2::read::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use url::Url;

use crate::support::processes::{Deployment, PATIENCE, Program};
use crate::support::world::{BrokerKind, StoreKind};

/// A program that serves, and says where.
async fn served(deployment: &mut Deployment) -> (Program, Url) {
    deployment.set("LEVEL", "root:warning process:info taskcluster_pulse:info");
    deployment.serve(&["web"]).await
}

/// The processor's time that a process took so far, in ticks of the system's clock.
fn ticks(program: &Program) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    // What stands before is a name, which may hold blanks.
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// A number of `/proc/<pid>/status`, in KiB.
fn memory(program: &Program, name: &str) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap()
}

fn address(url: &Url) -> (&str, u16) {
    (url.host_str().unwrap(), url.port().unwrap())
}

/// Sends this on a connection of its own, and gives back all that comes.
async fn exchange(url: &Url, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address(url)).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    timeout(PATIENCE, exchange).await.expect("no answer")
}

/// Waits until the heartbeat finds everything well: on a busy machine a part may answer too late for one.
async fn healthy(url: &Url) {
    let asking = async { while !exchange(url, get("/__heartbeat__").as_bytes()).await.starts_with("HTTP/1.1 200 ") {} };
    timeout(PATIENCE, asking).await.expect("something is not well");
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// How many bytes come back for so many of these, and the ticks that they take.
async fn cost(program: &Program, url: &Url, request: &str, times: usize) -> (usize, u64) {
    let (before, mut longest) = (ticks(program), 0);
    for _ in 0..times {
        longest = longest.max(exchange(url, request.as_bytes()).await.len());
    }
    (longest, ticks(program) - before)
}

#[tokio::test]
async fn no_request_of_a_stranger_costs_many_times_what_a_ping_does() {
    const TIMES: usize = 100;
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    let (program, url) = served(&mut deployment).await;
    let (_, ping) = cost(&program, &url, &get("/v1/ping"), TIMES).await;
    let parameters: String = (0..6000).map(|number| format!("{number:x}&")).collect();
    let same = "a&".repeat(14_000);
    let list = |header: &str, item: &str| {
        let head = "GET /v1/namespaces HTTP/1.1\r\nHost: a\r\nConnection: close\r\n";
        format!("{head}{header}: {}\r\n\r\n", item.repeat(28_000 / item.len()))
    };
    for (what, request) in [
        ("parameters of a ping", get(&format!("/v1/ping?{parameters}"))),
        ("parameters of a heartbeat", get(&format!("/v1/__lbheartbeat__?{parameters}"))),
        ("parameters of a list", get(&format!("/v1/namespaces?{parameters}"))),
        ("one parameter again and again", get(&format!("/v1/namespaces?{same}"))),
        ("bewits", get(&format!("/v1/namespaces?{}", "bewit=a&".repeat(3500)))),
        ("a name", get(&format!("/v1/namespace/{}", "%22".repeat(9000)))),
        ("slashes", get(&"/".repeat(28_000))),
        ("addresses", list("X-Forwarded-For", "10.0.0.1,")),
        ("tags", list("If-None-Match", "\"a\",")),
        ("codings", list("Accept-Encoding", "a;q=0.1,")),
        ("a signature", list("Authorization", "Hawk a=\"b\", ")),
        ("a host", list("X-Forwarded-Host", "a")),
        ("a port", list("X-Forwarded-Port", "1")),
    ] {
        let (longest, cost) = cost(&program, &url, &request, TIMES).await;
        assert!(longest < 16 * 1024, "{what}: a reply of {longest} bytes");
        // It is read and copied some times, without optimisation. One look at each for each would take thousands of ticks.
        assert!(cost <= 20 * ping.max(5), "{what}: {cost} ticks, and pings {ping}");
    }
}

/// Asks for these again and again on a connection, as fast as they are answered, and counts the answers.
async fn flood(url: Url, request: String, answers: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    let mut stream = TcpStream::connect(address(&url)).await.unwrap();
    while !over.load(Ordering::Relaxed) {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.expect("no answer").unwrap();
            assert_ne!(read, 0, "closed after {}", String::from_utf8_lossy(&answer));
        }
        answers.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_pings_gets_its_share_and_balancers_and_claims_get_their_answers() {
    const FLOODS: usize = 24;
    const RATE: usize = 50;
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("SERVER_SPARE_RATE", RATE.to_string());
    let (_program, url) = served(&mut deployment).await;
    let (answers, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let paths = ["/v1/ping", "/v1/ping?a&b&c", "/__lbheartbeat__", "/__version__", "/nope", "/v1/__heartbeat__"];
    let began = Instant::now();
    let floods: Vec<_> = (0..FLOODS)
        .map(|number| {
            let request = format!("HEAD {} HTTP/1.1\r\nHost: a\r\n\r\n", paths[number % paths.len()]);
            tokio::spawn(flood(url.clone(), request, answers.clone(), over.clone()))
        })
        .collect();
    // Once all have used up what is their own.
    timeout(PATIENCE, async {
        while answers.load(Ordering::Relaxed) < 20 * FLOODS {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the flood is not answered");
    for _ in 0..20 {
        deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
        healthy(&url).await;
        for path in ["/__lbheartbeat__", "/__version__", "/v1/ping"] {
            let answer = exchange(&url, get(path).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
        }
    }
    over.store(true, Ordering::Relaxed);
    for flood in floods {
        timeout(PATIENCE, flood).await.expect("it goes on").unwrap();
    }
    // What each connection saved up and gets by the second, and what all of them get together.
    let (seconds, answers) = (began.elapsed().as_secs() as usize + 1, answers.load(Ordering::Relaxed));
    let most = FLOODS * (21 + 2 * seconds) + RATE * (seconds + 1);
    assert!(answers <= most, "{answers} answers in {seconds} s, of {most}");
}

#[tokio::test]
async fn strangers_who_send_bombs_and_read_nothing_take_little_memory() {
    const CONNECTIONS: usize = 150;
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    // It is memory that is measured, and a busy machine may take its time.
    deployment.set("RABBIT_FIRST_CLAIM_TIMEOUT", "10 s");
    let (program, url) = served(&mut deployment).await;
    for number in 0..100 {
        deployment.claim(&url, &format!("taskcluster-{number}"), &json!({"contact": "a@example.com"})).await.unwrap();
    }
    let bomb = |head: &str, of: &str| {
        let (plain, mut bomb) = (format!("{head}{}", of.repeat(10 << 20)), Vec::new());
        GzEncoder::new(plain.as_bytes(), Compression::best()).read_to_end(&mut bomb).unwrap();
        bomb
    };
    let post = |body: &[u8], encoding: &str| {
        let head = format!(
            "POST /v1/namespace/taskcluster-x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n{encoding}\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let gzip = "Content-Encoding: gzip\r\n";
    let list = b"GET /v1/namespaces HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n";
    let requests = [
        post(&bomb("[\"", "x"), gzip),
        post(&bomb("", "["), gzip),
        post(&bomb("{", " "), gzip),
        post("\u{1}".repeat(16_000).as_bytes(), ""),
        post(format!("[{}[]]", "[],".repeat(5000)).as_bytes(), ""),
        post(format!("[{}0]", "{\"\":0},".repeat(2000)).as_bytes(), ""),
        post(format!("{}{}", "[".repeat(120), "1,".repeat(1900)).as_bytes(), ""),
        list.repeat(20),
        b"GET /references/pulse/v1/api.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(20),
    ];
    let at_rest = memory(&program, "VmRSS");
    let mut held = Vec::new();
    for request in &requests {
        for _ in 0..CONNECTIONS {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(2048).unwrap();
            let mut stream = socket.connect(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
            // Who is refused early may find it closed.
            let _ = timeout(PATIENCE, stream.write_all(request)).await.expect("it is not read");
            held.push(stream);
        }
        // All of these have been read by then.
        healthy(&url).await;
    }
    deployment.claim(&url, "taskcluster-x", &json!({})).await.unwrap();
    let peak = memory(&program, "VmHWM");
    assert!(peak < at_rest + 160 * 1024, "{peak} KiB at most, and {at_rest} KiB before");
}

#[tokio::test]
async fn one_address_can_not_hold_all_connections() {
    let mut deployment = Deployment::new(StoreKind::Sqlite, BrokerKind::Fake).await;
    deployment.set("SERVER_MAX_CONNECTIONS", "40");
    let (_program, url) = served(&mut deployment).await;
    let mut held = Vec::new();
    for _ in 0..300 {
        held.push(TcpStream::connect(address(&url)).await.unwrap());
    }
    for _ in 0..10 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(url.socket_addrs(|| None).unwrap()[0]).await.unwrap();
        stream.write_all(b"GET /v1/namespaces HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut status)).await.expect("no answer").unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
        held.push(stream);
    }
}
