//! The committer's part in compaction, purging and the removal of attachment bytes.
//!
//! The hard case is a document that names bytes which a sweep is about to remove. A sweep reads all
//! documents first; what documents name that are written meanwhile is remembered here. Bytes in
//! files go only after the flush that has made everything durable which the sweep has read. A
//! document that comes too late finds its bytes gone and is refused.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Weak;

use super::blobs;
use super::committer::Committer;
use super::index;
use super::merge::{self, StoredState};
use super::open::blobs_dir;
use super::request::{DocWrite, PurgeWrite};
use super::{reads, value};
use crate::doc::{BlobKey, DocId};
use crate::store::backend::{
    Commit, Compacted, DatabaseKey, ReadBody, ReadDoc, Snapshot, StoredDoc, SweptBlobs,
};
use crate::store::error::StoreError;
use crate::store::keys;

/// What documents name while sweeps run.
#[derive(Default)]
pub(super) struct Sweeps {
    running: HashMap<DatabaseKey, Sweep>,
    /// Files to be removed when the group is on disk.
    unlink: HashMap<(DatabaseKey, BlobKey), PathBuf>,
}

#[derive(Default)]
struct Sweep {
    /// One for each sweep of the database; dead when its owner has dropped it.
    owners: Vec<Weak<()>>,
    named: HashSet<BlobKey>,
}

impl Sweeps {
    fn begin(&mut self, db: DatabaseKey, owner: Weak<()>) {
        self.running.entry(db).or_default().owners.push(owner);
    }

    /// Called for every document that is written.
    pub(super) fn note(&mut self, db: DatabaseKey, doc: &DocWrite) {
        for key in &doc.named {
            self.unlink.remove(&(db, *key));
        }
        if let Some(sweep) = self.running.get_mut(&db) {
            sweep.named.extend(&doc.named);
        }
    }

    /// Called when a group has ended, well or not.
    pub(super) fn end_group(&mut self, durable: bool) {
        for (_, path) in self.unlink.drain().filter(|_| durable) {
            // Whatever is left goes with the next sweep.
            if let Err(error) = fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "removing an attachment failed");
            }
        }
        for sweep in self.running.values_mut() {
            sweep.owners.retain(|owner| owner.strong_count() > 0);
        }
        self.running.retain(|_, sweep| !sweep.owners.is_empty());
    }
}

impl Committer {
    pub(super) fn compact(
        &mut self,
        db: DatabaseKey,
        mut ids: Vec<DocId>,
    ) -> Result<Compacted, StoreError> {
        self.check_writable(Some(db))?;
        // Each once: all are read before one is written.
        ids.sort_unstable();
        ids.dedup();
        let keys: Vec<Vec<u8>> = ids.iter().map(|id| keys::doc(db, id)).collect();
        self.see(keys.iter())?;
        let mut found = Vec::with_capacity(ids.len());
        for (id, key) in ids.into_iter().zip(keys) {
            if let Some(stored) = StoredState::read(&self.db, &key)? {
                found.push((id, key, stored));
            }
        }
        // For all of them: what fails in the middle cannot be undone.
        self.room.take(found.iter().map(|(_, _, stored)| stored.bytes()).sum())?;
        self.load_counts(db)?;
        let mut sum = Compacted::default();
        for (id, key, stored) in found {
            let before = stored.tally;
            let (compacted, after) = merge::compact(&self.db, &mut self.batch, db, &id, stored)
                .inspect_err(|_| self.shared.poison())?;
            let counts = self.counts_mut(db);
            counts.now.rewrite(before, after);
            counts.pending = true;
            sum.bodies += compacted.bodies;
            sum.bytes += compacted.bytes;
            self.row_done(key)?;
        }
        Ok(sum)
    }

