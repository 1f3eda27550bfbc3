//! Notes of the store itself: what a program keeps beside its databases. They are local documents
//! that are in no database, so nobody who opens databases comes by them.

use super::Store;
use super::backend::{LocalCommit, LocalOutcome, STORE_KEY};
use super::error::StoreError;
use crate::doc::{Body, LocalId, LocalRev};

impl Store {
    /// The notes in byte order of their names, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn notes(
        &self,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Result<Vec<(LocalId, Body)>, StoreError> {
        let found = self.shared.backend.locals(STORE_KEY, after, limit).await?;
        Ok(found.into_iter().map(|(id, _, body)| (id, body)).collect())
    }

    /// Writes a note over whatever is there, or removes it where there is no body. On return it is
    /// on disk.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Poisoned`], [`StoreError::Closed`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the note either written or not.
    pub async fn set_note(&self, id: &LocalId, body: Option<Body>) -> Result<(), StoreError> {
        let backend = &self.shared.backend;
        let mut there = backend.local(STORE_KEY, id).await?.map(|(rev, _)| rev);
        loop {
            let next = LocalRev(there.map_or(1, |rev| rev.0 + 1));
            let content = body.clone().map(|body| (next, body));
            let commit = LocalCommit { id: id.clone(), expected: there, content };
            match backend.commit_local(STORE_KEY, commit).await? {
                LocalOutcome::Done => return Ok(()),
                LocalOutcome::Stale(found) => there = found.map(|(rev, _)| rev),
            }
        }
    }
}
