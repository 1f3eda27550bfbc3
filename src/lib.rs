//! Settee: a document database replication gateway.
#![deny(missing_docs)]

#[cfg(feature = "server")]
pub mod access;
#[cfg(feature = "client")]
pub mod client;
pub mod doc;
#[cfg(feature = "http-peer")]
pub mod http_peer;
mod limits;
pub mod proto;
pub mod replicate;
#[cfg(feature = "schema")]
mod schema;
#[cfg(feature = "server")]
pub mod server;
pub mod store;
mod sync;
#[cfg(any(feature = "server", feature = "client"))]
pub mod transport;
pub mod typed;
#[cfg(feature = "server")]
pub mod validate;

#[cfg(feature = "client")]
pub use client::{Client, ClientEvent, SyncOptions};
pub use doc::{DbName, DocId, Document, ParseError, Rev, Selector};
pub use limits::{Limits, LimitsError};
pub use replicate::{Sync, SyncEvent, SyncState, SyncStatus, replicate};
#[cfg(feature = "server")]
pub use server::{AccessRequest, Denied, Gateway, Grant};
pub use store::{Database, Store, StoreError};
pub use typed::{Collection, Shape};

/// Compiles the examples of the README.
#[cfg(all(doctest, feature = "server", feature = "client", feature = "sled"))]
#[doc = include_str!("../README.md")]
struct Readme;
