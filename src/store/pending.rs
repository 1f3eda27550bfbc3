//! How many changes follow a place of the feed, without counting them for each page.
//!
//! A client that reads page by page over HTTP opens a feed for each, at the place where the last one
//! ended; counting the rest each time would make reading everything cost its square.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::backend::Counts;
use super::database::Database;
use super::error::StoreError;

/// Readers whose places are remembered.
const PLACES: usize = 8;

/// A count goes on being used until the database has changed by this part of it.
const DRIFT: u64 = 8;

/// Where readers of a database stood last.
#[derive(Debug, Default)]
pub(super) struct PendingCounts {
    places: Mutex<VecDeque<Place>>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    since: u64,
    /// Changes after it, when the counters were these.
    pending: u64,
    counts: Counts,
}

impl Place {
    /// How many follow now. While others write that is an estimate: documents that move behind the
    /// place from before it are left out.
    fn pending(self, now: &Counts) -> Option<u64> {
        if self.counts == *now {
            return Some(self.pending);
        }
        let changed = now.update_seq.checked_sub(self.counts.update_seq)?;
        let is_near = changed <= self.pending / DRIFT && now.purge_seq == self.counts.purge_seq;
        let rows = |counts: &Counts| counts.docs + counts.deleted_docs;
        is_near.then(|| (self.pending + rows(now)).saturating_sub(rows(&self.counts)))
    }
}

impl PendingCounts {
    fn places(&self) -> MutexGuard<'_, VecDeque<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, since: u64, now: &Counts) -> Option<u64> {
        let places = self.places();
        places.iter().find(|place| place.since == since)?.pending(now)
    }

    fn keep(&self, left: u64, place: Place) {
        let mut places = self.places();
        places.retain(|known| known.since != left && known.since != place.since);
        places.truncate(PLACES - 1);
        places.push_front(place);
    }
}

impl Database {
    /// Changes after a place.
    pub(super) async fn pending_after(&self, since: u64, now: &Counts) -> Result<u64, StoreError> {
        let known = &self.shared.pending;
        if let Some(pending) = known.find(since, now) {
            return Ok(pending);
        }
        self.backend().count_changes(self.key(), since).await
    }

    /// Remembers how many changes follow the place to which a reader has come from another.
    pub(super) fn keep_pending(&self, left: u64, since: u64, pending: u64, counts: Counts) {
        self.shared.pending.keep(left, Place { since, pending, counts });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(docs: u64, update_seq: u64) -> Counts {
        Counts { docs, update_seq, ..Counts::default() }
    }

    #[test]
    fn a_place_is_counted_once_while_nothing_changes() {
        let known = PendingCounts::default();
        known.keep(0, Place { since: 100, pending: 900, counts: counts(1_000, 1_000) });
        assert_eq!(known.find(100, &counts(1_000, 1_000)), Some(900));
        assert_eq!(known.find(101, &counts(1_000, 1_000)), None);
    }

    #[test]
    fn a_few_writes_are_added_and_many_are_counted_anew() {
        let known = PendingCounts::default();
        known.keep(0, Place { since: 100, pending: 900, counts: counts(1_000, 1_000) });
        assert_eq!(known.find(100, &counts(1_010, 1_020)), Some(910));
        assert_eq!(known.find(100, &counts(1_900, 1_900)), None);
        let purged = Counts { purge_seq: 1, ..counts(999, 1_000) };
        assert_eq!(known.find(100, &purged), None);
    }

    #[test]
    fn as_many_readers_are_remembered_as_there_is_room_for() {
        let known = PendingCounts::default();
        for since in 0..2 * PLACES as u64 {
            known.keep(1_000, Place { since, pending: since, counts: counts(9, 9) });
        }
        assert_eq!(known.places().len(), PLACES);
        assert_eq!(known.find(2 * PLACES as u64 - 1, &counts(9, 9)), Some(15));
        assert_eq!(known.find(0, &counts(9, 9)), None);
        known.keep(15, Place { since: 99, pending: 1, counts: counts(9, 9) });
        assert_eq!(known.find(15, &counts(9, 9)), None, "its reader has left it");
    }
}
