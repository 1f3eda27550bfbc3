//! Writing documents: edits that make a revision, and revisions that another replica made.
//!
//! All documents of a call are merged against one read of their trees and committed together. A
//! document that another writer changed in between comes back from the commit with its new state
//! and is merged again. A document that seems new is committed without reading it first: if it is
//! there after all, the commit says so and brings its state.

use std::collections::{HashMap, HashSet};

use super::attachments::{Stubs, place_new_attachments};
use super::backend::{
    COMMIT_DOCS_ATOMIC_MAX, Commit, DocCommit, Grouping, Older, ReadBody, ReadDoc, ReadTree,
    StoredDoc, Version,
};
use super::database::Database;
use super::error::{DocError, StoreError};
use super::merging::{Merging, Place, TreeBounds};
use super::quota::{Held, Quota, Reservation};
use super::seq::Seq;
use super::to_the_end::to_the_end;
use crate::doc::{Body, DocId, Document, Rev, RevTree};

/// Whether a write makes a revision or brings one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EditMode {
    /// `new_edits: true`: the document's `_rev` names the leaf to replace, and a revision is made.
    #[default]
    Edit,
    /// `new_edits: false`: the document's revision and history are stored as they are. Writing a
    /// known revision changes nothing, unless its history tells of ancestors that were not known;
    /// there is no conflict, only branches.
    Replicated,
}

/// How documents are written.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Whether revisions are made or brought.
    pub mode: EditMode,
    /// A quota beside that of the database.
    pub quota: Quota,
    /// Documents whose change wakes no live feed.
    ///
    /// Feeds that wait for changes give it out with the next other change of the database, or when
    /// they are opened anew; none passes it over. After a restart of the store, and beyond 4,096 of
    /// them since the last other change, feeds are woken.
    pub quiet: HashSet<DocId>,
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

