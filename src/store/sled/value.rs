//! Values that may grow, kept small for sled: a longer one is cut in pieces.
//!
//! sled writes up to 17 neighbouring rows as one page, and a page over a quarter of a segment as a
//! file of its own, which it never flushes and often leaks. So no value may be longer than
//! [`VALUE_BYTES_MAX`], and [`SEGMENT_BYTES`] leaves room for 17 of them with their keys.
//!
//! The first byte says which it is: [`WHOLE`], and the content follows; or [`PIECES`], and then
//! come the number of further pieces as a varint, a stamp of 8 bytes, and the first piece. The
//! stamp begins the SHA-256 of the content and stands in the keys of the further pieces. The hard
//! case is a reader beside a writer: sled's reads see no common snapshot, so the pieces may be
//! gone, or be of another content. A piece of another content has another key, hence is missing
//! too, and who misses a piece reads the row again.

use sha2::{Digest as _, Sha256};

use super::{Db, io_error};
use crate::doc::varint::{self, Reader};
use crate::store::error::StoreError;
use crate::store::keys;

pub(super) const WHOLE: u8 = 1;
const PIECES: u8 = 2;
/// Longest value in sled.
const VALUE_BYTES_MAX: usize = 24 * 1024;
/// Rows of so many bytes are often written again with their page.
pub(super) const LONG_ROW_BYTES: usize = 1024;
const PIECE_BYTES: usize = VALUE_BYTES_MAX - 32;
/// sled's unit of writing and of collecting garbage.
pub(super) const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// Writes to one batch. sled keeps the last operation on a key, so a remove must come before an
/// insert that may meet the same key.
#[derive(Debug, Default)]
pub(super) struct Writes {
    batch: ::sled::Batch,
    ops: usize,
    log_bytes: usize,
}

impl Writes {
    /// By how much sled's log grows, about: it writes the pages of long rows several times.
    pub(super) fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ops == 0
    }

    pub(super) fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.ops += 1;
        let row = key.len() + value.len();
        self.log_bytes += if row < LONG_ROW_BYTES { row } else { row * 3 };
        self.batch.insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &[u8]) {
        self.ops += 1;
        self.log_bytes += key.len();
        self.batch.remove(key);
    }

    /// Removes a row of about so many bytes, beside which sled writes its neighbours anew.
    pub(super) fn remove_of(&mut self, key: &[u8], bytes: usize) {
        self.log_bytes += if bytes < LONG_ROW_BYTES { 0 } else { bytes * 3 };
        self.remove(key);
    }

    /// Inserts a value that begins with [`WHOLE`], in pieces if it is long; answers whether it is.
    pub(super) fn insert_value(&mut self, key: &[u8], value: &[u8]) -> bool {
        if value.len() <= VALUE_BYTES_MAX {
            self.insert(key, value);
            return false;
        }
        let content = &value[1..];
        let stamp = stamp(content);
        let mut pieces = content.chunks(PIECE_BYTES);
        let first = pieces.next().unwrap_or_default();
        let mut head = Vec::with_capacity(VALUE_BYTES_MAX);
        head.push(PIECES);
        varint::push(&mut head, pieces.len() as u64);
        head.extend_from_slice(&stamp);
        head.extend_from_slice(first);
        self.insert(key, &head);
        for (number, piece) in (0..).zip(pieces) {
            self.insert(&keys::piece(key, stamp, number), piece);
        }
        true
    }

    /// Removes the further pieces of the value `old` that is at `key`, if it has any.
    pub(super) fn remove_pieces(&mut self, key: &[u8], old: &[u8]) {
        if let Some(Head { further, stamp, .. }) = Head::read(old) {
            for number in 0..further {
                self.remove_of(&keys::piece(key, stamp, number), PIECE_BYTES);
            }
        }
    }

    pub(super) fn remove_value(&mut self, key: &[u8], old: &[u8]) {
        self.remove_pieces(key, old);
        self.remove_of(key, old.len());
    }

    /// Applies the batch; not yet durable.
    pub(super) fn apply(self, db: &Db) -> Result<(), StoreError> {
        db.apply_batch(self.batch).map_err(|error| io_error("write to the database", error))?;
        // sled frees memory and disk only when the epoch moves on, and idle threads hold it back.
        for _ in 0..2 + self.ops / 64 {
            crossbeam_epoch::pin().flush();
        }
        Ok(())
    }
}

fn stamp(content: &[u8]) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(content).into();
    *digest.first_chunk().expect("32 bytes hold 8")
}

struct Head<'a> {
    further: u32,
    stamp: [u8; 8],
    first: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(value);
        reader.byte().filter(|kind| *kind == PIECES)?;
        let further = u32::try_from(reader.varint()?).ok()?;
        let stamp = reader.array()?;
        Some(Self { further, stamp, first: reader.0 })
    }
}

/// A value's content.
pub(super) enum Content {
    Whole(::sled::IVec),
    Joined(Vec<u8>),
}

impl std::ops::Deref for Content {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Whole(value) => &value[1..],
            Self::Joined(content) => content,
        }
    }
}

/// Reads the value at `key`.
pub(super) fn read(db: &Db, key: &[u8]) -> Result<Option<Content>, StoreError> {
    match get(db, key)? {
        Some(value) => complete(db, key, value),
        None => Ok(None),
    }
}

/// Completes the value that was found at `key` by its pieces. `None` if it is gone meanwhile.
pub(super) fn complete(
    db: &Db,
    key: &[u8],
    mut value: ::sled::IVec,
) -> Result<Option<Content>, StoreError> {
    loop {
        if value.first() == Some(&WHOLE) {
            return Ok(Some(Content::Whole(value)));
        }
        let head = Head::read(&value).ok_or_else(|| damaged(key, "has an unknown form"))?;
        if let Some(content) = join(db, key, &head)? {
            if stamp(&content) != head.stamp {
                return Err(damaged(key, "has other content than was written"));
            }
            return Ok(Some(Content::Joined(content)));
        }
        match get(db, key)? {
            None => return Ok(None),
            // Changed back to the same content in between, its pieces would be there again; so
            // the row must stand still and still lack a piece.
            Some(again) if again == value && join(db, key, &head)?.is_none() => {
                if get(db, key)?.as_ref() == Some(&value) {
                    return Err(damaged(key, "lacks a piece"));
                }
            }
            Some(again) => value = again,
        }
    }
}

fn join(db: &Db, key: &[u8], head: &Head<'_>) -> Result<Option<Vec<u8>>, StoreError> {
    let mut content = head.first.to_vec();
    for number in 0..head.further {
        match get(db, &keys::piece(key, head.stamp, number))? {
            Some(piece) => content.extend_from_slice(&piece),
            None => return Ok(None),
        }
    }
    Ok(Some(content))
}

pub(super) fn get(db: &Db, key: &[u8]) -> Result<Option<::sled::IVec>, StoreError> {
    db.get(key).map_err(|error| io_error("read the database", error))
}

/// Says which row is damaged, in the form of the key table.
pub(super) fn damaged(key: &[u8], problem: &str) -> StoreError {
    StoreError::Damaged { what: format!("row {} {problem}", key.escape_ascii()) }
}
