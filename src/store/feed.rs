//! The changes feed: documents in the order of their last change, each at most once.
//!
//! A feed is read from the by-seq index at its reader's pace, a page at a time, and holds nothing
//! but its place. A commit wakes it; what the wake-up says is not believed, the index is.

use std::collections::VecDeque;

use futures::Stream;
use tokio::sync::watch;

use super::backend::{Counts, Order};
use super::database::Database;
use super::error::StoreError;
use super::seq::{Seq, Since};
use crate::doc::{DocId, Document, Rev, Selector};

/// Rows and bytes of bodies that [`Feed::into_stream`] holds at a time.
const STREAM_ROWS: usize = 256;
const STREAM_BYTES: usize = 1024 * 1024;

/// Which revisions a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Style {
    /// `main_only`: the winning rev.
    #[default]
    MainOnly,
    /// `all_docs`: every leaf, the winning one first.
    AllDocs,
}

/// Which documents a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ChangeDocs {
    /// None.
    #[default]
    None,
    /// The winning rev, as `include_docs` gives it.
    Winner,
    /// Every leaf with its history, ready to be written to a replica.
    Leaves,
}

/// What a reader of the changes feed asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChangesOptions {
    /// Where to begin.
    pub since: Since,
    /// Rows at most in [`Database::changes`]; a [`Feed`] is told so with each page.
    pub limit: Option<usize>,
    /// Direction. A live feed ascends.
    pub order: Order,
    /// Which revisions a row names.
    pub style: Style,
    /// Which documents a row carries.
    pub docs: ChangeDocs,
    /// Only these documents.
    pub doc_ids: Option<Vec<DocId>>,
    /// Only leaves that pass all of these, and documents that have one; in [`Style::MainOnly`] only
    /// documents whose winning rev passes. See [`Database::admits`].
    pub selectors: Vec<Selector>,
    /// Leaves out documents whose winning rev is a tombstone: a snapshot for a reader that has
    /// nothing yet.
    ///
    /// Only what was deleted before the feed was opened is left out: a document that the reader may
    /// have got from this very feed is told when it is deleted.
    pub skip_tombstones: bool,
    /// Whether documents that were written together stay together: see [`Change::group`]. The
    /// revisions of a group are then shown at its place also where they were replaced since, as
    /// long as they are stored.
    ///
    /// Without effect with `doc_ids`, `selectors` or a descending order, which show parts of groups.
    pub groups: bool,
}

/// A document at its last change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The place of the change.
    pub seq: Seq,
    /// The document.
    pub id: DocId,
    /// Its leaves, the winning one first, each with whether it is a tombstone; the winning one
    /// alone in [`Style::MainOnly`]. Leaves that a selector held back are not among them.
    pub leaves: Vec<(Rev, bool)>,
    /// The documents asked for.
    pub docs: Vec<Document>,
    /// The group that it was written in, where groups were asked for: the same number for all of its
    /// rows, which follow one another and stand in one page.
    pub group: Option<u64>,
}

impl Change {
    /// Whether the first of the leaves is a tombstone.
    #[must_use]
    pub fn deleted(&self) -> bool {
        self.leaves.first().is_some_and(|(_, deleted)| *deleted)
    }
}

/// A part of the changes feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The rows.
    pub rows: Vec<Change>,
    /// Where to go on.
    pub last_seq: Seq,
    /// Rows that follow, whether the filter lets them pass or not.
    pub pending: u64,
}

impl Database {
    /// Reads the changes feed once.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::TooLarge`] for too many `doc_ids`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn changes(&self, options: &ChangesOptions) -> Result<Changes, StoreError> {
        let mut feed = self.feed(options.clone()).await?;
        let mut rows = Vec::new();
        let limit = options.limit.unwrap_or(usize::MAX);
        while rows.len() < limit {
            let page = feed.read_page(limit - rows.len(), usize::MAX).await?;
            rows.extend(page.rows);
            if feed.at_end {
                break;
            }
        }
        let last_seq = match options.order {
            Order::Ascending => self.seq(feed.since),
            Order::Descending => rows.last().map_or(self.seq(feed.since), |row| row.seq),
        };
        let pending = match options.order {
            Order::Ascending if feed.at_end => 0,
            // Of the others nobody knows how many were passed.
            Order::Ascending if options.doc_ids.is_some() => {
                self.pending_after(feed.since, &feed.counts).await?
            }
            Order::Ascending => feed.pending,
            Order::Descending => 0,
        };
        Ok(Changes { rows, last_seq, pending })
    }

    /// Opens the changes feed to be read page by page and waited for.
    ///
    /// # Errors
    /// As [`Database::changes`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn feed(&self, options: ChangesOptions) -> Result<Feed, StoreError> {
        self.check_rows("doc_ids", options.doc_ids.as_ref().map_or(0, Vec::len))?;
        let wake = self.backend().watch(self.key());
        let counts = self.counts().await?;
        let since = options.since.resolve(counts.update_seq, self.incarnation());
        let pending = match options.order {
            Order::Ascending => self.pending_after(since, &counts).await?,
            Order::Descending => 0,
        };
        Ok(Feed {
            database: self.clone(),
            options,
            since,
            descended: None,
            wake,
            pending,
            counts,
            told: since,
            told_end: false,
            at_end: false,
            end_at: None,
        })
    }
}