/// Whether a row of a bulk write changed its document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
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
        documents: Vec<Document>,
        mode: EditMode,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        self.bulk_docs_with(documents, WriteOptions { mode, ..WriteOptions::default() }).await
    }

    /// The same within a quota, or quietly.
    ///
    /// # Errors
    /// As [`Database::bulk_docs`].
    ///
    /// # Cancel safety
    /// As [`Database::bulk_docs`].
    pub async fn bulk_docs_with(
        &self,
        documents: Vec<Document>,
        options: WriteOptions,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        self.write_documents(documents, options, Grouping::Apart).await
    }

    /// [`Database::write_group`] within a quota, or quietly.
    ///
    /// # Errors
    /// As [`Database::write_group`].
    ///
    /// # Cancel safety
    /// As [`Database::write_group`].
    pub async fn write_group_with(
        &self,
        documents: Vec<Document>,
        options: WriteOptions,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        self.check_group(&documents, options.mode)?;
        self.write_documents(documents, options, Grouping::Together).await
    }

    async fn write_documents(
        &self,
        mut documents: Vec<Document>,
        options: WriteOptions,
        grouping: Grouping,
    ) -> Result<Vec<WriteOutcome>, StoreError> {
        let WriteOptions { mode, quota, quiet } = options;
        let quota = quota.and(self.shared.quota());
        self.alive()?;
        self.check_rows("documents in one write", documents.len())?;
        self.check_attachment_sizes(&documents)?;
        if mode == EditMode::Edit {
            documents.iter_mut().for_each(place_new_attachments);
        }
        self.stage_large(&mut documents).await?;
        let mut work = Work::new(documents, mode);
        self.read_known(&mut work, &quota).await?;
        loop {
            let mut batch = Vec::new();
            let mut slots = Vec::new();
            for slot in 0..work.docs.len() {
                self.merge(&mut work, slot).await?;
                if let Some(commit) = work.docs[slot].take_commit(self.tree_bounds()) {
                    batch.push(commit);
                    slots.push(slot);
                }
            }
            let reserved = if quota.is_unbound() {
                None
            } else {
                Some(self.refuse_over(quota, &mut work, &mut batch, &mut slots).await?)
            };
            let refused = grouping == Grouping::Together && work.refuse_group();
            if batch.is_empty() || refused {
                return Ok(work.outcomes(|_| None));
            }
            self.alive()?;
            let quietly = (!quiet.is_empty()).then(|| self.shared.quiet.begin());
            match self.named(self.commit_reserved(batch, reserved, grouping).await)? {
                Commit::Done(seqs) => {
                    self.shared.tell_updated();
                    let by_slot: HashMap<usize, u64> = slots.into_iter().zip(seqs).collect();
                    if let Some(quietly) = quietly {
                        let is_quiet = |slot: &usize| quiet.contains(&work.docs[*slot].id);
                        let made = by_slot.iter().filter(|(slot, _)| is_quiet(slot));
                        quietly.made(made.map(|(_, number)| *number));
                    }
                    return Ok(work.outcomes(|slot| by_slot.get(&slot).map(|n| self.seq(*n))));
                }
                Commit::Stale(stale) => {
                    for (place, state) in stale {
                        work.docs[slots[place]].state = state.unwrap_or_else(absent);
                    }
                }
                Commit::BlobsMissing(places) => {
                    for place in places {
                        work.docs[slots[place]].stubs = Stubs::Verify;
                    }
                }
            }
        }
    }

    /// Commits; what was reserved stays so until that has ended, although the caller may be gone.
    async fn commit_reserved(
        &self,
        batch: Vec<DocCommit>,
        reserved: Option<Reservation>,
        grouping: Grouping,
    ) -> Result<Commit, StoreError> {
        let Some(reserved) = reserved else {
            return self.commit(batch, grouping).await;
        };
        let database = self.clone();
        let committing = async move {
            let _reserved = reserved;
            database.commit(batch, grouping).await
        };
        to_the_end(committing).await?
    }

    async fn commit(
        &self,
        batch: Vec<DocCommit>,
        grouping: Grouping,
    ) -> Result<Commit, StoreError> {
        match grouping {
            Grouping::Apart => self.backend().commit(self.key(), batch).await,
            Grouping::Together => {
                let committed = self.backend().commit_group(self.key(), batch).await?;
                self.shared.note_group();
                Ok(committed)
            }
        }
    }

    /// Takes out of a batch what the quota has no room for, and reserves room for the rest.
    async fn refuse_over(
        &self,
        quota: Quota,
        work: &mut Work,
        batch: &mut Vec<DocCommit>,
        slots: &mut Vec<usize>,
    ) -> Result<Reservation, StoreError> {
        let growths: Vec<Held> = batch
            .iter()
            .zip(&*slots)
            .map(|(commit, &slot)| Held::growth(&work.docs[slot].state, commit))
            .collect();
        let all = growths.iter().fold(Held::default(), |all, more| all.plus(*more));
        let (reservation, others) = self.shared.reserved.take(all);
        let mut held = Held::of(&self.counts().await?).plus(others);
        let mut kept = Vec::with_capacity(batch.len());
        for (&slot, more) in slots.iter().zip(growths) {
            let refused = quota.check(held, more).err();
            let refused = refused.filter(|_| !work.only_deletes(slot, more));
            kept.push(refused.is_none());
            match refused {
                None => held = held.plus(more),
                Some(error) => work.refuse(slot, &error),
            }
        }
        let mut keep = kept.iter();
        batch.retain(|_| keep.next() == Some(&true));
        let mut keep = kept.iter();
        slots.retain(|_| keep.next() == Some(&true));
        Ok(reservation)
    }

    /// Reads documents that do not seem to be new; all of them where it counts whether they are.
    async fn read_known(&self, work: &mut Work, quota: &Quota) -> Result<(), StoreError> {
        let reads = |slot: &usize| !quota.is_unbound() || !work.seems_new(*slot);
        let known: Vec<usize> = (0..work.docs.len()).filter(reads).collect();
        // An edit needs its leaf only; a history from elsewhere may begin anywhere.
        let read = match work.mode {
            EditMode::Edit => ReadDoc::recent(ReadBody::No),
            EditMode::Replicated => ReadDoc::whole(ReadBody::No),
        };
        for slots in known.chunks(COMMIT_DOCS_ATOMIC_MAX) {
            let ids: Vec<DocId> = slots.iter().map(|&slot| work.docs[slot].id.clone()).collect();
            let states = self.backend().read(self.key(), &ids, read).await?;
            for (&slot, state) in slots.iter().zip(states) {
                work.docs[slot].state = state.unwrap_or_else(absent);
            }
        }
        Ok(())
    }

    /// Applies every write of one document, in order, to its state as it was read.
    async fn merge(&self, work: &mut Work, slot: usize) -> Result<(), StoreError> {
        let bounds = self.tree_bounds();
        let mut merging = Merging::new(&work.docs[slot].state);
        for &row in &work.docs[slot].rows {
            let write = &work.writes[row];
            let place = match work.mode {
                EditMode::Edit => merging.edit_parent(write).map(Place::Edit),
                EditMode::Replicated => merging.replicated_place(write, bounds),
            };
            let result = match place {
                Err(error) => Err(error),
                Ok(Place::Known(rev)) => Ok((rev, Changed::No)),
                Ok(Place::Joined(rev, tree)) => {
                    merging.take(tree);
                    Ok((rev, Changed::Yes))
                }
                Ok(place) => {
                    let stubs = work.docs[slot].stubs;
                    match self.resolve_attachments(write, &merging, stubs).await? {
                        Err(error) => Err(error),
                        Ok(resolved) => {
                            let rev = merging.add(write, place, resolved, bounds);
                            rev.map(|rev| (rev, Changed::Yes))
                        }
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
    StoredDoc {
        version: Version::default(),
        tree: RevTree::default(),
        read: ReadTree::Whole,
        older: Older::default(),
        winner_body: None,
    }
}

/// A bulk write under way.
struct Work {
    mode: EditMode,
    writes: Vec<Document>,
    /// By row of `writes`.
    results: Vec<Option<Result<(Rev, Changed), DocError>>>,
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
    stubs: Stubs,
}

impl Work {
    fn new(writes: Vec<Document>, mode: EditMode) -> Self {
        let mut slots: HashMap<DocId, usize> = HashMap::with_capacity(writes.len());
        let mut docs: Vec<DocWork> = Vec::with_capacity(writes.len());
        let mut slot_of = Vec::with_capacity(writes.len());
        for (row, write) in writes.iter().enumerate() {
            let slot = *slots.entry(write.id.clone()).or_insert_with(|| {
                let id = write.id.clone();
                let (state, stubs) = (absent(), Stubs::Trust);
                docs.push(DocWork { id, rows: Vec::new(), state, merged: None, stubs });
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

    /// Whether a document's writes are deletions that take no room: tombstones may have bodies.
    fn only_deletes(&self, slot: usize, more: Held) -> bool {
        let mut writes = self.docs[slot].rows.iter().map(|&row| &self.writes[row]);
        let is_plain = |write: &Document| write.body.as_str() == Body::empty().as_str();
        writes.all(|write| write.deleted && (more.adds_no_bytes() || is_plain(write)))
    }

    /// Refuses those writes of a document that would have changed it.
    fn refuse(&mut self, slot: usize, error: &DocError) {
        for &row in &self.docs[slot].rows {
            if matches!(self.results[row], Some(Ok((_, Changed::Yes)))) {
                self.results[row] = Some(Err(error.clone()));
            }
        }
    }

    /// Refuses all that would change something if anything is refused; answers whether.
    fn refuse_group(&mut self) -> bool {
        let refused = |result: &Option<_>| matches!(result, Some(Err(_)));
        let Some(row) = self.results.iter().position(refused) else { return false };
        let error = DocError::GroupRefused { id: self.writes[row].id.to_string() };
        (0..self.docs.len()).for_each(|slot| self.refuse(slot, &error));
        true
    }

    fn outcomes(self, seq_of: impl Fn(usize) -> Option<Seq>) -> Vec<WriteOutcome> {
        let rows = self.writes.into_iter().zip(self.results).zip(self.slot_of);
        rows.map(|((write, result), slot)| {
            match result.expect("every row was merged before the commit") {
                Ok((rev, changed)) => {
                    let seq = if changed == Changed::Yes { seq_of(slot) } else { None };
                    Ok(Written { id: write.id, rev, seq })
                }
                Err(error) => Err(Refused { id: write.id, rev: write.rev, error }),
            }
        })
        .collect()
    }
}

impl DocWork {
    /// What to commit, if the writes changed anything.
    fn take_commit(&mut self, bounds: TreeBounds) -> Option<DocCommit> {
        let mut merged = self.merged.take().filter(|merged| merged.changed)?;
        let dropped =
            if merged.stemmed { merged.dropped_from(&self.state.tree) } else { Vec::new() };
        Some(DocCommit {
            id: self.id.clone(),
            expected: self.state.version,
            dropped,
            older: merged.older(&self.state.tree, bounds),
            leaves: merged.leaves,
            tree: merged.tree,
            bodies: merged.bodies,
            blobs: merged.blobs,
        })
    }
}
