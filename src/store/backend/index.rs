//! What goes through the seam for indexes: entries, and how far each index is.

use async_trait::async_trait;

use super::{DatabaseKey, Order};
use crate::doc::DocId;
use crate::store::error::StoreError;

/// Names the rows of an index within its database: a digest of everything that decides what they
/// are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKey(pub [u8; 16]);

impl std::fmt::Display for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexState {
    /// Its entries are those of the documents as they were at this update seq.
    pub seq: u64,
    /// Whether its rows are being removed, so that what is left of them means nothing.
    pub removing: bool,
}

/// A document's entry in an index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexEntry {
    /// Bytes that sort as the values of the document's fields do. No entry's key is the beginning
    /// of another's.
    pub key: Vec<u8>,
    /// The document.
    pub id: DocId,
}

/// A step of an index towards the state of its database.
#[derive(Debug, Clone)]
pub struct IndexCommit {
    /// The index.
    pub index: IndexKey,
    /// The state that must be there; `None` if there must be none.
    pub expected: Option<IndexState>,
    /// The purges that must have been made, so that no entry comes for a document that is gone.
    pub purge_seq: u64,
    /// The update seq that the index comes to.
    pub seq: u64,
    /// Documents, each at most once, and their keys; `None` for one without entry.
    pub docs: Vec<(DocId, Option<Vec<u8>>)>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexOutcome {
    /// It was made.
    Done,
    /// Nothing was changed: the index or the purges are not as expected.
    Stale,
}

/// A part of an index.
#[derive(Debug, Clone, Default)]
pub struct IndexRange {
    /// Entries whose keys are not below.
    pub low: Vec<u8>,
    /// Entries whose keys are below; `None` for no bound.
    pub high: Option<Vec<u8>>,
    /// Entries that come after this one in the direction asked for.
    pub after: Option<IndexEntry>,
    /// Direction.
    pub order: Order,
    /// Entries at most.
    pub limit: usize,
}

/// Storage of indexes, as a part of every backend.
///
/// Entries are derived from documents, so nothing waits for the disk here: a step is atomic and
/// visible when its method returns, and a crash may take it back, but never without those after
/// it. Destroying a database removes its indexes; purging a document whole removes its entries.
#[async_trait]
pub trait IndexBackend {
    /// The indexes of which there are rows.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn indexes(&self, db: DatabaseKey) -> Result<Vec<(IndexKey, IndexState)>, StoreError>;

    /// Replaces the entries of some documents and moves the index's update seq, atomically.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Poisoned`], [`StoreError::DatabaseGone`].
    async fn commit_index(
        &self,
        db: DatabaseKey,
        commit: IndexCommit,
    ) -> Result<IndexOutcome, StoreError>;

    /// Entries of an index, in the order asked for; `None` if it is not there or being removed.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn index_entries(
        &self,
        db: DatabaseKey,
        index: IndexKey,
        range: IndexRange,
    ) -> Result<Option<Vec<IndexEntry>>, StoreError>;

    /// Removes some of an index's rows; answers whether there are more. With the last ones its
    /// state goes.
    ///
    /// # Errors
    /// As [`IndexBackend::commit_index`].
    async fn remove_index(&self, db: DatabaseKey, index: IndexKey) -> Result<bool, StoreError>;
}
