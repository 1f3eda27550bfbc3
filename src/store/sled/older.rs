//! Long histories, kept apart from their documents' rows.
//!
//! A document's row is rewritten with every edit. So the trunk of a long tree goes into rows of
//! its own, [`CHUNK`] generations each, which are written once: the row of a document with a
//! thousand revisions is as short as that of one with a hundred. Chunks lie on fixed generations.
//! Forgetting old revisions raises the first generation that counts, in the document's row; a
//! chunk goes when none of its generations counts.
//!
//! The hard case is a reader beside the committer. A chunk changes only with the document's
//! version, and whoever finds one missing reads the document again.

use std::borrow::Cow;

use super::value::{Writes, damaged, get};
use super::{Db, record};
use crate::doc::varint::Reader;
use crate::doc::{DocId, Rev, RevState, RevTree};
use crate::store::backend::{DatabaseKey, Older, OlderCommit};
use crate::store::error::StoreError;
use crate::store::keys;

/// Generations of a row.
const CHUNK: u64 = 64;
/// Generations of the trunk that stay with the document at least.
const RECENT: usize = 64;

fn number_of(generation: u64) -> u64 {
    (generation - 1) / CHUNK
}

fn numbers(older: Older) -> std::ops::Range<u64> {
    if older.is_empty() { 0..0 } else { number_of(older.first)..number_of(older.top) + 1 }
}

/// What a change makes of a document's older revisions.
#[derive(Debug)]
pub(super) struct OlderWrite {
    /// What stays of the rows that are there.
    base: Older,
    /// Whether the bytes of `base` must be found by looking at what is forgotten.
    forgets: bool,
    /// What is kept apart after the change.
    after: Older,
    /// New rows by number.
    rows: Vec<(u64, Vec<u8>)>,
}

impl OlderWrite {
    /// Lays a tree out: what goes to rows of its own, and what stays with the document.
    pub(super) fn new(tree: &RevTree, commit: OlderCommit) -> (Self, Cow<'_, RevTree>) {
        let (mut base, forgets, rest) = match commit {
            OlderCommit::Left(left) => (left, true, Cow::Borrowed(tree)),
            OlderCommit::Same(same) if same.is_empty() => (same, false, Cow::Borrowed(tree)),
            OlderCommit::Same(same) => {
                let (trunk, rest) = tree.split_trunk(same.top);
                (Older { body_bytes: bytes_of(&trunk), ..same }, false, Cow::Owned(rest))
            }
        };
        if base.is_empty() {
            base = Older::default();
        }
        let mut after = base;
        let (first, trunk) = (rest.first_generation(), rest.trunk_len());
        let top = (first + trunk.saturating_sub(RECENT) as u64).saturating_sub(1) / CHUNK * CHUNK;
        // Not before a whole row is full, so that most edits write none.
        if trunk < RECENT + CHUNK as usize || top < first {
            return (Self { base, forgets, after, rows: Vec::new() }, rest);
        }
        let (moved, rest) = rest.split_trunk(top);
        if base.is_empty() {
            after.first = first;
        }
        after.top = top;
        after.body_bytes += bytes_of(&moved);
        (Self { base, forgets, after, rows: rows_of(&moved) }, Cow::Owned(rest))
    }

    /// Puts the change into the batch; answers what is kept apart then, and the bytes of the bodies
    /// among it that the commit's tree does not count.
    pub(super) fn write(
        &self,
        db: &Db,
        batch: &mut Writes,
        database: DatabaseKey,
        id: &DocId,
        stored: Older,
    ) -> Result<(Older, u64), StoreError> {
        let (mut after, mut uncounted) = (self.after, 0);
        if self.forgets {
            let stays_from = if self.base.is_empty() { stored.top + 1 } else { self.base.first };
            let forgotten = Older { top: stays_from.saturating_sub(1), ..stored };
            let bytes = forget_bodies(db, batch, database, id, forgotten)?;
            uncounted = stored.body_bytes.saturating_sub(bytes);
            // What the base was told to have is what it had before.
            let moved = after.body_bytes.saturating_sub(self.base.body_bytes);
            after.body_bytes = uncounted + moved;
        }
        let stays = numbers(self.base);
        for number in numbers(stored).filter(|number| !stays.contains(number)) {
            batch.remove(&keys::older(database, id, number));
        }
        for (number, row) in &self.rows {
            batch.insert(&keys::older(database, id, *number), row);
        }
        Ok((if after.is_empty() { Older::default() } else { after }, uncounted))
    }
}

