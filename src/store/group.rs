//! Groups: documents that are written together and read together.
//!
//! A group is written in one atomic batch, beside which stands a row that says which revisions these
//! were. A feed that was asked for groups shows them whole: its pages never end within one.
//!
//! The hard case is a document of a group that has changed since, whose row has moved on in the feed.
//! A reader that came past the group's place would then have the others without it. So the feed shows
//! at the group's place what was written there, the replaced revision included. Compaction may have
//! taken its body: then the document's present state stands in for it. A group of which all
//! documents have changed since, and some body is gone, is not shown any more; nor is one for which
//! more bytes stand in than a group may have, since it goes in one message.

use std::collections::HashSet;

use super::backend::{
    COMMIT_DOCS_ATOMIC_MAX, ChangeRow, ChangesRange, GroupRow, Order, ReadBody, ReadDoc, StoredDoc,
};
use super::database::Database;
use super::error::StoreError;
use super::write::{EditMode, WriteOptions, WriteOutcome};
use crate::doc::{DocId, Document};

/// Documents that a group may have.
pub const GROUP_DOCS_MAX: usize = COMMIT_DOCS_ATOMIC_MAX;

/// Groups read at a time.
const PAGE_GROUPS: usize = 32;

/// The places of a group's documents in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub first: u64,
    pub last: u64,
}

impl Span {
    pub(super) fn has(self, seq: u64) -> bool {
        self.first <= seq && seq <= self.last
    }
}

/// Rows of the feed with those that their groups lack.
pub(super) struct GroupedRows {
    pub rows: Vec<ChangeRow>,
    pub spans: Vec<Span>,
    pub last_seq: u64,
    pub more: bool,
}

impl Database {
    /// Writes documents as a group: all of them or none.
    ///
    /// If one is refused, so are the others, with [`DocError::GroupRefused`]. What is stored is stored
    /// in one atomic batch, on disk when this returns, and has consecutive places in the changes
    /// feed; a feed with [`ChangesOptions::groups`] and every replica that reads one get it whole.
    /// docs/GROUPS.md says what is promised.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use serde_json::json;
    /// use settee::{DbName, Document, Store, store::EditMode};
    /// # let store = Store::memory();
    /// let accounts = store.open_or_create(&DbName::parse("accounts")?).await?;
    /// let transfer = vec![
    ///     Document::new("ada", &json!({"balance": 10}))?,
    ///     Document::new("transfer-1", &json!({"to": "ada", "amount": 10}))?,
    /// ];
    /// let outcomes = accounts.write_group(transfer, EditMode::Edit).await?;
    /// assert!(outcomes.iter().all(Result::is_ok));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more than [`GROUP_DOCS_MAX`] documents or more bytes of bodies
    /// than one document may have (edits only); else as [`Database::bulk_docs`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the group either whole or not written.
    ///
    /// [`DocError::GroupRefused`]: super::DocError::GroupRefused
    /// [`ChangesOptions::groups`]: super::ChangesOptions::groups
    pub async fn write_group(
        &self,
        documents: Vec<Document>,
        mode: EditMode,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        self.write_group_with(documents, WriteOptions { mode, ..WriteOptions::default() }).await
    }

    /// Refuses what is too large for a group.
    ///
    /// Of revisions from elsewhere only the number of documents counts: what stands in for them may
    /// have grown since.
    pub(super) fn check_group(
        &self,
        documents: &[Document],
        mode: EditMode,
    ) -> Result<(), StoreError> {
        let ids: HashSet<&DocId> = documents.iter().map(|document| &document.id).collect();
        let count = ids.len();
        if count > GROUP_DOCS_MAX {
            let (what, max) = ("documents in a group", GROUP_DOCS_MAX as u64);
            return Err(StoreError::TooLarge { what, count: count as u64, max });
        }
        let bytes: usize = documents.iter().map(|document| document.body.as_str().len()).sum();
        let max = self.limits().doc_bytes_max;
        if bytes > max && mode == EditMode::Edit {
            let (what, count) = ("bytes of the documents in a group", bytes as u64);
            return Err(StoreError::TooLarge { what, count, max: max as u64 });
        }
        Ok(())
    }

