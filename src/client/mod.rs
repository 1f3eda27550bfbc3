//! The native client: one connection to a gateway, any number of syncs over it.
//!
//! A [`Client`] keeps its connection: it dials, notices a dead peer, and dials again after growing,
//! jittered pauses. Each sync opens a channel whenever there is a connection. The replicator is the
//! one of [`replicate`](mod@crate::replicate), with a channel as its remote peer.

mod channel_peer;
mod dial;
mod driver;
mod error;
mod event_keeper;
mod event_state;
mod events;
mod link;
mod sync;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::BroadcastStream;

pub use error::ClientError;
pub use events::{EventItem, EventSender, Events, EventsError};
pub use sync::{CredentialsSource, SyncOptions};

pub use crate::replicate::Backoff;
use crate::replicate::Sync;
use crate::store::Database;
use crate::transport::{Connector, TcpConnector};
use events::Running;
use link::Link;
use tls::Tls;

/// Client events that wait for a slow reader; the oldest go first.
const EVENTS_MAX: usize = 64;

/// A connection to a gateway that is made and kept.
///
/// A cheap handle: clones share the connection. Syncs keep it too; it ends with the last of them,
/// or with [`Client::close`].
///
/// ```no_run
/// # async fn run(db: settee::Database) -> Result<(), Box<dyn std::error::Error>> {
/// use settee::{Client, SyncOptions, SyncEvent};
/// use futures::StreamExt as _;
/// let client = Client::connect("ws://localhost:5984")?;
/// let options = SyncOptions::live("todos").credentials(serde_json::json!({"token": "some token"}));
/// let mut sync = client.sync(&db, options);
/// while let Some(event) = sync.next().await {
///     if let SyncEvent::Change(change) = event {
///         println!("{:?} {} documents", change.direction, change.docs_written);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<ClientShared>,
}

struct ClientShared {
    url: Target,
    link: watch::Receiver<LinkState>,
    events: broadcast::Sender<ClientEvent>,
    closing: watch::Sender<bool>,
    task: Mutex<Option<JoinHandle<()>>>,
    attending: Mutex<Weak<Running>>,
}

/// What there is of a connection.
#[derive(Clone)]
enum LinkState {
    /// None, for this reason; the client is about to try again.
    Down { cause: Arc<str>, failures: u32 },
    /// One.
    Up(Link),
    /// None, and there will be none.
    Closed,
}

/// What happens to a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientEvent {
    /// There is a connection.
    Connect,
    /// It is lost, or could not be made.
    Disconnect {
        /// What happened.
        cause: String,
    },
    /// Another attempt begins.
    Reconnect {
        /// Attempts since the last connection, from 1.
        attempt: u32,
    },
}

/// Where a gateway is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub host: String,
    pub port: u16,
    pub secure: bool,
    /// The request's path and query.
    pub path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, ClientError> {
        let bad = || ClientError::Url { url: crate::doc::printable(url) };
        let uri: http::Uri = url.parse().map_err(|_| bad())?;
        let (port, secure) = match uri.scheme_str() {
            Some("ws") => (80, false),
            Some("wss") => (443, true),
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(port),
            secure,
            path: if path.is_empty() { "/".into() } else { path.to_owned() },
        })
    }

    /// The `Host` header.
    fn authority(&self) -> String {
        let Self { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("gateway", &self.shared.url).finish_non_exhaustive()
    }
}

impl Drop for ClientShared {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}

/// Settings of a [`Client`].
#[derive(Debug)]
pub struct ClientBuilder {
    url: String,
    connector: Arc<dyn Connector>,
    ca_file: Option<PathBuf>,
    backoff: Backoff,
    ping_interval: Duration,
    silence_timeout: Duration,
}

impl ClientBuilder {
    /// A file of certificate authorities in PEM that `wss://` trusts beside those of the system. It
    /// is read once, by [`connect`](Self::connect).
    #[must_use]
    pub fn ca_file(self, path: impl Into<PathBuf>) -> Self {
        Self { ca_file: Some(path.into()), ..self }
    }

    /// How bytes travel; TCP where not said.
    #[must_use]
    pub fn connector(self, connector: impl Connector) -> Self {
        Self { connector: Arc::new(connector), ..self }
    }

    /// The pauses between attempts; see [`Backoff`] for the default.
    #[must_use]
    pub fn backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// After how much silence to ping (default 20 s), and after how much to give the connection up
    /// (default 45 s).
    #[must_use]
    pub fn heartbeat(self, ping_interval: Duration, silence_timeout: Duration) -> Self {
        Self { ping_interval, silence_timeout, ..self }
    }

