//! What a replication's target lacks.

use super::backend::{ReadBody, ReadDoc};
use super::database::Database;
use super::error::StoreError;
use crate::doc::{DocId, Rev, RevTree, RevsDiff};

/// Revision trees in memory at a time.
const PAGE_DOCS: usize = 256;

impl Database {
    /// Which of the revisions are not here, in the order asked; documents of which all are here
    /// are left out. Of an unknown document everything is missing.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more revisions than `bulk_rows_max`, over all documents.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn revs_diff(
        &self,
        wanted: &[(DocId, Vec<Rev>)],
    ) -> Result<Vec<(DocId, RevsDiff)>, StoreError> {
        self.alive()?;
        self.check_rows("documents in one revs_diff", wanted.len())?;
        let revs = wanted.iter().map(|(_, revs)| revs.len()).sum();
        self.check_rows("revisions in one revs_diff", revs)?;
        let mut found = Vec::new();
        for wanted in wanted.chunks(PAGE_DOCS) {
            let ids: Vec<DocId> = wanted.iter().map(|(id, _)| id.clone()).collect();
            let states =
                self.backend().read(self.key(), &ids, ReadDoc::recent(ReadBody::No)).await?;
            for ((id, revs), state) in wanted.iter().zip(states) {
                let tree = match state {
                    // What is not at hand may be kept apart.
                    Some(state) if !state.older.is_empty() && !has_all(&state.tree, revs) => {
                        self.whole_tree(id).await?
                    }
                    Some(state) => state.tree,
                    None => RevTree::default(),
                };
                let diff = tree.revs_diff(revs);
                if !diff.missing.is_empty() {
                    found.push((id.clone(), diff));
                }
            }
        }
        // A database that was destroyed meanwhile reads as one that lacks everything.
        self.alive()?;
        Ok(found)
    }

    async fn whole_tree(&self, id: &DocId) -> Result<RevTree, StoreError> {
        let (ids, read) = (std::slice::from_ref(id), ReadDoc::whole(ReadBody::No));
        let found = self.backend().read(self.key(), ids, read).await?.pop().flatten();
        Ok(found.map_or_else(RevTree::default, |state| state.tree))
    }
}

fn has_all(tree: &RevTree, revs: &[Rev]) -> bool {
    revs.iter().all(|rev| tree.contains(rev))
}
