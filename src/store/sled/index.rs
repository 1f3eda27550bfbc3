//! Rows of indexes: the committer's part, and reads.
//!
//! They are derived from documents, so that nobody waits for their flush: a step is applied in a
//! batch of its own, with the state that it leads to, and its caller is answered. sled's log keeps
//! the order of batches, so that a crash takes back the last steps and no other ones. A step is made
//! of durable documents only, hence no crash leaves an index ahead of its database.
//!
//! The hard case is a purge, which leaves no row in the by-seq index: it removes the entries itself,
//! and a step that was made without knowing of it is refused by the number of purges.

use async_trait::async_trait;

use super::committer::Committer;
use super::reads::scan;
use super::request::Request;
use super::value::{Writes, damaged, get};
use super::{Db, SledBackend, io_error};
use crate::doc::DocId;
use crate::doc::varint::{self, Reader};
use crate::store::backend::{
    DatabaseKey, IndexBackend, IndexCommit, IndexEntry, IndexKey, IndexOutcome, IndexRange,
    IndexState, Order,
};
use crate::store::error::StoreError;
use crate::store::keys::{self, Kind};

/// Rows removed in one batch.
const STEP_ROWS: usize = 128;

fn encode_state(state: IndexState) -> Vec<u8> {
    let mut value = vec![u8::from(state.removing)];
    varint::push(&mut value, state.seq);
    value
}

/// A state that cannot be read is that of an index which is to be removed: it is built again.
fn state_of(value: &[u8]) -> IndexState {
    decode_state(value).unwrap_or(IndexState { seq: 0, removing: true })
}

fn decode_state(value: &[u8]) -> Option<IndexState> {
    let mut reader = Reader(value);
    let removing = reader.byte().filter(|flags| *flags <= 1)? == 1;
    let seq = reader.varint()?;
    reader.0.is_empty().then_some(IndexState { seq, removing })
}

fn state(
    db: &Db,
    database: DatabaseKey,
    index: IndexKey,
) -> Result<Option<IndexState>, StoreError> {
    let key = keys::index(database, index);
    Ok(get(db, &key)?.map(|value| state_of(&value)))
}

pub(super) fn states(
    db: &Db,
    database: DatabaseKey,
) -> Result<Vec<(IndexKey, IndexState)>, StoreError> {
    let rows = scan(db, keys::all(database, Kind::Index), Order::Ascending);
    rows.map(|row| {
        let (key, value) = row?;
        let index = keys::index_of(&key).ok_or_else(|| damaged(&key, "is malformed"))?;
        Ok((index, state_of(&value)))
    })
    .collect()
}

fn is_there(db: &Db, database: DatabaseKey, index: IndexKey) -> Result<bool, StoreError> {
    Ok(state(db, database, index)?.is_some_and(|state| !state.removing))
}

fn entries(
    db: &Db,
    database: DatabaseKey,
    index: IndexKey,
    range: &IndexRange,
) -> Result<Option<Vec<IndexEntry>>, StoreError> {
    let mut found = Vec::new();
    if let Some(bounds) = keys::entries(database, index, range) {
        for row in scan(db, bounds, range.order).take(range.limit) {
            let (key, value) = row?;
            let length = Reader(&value).varint().and_then(|length| usize::try_from(length).ok());
            let entry = length.and_then(|length| keys::entry_of(&key, length));
            found.push(entry.ok_or_else(|| damaged(&key, "is malformed"))?);
        }
    }
    // Looked at last: whoever removes entries says so in the state first.
    Ok(is_there(db, database, index)?.then_some(found))
}

/// Takes a document's entry out of an index.
fn remove_entry(
    db: &Db,
    writes: &mut Writes,
    database: DatabaseKey,
    index: IndexKey,
    id: &DocId,
) -> Result<(), StoreError> {
    let row = keys::indexed(database, index, id);
    if let Some(old) = get(db, &row)? {
        writes.remove(&keys::entry(database, index, &old, id));
        writes.remove(&row);
    }
    Ok(())
}

/// Takes a document's entries out of these indexes, which are all of its database.
pub(super) fn forget(
    db: &Db,
    writes: &mut Writes,
    database: DatabaseKey,
    indexes: &[(IndexKey, IndexState)],
    id: &DocId,
) -> Result<(), StoreError> {
    indexes.iter().try_for_each(|(index, _)| remove_entry(db, writes, database, *index, id))
}

