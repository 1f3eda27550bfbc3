//! Durable state: a [`Store`] holds named [`Database`]s; knows no network.
//!
//! `Database` does the merging, the rules and the feeds, once, above every [`Backend`]. The order
//! of things in a write: the document's tree is read with its version, merged in memory, and
//! committed against that version; a commit returns when it is on disk; only then is the caller
//! answered and the changes feed woken.

mod all_docs;
mod attachments;
pub mod backend;
mod backup;
mod check;
mod checkpoints;
mod compact;
#[cfg(test)]
mod conformance;
mod converge;
mod database;
mod error;
mod feed;
mod feed_page;
pub(crate) mod find;
mod group;
pub(crate) mod index;
mod keep_compacted;
#[cfg(feature = "sled")]
mod keys;
mod local;
mod memory;
mod merging;
#[cfg(feature = "sled")]
mod migrate;
mod notes;
mod pace;
mod pages;
mod pending;
mod purge;
mod quiet;
mod quota;
mod read;
mod revs_diff;
mod selecting;
mod seq;
mod settings;
#[cfg(feature = "sled")]
mod sled;
mod stats;
mod tally;
pub(crate) mod to_the_end;
mod tombstones;
mod updates;
mod upkeep;
mod write;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

pub use all_docs::{AllDocs, AllDocsOptions, AllDocsPage, AllDocsRow, KeyRange};
pub use attachments::AttachmentReader;
pub use backend::{Backend, Counts, SweptBlobs, Uuid};
pub use backup::{Backup, BackupError, BackupOptions, BackupReport, Manifest};
#[cfg(feature = "sled")]
pub use backup::{Lost, RestoreOptions, Restored, Salvaged, SalvagedDatabase};
pub use check::{CheckProblem, CheckReport};
pub use compact::{CompactOptions, CompactReport};
pub use converge::OperateError;
pub use database::{Database, DatabaseInfo};
pub use error::{DocError, StoreError};
pub use feed::{Change, ChangeDocs, Changes, ChangesOptions, Feed, FeedPage, Style};
pub use find::{Execution, FindError, FindPage, FindRequest, Finder, UseIndex};
pub use group::GROUP_DOCS_MAX;
pub use index::{Index, NewIndex, SortField};
pub use keep_compacted::{CompactionPolicy, CompactionPolicyError};
pub use memory::MemoryBackend;
pub use purge::Purged;
pub use quota::{Quota, QuotaRule};
pub use read::{BulkGetItem, BulkGetOptions, BulkGetResult, GetOptions, OpenRev, OpenRevs};
pub use seq::{Seq, Since};
#[cfg(feature = "sled")]
pub use sled::{Rewritten, SledBackend, SledOptions};
pub use stats::{BackendStats, Spread, StoreStats};
pub use tombstones::{TombstonePolicy, TombstoneReport};
pub use updates::{DbUpdate, DbUpdateKind, DbUpdates};
pub use write::{EditMode, Refused, WriteOptions, WriteOutcome, Written};

pub use backend::Order;

use tokio::task::JoinHandle;

use crate::doc::DbName;
use crate::limits::Limits;
use backend::DatabaseSettings;
use database::DatabaseShared;
use quota::quota_of;
use updates::UpdateSender;

/// Any number of named databases in one place. A cheap handle: clones share the store.
///
/// ```
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// use settee::{DbName, Document, Store};
/// let store = Store::memory();
/// let todos = store.open_or_create(&DbName::parse("todos")?).await?;
/// let written = todos.put(Document::new("milk", &serde_json::json!({"done": false}))?).await?;
/// assert_eq!(written.rev.generation(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Store {
    shared: Arc<StoreShared>,
}

