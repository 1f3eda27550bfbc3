//! The gateway: many clients, one port, databases opened only if the authorizer says so.
//!
//! A connection is accepted ([`accept`](self)), upgraded to a WebSocket, and driven by one task that
//! feeds its messages to a [`Session`](crate::proto::session::Session); each call of a channel runs
//! in a task of its own that ends with the connection. This is the only module that names warp.

mod accept;
mod auth;
mod calls;
mod census;
mod channel;
mod client_module;
mod connection;
mod error;
mod events;
mod granted;
mod http;
mod legacy;
mod opening;
mod outbox;
mod progress;
mod routes;
mod security;
mod socket;
mod state;
mod streams;
mod tail;
mod view;
mod writer;
mod writes;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use auth::{
    AccessRequest, Authorizer, Credentials, Denied, DeniedKind, Grant, ProposedWrite,
    ServerAuthorizer, ServerGrant, ServerRequest, Validator,
};
pub use error::ServerError;
pub use events::{Dispatch, DispatchedEvent, Dispatches, Events, SendError};
use tokio::sync::watch;
use warp::Filter;
use warp::filters::BoxedFilter;

use self::http::{Compactions, DbLog, Sessions};
use crate::doc::DbName;
use crate::limits::Limits;
use crate::store::{CompactionPolicy, Store};
use crate::transport::Listener;
use auth::DenyAll;
use census::Census;
use channel::Channel;
use events::Hub;
use tail::Tails;

/// Serves the databases of a store to clients that its authorizer lets in.
///
/// A cheap handle: clones share the gateway.
///
/// ```no_run
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// use settee::server::{AccessRequest, Denied, Gateway, Grant};
/// let store = settee::Store::open("data")?;
/// let gateway = Gateway::builder(store)
///     .authorizer(|request: AccessRequest| async move {
///         match request.credentials["token"].as_str() {
///             Some("some token") => Ok(Grant::database(request.database).creating()),
///             _ => Err(Denied::new("not allowed")),
///         }
///     })
///     .build()?;
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:5984").await?;
/// gateway.serve(listener, std::future::pending()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// What every connection of a gateway needs.
pub(crate) struct Shared {
    store: Store,
    authorizer: Arc<dyn Authorizer>,
    server_authorizer: Arc<dyn ServerAuthorizer>,
    sessions: Sessions,
    compactions: Compactions,
    db_log: DbLog,
    limits: Limits,
    origins: Origins,
    static_dir: Option<PathBuf>,
    compaction: Option<CompactionPolicy>,
    /// Whether a WebSocket without a subprotocol speaks the protocol of 2015.
    legacy: bool,
    census: Census,
    /// Open channels by a number of their own. Held for moments only.
    channels: Mutex<HashMap<u64, Weak<Channel>>>,
    tails: Arc<Tails>,
    events: Arc<Hub>,
    channel_numbers: AtomicU64,
    revocations: AtomicU64,
    stopping: watch::Sender<bool>,
}

/// Which pages may connect from a browser.
#[derive(Debug, Clone, Default)]
struct Origins {
    any: bool,
    allowed: Vec<String>,
    /// Whether a request must name this machine as its host.
    loopback_only: bool,
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

/// Settings of a [`Gateway`].
pub struct GatewayBuilder {
    store: Store,
    authorizer: Arc<dyn Authorizer>,
    server_authorizer: Arc<dyn ServerAuthorizer>,
    limits: Limits,
    origins: Origins,
    static_dir: Option<PathBuf>,
    compaction: Option<CompactionPolicy>,
    legacy: bool,
}

impl fmt::Debug for GatewayBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayBuilder").field("store", &self.store).finish_non_exhaustive()
    }
}

impl GatewayBuilder {
    /// The credential callback. Without one every database is refused.
    #[must_use]
    pub fn authorizer(self, authorizer: impl Authorizer) -> Self {
        Self { authorizer: Arc::new(authorizer), ..self }
    }

    /// Judges what is for no one database: sessions by cookie, the list of databases. Without one
    /// both are refused.
    #[must_use]
    pub fn server_authorizer(self, authorizer: impl ServerAuthorizer) -> Self {
        Self { server_authorizer: Arc::new(authorizer), ..self }
    }

    /// The bounds to keep; [`Limits::default`] where not said. Bounds on documents are the store's.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Lets pages of these origins (`https://app.example`) connect, beside pages that the gateway's
    /// own host serves.
    #[must_use]
    pub fn allowed_origins<I: IntoIterator<Item = String>>(mut self, origins: I) -> Self {
        self.origins.allowed.extend(origins);
        self
    }

    /// Lets pages of every origin connect. A page that a user visits can then reach the gateway
    /// with whatever credentials the page has; it never has the user's, since the cookie of a
    /// session is not sent to another site.
    #[must_use]
    pub fn any_origin(mut self) -> Self {
        self.origins.any = true;
        self
    }

    /// Refuses requests whose `Host` is not a name of this machine. For a gateway on a loopback
    /// address that lets everybody in: a page whose name was made to point there (DNS rebinding)
    /// would be of the gateway's own origin otherwise.
    #[must_use]
    pub fn loopback_hosts_only(mut self) -> Self {
        self.origins.loopback_only = true;
        self
    }

