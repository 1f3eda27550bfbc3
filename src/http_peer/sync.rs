//! A sync of a local database with one behind HTTP, kept going over lost connections.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::replicate::{
    Backoff, Lifetime, PauseCause, Peer, PeerError, ReplicationOptions, Sync, SyncError, SyncRun,
};
use crate::store::Database;

use super::peer::HttpPeer;
use super::remote::Remote;

/// How to replicate over HTTP.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Which way, for how long, which documents.
    pub replication: ReplicationOptions,
    /// Whether to make the remote database if it is not there.
    pub create: bool,
    /// Whether to go on when the server cannot be reached. Where not said, a live sync does and a
    /// one-shot sync does not and fails.
    pub retry: Option<bool>,
    /// Nothing coming from the server for so long means that it is lost; 60 seconds.
    pub silence_timeout: Duration,
    /// How often one request is sent again, after growing pauses or when the server says, before
    /// the server counts as lost; 3. The request that looks the database up is sent once.
    pub request_retries: u32,
    /// The pauses between attempts.
    pub backoff: Backoff,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            replication: ReplicationOptions::default(),
            create: false,
            retry: None,
            silence_timeout: Duration::from_secs(60),
            request_retries: 3,
            backoff: Backoff::default(),
        }
    }
}

/// A connection that lived this long counts as a success: the pauses begin anew.
const SETTLED: Duration = Duration::from_secs(5);

/// How long a cancelled sync may take to finish what it is writing.
const CANCEL_WAIT: Duration = Duration::from_secs(10);

/// Syncs a local database with one behind CouchDB's HTTP API.
///
/// Both sides keep checkpoints, so a later sync goes on where this one came to. Tombstones,
/// conflicts and attachments come along; a document that the other side refuses becomes
/// [`SyncEvent::Denied`](crate::SyncEvent::Denied) and is tried again later.
///
/// ```no_run
/// # async fn run(db: settee::Database) -> Result<(), Box<dyn std::error::Error>> {
/// use settee::http_peer::{HttpOptions, Remote, sync};
/// let remote: Remote = "https://anna:secret@couch.example/todos".parse()?;
/// let summary = sync(&db, remote, HttpOptions::default()).finished().await?;
/// println!("pulled {:?}", summary.pull);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping the handle cancels the sync"]
pub fn sync(database: &Database, remote: Remote, options: HttpOptions) -> Sync {
    let retry = options.retry.unwrap_or(options.replication.lifetime == Lifetime::Live);
    let replication = options.replication.clone();
    Sync::start(database, replication, move |run| Driver { run, remote, options, retry }.run())
}

struct Driver {
    run: SyncRun,
    remote: Remote,
    options: HttpOptions,
    retry: bool,
}

impl Driver {
    async fn run(self) {
        let context = self.run.context.clone();
        // A cancelled sync ends by itself; this bounds how long it may take to finish its writes.
        let cancelled = async {
            context.until_stopped().await;
            sleep(CANCEL_WAIT).await;
        };
        let error = tokio::select! {
            error = self.keep() => error,
            () = cancelled => None,
            gone = self.run.local_gone() => Some(gone),
        };
        let local = self.run.database.name().to_string();
        let remote = self.remote.to_string();
        self.run.end(error.map(|source| SyncError { local, remote, source }));
    }

    /// Syncs again and again until the sync is done or fails.
    async fn keep(&self) -> Option<PeerError> {
        let mut failures = 0u32;
        loop {
            let began = Instant::now();
            let error = match self.once().await {
                Ok(()) => return None,
                Err(error) => error,
            };
            if !self.retry || !error.is_transient() {
                return Some(error);
            }
            let cause = error.to_string();
            self.run.context.reporter.interrupted(PauseCause::Offline { cause });
            failures = if began.elapsed() >= SETTLED { 1 } else { failures.saturating_add(1) };
            tokio::select! {
                () = sleep(self.options.backoff.jittered(failures)) => {}
                () = self.run.context.until_stopped() => return None,
            }
        }
    }

    async fn once(&self) -> Result<(), PeerError> {
        let limits = self.run.database.limits().clone();
        let connecting = HttpPeer::connect(self.remote.clone(), &self.options, limits);
        let peer = tokio::select! {
            peer = connecting => peer?,
            () = self.run.context.until_stopped() => return Ok(()),
        };
        let remote: Arc<dyn Peer> = Arc::new(peer);
        self.run.flows(&remote).await
    }
}
