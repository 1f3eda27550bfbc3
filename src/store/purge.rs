//! Purging: taking revisions away as if they had never been there.
//!
//! Nothing is replicated: a replica that still has a purged revision keeps it, and may send it again.
//! Purging is for what must not be kept, after the replicas were dealt with.

use std::collections::HashSet;

use super::backend::{COMMIT_DOCS_ATOMIC_MAX, Commit, DocPurge, ReadBody, ReadDoc, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use crate::doc::{DocId, Rev};

/// What was purged of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The document.
    pub id: DocId,
    /// Those of the revisions asked for that were leaves and are gone.
    pub revs: Vec<Rev>,
}

impl Database {
    /// Removes leaves, with those of their ancestors that no other leaf descends from, and their
    /// bodies. A document whose last leaf goes is gone, also from the changes feed; one of which
    /// another branch is left changes. Revisions that are no leaves stay, as in CouchDB. The result
    /// has a row for each document asked for, in order; attachment bytes go with the next
    /// compaction.
    ///
    /// A local document that holds a checkpoint does not notice: replicas that have a purged
    /// revision keep it.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more documents than `bulk_rows_max`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves each document either purged or not.
    pub async fn purge(&self, wanted: &[(DocId, Vec<Rev>)]) -> Result<Vec<Purged>, StoreError> {
        self.alive()?;
        self.check_rows("documents in one purge", wanted.len())?;
        let revs = wanted.iter().map(|(_, revs)| revs.len()).sum();
        self.check_rows("revisions in one purge", revs)?;
        let mut purged = Vec::with_capacity(wanted.len());
        let mut rest = wanted;
        while !rest.is_empty() {
            let (together, later) = rest.split_at(different(rest));
            purged.extend(self.purge_together(together).await?);
            rest = later;
        }
        if purged.iter().any(|purged| !purged.revs.is_empty()) {
            self.shared.tell_updated();
        }
        Ok(purged)
    }

    /// Documents that differ, and no more than a commit may have.
    async fn purge_together(
        &self,
        wanted: &[(DocId, Vec<Rev>)],
    ) -> Result<Vec<Purged>, StoreError> {
        let ids: Vec<DocId> = wanted.iter().map(|(id, _)| id.clone()).collect();
        let read = ReadDoc::whole(ReadBody::No);
        let found = self.backend().read(self.key(), &ids, read).await?;
        let (mut batch, mut rows) = (Vec::new(), Vec::with_capacity(wanted.len()));
        for ((id, revs), stored) in wanted.iter().zip(found) {
            let (purge, gone) = stored.and_then(|stored| purge_of(id, stored, revs)).unzip();
            batch.extend(purge);
            rows.push(Purged { id: id.clone(), revs: gone.unwrap_or_default() });
        }
        let changed = self.purge_unchanged(batch).await?;
        for (row, (id, revs)) in rows.iter_mut().zip(wanted) {
            if changed.contains(id) {
                row.revs = self.purge_one(id, revs).await?;
            }
        }
        Ok(rows)
    }

    /// Purges documents that have not changed since they were read; answers the others.
    pub(super) async fn purge_unchanged(
        &self,
        mut batch: Vec<DocPurge>,
    ) -> Result<HashSet<DocId>, StoreError> {
        let mut changed = HashSet::new();
        while !batch.is_empty() {
            let places = match self.named(self.backend().purge(self.key(), batch.clone()).await)? {
                Commit::Done(_) => {
                    self.shared.note_purge();
                    break;
                }
                Commit::Stale(stale) => stale.into_iter().map(|(place, _)| place).collect(),
                Commit::BlobsMissing(places) => places,
            };
            changed.extend(places.into_iter().rev().map(|place| batch.remove(place).id));
        }
        Ok(changed)
    }

    async fn purge_one(&self, id: &DocId, revs: &[Rev]) -> Result<Vec<Rev>, StoreError> {
        loop {
            let ids = std::slice::from_ref(id);
            let read = ReadDoc::whole(ReadBody::No);
            let found = self.backend().read(self.key(), ids, read).await?.pop().flatten();
            let Some((purge, gone)) = found.and_then(|stored| purge_of(id, stored, revs)) else {
                return Ok(Vec::new());
            };
            if self.purge_unchanged(vec![purge]).await?.is_empty() {
                return Ok(gone);
            }
        }
    }
}

/// How many of the first documents can be purged together.
fn different(wanted: &[(DocId, Vec<Rev>)]) -> usize {
    let mut seen = HashSet::new();
    let first = wanted.iter().take(COMMIT_DOCS_ATOMIC_MAX);
    first.take_while(|(id, _)| seen.insert(id)).count()
}

/// What is to be done, if any of the revisions is a leaf; and which ones are.
pub(super) fn purge_of(
    id: &DocId,
    stored: StoredDoc,
    revs: &[Rev],
) -> Option<(DocPurge, Vec<Rev>)> {
    let (tree, gone) = stored.tree.without(revs);
    if gone.is_empty() {
        return None;
    }
    let with_body = stored.tree.revs().filter(|(_, state)| state.body_bytes.is_some());
    let dropped = with_body.map(|(rev, _)| rev).filter(|rev| !tree.contains(rev));
    let dropped = dropped.cloned().collect();
    Some((DocPurge { id: id.clone(), expected: stored.version, tree, dropped }, gone))
}
