//! The gateway: many clients, one port, databases opened only if the authorizer says so.
//!
//! A connection is accepted ([`accept`](self)), upgraded to a WebSocket, and driven by one task that
//! feeds its messages to a [`Session`](crate::proto::session::Session); each call of a channel runs
//! in a task of its own that ends with the connection. This is the only module that names warp.

mod accept;
mod auth;
mod batch;
mod bounds;
mod calls;
mod census;
mod channel;
mod client_module;
mod connection;
mod error;
mod events;
mod granted;
mod handler;
mod http;
mod legacy;
mod life;
mod net;
mod observe;
mod opening;
mod outbox;
mod patching;
mod progress;
mod refused;
mod replication;
mod revocation;
#[cfg(test)]
mod rfc6455;
mod routes;
mod security;
mod server_feed;
mod socket;
mod state;
mod streams;
mod tail;
mod updates;
mod validator;
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
    AccessRequest, Authorizer, Credentials, Denied, DeniedKind, Grant, ServerAuthorizer,
    ServerGrant, ServerRequest,
};
pub use error::ServerError;
pub use events::{Dispatch, DispatchedEvent, Dispatches, Events, SendError};
pub use handler::{Fetch, FetchHandler, Handled, PickDatabases, WriteHandler};
pub use life::{
    Activity, Closing, ClosingCause, DatabaseClient, GatewayStats, IgnoredError, IgnoredIn,
    LifeCycle, OpenDatabase, Opening, SessionInfo, Watch,
};
pub use net::{Endpoint, ForwardedHeader, TlsError, TlsIdentity};
pub use observe::{Act, Audit, AuditEvent, MetricsAccess};
pub use revocation::{Rejudged, Revocation, Revoked};
use tokio::sync::watch;
pub use validator::{ProposedWrite, Validator};
use warp::Filter;
use warp::filters::BoxedFilter;