    /// Rows of the feed after `since`, about `limit` of them, with groups whole.
    pub(super) async fn grouped_rows(
        &self,
        since: u64,
        limit: usize,
        skips_deleted: bool,
    ) -> Result<GroupedRows, StoreError> {
        let (backend, key) = (self.backend(), self.key());
        let _forgetting = self.shared.forgetting.read().await;
        let range = ChangesRange { since, limit, order: Order::Ascending };
        let page = backend.changes(key, range).await?;
        let mut found = GroupedRows {
            rows: page.rows,
            spans: Vec::new(),
            last_seq: page.last_seq,
            more: page.more,
        };
        let mut groups = backend.groups(key, since, PAGE_GROUPS).await?;
        let all_read = groups.len() < PAGE_GROUPS;
        groups.retain(|group| group.first() <= found.last_seq);
        match groups.last().map(GroupRow::last) {
            Some(last) if last > found.last_seq => {
                let limit = usize::try_from(last - found.last_seq).unwrap_or(usize::MAX);
                let range = ChangesRange { since: found.last_seq, limit, order: Order::Ascending };
                let rest = backend.changes(key, range).await?;
                found.rows.extend(rest.rows.into_iter().filter(|row| row.seq <= last));
                (found.last_seq, found.more) = (last, true);
            }
            Some(last) if !all_read && groups.len() == PAGE_GROUPS && last < found.last_seq => {
                found.rows.retain(|row| row.seq <= last);
                (found.last_seq, found.more) = (last, true);
            }
            _ => {}
        }
        for group in groups {
            self.complete(&mut found, group, skips_deleted).await?;
        }
        found.rows.sort_by_key(|row| row.seq);
        Ok(found)
    }

    /// Adds the rows of a group that are in the feed no more.
    async fn complete(
        &self,
        found: &mut GroupedRows,
        group: GroupRow,
        skips_deleted: bool,
    ) -> Result<(), StoreError> {
        let span = Span { first: group.first(), last: group.last() };
        let moved =
            |row: &ChangeRow| found.rows.binary_search_by_key(&row.seq, |there| there.seq).is_err();
        let moved: Vec<ChangeRow> = group.rows.into_iter().filter(moved).collect();
        let stands = moved.len() as u64 <= span.last - span.first;
        if moved.is_empty() {
            found.spans.push(span);
            return Ok(());
        }
        let ids: Vec<DocId> = moved.iter().map(|row| row.id.clone()).collect();
        let read = ReadDoc::whole(ReadBody::No);
        let states = self.backend().read(self.key(), &ids, read).await?;
        let mut rows = Vec::with_capacity(moved.len());
        let mut bytes = 0;
        for (row, state) in moved.into_iter().zip(states) {
            // Purged: as if it had never been there.
            let Some(state) = state else { continue };
            let deleted = || state.tree.winner().is_some_and(|winner| winner.state.deleted);
            if skips_deleted && deleted() {
                continue;
            }
            if has_bodies(&row, &state) {
                rows.push(row);
                continue;
            }
            let leaves = state.tree.leaves();
            bytes += leaves
                .iter()
                .filter_map(|leaf| leaf.state.body_bytes)
                .map(|one| one as usize)
                .sum::<usize>();
            if !stands || bytes > self.limits().doc_bytes_max {
                return Ok(());
            }
            let leaves = leaves.into_iter().map(|leaf| (leaf.rev, leaf.state.deleted)).collect();
            rows.push(ChangeRow { leaves, ..row });
        }
        found.rows.extend(rows);
        found.rows.sort_by_key(|row| row.seq);
        found.spans.push(span);
        Ok(())
    }

    /// Forgets the groups of which no document is as it was written, up to an update seq: what
    /// compaction takes from them, nobody could be shown.
    pub(super) async fn forget_groups(&self, until: u64) -> Result<(), StoreError> {
        let (backend, key) = (self.backend(), self.key());
        let mut since = 0;
        loop {
            let groups = backend.groups(key, since, PAGE_GROUPS).await?;
            let Some(last) = groups.last().map(GroupRow::last) else { return Ok(()) };
            since = last;
            let mut gone = Vec::new();
            for group in groups.iter().filter(|group| group.last() <= until) {
                let ids: Vec<DocId> = group.rows.iter().map(|row| row.id.clone()).collect();
                let read = ReadDoc::recent(ReadBody::No);
                let states = backend.read(key, &ids, read).await?;
                let span = Span { first: group.first(), last: group.last() };
                if !states.iter().flatten().any(|state| span.has(state.version.seq)) {
                    gone.push(group.last());
                }
            }
            if !gone.is_empty() {
                let _forgetting = self.shared.forgetting.write().await;
                self.named(backend.forget_groups(key, gone).await)?;
            }
            if since >= until {
                return Ok(());
            }
        }
    }
}

fn has_bodies(row: &ChangeRow, state: &StoredDoc) -> bool {
    let stored = |(rev, _): &(crate::doc::Rev, bool)| {
        state.tree.state(rev).is_some_and(|state| state.body_bytes.is_some())
    };
    row.leaves.iter().all(stored)
}

/// How many rows to give so that no group is cut, if about `count` are wanted.
pub(super) fn whole_groups(rows: &[ChangeRow], spans: &[Span], count: usize) -> usize {
    let Some(last) = count.checked_sub(1).and_then(|place| rows.get(place)) else {
        return count.min(rows.len());
    };
    match spans.iter().find(|span| span.has(last.seq)) {
        Some(span) => rows.partition_point(|row| row.seq <= span.last),
        None => count,
    }
}
