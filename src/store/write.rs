//! Writing documents: edits that make a revision, and revisions that another replica made.
//!
//! All documents of a call are merged against one read of their trees and committed together. A
//! document that another writer changed in between comes back from the commit with its new state
//! and is merged again. A document that seems new is committed without reading it first: if it is
//! there after all, the commit says so and brings its state.

use std::collections::HashMap;

use super::attachments::Resolved;
use super::backend::{COMMIT_DOCS_ATOMIC_MAX, Commit, DocCommit, ReadBody, StagedBlob, StoredDoc};
use super::database::Database;
use super::error::{DocError, StoreError};
use super::seq::Seq;
use crate::doc::{BodyRecord, DocId, Document, Leaf, Rev, RevPath, RevState, RevTree, next_rev};

/// Whether a write makes a revision or brings one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EditMode {
    /// `new_edits: true`: the document's `_rev` names the leaf to replace, and a revision is made.
    #[default]
    Edit,
    /// `new_edits: false`: the document's revision and history are stored as they are. Writing a
    /// known revision changes nothing; there is no conflict, only branches.
    Replicated,
}

/// One document of a bulk write that was stored, or was there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The document.
    pub id: DocId,
    /// Its revision.
    pub rev: Rev,
    /// The place of the change; `None` if the revision was known and nothing changed.
    pub seq: Option<Seq>,
}

/// One document of a bulk write that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The document.
    pub id: DocId,
    /// The revision it came with.
    pub rev: Option<Rev>,
    /// Why.
    pub error: DocError,
}

/// What became of one document of a bulk write.
pub type WriteOutcome = Result<Written, Refused>;

impl Database {
    /// Writes one edit; see [`Database::bulk_docs`].
    ///
    /// # Errors
    /// [`StoreError::Refused`] with [`DocError::Conflict`] if `document.rev` is not a leaf.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the edit either whole and on disk, or not made.
    pub async fn put(&self, document: Document) -> Result<Written, StoreError> {
        let mut outcomes = self.bulk_docs(vec![document], EditMode::Edit).await?;
        let outcome = outcomes.pop().expect("one document has one outcome");
        outcome.map_err(|refused| refused.error.into())
    }

    /// Deletes a document's leaf by adding a tombstone to it.
    ///
    /// # Errors
    /// As [`Database::put`].
    ///
    /// # Cancel safety
    /// As [`Database::put`].
    pub async fn delete(&self, id: &DocId, rev: Rev) -> Result<Written, StoreError> {
        self.put(Document::tombstone(id.clone(), rev)).await
    }

    /// Writes documents, each with an outcome of its own, in the order given.
    ///
    /// When this returns, all that was stored is on disk, and each changed document has a new
    /// place in the changes feed. The rows become visible together if there are at most 100 of
    /// them; a crash during a longer call may leave some of its rows stored and others not.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] before anything is written, [`StoreError::Poisoned`] after a failed
    /// flush, [`StoreError::DatabaseDestroyed`]. What is wrong with one document is its outcome.
    ///
    /// # Cancel safety
    /// Dropping the future leaves every row either whole or not written.
    pub async fn bulk_docs(
        &self,
        mut documents: Vec<Document>,
        mode: EditMode,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        self.alive()?;
        self.check_rows("documents in one write", documents.len())?;
        self.stage_large(&mut documents).await?;
        let mut work = Work::new(documents, mode);
        self.read_unless_new(&mut work).await?;
        loop {
            let mut batch = Vec::new();
            let mut slots = Vec::new();
            for slot in 0..work.docs.len() {
                self.merge(&mut work, slot).await?;
                if let Some(commit) = work.docs[slot].take_commit() {
                    batch.push(commit);
                    slots.push(slot);
                }
            }
            if batch.is_empty() {
                return Ok(work.outcomes(|_| None));
            }
            self.alive()?;
            match self.backend().commit(self.key(), batch).await.map_err(|e| self.named(e))? {
                Commit::Done(seqs) => {
                    let by_slot: HashMap<usize, u64> = slots.into_iter().zip(seqs).collect();
                    return Ok(work.outcomes(|slot| by_slot.get(&slot).map(|n| self.seq(*n))));
                }
                Commit::Stale(stale) => {
                    for (place, state) in stale {
                        work.docs[slots[place]].state = state.unwrap_or_else(absent);
                    }
                }
            }
        }
    }

