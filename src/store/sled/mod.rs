//! Storage in sled, for one process: the default backend.
//!
//! One sled instance with one tree holds all databases; keys begin with the database's
//! ([`super::keys`]). All writes go through one thread ([`committer`]), all reads run on blocking
//! threads. `docs/STORAGE.md` tells what is on disk and why.
//!
//! The files of this folder are the only ones that name the `sled` crate.

mod blobs;
mod close;
mod committer;
mod groups;
mod index;
mod lock;
mod log;
mod maintain;
mod mark;
mod merge;
mod newest;
mod older;
mod open;
mod reads;
mod record;
mod request;
mod rewrite;
mod room;
mod salvage;
mod shared;
mod size;
mod sweep;
mod value;

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use self::committer::Committer;
use self::mark::Mark;
use self::open::{DataFile, Opened, blobs_dir, doing};
use self::request::{Answer, DocWrite, LocalWrite, PurgeWrite, Request};
use self::shared::Shared;
use super::backend::{
    Backend, BlobReader, BlobSweep, BlobWriter, ChangesPage, ChangesRange, Commit, Compacted,
    Counts, DatabaseKey, DatabaseRecord, DatabaseSettings, DocCommit, DocPurge, DocsRange,
    Grouping, LocalCommit, LocalOutcome, ReadDoc, Snapshot, StoredDoc, SweptBlobs, Uuid,
};
use super::error::StoreError;
use super::keys;
use super::memory::BytesReader;
use super::stats::BackendStats;
use crate::doc::{BlobKey, Body, BodyRecord, DbName, DocId, LocalId, LocalRev, Rev};

type Db = ::sled::Db;

/// Requests that wait for the committer; further callers wait for room.
const QUEUE_REQUESTS_MAX: usize = 1024;

pub use rewrite::Rewritten;
pub(super) use salvage::Reaches;

/// How sled is opened.
#[derive(Debug, Clone)]
pub struct SledOptions {
    /// Bytes of pages that sled keeps in memory; by default 256 MiB. Reads beyond the cache go to
    /// the disk.
    pub cache_bytes: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 256 * 1024 * 1024 }
    }
}

/// Keeps databases in a directory of the local file system.
///
/// Dropping it ends its thread after everything that was begun is on disk; [`Backend::close`] also
/// waits for that, and must be used where the directory is to be opened again.
#[derive(Debug)]
pub struct SledBackend {
    inner: Inner,
    committer: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    queue: mpsc::Sender<Request>,
    thread: JoinHandle<()>,
}

