//! What a replication's target lacks.

use super::backend::ReadBody;
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
            let states = self.backend().read(self.key(), &ids, ReadBody::No).await?;
            for ((id, revs), state) in wanted.iter().zip(states) {
                let tree = state.map_or_else(RevTree::default, |state| state.tree);
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
}
