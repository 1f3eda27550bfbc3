//! Groups of the store in memory.

use std::ops::Bound;

use async_trait::async_trait;

use super::MemoryBackend;
use crate::store::backend::{ChangeRow, Commit, DatabaseKey, DocCommit, GroupBackend, GroupRow};
use crate::store::error::StoreError;

#[async_trait]
impl GroupBackend for MemoryBackend {
    async fn commit_group(
        &self,
        db: DatabaseKey,
        batch: Vec<DocCommit>,
    ) -> Result<Commit, StoreError> {
        let members: Vec<ChangeRow> = batch
            .iter()
            .map(|doc| {
                let leaves = doc.leaves.iter();
                let leaves = leaves.map(|leaf| (leaf.rev.clone(), leaf.state.deleted)).collect();
                ChangeRow { seq: 0, id: doc.id.clone(), leaves }
            })
            .collect();
        self.commit_batch(db, batch, |database, seqs| {
            let rows = members.into_iter().zip(seqs);
            let rows: Vec<_> = rows.map(|(row, &seq)| ChangeRow { seq, ..row }).collect();
            let group = GroupRow { rows };
            if group.rows.len() > 1 {
                database.group_rows += group.rows.len() as u64;
                database.groups.insert(group.last(), group);
            }
        })
    }

    async fn groups(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Vec<GroupRow>, StoreError> {
        let after = (Bound::Excluded(since), Bound::Unbounded);
        self.read_in(db, |database| {
            database.groups.range(after).take(limit).map(|(_, group)| group.clone()).collect()
        })
    }

    async fn forget_groups(&self, db: DatabaseKey, lasts: Vec<u64>) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.writing()?;
        state.database_mut(db)?;
        state.flush()?;
        let database = state.database_mut(db)?;
        let gone: Vec<_> = lasts.iter().filter_map(|last| database.groups.remove(last)).collect();
        for group in gone {
            database.group_rows -= group.rows.len() as u64;
        }
        Ok(())
    }
}