    async fn read_unless_new(&self, work: &mut Work) -> Result<(), StoreError> {
        let known: Vec<usize> =
            (0..work.docs.len()).filter(|&slot| !work.seems_new(slot)).collect();
        for slots in known.chunks(COMMIT_DOCS_ATOMIC_MAX) {
            let ids: Vec<DocId> = slots.iter().map(|&slot| work.docs[slot].id.clone()).collect();
            let states = self.backend().read(self.key(), &ids, ReadBody::No).await?;
            for (&slot, state) in slots.iter().zip(states) {
                work.docs[slot].state = state.unwrap_or_else(absent);
            }
        }
        Ok(())
    }

    /// Applies every write of one document, in order, to its state as it was read.
    async fn merge(&self, work: &mut Work, slot: usize) -> Result<(), StoreError> {
        let mut merging = Merging::new(&work.docs[slot].state);
        for &row in &work.docs[slot].rows {
            let write = &work.writes[row];
            let known = match work.mode {
                EditMode::Edit => merging.edit_parent(write).map(Place::Edit),
                EditMode::Replicated => merging.replicated_place(write),
            };
            let result = match known {
                Err(error) => Err(error),
                Ok(Place::Known(rev)) => Ok(rev),
                Ok(place) => {
                    match self.resolve_attachments(write, &merging.tree, &merging.bodies).await? {
                        Err(error) => Err(error),
                        Ok(resolved) => merging.add(write, place, resolved, self.limits()),
                    }
                }
            };
            work.results[row] = Some(result);
        }
        work.docs[slot].merged = Some(merging);
        Ok(())
    }
}

fn absent() -> StoredDoc {
    StoredDoc { version: 0, tree: RevTree::default(), winner_body: None }
}

/// A bulk write under way.
struct Work {
    mode: EditMode,
    writes: Vec<Document>,
    /// By row of `writes`.
    results: Vec<Option<Result<Rev, DocError>>>,
    /// One for each id.
    docs: Vec<DocWork>,
    /// By row of `writes`: its place in `docs`.
    slot_of: Vec<usize>,
}

struct DocWork {
    id: DocId,
    rows: Vec<usize>,
    state: StoredDoc,
    merged: Option<Merging>,
}

impl Work {
    fn new(writes: Vec<Document>, mode: EditMode) -> Self {
        let mut slots: HashMap<DocId, usize> = HashMap::with_capacity(writes.len());
        let mut docs: Vec<DocWork> = Vec::with_capacity(writes.len());
        let mut slot_of = Vec::with_capacity(writes.len());
        for (row, write) in writes.iter().enumerate() {
            let slot = *slots.entry(write.id.clone()).or_insert_with(|| {
                let id = write.id.clone();
                docs.push(DocWork { id, rows: Vec::new(), state: absent(), merged: None });
                docs.len() - 1
            });
            docs[slot].rows.push(row);
            slot_of.push(slot);
        }
        let results = vec![None; writes.len()];
        Self { mode, writes, results, docs, slot_of }
    }

    /// Whether a document is worth committing without a look: its writes are first revisions.
    fn seems_new(&self, slot: usize) -> bool {
        self.docs[slot].rows.iter().all(|&row| match self.mode {
            EditMode::Edit => self.writes[row].rev.is_none(),
            EditMode::Replicated => {
                self.writes[row].rev.as_ref().is_none_or(|rev| rev.generation() == 1)
            }
        })
    }

    fn outcomes(self, seq_of: impl Fn(usize) -> Option<Seq>) -> Vec<WriteOutcome> {
        let rows = self.writes.into_iter().zip(self.results).zip(self.slot_of);
        rows.map(|((write, result), slot)| {
            match result.expect("every row was merged before the commit") {
                Ok(rev) => Ok(Written { id: write.id, rev, seq: seq_of(slot) }),
                Err(error) => Err(Refused { id: write.id, rev: write.rev, error }),
            }
        })
        .collect()
    }
}

impl DocWork {
    /// What to commit, if the writes changed anything.
    fn take_commit(&mut self) -> Option<DocCommit> {
        let merged = self.merged.take()?;
        if !merged.changed {
            return None;
        }
        let dropped = self
            .state
            .tree
            .revs()
            .filter(|(rev, state)| state.body_bytes.is_some() && !merged.tree.contains(rev));
        Some(DocCommit {
            id: self.id.clone(),
            expected: self.state.version,
            dropped: if merged.stemmed {
                dropped.map(|(rev, _)| rev.clone()).collect()
            } else {
                Vec::new()
            },
            leaves: merged.leaves,
            tree: merged.tree,
            bodies: merged.bodies,
            blobs: merged.blobs,
        })
    }
}