struct StoreShared {
    backend: Arc<dyn Backend>,
    limits: Arc<Limits>,
    /// Databases that somebody has open. Held for moments only, never over an await.
    open: Mutex<HashMap<DbName, Weak<DatabaseShared>>>,
    /// Serialises making and destroying databases, so that a handle is never handed out for a
    /// database that is being destroyed.
    naming: tokio::sync::Mutex<()>,
    updates: UpdateSender,
    compactions: Arc<AtomicU64>,
    quotas: RwLock<Vec<QuotaRule>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("backend", &self.shared.backend).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the sled store in a directory, which is made if it is not there.
    ///
    /// # Errors
    /// [`StoreError::Locked`] if another process has it open for longer than a second, [`StoreError::TooNew`],
    /// [`StoreError::Damaged`], [`StoreError::Io`].
    #[cfg(feature = "sled")]
    pub fn open(path: impl AsRef<std::path::Path>) -> Result<Self, StoreError> {
        Ok(Self::with_backend(Arc::new(SledBackend::open(path.as_ref())?), Limits::default()))
    }

    /// As [`Store::open`], with other limits.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[cfg(feature = "sled")]
    pub fn open_with(
        path: impl AsRef<std::path::Path>,
        limits: Limits,
    ) -> Result<Self, StoreError> {
        Ok(Self::with_backend(Arc::new(SledBackend::open(path.as_ref())?), limits))
    }

    /// Writes the sled store of a directory that nobody has open into fresh files; see
    /// [`SledBackend::rewrite`]. Blocks until it is done.
    ///
    /// # Errors
    /// As [`Store::open`].
    #[cfg(feature = "sled")]
    pub fn rewrite(path: impl AsRef<std::path::Path>) -> Result<Rewritten, StoreError> {
        SledBackend::rewrite(path.as_ref())
    }

    /// Whether there is a sled store in a directory; opens nothing and makes nothing.
    #[cfg(feature = "sled")]
    #[must_use]
    pub fn is_at(path: impl AsRef<std::path::Path>) -> bool {
        SledBackend::is_at(path.as_ref())
    }

    /// A store in memory: gone with its last handle.
    #[must_use]
    pub fn memory() -> Self {
        Self::with_backend(Arc::new(MemoryBackend::new()), Limits::default())
    }

    /// A store over any backend.
    #[must_use]
    pub fn with_backend(backend: Arc<dyn Backend>, limits: Limits) -> Self {
        let shared = StoreShared {
            backend,
            limits: Arc::new(limits),
            open: Mutex::default(),
            naming: tokio::sync::Mutex::default(),
            updates: UpdateSender::default(),
            compactions: Arc::default(),
            quotas: RwLock::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The bounds this store keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Names this store for ever.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        self.shared.backend.uuid()
    }

    /// Opens a database.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn database(&self, name: &DbName) -> Result<Database, StoreError> {
        if let Some(open) = self.opened(name) {
            return Ok(open);
        }
        let _naming = self.shared.naming.lock().await;
        self.lookup(name).await?.ok_or_else(|| StoreError::DatabaseMissing { name: name.clone() })
    }

    /// Makes an empty database. On return it is on disk.
    ///
    /// # Errors
    /// [`StoreError::DatabaseExists`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database either made or not.
    pub async fn create(&self, name: &DbName) -> Result<Database, StoreError> {
        let _naming = self.shared.naming.lock().await;
        self.make(name).await
    }

    /// Opens a database, making it if there is none.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Poisoned`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves the database either made or not.
    pub async fn open_or_create(&self, name: &DbName) -> Result<Database, StoreError> {
        if let Some(open) = self.opened(name) {
            return Ok(open);
        }
        let _naming = self.shared.naming.lock().await;
        if let Some(found) = self.lookup(name).await? {
            return Ok(found);
        }
        self.make(name).await
    }

    /// Destroys a database and everything in it. Open handles fail with
    /// [`StoreError::DatabaseDestroyed`] from then on, and their feeds end; that holds also when
    /// the disk refuses, and the database can be opened again.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`].
    ///
    /// # Cancel safety
    /// Dropping the future once it was polled changes nothing: it goes on to its end by itself, as a
    /// task of the runtime.
    pub async fn destroy(&self, name: &DbName) -> Result<(), StoreError> {
        let (store, name) = (self.clone(), name.clone());
        joined(tokio::spawn(async move { store.destroy_whole(&name).await })).await
    }

