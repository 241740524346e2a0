//! What makes the life of processes hard: a notify service and a network that are slow, fail, and strike while a process
//! waits for them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::sleep;

/// What stands for Taskcluster's notify service. It takes its time, fails every fifth time, and strikes every fifth time.
pub struct Mail {
    /// Subject and content of each.
    mails: Mutex<Vec<String>>,
    asked: AtomicUsize,
    strike: Arc<Notify>,
}

impl Mail {
    /// Starts it; with its root URL.
    pub async fn start(strike: Arc<Notify>) -> (Arc<Mail>, String) {
        let mail = Arc::new(Mail { mails: Mutex::default(), asked: AtomicUsize::new(0), strike });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(Mail::receive).with_state(mail.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (mail, format!("http://{address}"))
    }

    /// How many it took.
    pub fn count(&self) -> usize {
        self.mails.lock().unwrap().len()
    }

    /// Whether one that it took, of this queue alone or of many, names it.
    pub fn names(&self, queue: &str) -> bool {
        self.mails.lock().unwrap().iter().any(|mail| mail.contains(queue))
    }

    /// Whether one that it took, of this queue alone or of many, says that it was deleted.
    pub fn says_deleted(&self, queue: &str) -> bool {
        let (alone, listed) = (format!("{queue} was deleted"), format!("`{queue}`  \n  deleted with "));
        self.mails.lock().unwrap().iter().any(|mail| mail.contains(&alone) || mail.contains(&listed))
    }

    async fn receive(State(mail): State<Arc<Mail>>, body: String) -> StatusCode {
        let asked = mail.asked.fetch_add(1, Ordering::SeqCst);
        if asked % 5 == 1 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        if asked % 5 == 3 {
            mail.strike.notify_waiters();
        }
        sleep(Duration::from_millis(50)).await;
        let email: Value = serde_json::from_str(&body).unwrap();
        assert!(email["address"].as_str().unwrap().ends_with("@example.com"));
        let parts = ["subject", "content"].map(|part| email[part].as_str().unwrap());
        mail.mails.lock().unwrap().push(parts.join("\n"));
        StatusCode::OK
    }
}

/// A slow way to the management API, on which some answers are lost; its base URL. It strikes at some of the requests that
/// change something, which arrive all the same.
pub async fn lag(to: SocketAddr, mut random: StdRng, strike: Arc<Notify>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((from, _)) = listener.accept().await {
            tokio::spawn(pass_on(from, to, StdRng::seed_from_u64(random.random()), strike.clone()));
        }
    });
    format!("http://{address}")
}

async fn pass_on(from: TcpStream, to: SocketAddr, mut random: StdRng, strike: Arc<Notify>) -> io::Result<()> {
    let (mut client, mut answers) = from.into_split();
    let (mut server, mut requests) = TcpStream::connect(to).await?.into_split();
    let answering = async move { tokio::io::copy(&mut server, &mut answers).await.map(drop) };
    let asking = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = client.read(&mut buffer).await?;
            let request = &buffer[..length];
            if request.is_empty() {
                return Ok(());
            }
            let changes = request.starts_with(b"PUT") || request.starts_with(b"DELETE");
            if changes && random.random_bool(0.05) {
                strike.notify_waiters();
            }
            sleep(Duration::from_millis(random.random_range(0..60))).await;
            requests.write_all(request).await?;
            if random.random_bool(0.01) {
                return Ok(());
            }
        }
    };
    tokio::select! {
        done = answering => done,
        done = asking => done,
    }
}
