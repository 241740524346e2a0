//! Connections: slow and idle ones, heads that are too large, and several requests on one.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::site::{SOON, Site, until_closed};

/// Longer than any step of a test takes, also on a busy machine, and shorter than it waits.
const SHORT: Duration = Duration::from_secs(1);

const PING: &str = "GET /v1/ping HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sends a request, and reads its answer; the connection stays open.
async fn ping(stream: &mut TcpStream) -> String {
    stream.write_all(PING.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.ends_with("\n}") {
        let mut bytes = [0; 1024];
        let count = tokio::time::timeout(SOON, stream.read(&mut bytes)).await.expect("no answer").unwrap();
        assert!(count > 0, "closed after {answer:?}");
        answer.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    answer
}

#[tokio::test]
async fn a_head_that_does_not_come_is_given_up_while_idle_connections_live_on() {
    let site = Site::wish(|wishes| wishes.connections.patience.head = SHORT).await;
    let (mut idle, mut slow, mut later) = (site.connect().await, site.connect().await, site.connect().await);
    ping(&mut later).await;
    slow.write_all(b"GET /v1/ping HTTP/1.1\r\nHost: a\r\n").await.unwrap();
    assert!(!until_closed(&mut slow).await.contains(" 200 "));
    later.write_all(b"GET").await.unwrap();
    assert!(!until_closed(&mut later).await.contains(" 200 "), "a second head is limited too");
    for _ in 0..3 {
        assert!(ping(&mut idle).await.starts_with("HTTP/1.1 200 "));
    }
}

/// A byte now and then does not keep it alive.
#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_given_up() {
    let site = Site::wish(|wishes| wishes.connections.patience.head = SHORT).await;
    let (mut reader, mut writer) = site.connect().await.into_split();
    let dribble = tokio::spawn(async move {
        let mut sent = 0;
        for byte in PING.bytes().cycle().skip(1).filter(|&byte| byte != b'\n') {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            sent += 1;
            tokio::time::sleep(SHORT / 20).await;
        }
        sent
    });
    let mut answer = Vec::new();
    // The other end may reset the connection, because of the byte that was on its way.
    let read = tokio::time::timeout(SOON, reader.read_to_end(&mut answer)).await.expect("it was not given up");
    assert!(read.is_err() || !String::from_utf8_lossy(&answer).contains(" 200 "));
    assert!(dribble.await.unwrap() > 1);
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_closed_while_slow_heads_are_waited_for() {
    let site = Site::wish(|wishes| wishes.connections.patience.idle = SHORT).await;
    let (mut silent, mut used, mut slow) = (site.connect().await, site.connect().await, site.connect().await);
    slow.write_all(b"GET /v1/ping HTTP/1.1\r\n").await.unwrap();
    for _ in 0..3 {
        ping(&mut used).await;
    }
    assert_eq!(until_closed(&mut silent).await, "");
    assert_eq!(until_closed(&mut used).await, "");
    slow.write_all(b"Host: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut slow).await.starts_with("HTTP/1.1 200 "));
}

/// Neither limit counts while a request is being answered.
#[tokio::test]
async fn a_request_that_takes_long_is_no_idle_connection() {
    use crate::support::fake_broker::{Failure, Fault};
    let site = Site::wish(|wishes| {
        (wishes.connections.patience.idle, wishes.connections.patience.head) = (SHORT, SHORT);
    });
    let site = site.await;
    site.world.fake().fault(Fault::new(Failure::Slow(2 * SHORT)).on("PUT", "/api/users/taskcluster-x-1"));
    site.claim("taskcluster-x", "{}").send().await.good();
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let site = Site::wish(|wishes| wishes.settings.body_timeout = SHORT).await;
    let head = "POST /v1/namespace/taskcluster-x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for body in ["Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n1\r\n{"] {
        let answer = site.raw(&format!("{head}{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"RequestTimeout\""), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
}

/// The replies are more than what the kernel takes in for a peer that doesn't read.
#[tokio::test]
async fn a_reply_that_is_not_taken_in_is_given_up() {
    let site = Site::wish(|wishes| {
        wishes.settings.edge.limits.spare_rate = u32::MAX;
        wishes.connections.patience.reply = SHORT;
        wishes.connections.drain = 6 * SOON;
    });
    let mut site = site.await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    let mut stream = socket.connect(([127, 0, 0, 1], site.url.port().unwrap()).into()).await.unwrap();
    let ask = "GET /references/pulse/v1/api.json HTTP/1.1\r\nHost: a\r\nx-taskcluster-trace-id: not-taken-in\r\n\r\n";
    stream.write_all(ask.repeat(2000).as_bytes()).await.unwrap();
    let line = super::recorder::line(&[("traceId", "not-taken-in".into()), ("type", "monitor.request".into())]).await;
    assert_eq!(line["statusCode"], 200);
    // As soon as it has nothing under way any more, it stops.
    site.stop();
    site.stopped().await;
    drop(stream);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let site = Site::new().await;
    let fits = format!("X-Pad: {}\r\n", "a".repeat(16 * 1024));
    let many = "X-Pad: a\r\n".repeat(101);
    let large = format!("X-Pad: {}\r\n", "a".repeat(33 * 1024));
    for (headers, status) in [(&fits, "200"), (&many, "431"), (&large, "431")] {
        let answer = site.raw(&format!("GET /v1/ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    for nonsense in [
        "nonsense\r\n\r\n",
        "GET /v1/ping HTTP/1.1\r\nHost : a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}",
    ] {
        assert!(site.raw(nonsense).await.starts_with("HTTP/1.1 400 "), "{nonsense:?}");
    }
}

#[tokio::test]
async fn a_body_is_asked_for_only_if_it_will_be_read() {
    let site = Site::new().await;
    let url = format!("{}v1/namespace/taskcluster-x", site.url).parse().unwrap();
    let authorization = site.sign("test-client", "POST", &url, Some("{}"));
    let head = |length: usize| {
        format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\nAuthorization: {authorization}\r\n\r\n",
            url.path(),
            url.authority(),
        )
    };
    let mut stream = site.connect().await;
    stream.write_all(head(2).as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    tokio::time::timeout(SOON, stream.read_exact(&mut go_on)).await.unwrap().unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 200 "));

    let mut stream = site.connect().await;
    stream.write_all(head(1 << 30).as_bytes()).await.unwrap();
    let mut refusal = [0; 13];
    tokio::time::timeout(SOON, stream.read_exact(&mut refusal)).await.unwrap().unwrap();
    assert_eq!(&refusal, b"HTTP/1.1 413 ");
}

#[tokio::test]
async fn requests_may_follow_one_another_without_waiting() {
    let site = Site::new().await;
    let last = "GET /v1/ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answers = site.raw(&format!("{PING}{PING}{last}")).await;
    assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 3, "{answers}");
}

#[tokio::test]
async fn a_request_can_not_hide_another_one() {
    let site = Site::new().await;
    // Two lengths: what one reader takes for the body is a request to another.
    let both = format!(
        "POST /v1/ping HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{PING}",
        PING.len() + 5
    );
    let two = "POST /v1/ping HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned();
    for text in [both, two] {
        let answer = site.raw(&text).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
}