/// Revisions as rows by number.
fn rows_of(revs: &[(Rev, RevState)]) -> Vec<(u64, Vec<u8>)> {
    let number = |(rev, _): &(Rev, RevState)| number_of(rev.generation());
    let chunks = revs.chunk_by(|a, b| number(a) == number(b));
    chunks.map(|chunk| (number(&chunk[0]), encode(chunk))).collect()
}

fn bytes_of(revs: &[(Rev, RevState)]) -> u64 {
    revs.iter().filter_map(|(_, state)| state.body_bytes).map(u64::from).sum()
}

/// Removes the bodies of revisions that are forgotten; answers their bytes.
fn forget_bodies(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    id: &DocId,
    forgotten: Older,
) -> Result<u64, StoreError> {
    if forgotten.is_empty() || forgotten.body_bytes == 0 {
        return Ok(0);
    }
    let revs = must_read(db, database, id, forgotten)?;
    for (rev, _) in revs.iter().filter(|(_, state)| state.body_bytes.is_some()) {
        super::merge::remove_body(db, batch, database, id, rev)?;
    }
    Ok(bytes_of(&revs))
}

/// Removes the stored bodies of all that is kept apart; answers how many there were.
pub(super) fn compact(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    id: &DocId,
    older: &mut Older,
) -> Result<u64, StoreError> {
    if older.is_empty() || older.body_bytes == 0 {
        return Ok(0);
    }
    let mut revs = must_read(db, database, id, *older)?;
    let mut bodies = 0;
    for (rev, state) in revs.iter_mut().filter(|(_, state)| state.body_bytes.is_some()) {
        super::merge::remove_body(db, batch, database, id, rev)?;
        state.body_bytes = None;
        bodies += 1;
    }
    for (number, row) in rows_of(&revs) {
        batch.insert(&keys::older(database, id, number), &row);
    }
    older.body_bytes = 0;
    Ok(bodies)
}

/// Removes all rows.
pub(super) fn remove(batch: &mut Writes, database: DatabaseKey, id: &DocId, older: Older) {
    for number in numbers(older) {
        batch.remove(&keys::older(database, id, number));
    }
}

/// The revisions that are kept apart, the oldest first; `None` if a row is not there.
pub(super) fn read(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    older: Older,
) -> Result<Option<Vec<(Rev, RevState)>>, StoreError> {
    let mut revs = Vec::new();
    for number in numbers(older) {
        let key = keys::older(database, id, number);
        let Some(row) = get(db, &key)? else { return Ok(None) };
        revs.extend(decode(&row).ok_or_else(|| damaged(&key, "is malformed"))?);
    }
    revs.retain(|(rev, _)| (older.first..=older.top).contains(&rev.generation()));
    Ok((revs.len() as u64 == older.top + 1 - older.first).then_some(revs))
}

/// The same for the committer, beside which nothing changes.
fn must_read(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    older: Older,
) -> Result<Vec<(Rev, RevState)>, StoreError> {
    if older.is_empty() {
        return Ok(Vec::new());
    }
    let missing = || damaged(&keys::doc(database, id), "names older revisions that are not there");
    read(db, database, id, older)?.ok_or_else(missing)
}

