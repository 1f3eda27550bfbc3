//! Room on the disk: a write is refused while there is still enough to finish what was begun.
//!
//! A flush that finds the disk full poisons the store, and sled then refuses reads of pages that it
//! was about to rewrite, too. So the committer asks first, and keeps [`FREE_BYTES_MIN`] back for what
//! it cannot foresee: pages that sled writes anew, a snapshot, removing databases. A write that was
//! refused has left nothing, reads go on, and so do writes once there is room again.

use std::io;
use std::path::PathBuf;

use super::open::doing;
use crate::store::error::StoreError;

/// Free bytes below which nothing is written.
const FREE_BYTES_MIN: u64 = 32 << 20;
/// sled writes a row, then its page, and its page again when it moves it.
const WRITTEN_PER_BYTE: u64 = 4;

#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    /// What this group may still take.
    left: Option<u64>,
}

impl Room {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, left: None }
    }

    /// Stands for a disk with so little left for this group.
    #[cfg(test)]
    pub(super) fn leave(&mut self, bytes: u64) {
        self.left = Some(bytes);
    }

    /// Takes room for so many bytes of rows.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), StoreError> {
        let left = match self.left {
            Some(left) => left,
            None => {
                let free = fs4::available_space(&self.path).map_err(doing("ask for free space"))?;
                free.saturating_sub(FREE_BYTES_MIN)
            }
        };
        self.left = Some(left);
        let left = left.checked_sub(1 + WRITTEN_PER_BYTE * bytes as u64).ok_or_else(|| {
            let source = io::Error::new(
                io::ErrorKind::StorageFull,
                format!("less than {} MiB would be free", FREE_BYTES_MIN >> 20),
            );
            StoreError::Io { doing: "keep room on the disk", source }
        })?;
        self.left = Some(left);
        Ok(())
    }

    /// What was written meanwhile counts as used from here on.
    pub(super) fn end_group(&mut self) {
        self.left = None;
    }
}
