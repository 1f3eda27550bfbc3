//! One document's rows: what is there, and what a change makes of it.

use super::Db;
use super::record::{self, DocRecord};
use super::request::DocWrite;
use super::value::{Writes, complete, damaged, get};
use crate::doc::{Rev, RevTree};
use crate::store::backend::{DatabaseKey, StoredDoc};
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::tally::Tally;

/// A document as the committer finds it.
pub(super) struct StoredState {
    pub(super) version: u64,
    pub(super) tally: Tally,
    tree: RevTree,
    /// The revision whose body is kept in the row, and the body.
    inline: Option<(Rev, Vec<u8>)>,
    seq_in_pieces: bool,
    /// The row's value as it is in sled.
    value: ::sled::IVec,
}

impl StoredState {
    pub(super) fn read(db: &Db, doc: &DocWrite) -> Result<Option<Self>, StoreError> {
        let key = &doc.key;
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
    batch.insert_value(&doc.key, &record::doc(seq, &doc.encoded_tree, inline, seq_in_pieces));
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
    let seq_key = keys::seq(database, stored.version);
    if stored.seq_in_pieces
        && let Some(old) = get(db, &seq_key)?
    {
        batch.remove_pieces(&seq_key, &old);
    }
    batch.remove(&seq_key);
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
        let key = keys::body(database, &doc.id, rev);
        if let Some(old) = get(db, &key)? {
            batch.remove_value(&key, &old);
        }
    }
    let has_body = |rev: &Rev| doc.tree.state(rev).is_some_and(|state| state.body_bytes.is_some());
    Ok(inline.filter(|(rev, _)| has_body(rev)))
}
