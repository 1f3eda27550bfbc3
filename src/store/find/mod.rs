//! Queries: documents that match a selector, through an index or a look at all documents.
//!
//! The meaning is that of CouchDB's `_find`. An index only narrows what is looked at: each document is
//! read as it is and judged by the whole selector. A query holds no snapshot. A document that changes
//! while it runs is found as it was or as it is, once. One that moves in the index meanwhile, from behind
//! the place where the query is to before it, is missed: to find it would need a snapshot.

mod bookmark;
mod error;
mod plan;
mod scan;

use std::fmt;

pub use error::FindError;
#[cfg(feature = "server")]
pub(crate) use plan::Reason;
pub(crate) use plan::{Plan, Way};
pub use scan::{Execution, Finder};

use super::database::Database;
use super::index::{DESIGN, SortField};
use crate::doc::{Document, Selector};

/// Documents that a page has at most if nothing else is asked for.
const LIMIT: usize = 25;

/// An index that a query names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UseIndex {
    /// The design document, with or without `_design/`.
    pub ddoc: String,
    /// The index's name; any of the document's if `None`.
    pub name: Option<String>,
}

impl UseIndex {
    fn short_ddoc(&self) -> &str {
        self.ddoc.strip_prefix(DESIGN).unwrap_or(&self.ddoc)
    }
}

impl fmt::Display for UseIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DESIGN}{}", self.short_ddoc())?;
        self.name.iter().try_for_each(|name| write!(f, ", {name}"))
    }
}

/// What is to be found, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct FindRequest {
    /// What documents must match.
    pub selector: Selector,
    /// What they must match too: what does not is as if it were not there, and is not counted.
    pub within: Vec<Selector>,
    /// The order in which they come, which an index must have; all fields in one direction. Without
    /// fields it is that of the index which is used.
    pub sort: Vec<SortField>,
    /// Documents at most; 25.
    pub limit: usize,
    /// Matches to leave out at the front.
    pub skip: usize,
    /// The index to use; where it cannot be used another one is, and the page has a warning.
    pub use_index: Option<UseIndex>,
    /// Whether another index, or none, may be used instead of the one that is named; true.
    pub allow_fallback: bool,
    /// Where to go on: the bookmark of the page before. Empty for the beginning.
    pub bookmark: String,
    /// Whether documents have `_conflicts`.
    pub conflicts: bool,
    /// Whether the index is brought up to date first; true. If not, documents that changed since it
    /// last was may be missing, or be found at an earlier place.
    pub update: bool,
}

impl FindRequest {
    /// Asks for the first documents that match.
    #[must_use]
    pub fn new(selector: Selector) -> Self {
        Self {
            selector,
            within: Vec::new(),
            sort: Vec::new(),
            limit: LIMIT,
            skip: 0,
            use_index: None,
            allow_fallback: true,
            bookmark: String::new(),
            conflicts: false,
            update: true,
        }
    }
}

/// Documents that were found.
#[derive(Debug, Clone, PartialEq)]
pub struct FindPage {
    /// The documents.
    pub docs: Vec<Document>,
    /// Where the next page begins.
    pub bookmark: String,
    /// What might be done better, in CouchDB's words.
    pub warning: Option<String>,
    /// What it took.
    pub execution: Execution,
}

impl Database {
    /// Finds documents that match a selector. Design documents are not looked at.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new().unwrap().block_on(async {
    /// use settee::{Document, Selector, store::FindRequest};
    /// # let store = settee::Store::memory();
    /// let todos = store.open_or_create(&settee::DbName::parse("todos")?).await?;
    /// todos.put(Document::new("milk", &serde_json::json!({"done": false}))?).await?;
    /// let open = Selector::from_value(&serde_json::json!({"done": false}))?;
    /// let page = todos.find(FindRequest::new(open)).await?;
    /// assert_eq!(page.docs[0].id.as_str(), "milk");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`FindError::NoUsableIndex`] for a sort without an index, [`FindError::MixedSort`],
    /// [`FindError::Bookmark`], [`FindError::IndexNotSuitable`], [`FindError::IndexNotNamed`],
    /// [`FindError::Store`].
    ///
    /// # Cancel safety
    /// Dropping the future changes no document; an index may have been brought further.
    pub async fn find(&self, request: FindRequest) -> Result<FindPage, FindError> {
        let mut finder = self.finder(request).await?;
        let mut docs = Vec::new();
        while let Some(document) = finder.next().await? {
            docs.push(document);
        }
        let (bookmark, warning) = (finder.bookmark(), finder.warning());
        Ok(FindPage { docs, bookmark, warning, execution: finder.execution() })
    }

    /// The same, document by document: brings the index up to date and reads nothing yet.
    ///
    /// # Errors
    /// As [`Database::find`].
    ///
    /// # Cancel safety
    /// As [`Database::find`].
    pub async fn finder(&self, request: FindRequest) -> Result<Finder, FindError> {
        let indexes = self.indexes().await?;
        let Plan { way, warning, .. } = request.plan(&indexes)?;
        let index = match way {
            Way::AllDocs => None,
            Way::Index(index) => Some(index.clone()),
        };
        Finder::new(self.clone(), request, index, warning).await
    }
}

#[cfg(feature = "server")]
/// Whether an index has all of a query's fields, so that CouchDB would not read documents.
pub(crate) fn covers(index: &super::index::Index, fields: &[String]) -> bool {
    let columns: Vec<String> = index.fields.iter().map(|by| by.field.to_string()).collect();
    !fields.is_empty() && fields.iter().all(|field| field == "_id" || columns.contains(field))
}
