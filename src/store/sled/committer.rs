//! The one thread that writes: it drains a queue in groups, each ended by one flush.
//!
//! There is no timer. Whatever arrived while the last flush ran is the next group, so a lone
//! writer waits for nobody and many writers share a flush. Within a group documents gather in a
//! batch of at most [`COMMIT_DOCS_ATOMIC_MAX`], which is applied when it is full, when a request
//! touches a row that it holds, and at the end. Requests are answered after the flush.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, error::TryRecvError};

use super::maintain::Sweeps;
use super::mark::Mark;
use super::merge::{self, StoredState};
use super::open::{DataFile, doing};
use super::request::{Answer, DocWrite, LocalWrite, Request};
use super::room::Room;
use super::shared::{Shared, read_counts};
use super::sweep::{self, Swept};
use super::value::{self, SEGMENT_BYTES, Writes};
use super::{Db, reads, record};
use crate::doc::DbName;
use crate::store::backend::{
    COMMIT_DOCS_ATOMIC_MAX, Commit, Counts, DatabaseKey, DatabaseRecord, Grouping, LocalOutcome,
    StoredDoc, Uuid,
};
use crate::store::error::StoreError;
use crate::store::keys;

/// A group takes no further request after this many documents, so that the first is answered.
const GROUP_DOCS_MAX: usize = 10_000;
/// A batch takes no further request after this many bytes, and before batches of more bytes are
/// applied, those before are brought to the disk: where sled's log grew by more than a segment, a
/// power loss may leave a later segment and not the one before, which sled does not notice.
const BATCH_BYTES_MAX: usize = SEGMENT_BYTES / 4;
/// A batch of no more bytes, as the last of a group may be, is left to the sync that follows.
const SMALL_BATCH_BYTES: usize = 4 * 1024;

/// Answers a request when its group is on disk, or failed.
type Acknowledge = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// A database's counters within a group.
pub(super) struct GroupCounts {
    before: Counts,
    pub(super) now: Counts,
    /// Changed since the last batch was applied.
    pub(super) pending: bool,
}

pub(super) struct Committer {
    pub(super) db: Db,
    data: DataFile,
    mark: Mark,
    pub(super) room: Room,
    pub(super) shared: Arc<Shared>,
    last_key: u32,
    /// Destroyed databases whose rows are still there.
    sweeping: VecDeque<DatabaseKey>,

    group: u64,
    group_docs: usize,
    counts: HashMap<DatabaseKey, GroupCounts>,
    destroyed: Vec<DatabaseKey>,
    acknowledge: Vec<Acknowledge>,

    pub(super) batch: Writes,
    batch_docs: usize,
    /// By how much the log has grown since the last sync, about.
    unsynced_bytes: usize,
    /// How long the group's syncs have taken.
    syncing: Duration,
    pub(super) sweeps: Sweeps,
    /// Rows that the batch changes and that a request may have to look at.
    touched: HashSet<Vec<u8>>,
}

impl Committer {
    pub(super) fn new(
        db: Db,
        data: DataFile,
        mark: Mark,
        shared: Arc<Shared>,
    ) -> Result<Self, StoreError> {
        let last_key = read_last_key(&db)?;
        let sweeping = sweep::unfinished(&db)?;
        sweeping.iter().for_each(|key| shared.destroy(*key));
        Ok(Self {
            db,
            data,
            room: Room::new(shared.path.clone()),
            shared,
            last_key,
            sweeping,
            group: mark.reached() + 1,
            mark,
            group_docs: 0,
            counts: HashMap::new(),
            destroyed: Vec::new(),
            acknowledge: Vec::new(),
            batch: Writes::default(),
            batch_docs: 0,
            unsynced_bytes: 0,
            syncing: Duration::ZERO,
            sweeps: Sweeps::default(),
            touched: HashSet::new(),
        })
    }

