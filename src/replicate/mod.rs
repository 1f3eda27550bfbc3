//! The replicator: one algorithm over two [`Peer`]s, and the handle of a running sync.
//!
//! It is CouchDB's replication protocol: read the source's changes, find out what the target lacks,
//! fetch and write it with its history, and keep checkpoints on both sides. Between a local database
//! and a gateway both directions run at once over one channel; see [`flow`](self) for one direction,
//! [`events`] for what a sync tells.

#[cfg(any(feature = "client", feature = "http-peer"))]
mod backoff;
mod checkpoints;
mod denied;
pub mod events;
mod flow;
pub(crate) mod groups;
pub(crate) mod local_peer;
pub mod peer;
mod tally;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt as _};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

#[cfg(any(feature = "client", feature = "http-peer"))]
pub use backoff::Backoff;
#[cfg(feature = "server")]
pub(crate) use checkpoints::Reach;
pub use denied::DeniedDoc;
pub(crate) use denied::DeniedList;
pub use events::{
    ChangeEvent, DeniedEvent, Direction, DirectionSummary, PauseCause, SyncError, SyncEvent,
    SyncState, SyncStatus, SyncSummary, WrittenRev,
};
pub(crate) use events::{EventStream, Reporter};
pub(crate) use flow::{Flow, FlowContext, Look, Moved};
pub use local_peer::LocalPeer;
pub use peer::{Peer, PeerError};
#[cfg(feature = "server")]
pub(crate) use tally::Tally;

use crate::doc::{DocId, Selector};
use crate::store::{ChangesOptions, Database, Order, StoreError, Style, Uuid};

/// Changes read from a local database at a time.
const BATCH_SIZE_DEFAULT: usize = 500;

/// Which way documents shall go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Directions {
    /// Both ways.
    #[default]
    Both,
    /// From the local to the remote database.
    PushOnly,
    /// From the remote to the local database.
    PullOnly,
}

impl Directions {
    pub(crate) fn list(self) -> &'static [Direction] {
        match self {
            Self::Both => &[Direction::Push, Direction::Pull],
            Self::PushOnly => &[Direction::Push],
            Self::PullOnly => &[Direction::Pull],
        }
    }
}

/// Whether a sync ends when both sides are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It ends when there is nothing more to exchange.
    #[default]
    OneShot,
    /// It goes on with every change until it is cancelled.
    Live,
}

/// What a replication does; the part of a sync's options that does not concern a connection.
#[derive(Debug, Clone)]
pub struct ReplicationOptions {
    /// Which way.
    pub directions: Directions,
    /// For how long.
    pub lifetime: Lifetime,
    /// Only these documents.
    pub doc_ids: Option<Vec<DocId>>,
    /// Only revisions that it lets pass, and their tombstones; see [`Database::admits`].
    pub selector: Option<Selector>,
    /// Changes read from a local database at a time; 500 where not said.
    pub batch_size: usize,
    /// Whether to resume from checkpoints and write them.
    pub checkpoints: bool,
}

impl Default for ReplicationOptions {
    fn default() -> Self {
        Self {
            directions: Directions::default(),
            lifetime: Lifetime::default(),
            doc_ids: None,
            selector: None,
            batch_size: BATCH_SIZE_DEFAULT,
            checkpoints: true,
        }
    }
}

/// Replicates two databases of this process; `push` goes from `a` to `b`.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use settee::{DbName, Document, Store, replicate::{replicate, ReplicationOptions}};
/// let (here, there) = (Store::memory(), Store::memory());
/// let name = DbName::parse("todos")?;
/// let (a, b) = (here.create(&name).await?, there.create(&name).await?);
/// a.put(Document::new("milk", &serde_json::json!({"done": false}))?).await?;
/// let summary = replicate(&a, &b, ReplicationOptions::default()).finished().await?;
/// assert_eq!(summary.push.unwrap().docs_written, 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping the handle cancels the replication"]
pub fn replicate(a: &Database, b: &Database, options: ReplicationOptions) -> Sync {
    let names = (a.name().to_string(), b.name().to_string());
    let remote: Arc<dyn Peer> = Arc::new(LocalPeer(b.clone()));
    Sync::start(a, options, move |run| async move {
        let failed = tokio::select! {
            ended = run.flows(&remote) => ended.err(),
            gone = run.local_gone() => Some(gone),
        };
        let (local, remote) = names;
        run.end(failed.map(|source| SyncError { local, remote, source }));
    })
}

