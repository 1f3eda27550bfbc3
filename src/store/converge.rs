//! Conflicts that have a merged value are merged, and counters and sets are changed where they stand.
//!
//! A merge is an edit of the winning rev; then each branch that is in it ends in a tombstone with the
//! branch's own body, where it can be looked at until it is purged. Both are what any other replica
//! makes of the same branches, since a revision is named by its content. Between the two steps, or if
//! a branch grew meanwhile, it is merged once more, which changes nothing that was merged before.

use super::database::Database;
use super::error::{DocError, StoreError};
use super::read::GetOptions;
use super::write::{EditMode, Written};
use crate::doc::{Body, DocId, Document, MergePolicy, Operations, OperationsError, ReadExtra};

/// How often a document is read anew that others write at the same time.
const TRIES_MAX: usize = 100;

/// The branches of a document.
struct Branches {
    winner: Document,
    conflicts: Vec<Document>,
}

impl Database {
    /// Makes one branch of those branches of a document that a policy can merge; the winning rev is
    /// the first of them. Answers how many of the conflicts it ended.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`], [`StoreError::Refused`] for a merged
    /// document that is over a bound.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: what was merged is in both branches or in one.
    pub async fn merge_conflicts(
        &self,
        id: &DocId,
        policy: &MergePolicy,
    ) -> Result<usize, StoreError> {
        for _ in 0..TRIES_MAX {
            let Some(branches) = self.branches(id).await? else { return Ok(0) };
            let Branches { winner, conflicts } = branches;
            let mut merged = winner.body.clone();
            let mut ended = Vec::new();
            for conflict in conflicts {
                let same_files = winner.has_attachments_of(&conflict);
                let with = policy.merge(&merged, &conflict.body, self.limits())?;
                let with = with.filter(|_| same_files);
                if let Some(with) = with {
                    merged = with;
                    ended.push(Document { deleted: true, ..conflict });
                }
            }
            if ended.is_empty() {
                return Ok(0);
            }
            let merged = Document { body: merged, ..winner.clone() };
            if !merged.says_the_same(&winner) {
                match self.put(merged).await {
                    Ok(_) => {}
                    Err(StoreError::Refused(DocError::Conflict)) => continue,
                    Err(error) => return Err(error),
                }
            }
            // A branch that grew meanwhile is no leaf any more: its tombstone is refused.
            let outcomes = self.bulk_docs(ended, EditMode::Edit).await?;
            return Ok(outcomes.iter().filter(|outcome| outcome.is_ok()).count());
        }
        Ok(0)
    }

    /// Applies operations to the counters and sets of a document, which is made if it is not there.
    /// Answers with `None` if they changed nothing. For a replica; `writer` is its name, which no
    /// other may have.
    ///
    /// # Errors
    /// [`OperateError::Operations`] for those that cannot be applied; those of [`Database::put`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves all of the operations applied, or none.
    pub async fn operate(
        &self,
        id: &DocId,
        operations: &Operations,
        writer: &str,
    ) -> Result<Option<Written>, OperateError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let (edited, others) = match self.branches(id).await? {
                Some(Branches { winner, conflicts }) => (winner, conflicts),
                None => (Document::with_body(id.clone(), Body::empty()), Vec::new()),
            };
            let others: Vec<&Body> = others.iter().map(|other| &other.body).collect();
            let Some(body) = operations.apply(&edited.body, &others, writer, self.limits())? else {
                return Ok(None);
            };
            match self.put(Document { body, ..edited }).await {
                Err(StoreError::Refused(DocError::Conflict)) if tries < TRIES_MAX => {}
                written => return Ok(Some(written?)),
            }
        }
    }

    /// The open leaves of a document, as edits of themselves; `None` if there is none.
    async fn branches(&self, id: &DocId) -> Result<Option<Branches>, StoreError> {
        let options = GetOptions { conflicts: true, ..GetOptions::default() };
        let mut winner = match self.get(id, &options).await {
            Ok(winner) => winner,
            Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut conflicts = Vec::new();
        for rev in std::mem::take(&mut winner.extra).conflicts {
            let options = GetOptions { rev: Some(rev), ..GetOptions::default() };
            match self.get(id, &options).await {
                Ok(conflict) => {
                    conflicts.push(Document { extra: ReadExtra::default(), ..conflict });
                }
                // Written over meanwhile.
                Err(StoreError::DocMissing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Branches { winner, conflicts }))
    }
}

/// Why operations on a document failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperateError {
    /// They cannot be applied.
    #[error(transparent)]
    Operations(#[from] OperationsError),
    /// The store failed or refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}