    /// Runs until the last sender is gone and everything that was sent is on disk.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(first) = self.next(&mut queue) {
            self.handle(first);
            while self.group_docs < GROUP_DOCS_MAX {
                let Ok(request) = queue.try_recv() else { break };
                self.handle(request);
            }
            self.end_group();
        }
    }

    /// Waits for the next request; meanwhile removes what destroyed databases left.
    fn next(&mut self, queue: &mut mpsc::Receiver<Request>) -> Option<Request> {
        while let Some(&db) = self.sweeping.front() {
            match queue.try_recv() {
                Ok(request) => return Some(request),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            let step = sweep::step(&self.db, &self.shared.path, db);
            let step = step.and_then(|(writes, swept)| self.apply_writes(writes).map(|()| swept));
            match step {
                Ok(Swept::Partly) => {}
                Ok(Swept::Whole) => {
                    self.sweeping.pop_front();
                }
                Err(error) => {
                    tracing::error!(%error, database = db.0, "removing a destroyed database failed");
                    self.sweeping.clear();
                }
            }
        }
        queue.blocking_recv()
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Commit { db, docs, grouping, answer } => match self.commit(db, docs, grouping)
            {
                Ok(Commit::Done(seqs)) => self.answer_later(answer, Commit::Done(seqs)),
                other => answer_now(answer, other),
            },
            Request::Local { db, local, answer } => match self.commit_local(db, local) {
                Ok(LocalOutcome::Done) => self.answer_later(answer, LocalOutcome::Done),
                other => answer_now(answer, other),
            },
            Request::Create { name, incarnation, answer } => {
                let created = self.create(name, incarnation);
                self.answer_flushed(answer, created);
            }
            Request::Destroy { name, answer } => {
                let destroyed = self.destroy(name);
                self.answer_flushed(answer, destroyed);
            }
            Request::Compact { db, ids, answer } => {
                let compacted = self.compact(db, ids);
                self.answer_flushed(answer, compacted);
            }
            Request::Purge { db, docs, answer } => match self.purge(db, docs) {
                Ok(Commit::Done(seqs)) => self.answer_later(answer, Commit::Done(seqs)),
                other => answer_now(answer, other),
            },
            Request::Row { db, key, value, answer } => {
                let committed = self.commit_row(db, key, &value);
                self.answer_flushed(answer, committed);
            }
            Request::Index { db, commit, answer } => {
                let committed = self.commit_index(db, &commit);
                answer_now(answer, committed);
            }
            Request::RemoveIndex { db, index, answer } => {
                let removed = self.remove_index(db, index);
                answer_now(answer, removed);
            }
            Request::Snapshot { db, since, limit, answer } => {
                let snapshot = self.snapshot(db, since, limit);
                self.answer_flushed(answer, snapshot);
            }
            Request::ForgetGroups { db, lasts, answer } => {
                let forgotten = self.forget_groups(db, lasts);
                self.answer_flushed(answer, forgotten);
            }
            Request::BeginSweep { db, sweep, answer } => {
                answer_now(answer, self.begin_sweep(db, sweep));
            }
            Request::SweepBlobs { db, keys, answer } => {
                let swept = self.sweep_blobs(db, keys);
                self.answer_flushed(answer, swept);
            }
        }
    }

    fn answer_flushed<T: Send + 'static>(
        &mut self,
        answer: Answer<T>,
        result: Result<T, StoreError>,
    ) {
        match result {
            Ok(value) => self.answer_later(answer, value),
            Err(error) => answer_now(answer, Err(error)),
        }
    }

    fn answer_later<T: Send + 'static>(&mut self, answer: Answer<T>, value: T) {
        self.acknowledge.push(Box::new(move |flushed| answer_now(answer, flushed.map(|()| value))));
    }

    fn commit(
        &mut self,
        db: DatabaseKey,
        docs: Vec<DocWrite>,
        grouping: Grouping,
    ) -> Result<Commit, StoreError> {
        self.check_writable(Some(db))?;
        let group = match grouping {
            Grouping::Together if docs.len() > 1 => {
                Some(record::group(docs.iter().map(|doc| doc.seq_row.as_slice())))
            }
            Grouping::Together | Grouping::Apart => None,
        };
        let beside = group.as_ref().map_or(0, Vec::len);
        self.room.take(docs.iter().map(DocWrite::bytes).sum::<usize>() + beside)?;
        self.see(docs.iter().map(|doc| &doc.key))?;
        let mut stored = Vec::with_capacity(docs.len());
        let mut stale: Vec<(usize, Option<StoredDoc>)> = Vec::new();
        for (place, doc) in docs.iter().enumerate() {
            let state = StoredState::read(&self.db, &doc.key)?;
            let version = state.as_ref().map(|state| state.version).unwrap_or_default();
            if version == doc.expected {
                stored.push(state);
            } else {
                let there = state.map(|state| state.into_doc(&self.db, db, &doc.id));
                stale.push((place, there.transpose()?));
            }
        }
        if !stale.is_empty() {
            return Ok(Commit::Stale(stale));
        }
        let lacking = self.without_blobs(db, &docs)?;
        if !lacking.is_empty() {
            return Ok(Commit::BlobsMissing(lacking));
        }
        self.load_counts(db)?;
        let atomic = docs.len() <= COMMIT_DOCS_ATOMIC_MAX;
        if atomic {
            self.make_room(docs.len())?;
        }
        let mut seqs = Vec::with_capacity(docs.len());
        for (doc, stored) in docs.into_iter().zip(stored) {
            if !atomic && self.batch_is_full() {
                self.apply()?;
            }
            seqs.push(self.write(db, doc, stored)?);
        }
        if let (Some(group), Some(&last)) = (group, seqs.last()) {
            self.batch.insert_value(&keys::together(db, last), &group);
        }
        if self.batch_is_full() {
            self.apply()?;
        }
        Ok(Commit::Done(seqs))
    }

    /// Begins another batch if this one has no room for so many documents.
    pub(super) fn make_room(&mut self, docs: usize) -> Result<(), StoreError> {
        if self.batch_docs + docs > COMMIT_DOCS_ATOMIC_MAX { self.apply() } else { Ok(()) }
    }

    pub(super) fn counts_mut(&mut self, db: DatabaseKey) -> &mut GroupCounts {
        self.counts.get_mut(&db).expect("they are loaded before the first write")
    }

    /// A database's counters, with what the group changed.
    pub(super) fn counts_now(&self, db: DatabaseKey) -> Result<Counts, StoreError> {
        self.counts.get(&db).map_or_else(|| read_counts(&self.db, db), |counts| Ok(counts.now))
    }

    /// Counts rows that were applied without a batch of the group's.
    pub(super) fn count_applied(&mut self, rows: usize) {
        self.group_docs += rows;
    }

    fn batch_is_full(&self) -> bool {
        self.batch_docs >= COMMIT_DOCS_ATOMIC_MAX || self.batch.log_bytes() >= BATCH_BYTES_MAX
    }

    fn write(
        &mut self,
        db: DatabaseKey,
        doc: DocWrite,
        stored: Option<StoredState>,
    ) -> Result<u64, StoreError> {
        self.sweeps.note(db, &doc);
        let counts = self.counts_mut(db);
        let seq = counts.now.update_seq + 1;
        let old = stored.as_ref().map(|stored| stored.tally);
        self.batch_docs += 1;
        self.group_docs += 1;
        // From here on seqs are given out, and a request that fails in the middle cannot be undone.
        let written = merge::write(&self.db, &mut self.batch, db, seq, &doc, stored);
        let uncounted = written.inspect_err(|_| self.shared.poison())?;
        let counts = self.counts_mut(db);
        counts.now.change(old, doc.tally.with_older(uncounted));
        counts.pending = true;
        self.touched.insert(doc.key);
        Ok(seq)
    }

    fn commit_local(
        &mut self,
        db: DatabaseKey,
        local: LocalWrite,
    ) -> Result<LocalOutcome, StoreError> {
        self.check_writable(Some(db))?;
        self.room.take(local.key.len() + local.value.as_ref().map_or(0, Vec::len))?;
        self.see(std::iter::once(&local.key))?;
        let old = value::get(&self.db, &local.key)?;
        let there = match &old {
            Some(old) => value::complete(&self.db, &local.key, old.clone())?,
            None => None,
        };
        let decode = |content: value::Content| {
            let decoded = record::decode_local(&content);
            decoded.ok_or_else(|| value::damaged(&local.key, "is malformed"))
        };
        let there = there.map(decode).transpose()?;
        if there.as_ref().map(|(rev, _)| *rev) != local.expected {
            return Ok(LocalOutcome::Stale(there));
        }
        if let Some(old) = &old {
            self.batch.remove_value(&local.key, old);
        }
        if let Some(value) = &local.value {
            self.batch.insert_value(&local.key, value);
        }
        self.row_done(local.key)?;
        Ok(LocalOutcome::Done)
    }

    fn create(&mut self, name: DbName, incarnation: Uuid) -> Result<DatabaseRecord, StoreError> {
        self.check_writable(None)?;
        let row = keys::name(&name);
        self.room.take(row.len())?;
        self.see(std::iter::once(&row))?;
        if reads::database(&self.db, &name)?.is_some() {
            return Err(StoreError::DatabaseExists { name });
        }
        let too_many = StoreError::TooLarge {
            what: "databases ever made",
            count: 1 << 32,
            max: (1 << 32) - 1,
        };
        self.last_key = self.last_key.checked_add(1).ok_or(too_many)?;
        let key = DatabaseKey(self.last_key);
        self.batch.insert(&row, &record::database(key, incarnation));
        self.batch.insert(&keys::last_key(), &self.last_key.to_be_bytes());
        self.row_done(row)?;
        Ok(DatabaseRecord { key, name, incarnation })
    }

    fn destroy(&mut self, name: DbName) -> Result<(), StoreError> {
        self.check_writable(None)?;
        let row = keys::name(&name);
        self.see(std::iter::once(&row))?;
        let Some(record) = reads::database(&self.db, &name)? else {
            return Err(StoreError::DatabaseMissing { name });
        };
        self.batch.remove(&row);
        self.batch.insert(&keys::swept(record.key), &[]);
        self.shared.destroy(record.key);
        self.destroyed.push(record.key);
        self.row_done(row)
    }

    /// Counts a row beside documents.
    pub(super) fn row_done(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.count_row(key);
        if self.batch_is_full() { self.apply() } else { Ok(()) }
    }

    pub(super) fn count_row(&mut self, key: Vec<u8>) {
        self.touched.insert(key);
        self.batch_docs += 1;
        self.group_docs += 1;
    }

    pub(super) fn check_writable(&self, db: Option<DatabaseKey>) -> Result<(), StoreError> {
        if self.shared.is_poisoned() {
            return Err(StoreError::Poisoned);
        }
        match db {
            Some(db) if self.shared.is_destroyed(db) => Err(StoreError::DatabaseGone),
            _ => Ok(()),
        }
    }

    /// Makes what the batch holds for these rows visible to reads.
    pub(super) fn see<'k>(
        &mut self,
        mut keys: impl Iterator<Item = &'k Vec<u8>>,
    ) -> Result<(), StoreError> {
        if keys.any(|key| self.touched.contains(key)) { self.apply() } else { Ok(()) }
    }

    pub(super) fn load_counts(&mut self, db: DatabaseKey) -> Result<(), StoreError> {
        if !self.counts.contains_key(&db) {
            let now = read_counts(&self.db, db)?;
            self.counts.insert(db, GroupCounts { before: now, now, pending: false });
        }
        Ok(())
    }

    pub(super) fn apply(&mut self) -> Result<(), StoreError> {
        let mut batch = std::mem::take(&mut self.batch);
        for (&db, counts) in self.counts.iter_mut().filter(|(_, counts)| counts.pending) {
            batch.insert(&keys::counts(db), &record::counts(&counts.now));
            self.shared.begin(db, self.group, counts.before);
            counts.pending = false;
        }
        self.batch_docs = 0;
        self.touched.clear();
        self.apply_writes(batch)
    }

    /// Applies writes, before which earlier ones are brought to the disk if there are many.
    pub(super) fn apply_writes(&mut self, writes: Writes) -> Result<(), StoreError> {
        let bytes = writes.log_bytes();
        let is_large = bytes > SMALL_BATCH_BYTES && self.unsynced_bytes > 0;
        let sync = is_large && self.unsynced_bytes + bytes > BATCH_BYTES_MAX;
        let synced = if sync { self.sync() } else { Ok(()) };
        self.unsynced_bytes += bytes;
        let applied =
            synced.and_then(|()| self.shared.newest.while_applying(|| writes.apply(&self.db)));
        applied.inspect_err(|_| self.shared.poison())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.unsynced_bytes = 0;
        let began = Instant::now();
        let synced = self.data.flush(&self.db);
        self.syncing += began.elapsed();
        synced
    }

    /// Brings the group to the disk and answers its requests.
    fn end_group(&mut self) {
        let flushed = self.flush_group();
        if flushed.is_ok() {
            let changed = self
                .counts
                .iter()
                .map(|(db, counts)| (*db, [counts.before.update_seq, counts.now.update_seq]));
            self.shared.finish(self.group, changed);
            self.sweeping.extend(self.destroyed.drain(..));
        } else {
            self.shared.poison();
            self.sweeping.clear();
            self.destroyed.clear();
        }
        self.sweeps.end_group(flushed.is_ok());
        self.room.end_group();
        self.group += 1;
        self.group_docs = 0;
        self.counts.clear();
        for acknowledge in self.acknowledge.drain(..) {
            acknowledge(flushed.as_ref().copied().map_err(again));
        }
    }

    fn flush_group(&mut self) -> Result<(), StoreError> {
        if self.shared.is_poisoned() {
            self.batch = Writes::default();
            let source = std::io::Error::other("another write of the same flush failed");
            return Err(StoreError::Io { doing: "write to the database", source });
        }
        if self.acknowledge.is_empty() && self.batch.is_empty() {
            return Ok(());
        }
        // In the last batch of the group, so that it stands for all of them.
        self.batch.insert(&keys::group(), &self.group.to_be_bytes());
        self.apply()?;
        #[cfg(test)]
        self.shared.flush_fails()?;
        self.sync()?;
        self.mark.set(self.group).map_err(doing("write the mark"))?;
        self.shared.flushed(self.group_docs, std::mem::take(&mut self.syncing));
        Ok(())
    }
}

fn answer_now<T>(answer: Answer<T>, value: Result<T, StoreError>) {
    // Whoever no longer waits has dropped the call; the change is made all the same.
    drop(answer.send(value));
}

/// The same failure for another caller.
fn again(error: &StoreError) -> StoreError {
    let (doing, source) = match error {
        StoreError::Io { doing, source } => {
            (*doing, std::io::Error::new(source.kind(), source.to_string()))
        }
        other => ("write to the database", std::io::Error::other(other.to_string())),
    };
    StoreError::Io { doing, source }
}

fn read_last_key(db: &Db) -> Result<u32, StoreError> {
    let key = keys::last_key();
    let Some(value) = value::get(db, &key)? else { return Ok(0) };
    let bytes = value.as_ref().try_into();
    bytes.map(u32::from_be_bytes).map_err(|_| value::damaged(&key, "does not have 4 bytes"))
}
