//! What a sync tells: its events, in the order of a grammar, and its state at every moment.
//!
//! ```text
//! events  = [paused] {active {change | denied} paused} [active {change | denied}] (complete | error)
//! ```
//!
//! `paused` means that both directions rest, and carries a cause if it is not that there is nothing to
//! do. A connection that is lost during a rest makes no second `paused`: the sync's status tells. Events wait for their reader in a bounded queue: when it
//! is full, a rest between two spells of work is forgotten and the changes on its two sides become one.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use futures::Stream;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::doc::{DocId, Rev};
use crate::proto::message::WireError;

use super::peer::PeerError;

/// Events that wait for their reader.
const EVENTS_MAX: usize = 256;

/// Documents that one event names at most; its counts are always whole.
const EVENT_DOCS_MAX: usize = 10_000;

/// Which way documents go, seen from the local database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To the remote database.
    Push,
    /// From the remote database.
    Pull,
}

/// A revision that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRev {
    /// The document.
    pub id: DocId,
    /// The revision.
    pub rev: Rev,
    /// Whether it is a tombstone.
    pub deleted: bool,
}

/// Documents were exchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeEvent {
    /// Which way.
    pub direction: Direction,
    /// What was written; at most 10,000 of them when many changes became one event.
    pub docs: Vec<WrittenRev>,
    /// Documents read from the source, by this event.
    pub docs_read: u64,
    /// Revisions written to the target, by this event; those it is known to have had are not counted.
    pub docs_written: u64,
    /// Revisions that the target refused, by this event.
    pub doc_write_failures: u64,
    /// The source's place that was reached.
    pub last_seq: String,
    /// Changes still to come, as far as is known.
    pub pending: u64,
}

/// One document was refused; the others go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedEvent {
    /// Which way it was going.
    pub direction: Direction,
    /// The document.
    pub id: DocId,
    /// The revision.
    pub rev: Option<Rev>,
    /// Why: status, CouchDB's name, and reason.
    pub error: WireError,
}

/// What happens in a sync. See the [module](self) for the order.
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncEvent {
    /// Work begins.
    Active {
        /// In which direction first.
        direction: Direction,
    },
    /// Documents were exchanged.
    Change(ChangeEvent),
    /// A document was refused.
    Denied(DeniedEvent),
    /// Both directions rest.
    Paused {
        /// Why, if it is not that there is nothing to do.
        cause: Option<PauseCause>,
    },
    /// The sync ended as it should: done, or cancelled. Always last.
    Complete(SyncSummary),
    /// The sync failed. Always last.
    Error(SyncError),
}

/// Why a sync rests without being up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PauseCause {
    /// There is no connection; the client tries to get one.
    Offline {
        /// What happened.
        cause: String,
    },
    /// The gateway wants other credentials, and the credentials function is being asked.
    AuthNeeded {
        /// What the gateway said.
        reason: String,
    },
}

/// What a sync did from its beginning to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncSummary {
    /// To the remote database; `None` if that direction was not asked for.
    pub push: Option<DirectionSummary>,
    /// From the remote database; `None` if that direction was not asked for.
    pub pull: Option<DirectionSummary>,
    /// Whether it was cancelled.
    pub cancelled: bool,
}

/// What one direction did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectionSummary {
    /// Documents read from the source.
    pub docs_read: u64,
    /// Revisions written to the target; those it is known to have had are not counted.
    pub docs_written: u64,
    /// Revisions refused.
    pub doc_write_failures: u64,
    /// The source's place that was reached.
    pub last_seq: Option<String>,
}

/// Why a sync failed.
#[derive(Debug, thiserror::Error)]
#[error("sync of {local} with {remote} failed: {source}")]
pub struct SyncError {
    /// The local database.
    pub local: String,
    /// The remote database.
    pub remote: String,
    /// What went wrong.
    pub source: PeerError,
}

/// Where a sync stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SyncState {
    /// It knows of nothing to do.
    UpToDate,
    /// It is exchanging documents, or finding out what to exchange.
    CatchingUp,
    /// There is no connection.
    Offline,
    /// The gateway wants other credentials.
    AuthNeeded,
    /// It knows of nothing to do, but some documents were refused.
    SomeDenied,
    /// It has ended.
    Ended,
}