    pub(super) fn purge(
        &mut self,
        db: DatabaseKey,
        docs: Vec<PurgeWrite>,
    ) -> Result<Commit, StoreError> {
        self.check_writable(Some(db))?;
        self.see(docs.iter().map(|doc| &doc.key))?;
        let mut found = Vec::with_capacity(docs.len());
        let mut stale: Vec<(usize, Option<StoredDoc>)> = Vec::new();
        for (place, doc) in docs.iter().enumerate() {
            match StoredState::read(&self.db, &doc.key)? {
                Some(stored) if stored.version == doc.expected => found.push(stored),
                Some(stored) => stale.push((place, Some(stored.into_doc(&self.db, db, &doc.id)?))),
                None => stale.push((place, None)),
            }
        }
        if !stale.is_empty() {
            return Ok(Commit::Stale(stale));
        }
        self.room.take(found.iter().map(StoredState::bytes).sum())?;
        self.load_counts(db)?;
        self.make_room(docs.len())?;
        let indexes = index::states(&self.db, db)?;
        let mut seqs = Vec::with_capacity(docs.len());
        for (doc, stored) in docs.into_iter().zip(found) {
            let counts = self.counts_mut(db);
            let seq = counts.now.purge(stored.tally, doc.left.as_ref().map(|left| left.tally));
            counts.pending = true;
            let written = match &doc.left {
                Some(left) => {
                    let batch = &mut self.batch;
                    merge::write(&self.db, batch, db, seq, left, Some(stored)).map(drop)
                }
                None => merge::remove(&self.db, &mut self.batch, db, &doc, &stored)
                    .and_then(|()| index::forget(&self.db, &mut self.batch, db, &indexes, &doc.id)),
            };
            written.inspect_err(|_| self.shared.poison())?;
            seqs.push(seq);
            self.count_row(doc.key);
        }
        Ok(Commit::Done(seqs))
    }

    pub(super) fn commit_row(
        &mut self,
        db: DatabaseKey,
        key: Vec<u8>,
        row: &[u8],
    ) -> Result<(), StoreError> {
        self.check_writable(Some(db))?;
        self.room.take(row.len())?;
        self.see(std::iter::once(&key))?;
        if let Some(old) = value::get(&self.db, &key)? {
            self.batch.remove_value(&key, &old);
        }
        self.batch.insert_value(&key, row);
        self.row_done(key)
    }

