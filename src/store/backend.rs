//! The seam to storage: [`Backend`] speaks of documents, not of keys.
//!
//! A backend keeps revision trees, bodies, the by-seq index, local documents and attachment bytes,
//! and commits a batch of documents atomically and durably. It merges nothing and knows no rule of
//! the document model: [`Database`](super::Database) reads a document's tree with its version,
//! merges, and commits against that version; where another writer was faster the backend answers
//! [`Commit::Stale`] with what is there, and the caller merges again. A lock in an
//! embedded engine and a compare-and-set in a shared database server both fit behind this.

mod documents;
mod groups;
mod index;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use documents::*;
pub use groups::*;
pub use index::*;

use super::error::StoreError;
use super::stats::BackendStats;
use crate::doc::{BlobKey, Body, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev};

/// A database's key within its backend. Never used twice: a database destroyed and made again has
/// another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseKey(pub u32);

/// The key that no database has: under it a backend keeps local documents of the store itself.
pub const STORE_KEY: DatabaseKey = DatabaseKey(0);

/// 128 random bits, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(pub [u8; 16]);

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.to_string()
    }
}

impl TryFrom<String> for Uuid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let plain = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = u128::from_str_radix(&text, 16).ok().filter(|_| plain);
        number.map(|number| Self(number.to_be_bytes())).ok_or("a uuid has 32 hex digits")
    }
}

impl Uuid {
    /// A new one, from the operating system's randomness.
    ///
    /// # Errors
    /// [`StoreError::Io`] if there is none, which can be so only while the machine boots.
    pub fn random() -> Result<Self, StoreError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|_| StoreError::Io {
            doing: "make a uuid",
            source: std::io::Error::other("the operating system has no random bytes"),
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a backend knows of a database beside its documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseRecord {
    /// Its key.
    pub key: DatabaseKey,
    /// Its name.
    pub name: DbName,
    /// Which of the databases that ever had this name it is; made at its creation.
    pub incarnation: Uuid,
}

/// A database's counters, as of its last durable commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Documents whose winning rev is open.
    pub docs: u64,
    /// Documents whose winning rev is a tombstone.
    pub deleted_docs: u64,
    /// The update seq: 0 for an empty database, one more for every change of a document.
    pub update_seq: u64,
    /// Bytes of all body records that are stored.
    pub body_bytes: u64,
    /// The part of `body_bytes` that belongs to leaves: what compaction keeps.
    pub leaf_bytes: u64,
    /// Commits that purged, ever.
    pub purge_seq: u64,
}

/// Direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// From low to high.
    #[default]
    Ascending,
    /// From high to low.
    Descending,
}

/// Whether documents that are written in one call hang together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grouping {
    /// Each is for itself.
    Apart,
    /// They are a group.
    Together,
}

/// A part of the by-seq index.
#[derive(Debug, Clone, Copy)]
pub struct ChangesRange {
    /// Rows after this update seq.
    pub since: u64,
    /// Rows at most.
    pub limit: usize,
    /// Descending rows begin at the newest and end after `since`.
    pub order: Order,
}

/// A row of the by-seq index: a document at its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeRow {
    /// The update seq of the change.
    pub seq: u64,
    /// The document.
    pub id: DocId,
    /// Its leaves at that time, the winning one first: revision and whether it is a tombstone.
    pub leaves: Vec<(Rev, bool)>,
}

/// Rows of the by-seq index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesPage {
    /// The rows, in the order asked for.
    pub rows: Vec<ChangeRow>,
    /// Where an ascending reader goes on: the last row's seq if the limit cut the page, else the
    /// durable update seq that the page reaches to.
    pub last_seq: u64,
    /// Whether the limit cut the page.
    pub more: bool,
}

/// A part of the documents, by id in byte order.
#[derive(Debug, Clone)]
pub struct DocsRange {
    /// The first id (the last one, for a descending scan) or `None` for no bound; inclusive.
    pub from: Option<String>,
    /// Whether `from` itself is left out.
    pub after_from: bool,
    /// Where to end, or `None` for no bound.
    pub to: Option<String>,
    /// Whether `to` itself belongs to the range.
    pub to_inclusive: bool,
    /// Documents at most.
    pub limit: usize,
    /// Direction.
    pub order: Order,
    /// What comes of each document.
    pub read: ReadDoc,
}

