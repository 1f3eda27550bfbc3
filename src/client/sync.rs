//! A sync over a client's connection: opens a channel whenever there is a connection, and keeps its
//! credentials fresh.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::doc::{DocId, Selector};
use crate::proto::message::{OpenRequest, Opened};
use crate::replicate::{
    Backoff, Directions, Lifetime, PauseCause, Peer, PeerError, ReplicationOptions, Sync,
    SyncError, SyncRun,
};
use crate::store::Database;

use super::channel_peer::ChannelPeer;
use super::link::{Channel, Link};
use super::{Client, LinkState};

/// What to show a gateway to be let in.
#[derive(Clone, Default)]
pub enum CredentialsSource {
    /// Nothing.
    #[default]
    None,
    /// The same value always.
    Value(Value),
    /// Asked for every channel, before a grant ends, and after a refusal.
    Ask(Arc<dyn Fn() -> BoxFuture<'static, Value> + Send + std::marker::Sync>),
}

impl CredentialsSource {
    pub(super) async fn get(&self) -> Value {
        match self {
            Self::None => Value::Null,
            Self::Value(value) => value.clone(),
            Self::Ask(ask) => ask().await,
        }
    }

    pub(super) fn can_be_asked(&self) -> bool {
        matches!(self, Self::Ask(_))
    }
}

impl From<Value> for CredentialsSource {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Value(_) => "Value(…)",
            Self::Ask(_) => "Ask(…)",
        })
    }
}

/// What a sync with a gateway does.
///
/// ```
/// use settee::SyncOptions;
/// let options = SyncOptions::live("todos").pull_only().credentials(serde_json::json!({"token": "x"}));
/// ```
#[derive(Debug, Clone, Default)]
pub struct SyncOptions {
    remote_name: Option<String>,
    credentials: CredentialsSource,
    create: bool,
    retry: Option<bool>,
    replication: ReplicationOptions,
}

impl SyncOptions {
    /// A sync that ends when both sides are equal, with the database of this name behind the
    /// gateway; an empty name stands for the local database's own.
    #[must_use]
    pub fn one_shot(remote_name: impl Into<String>) -> Self {
        let remote_name = Some(remote_name.into()).filter(|name| !name.is_empty());
        Self { remote_name, ..Self::default() }
    }

    /// A sync that goes on until it is cancelled.
    #[must_use]
    pub fn live(remote_name: impl Into<String>) -> Self {
        let mut options = Self::one_shot(remote_name);
        options.replication.lifetime = Lifetime::Live;
        options
    }

    /// Shows this value to the gateway.
    #[must_use]
    pub fn credentials(self, credentials: Value) -> Self {
        Self { credentials: CredentialsSource::Value(credentials), ..self }
    }

