//! What can go wrong in a store.

use std::path::PathBuf;

use super::backup::BackupError;
use crate::doc::{BlobKey, DbName, DocId, LocalId, ParseError, Rev};

/// A failure of the store, or of the document or database it was asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no database of this name.
    #[error("Database does not exist: {name}")]
    DatabaseMissing {
        /// The name.
        name: DbName,
    },
    /// There is a database of this name already.
    #[error("The database could not be created, the file already exists: {name}")]
    DatabaseExists {
        /// The name.
        name: DbName,
    },
    /// The database of this handle was destroyed.
    #[error("Database was destroyed: {name}")]
    DatabaseDestroyed {
        /// The name.
        name: DbName,
    },
    /// The database of this key was destroyed. A handle that knows the name says
    /// [`StoreError::DatabaseDestroyed`] instead.
    #[error("the database was destroyed")]
    DatabaseGone,
    /// The document, or the revision asked for, was never there.
    #[error("missing")]
    DocMissing {
        /// The document.
        id: DocId,
    },
    /// The document's winning rev is a tombstone.
    #[error("deleted")]
    DocDeleted {
        /// The document.
        id: DocId,
    },
    /// There is no such local document.
    #[error("missing")]
    LocalMissing {
        /// The document.
        id: LocalId,
    },
    /// The document has no attachment of this name.
    #[error("Document is missing attachment")]
    AttachmentMissing {
        /// The document.
        id: DocId,
        /// The attachment.
        name: String,
    },
    /// A write of one document was refused; nothing of it is stored.
    #[error(transparent)]
    Refused(#[from] DocError),
    /// Something that came from outside is malformed.
    #[error(transparent)]
    Malformed(#[from] ParseError),
    /// More than a limit allows.
    #[error("{what}: {count} is more than the {max} allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        count: u64,
        /// How much may be.
        max: u64,
    },
    /// Another process has the data directory open.
    #[error("{} is in use by another process; stop it, or choose another data directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// The data directory was written by a newer version.
    #[error("{} has format {found}; this version reads up to {known}", path.display())]
    TooNew {
        /// The data directory.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Restoring a backup to the data directory has not come to its end.
    #[error(
        "restoring a backup to {} was not finished; restore it again, or remove the directory",
        path.display()
    )]
    Unfinished {
        /// The data directory.
        path: PathBuf,
    },
    /// A backup cannot be made or used.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// Stored bytes are not what was written. Of a sled store that is refused so, `Store::salvage` makes
    /// a new data directory with what can still be read.
    #[error("stored data is damaged: {what}")]
    Damaged {
        /// Which record, and what is wrong with it.
        what: String,
    },
    /// Bytes of an attachment that a document names are not there.
    #[error("stored data is damaged: attachment bytes {key} are missing")]
    BlobMissing {
        /// Their name.
        key: BlobKey,
    },
    /// An earlier flush failed. What is on disk is not known; every write fails until the store is
    /// opened again.
    #[error("the store refuses writes since a flush to disk failed; restart to open it again")]
    Poisoned,
    /// A store in memory has as much as it may.
    #[error("the store may have {max} bytes in memory, and this would be more; try later")]
    MemoryFull {
        /// The bound.
        max: u64,
    },
    /// The store is being closed.
    #[error("the store is closed")]
    Closed,
    /// The operating system refused to read or write.
    #[error("{doing}: {source}")]
    Io {
        /// What the store was doing.
        doing: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Why one document of a write was refused. The others of the same call are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocError {
    /// The revision to replace is not a leaf, or none was given for a document that exists.
    #[error("Document update conflict.")]
    Conflict,
    /// A validator, or the grant, does not allow this write.
    #[error("{reason}")]
    Forbidden {
        /// Why, for the application's user.
        reason: String,
    },
    /// It cannot be judged for now whether this is allowed.
    #[error("{reason}")]
    Unjudged {
        /// Why, for the application's user.
        reason: String,
    },
    /// An attachment stub that nothing stands behind.
    #[error("attachment {name:?} is a stub, and neither an earlier revision nor an upload has it")]
    MissingStub {
        /// The attachment.
        name: String,
    },
    /// The document has as many leaves as are allowed already.
    #[error(
        "the document has {max} leaves, which is as many as are allowed; resolve some conflicts"
    )]
    TooManyLeaves {
        /// The bound.
        max: usize,
    },
    /// The database may not hold more; deletions are written all the same.
    #[error("the database is over its quota: it may hold {max} {what}")]
    OverQuota {
        /// What there would be too much of.
        what: &'static str,
        /// How much there may be.
        max: u64,
    },
    /// Another document of the group was refused.
    #[error("not written: document {id:?} of the same group was refused")]
    GroupRefused {
        /// The other document, as far as it has an id.
        id: String,
    },
    /// A replicated write that does not say which revision it is.
    #[error("a replicated document needs a _rev")]
    RevMissing,
    /// The next generation would be larger than a revision can be.
    #[error("the revision {rev} cannot be followed by another")]
    LastGeneration {
        /// The revision.
        rev: Rev,
    },
}