/// A reader's place in the changes feed.
///
/// Holds no rows and no lock: a reader that stops reading costs nothing.
pub struct Feed {
    pub(super) database: Database,
    pub(super) options: ChangesOptions,
    /// Everything up to here was given out or filtered away.
    pub(super) since: u64,
    /// In a descending read: the lowest seq given out.
    pub(super) descended: Option<u64>,
    wake: watch::Receiver<u64>,
    /// Rows after `since` as counted at the last look.
    pub(super) pending: u64,
    /// The database's counters when the feed was opened.
    pub(super) counts: Counts,
    /// The place that the reader was told last.
    told: u64,
    /// Whether the reader knows that it has everything.
    told_end: bool,
    pub(super) at_end: bool,
    /// How far to read before the end counts as reached, where documents moved during the last look.
    pub(super) end_at: Option<u64>,
}

/// Rows of a feed.
#[derive(Debug, Clone, PartialEq)]
pub struct FeedPage {
    /// The rows; may be empty when a filter let none pass, or at the end.
    pub rows: Vec<Change>,
    /// Where a new feed would go on.
    pub last_seq: Seq,
    /// Rows that follow, as far as is known; exactly 0 at the end.
    pub pending: u64,
}

impl Feed {
    /// The next page: at most `rows_max` rows whose documents have about `bytes_max` bytes of body
    /// together (one row may be larger).
    ///
    /// At the end, one page with `pending` 0 tells so; the next call waits for a change that is not a
    /// quiet one ([`WriteOptions::quiet`](super::WriteOptions::quiet)). Where a
    /// filter lets none of the changes pass, a page without rows tells the place after them.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`] when the database is destroyed, also while waiting.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: the next call gives the same page.
    pub async fn next_page(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<FeedPage, StoreError> {
        loop {
            self.while_quiet().await?;
            self.wake.mark_unchanged();
            let page = self.read_page(rows_max, bytes_max).await?;
            if page.rows.is_empty() && self.end_at.is_some() {
                continue;
            }
            let moved = self.since != self.told;
            if !page.rows.is_empty() || page.pending > 0 || moved || !self.told_end {
                (self.told, self.told_end) = (self.since, page.pending == 0);
                return Ok(page);
            }
            let database = self.database.clone();
            tokio::select! {
                woken = self.wake.changed() => {
                    if woken.is_err() {
                        return Err(database.why_silent().await);
                    }
                }
                () = database.destroyed() => {
                    let name = database.name().clone();
                    return Err(StoreError::DatabaseDestroyed { name });
                }
            }
        }
    }

    /// Waits on at the end while nothing but quiet changes follows.
    async fn while_quiet(&mut self) -> Result<(), StoreError> {
        if !self.told_end || !self.at_end || self.options.order == Order::Descending {
            return Ok(());
        }
        let database = self.database.clone();
        tokio::select! {
            let_go = database.shared.quiet.let_go(self.since, &mut self.wake) => match let_go {
                Ok(()) => Ok(()),
                Err(_) => Err(database.why_silent().await),
            },
            () = database.destroyed() => database.alive(),
        }
    }

    /// Where it stands: everything up to here was given out or left out on purpose.
    #[must_use]
    pub fn place(&self) -> Seq {
        self.database.seq(self.since)
    }

    /// Changes that follow, as far as is known; 0 in a descending read.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    /// Goes on after a page that another feed of this database with the same options gave for the
    /// place where this one stands.
    ///
    /// A page is true for as long as nothing is purged: see [`Database::purges`].
    pub fn go_on_after(&mut self, page: &FeedPage) {
        self.since = page.last_seq.number;
        (self.pending, self.at_end, self.end_at) = (page.pending, page.pending == 0, None);
        (self.told, self.told_end) = (self.since, self.at_end);
    }

    /// The changes one by one, for ever: rows as they are, then each new one as it happens.
    ///
    /// Dropping the stream ends it. An error ends it too.
    pub fn into_stream(self) -> impl Stream<Item = Result<Change, StoreError>> + Send + 'static {
        let state = (self, VecDeque::new());
        futures::stream::unfold(Some(state), |state| async move {
            let (mut feed, mut rows) = state?;
            while rows.is_empty() {
                match feed.next_page(STREAM_ROWS, STREAM_BYTES).await {
                    Ok(page) => rows.extend(page.rows),
                    Err(error) => return Some((Err(error), None)),
                }
            }
            let row = rows.pop_front()?;
            Some((Ok(row), Some((feed, rows))))
        })
    }
}
