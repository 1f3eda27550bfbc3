//! What a gateway tells of itself: metrics, audit events, who is connected.
//!
//! [`Observed`] belongs to the gateway. Each WebSocket, and each request of HTTP, has a [`Link`] to
//! it, through which everything that is done for it is told. Nothing here is waited for.

mod audit;
mod counted;
mod metrics;
mod process;
mod roll;
mod scrape;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE};

use crate::doc::{DbName, DocId, Rev};
use crate::proto::call::WriteRow;
use crate::proto::message::WireError;
use crate::store::{Database, Store};

pub use audit::{Act, Audit, AuditEvent};
pub(super) use counted::Counted;
use metrics::Metrics;
pub(super) use roll::Followed;
use roll::{Connected, Feeds, Roll};
use scrape::Slow;

use super::auth::Grant;
use super::life::{Ignored, IgnoredIn};
use super::outbox::Waiting;
use super::refused::is_denial;

/// Denials that are kept for the page.
const DENIALS_MAX: usize = 100;

/// Who may read `/_metrics`.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Whom the server's authorizer lets administer.
    #[default]
    Administrators,
    /// The same, and who shows this token (`Authorization: Bearer`).
    Token(String),
    /// Everybody who reaches the gateway.
    Everybody,
}

impl std::fmt::Debug for MetricsAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Administrators => "Administrators",
            Self::Token(_) => "Token(…)",
            Self::Everybody => "Everybody",
        })
    }
}

/// What is spoken over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    V1,
    Legacy,
    Http,
}

impl Spoken {
    pub(super) const ALL: [Self; 3] = [Self::V1, Self::Legacy, Self::Http];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::V1 => crate::proto::SUBPROTOCOL,
            Self::Legacy => "legacy",
            Self::Http => "http",
        }
    }
}

/// What is known of a gateway while it runs.
pub(super) struct Observed {
    pub began: SystemTime,
    metrics: Metrics,
    audit: Option<Arc<dyn Audit>>,
    ignored: Ignored,
    roll: Roll,
    feeds: Feeds,
    /// Oldest first.
    denials: Mutex<VecDeque<AuditEvent>>,
    slow: Mutex<Option<Slow>>,
}

impl Observed {
    pub(super) fn new(store: &Store, audit: Option<Arc<dyn Audit>>, ignored: Ignored) -> Arc<Self> {
        Arc::new(Self {
            began: SystemTime::now(),
            metrics: Metrics::new(store, audit.clone()),
            audit,
            ignored,
            roll: Roll::default(),
            feeds: Feeds::default(),
            denials: Mutex::default(),
            slow: Mutex::default(),
        })
    }

    /// Counts a limit that was reached, if it is one.
    pub(super) fn limit_hit(&self, limit: Option<&'static str>) {
        if let Some(limit) = limit {
            self.metrics.limit_hit(limit);
        }
    }

    /// A stream whose bytes are counted.
    pub(super) fn counted<S>(&self, stream: S) -> Counted<S> {
        Counted::new(stream, self.metrics.bytes())
    }

    /// The link of a request over HTTP.
    pub(super) fn request(
        self: &Arc<Self>,
        peer: Option<SocketAddr>,
        headers: &HeaderMap,
    ) -> Arc<Link> {
        let shows = headers.contains_key(AUTHORIZATION) || headers.contains_key(COOKIE);
        let (observed, spoken) = (Arc::clone(self), Spoken::Http);
        Arc::new(Link { observed, spoken, peer, shows, number: None })
    }

    /// A number for a WebSocket, which nothing else has.
    pub(super) fn number(&self) -> u64 {
        self.roll.number()
    }

    /// The link of a WebSocket, which is on the roll while the link lives.
    pub(super) fn connected(
        self: &Arc<Self>,
        number: u64,
        spoken: Spoken,
        peer: Option<SocketAddr>,
        waiting: Waiting,
    ) -> Arc<Link> {
        self.roll.enter(number, Connected::new(spoken, peer, waiting));
        let (observed, number) = (Arc::clone(self), Some(number));
        Arc::new(Link { observed, spoken, peer, shows: true, number })
    }

    /// Tells an event that belongs to no connection.
    pub(super) fn tell(&self, user: Option<&str>, database: Option<&DbName>, act: Act) {
        if let Some(audit) = &self.audit {
            audit.record(AuditEvent::new(None, None, user, database, act));
        }
    }