    /// Serves the files of a directory to GET requests.
    #[must_use]
    pub fn static_dir(self, directory: impl Into<PathBuf>) -> Self {
        Self { static_dir: Some(directory.into()), ..self }
    }

    /// When [`Gateway::serve`] compacts the store's databases while it runs
    /// ([`Store::keep_compacted`]); `None` for never. The default policy if not said.
    #[must_use]
    pub fn compaction(self, policy: Option<CompactionPolicy>) -> Self {
        Self { compaction: policy, ..self }
    }

    /// Whether clients of the npm package `pouch-websocket-sync` are served, which ask for no
    /// subprotocol; they are by default. Without it they are refused with 400.
    #[must_use]
    pub fn legacy(self, legacy: bool) -> Self {
        Self { legacy, ..self }
    }

    /// The gateway.
    ///
    /// # Errors
    /// [`ServerError`] for a setting that cannot work.
    pub fn build(self) -> Result<Gateway, ServerError> {
        self.limits.validate()?;
        self.compaction.iter().try_for_each(CompactionPolicy::validate)?;
        for origin in &self.origins.allowed {
            let host = origin.split_once("://").map(|(_, host)| host);
            if !host.is_some_and(|host| !host.is_empty() && !host.contains('/')) {
                return Err(ServerError::Origin { origin: origin.clone() });
            }
        }
        let events = Arc::new(Hub::new(&self.limits));
        let shared = Shared {
            census: Census::new(&self.limits),
            sessions: Sessions::new(
                Duration::from_secs(self.limits.session_timeout_s),
                self.limits.sessions_max,
            ),
            compactions: Compactions::default(),
            db_log: DbLog::new(&self.store),
            store: self.store,
            authorizer: self.authorizer,
            server_authorizer: self.server_authorizer,
            limits: self.limits,
            origins: self.origins,
            static_dir: self.static_dir,
            compaction: self.compaction,
            legacy: self.legacy,
            channels: Mutex::default(),
            tails: Arc::default(),
            events,
            channel_numbers: AtomicU64::new(0),
            revocations: AtomicU64::new(0),
            stopping: watch::Sender::new(false),
        };
        Ok(Gateway { shared: Arc::new(shared) })
    }
}

impl Gateway {
    /// Begins to set up a gateway for a store.
    #[must_use]
    pub fn builder(store: Store) -> GatewayBuilder {
        GatewayBuilder {
            store,
            authorizer: Arc::new(DenyAll),
            server_authorizer: Arc::new(DenyAll),
            limits: Limits::default(),
            origins: Origins::default(),
            static_dir: None,
            compaction: Some(CompactionPolicy::default()),
            legacy: true,
        }
    }

    /// Ephemeral events and presence.
    #[must_use]
    pub fn events(&self) -> Events {
        Events::new(Arc::clone(&self.shared.events))
    }

    /// The store it serves.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Takes connections until `shutdown` is ready, then stops: no new connections or calls, calls
    /// in progress get `drain_timeout_ms`, then every connection is closed with code 1012. Returns
    /// when the last connection has ended. Databases are compacted meanwhile, unless
    /// [`GatewayBuilder::compaction`] said otherwise; that ends first.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection at once.
    pub async fn serve<L: Listener>(&self, listener: L, shutdown: impl Future<Output = ()> + Send) {
        accept::serve(self, listener, shutdown).await;
    }

    /// The gateway's routes, to be mounted in a program's own warp server. That server keeps its own
    /// bounds on headers and connections; the gateway keeps those from the upgrade on. Compaction is
    /// the program's: [`Store::keep_compacted`].
    #[must_use]
    pub fn filter(&self) -> BoxedFilter<(warp::reply::Response,)> {
        routes::routes(&self.shared).boxed()
    }

    /// Closes every open channel whose grant `condition` picks by user and database, telling the
    /// client `reason`. Returns how many. A channel that is being opened meanwhile is put to the
    /// authorizer once more, so deny there first and revoke then. A client that can get new credentials opens anew and is
    /// judged anew.
    pub fn revoke(&self, reason: &str, condition: impl Fn(Option<&str>, &DbName) -> bool) -> usize {
        let mut revoked = 0;
        // Before the look at the channels: one that comes after it sees this number.
        self.shared.revocations.fetch_add(1, Ordering::SeqCst);
        for channel in self.shared.open_channels() {
            let picked = channel.with_grant(|grant| condition(grant.user_name(), &grant.database));
            if picked {
                channel.end(Some(error::revoked(reason)));
                revoked += 1;
            }
        }
        revoked
    }

    /// Number of connections and of open channels.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.shared.census.connections(), self.shared.open_channels().len())
    }
}

impl Shared {
    async fn until_stopping(&self) {
        let mut stopping = self.stopping.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    }

    /// Counts revocations.
    fn revocations(&self) -> u64 {
        self.revocations.load(Ordering::SeqCst)
    }

    fn lock_channels(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_channels(&self) -> Vec<Arc<Channel>> {
        self.lock_channels().values().filter_map(Weak::upgrade).collect()
    }

    /// Makes a channel known, so that it can be revoked.
    fn enlist(&self, channel: &Arc<Channel>) -> u64 {
        let number = self.channel_numbers.fetch_add(1, Ordering::Relaxed);
        self.lock_channels().insert(number, Arc::downgrade(channel));
        number
    }

    fn delist(&self, number: u64) {
        self.lock_channels().remove(&number);
    }
}
