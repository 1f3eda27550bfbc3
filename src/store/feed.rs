//! The changes feed: documents in the order of their last change, each at most once.
//!
//! A feed is read from the by-seq index at its reader's pace, a page at a time, and holds nothing
//! but its place. A commit wakes it; what the wake-up says is not believed, the index is.

use std::collections::VecDeque;

use futures::Stream;
use tokio::sync::watch;

use super::backend::{ChangeRow, ChangesRange, Order, ReadBody, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use super::read::{GetOptions, show};
use super::seq::{Seq, Since};
use crate::doc::{DocId, Document, Rev};

/// Rows read from the index at a time, without and with their documents.
const PAGE_ROWS: usize = 1_000;
const PAGE_ROWS_WITH_DOCS: usize = 256;

/// Which revisions a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// `main_only`: the winning rev.
    #[default]
    MainOnly,
    /// `all_docs`: every leaf, the winning one first.
    AllDocs,
}

/// Which documents a row carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    /// Rows at most.
    pub limit: Option<usize>,
    /// Direction. A live feed ascends.
    pub order: Order,
    /// Which revisions a row names.
    pub style: Style,
    /// Which documents a row carries.
    pub docs: ChangeDocs,
    /// Only these documents.
    pub doc_ids: Option<Vec<DocId>>,
    /// Leaves out documents whose winning rev is a tombstone: a snapshot for a reader that has
    /// nothing yet.
    pub skip_tombstones: bool,
}

/// A document at its last change.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The place of the change.
    pub seq: Seq,
    /// The document.
    pub id: DocId,
    /// Its leaves, the winning one first, each with whether it is a tombstone; the winning one
    /// alone in [`Style::MainOnly`].
    pub leaves: Vec<(Rev, bool)>,
    /// The documents asked for.
    pub docs: Vec<Document>,
}

impl Change {
    /// Whether the winning rev is a tombstone.
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
            Order::Ascending => self.backend().count_changes(self.key(), feed.since).await?,
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
        let update_seq = self.counts().await?.update_seq;
        let since = options.since.resolve(update_seq, self.incarnation());
        let pending = match options.order {
            Order::Ascending => self.backend().count_changes(self.key(), since).await?,
            Order::Descending => 0,
        };
        Ok(Feed {
            database: self.clone(),
            options,
            since,
            descended: None,
            wake,
            pending,
            told_end: false,
            at_end: false,
        })
    }
}

/// A reader's place in the changes feed.
///
/// Holds no rows and no lock: a reader that stops reading costs nothing.
pub struct Feed {
    database: Database,
    options: ChangesOptions,
    /// Everything up to here was given out or filtered away.
    since: u64,
    /// In a descending read: the lowest seq given out.
    descended: Option<u64>,
    wake: watch::Receiver<u64>,
    /// Rows after `since` as counted at the last look.
    pending: u64,
    /// Whether the reader knows that it has everything.
    told_end: bool,
    at_end: bool,
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
    /// At the end, one page with `pending` 0 tells so; the next call waits for a change.
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
            self.wake.mark_unchanged();
            let page = self.read_page(rows_max, bytes_max).await?;
            if !page.rows.is_empty() || page.pending > 0 || !self.told_end {
                self.told_end = page.pending == 0;
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

    /// The changes one by one, for ever: rows as they are, then each new one as it happens.
    ///
    /// Dropping the stream ends it. An error ends it too.
    pub fn into_stream(self) -> impl Stream<Item = Result<Change, StoreError>> + Send + 'static {
        let state = (self, VecDeque::new());
        futures::stream::unfold(Some(state), |state| async move {
            let (mut feed, mut rows) = state?;
            while rows.is_empty() {
                match feed.next_page(PAGE_ROWS_WITH_DOCS, FEED_BYTES).await {
                    Ok(page) => rows.extend(page.rows),
                    Err(error) => return Some((Err(error), None)),
                }
            }
            let row = rows.pop_front()?;
            Some((Ok(row), Some((feed, rows))))
        })
    }

