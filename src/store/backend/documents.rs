//! What goes through the seam: a document as it is stored, and what is committed.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::Counts;
use crate::doc::{BlobRef, Body, BodyRecord, DocId, Leaf, LocalId, LocalRev, Rev, RevTree};

/// A state of a document: what a commit names as the state it was merged against. The default is
/// that of a document that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Version {
    /// The update seq of the document's last change.
    pub seq: u64,
    /// How often the document was compacted since.
    pub edition: u32,
}

/// The part of a document's history that the backend keeps apart: revisions of the trunk of its
/// tree, by their generations. The default is that nothing is kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Older {
    /// Generation of the oldest.
    pub first: u64,
    /// Generation of the newest; below `first` if there are none.
    pub top: u64,
    /// Bytes of those of their bodies that are stored.
    pub body_bytes: u64,
}

impl Older {
    /// Whether nothing is kept apart.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.top == 0 || self.top < self.first
    }
}

/// Which revisions a read brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadTree {
    /// Not those that the backend keeps apart; enough to edit a leaf or to show one. Every leaf is
    /// among the others.
    Recent,
    /// All.
    Whole,
}

/// What a read of a document brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadDoc {
    /// Which revisions.
    pub tree: ReadTree,
    /// Whether the winning rev's body.
    pub body: ReadBody,
    /// A place of the changes feed after which the documents were written, for a backend that
    /// reads differently what was written last.
    pub written_after: Option<u64>,
}

impl ReadDoc {
    /// The revisions that are at hand.
    #[must_use]
    pub fn recent(body: ReadBody) -> Self {
        Self { tree: ReadTree::Recent, body, written_after: None }
    }

    /// All revisions.
    #[must_use]
    pub fn whole(body: ReadBody) -> Self {
        Self { tree: ReadTree::Whole, body, written_after: None }
    }
}

/// A document's state.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredDoc {
    /// Which state this is.
    pub version: Version,
    /// Its revisions: all of them, or those that are not kept apart, as `read` says.
    pub tree: RevTree,
    /// Which of the two.
    pub read: ReadTree,
    /// What is kept apart, whether or not `tree` has it.
    pub older: Older,
    /// The winning rev's body, if asked for and stored.
    pub winner_body: Option<BodyRecord>,
}

/// Whether a read brings the winning rev's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadBody {
    /// Only the tree.
    No,
    /// The tree, and the winning rev's body if it is small enough to be at hand without another
    /// look-up; it may be left out always. Bounds what a read of many documents brings.
    SmallWinner,
    /// The tree and the winning rev's body.
    Winner,
}

/// Attachment bytes that were taken in and wait for a document that names them.
#[derive(Debug, Clone)]
pub struct StagedBlob {
    /// Their names and length.
    pub blob: BlobRef,
    /// The bytes, where they are few and go into the commit itself; else they are on disk already.
    pub small: Option<Bytes>,
}

/// How the tree of a commit stands to what the backend keeps apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OlderCommit {
    /// The tree was read as [`ReadTree::Recent`], and below it this is left of what is kept apart.
    Left(Older),
    /// The tree has all revisions. These generations of its trunk are kept apart already, and are
    /// as they were in the version that it was merged against.
    Same(Older),
}

impl Default for OlderCommit {
    fn default() -> Self {
        Self::Same(Older::default())
    }
}

/// One changed document of a commit.
#[derive(Debug, Clone)]
pub struct DocCommit {
    /// The document.
    pub id: DocId,
    /// The version it was merged against.
    pub expected: Version,
    /// The merged tree. `body_bytes` is set for every revision whose body is stored, those of
    /// `bodies` included.
    pub tree: RevTree,
    /// How `tree` stands to what the backend keeps apart.
    pub older: OlderCommit,
    /// The tree's leaves, the winning one first.
    pub leaves: Vec<Leaf>,
    /// Bodies of new revisions.
    pub bodies: Vec<(Rev, BodyRecord)>,
    /// Revisions whose bodies are stored and that the tree no longer knows; those that are kept
    /// apart need not be named.
    pub dropped: Vec<Rev>,
    /// Attachment bytes that the new bodies name.
    pub blobs: Vec<StagedBlob>,
}

/// A document from which revisions are to be taken as if they had never been there.
#[derive(Debug, Clone)]
pub struct DocPurge {
    /// The document.
    pub id: DocId,
    /// The version that `tree` was made from.
    pub expected: Version,
    /// What is left; empty if the whole document goes.
    pub tree: RevTree,
    /// Revisions whose bodies are stored and that `tree` does not have.
    pub dropped: Vec<Rev>,
}

/// Documents as they all were at one update seq.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Those that changed after the seq asked for, in the order of their changes, with all
    /// revisions and without bodies. Empty if there are more than were asked for.
    pub docs: Vec<(DocId, StoredDoc)>,
    /// Whether there are more than were asked for.
    pub more: bool,
    /// The database's counters then; they are on disk.
    pub counts: Counts,
}

/// What compaction took from a number of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Bodies of old revisions.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was kept for a database beside its documents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DatabaseSettings {
    /// Revisions remembered on each branch; `None` for the store's limit.
    pub revs_limit: Option<NonZeroU32>,
    /// Who may use it: the JSON text of CouchDB's security object.
    pub security: Option<String>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// All of it is on disk. The update seqs of the documents, in their order, each one more than
    /// the one before.
    Done(Vec<u64>),
    /// None of it was written, since these documents (by their place in the batch) have another
    /// version than expected; with their whole state now, without bodies.
    Stale(Vec<(usize, Option<StoredDoc>)>),
    /// None of it was written, since the bytes of attachments that these documents name (by their
    /// place in the batch) are not there: a sweep was faster.
    BlobsMissing(Vec<usize>),
}

/// One local document of a commit.
#[derive(Debug, Clone)]
pub struct LocalCommit {
    /// The document.
    pub id: LocalId,
    /// The revision that must be there; `None` if there must be no document.
    pub expected: Option<LocalRev>,
    /// What shall be there; `None` removes it.
    pub content: Option<(LocalRev, Body)>,
}

/// What became of a write of a local document.
#[derive(Debug, Clone, PartialEq)]
pub enum LocalOutcome {
    /// It is on disk.
    Done,
    /// Nothing was written: this is there instead of what was expected.
    Stale(Option<(LocalRev, Body)>),
}
