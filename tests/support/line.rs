//! A line to RabbitMQ's management API that can be cut once: while a deletion is on its way, or while its answer is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use url::Url;

/// Where it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Before RabbitMQ has the request.
    Request,
    /// When RabbitMQ has answered, before anybody reads that.
    Answer,
}

/// Where it is to be cut, whom to tell that this is reached, and who tells that it may be cut.
type Fault = (Cut, oneshot::Sender<()>, oneshot::Receiver<()>);

/// The line.
#[derive(Clone)]
pub struct Line {
    /// Its address, in place of RabbitMQ's.
    pub url: String,
    deletions: Arc<AtomicUsize>,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl Line {
    /// One to the management API with this host and port.
    pub async fn to(api: &Url) -> Line {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let line = Line { url, deletions: Arc::default(), fault: Arc::default() };
        let (server, of) = (format!("{}:{}", api.host_str().unwrap(), api.port().unwrap()), line.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (of, server) = (of.clone(), server.clone());
                tokio::spawn(async move { of.carry(client, &server).await });
            }
        });
        line
    }

    /// Cuts it at the next deletion of a queue. When that is reached the first is told, and it waits for the second.
    pub fn cut(&self, at: Cut) -> (oneshot::Receiver<()>, oneshot::Sender<()>) {
        let ((reached, met), (go_on, may)) = (oneshot::channel(), oneshot::channel());
        *self.fault.lock().unwrap() = Some((at, reached, may));
        (met, go_on)
    }

    /// How many deletions of queues were sent.
    pub fn deletions(&self) -> usize {
        self.deletions.load(Ordering::SeqCst)
    }

    async fn carry(&self, mut client: TcpStream, server: &str) {
        let mut server = TcpStream::connect(server).await.unwrap();
        let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Some(request) = read.ok().map(|read| &asked[..read]).filter(|request| !request.is_empty()) else { return };
                    let is_deletion = request.starts_with(b"DELETE /api/queues/");
                    self.deletions.fetch_add(usize::from(is_deletion), Ordering::SeqCst);
                    let fault = if is_deletion { self.fault.lock().unwrap().take() } else { None };
                    if !matches!(fault, Some((Cut::Request, ..))) {
                        server.write_all(request).await.unwrap();
                    }
                    let Some((at, reached, may)) = fault else { continue };
                    if at == Cut::Answer {
                        let read = server.read(&mut answered).await.unwrap();
                        assert!(answered[..read].starts_with(b"HTTP/1.1 204"), "the queue was not deleted");
                    }
                    reached.send(()).unwrap();
                    return may.await.unwrap();
                }
                read = server.read(&mut answered) => match read {
                    Ok(read) if read > 0 && client.write_all(&answered[..read]).await.is_ok() => {}
                    _ => return,
                },
            }
        }
    }
}
