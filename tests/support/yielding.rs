use async_trait::async_trait;
use settee::doc::{BlobKey, Body, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev};
use settee::store::MemoryBackend;
use settee::store::backend::*;
use settee::{Limits, Store, StoreError};
use tokio::sync::watch;
use tokio::task::yield_now;

/// A memory store whose calls take turns with other tasks, before and after they act and between
/// documents: what is dropped or interleaved at any of these places shows.
#[derive(Debug)]
pub struct YieldingBackend(MemoryBackend);

pub fn yielding_store() -> Store {
    let backend = std::sync::Arc::new(YieldingBackend(MemoryBackend::new()));
    Store::with_backend(backend, Limits::default())
}

macro_rules! yielding {
    ($call:expr) => {{
        yield_now().await;
        let result = $call.await;
        yield_now().await;
        result
    }};
}

type Answer<T> = Result<T, StoreError>;

#[async_trait]
impl IndexBackend for YieldingBackend {
    async fn indexes(&self, db: DatabaseKey) -> Answer<Vec<(IndexKey, IndexState)>> {
        yielding!(self.0.indexes(db))
    }
    async fn commit_index(&self, db: DatabaseKey, commit: IndexCommit) -> Answer<IndexOutcome> {
        yielding!(self.0.commit_index(db, commit))
    }
    async fn index_entries(
        &self,
        db: DatabaseKey,
        index: IndexKey,
        range: IndexRange,
    ) -> Answer<Option<Vec<IndexEntry>>> {
        yielding!(self.0.index_entries(db, index, range))
    }
    async fn remove_index(&self, db: DatabaseKey, index: IndexKey) -> Answer<bool> {
        yielding!(self.0.remove_index(db, index))
    }
}

#[async_trait]
impl GroupBackend for YieldingBackend {
    async fn commit_group(&self, db: DatabaseKey, batch: Vec<DocCommit>) -> Answer<Commit> {
        yielding!(self.0.commit_group(db, batch))
    }
    async fn groups(&self, db: DatabaseKey, since: u64, limit: usize) -> Answer<Vec<GroupRow>> {
        yielding!(self.0.groups(db, since, limit))
    }
    async fn forget_groups(&self, db: DatabaseKey, lasts: Vec<u64>) -> Answer<()> {
        yielding!(self.0.forget_groups(db, lasts))
    }
}

#[async_trait]
impl Backend for YieldingBackend {
    fn uuid(&self) -> Uuid {
        self.0.uuid()
    }
    async fn create_database(&self, name: &DbName) -> Answer<DatabaseRecord> {
        yielding!(self.0.create_database(name))
    }
    async fn database(&self, name: &DbName) -> Answer<Option<DatabaseRecord>> {
        yielding!(self.0.database(name))
    }
    async fn destroy_database(&self, name: &DbName) -> Answer<()> {
        yielding!(self.0.destroy_database(name))
    }
    async fn database_names(&self, after: Option<&DbName>, limit: usize) -> Answer<Vec<DbName>> {
        yielding!(self.0.database_names(after, limit))
    }
    async fn counts(&self, db: DatabaseKey) -> Answer<Counts> {
        yielding!(self.0.counts(db))
    }
    async fn read(
        &self,
        db: DatabaseKey,
        ids: &[DocId],
        what: ReadDoc,
    ) -> Answer<Vec<Option<StoredDoc>>> {
        let mut found = Vec::new();
        for id in ids {
            found.extend(yielding!(self.0.read(db, std::slice::from_ref(id), what))?);
        }
        Ok(found)
    }
    async fn bodies(
        &self,
        db: DatabaseKey,
        revs: &[(DocId, Rev)],
    ) -> Answer<Vec<Option<BodyRecord>>> {
        yielding!(self.0.bodies(db, revs))
    }
    async fn commit(&self, db: DatabaseKey, batch: Vec<DocCommit>) -> Answer<Commit> {
        yielding!(self.0.commit(db, batch))
    }
    async fn compact(&self, db: DatabaseKey, ids: Vec<DocId>) -> Answer<Compacted> {
        yielding!(self.0.compact(db, ids))
    }
    async fn purge(&self, db: DatabaseKey, batch: Vec<DocPurge>) -> Answer<Commit> {
        yielding!(self.0.purge(db, batch))
    }
    async fn settings(&self, db: DatabaseKey) -> Answer<DatabaseSettings> {
        yielding!(self.0.settings(db))
    }
    async fn commit_settings(&self, db: DatabaseKey, settings: DatabaseSettings) -> Answer<()> {
        yielding!(self.0.commit_settings(db, settings))
    }
    async fn snapshot(&self, db: DatabaseKey, since: u64, limit: usize) -> Answer<Snapshot> {
        yielding!(self.0.snapshot(db, since, limit))
    }
    async fn notes(&self, db: DatabaseKey) -> Answer<Option<Vec<u8>>> {
        yielding!(self.0.notes(db))
    }
    async fn commit_notes(&self, db: DatabaseKey, notes: Vec<u8>) -> Answer<()> {
        yielding!(self.0.commit_notes(db, notes))
    }
    async fn blob_bytes(&self, db: DatabaseKey) -> Answer<u64> {
        yielding!(self.0.blob_bytes(db))
    }
    async fn blobs(&self, db: DatabaseKey, age: std::time::Duration) -> Answer<Vec<BlobKey>> {
        yielding!(self.0.blobs(db, age))
    }
    async fn sweep_blobs(&self, db: DatabaseKey) -> Answer<Box<dyn BlobSweep>> {
        yielding!(self.0.sweep_blobs(db))
    }
    async fn changes(&self, db: DatabaseKey, range: ChangesRange) -> Answer<ChangesPage> {
        yielding!(self.0.changes(db, range))
    }
    async fn count_changes(&self, db: DatabaseKey, since: u64) -> Answer<u64> {
        yielding!(self.0.count_changes(db, since))
    }
    async fn docs(&self, db: DatabaseKey, range: DocsRange) -> Answer<Vec<(DocId, StoredDoc)>> {
        yielding!(self.0.docs(db, range))
    }
    async fn local(&self, db: DatabaseKey, id: &LocalId) -> Answer<Option<(LocalRev, Body)>> {
        yielding!(self.0.local(db, id))
    }
    async fn locals(
        &self,
        db: DatabaseKey,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Answer<Vec<(LocalId, LocalRev, Body)>> {
        yielding!(self.0.locals(db, after, limit))
    }
    async fn commit_local(&self, db: DatabaseKey, commit: LocalCommit) -> Answer<LocalOutcome> {
        yielding!(self.0.commit_local(db, commit))
    }
    async fn write_blob(&self, db: DatabaseKey) -> Answer<Box<dyn BlobWriter>> {
        yielding!(self.0.write_blob(db))
    }
    async fn read_blob(
        &self,
        db: DatabaseKey,
        key: &BlobKey,
    ) -> Answer<Option<Box<dyn BlobReader>>> {
        yielding!(self.0.read_blob(db, key))
    }
    fn watch(&self, db: DatabaseKey) -> watch::Receiver<u64> {
        self.0.watch(db)
    }
    async fn close(&self) -> Answer<()> {
        yielding!(self.0.close())
    }
}