    /// Begins to connect. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ClientError`] for an address that cannot be used. That nobody answers there is no error:
    /// the client goes on trying.
    pub fn connect(self) -> Result<Client, ClientError> {
        let url = Target::parse(&self.url)?;
        let ca_file = self.ca_file.as_deref();
        let tls = url.secure.then(|| Tls::new(&url.host, ca_file)).transpose()?;
        let cause = "the first connection is being made".into();
        let (link_sender, link) = watch::channel(LinkState::Down { cause, failures: 0 });
        let (events, _) = broadcast::channel(EVENTS_MAX);
        let (closing, closed) = watch::channel(false);
        let dialer = dial::Dialer {
            target: url.clone(),
            connector: self.connector,
            tls,
            backoff: self.backoff,
            ping_interval: self.ping_interval,
            silence_timeout: self.silence_timeout,
            link: link_sender,
            events: events.clone(),
            closing: closed,
        };
        let task = Mutex::new(Some(tokio::spawn(dialer.run())));
        let attending = Mutex::default();
        Ok(Client {
            shared: Arc::new(ClientShared { url, link, events, closing, task, attending }),
        })
    }
}

impl Client {
    /// A client of the gateway at `ws://HOST:PORT`, or `wss://` for TLS, with the default settings.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub fn connect(url: &str) -> Result<Self, ClientError> {
        Self::builder(url).connect()
    }

    /// Begins to set up a client of the gateway at `ws://HOST:PORT`, or `wss://` for TLS.
    #[must_use]
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            connector: Arc::new(TcpConnector),
            ca_file: None,
            backoff: Backoff::default(),
            ping_interval: Duration::from_secs(20),
            silence_timeout: Duration::from_secs(45),
        }
    }

    /// What happens to the connection from now on. A reader that falls behind by more than 64 events
    /// misses the oldest.
    #[must_use]
    pub fn connection_events(&self) -> ClientEvents {
        ClientEvents(BroadcastStream::new(self.shared.events.subscribe()))
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(*self.shared.link.borrow(), LinkState::Up(_))
    }

    /// Syncs a local database with one behind the gateway; may be called before there is a
    /// connection and at any time after. Must be called within a tokio runtime.
    #[must_use = "dropping the handle cancels the sync"]
    pub fn sync(&self, database: &Database, options: SyncOptions) -> Sync {
        sync::start(self.clone(), database, options)
    }

    /// Takes part in ephemeral events and presence beside the syncs: shows the gateway these
    /// credentials over every connection, joins and sends by what is returned, and receives from it as
    /// a stream. May be called before there is a connection; within a tokio runtime.
    ///
    /// A connection has one identity: a second call ends what the first one returned.
    ///
    /// ```no_run
    /// # async fn run(client: settee::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use futures::StreamExt as _;
    /// use serde_json::json;
    /// use settee::{client::EventItem, proto::event::Targets};
    /// let mut events = client.events(json!({"token": "some token"}));
    /// events.join("room-1").await?;
    /// events.send(Targets::channel("room-1"), "said", &json!({"text": "hello"})).await?;
    /// while let Some(item) = events.next().await {
    ///     if let EventItem::Event { event, payload, .. } = item {
    ///         println!("{event}: {payload}");
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use = "dropping the handle leaves the channels"]
    pub fn events(&self, credentials: impl Into<CredentialsSource>) -> Events {
        let mut attending = self.shared.attending.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(older) = attending.upgrade() {
            older.end();
        }
        let events = events::start(self.clone(), credentials.into());
        *attending = Arc::downgrade(events.running());
        events
    }

    /// Ends the connection with close code 1000 and makes no other. Syncs that go on end with an
    /// error; cancel them first.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the connection ending.
    pub async fn close(&self) {
        self.shared.closing.send_replace(true);
        let task = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            // A task that panicked has no connection either.
            let _ = task.await;
        }
    }

    fn watch_link(&self) -> watch::Receiver<LinkState> {
        self.shared.link.clone()
    }
}

/// A client's events as a stream.
#[derive(Debug)]
pub struct ClientEvents(BroadcastStream<ClientEvent>);

impl Stream for ClientEvents {
    type Item = ClientEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<ClientEvent>> {
        loop {
            match Pin::new(&mut self.0).poll_next(cx) {
                Poll::Ready(Some(Ok(event))) => return Poll::Ready(Some(event)),
                // Fell behind: the rest is still there.
                Poll::Ready(Some(Err(_))) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |url: &str, host: &str, port: u16, path: &str| {
            let secure = url.starts_with("wss");
            let target = Target { host: host.into(), port, secure, path: path.into() };
            assert_eq!(Target::parse(url), Ok(target), "{url}");
        };
        check("ws://localhost", "localhost", 80, "/");
        check("ws://localhost:5984/", "localhost", 5984, "/");
        check("ws://[::1]:5984/a/b?c=d", "::1", 5984, "/a/b?c=d");
        assert_eq!(Target::parse("ws://[::1]:1").unwrap().authority(), "[::1]:1");
        for bad in
            ["", "localhost", "http://localhost", "ws://", "ws:///x", "ws://u:p@host", "ws://a b"]
        {
            assert!(matches!(Target::parse(bad), Err(ClientError::Url { .. })), "{bad}");
        }
        check("wss://localhost", "localhost", 443, "/");
        check("wss://localhost:5984/a", "localhost", 5984, "/a");
    }
}
