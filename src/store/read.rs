//! Reading documents: one, or many revisions in bulk; old revisions, branches, histories.

use std::collections::HashSet;

use super::backend::{ReadBody, ReadDoc, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use crate::doc::{
    BodyRecord, DocId, Document, Leaf, ReadExtra, Rev, RevInfo, RevStatus, RevTree,
    shown_attachments,
};

/// Documents read from the backend at a time.
const PAGE_DOCS: usize = 500;

/// What a read of one document brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// This revision instead of the winning rev. A tombstone can be read so.
    pub rev: Option<Rev>,
    /// The best leaf that descends from `rev` instead of `rev` itself.
    pub latest: bool,
    /// `_revisions`.
    pub revs: bool,
    /// `_revs_info`.
    pub revs_info: bool,
    /// `_conflicts`.
    pub conflicts: bool,
    /// `_deleted_conflicts`.
    pub deleted_conflicts: bool,
    /// `_local_seq`.
    pub local_seq: bool,
    /// Attachments with their bytes.
    pub attachments: bool,
}

/// Which revisions a read of branches brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenRevs {
    /// Every leaf, deleted ones included.
    All,
    /// These revisions.
    Revs(Vec<Rev>),
}

/// One revision of a read of branches.
#[derive(Debug, Clone, PartialEq)]
pub enum OpenRev {
    /// It is stored.
    Found(Box<Document>),
    /// It is not known, or its body is not stored.
    Missing(Rev),
}

impl OpenRev {
    fn body_bytes(&self) -> usize {
        match self {
            Self::Found(document) => document.body.as_str().len(),
            Self::Missing(_) => 0,
        }
    }
}

/// One thing to read in bulk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkGetItem {
    /// The document.
    pub id: DocId,
    /// One revision, or every leaf.
    pub rev: Option<Rev>,
}

/// What a bulk read brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BulkGetOptions {
    /// `_revisions`.
    pub revs: bool,
    /// The leaves that descend from a revision instead of the revision itself.
    pub latest: bool,
    /// Attachments with their bytes.
    pub attachments: bool,
}

/// What was found of one thing read in bulk.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkGetResult {
    /// The document.
    pub id: DocId,
    /// Its revisions; empty if every leaf was asked for and there is no document.
    pub revs: Vec<OpenRev>,
}