    /// Asks this function for credentials: for every new channel, shortly before a grant ends, and
    /// after a refusal.
    #[must_use]
    pub fn credentials_from<F, Fut>(self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + std::marker::Sync + 'static,
        Fut: Future<Output = Value> + Send + 'static,
    {
        let ask = Arc::new(move || -> BoxFuture<'static, Value> { Box::pin(ask()) });
        Self { credentials: CredentialsSource::Ask(ask), ..self }
    }

    /// Asks the gateway to make the database if it is not there; the grant must allow it.
    #[must_use]
    pub fn create(self) -> Self {
        Self { create: true, ..self }
    }

    /// Only to the remote database.
    #[must_use]
    pub fn push_only(mut self) -> Self {
        self.replication.directions = Directions::PushOnly;
        self
    }

    /// Only from the remote database.
    #[must_use]
    pub fn pull_only(mut self) -> Self {
        self.replication.directions = Directions::PullOnly;
        self
    }

    /// Only these documents.
    #[must_use]
    pub fn doc_ids(mut self, ids: impl IntoIterator<Item = DocId>) -> Self {
        self.replication.doc_ids = Some(ids.into_iter().collect());
        self
    }

    /// Only revisions that a selector lets pass, and their tombstones, in either direction; see
    /// [`Database::admits`]. A document that matches no more stays as it was on the other side.
    ///
    /// ```
    /// use settee::{Selector, SyncOptions};
    /// let mine = Selector::from_value(&serde_json::json!({"owner": "anna"}))?;
    /// let options = SyncOptions::live("todos").selector(mine);
    /// # Ok::<(), settee::doc::SelectorError>(())
    /// ```
    #[must_use]
    pub fn selector(mut self, selector: Selector) -> Self {
        self.replication.selector = Some(selector);
        self
    }

    /// Changes read from the local database at a time; 500 where not said.
    #[must_use]
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.replication.batch_size = batch_size.max(1);
        self
    }

    /// Neither resumes from checkpoints nor writes them.
    #[must_use]
    pub fn without_checkpoints(mut self) -> Self {
        self.replication.checkpoints = false;
        self
    }

    /// Whether to wait for another connection when there is none. A live sync does unless told
    /// otherwise, a one-shot sync does not and fails.
    #[must_use]
    pub fn retry(self, retry: bool) -> Self {
        Self { retry: Some(retry), ..self }
    }
}

pub(super) fn start(client: Client, database: &Database, options: SyncOptions) -> Sync {
    let remote_name = options.remote_name.clone().unwrap_or_else(|| database.name().to_string());
    let retry = options.retry.unwrap_or(options.replication.lifetime == Lifetime::Live);
    let replication = options.replication.clone();
    Sync::start(database, replication, move |run| {
        let driver = Driver {
            // A client lives as long as its syncs.
            link: client.watch_link(),
            _client: client,
            remote_name,
            credentials: options.credentials,
            create: options.create,
            retry,
            run,
        };
        driver.run()
    })
}

struct Driver {
    _client: Client,
    link: watch::Receiver<LinkState>,
    remote_name: String,
    credentials: CredentialsSource,
    create: bool,
    retry: bool,
    run: SyncRun,
}

/// How one connection's part of a sync ended.
enum Outcome {
    /// Both directions are done, or the sync was cancelled.
    Done,
    /// The connection was lost, or the gateway has no room at present.
    Interrupted(PeerError),
    /// The gateway wants other credentials.
    Unauthorized(PeerError),
    /// It cannot go on.
    Failed(PeerError),
}

impl Driver {
    async fn run(mut self) {
        let context = self.run.context.clone();
        // A cancelled sync ends by itself; this bounds how long it may take to finish its writes.
        let cancelled = async {
            context.until_stopped().await;
            sleep(CANCEL_WAIT).await;
        };
        let local_gone = self.run.local_gone();
        let error = tokio::select! {
            error = self.keep() => error,
            () = cancelled => None,
            gone = local_gone => Some(gone),
        };
        let local = self.run.database.name().to_string();
        let remote = self.remote_name.clone();
        self.run.end(error.map(|source| SyncError { local, remote, source }));
    }

    /// Syncs over one connection after another, until the sync is done or fails.
    async fn keep(&mut self) -> Option<PeerError> {
        let backoff = Backoff::default();
        let (mut refusals, mut failures) = (0u32, 0u32);
        loop {
            let link = match self.wait_for_link().await {
                Ok(Some(link)) => link,
                Ok(None) => return None,
                Err(error) => return Some(error),
            };
            let mut opened_at = None;
            let outcome = self.over(&link, &mut opened_at).await;
            let settled = opened_at.is_some_and(|at: Instant| at.elapsed() >= SETTLED);
            failures = if settled { 1 } else { failures.saturating_add(1) };
            refusals = if opened_at.is_some() { 1 } else { refusals.saturating_add(1) };
            match outcome {
                Outcome::Done => return None,
                Outcome::Failed(error) => return Some(error),
                Outcome::Interrupted(error) if !self.retry => return Some(error),
                Outcome::Interrupted(error) => {
                    let cause = error.to_string();
                    self.run.context.reporter.interrupted(PauseCause::Offline { cause });
                    refusals = 0;
                }
                Outcome::Unauthorized(error) => {
                    // A grant that had worked has ended: the same credentials may bring another.
                    let may_ask = self.credentials.can_be_asked() || opened_at.is_some();
                    if !may_ask || refusals > REFUSALS_MAX {
                        return Some(error);
                    }
                    let reason = error.to_string();
                    self.run.context.reporter.interrupted(PauseCause::AuthNeeded { reason });
                }
            }
            // A lost connection has its own pauses. A channel that worked is opened anew at once,
            // but not again and again.
            let at_once = link.has_ended() || opened_at.is_some() && failures == 1;
            if !at_once {
                tokio::select! {
                    () = sleep(backoff.jittered(failures)) => {}
                    () = self.run.context.until_stopped() => return None,
                }
            }
        }
    }

