//! A store in memory: the model that other backends must agree with, for tests, examples,
//! simulations and databases that need not outlive the process.
//!
//! One lock over ordered maps. A commit checks everything before it changes anything, so that it
//! happens whole or not at all.

mod blobs;
mod database;
mod groups;
mod index;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;

use super::backend::{
    Backend, BlobReader, BlobSweep, BlobWriter, ChangesPage, ChangesRange, Commit, Compacted,
    Counts, DatabaseKey, DatabaseRecord, DatabaseSettings, DocCommit, DocPurge, DocsRange,
    LocalCommit, LocalOutcome, ReadDoc, STORE_KEY, Snapshot, StoredDoc, Uuid,
};
use super::error::StoreError;
use super::stats::BackendStats;
use crate::doc::{BlobHasher, BlobKey, Body, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev};
use blobs::{MemoryBlobWriter, MemorySweep};
use database::Database;

pub(super) use blobs::BytesReader;

/// Keeps everything in memory. "On disk" means here: in the map.
#[derive(Debug)]
pub struct MemoryBackend {
    uuid: Uuid,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<DbName, DatabaseRecord>,
    databases: BTreeMap<DatabaseKey, Database>,
    last_key: u32,
    condition: Condition,
    fail_next_flush: bool,
    /// What all databases together may take; `None` for no bound.
    bytes_max: Option<u64>,
    /// Bytes of attachments that are still coming.
    coming: u64,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Condition {
    #[default]
    Open,
    Poisoned,
    Closed,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackend {
    /// An empty store with a random uuid.
    ///
    /// # Panics
    /// If the operating system has no random bytes to give.
    #[must_use]
    pub fn new() -> Self {
        Self::with_uuid(Uuid::random().expect("the operating system gives random bytes"))
    }

    /// An empty store of which everything follows from the calls made to it: incarnations too are
    /// derived from `uuid`.
    #[must_use]
    pub fn with_uuid(uuid: Uuid) -> Self {
        let databases = BTreeMap::from([(STORE_KEY, Database::default())]);
        let state = State { databases, ..State::default() };
        Self { uuid, state: Arc::new(Mutex::new(state)) }
    }

    /// An empty store that refuses writes with [`StoreError::MemoryFull`] which would make its
    /// databases take more than this together: bodies, old ones included, attachments, local
    /// documents, and a fixed part for each document.
    ///
    /// # Panics
    /// As [`MemoryBackend::new`].
    #[must_use]
    pub fn bounded(bytes_max: u64) -> Self {
        let backend = Self::new();
        backend.lock().bytes_max = Some(bytes_max);
        backend
    }

    /// Makes the next method that changes something fail as if the disk had refused it: with
    /// [`StoreError::Io`], and every later one with [`StoreError::Poisoned`].
    pub fn fail_next_flush(&self) {
        self.lock().fail_next_flush = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn reading(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        match state.condition {
            Condition::Closed => Err(StoreError::Closed),
            Condition::Open | Condition::Poisoned => Ok(state),
        }
    }

    /// Runs `read` on a database; on an empty one if the key's database was destroyed.
    fn read_in<R>(
        &self,
        db: DatabaseKey,
        read: impl FnOnce(&Database) -> R,
    ) -> Result<R, StoreError> {
        let state = self.reading()?;
        Ok(match state.databases.get(&db) {
            Some(database) => read(database),
            None => read(&Database::default()),
        })
    }

    /// Commits whole or not at all; `beside` adds to the same commit.
    fn commit_batch(
        &self,
        db: DatabaseKey,
        batch: Vec<DocCommit>,
        beside: impl FnOnce(&mut Database, &[u64]),
    ) -> Result<Commit, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let stale = state.database_mut(db)?.stale(&batch);
        if !stale.is_empty() {
            return Ok(Commit::Stale(stale));
        }
        let lacking = state.database_mut(db)?.without_blobs(&batch);
        if !lacking.is_empty() {
            return Ok(Commit::BlobsMissing(lacking));
        }
        state.check_room(batch.iter().map(database::cost).sum())?;
        state.flush()?;
        let database = state.database_mut(db)?;
        let seqs: Vec<u64> = batch.into_iter().map(|doc| database.write(doc)).collect();
        beside(database, &seqs);
        database.seq_watch.send_replace(database.counts.update_seq);
        Ok(Commit::Done(seqs))
    }

    fn incarnation(&self, key: DatabaseKey) -> Uuid {
        let mut seed = self.uuid.0.to_vec();
        seed.extend_from_slice(&key.0.to_be_bytes());
        let digest = BlobHasher::of(&seed).key;
        let (bytes, _) = digest.as_bytes().split_first_chunk().expect("32 bytes hold 16");
        Uuid(*bytes)
    }
}

/// The state's changes are made after all checks and do not panic, so a panic elsewhere under the
/// lock leaves it whole.
fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Stands for the flush: called after the checks, before the change.
    fn flush(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.fail_next_flush) {
            self.condition = Condition::Poisoned;
            let source = std::io::Error::other("the flush was made to fail");
            return Err(StoreError::Io { doing: "flush to disk", source });
        }
        Ok(())
    }

