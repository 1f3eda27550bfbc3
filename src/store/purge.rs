//! Purging: taking revisions away as if they had never been there.
//!
//! Nothing is replicated: a replica that still has a purged revision keeps it, and may send it again.
//! Purging is for what must not be kept, after the replicas were dealt with.

use super::backend::{Commit, DocPurge, ReadBody, ReadDoc, StoredDoc};
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
        for (id, revs) in wanted {
            purged.push(self.purge_one(id, revs).await?);
        }
        if purged.iter().any(|purged| !purged.revs.is_empty()) {
            self.shared.tell_updated();
        }
        Ok(purged)
    }

    async fn purge_one(&self, id: &DocId, revs: &[Rev]) -> Result<Purged, StoreError> {
        loop {
            let ids = std::slice::from_ref(id);
            let found = self
                .backend()
                .read(self.key(), ids, ReadDoc::whole(ReadBody::No))
                .await?
                .pop()
                .flatten();
            let Some((purge, gone)) = found.and_then(|stored| purge_of(id, stored, revs)) else {
                return Ok(Purged { id: id.clone(), revs: Vec::new() });
            };
            match self.named(self.backend().purge(self.key(), vec![purge]).await)? {
                Commit::Done(_) => {
                    self.shared.note_purge();
                    return Ok(Purged { id: id.clone(), revs: gone });
                }
                Commit::Stale(_) | Commit::BlobsMissing(_) => {}
            }
        }
    }
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
