//! One database of the store in memory.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::index::Index;
use super::lock;
use crate::doc::{BlobKey, Body, BodyRecord, DocId, Leaf, LocalId, LocalRev, Rev, RevTree};
use crate::store::backend::{
    ChangeRow, ChangesPage, ChangesRange, Compacted, Counts, DatabaseSettings, DocCommit, DocPurge,
    DocsRange, GroupRow, IndexKey, Older, Order, ReadBody, ReadTree, Snapshot, StoredDoc,
    SweptBlobs, Version,
};
use crate::store::tally::Tally;

/// Bodies up to this many bytes are at hand, as in other backends.
const SMALL_BODY_BYTES_MAX: usize = 4 * 1024;

/// What a document takes beside its bodies, where memory is counted.
const DOC_COST_BYTES: u64 = 512;
/// What a document takes in a group.
const GROUP_ROW_COST_BYTES: u64 = 128;

#[derive(Debug, Default)]
pub(super) struct Database {
    pub(super) counts: Counts,
    docs: BTreeMap<DocId, (Version, RevTree)>,
    pub(super) by_seq: BTreeMap<u64, ChangeRow>,
    /// By the update seqs of their last documents.
    pub(super) groups: BTreeMap<u64, GroupRow>,
    /// Documents that all groups have, those named by several counted for each.
    pub(super) group_rows: u64,
    pub(super) bodies: BTreeMap<(DocId, Rev), BodyRecord>,
    pub(super) locals: BTreeMap<LocalId, (LocalRev, Body)>,
    blobs: BTreeMap<BlobKey, Blob>,
    blob_bytes: u64,
    local_bytes: u64,
    pub(super) settings: DatabaseSettings,
    pub(super) indexes: BTreeMap<IndexKey, Index>,
    pub(super) notes: Option<Vec<u8>>,
    /// Attachments that documents name that were written since, one for each sweep.
    sweeps: Vec<Weak<Mutex<HashSet<BlobKey>>>>,
    pub(super) seq_watch: watch::Sender<u64>,
}

#[derive(Debug)]
struct Blob {
    bytes: Bytes,
    since: Instant,
}

impl Database {
    fn winner_body(&self, id: &DocId, tree: &RevTree) -> Option<BodyRecord> {
        tree.winner().and_then(|leaf| self.bodies.get(&(id.clone(), leaf.rev))).cloned()
    }

    pub(super) fn stored(&self, id: &DocId, body: ReadBody) -> Option<StoredDoc> {
        let (version, tree) = self.docs.get(id)?;
        let winner_body = match body {
            ReadBody::No => None,
            ReadBody::Winner => self.winner_body(id, tree),
            ReadBody::SmallWinner => {
                self.winner_body(id, tree).filter(|body| body.encoded_len() <= SMALL_BODY_BYTES_MAX)
            }
        };
        let (version, tree) = (*version, tree.clone());
        let older = Older::default();
        Some(StoredDoc { version, tree, read: ReadTree::Whole, older, winner_body })
    }

    pub(super) fn stale(&self, batch: &[DocCommit]) -> Vec<(usize, Option<StoredDoc>)> {
        let named = batch.iter().map(|doc| (&doc.id, doc.expected));
        self.differing(named)
    }

    /// The documents, by their place, that have another version.
    pub(super) fn differing<'a>(
        &self,
        named: impl Iterator<Item = (&'a DocId, Version)>,
    ) -> Vec<(usize, Option<StoredDoc>)> {
        let version =
            |id: &DocId| self.docs.get(id).map(|(version, _)| *version).unwrap_or_default();
        let differing = named.enumerate().filter(|(_, (id, expected))| version(id) != *expected);
        differing.map(|(place, (id, _))| (place, self.stored(id, ReadBody::No))).collect()
    }

    /// Documents, by their place, that name attachments which are not there.
    pub(super) fn without_blobs(&self, batch: &[DocCommit]) -> Vec<usize> {
        let lacks = |doc: &DocCommit| {
            named_blobs(doc).any(|key| {
                let brought = doc.blobs.iter().any(|b| b.blob.key == key && b.small.is_some());
                !brought && !self.blobs.contains_key(&key)
            })
        };
        batch.iter().enumerate().filter(|(_, doc)| lacks(doc)).map(|(place, _)| place).collect()
    }

