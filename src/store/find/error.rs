//! Why a query, or the definition of an index, cannot be used.

use crate::doc::SelectorError;
use crate::store::error::StoreError;

/// A query or an index that was refused, or what went wrong in the store.
///
/// The texts are those of CouchDB's `mango_error.erl`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// Documents are to come in an order that no index has.
    #[error("No index exists for this sort, try indexing by the sort fields.")]
    NoUsableIndex,
    /// The index that was named is not there or cannot be used, and no other one may be.
    #[error("{named} specified by `use_index` could not be found or it is not suitable.")]
    IndexNotSuitable {
        /// Its design document, with its name if that was given.
        named: String,
    },
    /// No index was named, none can be used, and a look at all documents is not allowed.
    #[error("You must specify an index with the `use_index` parameter.")]
    IndexNotNamed,
    /// A bookmark that was not made here, or of another query.
    #[error("Invalid bookmark value: {bookmark:?}")]
    Bookmark {
        /// The bookmark, cut to a printable length.
        bookmark: String,
    },
    /// A sort whose fields have different directions.
    #[error("Sorts currently only support a single direction for all fields.")]
    MixedSort,
    /// The design document that is to hold an index is of another language.
    #[error("Existing design doc has an invalid language: {language}")]
    DdocLanguage {
        /// Its language as JSON; empty if it has none.
        language: String,
    },
    /// A field's name, or a selector.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