    async fn read_page(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<FeedPage, StoreError> {
        self.database.alive()?;
        let page_rows = match self.options.docs {
            ChangeDocs::None => PAGE_ROWS,
            ChangeDocs::Winner | ChangeDocs::Leaves => PAGE_ROWS_WITH_DOCS,
        };
        let found = self.read_rows(rows_max.min(page_rows)).await?;
        let (since, mut more) = (found.last_seq, found.more);
        let rows = found.rows.into_iter();
        let wanted: Vec<ChangeRow> =
            rows.filter(|row| !(self.options.skip_tombstones && row.leaves[0].1)).collect();
        let asked = wanted.len();
        let scanned = found.scanned;
        let changes = self.with_docs(wanted, bytes_max).await?;
        // Where the bytes ended the page early, the feed goes on after the last row given out.
        let cut = changes.len() < asked;
        more |= cut;
        let last = changes.last().map(|change| change.seq.number);
        match self.options.order {
            Order::Ascending => self.since = last.filter(|_| cut).unwrap_or(since),
            Order::Descending => {
                self.descended = if cut { last } else { found.descended };
                if !more {
                    self.since = since;
                }
            }
        }
        self.count_pending(more, if cut { changes.len() } else { scanned }).await?;
        self.at_end = !more;
        let mut rows = changes;
        if self.options.style == Style::MainOnly {
            rows.iter_mut().for_each(|row| row.leaves.truncate(1));
        }
        Ok(FeedPage { rows, last_seq: self.database.seq(self.since), pending: self.pending })
    }

    /// Keeps `pending` by subtraction and counts anew only when subtraction has run out, so that
    /// reading a long feed does not count its rest at every page.
    async fn count_pending(&mut self, more: bool, passed: usize) -> Result<(), StoreError> {
        if !more {
            self.pending = 0;
            return Ok(());
        }
        self.pending = self.pending.saturating_sub(passed as u64);
        if self.pending == 0 && self.options.order == Order::Ascending {
            let (backend, key) = (self.database.backend(), self.database.key());
            self.pending = backend.count_changes(key, self.since).await?.max(1);
        }
        self.pending = self.pending.max(1);
        Ok(())
    }

    async fn read_rows(&mut self, limit: usize) -> Result<FoundRows, StoreError> {
        if let Some(ids) = &self.options.doc_ids {
            return self.read_named(&ids.clone(), limit).await;
        }
        let (backend, key) = (self.database.backend(), self.database.key());
        if self.options.order == Order::Descending {
            return self.read_descending(limit).await;
        }
        let range = ChangesRange { since: self.since, limit, order: Order::Ascending };
        let page = backend.changes(key, range).await?;
        Ok(FoundRows {
            scanned: page.rows.len(),
            rows: page.rows,
            last_seq: page.last_seq,
            more: page.more,
            descended: None,
        })
    }

    /// A descending page is found among the newest rows: those above the last page are passed over.
    async fn read_descending(&mut self, limit: usize) -> Result<FoundRows, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let passed = match self.descended {
            None => 0,
            Some(lowest) => backend.count_changes(key, lowest - 1).await?,
        };
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let limit = limit.saturating_add(passed);
        let range = ChangesRange { since: self.since, limit, order: Order::Descending };
        let mut page = backend.changes(key, range).await?;
        if let Some(lowest) = self.descended {
            page.rows.retain(|row| row.seq < lowest);
        }
        let descended = page.rows.last().map(|row| row.seq).or(self.descended);
        Ok(FoundRows {
            scanned: page.rows.len(),
            rows: page.rows,
            last_seq: page.last_seq,
            more: page.more,
            descended,
        })
    }

    /// The rows of named documents: their states are read, which costs their number and not the
    /// length of the feed.
    async fn read_named(&mut self, ids: &[DocId], limit: usize) -> Result<FoundRows, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let update_seq = backend.counts(key).await?.update_seq;
        let states = backend.read(key, ids, ReadBody::No).await?;
        let mut rows: Vec<ChangeRow> = Vec::new();
        for (id, state) in ids.iter().zip(states) {
            let Some(state) = state.filter(|s| s.version > self.since) else { continue };
            if rows.iter().any(|row| row.id == *id) {
                continue;
            }
            let leaves = state.tree.leaves().into_iter().map(|l| (l.rev, l.state.deleted));
            rows.push(ChangeRow { seq: state.version, id: id.clone(), leaves: leaves.collect() });
        }
        // A read may be ahead of the disk; what is told must not be.
        let newest = rows.iter().map(|row| row.seq).max().unwrap_or(0);
        let mut durable = backend.watch(key);
        durable.wait_for(|seq| *seq >= newest).await.map(|_| ()).map_err(|_| StoreError::Closed)?;
        rows.sort_by_key(|row| row.seq);
        if self.options.order == Order::Descending {
            rows.reverse();
            rows.retain(|row| self.descended.is_none_or(|lowest| row.seq < lowest));
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().map(|row| row.seq);
        let last_seq = last.filter(|_| more).unwrap_or(update_seq.max(newest));
        Ok(FoundRows { scanned: rows.len(), rows, last_seq, more, descended: last })
    }

