//! One connection below hyper: how long it may idle, and how long its other end may take to send a head or to take in a
//! reply. hyper itself has one time-out for both of the first two, and none for the third.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// For how long what a client still sends is taken in and thrown away, after a reply that did not wait for it.
const LINGER: Duration = Duration::from_secs(5);

/// How long the other end may take.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// To begin another request, or the first one.
    pub idle: Duration,
    /// To send the head of a request, once it began to.
    pub head: Duration,
    /// To take in a piece of a reply.
    pub reply: Duration,
}

/// What the connection is told by those who answer its requests.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// How many requests have come.
    begun: AtomicUsize,
    /// Of how many the reply is made to its end; what was made last may not be written yet.
    ended: AtomicUsize,
    /// Whether an answer was given before the whole request had come.
    lingers: AtomicBool,
}

impl Progress {
    /// A request has come, and is being answered.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// This answer is the last one, and perhaps given before the request had come.
    pub fn close(&self) {
        self.lingers.store(true, Ordering::Relaxed);
    }

    /// The body of a reply is made to its end.
    pub fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a connection waits for while no request is being answered.
enum Waiting {
    /// A request, after so many that were answered.
    Idle(usize),
    /// The rest of a head, likewise.
    Head(usize),
    /// Its other end, to close it.
    Linger,
}

/// A connection whose reads end, and whose writes fail, when the other end takes too long.
pub(super) struct Connection {
    stream: TcpStream,
    patience: Patience,
    progress: Arc<Progress>,
    /// How many requests are answered, and their replies written.
    answered: usize,
    waiting: Option<Waiting>,
    read_limit: Pin<Box<Sleep>>,
    stalled: bool,
    /// Whether a write had to wait since the last reply was written.
    was_stalled: bool,
    write_limit: Pin<Box<Sleep>>,
}

impl Connection {
    /// A connection that was just accepted.
    pub fn new(stream: TcpStream, patience: Patience, progress: Arc<Progress>) -> Connection {
        let (read_limit, write_limit) = (Box::pin(sleep(patience.idle)), Box::pin(sleep(patience.reply)));
        Connection {
            stream,
            patience,
            progress,
            answered: 0,
            waiting: None,
            read_limit,
            stalled: false,
            was_stalled: false,
            write_limit,
        }
    }

    fn wait(&mut self, waiting: Waiting) {
        let limit = match waiting {
            Waiting::Idle(_) => self.patience.idle,
            Waiting::Head(_) => self.patience.head,
            Waiting::Linger => LINGER,
        };
        self.waiting = Some(waiting);
        self.read_limit.as_mut().reset(Instant::now() + limit);
    }

    /// What became of a write, unless the other end has taken in nothing for too long.
    fn in_time<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = false;
            return write;
        }
        if !self.stalled {
            (self.stalled, self.was_stalled) = (true, true);
            self.write_limit.as_mut().reset(Instant::now() + self.patience.reply);
        }
        ready!(self.write_limit.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reply was not taken in")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let answered = this.answered;
        if this.progress.begun.load(Ordering::Relaxed) != answered {
            return Pin::new(&mut this.stream).poll_read(cx, into);
        }
        match this.waiting {
            Some(Waiting::Idle(since) | Waiting::Head(since)) if since == answered => {}
            _ => this.wait(Waiting::Idle(answered)),
        }
        let before = into.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, into) {
            if into.filled().len() > before && matches!(this.waiting, Some(Waiting::Idle(_))) {
                this.wait(Waiting::Head(answered));
            }
            return Poll::Ready(read);
        }
        ready!(this.read_limit.as_mut().poll(cx));
        // As if the other end had closed it.
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.in_time(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.in_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_flush(cx))?;
        // hyper has nothing left to write when it asks for this.
        let ended = this.progress.ended.load(Ordering::Relaxed);
        if this.answered != ended {
            this.answered = ended;
            if std::mem::take(&mut this.was_stalled) {
                // It read before it wrote, and has to begin to wait for the next request.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be written. Where a reply did not wait for its request, goes on reading for a while: to
    /// close a connection on which more comes in would reset it, and the reply could be lost on its way.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !matches!(this.waiting, Some(Waiting::Linger)) {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            this.wait(Waiting::Linger);
        }
        let mut waste = [0; 8192];
        while this.progress.lingers.load(Ordering::Relaxed) && Instant::now() < this.read_limit.deadline() {
            let mut waste = ReadBuf::new(&mut waste);
            match Pin::new(&mut this.stream).poll_read(cx, &mut waste) {
                Poll::Ready(Ok(())) if !waste.filled().is_empty() => {}
                Poll::Ready(_) => break,
                Poll::Pending => ready!(this.read_limit.as_mut().poll(cx)),
            }
        }
        Poll::Ready(Ok(()))
    }
}
