//! Answers: JSON at once, or a stream that is written at its reader's pace.

use std::io;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde_json::Value;
use tokio::sync::mpsc;
use warp::reply::{Reply as _, Response};

use crate::proto::message::WireError;

pub(super) const JSON: &str = "application/json";

/// Bytes that are collected before they are handed to the connection.
const PIECE_BYTES: usize = 16 * 1024;

/// What a handler answers.
pub(super) type Answer = Result<Response, WireError>;

pub(super) fn json(status: StatusCode, body: &Value) -> Response {
    json_text(status, body.to_string())
}

/// JSON that is text already; a newline ends it, for terminals.
pub(super) fn json_text(status: StatusCode, mut body: String) -> Response {
    body.push('\n');
    let mut response = body.into_response();
    *response.status_mut() = status;
    set(&mut response, CONTENT_TYPE, JSON);
    response
}

pub(super) fn ok() -> Value {
    serde_json::json!({"ok": true})
}

/// Sets a header whose value is ours or was checked; one that cannot be a header is left out.
pub(super) fn set(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::try_from(value) {
        response.headers_mut().insert(name, value);
    }
}

/// An answer whose body `work` writes while the client reads.
pub(super) fn streamed<W, F>(content_type: &str, work: W) -> Response
where
    W: FnOnce(Out) -> F,
    F: Future<Output = Result<(), Stop>> + Send + 'static,
{
    // One piece waits while the next is made.
    let (sender, receiver) = mpsc::channel(1);
    let work = work(Out { sender, buffer: Vec::new() });
    let body = Driven { work: Mutex::new(Some(Box::pin(work))), pieces: receiver };
    let mut response = warp::reply::stream(body).into_response();
    set(&mut response, CONTENT_TYPE, content_type);
    set(&mut response, CACHE_CONTROL, "must-revalidate");
    response
}

/// Why a streamed answer ends early. The status has been sent, so the connection is cut, and the
/// client sees that the answer is not whole.
pub(super) use crate::server::calls::Stop;

/// Where a streamed answer is written.
pub(super) struct Out {
    sender: mpsc::Sender<Bytes>,
    buffer: Vec<u8>,
}

impl Out {
    pub(super) async fn text(&mut self, text: &str) -> Result<(), Stop> {
        self.bytes(text.as_bytes()).await
    }

    pub(super) async fn bytes(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Hands a piece on as it is, after what was written before it.
    pub(super) async fn piece(&mut self, piece: Bytes) -> Result<(), Stop> {
        self.flush().await?;
        self.sender.send(piece).await.map_err(|_| Stop::Gone)
    }

    /// Hands what was written to the connection, waiting until the client has taken what is before.
    pub(super) async fn flush(&mut self) -> Result<(), Stop> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let piece = std::mem::take(&mut self.buffer);
        self.sender.send(piece.into()).await.map_err(|_| Stop::Gone)
    }
}

type Work = Pin<Box<dyn Future<Output = Result<(), Stop>> + Send>>;

/// The body of a streamed answer: the writer runs while the body is polled, and ends with it.
struct Driven {
    /// In a mutex that is never locked, since bodies must be `Sync`.
    work: Mutex<Option<Work>>,
    pieces: mpsc::Receiver<Bytes>,
}

impl Stream for Driven {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { work, pieces } = self.get_mut();
        let work = work.get_mut().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Poll::Ready(piece) = pieces.poll_recv(cx) {
                return Poll::Ready(piece.map(Ok));
            }
            let Some(running) = work else { return Poll::Ready(None) };
            match running.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => *work = None,
                Poll::Ready(Err(stop)) => {
                    *work = None;
                    if let Stop::Failed(error) = stop {
                        tracing::debug!(reason = %error.reason, "an answer was cut");
                        return Poll::Ready(Some(Err(io::Error::other(error.reason))));
                    }
                }
                Poll::Pending => {
                    // It may have waited for room in the queue, which it has filled meanwhile.
                    return match pieces.poll_recv(cx) {
                        Poll::Ready(piece) => Poll::Ready(piece.map(Ok)),
                        Poll::Pending => Poll::Pending,
                    };
                }
            }
        }
    }
}
