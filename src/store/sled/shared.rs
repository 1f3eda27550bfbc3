//! What readers and the committer share: which state is durable, and who waits for it.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore, watch};

use super::newest::Newest;
use super::open::Opened;
use super::value::{self, damaged};
use super::{Db, record};
use crate::store::backend::{Counts, DatabaseKey, Uuid};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::stats::{BackendStats, Meter};

/// Reads at a time. While a batch is being applied all of them wait for it: each in a thread of its
/// own, of which the allocator keeps a megabyte or two.
const READS_MAX: usize = 32;
/// Bounds of the time that a flush takes, in microseconds.
const FLUSH_US: &[u64] =
    &[100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000];
/// Bounds of the rows that share a flush.
const GROUP_ROWS: &[u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

/// How far the committer is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Progress {
    /// The last group that is on disk.
    pub(super) durable: u64,
    /// A flush failed.
    pub(super) poisoned: bool,
}

/// A database that a group changes which is not yet on disk.
#[derive(Debug, Clone, Copy)]
struct Unflushed {
    group: u64,
    /// Its counters before the group.
    before: Counts,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) uuid: Uuid,
    pub(super) path: PathBuf,
    /// `None` once closed. Whoever uses the database holds the lock, so that closing waits.
    pub(super) opened: Arc<RwLock<Option<Opened>>>,
    /// Turns of reads on blocking threads.
    pub(super) reads: Arc<Semaphore>,
    pub(super) progress: watch::Sender<Progress>,
    unflushed: Mutex<HashMap<DatabaseKey, Unflushed>>,
    destroyed: Mutex<KeySet>,
    watches: Mutex<HashMap<DatabaseKey, watch::Sender<u64>>>,
    /// Held while a directory for attachments is made.
    pub(super) making_dirs: Mutex<()>,
    pub(super) newest: Newest,
    flush_us: Meter,
    group_rows: Meter,
    #[cfg(test)]
    pub(super) fail_next_flush: std::sync::atomic::AtomicBool,
}