    fn writing(&self) -> Result<(), StoreError> {
        match self.condition {
            Condition::Open => Ok(()),
            Condition::Poisoned => Err(StoreError::Poisoned),
            Condition::Closed => Err(StoreError::Closed),
        }
    }

    /// Refuses what would take more memory than there is for all databases.
    fn check_room(&self, more: u64) -> Result<(), StoreError> {
        let Some(max) = self.bytes_max else { return Ok(()) };
        let held = self.databases.values().map(Database::held_bytes).sum::<u64>() + self.coming;
        if held.saturating_add(more) > max {
            return Err(StoreError::MemoryFull { max });
        }
        Ok(())
    }

    fn database_mut(&mut self, db: DatabaseKey) -> Result<&mut Database, StoreError> {
        self.databases.get_mut(&db).ok_or(StoreError::DatabaseGone)
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    fn uuid(&self) -> Uuid {
        self.uuid
    }

    async fn create_database(&self, name: &DbName) -> Result<DatabaseRecord, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        if state.names.contains_key(name) {
            return Err(StoreError::DatabaseExists { name: name.clone() });
        }
        state.flush()?;
        state.last_key += 1;
        let key = DatabaseKey(state.last_key);
        let record = DatabaseRecord { key, name: name.clone(), incarnation: self.incarnation(key) };
        state.names.insert(name.clone(), record.clone());
        state.databases.insert(key, Database::default());
        Ok(record)
    }

    async fn database(&self, name: &DbName) -> Result<Option<DatabaseRecord>, StoreError> {
        Ok(self.reading()?.names.get(name).cloned())
    }

