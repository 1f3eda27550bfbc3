//! A stream that remembers when bytes last moved in each direction, and takes room in memory for
//! what comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::bounds::Intake;

/// When bytes last moved, in milliseconds since the connection began.
#[derive(Debug)]
pub(super) struct Progress {
    began: Instant,
    read_ms: AtomicU64,
    written_ms: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), read_ms: AtomicU64::new(0), written_ms: AtomicU64::new(0) }
    }

    pub(super) fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn read_ms(&self) -> u64 {
        self.read_ms.load(Ordering::Relaxed)
    }

    pub(super) fn written_ms(&self) -> u64 {
        self.written_ms.load(Ordering::Relaxed)
    }
}

/// The stream.
pub(super) struct ProgressStream<S> {
    inner: S,
    progress: Arc<Progress>,
    intake: Arc<Intake>,
}

impl<S> ProgressStream<S> {
    pub(super) fn new(inner: S, progress: Arc<Progress>, intake: Arc<Intake>) -> Self {
        Self { inner, progress, intake }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ProgressStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        if came > 0 {
            self.progress.read_ms.store(self.progress.now_ms(), Ordering::Relaxed);
            self.intake.came(came)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ProgressStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if matches!(polled, Poll::Ready(Ok(written)) if written > 0) {
            self.progress.written_ms.store(self.progress.now_ms(), Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
