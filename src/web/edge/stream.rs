//! The body of a reply as it is written: how long that may take, how large it may get, and when it is over.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::connection::Progress;

/// How long and how large a reply may get that is made while it is written. Whoever makes it may put others into the extensions
/// of the response. What is past its bounds is cut off, so that its reader sees that it is not whole.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// From its head to its end.
    pub time: Duration,
    /// In bytes.
    pub size: u64,
}

impl Default for Bounds {
    /// Five minutes, and 64 MiB. (A reply that is in memory is over at once.)
    fn default() -> Bounds {
        Bounds { time: Duration::from_secs(300), size: 64 << 20 }
    }
}

/// That a request is being answered, which is over once this is dropped.
pub(super) struct Answering(pub Arc<Progress>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A body within its bounds.
pub(super) struct Bounded {
    body: Body,
    bounds: Bounds,
    written: u64,
    /// Made once there is something to wait for.
    limit: Option<Pin<Box<Sleep>>>,
    _answering: Answering,
}

impl Bounded {
    /// This body, whose head is written now.
    pub fn new(body: Body, bounds: Bounds, answering: Answering) -> Bounded {
        Bounded { body, bounds, written: 0, limit: None, _answering: answering }
    }
}

impl HttpBody for Bounded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        let whole = this.body.size_hint().exact().is_some();
        // What is in memory is counted and limited elsewhere, and never waits.
        if whole && polled.is_ready() {
            return polled.map_err(Into::into);
        }
        let time = this.bounds.time;
        if this.limit.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(format!("it took longer than {time:?}").into())));
        }
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.written += frame.data_ref().map_or(0, |data| data.len() as u64);
            if this.written > this.bounds.size {
                return Poll::Ready(Some(Err(format!("it is larger than {} bytes", this.bounds.size).into())));
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
