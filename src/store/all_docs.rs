//! Reading many documents: by range, or by key.

use super::backend::{DocsRange, Order, ReadBody, ReadDoc, StoredDoc};
use super::database::Database;
use super::error::StoreError;
use super::read::{GetOptions, show};
use crate::doc::{DocId, Document, Rev, Selector};

/// Documents read from the backend at a time. A short range reads at least the lesser number, since
/// tombstones may stand between the documents it is to find; keys are read in steps that begin with
/// it and double, so that little is read in vain where large documents fill a page.
const PAGE_DOCS: usize = 500;
const PAGE_DOCS_MIN: usize = 32;

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

/// A part of a range, or of the keys asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct AllDocsPage {
    /// The rows.
    pub rows: Vec<AllDocsRow>,
    /// Whether there are no more.
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
            Some(keys) => self.docs_by_key(keys, options, usize::MAX).await?.rows,
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
    /// `skip` and `limit` count within the page. Of `keys` the page has the first, and `after` means
    /// nothing; ask with the others for the next.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`]; [`StoreError::TooLarge`] for more keys than `bulk_rows_max`.
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
        match &options.keys {
            Some(keys) => self.docs_by_key(keys, options, bytes_max).await,
            None => self.docs_by_range(options, after, bytes_max).await,
        }
    }

    async fn docs_by_key(
        &self,
        keys: &[DocId],
        options: &AllDocsOptions,
        bytes_max: usize,
    ) -> Result<AllDocsPage, StoreError> {
        self.check_rows("keys", keys.len())?;
        let mut keys = keys.to_vec();
        if options.order == Order::Descending {
            keys.reverse();
        }
        let wanted: Vec<DocId> =
            keys.into_iter().skip(options.skip).take(options.limit.unwrap_or(usize::MAX)).collect();
        let mut rows = Vec::with_capacity(wanted.len());
        let mut bytes = 0;
        let mut at_a_time = PAGE_DOCS_MIN;
        while rows.len() < wanted.len() {
            let rest = &wanted[rows.len()..];
            let ids = &rest[..rest.len().min(at_a_time)];
            at_a_time = (2 * at_a_time).min(PAGE_DOCS);
            let states = self.backend().read(self.key(), ids, read_of(options)).await?;
            for (id, state) in ids.iter().cloned().zip(states) {
                let row = match state {
                    Some(state) if self.admits_winner(&options.selectors, &id, &state).await? => {
                        self.row(id, state, options).await?
                    }
                    _ => AllDocsRow { id, rev: None, deleted: false, leaves: 0, doc: None },
                };
                bytes += bytes_of(&row);
                rows.push(row);
                if bytes >= bytes_max {
                    let ended = rows.len() == wanted.len();
                    return Ok(AllDocsPage { rows, ended });
                }
            }
        }
        Ok(AllDocsPage { rows, ended: true })
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
                bytes += bytes_of(&row);
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

/// What a row counts for in a page.
fn bytes_of(row: &AllDocsRow) -> usize {
    row.doc.as_ref().map_or(0, |doc| doc.body.as_str().len())
}

/// Large bodies are read one by one, so that a page holds few bytes beside the rows themselves.
fn read_of(options: &AllDocsOptions) -> ReadDoc {
    let reads = options.include_docs || !options.selectors.is_empty();
    let body = if reads { ReadBody::SmallWinner } else { ReadBody::No };
    // What a tombstone deletes may be far back.
    if options.selectors.is_empty() { ReadDoc::recent(body) } else { ReadDoc::whole(body) }
}
