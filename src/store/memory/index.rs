//! Indexes of the store in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use async_trait::async_trait;

use super::MemoryBackend;
use crate::doc::DocId;
use crate::store::backend::{
    DatabaseKey, IndexBackend, IndexCommit, IndexEntry, IndexKey, IndexOutcome, IndexRange,
    IndexState, Order,
};
use crate::store::error::StoreError;

#[derive(Debug, Default)]
pub(super) struct Index {
    seq: u64,
    entries: BTreeSet<IndexEntry>,
    keys: BTreeMap<DocId, Vec<u8>>,
}

impl Index {
    pub(super) fn forget(&mut self, id: &DocId) {
        if let Some(key) = self.keys.remove(id) {
            self.entries.remove(&IndexEntry { key, id: id.clone() });
        }
    }

    fn state(&self) -> IndexState {
        IndexState { seq: self.seq, removing: false }
    }

    fn commit(&mut self, commit: IndexCommit) {
        for (id, key) in commit.docs {
            self.forget(&id);
            if let Some(key) = key {
                self.keys.insert(id.clone(), key.clone());
                self.entries.insert(IndexEntry { key, id });
            }
        }
        self.seq = commit.seq;
    }

    fn entries(&self, range: &IndexRange) -> Vec<IndexEntry> {
        let within = |entry: &&IndexEntry| {
            entry.key >= range.low && range.high.as_ref().is_none_or(|high| entry.key < *high)
        };
        let found = match (range.order, &range.after) {
            (Order::Ascending, Some(after)) => {
                self.entries.range((Bound::Excluded(after), Bound::Unbounded))
            }
            (Order::Descending, Some(after)) => self.entries.range(..after),
            (_, None) => self.entries.range::<IndexEntry, _>(..),
        };
        match range.order {
            Order::Ascending => found.filter(within).take(range.limit).cloned().collect(),
            Order::Descending => found.rev().filter(within).take(range.limit).cloned().collect(),
        }
    }
}

#[async_trait]
impl IndexBackend for MemoryBackend {
    async fn indexes(&self, db: DatabaseKey) -> Result<Vec<(IndexKey, IndexState)>, StoreError> {
        self.read_in(db, |database| {
            database.indexes.iter().map(|(key, index)| (*key, index.state())).collect()
        })
    }

    async fn commit_index(
        &self,
        db: DatabaseKey,
        commit: IndexCommit,
    ) -> Result<IndexOutcome, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let database = state.database_mut(db)?;
        let found = database.indexes.get(&commit.index).map(Index::state);
        if found != commit.expected || database.counts.purge_seq != commit.purge_seq {
            return Ok(IndexOutcome::Stale);
        }
        database.indexes.entry(commit.index).or_default().commit(commit);
        Ok(IndexOutcome::Done)
    }

    async fn index_entries(
        &self,
        db: DatabaseKey,
        index: IndexKey,
        range: IndexRange,
    ) -> Result<Option<Vec<IndexEntry>>, StoreError> {
        self.read_in(db, |database| database.indexes.get(&index).map(|index| index.entries(&range)))
    }

    async fn remove_index(&self, db: DatabaseKey, index: IndexKey) -> Result<bool, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        state.database_mut(db)?.indexes.remove(&index);
        Ok(false)
    }
}
