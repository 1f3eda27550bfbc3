//! One page of a changes feed: which rows of the index, and their documents.
//!
//! A page is read whole before the feed's place moves, so that a reader which gives up waiting, or
//! which an error stops, gets the same rows again.

use std::collections::HashSet;

use super::backend::{ChangeRow, ChangesRange, Order, ReadBody, ReadDoc, StoredDoc};
use super::error::StoreError;
use super::feed::{Change, ChangeDocs, ChangesOptions, Feed, FeedPage, Style};
use super::group::{GroupedRows, Span, whole_groups};
use super::read::{GetOptions, show};
use crate::doc::{DocId, Rev};

/// Rows read from the index at a time, without and with their documents.
const PAGE_ROWS: usize = 1_000;
const PAGE_ROWS_WITH_DOCS: usize = 256;

/// Rows of the index, before documents were added.
struct FoundRows {
    rows: Vec<ChangeRow>,
    /// Where an ascending feed goes on after all of them.
    last_seq: u64,
    more: bool,
    /// Groups among the rows.
    spans: Vec<Span>,
}

/// Where a feed stands after a page.
struct Place {
    since: u64,
    descended: Option<u64>,
    at_end: bool,
}

impl Feed {
    pub(super) async fn read_page(
        &mut self,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<FeedPage, StoreError> {
        self.database.alive()?;
        let found = self.read_rows(rows_max).await?;
        let scanned = found.rows.len();
        let lowest = found.rows.last().map(|row| row.seq);
        let rows = found.rows.into_iter();
        let wanted: Vec<ChangeRow> = rows.filter(|row| !self.leaves_out(row)).collect();
        let (mut wanted, unread) = self.select(wanted, rows_max).await?;
        let passing = wanted.len() + usize::from(unread);
        wanted.truncate(whole_groups(&wanted, &found.spans, rows_max));
        let mut changes = self.with_docs(wanted, &found.spans, bytes_max).await?;
        // Where the bounds ended the page early, the feed goes on after the last row given out.
        let cut = changes.len() < passing;
        let last = changes.last().map(|change| change.group.unwrap_or(change.seq.number));
        let at_end = !found.more && !cut;
        let mut place = match self.options.order {
            Order::Ascending => {
                let since = if cut { last.unwrap_or(self.since) } else { found.last_seq };
                Place { since, descended: None, at_end }
            }
            Order::Descending => {
                let lowest = if cut { last } else { lowest };
                let since = if at_end { found.last_seq } else { self.since };
                Place { since, descended: lowest.or(self.descended), at_end }
            }
        };
        let end_at = self.end_after(&mut place).await?;
        let passed = if cut { changes.len() } else { scanned };
        let pending = self.count_pending(&place, passed).await?;
        self.database.alive()?;
        if self.options.style == Style::MainOnly {
            changes.iter_mut().for_each(|change| change.leaves.truncate(1));
        }
        (self.since, self.descended, self.at_end) = (place.since, place.descended, place.at_end);
        (self.pending, self.end_at) = (pending, end_at);
        Ok(FeedPage { rows: changes, last_seq: self.database.seq(self.since), pending })
    }

    /// Takes an end back if something was written during the look: a document that was there before
    /// may have moved behind it, and a reader that reads once would not see it at all. One more look
    /// is enough; what is written during that one is for the next reader, or there is no end.
    async fn end_after(&self, place: &mut Place) -> Result<Option<u64>, StoreError> {
        if !place.at_end || self.options.order == Order::Descending {
            return Ok(self.end_at);
        }
        let end_at = match self.end_at {
            Some(end_at) => end_at,
            None => self.database.counts().await?.update_seq,
        };
        place.at_end = place.since >= end_at;
        Ok(Some(end_at).filter(|_| !place.at_end))
    }

    fn leaves_out(&self, row: &ChangeRow) -> bool {
        let deleted = row.leaves.first().is_some_and(|(_, deleted)| *deleted);
        self.options.skip_tombstones && deleted && row.seq <= self.counts.update_seq
    }

    /// Whether it sees each row that it passes: others may say that more follows than does.
    fn counts_exactly(&self) -> bool {
        let ChangesOptions { doc_ids, selectors, skip_tombstones, groups, .. } = &self.options;
        doc_ids.is_none() && selectors.is_empty() && !skip_tombstones && !groups
    }

    /// Keeps `pending` by subtraction and counts anew only when subtraction has run out, so that
    /// reading a long feed does not count its rest at every page.
    async fn count_pending(&self, place: &Place, passed: usize) -> Result<u64, StoreError> {
        if place.at_end {
            return Ok(0);
        }
        let left = self.pending.saturating_sub(passed as u64);
        if self.options.order == Order::Descending {
            return Ok(left.max(1));
        }
        if left > 0 {
            if self.counts_exactly() && place.since <= self.counts.update_seq {
                self.database.keep_pending(self.since, place.since, left, self.counts);
            }
            return Ok(left);
        }
        let (backend, key) = (self.database.backend(), self.database.key());
        Ok(backend.count_changes(key, place.since).await?.max(1))
    }

    /// Rows that follow, at most `rows_max` unless a filter is to take some away.
    async fn read_rows(&self, rows_max: usize) -> Result<FoundRows, StoreError> {
        let reads_docs =
            self.options.docs != ChangeDocs::None || !self.options.selectors.is_empty();
        let page_rows = if reads_docs { PAGE_ROWS_WITH_DOCS } else { PAGE_ROWS };
        // A filter may leave little of what is read: a small page must not read row by row.
        let filters = self.options.skip_tombstones || !self.options.selectors.is_empty();
        let limit = if filters { page_rows } else { rows_max.min(page_rows) };
        match (&self.options.doc_ids, self.options.order) {
            (Some(ids), _) => self.read_named(ids, limit).await,
            (None, Order::Descending) => self.read_descending(limit, rows_max).await,
            (None, Order::Ascending) => {
                let (backend, key) = (self.database.backend(), self.database.key());
                if self.options.groups && self.options.selectors.is_empty() {
                    return self.read_grouped(limit).await;
                }
                let range = ChangesRange { since: self.since, limit, order: Order::Ascending };
                let page = backend.changes(key, range).await?;
                Ok(FoundRows {
                    rows: page.rows,
                    last_seq: page.last_seq,
                    more: page.more,
                    spans: Vec::new(),
                })
            }
        }
    }

    async fn read_grouped(&self, limit: usize) -> Result<FoundRows, StoreError> {
        let skips = self.options.skip_tombstones;
        let found = self.database.grouped_rows(self.since, limit, skips).await?;
        let GroupedRows { rows, spans, last_seq, more } = found;
        Ok(FoundRows { rows, last_seq, more, spans })
    }

    /// A descending page is found among the newest rows: those above the last page are passed over.
    /// Where the reader takes that many, a page is as long as what it passes over, so that reading
    /// everything costs twice its length and not its square.
    async fn read_descending(
        &self,
        limit: usize,
        rows_max: usize,
    ) -> Result<FoundRows, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let passed = match self.descended {
            None => 0,
            Some(lowest) => backend.count_changes(key, lowest.saturating_sub(1)).await?,
        };
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let longer = if self.options.docs == ChangeDocs::None { passed.min(rows_max) } else { 0 };
        let limit = limit.max(longer).saturating_add(passed);
        let range = ChangesRange { since: self.since, limit, order: Order::Descending };
        let mut page = backend.changes(key, range).await?;
        if let Some(lowest) = self.descended {
            page.rows.retain(|row| row.seq < lowest);
        }
        Ok(FoundRows {
            rows: page.rows,
            last_seq: page.last_seq,
            more: page.more,
            spans: Vec::new(),
        })
    }

