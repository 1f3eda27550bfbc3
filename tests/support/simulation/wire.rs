//! turmoil's connections as the gateway and its clients take them, with every byte noted in the trace.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use settee::transport::{ByteStream, Connector, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use turmoil::net::{TcpListener, TcpStream};

use super::stage::Stage;

/// Bytes that a slow reader takes at a time.
const SLOW_BYTES: usize = 256;

pub struct Wire {
    stream: TcpStream,
    stage: Arc<Stage>,
    /// Whose reads may be slow.
    client: Option<usize>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Wire {
    fn new(stream: TcpStream, stage: Arc<Stage>, client: Option<usize>) -> Self {
        Self { stream, stage, client, pause: None }
    }

    fn slow_ms(&self) -> u64 {
        self.client.map_or(0, |client| self.stage.slow_ms[client].load(Ordering::Relaxed))
    }

    fn poll_pause(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let slow_ms = self.slow_ms();
        if self.pause.is_none() && slow_ms > 0 {
            self.pause = Some(Box::pin(sleep(Duration::from_millis(slow_ms))));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_pause(context));
        if self.slow_ms() == 0 {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let mut part = buffer.take(SLOW_BYTES);
        let read = Pin::new(&mut self.stream).poll_read(context, &mut part);
        let length = part.filled().len();
        // `part` fills the beginning of what `buffer` has free.
        buffer.initialize_unfilled_to(length);
        buffer.advance(length);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        let from = if self.client.is_some() { "client" } else { "gateway" };
        self.stage.trace(from, &bytes[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The gateway's listener.
pub struct Gate {
    pub listener: TcpListener,
    pub stage: Arc<Stage>,
}

impl Listener for Gate {
    type Stream = Wire;

    async fn accept(&mut self) -> io::Result<(Wire, Option<SocketAddr>)> {
        let (stream, peer) = self.listener.accept().await?;
        Ok((Wire::new(stream, Arc::clone(&self.stage), None), Some(peer)))
    }
}

/// A client's way to the gateway.
pub struct Line {
    pub stage: Arc<Stage>,
    pub client: usize,
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({})", self.client)
    }
}

#[async_trait]
impl Connector for Line {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn ByteStream>> {
        let stream = TcpStream::connect((host, port)).await?;
        self.stage.count("connections");
        Ok(Box::new(Wire::new(stream, Arc::clone(&self.stage), Some(self.client))))
    }
}
