//! Local documents: kept beside the replicated ones, never in a feed. Checkpoints live in them.

use super::backend::{LocalCommit, LocalOutcome};
use super::database::Database;
use super::error::{DocError, StoreError};
use crate::doc::{Body, LocalDocument, LocalId, LocalRev};

impl Database {
    /// Reads a local document.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn local(&self, id: &LocalId) -> Result<Option<LocalDocument>, StoreError> {
        self.alive()?;
        let found = self.backend().local(self.key(), id).await?;
        Ok(found.map(|(rev, body)| LocalDocument {
            id: id.clone(),
            rev: Some(rev),
            deleted: false,
            body,
        }))
    }

    /// Writes or removes a local document, on disk when this returns. `document.rev` must be the
    /// revision that is there, or `None` where there is no document.
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`DocError::Conflict`]; [`StoreError::LocalMissing`] when there
    /// is nothing to remove.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the write either whole or not made.
    pub async fn put_local(&self, document: LocalDocument) -> Result<LocalRev, StoreError> {
        self.alive()?;
        let LocalDocument { id, rev: expected, deleted, body } = document;
        // `0-0` is what a removal answers: a document made after it may name it.
        let expected = expected.filter(|rev| rev.0 > 0);
        if deleted && expected.is_none() {
            return match self.local(&id).await? {
                Some(_) => Err(DocError::Conflict.into()),
                None => Err(StoreError::LocalMissing { id }),
            };
        }
        let next = LocalRev(expected.map_or(1, |rev| rev.0 + 1));
        let content = (!deleted).then_some((next, body));
        let commit = LocalCommit { id, expected, content };
        match self.named(self.backend().commit_local(self.key(), commit).await)? {
            LocalOutcome::Done => Ok(if deleted { LocalRev(0) } else { next }),
            LocalOutcome::Stale(_) => Err(DocError::Conflict.into()),
        }
    }

    /// Writes a local document over whatever is there.
    ///
    /// # Errors
    /// As [`Database::put_local`], without the conflict.
    ///
    /// # Cancel safety
    /// As [`Database::put_local`].
    pub async fn set_local(&self, id: &LocalId, body: Body) -> Result<LocalRev, StoreError> {
        self.alive()?;
        let mut expected = self.backend().local(self.key(), id).await?.map(|(rev, _)| rev);
        loop {
            let next = LocalRev(expected.map_or(1, |rev| rev.0 + 1));
            let content = Some((next, body.clone()));
            let commit = LocalCommit { id: id.clone(), expected, content };
            match self.named(self.backend().commit_local(self.key(), commit).await)? {
                LocalOutcome::Done => return Ok(next),
                LocalOutcome::Stale(found) => expected = found.map(|(rev, _)| rev),
            }
        }
    }

    /// Local documents in byte order of their ids, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn locals(
        &self,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Result<Vec<LocalDocument>, StoreError> {
        self.alive()?;
        let found = self.backend().locals(self.key(), after, limit).await?;
        let shown = |(id, rev, body)| LocalDocument { id, rev: Some(rev), deleted: false, body };
        Ok(found.into_iter().map(shown).collect())
    }
}