    /// The rows of named documents: their states are read, which costs their number and not the
    /// length of the feed.
    ///
    /// A document that changes after the update seq was read is left for the next look: documents
    /// are not all read at one moment, so a page that reached further could pass over a change.
    async fn read_named(&self, ids: &[DocId], limit: usize) -> Result<FoundRows, StoreError> {
        let (backend, key) = (self.database.backend(), self.database.key());
        let update_seq = backend.counts(key).await?.update_seq;
        let mut seen = HashSet::with_capacity(ids.len());
        let ids: Vec<DocId> = ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
        let below = self.descended.unwrap_or(u64::MAX);
        let mut rows: Vec<ChangeRow> = Vec::new();
        for ids in ids.chunks(PAGE_ROWS_WITH_DOCS) {
            let states = backend.read(key, ids, ReadDoc::recent(ReadBody::No)).await?;
            for (id, state) in ids.iter().zip(states) {
                let Some(state) = state else { continue };
                let seq = state.version.seq;
                if self.since < seq && seq <= update_seq && seq < below {
                    let leaves = state.tree.leaves().into_iter();
                    let leaves = leaves.map(|leaf| (leaf.rev, leaf.state.deleted)).collect();
                    rows.push(ChangeRow { seq, id: id.clone(), leaves });
                }
            }
        }
        rows.sort_by_key(|row| row.seq);
        if self.options.order == Order::Descending {
            rows.reverse();
        }
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last_seq = match rows.last() {
            _ if !more => update_seq.max(self.since),
            Some(row) => row.seq,
            None => self.since,
        };
        Ok(FoundRows { rows, last_seq, more, spans: Vec::new() })
    }

    /// Adds the documents asked for, as many rows as fit the bytes, at least one.
    async fn with_docs(
        &self,
        rows: Vec<ChangeRow>,
        spans: &[Span],
        bytes_max: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let change = |row: ChangeRow, docs| Change {
            group: spans.iter().find(|span| span.has(row.seq)).map(|span| span.last),
            seq: self.database.seq(row.seq),
            id: row.id,
            leaves: row.leaves,
            docs,
        };
        if self.options.docs == ChangeDocs::None || rows.is_empty() {
            return Ok(rows.into_iter().map(|row| change(row, Vec::new())).collect());
        }
        let (backend, key) = (self.database.backend(), self.database.key());
        let ids: Vec<DocId> = rows.iter().map(|row| row.id.clone()).collect();
        // Leaves come with their histories.
        let read = match self.options.docs {
            ChangeDocs::Leaves => ReadDoc::whole(ReadBody::SmallWinner),
            ChangeDocs::None | ChangeDocs::Winner => ReadDoc::recent(ReadBody::SmallWinner),
        };
        let read = ReadDoc { written_after: Some(self.since), ..read };
        let mut states = backend.read(key, &ids, read).await?;
        let count = self.rows_that_fit(&rows, &states, bytes_max);
        let count = whole_groups(&rows, spans, count);
        let rows: Vec<ChangeRow> = rows.into_iter().take(count).collect();
        let wanted: Vec<(DocId, Rev)> = rows
            .iter()
            .zip(&states)
            .flat_map(|(row, state)| self.not_at_hand(row, state.as_ref()))
            .collect();
        // Most pages need none, and a backend may go to another thread to read nothing.
        let bodies =
            if wanted.is_empty() { Vec::new() } else { backend.bodies(key, &wanted).await? };
        let mut bodies = bodies.into_iter();
        let revs = self.options.docs == ChangeDocs::Leaves;
        let get = GetOptions { revs, ..GetOptions::default() };
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