impl SledBackend {
    /// Opens a data directory, or makes it.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if it is open already, here or in another process;
    /// [`StoreError::TooNew`]; [`StoreError::Damaged`]; [`StoreError::Io`].
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, &SledOptions::default())
    }

    /// Whether a directory is a data directory; opens nothing.
    #[must_use]
    pub fn is_at(path: &Path) -> bool {
        open::is_at(path)
    }

    /// Writes everything in a data directory that nobody has open into fresh files, since sled does
    /// not give back the space of what was removed. Needs as much disk as the result takes, beside
    /// the old files. A process that is killed meanwhile leaves the old data or the new.
    ///
    /// # Errors
    /// As [`SledBackend::open`].
    pub fn rewrite(path: &Path) -> Result<Rewritten, StoreError> {
        rewrite::rewrite(path, &SledOptions::default())
    }

    /// As [`SledBackend::open`], with settings.
    ///
    /// # Errors
    /// As [`SledBackend::open`].
    pub fn open_with(path: &Path, options: &SledOptions) -> Result<Self, StoreError> {
        Self::run(path, open::open(path, options)?)
    }

    /// Begins to restore a backup to a directory, which is made if it is not there, and must be
    /// empty but for an earlier restore that did not finish. Until
    /// [`SledBackend::finish_restoring`] opening it fails with [`StoreError::Unfinished`].
    ///
    /// # Errors
    /// As [`SledBackend::open`]; [`StoreError::Io`] if there is something in it.
    pub fn begin_restoring(path: &Path) -> Result<Self, StoreError> {
        Self::run(path, open::begin_restoring(path, &SledOptions::default())?)
    }

    /// Lets a directory be opened to which a backup was restored, and that was closed since.
    ///
    /// # Errors
    /// [`StoreError::Io`]; [`StoreError::Locked`] or [`StoreError::Unfinished`] if restoring was begun
    /// anew meanwhile, so that it holds another store than the one with this uuid.
    pub fn finish_restoring(path: &Path, store: Uuid) -> Result<(), StoreError> {
        open::finish_restoring(path, store)
    }

    /// Whether something of a store is in a directory, of which any file may be missing.
    pub(super) fn is_left_at(path: &Path) -> bool {
        open::has_rows(path)
    }

    /// Opens a copy of what is left of a damaged data directory.
    pub(super) fn open_copy(from: &Path, copy: &Path) -> Result<(Self, Reaches), StoreError> {
        let (opened, reaches) = salvage::open_copy(from, copy, &SledOptions::default())?;
        Ok((Self::run(copy, opened)?, reaches))
    }

    fn run(path: &Path, opened: (Opened, DataFile, Mark)) -> Result<Self, StoreError> {
        let (opened, data, mark) = opened;
        let db = opened.db.clone();
        let uuid = open::read_uuid(&db)?;
        let shared = Arc::new(Shared::new(uuid, path.to_owned(), opened));
        clean_blobs(&db, path)?;
        let committer = Committer::new(db, data, mark, Arc::clone(&shared))?;
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let thread = std::thread::Builder::new().name("settee-committer".to_owned());
        let thread = thread.spawn(move || committer.run(requests));
        let thread = thread.map_err(doing("start the committer's thread"))?;
        Ok(Self { inner: Inner { shared }, committer: Mutex::new(Some(Running { queue, thread })) })
    }

    /// Makes the next flush fail as if the disk had refused it.
    #[cfg(test)]
    pub(crate) fn fail_next_flush(&self) {
        self.inner.shared.fail_next_flush.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    #[cfg(test)]
    pub(crate) async fn row_count(&self) -> Result<usize, StoreError> {
        self.inner.with_db(|db| Ok(db.len())).await
    }

    /// Sends a request and waits for its answer. Once it is sent it is carried out, whether or not
    /// anybody waits.
    async fn request<T>(
        &self,
        request: impl FnOnce(Answer<T>) -> Request,
    ) -> Result<T, StoreError> {
        request_over(self.queue()?, request).await
    }

    fn queue(&self) -> Result<mpsc::Sender<Request>, StoreError> {
        let committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(committer.as_ref().ok_or(StoreError::Closed)?.queue.clone())
    }
}

async fn request_over<T>(
    queue: mpsc::Sender<Request>,
    request: impl FnOnce(Answer<T>) -> Request,
) -> Result<T, StoreError> {
    let (answer, answered) = oneshot::channel();
    // A committer that is gone although nobody closed the store has panicked.
    queue.send(request(answer)).await.map_err(|_| StoreError::Poisoned)?;
    drop(queue);
    answered.await.map_err(|_| StoreError::Poisoned)?
}

/// A sweep; the committer remembers what documents name for as long as this lives.
struct RunningSweep {
    db: DatabaseKey,
    queue: mpsc::WeakSender<Request>,
    _owner: Arc<()>,
}

#[async_trait]
impl BlobSweep for RunningSweep {
    async fn remove(&mut self, keys: Vec<BlobKey>) -> Result<SweptBlobs, StoreError> {
        let queue = self.queue.upgrade().ok_or(StoreError::Closed)?;
        let db = self.db;
        request_over(queue, |answer| Request::SweepBlobs { db, keys, answer }).await
    }
}

/// Removes files of databases that are no more.
fn clean_blobs(db: &Db, path: &Path) -> Result<(), StoreError> {
    let mut alive: Option<HashSet<DatabaseKey>> = None;
    let live = || -> HashSet<DatabaseKey> {
        let names = db.range(keys::names_after(None)).values().filter_map(Result::ok);
        names.filter_map(|row| record::decode_database(&row)).map(|(key, _)| key).collect()
    };
    blobs::clean(&blobs_dir(path), |key| alive.get_or_insert_with(live).contains(&key))
        .map_err(doing("clean up the attachments' directory"))
}

/// The part of the backend that reads use; attachments' writers hold it too.
#[derive(Debug, Clone)]
struct Inner {
    shared: Arc<Shared>,
}