fn bytes_of(commit: &IndexCommit) -> usize {
    let row = |(id, key): &(DocId, Option<Vec<u8>>)| {
        2 * (id.as_str().len() + key.as_ref().map_or(0, Vec::len) + size_of::<IndexKey>())
    };
    commit.docs.iter().map(row).sum()
}

impl Committer {
    pub(super) fn commit_index(
        &mut self,
        db: DatabaseKey,
        commit: &IndexCommit,
    ) -> Result<IndexOutcome, StoreError> {
        self.check_writable(Some(db))?;
        self.room.take(bytes_of(commit))?;
        let index = commit.index;
        if self.counts_now(db)?.purge_seq != commit.purge_seq
            || state(&self.db, db, index)? != commit.expected
        {
            return Ok(IndexOutcome::Stale);
        }
        let mut writes = Writes::default();
        for (id, key) in &commit.docs {
            remove_entry(&self.db, &mut writes, db, index, id)?;
            if let Some(key) = key {
                let mut length = Vec::new();
                varint::push(&mut length, key.len() as u64);
                writes.insert(&keys::entry(db, index, key, id), &length);
                writes.insert(&keys::indexed(db, index, id), key);
            }
        }
        let reached = IndexState { seq: commit.seq, removing: false };
        writes.insert(&keys::index(db, index), &encode_state(reached));
        self.apply_index(writes, commit.docs.len())?;
        Ok(IndexOutcome::Done)
    }

    pub(super) fn remove_index(
        &mut self,
        db: DatabaseKey,
        index: IndexKey,
    ) -> Result<bool, StoreError> {
        self.check_writable(Some(db))?;
        let Some(found) = state(&self.db, db, index)? else { return Ok(false) };
        let mut writes = Writes::default();
        let mut rows = 0;
        // The state first, and in a batch of its own: a reader who finds entries gone looks at it.
        if found.removing {
            for kind in [Kind::Entry, Kind::Indexed] {
                let all = keys::all_of_index(db, index, kind);
                for key in self.db.range(all).keys().take(STEP_ROWS - rows) {
                    writes.remove(&key.map_err(|error| io_error("read the database", error))?);
                    rows += 1;
                }
            }
        } else {
            let state = IndexState { removing: true, ..found };
            writes.insert(&keys::index(db, index), &encode_state(state));
        }
        let left = !found.removing || rows == STEP_ROWS;
        if !left {
            writes.remove(&keys::index(db, index));
        }
        self.apply_index(writes, rows)?;
        Ok(left)
    }

    fn apply_index(&mut self, writes: Writes, rows: usize) -> Result<(), StoreError> {
        self.count_applied(rows);
        self.apply_writes(writes)
    }
}

#[async_trait]
impl IndexBackend for SledBackend {
    async fn indexes(&self, db: DatabaseKey) -> Result<Vec<(IndexKey, IndexState)>, StoreError> {
        self.inner.read_in(db, move |_, sled| states(sled, db)).await
    }

    async fn commit_index(
        &self,
        db: DatabaseKey,
        commit: IndexCommit,
    ) -> Result<IndexOutcome, StoreError> {
        self.request(|answer| Request::Index { db, commit, answer }).await
    }

    async fn index_entries(
        &self,
        db: DatabaseKey,
        index: IndexKey,
        range: IndexRange,
    ) -> Result<Option<Vec<IndexEntry>>, StoreError> {
        self.inner.read_in(db, move |_, sled| entries(sled, db, index, &range)).await
    }

    async fn remove_index(&self, db: DatabaseKey, index: IndexKey) -> Result<bool, StoreError> {
        self.request(|answer| Request::RemoveIndex { db, index, answer }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_come_back_and_damage_is_seen() {
        for removing in [false, true] {
            let state = IndexState { seq: 300, removing };
            let value = encode_state(state);
            assert_eq!(decode_state(&value), Some(state));
            assert_eq!(decode_state(&value[..value.len() - 1]), None);
            assert_eq!(decode_state(&[&value[..], &[0]].concat()), None);
        }
        assert_eq!(decode_state(&[2, 1]), None);
    }
}
