//! Reading documents: one, many, by range; old revisions, branches, histories.

use std::collections::HashSet;

use super::backend::{DocsRange, Order, ReadBody, ReadDoc, ReadTree, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use crate::doc::{
    BodyRecord, DocId, Document, Leaf, ReadExtra, Rev, RevInfo, RevStatus, RevTree, Selector,
    shown_attachments,
};

/// Documents read from the backend at a time. A short range reads at least the lesser number, since
/// tombstones may stand between the documents it is to find.
const PAGE_DOCS: usize = 500;
const PAGE_DOCS_MIN: usize = 32;

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

/// A range of ids, in byte order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// Where to begin (the upper end of a descending read).
    pub start: Option<String>,
    /// Where to end.
    pub end: Option<String>,
    /// Whether `end` itself is left out.
    pub exclusive_end: bool,
}

/// What a read of many documents brings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllDocsOptions {
    /// Which ids; ignored where `keys` is given.
    pub range: KeyRange,
    /// These ids, in this order, repeats included.
    pub keys: Option<Vec<DocId>>,
    /// Direction.
    pub order: Order,
    /// Rows at most.
    pub limit: Option<usize>,
    /// Rows to leave out at the front.
    pub skip: usize,
    /// Whether each row has its document.
    pub include_docs: bool,
    /// Whether the documents have `_conflicts`.
    pub conflicts: bool,
    /// Whether the documents have their attachments' bytes.
    pub attachments: bool,
    /// Only documents whose winning rev passes all of these; of `keys` the others count as not
    /// there. See [`Database::admits`].
    pub selectors: Vec<Selector>,
}

/// Many documents.
#[derive(Debug, Clone, PartialEq)]
pub struct AllDocs {
    /// Documents in the database that are not deleted.
    pub total_rows: u64,
    /// The rows.
    pub rows: Vec<AllDocsRow>,
}

/// A part of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct AllDocsPage {
    /// The rows.
    pub rows: Vec<AllDocsRow>,
    /// Whether the range has no more.
    pub ended: bool,
}

/// One row of [`AllDocs`].
#[derive(Debug, Clone, PartialEq)]
pub struct AllDocsRow {
    /// The id asked for or found.
    pub id: DocId,
    /// Its winning rev; `None` for a key without a document.
    pub rev: Option<Rev>,
    /// Whether the winning rev is a tombstone, which only `keys` can show.
    pub deleted: bool,
    /// Number of its leaves, open and deleted.
    pub leaves: usize,
    /// The document, if asked for and not deleted.
    pub doc: Option<Document>,
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
        let tree = if whole { ReadTree::Whole } else { ReadTree::Recent };
        let read = ReadDoc { tree, body: ReadBody::Winner };
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