/// A document's whole tree, for the committer.
pub(super) fn whole(
    db: &Db,
    database: DatabaseKey,
    id: &DocId,
    older: Older,
    recent: RevTree,
) -> Result<RevTree, StoreError> {
    if older.is_empty() {
        return Ok(recent);
    }
    let trunk = must_read(db, database, id, older)?;
    RevTree::with_trunk(trunk, &recent).ok_or_else(|| unfit(database, id))
}

/// Says that a document and its older revisions are not of one tree.
pub(super) fn unfit(database: DatabaseKey, id: &DocId) -> StoreError {
    damaged(&keys::doc(database, id), "does not fit its older revisions")
}

/// A row: the first generation, then each revision as a flag byte, its hash, and the length of its
/// body if one is stored.
fn encode(chunk: &[(Rev, RevState)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + 20 * chunk.len());
    crate::doc::varint::push(&mut out, chunk[0].0.generation());
    for (rev, state) in chunk {
        record::push_older_rev(&mut out, rev, *state);
    }
    out
}

fn decode(row: &[u8]) -> Option<Vec<(Rev, RevState)>> {
    let mut reader = Reader(row);
    let first = reader.varint()?;
    let mut revs = Vec::new();
    while !reader.0.is_empty() {
        let generation = first.checked_add(revs.len() as u64)?;
        revs.push(record::read_older_rev(&mut reader, generation)?);
    }
    Some(revs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc::{RevHash, RevPath};
    use proptest::prelude::*;

    fn chain(from: u64, to: u64) -> RevTree {
        let hashes = (from..=to).rev().map(|n| RevHash::parse(&format!("r{n}")).expect("a hash"));
        let path = RevPath::new(to, hashes.collect()).expect("a path");
        RevTree::from_path(&path, RevState { deleted: false, body_bytes: Some(9) })
    }

    #[test]
    fn rows_come_back() {
        let tree = chain(60, 200);
        let (write, rest) = OlderWrite::new(&tree, OlderCommit::default());
        assert_eq!(write.after, Older { first: 60, top: 128, body_bytes: 0 });
        assert_eq!(rest.first_generation(), 129);
        let revs: Vec<_> =
            write.rows.iter().flat_map(|(_, row)| decode(row).expect("whole")).collect();
        assert_eq!(write.rows.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(RevTree::with_trunk(revs, &rest), Some(tree));
    }

    #[test]
    fn cut_rows_are_refused() {
        let (write, _) = OlderWrite::new(&chain(1, 200), OlderCommit::default());
        let (_, row) = &write.rows[0];
        let whole = decode(row).expect("whole").len();
        for end in 0..row.len() {
            assert!(decode(&row[..end]).is_none_or(|revs| revs.len() < whole), "{end}");
        }
    }

    #[test]
    fn few_edits_write_a_row() {
        let (write, _) = OlderWrite::new(&chain(1, 1000), OlderCommit::default());
        let mut older = write.after;
        let mut written = 0;
        for newest in 1001..2001 {
            let tree = chain(older.top + 1, newest);
            let (write, rest) = OlderWrite::new(&tree, OlderCommit::Left(older));
            written += write.rows.len();
            older = write.after;
            assert!(rest.len() <= RECENT + CHUNK as usize + 1, "{}", rest.len());
            assert!(rest.len() >= RECENT);
        }
        assert!(written <= 1000 / CHUNK as usize + 1, "{written}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_decodes_is_what_it_encodes_to(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            arbitrary in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        ) {
            let (write, _) = OlderWrite::new(&chain(1, 200), OlderCommit::default());
            let mut row = arbitrary.unwrap_or_else(|| write.rows[0].1.clone());
            if !row.is_empty() {
                damage.into_iter().for_each(|(at, byte)| *at.get_mut(&mut row) = byte);
            }
            if let Some(revs) = decode(&row).filter(|revs| !revs.is_empty()) {
                prop_assert_eq!(encode(&revs), row);
            }
        }
    }
}