    /// Adds the documents asked for, as many rows as fit the bytes, at least one.
    async fn with_docs(
        &self,
        rows: Vec<ChangeRow>,
        bytes_max: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let change = |row: ChangeRow, docs| Change {
            seq: self.database.seq(row.seq),
            id: row.id,
            leaves: row.leaves,
            docs,
        };
        if self.options.docs == ChangeDocs::None {
            return Ok(rows.into_iter().map(|row| change(row, Vec::new())).collect());
        }
        let (backend, key) = (self.database.backend(), self.database.key());
        let ids: Vec<DocId> = rows.iter().map(|row| row.id.clone()).collect();
        let mut states = backend.read(key, &ids, ReadBody::SmallWinner).await?;
        let count = self.rows_that_fit(&rows, &states, bytes_max);
        let rows: Vec<ChangeRow> = rows.into_iter().take(count).collect();
        let wanted: Vec<(DocId, Rev)> = rows
            .iter()
            .zip(&states)
            .flat_map(|(row, state)| self.not_at_hand(row, state.as_ref()))
            .collect();
        let mut bodies = backend.bodies(key, &wanted).await?.into_iter();
        let mut changes = Vec::with_capacity(count);
        for (row, state) in rows.into_iter().zip(&mut states) {
            let mut docs = Vec::new();
            if let Some(state) = state {
                let winner = state.winner_body.take().zip(state.tree.winner());
                for (rev, _) in &row.leaves[..self.docs_of(&row)] {
                    let record = match &winner {
                        Some((record, leaf)) if leaf.rev == *rev => Some(record.clone()),
                        _ => bodies.next().flatten(),
                    };
                    // A body that compaction took since has a newer row further on.
                    let revs = self.options.docs == ChangeDocs::Leaves;
                    let get = GetOptions { revs, ..GetOptions::default() };
                    docs.extend(record.map(|record| show(&row.id, rev, state, record, &get)));
                }
            }
            changes.push(change(row, docs));
        }
        Ok(changes)
    }

    /// How many of a row's leaves come with their documents.
    fn docs_of(&self, row: &ChangeRow) -> usize {
        match self.options.docs {
            ChangeDocs::None => 0,
            ChangeDocs::Winner => row.leaves.len().min(1),
            ChangeDocs::Leaves => row.leaves.len(),
        }
    }

    fn not_at_hand(&self, row: &ChangeRow, state: Option<&StoredDoc>) -> Vec<(DocId, Rev)> {
        let Some(state) = state else { return Vec::new() };
        let at_hand = state.winner_body.as_ref().and_then(|_| state.tree.winner());
        let wanted = row.leaves[..self.docs_of(row)].iter().map(|(rev, _)| rev);
        let missing = wanted.filter(|rev| at_hand.as_ref().is_none_or(|leaf| leaf.rev != **rev));
        missing.map(|rev| (row.id.clone(), rev.clone())).collect()
    }

    fn rows_that_fit(
        &self,
        rows: &[ChangeRow],
        states: &[Option<StoredDoc>],
        bytes_max: usize,
    ) -> usize {
        let mut bytes = 0usize;
        for (index, (row, state)) in rows.iter().zip(states).enumerate() {
            let Some(state) = state else { continue };
            for (rev, _) in &row.leaves[..self.docs_of(row)] {
                let body = state.tree.state(rev).and_then(|s| s.body_bytes).unwrap_or(0);
                bytes = bytes.saturating_add(body as usize);
            }
            if bytes > bytes_max && index > 0 {
                return index;
            }
        }
        rows.len()
    }
}

/// Bytes of bodies that [`Feed::into_stream`] holds at a time.
const FEED_BYTES: usize = 1024 * 1024;

struct FoundRows {
    rows: Vec<ChangeRow>,
    last_seq: u64,
    more: bool,
    /// Rows of the index that were passed, for the count of what is left.
    scanned: usize,
    descended: Option<u64>,
}