/// Where a write belongs in the tree.
enum Place {
    /// It is there already, and changes nothing.
    Known(Rev),
    /// A new child of this leaf, or a first revision.
    Edit(Option<Rev>),
    /// A revision from elsewhere, with its history; whether it is to bring its body.
    Replicated(RevPath, BringsBody),
}

#[derive(Clone, Copy, PartialEq)]
enum BringsBody {
    Yes,
    /// The revision is known; only its history joins branches that were apart.
    No,
}

/// A document's tree while its writes are applied.
struct Merging {
    tree: RevTree,
    leaves: Vec<Leaf>,
    bodies: Vec<(Rev, BodyRecord)>,
    blobs: Vec<StagedBlob>,
    changed: bool,
    stemmed: bool,
}

impl Merging {
    fn new(state: &StoredDoc) -> Self {
        Self {
            leaves: state.tree.leaves(),
            tree: state.tree.clone(),
            bodies: Vec::new(),
            blobs: Vec::new(),
            changed: false,
            stemmed: false,
        }
    }

    /// The leaf that an edit replaces, by CouchDB's rules (`couch_db:prep_and_validate_update`).
    fn edit_parent(&self, write: &Document) -> Result<Option<Rev>, DocError> {
        match (&write.rev, self.leaves.first()) {
            (None, None) => Ok(None),
            (Some(rev), Some(_)) if self.leaves.iter().any(|leaf| leaf.rev == *rev) => {
                Ok(Some(rev.clone()))
            }
            // A deleted document may be made anew without a revision.
            (None, Some(winner)) if winner.state.deleted => Ok(Some(winner.rev.clone())),
            _ => Err(DocError::Conflict),
        }
    }

    fn replicated_place(&self, write: &Document) -> Result<Place, DocError> {
        let path = write.path().ok_or(DocError::RevMissing)?;
        let rev = path.leaf();
        if !self.tree.contains(&rev) {
            return Ok(Place::Replicated(path, BringsBody::Yes));
        }
        let joined = self.tree.merge(&RevTree::from_path(&path, RevState::default()));
        let same = joined.leaves().len() == self.leaves.len();
        Ok(if same { Place::Known(rev) } else { Place::Replicated(path, BringsBody::No) })
    }

    fn add(
        &mut self,
        write: &Document,
        place: Place,
        resolved: Resolved,
        limits: &crate::Limits,
    ) -> Result<Rev, DocError> {
        let (mut path, brings_body) = match place {
            Place::Known(rev) => return Ok(rev),
            Place::Replicated(path, brings_body) => (path, brings_body),
            Place::Edit(parent) => {
                let shown = crate::doc::shown_attachments(&resolved.attachments);
                let rev = next_rev(parent.as_ref(), write.deleted, &shown, &write.body)
                    .map_err(|_| last_generation(parent.as_ref()))?;
                (path_to(parent, rev), BringsBody::Yes)
            }
        };
        path.truncate(limits.revs_limit as usize);
        let rev = path.leaf();
        let generation = rev.generation();
        let record = BodyRecord {
            attachments: resolved.attachments_of(generation),
            body: write.body.clone(),
        };
        let body_bytes = match brings_body {
            BringsBody::Yes => u32::try_from(record.encoded_len()).ok(),
            BringsBody::No => None,
        };
        let state = RevState { deleted: write.deleted && body_bytes.is_some(), body_bytes };
        let mut tree = self.tree.merge(&RevTree::from_path(&path, state));
        let before = tree.len();
        tree.stem(limits.revs_limit);
        let leaves = tree.leaves();
        if leaves.len() > limits.leaves_per_doc_max && leaves.len() > self.leaves.len() {
            return Err(DocError::TooManyLeaves { max: limits.leaves_per_doc_max });
        }
        self.stemmed |= tree.len() < before;
        self.tree = tree;
        self.leaves = leaves;
        self.changed = true;
        if brings_body == BringsBody::Yes {
            self.bodies.push((rev.clone(), record));
            self.blobs.extend(resolved.staged);
        }
        Ok(rev)
    }
}

fn path_to(parent: Option<Rev>, rev: Rev) -> RevPath {
    let Some(parent) = parent else { return RevPath::single(rev) };
    let hashes = vec![rev.hash().clone(), parent.hash().clone()];
    RevPath::new(rev.generation(), hashes).expect("a child is one generation above its parent")
}

fn last_generation(parent: Option<&Rev>) -> DocError {
    parent.map_or(DocError::Conflict, |rev| DocError::LastGeneration { rev: rev.clone() })
}
