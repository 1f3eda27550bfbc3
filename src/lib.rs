//! Settee: a document database replication gateway.
#![deny(missing_docs)]

pub mod doc;
mod limits;

pub use doc::{DbName, DocId, Document, ParseError, Rev};
pub use limits::{Limits, LimitsError};
pub use store::{Database, Store, StoreError};
pub mod proto;
pub mod store;
