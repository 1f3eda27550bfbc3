//! Which reads are of what was written last.
//!
//! Those rows are in memory, and a live feed asks for them a few times for each change. Going to
//! another thread and back takes longer than reading them, so they are read where they are asked
//! for. While a batch is being applied sled's reads wait for it: then they go to a blocking thread,
//! as all others do.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::store::backend::DatabaseKey;

/// Groups of writes that count as just written.
const GROUPS: usize = 64;

/// Changes that one read may be of.
const CHANGES_MAX: u64 = 16;

#[derive(Debug, Clone, Copy)]
struct Written {
    db: DatabaseKey,
    /// Its update seqs before and after.
    before: u64,
    reached: u64,
}

#[derive(Debug, Default)]
pub(super) struct Newest {
    written: Mutex<VecDeque<Written>>,
    is_applying: AtomicBool,
}

impl Newest {
    fn written(&self) -> MutexGuard<'_, VecDeque<Written>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `apply`, which sled's reads wait for.
    pub(super) fn while_applying<R>(&self, apply: impl FnOnce() -> R) -> R {
        self.is_applying.store(true, Ordering::Relaxed);
        let applied = apply();
        self.is_applying.store(false, Ordering::Relaxed);
        applied
    }

    /// Takes note of a database's part in a group that is on disk.
    pub(super) fn note(&self, db: DatabaseKey, before: u64, reached: u64) {
        let mut written = self.written();
        written.truncate(GROUPS - 1);
        written.push_front(Written { db, before, reached });
    }

    /// Whether a database's counters are at hand.
    pub(super) fn has_counts(&self, db: DatabaseKey) -> bool {
        !self.is_applying.load(Ordering::Relaxed)
            && self.written().iter().any(|written| written.db == db)
    }

    /// Whether the changes after a place are at hand, and few.
    pub(super) fn has_changes(&self, db: DatabaseKey, since: u64) -> bool {
        if self.is_applying.load(Ordering::Relaxed) {
            return false;
        }
        let written = self.written();
        let mut groups = written.iter().filter(|written| written.db == db).peekable();
        let is_near = |newest: &&Written| newest.reached.saturating_sub(since) <= CHANGES_MAX;
        groups.peek().is_some_and(is_near) && groups.any(|group| group.before <= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB: DatabaseKey = DatabaseKey(1);

    #[test]
    fn a_few_changes_of_the_last_groups_are_at_hand() {
        let newest = Newest::default();
        assert!(!newest.has_changes(DB, 0) && !newest.has_counts(DB));
        newest.note(DB, 100, 101);
        newest.note(DB, 101, 103);
        assert!(newest.has_counts(DB) && !newest.has_counts(DatabaseKey(2)));
        assert!([100, 101, 102, 103].iter().all(|since| newest.has_changes(DB, *since)));
        assert!(!newest.has_changes(DB, 99), "what was there before may be on disk alone");
        assert!(!newest.has_changes(DatabaseKey(2), 100));
        newest.note(DB, 103, 103 + CHANGES_MAX);
        assert!(newest.has_changes(DB, 103) && !newest.has_changes(DB, 102));
    }

    #[test]
    fn nothing_is_at_hand_while_a_batch_is_applied() {
        let newest = Newest::default();
        newest.note(DB, 0, 1);
        newest.while_applying(|| assert!(!newest.has_changes(DB, 0) && !newest.has_counts(DB)));
        assert!(newest.has_changes(DB, 0) && newest.has_counts(DB));
    }

    #[test]
    fn only_so_many_groups_are_remembered() {
        let newest = Newest::default();
        newest.note(DB, 0, 1);
        (0..GROUPS as u64).for_each(|n| newest.note(DatabaseKey(2), n, n + 1));
        assert!(!newest.has_counts(DB));
        assert_eq!(newest.written().len(), GROUPS);
    }
}
