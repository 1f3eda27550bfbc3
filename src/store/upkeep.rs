//! What maintenance remembers of a database, in one row: when it was how far, and what its attachments
//! took after they were last swept. Whoever writes it holds `removing`, so one writes at a time.

use super::database::Database;
use super::error::StoreError;
use crate::doc::varint::{self, Reader};

/// Marks that are kept for a database.
const MARKS_MAX: usize = 512;

/// The row.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Upkeep {
    /// How old changes are.
    pub marks: Marks,
    /// Bytes of attachments that were left when those went that nothing names; 0 if never.
    pub swept_bytes: u64,
}

impl Database {
    pub(super) async fn upkeep(&self) -> Result<Upkeep, StoreError> {
        let Some(row) = self.backend().notes(self.key()).await? else {
            return Ok(Upkeep::default());
        };
        Upkeep::decode(&row).ok_or_else(|| StoreError::Damaged {
            what: format!("the notes of {} are malformed", self.name()),
        })
    }

    /// On return it is on disk.
    pub(super) async fn set_upkeep(&self, upkeep: &Upkeep) -> Result<(), StoreError> {
        self.named(self.backend().commit_notes(self.key(), upkeep.encode()).await)
    }
}

impl Upkeep {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.swept_bytes > 0 {
            // No mark begins with 0: each is further than the one before.
            varint::push(&mut out, 0);
            varint::push(&mut out, self.swept_bytes);
        }
        self.marks.encode(&mut out);
        out
    }

    fn decode(row: &[u8]) -> Option<Self> {
        let mut reader = Reader(row);
        let mut swept_bytes = 0;
        if row.first() == Some(&0) {
            reader.varint()?;
            swept_bytes = reader.varint()?;
        }
        Some(Self { marks: Marks::decode(&mut reader)?, swept_bytes })
    }
}

/// Seqs that had been reached at a time, in seconds since 1970; both ascend.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Marks(Vec<(u64, u64)>);

impl Marks {
    /// Adds a mark if it says something new. A clock that was set back makes no mark that is older
    /// than the last one.
    pub(super) fn note(&mut self, seq: u64, now_s: u64) -> bool {
        let (last_seq, last_s) = self.0.last().copied().unwrap_or_default();
        if seq <= last_seq {
            return false;
        }
        self.0.push((seq, now_s.max(last_s)));
        if self.0.len() > MARKS_MAX {
            // The older half becomes coarser: what a mark that goes told is told by the next one.
            let mut place = 0;
            self.0.retain(|_| {
                place += 1;
                place > MARKS_MAX / 2 || place % 2 == 0
            });
        }
        true
    }

    /// The last seq that had been reached at this time or before it.
    pub(super) fn reached_before(&self, time_s: u64) -> u64 {
        let before = self.0.iter().rev().find(|(_, at_s)| *at_s <= time_s);
        before.map_or(0, |(seq, _)| *seq)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let mut last = (0, 0);
        for &(seq, at_s) in &self.0 {
            varint::push(out, seq - last.0);
            varint::push(out, at_s - last.1);
            last = (seq, at_s);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let (mut marks, mut last) = (Vec::new(), (0_u64, 0_u64));
        while !reader.0.is_empty() {
            last = (last.0.checked_add(reader.varint()?)?, last.1.checked_add(reader.varint()?)?);
            marks.push(last);
        }
        Some(Self(marks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_make_changes_younger_and_never_older() {
        let mut marks = Marks::default();
        for n in 1..=10_000 {
            assert!(marks.note(10 * n, 1_000 * n));
            assert!(!marks.note(10 * n, 1_000 * n + 1), "nothing has changed");
        }
        assert!(marks.0.len() <= MARKS_MAX, "{}", marks.0.len());
        assert_eq!(marks.reached_before(10_000_000), 100_000);
        assert_eq!(marks.reached_before(0), 0);
        for time in (0..10_000_000).step_by(77_777) {
            assert!(marks.reached_before(time) <= time / 100, "{time}");
        }
        assert!(marks.note(100_001, 5), "a clock that was set back");
        assert_eq!(marks.reached_before(9_999_999), 99_990);
        for swept_bytes in [0, 1, u64::MAX] {
            let upkeep = Upkeep { marks: marks.clone(), swept_bytes };
            assert_eq!(Upkeep::decode(&upkeep.encode()), Some(upkeep));
        }
    }

    #[test]
    fn a_row_is_read_whole_or_not_at_all() {
        let mut marks = Marks::default();
        assert!(marks.note(300, 70_000));
        let upkeep = Upkeep { marks, swept_bytes: 1_000 };
        let row = upkeep.encode();
        assert_eq!(row, [0, 0xe8, 0x07, 0xac, 0x02, 0xf0, 0xa2, 0x04]);
        for length in 0..row.len() {
            let cut = Upkeep::decode(&row[..length]);
            let marks = Marks::default();
            // Nothing at all, and no marks yet, are rows too.
            let whole = match length {
                0 => Some(Upkeep::default()),
                3 => Some(Upkeep { marks, ..upkeep.clone() }),
                _ => None,
            };
            assert_eq!(cut, whole, "{length}");
        }
        assert_eq!(Upkeep::decode(&row), Some(upkeep));
    }
}