impl Inner {
    /// Runs `read` on a blocking thread; closing waits for it.
    async fn with_db<R: Send + 'static>(
        &self,
        read: impl FnOnce(&Db) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let turn = Arc::clone(&self.shared.reads).acquire_owned().await;
        let turn = turn.map_err(|_| StoreError::Closed)?;
        let opened = Arc::clone(&self.shared.opened).read_owned().await;
        run_blocking(move || {
            let _turn = turn;
            read(&opened.as_ref().ok_or(StoreError::Closed)?.db)
        })
        .await
    }

    /// The same for one database; a destroyed one reads as `R::default()`, which is empty.
    async fn read_in<R: Default + Send + 'static>(
        &self,
        db: DatabaseKey,
        read: impl FnOnce(&Shared, &Db) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.read_near(db, false, read).await
    }

    /// The same on this thread, where what is read is known to be in memory.
    async fn read_near<R: Default + Send + 'static>(
        &self,
        db: DatabaseKey,
        is_at_hand: bool,
        read: impl FnOnce(&Shared, &Db) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        if is_at_hand {
            let opened = self.shared.opened.read().await;
            let sled = &opened.as_ref().ok_or(StoreError::Closed)?.db;
            let gone = self.shared.is_destroyed(db);
            return if gone { Ok(R::default()) } else { read(&self.shared, sled) };
        }
        let shared = Arc::clone(&self.shared);
        let read = move |sled: &Db| {
            if shared.is_destroyed(db) { Ok(R::default()) } else { read(&shared, sled) }
        };
        self.with_db(read).await
    }

    /// Waits until the group that changes this database is on disk.
    async fn wait_durable(&self, db: DatabaseKey) -> Result<(), StoreError> {
        let Some(group) = self.shared.unflushed_group(db) else { return Ok(()) };
        let mut progress = self.shared.progress.subscribe();
        let ended = progress.wait_for(|progress| progress.durable >= group || progress.poisoned);
        let durable = ended.await.is_ok_and(|progress| progress.durable >= group);
        if durable { Ok(()) } else { Err(StoreError::Poisoned) }
    }
}

async fn run_blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, StoreError> {
    super::joined(tokio::task::spawn_blocking(work)).await
}

fn io_error(doing: &'static str, error: ::sled::Error) -> StoreError {
    match error {
        ::sled::Error::Io(source) => StoreError::Io { doing, source },
        ::sled::Error::Corruption { .. } => StoreError::Damaged { what: error.to_string() },
        other => StoreError::Io { doing, source: io::Error::other(other.to_string()) },
    }
}

#[async_trait]
impl Backend for SledBackend {
    fn uuid(&self) -> Uuid {
        self.inner.shared.uuid
    }

    async fn create_database(&self, name: &DbName) -> Result<DatabaseRecord, StoreError> {
        let (name, incarnation) = (name.clone(), Uuid::random()?);
        self.request(|answer| Request::Create { name, incarnation, answer }).await
    }

    async fn database(&self, name: &DbName) -> Result<Option<DatabaseRecord>, StoreError> {
        let name = name.clone();
        self.inner.with_db(move |db| reads::database(db, &name)).await
    }

    async fn destroy_database(&self, name: &DbName) -> Result<(), StoreError> {
        let name = name.clone();
        self.request(|answer| Request::Destroy { name, answer }).await
    }

    async fn database_names(
        &self,
        after: Option<&DbName>,
        limit: usize,
    ) -> Result<Vec<DbName>, StoreError> {
        let after = after.cloned();
        self.inner.with_db(move |db| reads::names(db, after.as_ref(), limit)).await
    }

    async fn counts(&self, db: DatabaseKey) -> Result<Counts, StoreError> {
        let near = self.inner.shared.newest.has_counts(db);
        self.inner.read_near(db, near, move |shared, sled| shared.durable_counts(sled, db)).await
    }

    async fn read(
        &self,
        db: DatabaseKey,
        ids: &[DocId],
        what: ReadDoc,
    ) -> Result<Vec<Option<StoredDoc>>, StoreError> {
        let ids = ids.to_vec();
        let count = ids.len();
        let read = move |_: &Shared, sled: &Db| {
            ids.iter().map(|id| reads::doc(sled, db, id, what)).collect::<Result<Vec<_>, _>>()
        };
        let newest = &self.inner.shared.newest;
        let near = what.written_after.is_some_and(|since| newest.has_changes(db, since));
        let mut found = self.inner.read_near(db, near, read).await?;
        found.resize(count, None);
        Ok(found)
    }