    /// The connection, once there is one. `None` when the sync is cancelled meanwhile.
    async fn wait_for_link(&mut self) -> Result<Option<Link>, PeerError> {
        loop {
            let state = self.link.borrow_and_update().clone();
            match state {
                LinkState::Up(link) if !link.has_ended() => return Ok(Some(link)),
                LinkState::Up(_) => {}
                LinkState::Closed => {
                    return Err(PeerError::Disconnected { cause: "the client was closed".into() });
                }
                LinkState::Down { cause, failures } => {
                    let cause = cause.to_string();
                    if failures > 0 {
                        if !self.retry {
                            return Err(PeerError::Disconnected { cause });
                        }
                        self.run.context.reporter.interrupted(PauseCause::Offline { cause });
                    }
                }
            }
            let context = self.run.context.clone();
            tokio::select! {
                changed = self.link.changed() => {
                    if changed.is_err() {
                        let cause = "the client was dropped".into();
                        return Err(PeerError::Disconnected { cause });
                    }
                }
                () = context.until_stopped() => return Ok(None),
            }
        }
    }

    /// Syncs over one connection. `opened_at` is set when the database was opened.
    async fn over(&self, link: &Link, opened_at: &mut Option<Instant>) -> Outcome {
        let opening = tokio::select! {
            opening = self.open(link) => opening,
            () = self.run.context.until_stopped() => return Outcome::Done,
        };
        let (channel, opened) = match opening {
            Ok(opened) => opened,
            Err(error) => return Outcome::of(error),
        };
        *opened_at = Some(Instant::now());
        let channel = Arc::new(channel);
        let limits = self.run.database.limits().clone();
        let remote: Arc<dyn Peer> =
            Arc::new(ChannelPeer::new(Arc::clone(&channel), opened.clone(), limits));
        tokio::select! {
            biased;
            ended = self.run.flows(&remote) => match ended {
                Ok(()) => Outcome::Done,
                Err(error) => Outcome::of(error),
            },
            error = channel.closed() => Outcome::of(error),
            () = self.refresh(&channel, &opened) => Outcome::Done,
        }
    }

    async fn open(&self, link: &Link) -> Result<(Channel, Opened), PeerError> {
        let request = OpenRequest {
            database: self.remote_name.clone(),
            credentials: self.credentials.get().await,
            create: self.create,
        };
        link.open(request).await
    }

    /// Shows new credentials before each grant ends. Never returns.
    async fn refresh(&self, channel: &Channel, opened: &Opened) {
        let mut expires_in_ms = opened.access.expires_in_ms;
        let mut granted = channel.watch_grant();
        loop {
            let Some(ms) = expires_in_ms.filter(|_| self.credentials.can_be_asked()) else {
                return std::future::pending().await;
            };
            // Early enough for the answer to arrive, and not at once again and again.
            let wait = Duration::from_millis(ms).mul_f64(0.8).max(REFRESH_MIN);
            sleep(wait).await;
            let credentials = self.credentials.get().await;
            if channel.credentials(credentials).await.is_err() || granted.changed().await.is_err() {
                return std::future::pending().await;
            }
            let latest = granted.borrow_and_update().clone();
            expires_in_ms = latest.and_then(|opened| opened.access.expires_in_ms);
        }
    }
}

/// How long a cancelled sync may take to finish what it is writing.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// A channel that was open for so long counts as a success.
const SETTLED: Duration = Duration::from_secs(1);

/// Refusals in a row before a sync that can ask for credentials gives up.
pub(super) const REFUSALS_MAX: u32 = 5;

/// Shortest time between two sets of credentials.
pub(super) const REFRESH_MIN: Duration = Duration::from_secs(1);

impl Outcome {
    fn of(error: PeerError) -> Self {
        if error.is_transient() {
            Self::Interrupted(error)
        } else if error.is_unauthorized() {
            Self::Unauthorized(error)
        } else {
            Self::Failed(error)
        }
    }
}
