//! Indexes on fields: a design document defines one, rows beside the documents hold it.
//!
//! The definitions are CouchDB's (`"language": "query"`), so that they replicate as the documents they
//! are. The rows are named by a digest of what decides them: equal definitions share rows, and a
//! change of the fields, of the filter or of the collation makes others. Rows are brought up to date
//! from the changes feed when a query needs them, so that writers do not wait for indexes.

mod check;
mod clean;
mod definition;
mod update;

pub(crate) use definition::cut;
pub use definition::{Index, NewIndex, SortField};

use super::all_docs::{AllDocsOptions, KeyRange};
use super::backend::Order;
use super::database::Database;
use super::error::StoreError;
use super::find::FindError;
use super::read::GetOptions;
use super::write::Written;
use crate::doc::{Body, DocId, Document};

/// What ids of design documents begin with.
pub(crate) const DESIGN: &str = "_design/";
/// The first text above all that begin with [`DESIGN`].
const DESIGN_END: &str = "_design0";
/// Bytes of documents read at a time.
const PAGE_BYTES: usize = 1024 * 1024;
/// How often a design document is written again that somebody else changed meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// Design documents, as a range of ids.
pub(crate) fn design_docs() -> AllDocsOptions {
    let range = KeyRange {
        start: Some(DESIGN.to_owned()),
        end: Some(DESIGN_END.to_owned()),
        exclusive_end: true,
    };
    AllDocsOptions { range, include_docs: true, ..AllDocsOptions::default() }
}

impl Database {
    /// Defines an index, in a design document that is made or changed for it. On return the
    /// definition is on disk; the first query that uses the index builds it. `None` if there is
    /// such an index already.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use settee::store::NewIndex;
    /// # let store = settee::Store::memory();
    /// let todos = store.open_or_create(&settee::DbName::parse("todos")?).await?;
    /// let by_year = NewIndex::on(&["year", "title"])?;
    /// assert!(todos.create_index(&by_year).await?.is_some());
    /// assert!(todos.create_index(&by_year).await?.is_none());
    /// assert_eq!(todos.indexes().await?.len(), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`FindError::DdocLanguage`] if the design document is there and is not one of indexes;
    /// [`FindError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the index either defined or not.
    pub async fn create_index(&self, new: &NewIndex) -> Result<Option<Written>, FindError> {
        self.change_definition(&new.ddoc()?, |found| new.changed(found)).await
    }

    /// Takes an index out of its design document, which goes with its last index. The rows go with
    /// [`Database::clean_indexes`] or the next compaction. Answers whether there was such an index.
    ///
    /// # Errors
    /// [`FindError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the index either defined or not.
    pub async fn drop_index(&self, ddoc: &DocId, name: &str) -> Result<bool, FindError> {
        let dropped = self.change_definition(ddoc, |found| Ok(Index::removed(found, name))).await?;
        Ok(dropped.is_some())
    }

    async fn change_definition(
        &self,
        ddoc: &DocId,
        change: impl Fn(Option<&Document>) -> Result<Option<Document>, FindError> + Send,
    ) -> Result<Option<Written>, FindError> {
        let mut attempt = 1;
        loop {
            let found = match self.get(ddoc, &GetOptions::default()).await {
                Ok(found) => Some(found),
                Err(StoreError::DocMissing { .. } | StoreError::DocDeleted { .. }) => None,
                Err(error) => return Err(error.into()),
            };
            let Some(changed) = change(found.as_ref())? else { return Ok(None) };
            match self.put(changed).await {
                Err(StoreError::Refused(super::error::DocError::Conflict))
                    if attempt < ATTEMPTS_MAX =>
                {
                    attempt += 1;
                }
                written => return Ok(Some(written?)),
            }
        }
    }

    /// The indexes that are defined, in the order of their design documents and names.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn indexes(&self) -> Result<Vec<Index>, StoreError> {
        let mut found = Vec::new();
        let (options, mut after) = (design_docs(), None);
        loop {
            let page = self.all_docs_page(&options, after.as_ref(), PAGE_BYTES).await?;
            let documents = page.rows.iter().filter_map(|row| row.doc.as_ref());
            found.extend(documents.flat_map(|document| Index::all_of(document, self.limits())));
            after = page.rows.last().map(|row| row.id.clone()).or(after);
            if page.ended {
                return Ok(found);
            }
        }
    }
}

/// A document without indexes in it: what is left when the last one goes.
fn tombstone(of: &Document) -> Document {
    Document { deleted: true, body: Body::empty(), attachments: Default::default(), ..of.clone() }
}

/// The order that a direction names.
pub(crate) fn order_named(direction: &str) -> Option<Order> {
    match direction {
        "asc" => Some(Order::Ascending),
        "desc" => Some(Order::Descending),
        _ => None,
    }
}

pub(crate) fn order_name(order: Order) -> &'static str {
    match order {
        Order::Ascending => "asc",
        Order::Descending => "desc",
    }
}