    async fn bodies(
        &self,
        db: DatabaseKey,
        revs: &[(DocId, Rev)],
    ) -> Result<Vec<Option<BodyRecord>>, StoreError> {
        let revs = revs.to_vec();
        let count = revs.len();
        let read = move |_: &Shared, sled: &Db| {
            let body = |(id, rev): &(DocId, Rev)| reads::body(sled, db, id, rev);
            revs.iter().map(body).collect::<Result<Vec<_>, _>>()
        };
        let mut found = self.inner.read_in(db, read).await?;
        found.resize(count, None);
        Ok(found)
    }

    async fn commit(&self, db: DatabaseKey, batch: Vec<DocCommit>) -> Result<Commit, StoreError> {
        let docs = batch.into_iter().map(|doc| DocWrite::new(db, doc)).collect();
        let grouping = Grouping::Apart;
        self.request(|answer| Request::Commit { db, docs, grouping, answer }).await
    }

    async fn changes(
        &self,
        db: DatabaseKey,
        range: ChangesRange,
    ) -> Result<ChangesPage, StoreError> {
        let read =
            move |shared: &Shared, sled: &Db| reads::changes(shared, sled, db, range).map(Some);
        let near = self.inner.shared.newest.has_changes(db, range.since);
        let page = self.inner.read_near(db, near, read).await?;
        self.inner.wait_durable(db).await?;
        let empty = || ChangesPage { rows: Vec::new(), last_seq: 0, more: false };
        Ok(page.unwrap_or_else(empty))
    }

    async fn snapshot(
        &self,
        db: DatabaseKey,
        since: u64,
        limit: usize,
    ) -> Result<Snapshot, StoreError> {
        self.request(|answer| Request::Snapshot { db, since, limit, answer }).await
    }

    async fn count_changes(&self, db: DatabaseKey, since: u64) -> Result<u64, StoreError> {
        let count = move |shared: &Shared, sled: &Db| reads::count_changes(shared, sled, db, since);
        self.inner.read_in(db, count).await
    }

    async fn docs(
        &self,
        db: DatabaseKey,
        range: DocsRange,
    ) -> Result<Vec<(DocId, StoredDoc)>, StoreError> {
        self.inner.read_in(db, move |_, sled| reads::docs(sled, db, &range)).await
    }

    async fn local(
        &self,
        db: DatabaseKey,
        id: &LocalId,
    ) -> Result<Option<(LocalRev, Body)>, StoreError> {
        let id = id.clone();
        self.inner.read_in(db, move |_, sled| reads::local(sled, db, &id)).await
    }

    async fn locals(
        &self,
        db: DatabaseKey,
        after: Option<&LocalId>,
        limit: usize,
    ) -> Result<Vec<(LocalId, LocalRev, Body)>, StoreError> {
        let after = after.cloned();
        self.inner.read_in(db, move |_, sled| reads::locals(sled, db, after.as_ref(), limit)).await
    }

    async fn commit_local(
        &self,
        db: DatabaseKey,
        commit: LocalCommit,
    ) -> Result<LocalOutcome, StoreError> {
        let local = LocalWrite::new(db, &commit);
        self.request(|answer| Request::Local { db, local, answer }).await
    }

    async fn write_blob(&self, db: DatabaseKey) -> Result<Box<dyn BlobWriter>, StoreError> {
        if self.inner.shared.opened.read().await.is_none() {
            return Err(StoreError::Closed);
        }
        if self.inner.shared.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        let blobs = blobs_dir(&self.inner.shared.path);
        Ok(Box::new(blobs::Writer::new(self.inner.clone(), blobs, db)))
    }