/// A running sync: a stream of its events, and the means to look at it and to end it.
///
/// Dropping it cancels the sync without waiting; what was written stays, and a later sync resumes
/// from the last checkpoint.
#[must_use = "dropping the handle cancels the sync"]
pub struct Sync {
    database: Database,
    events: EventStream,
    status: watch::Receiver<SyncStatus>,
    stop: watch::Sender<bool>,
    denied: Arc<DeniedList>,
    retry: Arc<[Notify; 2]>,
    pushes: bool,
    doc_ids: Option<Vec<DocId>>,
    selector: Option<Selector>,
    task: JoinHandle<()>,
}

impl fmt::Debug for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.borrow();
        f.debug_struct("Sync")
            .field("database", &self.database)
            .field("status", &*status)
            .finish_non_exhaustive()
    }
}

impl Drop for Sync {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stream for Sync {
    type Item = SyncEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SyncEvent>> {
        self.events.poll_next_unpin(cx)
    }
}

impl Sync {
    pub(crate) fn start<R, F>(database: &Database, options: ReplicationOptions, run: R) -> Self
    where
        R: FnOnce(SyncRun) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let reporter = Reporter::new(options.directions.list());
        let keeper: Arc<dyn Peer> = Arc::new(LocalPeer(database.clone()));
        let denied = Arc::new(DeniedList::new(keeper));
        let (stop, stopped) = watch::channel(false);
        let retry = Arc::new([Notify::new(), Notify::new()]);
        let pushes = options.directions != Directions::PullOnly;
        let (doc_ids, selector) = (options.doc_ids.clone(), options.selector.clone());
        let context = FlowContext {
            reporter: reporter.clone(),
            denied: Arc::clone(&denied),
            session_id: new_session_id(),
            live: options.lifetime == Lifetime::Live,
            checkpoints: options.checkpoints,
            batch_size: options.batch_size,
            doc_ids: doc_ids.clone(),
            selector: selector.clone(),
            stop: stopped,
            retry: Arc::clone(&retry),
            reached: Arc::default(),
            since: None,
            tally: Arc::default(),
        };
        let (pushed, pulled) = (Moved::default(), Moved::default());
        let run = run(SyncRun { database: database.clone(), options, context, pushed, pulled });
        Self {
            database: database.clone(),
            events: reporter.events(),
            status: reporter.status(),
            stop,
            denied,
            retry,
            pushes,
            doc_ids,
            selector,
            task: tokio::spawn(run),
        }
    }

    /// Ends the sync: what is being written is finished, a last checkpoint is written. The stream
    /// then ends with [`SyncEvent::Complete`], or with the error that came first.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the sync ending; calling again waits again.
    pub async fn cancel(&mut self) {
        self.stop.send_replace(true);
        // A sync that is gone has ended.
        let _ = self.status.wait_for(|status| status.state == SyncState::Ended).await;
    }

    /// Where the sync stands.
    #[must_use]
    pub fn status(&self) -> SyncStatus {
        self.status.borrow().clone()
    }

    /// Told of every change of the status.
    #[must_use]
    pub fn watch_status(&self) -> watch::Receiver<SyncStatus> {
        self.status.clone()
    }

