//! The handle to one database; what it does is in the sibling modules.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::watch;

use super::backend::{
    Backend, Counts, DatabaseKey, DatabaseRecord, DatabaseSettings, IndexKey, Uuid,
};
use super::error::StoreError;
use super::pending::PendingCounts;
use super::quiet::Quiet;
use super::quota::{Quota, Reserved};
use super::seq::Seq;
use super::updates::{DbUpdateKind, UpdateSender};
use crate::doc::DbName;
use crate::limits::Limits;

/// One database. A cheap handle: clones share it.
#[derive(Clone)]
pub struct Database {
    pub(super) shared: Arc<DatabaseShared>,
}

pub(super) struct DatabaseShared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) limits: Arc<Limits>,
    record: DatabaseRecord,
    destroyed: watch::Sender<bool>,
    settings: RwLock<DatabaseSettings>,
    /// Serialises changes of the settings.
    pub(super) setting: tokio::sync::Mutex<()>,
    /// Held for reading while a backup reads the database, and for writing while bodies or
    /// attachments that it may be about to read are removed.
    pub(super) removing: tokio::sync::RwLock<()>,
    /// Held for reading while a page of the feed is read with its groups, and for writing while
    /// groups are forgotten: a page must not find documents of a group and the group gone.
    pub(super) forgetting: tokio::sync::RwLock<()>,
    quota: RwLock<Quota>,
    pub(super) reserved: Reserved,
    pub(super) quiet: Quiet,
    pub(super) pending: PendingCounts,
    updates: UpdateSender,
    /// Calls that purged something.
    purges: AtomicU64,
    /// Groups written since the database was opened or compacted.
    groups_written: AtomicU64,
    /// Compactions of all databases of the store.
    compactions: Arc<AtomicU64>,
    /// Indexes that somebody brings up to date.
    index_locks: Mutex<HashMap<IndexKey, Arc<tokio::sync::Mutex<()>>>>,
}

impl DatabaseShared {
    pub(super) fn new(
        backend: Arc<dyn Backend>,
        limits: Arc<Limits>,
        record: DatabaseRecord,
        settings: DatabaseSettings,
        updates: UpdateSender,
        compactions: Arc<AtomicU64>,
    ) -> Self {
        Self {
            backend,
            limits,
            record,
            destroyed: watch::Sender::new(false),
            settings: RwLock::new(settings),
            setting: tokio::sync::Mutex::default(),
            removing: tokio::sync::RwLock::default(),
            forgetting: tokio::sync::RwLock::default(),
            quota: RwLock::default(),
            reserved: Reserved::default(),
            quiet: Quiet::default(),
            pending: PendingCounts::default(),
            updates,
            purges: AtomicU64::new(0),
            groups_written: AtomicU64::new(0),
            compactions,
            index_locks: Mutex::default(),
        }
    }