use self::http::{Backups, Compactions, DbLog, Sessions};
use crate::doc::{DbName, MergePolicy};
use crate::limits::Limits;
use crate::store::{CompactionPolicy, QuotaRule, Store, TombstonePolicy};
use crate::transport::Listener;
use auth::DenyAll;
use bounds::{Logins, Memory, Requests};
use census::Census;
use channel::Channel;
use events::Hub;
use handler::Handlers;
use life::{Life, LifeSettings};
use net::Proxies;
use observe::Observed;
use replication::Replications;
use revocation::Blocks;
use server_feed::ServerFeeds;
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
    validators: Vec<Arc<dyn Validator>>,
    write_handlers: Handlers<dyn WriteHandler>,
    fetch_handlers: Handlers<dyn FetchHandler>,
    merge_policies: Handlers<MergePolicy>,
    sessions: Sessions,
    compactions: Compactions,
    backups: Backups,
    replications: Replications,
    db_log: DbLog,
    limits: Limits,
    origins: Origins,
    static_dir: Option<PathBuf>,
    compaction: Option<CompactionPolicy>,
    tombstones: Option<TombstonePolicy>,
    /// Whether a WebSocket without a subprotocol speaks the protocol of 2015.
    legacy: bool,
    census: Census,
    proxies: Proxies,
    requests: Requests,
    logins: Logins,
    memory: Memory,
    observed: Arc<Observed>,
    metrics_access: MetricsAccess,
    /// Open channels by a number of their own. Held for moments only.
    channels: Mutex<HashMap<u64, Weak<Channel>>>,
    feeds: ServerFeeds,
    blocks: Blocks,
    tails: Arc<Tails>,
    events: Arc<Hub>,
    life: Arc<Life>,
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
    validators: Vec<Arc<dyn Validator>>,
    write_handlers: Handlers<dyn WriteHandler>,
    fetch_handlers: Handlers<dyn FetchHandler>,
    merge_policies: Handlers<MergePolicy>,
    limits: Limits,
    origins: Origins,
    static_dir: Option<PathBuf>,
    compaction: Option<CompactionPolicy>,
    tombstones: Option<TombstonePolicy>,
    quotas: Vec<QuotaRule>,
    backup_bytes_per_second_max: Option<u64>,
    legacy: bool,
    trusted_proxies: Vec<String>,
    forwarded_header: ForwardedHeader,
    metrics_access: MetricsAccess,
    audit: Option<Arc<dyn Audit>>,
    life: LifeSettings,
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

    /// Judges every document that anybody writes, before the validators of the grant; may be called
    /// again for more. [`crate::validate`] has ready ones.
    #[must_use]
    pub fn validator(mut self, validator: impl Validator) -> Self {
        self.validators.push(Arc::new(validator));
        self
    }

    /// Takes part in what clients write to some databases; may be called again for more, which are
    /// asked in order, each about what those before it made.
    #[must_use]
    pub fn write_handler(
        mut self,
        databases: impl PickDatabases,
        handler: impl WriteHandler,
    ) -> Self {
        self.write_handlers.push((Arc::new(databases), Arc::new(handler)));
        self
    }

    /// Takes part in what clients read from some databases; may be called again for more.
    #[must_use]
    pub fn fetch_handler(
        mut self,
        databases: impl PickDatabases,
        handler: impl FetchHandler,
    ) -> Self {
        self.fetch_handlers.push((Arc::new(databases), Arc::new(handler)));
        self
    }

    /// Merges conflicts that writes of clients bring into some databases, as far as the policy can
    /// ([`Database::merge_conflicts`](crate::Database::merge_conflicts)); of several for one database
    /// the first counts.
    #[must_use]
    pub fn merge_policy(mut self, databases: impl PickDatabases, policy: MergePolicy) -> Self {
        self.merge_policies.push((Arc::new(databases), Arc::new(policy)));
        self
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

    /// Which tombstones [`Gateway::serve`] purges while it runs
    /// ([`Store::keep_tombstones_purged`]); none by default.
    #[must_use]
    pub fn tombstones(self, policy: Option<TombstonePolicy>) -> Self {
        Self { tombstones: policy, ..self }
    }

    /// How much databases may hold ([`Store::set_quotas`]), instead of what was set for the store.
    #[must_use]
    pub fn quotas(self, rules: Vec<QuotaRule>) -> Self {
        Self { quotas: rules, ..self }
    }

    /// How fast backups are taken over HTTP at most; as fast as they are read by default.
    #[must_use]
    pub fn backup_bytes_per_second_max(self, max: Option<u64>) -> Self {
        Self { backup_bytes_per_second_max: max, ..self }
    }

    /// Whether clients of the npm package `pouch-websocket-sync` are served, which ask for no
    /// subprotocol; they are by default. Without it they are refused with 400.
    #[must_use]
    pub fn legacy(self, legacy: bool) -> Self {
        Self { legacy, ..self }
    }

    /// Believes these peers whom they speak for: addresses, networks like `10.0.0.0/8`, and the word
    /// `unix` for peers without an address. The client's address is then what limits, logs and
    /// authorizers see, and the host and scheme it asked for are what its `Origin` is compared with.
    /// Of every other peer such headers are ignored. None where not said.
    #[must_use]
    pub fn trusted_proxies<I: IntoIterator<Item = String>>(mut self, proxies: I) -> Self {
        self.trusted_proxies.extend(proxies);
        self
    }

    /// Which headers of a trusted proxy count; `X-Forwarded-For` and its like where not said.
    #[must_use]
    pub fn forwarded_header(self, forwarded_header: ForwardedHeader) -> Self {
        Self { forwarded_header, ..self }
    }

    /// Who may read `/_metrics`; whoever administers the gateway if not said.
    #[must_use]
    pub fn metrics(self, access: MetricsAccess) -> Self {
        Self { metrics_access: access, ..self }
    }

    /// Tells who opened and wrote what, who was refused, and what was administered.
    #[must_use]
    pub fn audit(self, audit: impl Audit) -> Self {
        Self { audit: Some(Arc::new(audit)), ..self }
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
        let proxies = Proxies::new(&self.trusted_proxies, self.forwarded_header)
            .map_err(|entry| ServerError::Proxy { entry })?;
        let life = Life::new(&self.store, self.life, &self.limits, &self.quotas);
        if !self.quotas.is_empty() {
            self.store.set_quotas(self.quotas);
        }
        let events = Arc::new(Hub::new(&self.limits));
        let shared = Shared {
            census: Census::new(&self.limits),
            proxies,
            requests: Requests::new(&self.limits),
            logins: Logins::new(&self.limits),
            memory: Memory::new(&self.limits),
            observed: Observed::new(&self.store, self.audit, life.ignored.clone()),
            metrics_access: self.metrics_access,
            sessions: Sessions::new(
                Duration::from_secs(self.limits.session_timeout_s),
                self.limits.sessions_max,
            ),
            compactions: Compactions::default(),
            backups: Backups::new(self.backup_bytes_per_second_max),
            replications: Replications::default(),
            db_log: DbLog::new(&self.store),
            store: self.store,
            authorizer: self.authorizer,
            server_authorizer: self.server_authorizer,
            validators: self.validators,
            write_handlers: self.write_handlers,
            fetch_handlers: self.fetch_handlers,
            merge_policies: self.merge_policies,
            limits: self.limits,
            origins: self.origins,
            static_dir: self.static_dir,
            compaction: self.compaction,
            tombstones: self.tombstones,
            legacy: self.legacy,
            channels: Mutex::default(),
            feeds: ServerFeeds::default(),
            blocks: Blocks::default(),
            tails: Arc::default(),
            events,
            life,
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
            validators: Vec::new(),
            write_handlers: Vec::new(),
            fetch_handlers: Vec::new(),
            merge_policies: Vec::new(),
            limits: Limits::default(),
            origins: Origins::default(),
            static_dir: None,
            compaction: Some(CompactionPolicy::default()),
            tombstones: None,
            quotas: Vec::new(),
            backup_bytes_per_second_max: None,
            legacy: true,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
            metrics_access: MetricsAccess::default(),
            audit: None,
            life: LifeSettings::default(),
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
    /// [`GatewayBuilder::compaction`] said otherwise; that ends first. Continuous replications that
    /// were asked for with `_replicate` go on meanwhile.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection at once.
    pub async fn serve<L: Listener>(&self, listener: L, shutdown: impl Future<Output = ()> + Send) {
        accept::serve(self, accept::Plain(listener), shutdown).await;
    }

    /// The same as [`serve`](Self::serve) at several places: TCP with and without TLS, Unix sockets,
    /// behind proxies or not.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection at once.
    pub async fn serve_endpoints(
        &self,
        endpoints: Vec<Endpoint>,
        shutdown: impl Future<Output = ()> + Send,
    ) {
        accept::serve(self, accept::Several(endpoints), shutdown).await;
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
    /// authorizer once more, so deny there first and revoke then. A client that can get new
    /// credentials opens anew and is judged anew. [`revoke_grants`](Self::revoke_grants) reaches
    /// sessions and feeds of the server too.
    pub fn revoke(&self, reason: &str, condition: impl Fn(Option<&str>, &DbName) -> bool) -> usize {
        let mut revoked = 0;
        // Before the look at the channels: one that comes after it sees this number.
        self.shared.begin_revocation();
        for channel in self.shared.open_channels() {
            let picked = channel.with_grant(|grant| condition(grant.user_name(), &grant.database));
            if picked {
                self.shared.end_revoked(&channel, reason);
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

    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
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