    /// Waits until everything that is in the local database now has been pushed, and everything that
    /// the other side has told of has been pulled. Documents that were refused do not count: they are
    /// in [`Sync::denied`].
    ///
    /// # Errors
    /// [`NotUpToDate`] if the sync ends before. One that is not live ends as soon as it is up to date,
    /// so wait for its end instead: [`Sync::finished`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn up_to_date(&mut self) -> Result<(), NotUpToDate> {
        let ended = |_| NotUpToDate;
        let seq = if self.pushes { self.last_local_change().await? } else { 0 };
        let reached = self.status.wait_for(|status| {
            let settled = matches!(status.state, SyncState::UpToDate | SyncState::SomeDenied);
            status.state == SyncState::Ended || settled && status.pushed_seq >= seq
        });
        let status = reached.await.map_err(ended)?;
        if status.state == SyncState::Ended { Err(NotUpToDate) } else { Ok(()) }
    }

    /// The place of the last local change that this sync is to push.
    async fn last_local_change(&self) -> Result<u64, NotUpToDate> {
        let options = ChangesOptions {
            doc_ids: self.doc_ids.clone(),
            selectors: self.selector.iter().cloned().collect(),
            style: Style::AllDocs,
            order: Order::Descending,
            limit: Some(1),
            ..ChangesOptions::default()
        };
        let last = self.database.changes(&options).await.map_err(|_| NotUpToDate)?;
        Ok(last.rows.first().map_or(0, |row| row.seq.number))
    }

    /// Documents that were refused and not taken since, in either direction.
    #[must_use]
    pub fn denied(&self) -> Vec<DeniedDoc> {
        self.denied.list()
    }

    /// Has the documents of [`Sync::denied`] tried again now. They are also tried again with every
    /// new connection, and when they are edited.
    pub fn retry_denied(&self) {
        self.retry.iter().for_each(Notify::notify_one);
    }

    /// Waits for the sync's end.
    ///
    /// # Errors
    /// [`SyncError`] if it failed.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the sync.
    pub async fn finished(mut self) -> Result<SyncSummary, SyncError> {
        while let Some(event) = self.next().await {
            match event {
                SyncEvent::Complete(summary) => return Ok(summary),
                SyncEvent::Error(error) => return Err(error),
                _ => {}
            }
        }
        // The end was read from the stream before.
        Ok(SyncSummary::default())
    }
}

/// The sync ended before it was up to date; its events say why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sync ended before it was up to date")]
pub struct NotUpToDate;

/// A sync from inside.
pub(crate) struct SyncRun {
    pub database: Database,
    pub options: ReplicationOptions,
    pub context: FlowContext,
    pushed: Moved,
    pulled: Moved,
}

impl SyncRun {
    /// Runs the directions asked for with one remote peer until they end or one fails.
    pub(crate) async fn flows(&self, remote: &Arc<dyn Peer>) -> Result<(), PeerError> {
        let directions = self.options.directions.list();
        self.context.reporter.connected(directions);
        self.look(remote, Look::First).await?;
        // What one direction wrote stands at the end of the feed that the other has read before:
        // told apart now, while both remember it, it need not be read by the next run.
        let again = directions.len() > 1 && !self.context.live;
        if again && !*self.context.stop.borrow() {
            self.look(remote, Look::Again).await?;
        }
        Ok(())
    }

    async fn look(&self, remote: &Arc<dyn Peer>, look: Look) -> Result<(), PeerError> {
        let flows = self.options.directions.list().iter().map(|direction| {
            let local: Arc<dyn Peer> = Arc::new(LocalPeer(self.database.clone()));
            let remote = Arc::clone(remote);
            let (source, target, here, there) = match direction {
                Direction::Push => (local, remote, &self.pushed, &self.pulled),
                Direction::Pull => (remote, local, &self.pulled, &self.pushed),
            };
            let moved = (Arc::clone(here), Arc::clone(there));
            Flow::new(self.context.clone(), *direction, source, target, moved).run(look)
        });
        futures::future::try_join_all(flows).await?;
        Ok(())
    }

    /// Returns when the local database has been destroyed.
    pub(crate) fn local_gone(&self) -> impl Future<Output = PeerError> + Send + 'static {
        let database = self.database.clone();
        async move {
            database.destroyed().await;
            StoreError::DatabaseDestroyed { name: database.name().clone() }.into()
        }
    }

    /// Ends the sync, with an error or without.
    pub(crate) fn end(&self, error: Option<SyncError>) {
        self.context.reporter.end(error, *self.context.stop.borrow());
    }
}

pub(crate) fn new_session_id() -> String {
    Uuid::random().expect("the system has randomness once it has booted").to_string()
}

impl From<crate::doc::ParseError> for PeerError {
    fn from(error: crate::doc::ParseError) -> Self {
        Self::Store(StoreError::Malformed(error))
    }
}
