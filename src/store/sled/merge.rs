//! One document's rows: what is there, and what a change makes of it.

use super::record::{self, DocRecord};
use super::request::{DocWrite, PurgeWrite};
use super::value::{Writes, complete, damaged, get};
use super::{Db, older};
use crate::doc::{DocId, Rev, RevTree};
use crate::store::backend::{Compacted, DatabaseKey, Older, ReadTree, StoredDoc, Version};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::tally::Tally;

/// A document as the committer finds it.
pub(super) struct StoredState {
    pub(super) version: Version,
    pub(super) tally: Tally,
    /// Without what is kept apart.
    tree: RevTree,
    older: Older,
    /// The revision whose body is kept in the row, and the body.
    inline: Option<(Rev, Vec<u8>)>,
    seq_in_pieces: bool,
    /// The row's value as it is in sled.
    value: ::sled::IVec,
}

impl StoredState {
    pub(super) fn read(db: &Db, key: &[u8]) -> Result<Option<Self>, StoreError> {
        let Some(value) = get(db, key)? else { return Ok(None) };
        let malformed = || damaged(key, "is malformed");
        let Some(content) = complete(db, key, value.clone())? else { return Ok(None) };
        let record = DocRecord::decode(&content).ok_or_else(malformed)?;
        let winner = record.tree.winner().ok_or_else(malformed)?;
        Ok(Some(Self {
            version: record.version,
            tally: Tally::new(&record.tree, winner.state.deleted)
                .with_older(record.older.body_bytes),
            older: record.older,
            inline: record.inline.map(|body| (winner.rev, body.to_vec())),
            tree: record.tree,
            seq_in_pieces: record.seq_in_pieces,
            value,
        }))
    }

    /// With all revisions, without a body.
    pub(super) fn into_doc(
        self,
        db: &Db,
        database: DatabaseKey,
        id: &DocId,
    ) -> Result<StoredDoc, StoreError> {
        let Self { version, tree, older, .. } = self;
        let tree = older::whole(db, database, id, older, tree)?;
        Ok(StoredDoc { version, tree, read: ReadTree::Whole, older, winner_body: None })
    }

    /// What is written anew when it is changed: its row.
    pub(super) fn bytes(&self) -> usize {
        self.value.len()
    }

    fn has_body(&self, rev: &Rev) -> bool {
        self.tree.state(rev).is_some_and(|state| state.body_bytes.is_some())
    }
}

/// Puts a document's change into the batch. All removes come first, see [`Writes`]. Answers the
/// bytes of old bodies that `doc.tally` does not count.
pub(super) fn write(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    seq: u64,
    doc: &DocWrite,
    stored: Option<StoredState>,
) -> Result<u64, StoreError> {
    let apart = stored.as_ref().map(|stored| stored.older).unwrap_or_default();
    let kept = match stored {
        Some(stored) => remove_old(db, batch, database, doc, stored)?,
        None => None,
    };
    let (older, uncounted) = doc.older.write(db, batch, database, &doc.id, apart)?;
    let mut inline = doc.inline.as_deref();
    if let Some((rev, body)) = &kept {
        if Some(rev) == doc.winner.as_ref() {
            inline = Some(body);
        } else {
            batch.insert_value(&keys::body(database, &doc.id, rev), &record::plain(body));
        }
    }
    for (_, key, value) in &doc.bodies {
        batch.insert_value(key, value);
    }
    for (key, value) in &doc.blobs {
        batch.insert_value(key, value);
    }
    let seq_in_pieces = batch.insert_value(&keys::seq(database, seq), &doc.seq_row);
    let version = Version { seq, edition: 0 };
    let row = record::doc(version, older, &doc.encoded_tree, inline, seq_in_pieces);
    batch.insert_value(&doc.key, &row);
    Ok(uncounted)
}

/// Removes the bodies of revisions that are no leaves; answers what went, and the document's tally
/// after that.
pub(super) fn compact(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    id: &DocId,
    mut stored: StoredState,
) -> Result<(Compacted, Tally), StoreError> {
    let old = stored.tree.old_bodies();
    let mut compacted = Compacted::default();
    for rev in &old {
        let bytes = stored.tree.state(rev).and_then(|state| state.body_bytes);
        compacted.bodies += 1;
        compacted.bytes += bytes.map_or(0, u64::from);
        stored.tree.set_body_bytes(rev, None);
        remove_body(db, batch, database, id, rev)?;
    }
    compacted.bytes += stored.older.body_bytes;
    compacted.bodies += older::compact(db, batch, database, id, &mut stored.older)?;
    let tally = Tally::of(&stored.tree);
    let key = keys::doc(database, id);
    batch.remove_pieces(&key, &stored.value);
    let Version { seq, edition } = stored.version;
    let version = Version { seq, edition: edition.wrapping_add(1) };
    let mut tree = Vec::new();
    stored.tree.encode(&mut tree);
    let inline = stored.inline.as_ref().map(|(_, body)| body.as_slice());
    batch.insert_value(
        &key,
        &record::doc(version, stored.older, &tree, inline, stored.seq_in_pieces),
    );
    Ok((compacted, tally))
}

/// Removes a document, with the bodies of these revisions.
pub(super) fn remove(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    purge: &PurgeWrite,
    stored: &StoredState,
) -> Result<(), StoreError> {
    remove_seq_row(db, batch, database, stored)?;
    older::remove(batch, database, &purge.id, stored.older);
    for rev in &purge.dropped {
        remove_body(db, batch, database, &purge.id, rev)?;
    }
    batch.remove_value(&purge.key, &stored.value);
    Ok(())
}

pub(super) fn remove_body(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    id: &DocId,
    rev: &Rev,
) -> Result<(), StoreError> {
    let key = keys::body(database, id, rev);
    if let Some(old) = get(db, &key)? {
        batch.remove_value(&key, &old);
    }
    Ok(())
}

fn remove_seq_row(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    stored: &StoredState,
) -> Result<(), StoreError> {
    let key = keys::seq(database, stored.version.seq);
    if stored.seq_in_pieces
        && let Some(old) = get(db, &key)?
    {
        batch.remove_pieces(&key, &old);
    }
    batch.remove(&key);
    Ok(())
}

/// Removes the rows that the change replaces. Gives the body that was kept in the document's row
/// if it is still to be kept somewhere.
fn remove_old(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    doc: &DocWrite,
    stored: StoredState,
) -> Result<Option<(Rev, Vec<u8>)>, StoreError> {
    remove_seq_row(db, batch, database, &stored)?;
    batch.remove_pieces(&doc.key, &stored.value);
    let given = doc.bodies.iter().map(|(rev, ..)| rev);
    let given_inline = doc.winner.as_ref().filter(|_| doc.inline.is_some());
    let given_again = given.chain(given_inline).filter(|rev| stored.has_body(rev));
    let mut inline = stored.inline.clone();
    for rev in doc.dropped.iter().chain(given_again) {
        if inline.as_ref().is_some_and(|(kept, _)| kept == rev) {
            inline = None;
            continue;
        }
        remove_body(db, batch, database, &doc.id, rev)?;
    }
    let has_body = |rev: &Rev| doc.tree.state(rev).is_some_and(|state| state.body_bytes.is_some());
    Ok(inline.filter(|(rev, _)| has_body(rev)))
}
