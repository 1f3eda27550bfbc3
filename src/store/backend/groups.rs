//! What goes through the seam for groups: documents that were written together.

use async_trait::async_trait;

use super::{ChangeRow, Commit, DatabaseKey, DocCommit};
use crate::store::error::StoreError;

/// Documents that were written together, as they were then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRow {
    /// A row for each document, in the order of their update seqs, which follow one another. Those
    /// of documents that changed since are in the by-seq index no more.
    pub rows: Vec<ChangeRow>,
}

impl GroupRow {
    /// The update seq of the first document.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.rows.first().map_or(0, |row| row.seq)
    }

    /// The update seq of the last document, which names the group within its database.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.seq)
    }
}

/// Storage of groups, as a part of every backend.
#[async_trait]
pub trait GroupBackend {
    /// [`Backend::commit`](super::Backend::commit), of at most
    /// [`COMMIT_DOCS_ATOMIC_MAX`](super::COMMIT_DOCS_ATOMIC_MAX) documents, that remembers in the
    /// same batch which documents these were. One document alone is no group.
    ///
    /// # Errors
    /// As [`Backend::commit`](super::Backend::commit).
    async fn commit_group(
        &self,
        db: DatabaseKey,
        batch: Vec<DocCommit>,
    ) -> Result<Commit, StoreError>;

    /// Groups that end after an update seq, in their order, at most `limit`. May be ahead of what is
    /// durable.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn groups(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Vec<GroupRow>, StoreError>;

    /// Forgets groups, by the update seqs of their last documents; the documents stay.
    ///
    /// # Errors
    /// As [`Backend::commit`](super::Backend::commit).
    async fn forget_groups(&self, db: DatabaseKey, lasts: Vec<u64>) -> Result<(), StoreError>;
}