    fn denied(&self, event: AuditEvent) {
        let mut denials = lock(&self.denials);
        if denials.len() >= DENIALS_MAX {
            denials.pop_front();
        }
        denials.push_back(event);
    }

    /// The newest denials, newest first.
    pub(super) fn denials(&self) -> Vec<AuditEvent> {
        lock(&self.denials).iter().rev().cloned().collect()
    }

    /// Who is connected by WebSocket.
    pub(super) fn roll(&self) -> Vec<(u64, Connected)> {
        self.roll.list()
    }
}

/// A connection, or a request, as what is done for it sees it.
pub(super) struct Link {
    observed: Arc<Observed>,
    pub spoken: Spoken,
    peer: Option<SocketAddr>,
    /// Whether credentials come with it.
    shows: bool,
    /// Its number on the roll.
    pub number: Option<u64>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("spoken", &self.spoken).finish_non_exhaustive()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.observed.roll.leave(number);
        }
    }
}

impl Link {
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Tells of an error that nobody else is told of.
    pub(super) fn ignored(&self, place: IgnoredIn, database: &DbName, reason: String) {
        self.observed.ignored.tell(place, Some(database), reason);
    }

    fn event(&self, user: Option<&str>, database: Option<&DbName>, act: Act) -> AuditEvent {
        AuditEvent::new(Some(self.spoken), self.peer, user, database, act)
    }

    /// Tells what somebody did.
    pub(super) fn tell(&self, user: Option<&str>, database: Option<&DbName>, act: Act) {
        if let Some(audit) = &self.observed.audit {
            audit.record(self.event(user, database, act));
        }
    }

    /// The same under a grant.
    pub(super) fn did(&self, grant: &Grant, act: Act) {
        self.tell(grant.user_name(), Some(&grant.database), act);
    }

    /// Counts a call or request that was refused; a denial is also told.
    pub(super) fn refused(&self, database: Option<&DbName>, error: &WireError) {
        self.observed.metrics.refused(&error.error);
        if is_denial(error) {
            let act = Act::Refused { status: error.status, error: error.error.clone() };
            let event = self.event(None, database, act);
            if let Some(audit) = &self.observed.audit {
                audit.record(event.clone());
            }
            // Who shows nothing is asked for credentials, and that is how a browser begins.
            if self.shows {
                self.observed.denied(event);
            }
        }
    }

    /// Counts a call that failed, by the error's name.
    pub(super) fn failed(&self, error: &str) {
        self.observed.metrics.refused(error);
    }

    /// Counts the documents of a write; the ones that were refused by right are told.
    pub(super) fn wrote(&self, grant: &Grant, rows: &[WriteRow]) {
        let stored = rows.iter().filter(|row| row.ok).count();
        self.observed.metrics.docs_in.inc_by(stored as u64);
        for row in rows.iter().filter(|row| !row.ok) {
            let error = row.error.as_deref().unwrap_or_default();
            self.observed.metrics.doc_refused(error);
            let status = row.status.unwrap_or_default();
            if matches!(status, 401 | 403) {
                let (id, rev) = (row.id.clone(), row.rev.clone());
                self.did(grant, Act::DocumentRefused { id, rev, status, error: error.to_owned() });
            }
        }
    }

    /// Tells that a revision was stored.
    pub(super) fn stored(&self, grant: &Grant, id: &DocId, rev: &Rev) {
        if self.observed.audit.is_some() {
            self.did(grant, Act::Wrote { id: id.to_string(), rev: rev.to_string() });
        }
    }

    /// Counts documents that were read.
    pub(super) fn read(&self, documents: usize) {
        self.observed.metrics.docs_out.inc_by(documents as u64);
    }

    /// Counts a call over a WebSocket that began then.
    pub(super) fn called(&self, method: &str, began: Instant) {
        self.observed.metrics.called(self.spoken, method, began.elapsed());
    }

    /// Counts an answer over HTTP.
    pub(super) fn answered(&self, method: &str, route: &'static str, status: u16, took: Duration) {
        self.observed.metrics.answered(method, route, status, took);
    }

    pub(super) fn limit_hit(&self, limit: Option<&'static str>) {
        self.observed.limit_hit(limit);
    }

    /// Makes a live feed's place known while what is returned lives.
    pub(super) fn follows(&self, database: &Database, since: u64) -> Followed {
        self.observed.feeds.follow(database, since)
    }
}

/// Every change under these locks is one call to a collection, so a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