/// Every change under these locks is one call to a map, so a panic elsewhere leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(uuid: Uuid, path: PathBuf, opened: Opened) -> Self {
        Self {
            uuid,
            path,
            opened: Arc::new(RwLock::new(Some(opened))),
            reads: Arc::new(Semaphore::new(READS_MAX)),
            progress: watch::Sender::default(),
            unflushed: Mutex::default(),
            destroyed: Mutex::default(),
            watches: Mutex::default(),
            making_dirs: Mutex::default(),
            newest: Newest::default(),
            flush_us: Meter::new(FLUSH_US),
            group_rows: Meter::new(GROUP_ROWS),
            #[cfg(test)]
            fail_next_flush: std::sync::atomic::AtomicBool::default(),
        }
    }

    /// Stands for a disk that refuses.
    #[cfg(test)]
    pub(super) fn flush_fails(&self) -> Result<(), StoreError> {
        if self.fail_next_flush.swap(false, std::sync::atomic::Ordering::SeqCst) {
            let source = std::io::Error::other("the flush was made to fail");
            return Err(StoreError::Io { doing: "flush to disk", source });
        }
        Ok(())
    }

    /// Called before a group's rows of this database are applied.
    pub(super) fn begin(&self, db: DatabaseKey, group: u64, before: Counts) {
        lock(&self.unflushed).entry(db).or_insert(Unflushed { group, before });
    }

    /// Called when a group is on disk, with the databases that it changed and their update seqs
    /// before and after.
    pub(super) fn finish(
        &self,
        group: u64,
        changed: impl Iterator<Item = (DatabaseKey, [u64; 2])>,
    ) {
        lock(&self.unflushed).clear();
        self.progress.send_modify(|progress| progress.durable = group);
        let watches = lock(&self.watches);
        for (db, [before, seq]) in changed {
            self.newest.note(db, before, seq);
            if let Some(watch) = watches.get(&db) {
                watch.send_replace(seq);
            }
        }
    }

    pub(super) fn poison(&self) {
        self.progress.send_modify(|progress| progress.poisoned = true);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.progress.borrow().poisoned
    }

    /// Takes note of a flush of so many rows.
    pub(super) fn flushed(&self, rows: usize, took: Duration) {
        self.flush_us.record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        self.group_rows.record(rows as u64);
    }

    pub(super) fn stats(&self) -> BackendStats {
        BackendStats {
            poisoned: self.is_poisoned(),
            flush_us: self.flush_us.spread(),
            group_rows: self.group_rows.spread(),
        }
    }

    /// The group that must be on disk before a page of this database is complete.
    pub(super) fn unflushed_group(&self, db: DatabaseKey) -> Option<u64> {
        lock(&self.unflushed).get(&db).map(|unflushed| unflushed.group)
    }

    /// A database's counters as they are on disk.
    pub(super) fn durable_counts(&self, sled: &Db, db: DatabaseKey) -> Result<Counts, StoreError> {
        if self.is_destroyed(db) {
            return Ok(Counts::default());
        }
        // The row first: a group that begins after this read has not changed what was read, and
        // one that began before it is either still in the map or on disk.
        let row = read_counts(sled, db)?;
        Ok(lock(&self.unflushed).get(&db).map_or(row, |unflushed| unflushed.before))
    }

    pub(super) fn destroy(&self, db: DatabaseKey) {
        lock(&self.destroyed).insert(db);
        lock(&self.watches).remove(&db);
    }

    pub(super) fn is_destroyed(&self, db: DatabaseKey) -> bool {
        lock(&self.destroyed).contains(db)
    }

    pub(super) fn watch(&self, db: DatabaseKey) -> watch::Receiver<u64> {
        let opened = self.opened.try_read();
        let sled = opened.as_ref().ok().and_then(|opened| opened.as_ref());
        let mut watches = lock(&self.watches);
        if let Some(watch) = watches.get(&db) {
            return watch.subscribe();
        }
        // Read under the lock, so that a group that ends meanwhile tells its seq afterwards.
        let seq = sled.and_then(|opened| self.durable_counts(&opened.db, db).ok());
        let (watch, receiver) = watch::channel(seq.unwrap_or_default().update_seq);
        if sled.is_some() && !self.is_destroyed(db) {
            if watches.len() == watches.capacity() {
                watches.retain(|_, watch| watch.receiver_count() > 0);
            }
            watches.insert(db, watch);
        }
        receiver
    }

    /// Ends all watches.
    pub(super) fn close_watches(&self) {
        lock(&self.watches).clear();
    }
}

pub(super) fn read_counts(sled: &Db, db: DatabaseKey) -> Result<Counts, StoreError> {
    let key = keys::counts(db);
    match value::get(sled, &key)? {
        None => Ok(Counts::default()),
        Some(row) => record::decode_counts(&row).ok_or_else(|| damaged(&key, "is malformed")),
    }
}

/// Keys of destroyed databases, as ranges: a process that makes and destroys databases all day
/// destroys them nearly in the order they were made.
#[derive(Debug, Default)]
struct KeySet {
    /// First key to last key.
    ranges: BTreeMap<u32, u32>,
}

impl KeySet {
    fn contains(&self, key: DatabaseKey) -> bool {
        self.ranges.range(..=key.0).next_back().is_some_and(|(_, last)| key.0 <= *last)
    }

    fn insert(&mut self, DatabaseKey(key): DatabaseKey) {
        if self.contains(DatabaseKey(key)) {
            return;
        }
        let before = self.ranges.range(..key).next_back().map(|(first, last)| (*first, *last));
        let first = before.filter(|(_, last)| last + 1 == key).map_or(key, |(first, _)| first);
        let last = key.checked_add(1).and_then(|next| self.ranges.remove(&next)).unwrap_or(key);
        self.ranges.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_keys_become_one_range() {
        let mut set = KeySet::default();
        for key in [5, 3, 7, 4, 6, 5, u32::MAX, 1] {
            assert!(key == 5 && set.contains(DatabaseKey(5)) || !set.contains(DatabaseKey(key)));
            set.insert(DatabaseKey(key));
            assert!(set.contains(DatabaseKey(key)));
        }
        let ranges: Vec<(u32, u32)> = set.ranges.clone().into_iter().collect();
        assert_eq!(ranges, [(1, 1), (3, 7), (u32::MAX, u32::MAX)]);
        assert!(!set.contains(DatabaseKey(2)) && !set.contains(DatabaseKey(8)));
    }
}
