//! Rows of groups: which documents were written together.

use async_trait::async_trait;

use super::committer::Committer;
use super::reads::scan;
use super::request::{DocWrite, Request};
use super::value::{complete, damaged};
use super::{Db, SledBackend, record, value};
use crate::store::backend::{
    Commit, DatabaseKey, DocCommit, GroupBackend, GroupRow, Grouping, Order,
};
use crate::store::error::StoreError;
use crate::store::keys;

/// The groups that end after `since`.
fn groups(
    db: &Db,
    database: DatabaseKey,
    since: u64,
    limit: usize,
) -> Result<Vec<GroupRow>, StoreError> {
    let mut found = Vec::new();
    let mut rows = scan(db, keys::groups_after(database, since), Order::Ascending);
    while found.len() < limit {
        let Some(row) = rows.next() else { break };
        let (key, value) = row?;
        let Some(content) = complete(db, &key, value)? else { continue };
        let last = keys::group_of(&key).ok_or_else(|| damaged(&key, "has no seq"))?;
        let group = record::decode_group(last, &content);
        found.push(group.ok_or_else(|| damaged(&key, "is malformed"))?);
    }
    Ok(found)
}

impl Committer {
    pub(super) fn forget_groups(
        &mut self,
        db: DatabaseKey,
        lasts: Vec<u64>,
    ) -> Result<(), StoreError> {
        self.check_writable(Some(db))?;
        for last in lasts {
            let key = keys::together(db, last);
            self.see(std::iter::once(&key))?;
            if let Some(old) = value::get(&self.db, &key)? {
                self.batch.remove_value(&key, &old);
                self.row_done(key)?;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl GroupBackend for SledBackend {
    async fn commit_group(
        &self,
        db: DatabaseKey,
        batch: Vec<DocCommit>,
    ) -> Result<Commit, StoreError> {
        let docs = batch.into_iter().map(|doc| DocWrite::new(db, doc)).collect();
        let grouping = Grouping::Together;
        self.request(|answer| Request::Commit { db, docs, grouping, answer }).await
    }

    async fn groups(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Vec<GroupRow>, StoreError> {
        let near = self.inner.shared.newest.has_changes(db, since);
        self.inner.read_near(db, near, move |_, sled| groups(sled, db, since, limit)).await
    }

    async fn forget_groups(&self, db: DatabaseKey, lasts: Vec<u64>) -> Result<(), StoreError> {
        self.request(|answer| Request::ForgetGroups { db, lasts, answer }).await
    }
}