/// What is known of a sync at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncStatus {
    /// Where it stands.
    pub state: SyncState,
    /// Changes still to push, as far as is known.
    pub pending_push: u64,
    /// Changes still to pull, as far as is known.
    pub pending_pull: u64,
    /// What went wrong last, even if it was overcome.
    pub last_error: Option<String>,
    /// When the other side was last heard.
    pub last_exchange: Option<SystemTime>,
    /// The local update seq up to which everything has been pushed or listed as denied.
    pub pushed_seq: u64,
    /// Number of documents that are refused at present.
    pub denied: usize,
}

/// Takes events in and keeps the grammar.
#[derive(Clone)]
pub(crate) struct Reporter {
    inner: Arc<Mutex<Inner>>,
    status: Arc<watch::Sender<SyncStatus>>,
}

struct Inner {
    queue: VecDeque<SyncEvent>,
    reader: Option<Waker>,
    /// Directions that take part and do not rest.
    working: Vec<Direction>,
    /// Directions whose work has not begun or ended even once.
    unsettled: Vec<Direction>,
    spell: Spell,
    ended: bool,
    summary: SyncSummary,
}

/// Which of `active` and `paused` came last.
#[derive(Clone, Copy, PartialEq)]
enum Spell {
    Neither,
    Active,
    Paused,
}