impl Database {
    /// Reads one document.
    ///
    /// # Errors
    /// [`StoreError::DocMissing`] if there is no document, or the revision or its body is not
    /// stored; [`StoreError::DocDeleted`] if the winning rev is a tombstone and no revision was
    /// asked for.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get(&self, id: &DocId, options: &GetOptions) -> Result<Document, StoreError> {
        let missing = || StoreError::DocMissing { id: id.clone() };
        let whole = options.revs || options.revs_info || options.rev.is_some();
        let stored = self.read_one(id, whole).await?.ok_or_else(missing)?;
        let winner = stored.tree.winner().ok_or_else(missing)?;
        let rev = match &options.rev {
            None if winner.state.deleted => {
                return Err(StoreError::DocDeleted { id: id.clone() });
            }
            None => winner.rev.clone(),
            Some(rev) if options.latest => {
                let leaf = stored.tree.leaves_from(rev).into_iter().next();
                leaf.ok_or_else(missing)?.rev
            }
            Some(rev) => rev.clone(),
        };
        let record = if rev == winner.rev { stored.winner_body.clone() } else { None };
        let record = match record {
            Some(record) => record,
            None => self.one_body(id, &rev).await?.ok_or_else(missing)?,
        };
        let mut document = show(id, &rev, &stored, record, options);
        if options.attachments {
            self.load_attachments(&mut document).await?;
        }
        Ok(document)
    }

    /// The revision trees of documents, in the order asked; `None` for one that is not there.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more ids than `bulk_rows_max`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn rev_trees(&self, ids: &[DocId]) -> Result<Vec<Option<RevTree>>, StoreError> {
        self.alive()?;
        self.check_rows("revision trees in one read", ids.len())?;
        let found = self.backend().read(self.key(), ids, ReadDoc::whole(ReadBody::No)).await?;
        // A database that was destroyed meanwhile reads as one without documents.
        self.alive()?;
        Ok(found.into_iter().map(|state| state.map(|state| state.tree)).collect())
    }

    /// With the winning rev's body; with all revisions, or those at hand.
    async fn read_one(&self, id: &DocId, whole: bool) -> Result<Option<StoredDoc>, StoreError> {
        self.alive()?;
        let ids = std::slice::from_ref(id);
        let read = if whole { ReadDoc::whole } else { ReadDoc::recent }(ReadBody::Winner);
        Ok(self.backend().read(self.key(), ids, read).await?.pop().flatten())
    }

    pub(super) async fn one_body(
        &self,
        id: &DocId,
        rev: &Rev,
    ) -> Result<Option<BodyRecord>, StoreError> {
        let asked = [(id.clone(), rev.clone())];
        Ok(self.backend().bodies(self.key(), &asked).await?.pop().flatten())
    }

    /// Reads branches of one document: all its leaves, or named revisions, in the order asked.
    ///
    /// With `latest`, a named revision stands for every leaf that descends from it.
    ///
    /// # Errors
    /// [`StoreError::DocMissing`] if all leaves were asked for and there is no document. A named
    /// revision that is not stored is [`OpenRev::Missing`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn open_revs(
        &self,
        id: &DocId,
        which: &OpenRevs,
        options: BulkGetOptions,
    ) -> Result<Vec<OpenRev>, StoreError> {
        let asked = match which {
            OpenRevs::All => Vec::new(),
            OpenRevs::Revs(revs) => revs.clone(),
        };
        self.check_rows("revisions in one read", asked.len())?;
        let Some(state) = self.read_one(id, true).await? else {
            return match which {
                OpenRevs::All => Err(StoreError::DocMissing { id: id.clone() }),
                OpenRevs::Revs(_) => Ok(asked.into_iter().map(OpenRev::Missing).collect()),
            };
        };
        let revs = match which {
            OpenRevs::All => revs_of(state.tree.leaves()),
            OpenRevs::Revs(_) => {
                asked.iter().flat_map(|rev| branches(&state, Some(rev), options)).collect()
            }
        };
        // Two revisions asked for may lead to one leaf.
        let mut seen = HashSet::with_capacity(revs.len());
        let revs = revs.into_iter().filter(|rev| seen.insert(rev.clone())).collect();
        self.read_revs(id, state, revs, options).await
    }

    /// Reads many documents' leaves or named revisions, one result for each item, in order.
    ///
    /// All that was found is in memory together: see [`Database::bulk_get_page`] for large bodies.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more items than `bulk_rows_max`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn bulk_get(
        &self,
        items: &[BulkGetItem],
        options: BulkGetOptions,
    ) -> Result<Vec<BulkGetResult>, StoreError> {
        self.bulk_get_page(items, options, usize::MAX).await
    }

    /// The same for the first of the items, as many as fit a number of bytes, at least one: fewer
    /// results than items mean that the bytes ran out.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more items than `bulk_rows_max`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn bulk_get_page(
        &self,
        items: &[BulkGetItem],
        options: BulkGetOptions,
        bytes_max: usize,
    ) -> Result<Vec<BulkGetResult>, StoreError> {
        self.alive()?;
        self.check_rows("documents in one read", items.len())?;
        let read = ReadDoc::whole(ReadBody::SmallWinner);
        let mut results = Vec::with_capacity(items.len().min(PAGE_DOCS));
        let mut bytes = 0;
        for items in items.chunks(PAGE_DOCS) {
            let ids: Vec<DocId> = items.iter().map(|item| item.id.clone()).collect();
            let states = self.backend().read(self.key(), &ids, read).await?;
            for (item, state) in items.iter().zip(states) {
                let revs = match state {
                    Some(state) => {
                        let revs = branches(&state, item.rev.as_ref(), options);
                        self.read_revs(&item.id, state, revs, options).await?
                    }
                    None => item.rev.iter().cloned().map(OpenRev::Missing).collect(),
                };
                bytes += revs.iter().map(OpenRev::body_bytes).sum::<usize>();
                results.push(BulkGetResult { id: item.id.clone(), revs });
                if bytes >= bytes_max {
                    return Ok(results);
                }
            }
        }
        Ok(results)
    }

    async fn read_revs(
        &self,
        id: &DocId,
        mut state: StoredDoc,
        revs: Vec<Rev>,
        options: BulkGetOptions,
    ) -> Result<Vec<OpenRev>, StoreError> {
        let winner = state.tree.winner().map(|leaf| leaf.rev);
        let winner_body = state.winner_body.take();
        let get = GetOptions { revs: options.revs, ..GetOptions::default() };
        let mut found = Vec::with_capacity(revs.len());
        for rev in revs {
            let at_hand = if winner.as_ref() == Some(&rev) { winner_body.clone() } else { None };
            let record = match at_hand {
                Some(record) => Some(record),
                None => self.one_body(id, &rev).await?,
            };
            found.push(match record {
                None => OpenRev::Missing(rev),
                Some(record) => {
                    let mut document = show(id, &rev, &state, record, &get);
                    if options.attachments {
                        self.load_attachments(&mut document).await?;
                    }
                    OpenRev::Found(Box::new(document))
                }
            });
        }
        Ok(found)
    }
}

