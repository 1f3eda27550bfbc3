//! Settee: a document database replication gateway.
#![deny(missing_docs)]

pub mod doc;
mod limits;
pub mod proto;
pub mod replicate;
#[cfg(feature = "server")]
pub mod server;
pub mod store;
#[cfg(any(feature = "server", feature = "client"))]
pub mod transport;

pub use doc::{DbName, DocId, Document, ParseError, Rev};
pub use limits::{Limits, LimitsError};
#[cfg(feature = "server")]
pub use server::{AccessRequest, Denied, Gateway, Grant};
pub use store::{Database, Store, StoreError};
