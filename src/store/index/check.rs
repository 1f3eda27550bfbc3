//! Whether what indexes say is what the documents say.

use std::collections::HashMap;

use super::Index;
use crate::doc::DocId;
use crate::store::backend::{
    DocsRange, IndexEntry, IndexKey, IndexRange, IndexState, Order, ReadBody, ReadDoc, StoredDoc,
};
use crate::store::database::Database;
use crate::store::error::StoreError;
use crate::store::read::plain;

/// Rows read at a time.
const PAGE_ROWS: usize = 500;

impl Database {
    /// The indexes whose rows are not those of the documents. No document is lost with them:
    /// [`Database::rebuild_indexes`] makes them anew. Nothing may be written meanwhile.
    pub(crate) async fn damaged_indexes(&self) -> Result<Vec<IndexKey>, StoreError> {
        let mut defined: HashMap<IndexKey, Index> = HashMap::new();
        for index in self.indexes().await? {
            defined.insert(index.key(), index);
        }
        let newest = self.counts().await?.update_seq;
        let mut damaged = Vec::new();
        for (key, state) in self.backend().indexes(self.key()).await? {
            let sound = match defined.get(&key) {
                // What nobody defines is not read.
                _ if state.removing => true,
                None => true,
                Some(_) if state.seq > newest => false,
                Some(index) => match self.is_sound(index, state).await {
                    Ok(sound) => sound,
                    Err(StoreError::Damaged { .. }) => false,
                    Err(error) => return Err(error),
                },
            };
            if !sound {
                damaged.push(key);
            }
        }
        Ok(damaged)
    }

    /// Whether each entry is its document's, and as many are there as documents should have one.
    /// Documents that changed since the index was brought up to date do not count.
    async fn is_sound(&self, index: &Index, state: IndexState) -> Result<bool, StoreError> {
        let mut range = IndexRange { limit: PAGE_ROWS, ..IndexRange::default() };
        let mut found = 0_u64;
        loop {
            let page = self.backend().index_entries(self.key(), index.key(), range.clone()).await?;
            let page = page.unwrap_or_default();
            let Some(last) = page.last() else { break };
            range.after = Some(last.clone());
            let ids: Vec<DocId> = page.iter().map(|entry| entry.id.clone()).collect();
            let read = ReadDoc::recent(ReadBody::SmallWinner);
            let states = self.backend().read(self.key(), &ids, read).await?;
            for (IndexEntry { key, id }, stored) in page.iter().zip(states) {
                let Some(stored) = stored else { return Ok(false) };
                if stored.version.seq > state.seq {
                    continue;
                }
                if self.expected_key(index, id, stored).await?.as_ref() != Some(key) {
                    return Ok(false);
                }
                found += 1;
            }
        }
        Ok(found == self.expected_entries(index, state).await?)
    }

    async fn expected_entries(&self, index: &Index, state: IndexState) -> Result<u64, StoreError> {
        let mut expected = 0;
        let mut range = DocsRange {
            from: None,
            after_from: true,
            to: None,
            to_inclusive: true,
            limit: PAGE_ROWS,
            order: Order::Ascending,
            read: ReadDoc::recent(ReadBody::SmallWinner),
        };
        loop {
            let page = self.backend().docs(self.key(), range.clone()).await?;
            let Some((last, _)) = page.last() else { return Ok(expected) };
            range.from = Some(last.as_str().to_owned());
            for (id, stored) in page {
                if stored.version.seq <= state.seq {
                    expected += u64::from(self.expected_key(index, &id, stored).await?.is_some());
                }
            }
        }
    }

    async fn expected_key(
        &self,
        index: &Index,
        id: &DocId,
        mut stored: StoredDoc,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(winner) = stored.tree.winner().filter(|winner| !winner.state.deleted) else {
            return Ok(None);
        };
        let record = match stored.winner_body.take() {
            Some(record) => Some(record),
            None => self.one_body(id, &winner.rev).await?,
        };
        Ok(record.and_then(|record| index.entry_key(&plain(id, &winner.rev, &stored.tree, record))))
    }
}