    async fn destroy_database(&self, name: &DbName) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let missing = || StoreError::DatabaseMissing { name: name.clone() };
        let key = state.names.get(name).ok_or_else(missing)?.key;
        state.flush()?;
        state.names.remove(name);
        state.databases.remove(&key);
        Ok(())
    }

    async fn database_names(
        &self,
        after: Option<&DbName>,
        limit: usize,
    ) -> Result<Vec<DbName>, StoreError> {
        let after = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.reading()?;
        let names = state.names.range::<DbName, _>((after, Bound::Unbounded));
        Ok(names.take(limit).map(|(name, _)| name.clone()).collect())
    }

    async fn counts(&self, db: DatabaseKey) -> Result<Counts, StoreError> {
        self.read_in(db, |database| database.counts)
    }

    async fn read(
        &self,
        db: DatabaseKey,
        ids: &[DocId],
        what: ReadDoc,
    ) -> Result<Vec<Option<StoredDoc>>, StoreError> {
        self.read_in(db, |database| ids.iter().map(|id| database.stored(id, what.body)).collect())
    }

    async fn bodies(
        &self,
        db: DatabaseKey,
        revs: &[(DocId, Rev)],
    ) -> Result<Vec<Option<BodyRecord>>, StoreError> {
        self.read_in(db, |database| {
            revs.iter().map(|doc_rev| database.bodies.get(doc_rev).cloned()).collect()
        })
    }

    async fn commit(&self, db: DatabaseKey, batch: Vec<DocCommit>) -> Result<Commit, StoreError> {
        self.commit_batch(db, batch, |_, _| {})
    }

    async fn changes(
        &self,
        db: DatabaseKey,
        range: ChangesRange,
    ) -> Result<ChangesPage, StoreError> {
        self.read_in(db, |database| database.changes(range))
    }

    async fn snapshot(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Snapshot, StoreError> {
        self.read_in(db, |database| database.snapshot(since, limit))
    }

    async fn count_changes(&self, db: DatabaseKey, since: u64) -> Result<u64, StoreError> {
        let after = (Bound::Excluded(since), Bound::Unbounded);
        self.read_in(db, |database| database.by_seq.range(after).count() as u64)
    }

    async fn docs(
        &self,
        db: DatabaseKey,
        range: DocsRange,
    ) -> Result<Vec<(DocId, StoredDoc)>, StoreError> {
        self.read_in(db, |database| database.docs(&range))
    }

    async fn local(
        &self,
        db: DatabaseKey,
        id: &LocalId,
    ) -> Result<Option<(LocalRev, Body)>, StoreError> {
        self.read_in(db, |database| database.locals.get(id).cloned())
    }

    async fn locals(
        &self,
        db: DatabaseKey,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Result<Vec<(LocalId, LocalRev, Body)>, StoreError> {
        let after = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.read_in(db, |database| {
            let rows = database.locals.range::<LocalId, _>(after).take(limit);
            rows.map(|(id, (rev, body))| (id.clone(), *rev, body.clone())).collect()
        })
    }

    async fn commit_local(
        &self,
        db: DatabaseKey,
        commit: LocalCommit,
    ) -> Result<LocalOutcome, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let there = state.database_mut(db)?.locals.get(&commit.id).cloned();
        if there.as_ref().map(|(rev, _)| *rev) != commit.expected {
            return Ok(LocalOutcome::Stale(there));
        }
        if let Some((_, body)) = &commit.content {
            state.check_room(database::local_cost(body))?;
        }
        state.flush()?;
        state.database_mut(db)?.set_local(commit.id, commit.content);
        Ok(LocalOutcome::Done)
    }

    async fn write_blob(&self, db: DatabaseKey) -> Result<Box<dyn BlobWriter>, StoreError> {
        self.reading()?.writing()?;
        let state = Arc::clone(&self.state);
        Ok(Box::new(MemoryBlobWriter::new(state, db)))
    }

    async fn read_blob(
        &self,
        db: DatabaseKey,
        key: &BlobKey,
    ) -> Result<Option<Box<dyn BlobReader>>, StoreError> {
        let bytes = self.read_in(db, |database| database.blob(key))?;
        Ok(bytes.map(|bytes| Box::new(BytesReader(bytes)) as Box<dyn BlobReader>))
    }

    async fn compact(&self, db: DatabaseKey, mut ids: Vec<DocId>) -> Result<Compacted, StoreError> {
        ids.sort_unstable();
        ids.dedup();
        let mut state = self.lock();
        state.writing()?;
        state.database_mut(db)?;
        state.flush()?;
        let database = state.database_mut(db)?;
        let mut sum = Compacted::default();
        for id in ids {
            let compacted = database.compact(&id);
            sum.bodies += compacted.bodies;
            sum.bytes += compacted.bytes;
        }
        Ok(sum)
    }

    async fn purge(&self, db: DatabaseKey, batch: Vec<DocPurge>) -> Result<Commit, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let named = batch.iter().map(|purge| (&purge.id, purge.expected));
        let stale = state.database_mut(db)?.differing(named);
        if !stale.is_empty() {
            return Ok(Commit::Stale(stale));
        }
        state.flush()?;
        let database = state.database_mut(db)?;
        let seqs = batch.into_iter().map(|purge| database.purge(purge)).collect();
        database.seq_watch.send_replace(database.counts.update_seq);
        Ok(Commit::Done(seqs))
    }

    async fn settings(&self, db: DatabaseKey) -> Result<DatabaseSettings, StoreError> {
        self.read_in(db, |database| database.settings.clone())
    }

    async fn commit_settings(
        &self,
        db: DatabaseKey,
        settings: DatabaseSettings,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.writing()?;
        state.database_mut(db)?;
        state.flush()?;
        state.database_mut(db)?.settings = settings;
        Ok(())
    }

    async fn notes(&self, db: DatabaseKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.read_in(db, |database| database.notes.clone())
    }

    async fn commit_notes(&self, db: DatabaseKey, notes: Vec<u8>) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.writing()?;
        state.database_mut(db)?;
        state.flush()?;
        state.database_mut(db)?.notes = Some(notes);
        Ok(())
    }

    async fn blob_bytes(&self, db: DatabaseKey) -> Result<u64, StoreError> {
        self.read_in(db, Database::blob_bytes)
    }

    async fn blobs(&self, db: DatabaseKey, age: Duration) -> Result<Vec<BlobKey>, StoreError> {
        self.read_in(db, |database| database.blob_keys(age))
    }

    async fn sweep_blobs(&self, db: DatabaseKey) -> Result<Box<dyn BlobSweep>, StoreError> {
        let mut state = self.lock();
        state.writing()?;
        let named = state.database_mut(db)?.begin_sweep();
        Ok(Box::new(MemorySweep { state: Arc::clone(&self.state), db, named }))
    }

    fn watch(&self, db: DatabaseKey) -> watch::Receiver<u64> {
        match self.lock().databases.get(&db) {
            Some(database) => database.seq_watch.subscribe(),
            None => watch::channel(0).1,
        }
    }

    fn stats(&self) -> BackendStats {
        let poisoned = matches!(self.lock().condition, Condition::Poisoned);
        BackendStats { poisoned, ..BackendStats::default() }
    }

    async fn close(&self) -> Result<(), StoreError> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.condition, Condition::Closed) {
            Condition::Open => Ok(()),
            Condition::Closed => Err(StoreError::Closed),
            Condition::Poisoned => {
                let source = std::io::Error::other("an earlier flush failed");
                Err(StoreError::Io { doing: "flush to disk", source })
            }
        }
    }
}