    fn note_blobs(&mut self, doc: &DocCommit) {
        self.sweeps.retain(|sweep| sweep.strong_count() > 0);
        for sweep in self.sweeps.iter().filter_map(Weak::upgrade) {
            lock(&sweep).extend(named_blobs(doc));
        }
    }

    pub(super) fn compact(&mut self, id: &DocId) -> Compacted {
        let mut compacted = Compacted::default();
        let Some((version, tree)) = self.docs.get_mut(id) else { return compacted };
        let before = Tally::of(tree);
        for rev in tree.old_bodies() {
            let bytes = tree.state(&rev).and_then(|state| state.body_bytes);
            tree.set_body_bytes(&rev, None);
            self.bodies.remove(&(id.clone(), rev));
            compacted.bodies += 1;
            compacted.bytes += bytes.map_or(0, u64::from);
        }
        version.edition = version.edition.wrapping_add(1);
        self.counts.rewrite(before, Tally::of(tree));
        compacted
    }

    pub(super) fn purge(&mut self, purge: DocPurge) -> u64 {
        let left = (!purge.tree.is_empty()).then(|| Tally::of(&purge.tree));
        let old = self.docs.remove(&purge.id);
        let (version, tree) = old.expect("its version was compared");
        let seq = self.counts.purge(Tally::of(&tree), left);
        self.by_seq.remove(&version.seq);
        for rev in purge.dropped {
            self.bodies.remove(&(purge.id.clone(), rev));
        }
        if left.is_none() {
            self.indexes.values_mut().for_each(|index| index.forget(&purge.id));
        }
        if left.is_some() {
            self.index(seq, &purge.id, purge.tree.leaves());
            self.docs.insert(purge.id, (Version { seq, edition: 0 }, purge.tree));
        }
        seq
    }

    fn index(&mut self, seq: u64, id: &DocId, leaves: Vec<Leaf>) {
        let leaves = leaves.into_iter().map(|leaf| (leaf.rev, leaf.state.deleted)).collect();
        self.by_seq.insert(seq, ChangeRow { seq, id: id.clone(), leaves });
    }

    pub(super) fn write(&mut self, doc: DocCommit) -> u64 {
        self.note_blobs(&doc);
        let old = self.docs.get(&doc.id);
        let deleted = doc.leaves.first().is_none_or(|leaf| leaf.state.deleted);
        let old_tally = old.map(|(_, tree)| Tally::of(tree));
        let old_seq = old.map(|(version, _)| version.seq);
        let seq = self.counts.change(old_tally, Tally::new(&doc.tree, deleted));
        if let Some(old_seq) = old_seq {
            self.by_seq.remove(&old_seq);
        }
        self.index(seq, &doc.id, doc.leaves);
        for rev in doc.dropped {
            self.bodies.remove(&(doc.id.clone(), rev));
        }
        for (rev, body) in doc.bodies {
            self.bodies.insert((doc.id.clone(), rev), body);
        }
        for blob in doc.blobs {
            if let Some(bytes) = blob.small {
                self.insert_blob(blob.blob.key, bytes);
            }
        }
        self.docs.insert(doc.id, (Version { seq, edition: 0 }, doc.tree));
        seq
    }

    pub(super) fn changes(&self, range: ChangesRange) -> ChangesPage {
        let durable = self.counts.update_seq;
        let after = (Bound::Excluded(range.since), Bound::Unbounded);
        let mut found = self.by_seq.range(after);
        let next = || match range.order {
            Order::Ascending => found.next(),
            Order::Descending => found.next_back(),
        };
        let mut rows: Vec<ChangeRow> = std::iter::from_fn(next)
            .take(range.limit.saturating_add(1))
            .map(|(_, row)| row.clone())
            .collect();
        let more = rows.len() > range.limit;
        rows.truncate(range.limit);
        let last_seq = if more { rows.last().map_or(range.since, |row| row.seq) } else { durable };
        ChangesPage { rows, last_seq, more }
    }

    pub(super) fn snapshot(&self, since: u64, limit: usize) -> Snapshot {
        let counts = self.counts;
        let after = (Bound::Excluded(since), Bound::Unbounded);
        let rows: Vec<&ChangeRow> =
            self.by_seq.range(after).map(|(_, row)| row).take(limit.saturating_add(1)).collect();
        if rows.len() > limit {
            return Snapshot { docs: Vec::new(), more: true, counts };
        }
        let stored = |row: &ChangeRow| {
            let found = self.stored(&row.id, ReadBody::No);
            (row.id.clone(), found.expect("a row of the index has its document"))
        };
        let docs = rows.into_iter().map(stored).collect();
        Snapshot { docs, more: false, counts }
    }