    /// Reads many documents by key or by range, in byte order of their ids.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`] for more keys than `bulk_rows_max`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn all_docs(&self, options: &AllDocsOptions) -> Result<AllDocs, StoreError> {
        let total_rows = self.counts().await?.docs;
        let rows = match &options.keys {
            Some(keys) => self.docs_by_key(keys, options).await?,
            None => self.docs_by_range(options, None, usize::MAX).await?.rows,
        };
        Ok(AllDocs { total_rows, rows })
    }

    /// Ids of documents in byte order, those of deleted documents included: after `after`, at most
    /// `limit`.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ids(&self, after: Option<&DocId>, limit: usize) -> Result<Vec<DocId>, StoreError> {
        self.alive()?;
        let range = DocsRange {
            from: after.map(|id| id.as_str().to_owned()),
            after_from: after.is_some(),
            to: None,
            to_inclusive: true,
            limit,
            order: Order::Ascending,
            read: ReadDoc::recent(ReadBody::No),
        };
        let page = self.backend().docs(self.key(), range).await?;
        Ok(page.into_iter().map(|(id, _)| id).collect())
    }

    /// Reads a range in pages: rows after `after`, as many as fit a number of bytes, at least one.
    /// `skip` and `limit` count within the page.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn all_docs_page(
        &self,
        options: &AllDocsOptions,
        after: Option<&DocId>,
        bytes_max: usize,
    ) -> Result<AllDocsPage, StoreError> {
        self.alive()?;
        self.docs_by_range(options, after, bytes_max).await
    }

    async fn docs_by_key(
        &self,
        keys: &[DocId],
        options: &AllDocsOptions,
    ) -> Result<Vec<AllDocsRow>, StoreError> {
        self.check_rows("keys", keys.len())?;
        let mut keys = keys.to_vec();
        if options.order == Order::Descending {
            keys.reverse();
        }
        let wanted: Vec<DocId> =
            keys.into_iter().skip(options.skip).take(options.limit.unwrap_or(usize::MAX)).collect();
        let states = self.backend().read(self.key(), &wanted, read_of(options)).await?;
        let mut rows = Vec::with_capacity(wanted.len());
        for (id, state) in wanted.into_iter().zip(states) {
            let row = match state {
                Some(state) if self.admits_winner(&options.selectors, &id, &state).await? => {
                    self.row(id, state, options).await?
                }
                _ => AllDocsRow { id, rev: None, deleted: false, leaves: 0, doc: None },
            };
            rows.push(row);
        }
        Ok(rows)
    }

    async fn docs_by_range(
        &self,
        options: &AllDocsOptions,
        after: Option<&DocId>,
        bytes_max: usize,
    ) -> Result<AllDocsPage, StoreError> {
        let mut rows = Vec::new();
        let mut bytes = 0;
        let mut left = options.limit.unwrap_or(usize::MAX);
        let mut skip = options.skip;
        let mut range = DocsRange {
            from: after.map(ToString::to_string).or_else(|| options.range.start.clone()),
            after_from: after.is_some(),
            to: options.range.end.clone(),
            to_inclusive: !options.range.exclusive_end,
            limit: left.saturating_add(skip).clamp(PAGE_DOCS_MIN, PAGE_DOCS),
            order: options.order,
            read: read_of(options),
        };
        while left > 0 {
            let page = self.backend().docs(self.key(), range.clone()).await?;
            let ended = page.len() < range.limit;
            range.from = page.last().map(|(id, _)| id.as_str().to_owned());
            range.after_from = true;
            for (id, state) in page {
                if left == 0 {
                    return Ok(AllDocsPage { rows, ended: false });
                }
                let live = state.tree.winner().is_some_and(|winner| !winner.state.deleted);
                if !live {
                    continue;
                }
                if !self.admits_winner(&options.selectors, &id, &state).await? {
                    continue;
                }
                if skip > 0 {
                    skip -= 1;
                    continue;
                }
                left -= 1;
                let row = self.row(id, state, options).await?;
                bytes += row.doc.as_ref().map_or(0, |doc| doc.body.as_str().len());
                rows.push(row);
                if bytes >= bytes_max {
                    return Ok(AllDocsPage { rows, ended: false });
                }
            }
            // With nothing left, rows of this page may have been passed over.
            if ended && left > 0 {
                return Ok(AllDocsPage { rows, ended: true });
            }
        }
        Ok(AllDocsPage { rows, ended: false })
    }

    async fn row(
        &self,
        id: DocId,
        mut state: StoredDoc,
        options: &AllDocsOptions,
    ) -> Result<AllDocsRow, StoreError> {
        let Some(winner) = state.tree.winner() else {
            return Ok(AllDocsRow { id, rev: None, deleted: false, leaves: 0, doc: None });
        };
        let deleted = winner.state.deleted;
        let leaves = state.tree.leaves().len();
        let mut row = AllDocsRow { id, rev: Some(winner.rev.clone()), deleted, leaves, doc: None };
        if deleted || !options.include_docs {
            return Ok(row);
        }
        let record = match state.winner_body.take() {
            Some(record) => Some(record),
            None => self.one_body(&row.id, &winner.rev).await?,
        };
        if let Some(record) = record {
            let get = GetOptions { conflicts: options.conflicts, ..GetOptions::default() };
            let mut document = show(&row.id, &winner.rev, &state, record, &get);
            if options.attachments {
                self.load_attachments(&mut document).await?;
            }
            row.doc = Some(document);
        }
        Ok(row)
    }
}

/// Large bodies are read one by one, so that a page holds few bytes beside the rows themselves.
fn read_of(options: &AllDocsOptions) -> ReadDoc {
    let reads = options.include_docs || !options.selectors.is_empty();
    let body = if reads { ReadBody::SmallWinner } else { ReadBody::No };
    // What a tombstone deletes may be far back.
    if options.selectors.is_empty() { ReadDoc::recent(body) } else { ReadDoc::whole(body) }
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
