//! The document model: ids, revisions, revision trees, bodies, attachments. Pure: no IO, no clock.
//!
//! It is CouchDB's model: the replication protocol chapter of CouchDB's documentation,
//! `couch_key_tree.erl` and PouchDB's `pouchdb-merge` are what it must agree with.

mod attachment;
mod body;
mod canonical;
pub mod collate;
mod document;
mod equal;
mod error;
mod fields;
mod id;
pub(crate) mod json;
mod merge;
mod operations;
mod patch;
mod rev;
mod rev_tree;
pub mod selector;
mod stars;
mod value;
pub(crate) mod varint;

pub use attachment::{
    Attachment, AttachmentData, AttachmentDigest, Attachments, BlobHasher, BlobKey, BlobRef,
    StoredAttachment,
};
pub use body::{Body, BodyRecord};
pub(crate) use body::{next_rev, shown_attachments};
pub use document::{
    AnyDocument, Document, LocalDocument, LocalRev, ReadExtra, RevInfo, RevStatus, Unnamed,
};
pub use error::ParseError;
pub(crate) use error::printable;
#[cfg(feature = "server")]
pub(crate) use fields::pick;
pub(crate) use fields::values;
pub use id::{AnyId, DbName, DocId, LocalId};
pub use merge::{Merge, MergePolicy};
pub use operations::{Operations, OperationsError, counted, elements};
pub use patch::{Patch, PatchError};
pub use rev::{GENERATION_MAX, Rev, RevHash, RevPath};
pub use rev_tree::{Leaf, RevState, RevTree, RevsDiff};
pub use selector::{FieldPath, Selector, SelectorError};
pub(crate) use stars::fits;
pub use value::Json;