    async fn read_blob(
        &self,
        db: DatabaseKey,
        key: &BlobKey,
    ) -> Result<Option<Box<dyn BlobReader>>, StoreError> {
        let key = *key;
        let read = move |shared: &Shared, sled: &Db| {
            if let Some(content) = value::read(sled, &keys::blob(db, &key))? {
                let reader = BytesReader(Bytes::copy_from_slice(&content));
                return Ok(Some(Box::new(reader) as Box<dyn BlobReader>));
            }
            match File::open(blobs::file(&blobs_dir(&shared.path), db, &key)) {
                Ok(file) => Ok(Some(Box::new(blobs::FileReader(Arc::new(file))) as Box<_>)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(StoreError::Io { doing: "open an attachment", source }),
            }
        };
        self.inner.read_in(db, read).await
    }

    async fn compact(&self, db: DatabaseKey, ids: Vec<DocId>) -> Result<Compacted, StoreError> {
        self.request(|answer| Request::Compact { db, ids, answer }).await
    }

    async fn purge(&self, db: DatabaseKey, docs: Vec<DocPurge>) -> Result<Commit, StoreError> {
        let docs = docs.into_iter().map(|doc| PurgeWrite::new(db, doc)).collect();
        self.request(|answer| Request::Purge { db, docs, answer }).await
    }

    async fn settings(&self, db: DatabaseKey) -> Result<DatabaseSettings, StoreError> {
        self.inner.read_in(db, move |_, sled| reads::settings(sled, db)).await
    }

    async fn commit_settings(
        &self,
        db: DatabaseKey,
        settings: DatabaseSettings,
    ) -> Result<(), StoreError> {
        let (key, value) = (keys::settings(db), record::settings(&settings));
        self.request(|answer| Request::Row { db, key, value, answer }).await
    }

    async fn notes(&self, db: DatabaseKey) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.read_in(db, move |_, sled| reads::notes(sled, db)).await
    }

    async fn commit_notes(&self, db: DatabaseKey, notes: Vec<u8>) -> Result<(), StoreError> {
        let (key, value) = (keys::notes(db), record::plain(&notes));
        self.request(|answer| Request::Row { db, key, value, answer }).await
    }

    async fn blob_bytes(&self, db: DatabaseKey) -> Result<u64, StoreError> {
        let measure = move |shared: &Shared, _: &Db| {
            let bytes = blobs::file_bytes(&blobs_dir(&shared.path), db);
            bytes.map_err(doing("measure attachments"))
        };
        self.inner.read_in(db, measure).await
    }

    async fn blobs(&self, db: DatabaseKey, age: Duration) -> Result<Vec<BlobKey>, StoreError> {
        let list = move |shared: &Shared, sled: &Db| {
            let mut found = reads::blobs(sled, db)?;
            found.extend(
                blobs::files(&blobs_dir(&shared.path), db, age)
                    .map_err(doing("list attachments"))?,
            );
            Ok(found)
        };
        self.inner.read_in(db, list).await
    }

    async fn sweep_blobs(&self, db: DatabaseKey) -> Result<Box<dyn BlobSweep>, StoreError> {
        let owner = Arc::new(());
        let sweep = Arc::downgrade(&owner);
        self.request(|answer| Request::BeginSweep { db, sweep, answer }).await?;
        let queue = self.queue()?.downgrade();
        Ok(Box::new(RunningSweep { db, queue, _owner: owner }))
    }

    fn watch(&self, db: DatabaseKey) -> watch::Receiver<u64> {
        self.inner.shared.watch(db)
    }

    fn stats(&self) -> BackendStats {
        self.inner.shared.stats()
    }

    async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        let path = self.inner.shared.path.clone();
        let bytes = run_blocking(move || size::of_files(&path).map_err(doing("look at files")));
        bytes.await.map(Some)
    }

    async fn close(&self) -> Result<(), StoreError> {
        let running = self.committer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Running { queue, thread } = running.ok_or(StoreError::Closed)?;
        drop(queue);
        let shared = Arc::clone(&self.inner.shared);
        // A task of its own: a close that was begun is brought to its end.
        let closing = tokio::spawn(async move {
            let joined = run_blocking(move || Ok(thread.join().is_ok())).await?;
            let opened = shared.opened.write().await.take();
            shared.close_watches();
            run_blocking(move || opened.map_or(Ok(()), Opened::let_go)).await?;
            if joined && !shared.is_poisoned() {
                return Ok(());
            }
            let source = io::Error::other("an earlier flush failed");
            Err(StoreError::Io { doing: "flush to disk", source })
        });
        closing.await.map_err(|_| StoreError::Closed)?
    }
}
