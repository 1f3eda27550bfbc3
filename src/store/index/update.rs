//! Bringing an index up to date, from the changes feed and in bounded steps.
//!
//! The hard case is a document that changes meanwhile. A step must show the documents as they were at
//! its update seq, since a crash may take a newer state of a document back. So the body of the
//! revision that the feed's row names is read, not that of the newest one. Where compaction has
//! taken it, the document has a newer row further on, and the index goes on until it is reached. A
//! document may also move behind the end before it was reached at all: so the end is looked for
//! once more when it is reached.

use std::sync::Arc;

use super::{DESIGN, Index};
use crate::doc::{DocId, Document, Rev, RevTree};
use crate::store::backend::{
    ChangeRow, ChangesRange, IndexCommit, IndexKey, IndexOutcome, IndexState, Order, ReadBody,
    ReadDoc, StoredDoc,
};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::read::plain;

/// Documents of one step.
const STEP_DOCS: usize = 100;

/// Documents and their keys, and the newest seq of those that could not be read as they were.
struct Keys {
    docs: Vec<(DocId, Option<Vec<u8>>)>,
    moved_to: u64,
}

impl Database {
    /// Makes an index show every change that was durable when this was called; answers the update
    /// seq that it is at. Whoever finds it behind waits for who is at it already.
    pub(crate) async fn bring_up(&self, index: &Index) -> Result<u64, StoreError> {
        let key = index.key();
        // Without the lock, so that no query of a built index waits for another. The state first:
        // what an index lacks was durable elsewhere before it got there.
        let state = self.index_state(key).await?;
        let mut target = self.counts().await?.update_seq;
        if let Some(state) = state
            && state.seq == target
            && !state.removing
        {
            return Ok(target);
        }
        let lock = self.shared.index_lock(key);
        let _building = lock.lock().await;
        let mut is_last_look = false;
        loop {
            let state = self.index_state(key).await?;
            // After the state: an index is never ahead of counters that were read later.
            let counts = self.counts().await?;
            let seq = state.map_or(0, |state| state.seq);
            if seq > counts.update_seq || state.is_some_and(|state| state.removing) {
                self.remove_rows(key).await?;
                continue;
            }
            if state.is_some() && seq >= target {
                if is_last_look || seq == counts.update_seq {
                    return Ok(seq);
                }
                // What is written from here on is for the next query, or there is no end.
                (is_last_look, target) = (true, counts.update_seq);
            }
            let range = ChangesRange { since: seq, limit: STEP_DOCS, order: Order::Ascending };
            let page = self.backend().changes(self.key(), range).await?;
            self.alive()?;
            let Keys { docs, moved_to } = self.keys_of(index, page.rows).await?;
            let commit = IndexCommit {
                index: key,
                expected: state,
                purge_seq: counts.purge_seq,
                seq: page.last_seq,
                docs,
            };
            let outcome = self.named(self.backend().commit_index(self.key(), commit).await)?;
            if outcome == IndexOutcome::Done {
                target = target.max(moved_to);
            }
        }
    }

    pub(super) async fn index_state(
        &self,
        key: IndexKey,
    ) -> Result<Option<IndexState>, StoreError> {
        let states = self.backend().indexes(self.key()).await?;
        Ok(states.into_iter().find(|(found, _)| *found == key).map(|(_, state)| state))
    }

    async fn keys_of(&self, index: &Index, rows: Vec<ChangeRow>) -> Result<Keys, StoreError> {
        let ids: Vec<DocId> = rows.iter().map(|row| row.id.clone()).collect();
        let read = ReadDoc::recent(ReadBody::SmallWinner);
        let states = self.backend().read(self.key(), &ids, read).await?;
        let mut keys = Keys { docs: Vec::with_capacity(rows.len()), moved_to: 0 };
        for (row, state) in rows.into_iter().zip(states) {
            let live = row.leaves.into_iter().next().filter(|(_, deleted)| !deleted);
            let key = match live {
                Some((rev, _)) if !row.id.as_str().starts_with(DESIGN) => {
                    let document = self.document_at(&row.id, &rev, state).await?;
                    if document.is_none() {
                        keys.moved_to = keys.moved_to.max(self.seq_now(&row.id).await?);
                    }
                    document.and_then(|document| index.entry_key(&document))
                }
                Some(_) | None => None,
            };
            keys.docs.push((row.id, key));
        }
        Ok(keys)
    }

    /// The seq of a document's newest row, durable or not; 0 if it is gone.
    async fn seq_now(&self, id: &DocId) -> Result<u64, StoreError> {
        let read = ReadDoc::recent(ReadBody::No);
        let found = self.backend().read(self.key(), std::slice::from_ref(id), read).await?;
        Ok(found.into_iter().flatten().next().map_or(0, |stored| stored.version.seq))
    }

    /// A revision that won, from the state at hand if it still does.
    async fn document_at(
        &self,
        id: &DocId,
        rev: &Rev,
        state: Option<StoredDoc>,
    ) -> Result<Option<Document>, StoreError> {
        let at_hand = state.and_then(|state| {
            let winner = state.tree.winner()?;
            state.winner_body.filter(|_| winner.rev == *rev)
        });
        let record = match at_hand {
            Some(record) => Some(record),
            None => self.one_body(id, rev).await?,
        };
        Ok(record.map(|record| plain(id, rev, &RevTree::default(), record)))
    }
}

impl crate::store::database::DatabaseShared {
    /// The lock under which an index is brought up to date.
    pub(super) fn index_lock(&self, key: IndexKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.index_locks();
        // Whoever builds holds one of them.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(key).or_default())
    }
}