    /// Reads between two requests, so that no commit comes between what is read.
    pub(super) fn snapshot(
        &mut self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Snapshot, StoreError> {
        self.check_writable(Some(db))?;
        self.apply()?;
        self.load_counts(db)?;
        let counts = self.counts_mut(db).now;
        let rows =
            reads::seq_rows(&self.db, db, since, counts.update_seq, limit.saturating_add(1))?;
        if rows.len() > limit {
            return Ok(Snapshot { docs: Vec::new(), more: true, counts });
        }
        let mut docs = Vec::with_capacity(rows.len());
        for row in rows {
            let found = reads::doc(&self.db, db, &row.id, ReadDoc::whole(ReadBody::No))?;
            let found = found.filter(|stored| stored.version.seq == row.seq);
            let stored = found.ok_or_else(|| {
                value::damaged(&keys::seq(db, row.seq), "names a document that is not there")
            })?;
            docs.push((row.id, stored));
        }
        Ok(Snapshot { docs, more: false, counts })
    }

    pub(super) fn begin_sweep(
        &mut self,
        db: DatabaseKey,
        owner: Weak<()>,
    ) -> Result<(), StoreError> {
        self.check_writable(Some(db))?;
        self.sweeps.begin(db, owner);
        Ok(())
    }

    pub(super) fn sweep_blobs(
        &mut self,
        db: DatabaseKey,
        blob_keys: Vec<BlobKey>,
    ) -> Result<SweptBlobs, StoreError> {
        self.check_writable(Some(db))?;
        let mut swept = SweptBlobs::default();
        for blob in blob_keys {
            let named = |sweep: &Sweep| sweep.named.contains(&blob);
            if self.sweeps.running.get(&db).is_none_or(named) {
                continue;
            }
            let key = keys::blob(db, &blob);
            self.see(std::iter::once(&key))?;
            let length = if let Some(old) = value::get(&self.db, &key)? {
                let content = value::complete(&self.db, &key, old.clone())?;
                self.batch.remove_value(&key, &old);
                self.row_done(key)?;
                content.map_or(0, |content| content.len() as u64)
            } else {
                let path = blobs::file(&blobs_dir(&self.shared.path), db, &blob);
                let Ok(found) = fs::metadata(&path) else { continue };
                self.sweeps.unlink.insert((db, blob), path);
                found.len()
            };
            swept.blobs += 1;
            swept.bytes += length;
        }
        // A document that comes next must find them gone.
        self.apply()?;
        Ok(swept)
    }

    /// Documents of a request that name bytes which are not there, by their place.
    pub(super) fn without_blobs(
        &mut self,
        db: DatabaseKey,
        docs: &[DocWrite],
    ) -> Result<Vec<usize>, StoreError> {
        let mut lacking = Vec::new();
        for (place, doc) in docs.iter().enumerate() {
            for blob in &doc.named {
                if !self.has_blob(db, doc, blob)? {
                    lacking.push(place);
                    break;
                }
            }
        }
        Ok(lacking)
    }

    fn has_blob(
        &mut self,
        db: DatabaseKey,
        doc: &DocWrite,
        blob: &BlobKey,
    ) -> Result<bool, StoreError> {
        let key = keys::blob(db, blob);
        if doc.blobs.contains_key(&key) || value::get(&self.db, &key)?.is_some() {
            return Ok(true);
        }
        if blobs::file(&blobs_dir(&self.shared.path), db, blob).exists() {
            return Ok(true);
        }
        // Another document of the same batch may have brought them.
        self.apply()?;
        Ok(value::get(&self.db, &key)?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::store::sled::open::{self, read_uuid};
    use crate::store::sled::shared::{Shared, read_counts};
    use crate::store::sled::{SledOptions, index};
    use crate::store::{Database, EditMode, FindRequest, NewIndex, Store};
    use crate::{DbName, Document};

    async fn database(path: &Path) -> (Store, Database) {
        let store = Store::open(path).expect("it opens");
        let name = DbName::parse("db").expect("a name");
        let db = store.open_or_create(&name).await.expect("it opens");
        (store, db)
    }

    async fn put(db: &Database, doc: Document) -> Document {
        let written = db.bulk_docs(vec![doc.clone()], EditMode::Edit).await.expect("it is written");
        doc.with_rev(written[0].as_ref().expect("it is written").rev.clone())
    }

    fn numbered(id: &str, n: u64) -> Document {
        Document::new(id, &json!({ "n": n })).expect("a document")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn compaction_that_has_no_room_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, db) = database(dir.path()).await;
        for id in ["a", "b"] {
            let first = put(&db, numbered(id, 1)).await;
            put(&db, first).await;
        }
        let key = db.key();
        store.close().await.expect("it closes");
        let (opened, data, mark) =
            open::open(dir.path(), &SledOptions::default()).expect("it opens");
        let sled = opened.db.clone();
        let uuid = read_uuid(&sled).expect("it has one");
        let shared = Arc::new(Shared::new(uuid, dir.path().to_owned(), opened));
        let mut committer =
            Committer::new(sled.clone(), data, mark, shared).expect("it can be read");
        let before = read_counts(&sled, key).expect("they can be read");
        let ids = ["a", "b"].map(|id| DocId::parse(id, 9).expect("an id")).to_vec();
        let first = StoredState::read(&sled, &keys::doc(key, &ids[0])).expect("it can be read");
        let bytes = first.expect("it is there").bytes() as u64;
        // Enough for one of them, and not for both.
        committer.room.leave(7 * bytes);
        let refused = committer.compact(key, ids.clone());
        assert!(matches!(refused, Err(StoreError::Io { .. })), "{refused:?}");
        assert!(committer.batch.is_empty(), "what is left would be written with the next group");
        assert_eq!(committer.counts_now(key).expect("they can be read"), before);
        committer.room.end_group();
        assert_eq!(committer.compact(key, ids).expect("there is room").bodies, 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_whose_state_is_malformed_is_built_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let (store, db) = database(dir.path()).await;
        db.create_index(&NewIndex::on(&["n"]).expect("fields")).await.expect("it is defined");
        let wanted = crate::doc::Selector::from_value(&json!({"n": {"$gt": 0}}));
        let request = FindRequest::new(wanted.expect("a selector"));
        let gone = put(&db, numbered("a", 1)).await;
        put(&db, numbered("b", 2)).await;
        assert_eq!(db.find(request.clone()).await.expect("it is built").docs.len(), 2);
        let key = db.key();
        store.close().await.expect("it closes");
        let (opened, data, _) = open::open(dir.path(), &SledOptions::default()).expect("it opens");
        let states = index::states(&opened.db, key).expect("they can be read");
        opened.db.insert(keys::index(key, states[0].0), &[9]).expect("it is written");
        data.flush(&opened.db).expect("it is flushed");
        drop(data);
        drop(opened.close(dir.path()).expect("it closes"));

        let (_store, db) = database(dir.path()).await;
        let revs = vec![gone.rev.expect("it was written")];
        db.purge(&[(gone.id, revs)]).await.expect("nobody needs the index");
        put(&db, numbered("c", 3)).await;
        let found = db.find(request).await.expect("it is built again").docs;
        let ids: Vec<&str> = found.iter().map(|document| document.id.as_str()).collect();
        assert_eq!(ids, ["b", "c"]);
    }
}