/// The revisions that one thing to read means: every leaf, or a named revision.
fn branches(state: &StoredDoc, rev: Option<&Rev>, options: BulkGetOptions) -> Vec<Rev> {
    let Some(rev) = rev else { return revs_of(state.tree.leaves()) };
    let below = if options.latest { state.tree.leaves_from(rev) } else { Vec::new() };
    if below.is_empty() { vec![rev.clone()] } else { revs_of(below) }
}

fn revs_of(leaves: Vec<Leaf>) -> Vec<Rev> {
    leaves.into_iter().map(|leaf| leaf.rev).collect()
}

/// A stored revision as a document.
pub(super) fn show(
    id: &DocId,
    rev: &Rev,
    stored: &StoredDoc,
    record: BodyRecord,
    options: &GetOptions,
) -> Document {
    let mut extra = ReadExtra::default();
    if options.conflicts || options.deleted_conflicts {
        let (deleted, open): (Vec<Leaf>, Vec<Leaf>) =
            stored.tree.leaves().into_iter().skip(1).partition(|leaf| leaf.state.deleted);
        if options.conflicts {
            extra.conflicts = revs_of(open);
        }
        if options.deleted_conflicts {
            extra.deleted_conflicts = revs_of(deleted);
        }
    }
    let path = (options.revs || options.revs_info).then(|| stored.tree.path_of(rev)).flatten();
    if options.revs_info {
        let info = |rev: Rev| RevInfo { status: status_of(stored, &rev), rev };
        extra.revs_info = path.iter().flat_map(crate::doc::RevPath::revs).map(info).collect();
    }
    extra.local_seq = options.local_seq.then_some(stored.version.seq);
    let revisions = path.filter(|_| options.revs);
    Document { revisions, extra, ..plain(id, rev, &stored.tree, record) }
}

/// A stored revision as a document, with nothing that only some readers want.
pub(super) fn plain(id: &DocId, rev: &Rev, tree: &RevTree, record: BodyRecord) -> Document {
    Document {
        id: id.clone(),
        rev: Some(rev.clone()),
        revisions: None,
        deleted: tree.state(rev).unwrap_or_default().deleted,
        body: record.body,
        attachments: shown_attachments(&record.attachments),
        extra: ReadExtra::default(),
    }
}

fn status_of(stored: &StoredDoc, rev: &Rev) -> RevStatus {
    match stored.tree.state(rev) {
        Some(state) if state.body_bytes.is_none() => RevStatus::Missing,
        Some(state) if state.deleted => RevStatus::Deleted,
        Some(_) => RevStatus::Available,
        None => RevStatus::Missing,
    }
}