    pub(super) fn blob_bytes(&self) -> u64 {
        self.blob_bytes
    }

    /// What counts of it where memory is bounded.
    pub(super) fn held_bytes(&self) -> u64 {
        let documents = DOC_COST_BYTES * self.docs.len() as u64;
        let groups = GROUP_ROW_COST_BYTES * self.group_rows;
        self.counts.body_bytes + self.blob_bytes + self.local_bytes + documents + groups
    }

    /// Keeps a local document, or removes it.
    pub(super) fn set_local(&mut self, id: LocalId, content: Option<(LocalRev, Body)>) {
        let old = match content {
            Some((rev, body)) => {
                self.local_bytes += local_cost(&body);
                self.locals.insert(id, (rev, body))
            }
            None => self.locals.remove(&id),
        };
        if let Some((_, body)) = old {
            self.local_bytes -= local_cost(&body);
        }
    }

    pub(super) fn docs(&self, range: &DocsRange) -> Vec<(DocId, StoredDoc)> {
        let within = |id: &DocId| {
            let (low, high) = match range.order {
                Order::Ascending => (range.from.as_deref(), range.to.as_deref()),
                Order::Descending => (range.to.as_deref(), range.from.as_deref()),
            };
            let id = id.as_str();
            let beyond_from = !(range.after_from && range.from.as_deref() == Some(id));
            let before_to = range.to_inclusive || range.to.as_deref() != Some(id);
            low.is_none_or(|low| low <= id)
                && high.is_none_or(|high| id <= high)
                && beyond_from
                && before_to
        };
        let mut ids: Vec<&DocId> = self.docs.keys().filter(|id| within(id)).collect();
        if range.order == Order::Descending {
            ids.reverse();
        }
        let stored = |id: &DocId| self.stored(id, range.read.body).map(|doc| (id.clone(), doc));
        ids.into_iter().take(range.limit).filter_map(stored).collect()
    }

    pub(super) fn blob(&self, key: &BlobKey) -> Option<Bytes> {
        self.blobs.get(key).map(|blob| blob.bytes.clone())
    }

    pub(super) fn insert_blob(&mut self, key: BlobKey, bytes: Bytes) {
        self.blob_bytes += bytes.len() as u64;
        if let Some(old) = self.blobs.insert(key, Blob { bytes, since: Instant::now() }) {
            self.blob_bytes -= old.bytes.len() as u64;
        }
    }

    pub(super) fn blob_keys(&self, age: Duration) -> Vec<BlobKey> {
        let old = self.blobs.iter().filter(|(_, blob)| blob.since.elapsed() >= age);
        old.map(|(key, _)| *key).collect()
    }

    pub(super) fn begin_sweep(&mut self) -> Arc<Mutex<HashSet<BlobKey>>> {
        let named = Arc::default();
        self.sweeps.push(Arc::downgrade(&named));
        named
    }

    pub(super) fn remove_blobs(
        &mut self,
        keys: &[BlobKey],
        named: &HashSet<BlobKey>,
    ) -> SweptBlobs {
        let mut swept = SweptBlobs::default();
        for key in keys.iter().filter(|key| !named.contains(key)) {
            if let Some(blob) = self.blobs.remove(key) {
                swept.blobs += 1;
                swept.bytes += blob.bytes.len() as u64;
            }
        }
        self.blob_bytes -= swept.bytes;
        swept
    }
}

/// What writing a document may add where memory is bounded.
pub(super) fn cost(doc: &DocCommit) -> u64 {
    let bodies = doc.bodies.iter().map(|(_, body)| body.encoded_len() as u64);
    let blobs = doc.blobs.iter().filter_map(|blob| blob.small.as_ref());
    DOC_COST_BYTES + bodies.sum::<u64>() + blobs.map(|bytes| bytes.len() as u64).sum::<u64>()
}

pub(super) fn local_cost(body: &Body) -> u64 {
    DOC_COST_BYTES + body.as_str().len() as u64
}

/// Attachments that a document which is to be written names.
fn named_blobs(doc: &DocCommit) -> impl Iterator<Item = BlobKey> + '_ {
    doc.bodies.iter().flat_map(|(_, body)| &body.attachments).map(|a| a.blob.key)
}