    async fn destroy_whole(&self, name: &DbName) -> Result<(), StoreError> {
        let _naming = self.shared.naming.lock().await;
        // Before the backend is asked: a handle must not read a database that is half gone as an
        // empty one.
        let open = self.lock_open().remove(name);
        if let Some(shared) = open.and_then(|open| open.upgrade()) {
            shared.mark_destroyed();
        }
        self.shared.backend.destroy_database(name).await?;
        self.shared.updates.tell(name, DbUpdateKind::Deleted);
        Ok(())
    }

    /// Bounds how much each database may hold, in place of what was set before. Where more rules are
    /// for a database, the narrowest counts. What is there already stays.
    pub fn set_quotas(&self, rules: Vec<QuotaRule>) {
        let open = self.lock_open();
        let shared = open.values().filter_map(Weak::upgrade);
        shared.for_each(|shared| shared.set_quota(quota_of(&rules, shared.name())));
        *self.shared.quotas.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// What happens to the databases from now on: made, changed, destroyed.
    #[must_use]
    pub fn updates(&self) -> DbUpdates {
        self.shared.updates.subscribe()
    }

    /// Names of databases in byte order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Damaged`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn names(
        &self,
        after: Option<&DbName>,
        limit: usize,
    ) -> Result<Vec<DbName>, StoreError> {
        self.shared.backend.database_names(after, limit).await
    }

    /// Waits for every write under way and gives the data directory back. Handles fail with
    /// [`StoreError::Closed`] afterwards.
    ///
    /// # Errors
    /// [`StoreError::Io`] if the last flush failed, or if sled does not end within 30 s, as over damaged
    /// pages. What was acknowledged is on disk in both cases.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the store closing.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.shared.backend.close().await
    }

    fn lock_open(&self) -> std::sync::MutexGuard<'_, HashMap<DbName, Weak<DatabaseShared>>> {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, name: &DbName) -> Option<Database> {
        let shared = self.lock_open().get(name)?.upgrade()?;
        Some(Database { shared })
    }

    async fn lookup(&self, name: &DbName) -> Result<Option<Database>, StoreError> {
        if let Some(open) = self.opened(name) {
            return Ok(Some(open));
        }
        let Some(record) = self.shared.backend.database(name).await? else { return Ok(None) };
        let settings = self.shared.backend.settings(record.key).await?;
        Ok(Some(self.hand_out(record, settings)))
    }

    async fn make(&self, name: &DbName) -> Result<Database, StoreError> {
        let record = self.shared.backend.create_database(name).await?;
        let database = self.hand_out(record, DatabaseSettings::default());
        self.shared.updates.tell(name, DbUpdateKind::Created);
        Ok(database)
    }

    fn hand_out(&self, record: backend::DatabaseRecord, settings: DatabaseSettings) -> Database {
        let mut open = self.lock_open();
        // The table is swept when it has doubled, so that it stays as small as what is open.
        if open.len() >= 64 && open.len().is_power_of_two() {
            open.retain(|_, shared| shared.strong_count() > 0);
        }
        let shared = Arc::new(DatabaseShared::new(
            Arc::clone(&self.shared.backend),
            Arc::clone(&self.shared.limits),
            record,
            settings,
            self.shared.updates.clone(),
            Arc::clone(&self.shared.compactions),
        ));
        let quotas = self.shared.quotas.read().unwrap_or_else(PoisonError::into_inner);
        shared.set_quota(quota_of(&quotas, shared.name()));
        open.insert(shared.name().clone(), Arc::downgrade(&shared));
        Database { shared }
    }
}

/// What a task of the store's own found.
async fn joined<R>(task: JoinHandle<Result<R, StoreError>>) -> Result<R, StoreError> {
    match task.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is shutting down.
        Err(_) => Err(StoreError::Closed),
    }
}
