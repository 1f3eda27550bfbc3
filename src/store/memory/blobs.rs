//! Attachment bytes of the store in memory.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::{State, lock};
use crate::doc::{BlobHasher, BlobKey};
use crate::store::backend::{
    BlobReader, BlobSweep, BlobWriter, DatabaseKey, SMALL_BLOB_BYTES_MAX, StagedBlob, SweptBlobs,
};
use crate::store::error::StoreError;

/// Attachment bytes are given in pieces of at most this many bytes.
const PIECE_BYTES_MAX: usize = 64 * 1024;

pub(super) struct MemorySweep {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) db: DatabaseKey,
    pub(super) named: Arc<Mutex<HashSet<BlobKey>>>,
}

#[async_trait]
impl BlobSweep for MemorySweep {
    async fn remove(&mut self, keys: Vec<BlobKey>) -> Result<SweptBlobs, StoreError> {
        let mut state = lock(&self.state);
        state.writing()?;
        state.flush()?;
        let named = lock(&self.named);
        Ok(state.database_mut(self.db)?.remove_blobs(&keys, &named))
    }
}

pub(super) struct MemoryBlobWriter {
    state: Arc<Mutex<State>>,
    db: DatabaseKey,
    hasher: BlobHasher,
    bytes: Vec<u8>,
    /// How many of them the store counts as coming.
    coming: u64,
}

impl Drop for MemoryBlobWriter {
    fn drop(&mut self) {
        lock(&self.state).coming -= self.coming;
    }
}

impl MemoryBlobWriter {
    pub(super) fn new(state: Arc<Mutex<State>>, db: DatabaseKey) -> Self {
        Self { state, db, hasher: BlobHasher::default(), bytes: Vec::new(), coming: 0 }
    }
}

#[async_trait]
impl BlobWriter for MemoryBlobWriter {
    async fn write(&mut self, piece: Bytes) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        state.check_room(piece.len() as u64)?;
        state.coming += piece.len() as u64;
        drop(state);
        self.coming += piece.len() as u64;
        self.hasher.update(&piece);
        self.bytes.extend_from_slice(&piece);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<StagedBlob, StoreError> {
        let blob = std::mem::take(&mut self.hasher).finish();
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        if bytes.len() <= SMALL_BLOB_BYTES_MAX {
            return Ok(StagedBlob { blob, small: Some(bytes) });
        }
        {
            let mut state = lock(&self.state);
            state.writing()?;
            state.database_mut(self.db)?.insert_blob(blob.key, bytes);
        }
        Ok(StagedBlob { blob, small: None })
    }
}

/// Gives bytes at hand in pieces.
pub(in crate::store) struct BytesReader(pub(in crate::store) Bytes);

#[async_trait]
impl BlobReader for BytesReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let length = self.0.len().min(PIECE_BYTES_MAX);
        Ok((length > 0).then(|| self.0.split_to(length)))
    }
}