    pub(super) fn note_compaction(&self) {
        self.compactions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn note_group(&self) {
        self.groups_written.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn groups_written(&self) -> u64 {
        self.groups_written.load(Ordering::Relaxed)
    }

    /// Takes note that so many of the groups were looked at by a compaction.
    pub(super) fn note_groups_looked_at(&self, count: u64) {
        self.groups_written.fetch_sub(count, Ordering::Relaxed);
    }

    /// Takes note of a purge that is on disk.
    pub(super) fn note_purge(&self) {
        self.purges.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn index_locks(
        &self,
    ) -> MutexGuard<'_, HashMap<IndexKey, Arc<tokio::sync::Mutex<()>>>> {
        self.index_locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settings(&self) -> RwLockReadGuard<'_, DatabaseSettings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of settings that are on disk.
    pub(super) fn keep_settings(&self, settings: DatabaseSettings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    pub(super) fn quota(&self) -> Quota {
        *self.quota.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_quota(&self, quota: Quota) {
        *self.quota.write().unwrap_or_else(PoisonError::into_inner) = quota;
    }

    /// Tells who listens that documents changed.
    pub(super) fn tell_updated(&self) {
        self.updates.tell(self.name(), DbUpdateKind::Updated);
    }

    pub(super) fn name(&self) -> &DbName {
        &self.record.name
    }

    pub(super) fn mark_destroyed(&self) {
        self.destroyed.send_replace(true);
    }
}

/// What a database tells of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseInfo {
    /// Its name.
    pub name: DbName,
    /// Documents that are not deleted.
    pub doc_count: u64,
    /// Documents whose winning rev is a tombstone.
    pub deleted_count: u64,
    /// The place after the last change.
    pub update_seq: Seq,
    /// Which of the databases that ever had this name it is.
    pub incarnation: Uuid,
    /// Bytes of all bodies stored, those of old revisions included.
    pub body_bytes: u64,
    /// The part of them that belongs to leaves: what compaction keeps.
    pub leaf_bytes: u64,
    /// Documents that were purged, ever.
    pub purge_seq: u64,
}

impl Database {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &DbName {
        self.shared.name()
    }

    /// Which of the databases that ever had this name it is: 32 hex digits, made at its creation.
    #[must_use]
    pub fn incarnation(&self) -> Uuid {
        self.shared.record.incarnation
    }

    /// The bounds it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Counters and names.
    ///
    /// # Errors
    /// [`StoreError::DatabaseDestroyed`], [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn info(&self) -> Result<DatabaseInfo, StoreError> {
        let counts = self.counts().await?;
        Ok(DatabaseInfo {
            name: self.name().clone(),
            doc_count: counts.docs,
            deleted_count: counts.deleted_docs,
            update_seq: self.seq(counts.update_seq),
            incarnation: self.incarnation(),
            body_bytes: counts.body_bytes,
            leaf_bytes: counts.leaf_bytes,
            purge_seq: counts.purge_seq,
        })
    }

    /// The number of the newest change that is on disk, for who only wants to see how far behind a
    /// reader is.
    #[must_use]
    pub fn newest_change(&self) -> u64 {
        *self.backend().watch(self.key()).borrow()
    }

    /// How often something was purged since the database was opened: whoever keeps a page of the feed
    /// keeps it only while this stays the same.
    #[must_use]
    pub fn purges(&self) -> u64 {
        self.shared.purges.load(Ordering::SeqCst)
    }

    /// Returns when the database has been destroyed.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn destroyed(&self) {
        let mut destroyed = self.shared.destroyed.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = destroyed.wait_for(|destroyed| *destroyed).await;
    }

    /// Whether the database has been destroyed.
    #[must_use]
    pub fn is_destroyed(&self) -> bool {
        *self.shared.destroyed.borrow()
    }

    pub(super) async fn counts(&self) -> Result<Counts, StoreError> {
        self.alive()?;
        self.backend().counts(self.key()).await
    }

    pub(super) fn alive(&self) -> Result<(), StoreError> {
        if self.is_destroyed() {
            return Err(StoreError::DatabaseDestroyed { name: self.name().clone() });
        }
        Ok(())
    }

    /// Why the backend tells no more of this database: it was destroyed, or the store was closed.
    pub(super) async fn why_silent(&self) -> StoreError {
        match self.backend().database(self.name()).await {
            Ok(found) if found.as_ref() != Some(&self.shared.record) => {
                StoreError::DatabaseDestroyed { name: self.name().clone() }
            }
            Ok(_) | Err(_) => StoreError::Closed,
        }
    }

    /// Says the name where the backend, which knows only keys, says that a database is gone.
    pub(super) fn named<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.map_err(|error| match error {
            StoreError::DatabaseGone => StoreError::DatabaseDestroyed { name: self.name().clone() },
            other => other,
        })
    }

    pub(super) fn backend(&self) -> &dyn Backend {
        &*self.shared.backend
    }

    pub(super) fn key(&self) -> DatabaseKey {
        self.shared.record.key
    }

    pub(super) fn seq(&self, number: u64) -> Seq {
        Seq::new(number, self.incarnation())
    }

    /// Refuses more rows than one call may have.
    pub(super) fn check_rows(&self, what: &'static str, count: usize) -> Result<(), StoreError> {
        let max = self.limits().bulk_rows_max;
        if count > max {
            return Err(StoreError::TooLarge { what, count: count as u64, max: max as u64 });
        }
        Ok(())
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("name", self.name()).finish_non_exhaustive()
    }
}
