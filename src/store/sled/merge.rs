//! One document's rows: what is there, and what a change makes of it.

use super::Db;
use super::record::{self, DocRecord};
use super::request::DocWrite;
use super::value::{Writes, complete, damaged, get};
use crate::doc::{DocId, Rev, RevTree};
use crate::store::backend::{Compacted, DatabaseKey, DocPurge, StoredDoc, Version};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::tally::Tally;

/// A document as the committer finds it.
pub(super) struct StoredState {
    pub(super) version: Version,
    pub(super) tally: Tally,
    tree: RevTree,
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
            tally: Tally::new(&record.tree, winner.state.deleted),
            inline: record.inline.map(|body| (winner.rev, body.to_vec())),
            tree: record.tree,
            seq_in_pieces: record.seq_in_pieces,
            value,
        }))
    }

    pub(super) fn into_doc(self) -> StoredDoc {
        StoredDoc { version: self.version, tree: self.tree, winner_body: None }
    }

    fn has_body(&self, rev: &Rev) -> bool {
        self.tree.state(rev).is_some_and(|state| state.body_bytes.is_some())
    }
}

/// Puts a document's change into the batch. All removes come first, see [`Writes`].
pub(super) fn write(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    seq: u64,
    doc: &DocWrite,
    stored: Option<StoredState>,
) -> Result<(), StoreError> {
    let kept = match stored {
        Some(stored) => remove_old(db, batch, database, doc, stored)?,
        None => None,
    };
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
    batch.insert_value(&doc.key, &record::doc(version, &doc.encoded_tree, inline, seq_in_pieces));
    Ok(())
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
    let tally = Tally::of(&stored.tree);
    let key = keys::doc(database, id);
    batch.remove_pieces(&key, &stored.value);
    let Version { seq, edition } = stored.version;
    let version = Version { seq, edition: edition.wrapping_add(1) };
    let mut tree = Vec::new();
    stored.tree.encode(&mut tree);
    let inline = stored.inline.as_ref().map(|(_, body)| body.as_slice());
    batch.insert_value(&key, &record::doc(version, &tree, inline, stored.seq_in_pieces));
    Ok((compacted, tally))
}

/// Takes revisions away; what is left has its last change at `seq`. Answers its tally.
pub(super) fn purge(
    db: &Db,
    batch: &mut Writes,
    database: DatabaseKey,
    seq: u64,
    purge: &DocPurge,
    stored: StoredState,
) -> Result<(), StoreError> {
    let key = keys::doc(database, &purge.id);
    remove_seq_row(db, batch, database, &stored)?;
    for rev in &purge.dropped {
        if stored.inline.as_ref().is_none_or(|(inline, _)| inline != rev) {
            remove_body(db, batch, database, &purge.id, rev)?;
        }
    }
    if purge.tree.is_empty() {
        batch.remove_value(&key, &stored.value);
        return Ok(());
    }
    batch.remove_pieces(&key, &stored.value);
    let leaves = purge.tree.leaves();
    let mut inline = None;
    if let Some((rev, body)) = stored.inline.filter(|(rev, _)| !purge.dropped.contains(rev)) {
        if leaves.first().is_some_and(|leaf| leaf.rev == rev) {
            inline = Some(body);
        } else {
            batch.insert_value(&keys::body(database, &purge.id, &rev), &record::plain(&body));
        }
    }
    let seq_row = record::seq_row(&purge.id, &leaves);
    let seq_in_pieces = batch.insert_value(&keys::seq(database, seq), &seq_row);
    let mut tree = Vec::new();
    purge.tree.encode(&mut tree);
    let version = Version { seq, edition: 0 };
    batch.insert_value(&key, &record::doc(version, &tree, inline.as_deref(), seq_in_pieces));
    Ok(())
}

fn remove_body(
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