/// Takes in attachment bytes piece by piece, in bounded memory. Dropping it unfinished leaves
/// nothing behind.
#[async_trait]
pub trait BlobWriter: Send {
    /// Takes the next piece.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn write(&mut self, piece: Bytes) -> Result<(), StoreError>;

    /// Ends the bytes. On return they are on disk, or small enough to go into a commit.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn finish(self: Box<Self>) -> Result<StagedBlob, StoreError>;
}

/// Gives attachment bytes piece by piece.
#[async_trait]
pub trait BlobReader: Send {
    /// The next piece, at most 64 KiB; `None` after the last.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError>;
}

/// Removes attachment bytes. Dropping it ends the sweep.
#[async_trait]
pub trait BlobSweep: Send {
    /// Removes those of these bytes that no document written since the sweep began names. The
    /// caller has read every document after the sweep began, and found none of them.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn remove(&mut self, keys: Vec<BlobKey>) -> Result<SweptBlobs, StoreError>;
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SweptBlobs {
    /// Attachments.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Storage of any number of databases.
///
/// Every method may be called from any task, concurrently. A method that changes something has it
/// on disk when it returns `Ok`; when its future is dropped the change is made whole or not at all.
#[async_trait]
pub trait Backend: IndexBackend + GroupBackend + Send + Sync + fmt::Debug + 'static {
    /// Names this store; made when it was created, the same for ever.
    fn uuid(&self) -> Uuid;

    /// Makes an empty database.
    ///
    /// # Errors
    /// [`StoreError::DatabaseExists`].
    async fn create_database(&self, name: &DbName) -> Result<DatabaseRecord, StoreError>;

    /// Looks a database up by name.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn database(&self, name: &DbName) -> Result<Option<DatabaseRecord>, StoreError>;

    /// Removes a database and everything in it. Its name is free on return; its space may be given
    /// back later. Reads through the old key see nothing or the old state.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`].
    async fn destroy_database(&self, name: &DbName) -> Result<(), StoreError>;

    /// Names in byte order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn database_names(
        &self,
        after: Option<&DbName>,
        limit: usize,
    ) -> Result<Vec<DbName>, StoreError>;

    /// A database's counters.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn counts(&self, db: DatabaseKey) -> Result<Counts, StoreError>;

