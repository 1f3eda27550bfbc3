//! CouchDB's HTTP API as one end of a replication: a CouchDB, a PouchDB server, another gateway.
//!
//! [`sync`] replicates a local database with one at an address; the replicator is the one of
//! [`replicate`](mod@crate::replicate). Documents travel by `_bulk_get` and `_bulk_docs`, larger
//! attachments each in a stream of its own, so that neither is ever in memory as a whole. Places in
//! the other side's feed are its own and come back as they came.
//!
//! The hard case is a server that does not do as it should: every answer is bounded in bytes, and
//! ends when nothing of it comes; a revision that was asked for and not answered is an error and never counts as gone, and
//! nothing is sent to where a redirect points.

mod answers;
mod changes;
mod exchange;
mod peer;
mod remote;
mod sync;
mod upload;

#[cfg(feature = "server")]
pub(crate) use peer::HttpPeer;
pub use remote::{Remote, RemoteError};
pub use sync::{HttpOptions, sync};
