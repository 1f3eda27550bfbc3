//! How bytes travel: one interface over TCP, memory, and whatever else carries a stream.
//!
//! The gateway takes connections from a [`Listener`] and the client makes them with a
//! [`Connector`]; neither names TCP. TCP and Unix sockets are here, [`memory`] joins the two within
//! one process, and `examples/custom_transport.rs` adds one of its own.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::sync::mpsc;

/// A two-way stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for T {}

/// Takes connections.
pub trait Listener: Send + 'static {
    /// What a connection is.
    type Stream: ByteStream;

    /// Waits for the next connection; with the peer's address, where it has one.
    ///
    /// # Errors
    /// The system's; the gateway waits a moment and tries again.
    fn accept(
        &mut self,
    ) -> impl Future<Output = io::Result<(Self::Stream, Option<SocketAddr>)>> + Send;
}

/// Makes connections.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug + 'static {
    /// Connects to a host and port.
    ///
    /// # Errors
    /// The system's; the client waits a growing time and tries again.
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn ByteStream>>;
}

#[cfg(any(feature = "server", feature = "client"))]
impl Listener for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        let (stream, peer) = tokio::net::TcpListener::accept(self).await?;
        // Small messages must not wait for the acknowledgement of earlier ones. Where this fails the
        // peer is gone already, which is no failure of the listener's: reading finds it out.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(peer)))
    }
}

/// Connects by TCP.
#[cfg(any(feature = "server", feature = "client"))]
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

#[cfg(any(feature = "server", feature = "client"))]
#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, host: &str, port: u16) -> io::Result<Box<dyn ByteStream>> {
        let stream = tokio::net::TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}

#[cfg(all(unix, any(feature = "server", feature = "client")))]
impl Listener for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&mut self) -> io::Result<(Self::Stream, Option<SocketAddr>)> {
        let (stream, _) = tokio::net::UnixListener::accept(self).await?;
        Ok((stream, None))
    }
}

/// Connects to a Unix socket; host and port are what a gateway sees as the `Host` that it was asked
/// for.
#[cfg(all(unix, any(feature = "server", feature = "client")))]
#[derive(Debug, Clone)]
pub struct UnixConnector {
    path: std::path::PathBuf,
}

#[cfg(all(unix, any(feature = "server", feature = "client")))]
impl UnixConnector {
    /// To the socket at a path.
    #[must_use]
    pub fn new(path: impl Into<std::path::PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[cfg(all(unix, any(feature = "server", feature = "client")))]
#[async_trait]
impl Connector for UnixConnector {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(tokio::net::UnixStream::connect(&self.path).await?))
    }
}

/// Bytes that a memory connection holds in each direction before its writer waits.
const MEMORY_BUFFER_BYTES: usize = 64 * 1024;

/// Connections that wait to be accepted.
const MEMORY_BACKLOG: usize = 128;

/// A listener and a connector that reach each other within this process.
#[must_use]
pub fn memory() -> (MemoryListener, MemoryConnector) {
    let (sender, receiver) = mpsc::channel(MEMORY_BACKLOG);
    (MemoryListener { receiver }, MemoryConnector { sender: Arc::new(sender) })
}

/// Takes the connections that its [`MemoryConnector`] makes.
#[derive(Debug)]
pub struct MemoryListener {
    receiver: mpsc::Receiver<DuplexStream>,
}

impl Listener for MemoryListener {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<(DuplexStream, Option<SocketAddr>)> {
        match self.receiver.recv().await {
            Some(stream) => Ok((stream, None)),
            // Every connector is gone: nothing will ever come.
            None => std::future::pending().await,
        }
    }
}

/// Connects to its [`MemoryListener`]; host and port make no difference.
#[derive(Debug, Clone)]
pub struct MemoryConnector {
    sender: Arc<mpsc::Sender<DuplexStream>>,
}

#[async_trait]
impl Connector for MemoryConnector {
    async fn connect(&self, _host: &str, _port: u16) -> io::Result<Box<dyn ByteStream>> {
        let (near, far) = tokio::io::duplex(MEMORY_BUFFER_BYTES);
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "the listener is gone");
        self.sender.send(far).await.map_err(|_| refused())?;
        Ok(Box::new(near))
    }
}