    /// Documents by id, in the order asked. May be ahead of what is durable.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn read(
        &self,
        db: DatabaseKey,
        ids: &[DocId],
        read: ReadDoc,
    ) -> Result<Vec<Option<StoredDoc>>, StoreError>;

    /// Bodies of revisions, in the order asked; `None` where none is stored.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn bodies(
        &self,
        db: DatabaseKey,
        revs: &[(DocId, Rev)],
    ) -> Result<Vec<Option<BodyRecord>>, StoreError>;

    /// Writes changed documents, each id at most once, atomically if there are no more than
    /// [`COMMIT_DOCS_ATOMIC_MAX`] of them; a longer batch may be cut between documents by a crash
    /// before it is acknowledged.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the flush failed, [`StoreError::Poisoned`] after that.
    async fn commit(&self, db: DatabaseKey, batch: Vec<DocCommit>) -> Result<Commit, StoreError>;

    /// Rows of the by-seq index. Only what is durable is seen: a row whose commit is not yet
    /// flushed is left out, and a page that may miss a row because an unflushed commit moved it is
    /// returned only after that commit is durable.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn changes(
        &self,
        db: DatabaseKey,
        range: ChangesRange,
    ) -> Result<ChangesPage, StoreError>;

    /// The documents that changed after `since`, if there are at most `limit`, as they are between
    /// two commits. Commits wait meanwhile, so `limit` must be small.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn snapshot(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Snapshot, StoreError>;

    /// How many rows the by-seq index has after `since`.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn count_changes(&self, db: DatabaseKey, since: u64) -> Result<u64, StoreError>;

    /// Documents by id range, deleted ones included. May be ahead of what is durable.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn docs(
        &self,
        db: DatabaseKey,
        range: DocsRange,
    ) -> Result<Vec<(DocId, StoredDoc)>, StoreError>;

    /// A local document.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn local(
        &self,
        db: DatabaseKey,
        id: &LocalId,
    ) -> Result<Option<(LocalRev, Body)>, StoreError>;

    /// Local documents in byte order of their ids, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn locals(
        &self,
        db: DatabaseKey,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Result<Vec<(LocalId, LocalRev, Body)>, StoreError>;

    /// Writes or removes a local document.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn commit_local(
        &self,
        db: DatabaseKey,
        commit: LocalCommit,
    ) -> Result<LocalOutcome, StoreError>;

    /// Begins to take in attachment bytes.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn write_blob(&self, db: DatabaseKey) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// Attachment bytes; `None` if they are not there.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn read_blob(
        &self,
        db: DatabaseKey,
        key: &BlobKey,
    ) -> Result<Option<Box<dyn BlobReader>>, StoreError>;

    /// Removes the stored bodies of revisions that are no leaves, of whatever state these documents
    /// are in when it happens; documents that are not there are passed over. Their update seqs
    /// stay. On return the change is on disk.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn compact(&self, db: DatabaseKey, ids: Vec<DocId>) -> Result<Compacted, StoreError>;

    /// Takes revisions away, atomically. A document of which something is left takes a new update
    /// seq; one that goes whole leaves nothing behind, not even in the changes feed.
    /// [`Commit::Done`] has the update seq after each.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn purge(&self, db: DatabaseKey, batch: Vec<DocPurge>) -> Result<Commit, StoreError>;

    /// What was kept beside the documents.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn settings(&self, db: DatabaseKey) -> Result<DatabaseSettings, StoreError>;

    /// Keeps settings; on return they are on disk.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn commit_settings(
        &self,
        db: DatabaseKey,
        settings: DatabaseSettings,
    ) -> Result<(), StoreError>;

    /// What maintenance noted of a database: bytes that mean nothing to the backend.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn notes(&self, db: DatabaseKey) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keeps notes instead of those that are there; on return they are on disk.
    ///
    /// # Errors
    /// As [`Backend::commit`].
    async fn commit_notes(&self, db: DatabaseKey, notes: Vec<u8>) -> Result<(), StoreError>;

    /// Bytes of the attachments that are stored apart from documents, in so far as they can be told
    /// without reading them.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn blob_bytes(&self, db: DatabaseKey) -> Result<u64, StoreError>;

    /// Names of the attachment bytes that are stored. Those that were taken in less than `age` ago,
    /// which no document may name yet, are left out.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    async fn blobs(&self, db: DatabaseKey, age: Duration) -> Result<Vec<BlobKey>, StoreError>;

    /// Begins to look for attachment bytes that no document names: from now on the backend
    /// remembers what newly written documents name, until the sweep is dropped.
    ///
    /// # Errors
    /// [`StoreError::Poisoned`], [`StoreError::Closed`], [`StoreError::DatabaseGone`].
    async fn sweep_blobs(&self, db: DatabaseKey) -> Result<Box<dyn BlobSweep>, StoreError>;

    /// The durable update seq, told anew after each durable commit. A hint when to look again.
    fn watch(&self, db: DatabaseKey) -> watch::Receiver<u64>;

    /// What it measured since it was opened; nothing by default.
    fn stats(&self) -> BackendStats {
        BackendStats::default()
    }

    /// Bytes of its files; `None`, also by default, if it has none.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Waits until everything committed is on disk and gives the storage back, so that it can be
    /// opened again. Calls afterwards fail with [`StoreError::Closed`].
    ///
    /// # Errors
    /// [`StoreError::Io`] if the last flush failed.
    async fn close(&self) -> Result<(), StoreError>;
}

/// Attachment bytes up to this many go into the commit of the document that names them.
pub const SMALL_BLOB_BYTES_MAX: usize = 32 * 1024;

/// A commit of at most this many documents is atomic.
pub const COMMIT_DOCS_ATOMIC_MAX: usize = 100;
