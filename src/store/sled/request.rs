//! What callers hand to the committer, encoded by themselves: the committer is one thread, so it
//! should only look up versions and build batches.

use std::collections::HashMap;
use std::sync::Weak;

use tokio::sync::oneshot;

use super::older::OlderWrite;
use super::record;
use crate::doc::{BlobKey, Body, DbName, DocId, LocalRev, Rev, RevTree};
use crate::store::backend::{
    Commit, Compacted, DatabaseKey, DatabaseRecord, DocCommit, DocPurge, Grouping, IndexCommit,
    IndexKey, IndexOutcome, LocalCommit, LocalOutcome, OlderCommit, Snapshot, SweptBlobs, Uuid,
    Version,
};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::tally::Tally;

/// Longest winning body that is kept in the document's row.
const INLINE_BYTES_MAX: usize = 4 * 1024;

pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

pub(super) enum Request {
    Commit {
        db: DatabaseKey,
        docs: Vec<DocWrite>,
        grouping: Grouping,
        answer: Answer<Commit>,
    },
    Local {
        db: DatabaseKey,
        local: LocalWrite,
        answer: Answer<LocalOutcome>,
    },
    Create {
        name: DbName,
        incarnation: Uuid,
        answer: Answer<DatabaseRecord>,
    },
    Destroy {
        name: DbName,
        answer: Answer<()>,
    },
    Compact {
        db: DatabaseKey,
        ids: Vec<DocId>,
        answer: Answer<Compacted>,
    },
    Purge {
        db: DatabaseKey,
        docs: Vec<PurgeWrite>,
        answer: Answer<Commit>,
    },
    /// A row that a database has once at most.
    Row {
        db: DatabaseKey,
        key: Vec<u8>,
        value: Vec<u8>,
        answer: Answer<()>,
    },
    Snapshot {
        db: DatabaseKey,
        since: u64,
        limit: usize,
        answer: Answer<Snapshot>,
    },
    ForgetGroups {
        db: DatabaseKey,
        lasts: Vec<u64>,
        answer: Answer<()>,
    },
    BeginSweep {
        db: DatabaseKey,
        sweep: Weak<()>,
        answer: Answer<()>,
    },
    SweepBlobs {
        db: DatabaseKey,
        keys: Vec<BlobKey>,
        answer: Answer<SweptBlobs>,
    },
    Index {
        db: DatabaseKey,
        commit: IndexCommit,
        answer: Answer<IndexOutcome>,
    },
    RemoveIndex {
        db: DatabaseKey,
        index: IndexKey,
        answer: Answer<bool>,
    },
}

/// A changed document, ready for the batch.
#[derive(Debug)]
pub(super) struct DocWrite {
    pub(super) id: DocId,
    pub(super) key: Vec<u8>,
    pub(super) expected: Version,
    pub(super) tree: RevTree,
    pub(super) older: OlderWrite,
    /// The tree without what is kept apart.
    pub(super) encoded_tree: Vec<u8>,
    /// Of `tree`.
    pub(super) tally: Tally,
    pub(super) winner: Option<Rev>,
    pub(super) seq_row: Vec<u8>,
    /// The winning rev's encoded body, if it comes with this change and is short.
    pub(super) inline: Option<Vec<u8>>,
    /// The other bodies: revision, key and value.
    pub(super) bodies: Vec<(Rev, Vec<u8>, Vec<u8>)>,
    pub(super) dropped: Vec<Rev>,
    /// Small attachments by key.
    pub(super) blobs: HashMap<Vec<u8>, Vec<u8>>,
    /// All attachments that the new bodies name.
    pub(super) named: Vec<BlobKey>,
}

impl DocWrite {
    pub(super) fn new(db: DatabaseKey, doc: DocCommit) -> Self {
        let winner = doc.leaves.first();
        let tally = Tally::new(&doc.tree, winner.is_none_or(|leaf| leaf.state.deleted));
        let (older, recent) = OlderWrite::new(&doc.tree, doc.older);
        let mut encoded_tree = Vec::new();
        recent.encode(&mut encoded_tree);
        let mut inline = None;
        let mut bodies = Vec::new();
        let mut named = Vec::new();
        for (rev, body) in doc.bodies {
            named.extend(body.attachments.iter().map(|attachment| attachment.blob.key));
            let encoded = body.encode();
            if encoded.len() <= INLINE_BYTES_MAX && winner.is_some_and(|leaf| leaf.rev == rev) {
                inline = Some(encoded);
            } else {
                let key = keys::body(db, &doc.id, &rev);
                bodies.push((rev, key, record::plain(&encoded)));
            }
        }
        let small = doc.blobs.into_iter().filter_map(|staged| {
            Some((keys::blob(db, &staged.blob.key), record::plain(&staged.small?)))
        });
        Self {
            key: keys::doc(db, &doc.id),
            expected: doc.expected,
            tally,
            winner: winner.map(|leaf| leaf.rev.clone()),
            seq_row: record::seq_row(&doc.id, &doc.leaves),
            blobs: small.collect(),
            id: doc.id,
            tree: doc.tree,
            older,
            encoded_tree,
            inline,
            bodies,
            dropped: doc.dropped,
            named,
        }
    }
}

/// A document that is purged, ready for the batch.
#[derive(Debug)]
pub(super) struct PurgeWrite {
    pub(super) id: DocId,
    pub(super) key: Vec<u8>,
    pub(super) expected: Version,
    pub(super) dropped: Vec<Rev>,
    /// What is left of it.
    pub(super) left: Option<DocWrite>,
}

impl PurgeWrite {
    pub(super) fn new(db: DatabaseKey, purge: DocPurge) -> Self {
        let DocPurge { id, expected, tree, dropped } = purge;
        let key = keys::doc(db, &id);
        let left = (!tree.is_empty()).then(|| {
            let commit = DocCommit {
                id: id.clone(),
                expected,
                leaves: tree.leaves(),
                tree,
                older: OlderCommit::default(),
                bodies: Vec::new(),
                dropped: dropped.clone(),
                blobs: Vec::new(),
            };
            DocWrite::new(db, commit)
        });
        Self { id, key, expected, dropped, left }
    }
}

impl DocWrite {
    /// Bytes of the rows that it writes.
    pub(super) fn bytes(&self) -> usize {
        let bodies = self.bodies.iter().map(|(_, key, value)| key.len() + value.len());
        let blobs = self.blobs.iter().map(|(key, value)| key.len() + value.len());
        let inline = self.inline.as_ref().map_or(0, Vec::len);
        let rows = 2 * self.key.len() + self.encoded_tree.len() + self.seq_row.len() + inline;
        bodies.chain(blobs).sum::<usize>() + rows
    }
}

/// A local document, ready for the batch.
#[derive(Debug)]
pub(super) struct LocalWrite {
    pub(super) key: Vec<u8>,
    pub(super) expected: Option<LocalRev>,
    pub(super) value: Option<Vec<u8>>,
}

impl LocalWrite {
    pub(super) fn new(db: DatabaseKey, commit: &LocalCommit) -> Self {
        let value = |(rev, body): &(LocalRev, Body)| record::local(*rev, body);
        Self {
            key: keys::local(db, &commit.id),
            expected: commit.expected,
            value: commit.content.as_ref().map(value),
        }
    }
}
