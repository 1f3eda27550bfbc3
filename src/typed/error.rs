//! What can go wrong with documents of one type.

use crate::doc::{DocId, ParseError, SelectorError};
use crate::store::{FindError, StoreError};

/// Why documents of a type could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TypedError {
    /// The store refused or failed; a conflict is [`StoreError::Refused`].
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The query was refused or failed.
    #[error(transparent)]
    Find(#[from] FindError),
    /// A selector is malformed.
    #[error(transparent)]
    Selector(#[from] SelectorError),
    /// An id is not allowed, or a value makes no document.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// The document of this id is of another type.
    #[error("document {id} is no {wanted:?}")]
    OtherType {
        /// The document.
        id: DocId,
        /// The type asked for.
        wanted: &'static str,
    },
    /// The document says that it is of the type and cannot be read as one.
    #[error("document {id} does not have the shape of its type: {source}")]
    Shape {
        /// The document.
        id: DocId,
        /// serde's words.
        source: serde_json::Error,
    },
    /// A value does not serialise.
    #[error("the value for document {id} cannot be written as JSON: {source}")]
    Value {
        /// The document.
        id: DocId,
        /// serde's words.
        source: serde_json::Error,
    },
    /// A value does not hold to the collection's schema.
    #[cfg(feature = "schema")]
    #[error("document {id} does not hold to the schema: {problem}")]
    Invalid {
        /// The document.
        id: DocId,
        /// What does not hold.
        problem: String,
    },
    /// Not a JSON Schema.
    #[cfg(feature = "schema")]
    #[error("not a JSON Schema, at {at:?}: {problem}")]
    Schema {
        /// Where in the schema, as a JSON pointer.
        at: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Others changed the document each time before an update was written.
    #[error("document {id} was changed by others {tries} times in a row")]
    Contended {
        /// The document.
        id: DocId,
        /// How often the update was tried.
        tries: u32,
    },
}

impl TypedError {
    /// Whether another write was there first.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Store(StoreError::Refused(crate::store::DocError::Conflict)))
    }
}