impl Reporter {
    pub(crate) fn new(directions: &[Direction]) -> Self {
        let taking_part = |d| directions.contains(&d).then(DirectionSummary::default);
        let inner = Inner {
            queue: VecDeque::new(),
            reader: None,
            working: Vec::new(),
            unsettled: directions.to_vec(),
            spell: Spell::Neither,
            ended: false,
            summary: SyncSummary {
                push: taking_part(Direction::Push),
                pull: taking_part(Direction::Pull),
                cancelled: false,
            },
        };
        let status = SyncStatus {
            state: SyncState::CatchingUp,
            pending_push: 0,
            pending_pull: 0,
            last_error: None,
            last_exchange: None,
            pushed_seq: 0,
            denied: 0,
        };
        Self { inner: Arc::new(Mutex::new(inner)), status: Arc::new(watch::Sender::new(status)) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn status(&self) -> watch::Receiver<SyncStatus> {
        self.status.subscribe()
    }

    pub(crate) fn events(&self) -> EventStream {
        EventStream { inner: Arc::clone(&self.inner) }
    }

    /// A connection was made: what there is to do is to be found out.
    pub(crate) fn connected(&self, directions: &[Direction]) {
        self.lock().unsettled = directions.to_vec();
        self.status.send_modify(|status| {
            status.state = SyncState::CatchingUp;
            status.last_exchange = Some(SystemTime::now());
        });
    }

    /// A direction has something to do.
    pub(crate) fn work(&self, direction: Direction) {
        let mut inner = self.lock();
        inner.unsettled.retain(|d| *d != direction);
        if !inner.working.contains(&direction) {
            inner.working.push(direction);
        }
        inner.activate(direction);
        drop(inner);
        self.status.send_modify(|status| status.state = SyncState::CatchingUp);
    }

    /// A direction has nothing to do.
    pub(crate) fn rest(&self, direction: Direction) {
        let mut inner = self.lock();
        inner.unsettled.retain(|d| *d != direction);
        inner.working.retain(|d| *d != direction);
        let all_rest = inner.working.is_empty() && inner.unsettled.is_empty();
        if all_rest {
            inner.pause(None);
        }
        drop(inner);
        self.status.send_modify(|status| {
            match direction {
                Direction::Push => status.pending_push = 0,
                Direction::Pull => status.pending_pull = 0,
            }
            status.last_exchange = Some(SystemTime::now());
            if all_rest {
                status.state =
                    if status.denied > 0 { SyncState::SomeDenied } else { SyncState::UpToDate };
            }
        });
    }

    /// Documents were exchanged.
    pub(crate) fn change(&self, event: ChangeEvent) {
        let mut inner = self.lock();
        let summary = match event.direction {
            Direction::Push => inner.summary.push.get_or_insert_default(),
            Direction::Pull => inner.summary.pull.get_or_insert_default(),
        };
        summary.docs_read += event.docs_read;
        summary.docs_written += event.docs_written;
        summary.doc_write_failures += event.doc_write_failures;
        summary.last_seq = Some(event.last_seq.clone());
        let (direction, pending) = (event.direction, event.pending);
        if event.docs_read > 0 {
            inner.activate(direction);
            inner.push(SyncEvent::Change(event));
        }
        drop(inner);
        self.status.send_modify(|status| {
            match direction {
                Direction::Push => status.pending_push = pending,
                Direction::Pull => status.pending_pull = pending,
            }
            status.last_exchange = Some(SystemTime::now());
        });
    }

    /// A document was refused.
    pub(crate) fn denied(&self, event: DeniedEvent) {
        let mut inner = self.lock();
        inner.activate(event.direction);
        inner.push(SyncEvent::Denied(event));
    }

    /// So many documents are refused at present.
    pub(crate) fn denied_count(&self, denied: usize) {
        self.status.send_modify(|status| status.denied = denied);
    }

    /// Everything up to this local update seq has been pushed or listed as denied.
    pub(crate) fn pushed(&self, seq: u64) {
        self.status.send_modify(|status| status.pushed_seq = status.pushed_seq.max(seq));
    }

    /// Nothing can be done at present.
    #[cfg(any(feature = "client", feature = "http-peer", test))]
    pub(crate) fn interrupted(&self, cause: PauseCause) {
        let (state, error) = match &cause {
            PauseCause::Offline { cause } => (SyncState::Offline, cause.clone()),
            PauseCause::AuthNeeded { reason } => (SyncState::AuthNeeded, reason.clone()),
        };
        let mut inner = self.lock();
        inner.working.clear();
        inner.pause(Some(cause));
        drop(inner);
        self.status.send_modify(|status| {
            status.state = state;
            status.last_error = Some(error);
        });
    }

    /// The sync is over; `None` for a failure's error makes it complete.
    pub(crate) fn end(&self, error: Option<SyncError>, cancelled: bool) {
        let mut inner = self.lock();
        if std::mem::replace(&mut inner.ended, true) {
            return;
        }
        inner.summary.cancelled = cancelled;
        let text = error.as_ref().map(ToString::to_string);
        let last = match error {
            Some(error) => SyncEvent::Error(error),
            None => SyncEvent::Complete(inner.summary.clone()),
        };
        inner.queue.push_back(last);
        inner.wake();
        drop(inner);
        self.status.send_modify(|status| {
            status.state = SyncState::Ended;
            if text.is_some() {
                status.last_error = text;
            }
        });
    }
}

impl Inner {
    fn activate(&mut self, direction: Direction) {
        if self.spell != Spell::Active {
            self.spell = Spell::Active;
            self.push(SyncEvent::Active { direction });
        }
    }

    fn pause(&mut self, cause: Option<PauseCause>) {
        if self.spell != Spell::Paused {
            self.spell = Spell::Paused;
            self.push(SyncEvent::Paused { cause });
        }
    }

    fn push(&mut self, event: SyncEvent) {
        if self.ended {
            return;
        }
        if self.queue.len() >= EVENTS_MAX {
            compact(&mut self.queue);
        }
        self.queue.push_back(event);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// Makes room in a full queue: rests between two spells of work go, the changes of one direction in
/// one spell become one, and if that is not enough the oldest refusals go (a sync's list of denied
/// documents has them all).
fn compact(queue: &mut VecDeque<SyncEvent>) {
    let mut kept: VecDeque<SyncEvent> = VecDeque::with_capacity(queue.len());
    for event in queue.drain(..) {
        let first = kept.len() <= 1;
        match (kept.back(), event) {
            (Some(SyncEvent::Paused { .. }), SyncEvent::Active { .. }) if !first => {
                kept.pop_back();
            }
            (_, SyncEvent::Change(next)) => match change_in_spell(&mut kept, next.direction) {
                Some(earlier) => earlier.absorb(next),
                None => kept.push_back(SyncEvent::Change(next)),
            },
            (_, event) => kept.push_back(event),
        }
    }
    let mut surplus = kept.len().saturating_sub(EVENTS_MAX / 2);
    kept.retain(|event| {
        let goes = surplus > 0 && matches!(event, SyncEvent::Denied(_));
        surplus -= usize::from(goes);
        !goes
    });
    *queue = kept;
}

/// The change of a direction in the spell of work that a queue ends with.
fn change_in_spell(
    queue: &mut VecDeque<SyncEvent>,
    direction: Direction,
) -> Option<&mut ChangeEvent> {
    for event in queue.iter_mut().rev() {
        match event {
            SyncEvent::Change(change) if change.direction == direction => return Some(change),
            SyncEvent::Active { .. } | SyncEvent::Paused { .. } => return None,
            _ => {}
        }
    }
    None
}

impl ChangeEvent {
    fn absorb(&mut self, next: Self) {
        self.docs.extend(next.docs);
        self.docs.truncate(EVENT_DOCS_MAX);
        self.docs_read += next.docs_read;
        self.docs_written += next.docs_written;
        self.doc_write_failures += next.doc_write_failures;
        self.last_seq = next.last_seq;
        self.pending = next.pending;
    }
}

/// A sync's events as a stream that ends after `complete` or `error`.
pub(crate) struct EventStream {
    inner: Arc<Mutex<Inner>>,
}

impl Stream for EventStream {
    type Item = SyncEvent;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SyncEvent>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.queue.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if inner.ended => Poll::Ready(None),
            None => {
                inner.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{FutureExt as _, StreamExt as _};

    fn names(reporter: &Reporter) -> Vec<&'static str> {
        let mut events = reporter.events();
        let mut names = Vec::new();
        while let Some(Some(event)) = events.next().now_or_never() {
            names.push(match event {
                SyncEvent::Active { .. } => "active",
                SyncEvent::Change(_) => "change",
                SyncEvent::Denied(_) => "denied",
                SyncEvent::Paused { cause: None } => "paused",
                SyncEvent::Paused { .. } => "interrupted",
                SyncEvent::Complete(_) => "complete",
                SyncEvent::Error(_) => "error",
            });
        }
        names
    }

    fn change(docs_read: u64) -> ChangeEvent {
        ChangeEvent {
            direction: Direction::Push,
            docs: Vec::new(),
            docs_read,
            docs_written: docs_read,
            doc_write_failures: 0,
            last_seq: "1".into(),
            pending: 0,
        }
    }

    const BOTH: [Direction; 2] = [Direction::Push, Direction::Pull];

    #[test]
    fn paused_waits_for_both_directions() {
        let reporter = Reporter::new(&BOTH);
        reporter.rest(Direction::Push);
        assert_eq!(names(&reporter), [""; 0]);
        reporter.rest(Direction::Pull);
        assert_eq!(names(&reporter), ["paused"]);
        reporter.work(Direction::Push);
        reporter.work(Direction::Pull);
        reporter.rest(Direction::Push);
        reporter.change(change(0));
        assert_eq!(names(&reporter), ["active"]);
        reporter.rest(Direction::Pull);
        reporter.interrupted(PauseCause::Offline { cause: "cut".into() });
        assert_eq!(names(&reporter), ["paused"], "paused does not follow paused");
        assert_eq!(reporter.status().borrow().state, SyncState::Offline);
        reporter.end(None, true);
        reporter.end(None, false);
        reporter.work(Direction::Push);
        assert_eq!(names(&reporter), ["complete"], "nothing follows the end");
    }

    #[test]
    fn an_unread_queue_stays_bounded_and_keeps_the_grammar() {
        let reporter = Reporter::new(&[Direction::Push]);
        for _ in 0..10_000 {
            reporter.work(Direction::Push);
            reporter.change(change(1));
            reporter.rest(Direction::Push);
        }
        reporter.end(None, false);
        assert!(reporter.lock().queue.len() <= EVENTS_MAX + 1);
        let mut read = 0;
        let mut last = "paused";
        let mut events = reporter.events();
        while let Some(Some(event)) = events.next().now_or_never() {
            let name = match event {
                SyncEvent::Active { .. } => "active",
                SyncEvent::Paused { .. } => "paused",
                SyncEvent::Change(event) => {
                    assert_eq!(last, "active");
                    read += event.docs_read;
                    continue;
                }
                _ => continue,
            };
            assert_ne!(name, last);
            last = name;
        }
        assert_eq!(read, 10_000, "no count is lost");
    }

    #[test]
    fn two_busy_directions_do_not_fill_an_unread_queue() {
        let reporter = Reporter::new(&BOTH);
        for _ in 0..10_000 {
            reporter.change(change(1));
            reporter.change(ChangeEvent { direction: Direction::Pull, ..change(1) });
        }
        assert!(reporter.lock().queue.len() <= EVENTS_MAX);
    }
}
