//! Attachment bytes: small ones are rows, the others are files beside sled.
//!
//! A file is written under a temporary name, flushed, renamed to the SHA-256 of what it holds, and
//! then its directory is flushed. So a file under a final name is whole, two writers of the same
//! bytes do not disturb each other, and no name that a client chose becomes a path.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::open::{doing, make_dir, sync_dir};
use super::{Inner, run_blocking};
use crate::doc::{BlobHasher, BlobKey};
use crate::store::backend::{
    BlobReader, BlobWriter, DatabaseKey, SMALL_BLOB_BYTES_MAX, StagedBlob,
};
use crate::store::error::StoreError;

/// Bytes are given in pieces of at most this many.
const PIECE_BYTES_MAX: usize = 64 * 1024;
const TEMPORARY_DIR: &str = "tmp";

/// Where a database's attachments are.
pub(super) fn database_dir(blobs: &Path, db: DatabaseKey) -> PathBuf {
    blobs.join(format!("{:08x}", db.0))
}

pub(super) fn file(blobs: &Path, db: DatabaseKey, key: &BlobKey) -> PathBuf {
    database_dir(blobs, db).join(key.to_string())
}

/// Removes what unfinished writers left, and directories for which `is_alive` says no: a writer
/// may have finished while its database's files were being removed.
pub(super) fn clean(blobs: &Path, mut is_alive: impl FnMut(DatabaseKey) -> bool) -> io::Result<()> {
    make_dir(blobs)?;
    for entry in fs::read_dir(blobs)? {
        let entry = entry?;
        let name = entry.file_name();
        let key = name.to_str().and_then(|name| u32::from_str_radix(name, 16).ok());
        if name == TEMPORARY_DIR || key.is_some_and(|key| !is_alive(DatabaseKey(key))) {
            fs::remove_dir_all(entry.path())?;
            if let Some(key) = key {
                tracing::info!(database = key, "removed attachments of a destroyed database");
            }
        }
    }
    fs::create_dir(blobs.join(TEMPORARY_DIR))?;
    sync_dir(blobs)
}

fn entries(blobs: &Path, db: DatabaseKey) -> io::Result<Option<fs::ReadDir>> {
    match fs::read_dir(database_dir(blobs, db)) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Bytes of a database's files.
pub(super) fn file_bytes(blobs: &Path, db: DatabaseKey) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in entries(blobs, db)?.into_iter().flatten() {
        match entry?.metadata() {
            Ok(metadata) => bytes += metadata.len(),
            // A sweep was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Names of a database's files that are at least so old.
pub(super) fn files(blobs: &Path, db: DatabaseKey, age: Duration) -> io::Result<Vec<BlobKey>> {
    let mut found = Vec::new();
    for entry in entries(blobs, db)?.into_iter().flatten() {
        let entry = entry?;
        // A clock that was set back makes a file young, which is the safe side.
        let old = entry.metadata()?.modified()?.elapsed().is_ok_and(|since| since >= age);
        if old {
            found.extend(entry.file_name().to_str().and_then(BlobKey::from_hex));
        }
    }
    Ok(found)
}

/// Takes in attachment bytes: into memory while they are few, then into a file.
pub(super) struct Writer {
    inner: Inner,
    blobs: PathBuf,
    db: DatabaseKey,
    hasher: BlobHasher,
    small: Vec<u8>,
    spilled: Option<Arc<Temporary>>,
    /// A piece is being written, or its writing failed or was abandoned.
    broken: bool,
}

impl Writer {
    pub(super) fn new(inner: Inner, blobs: PathBuf, db: DatabaseKey) -> Self {
        let hasher = BlobHasher::default();
        Self { inner, blobs, db, hasher, small: Vec::new(), spilled: None, broken: false }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.broken {
            let source = io::Error::other("an earlier piece was not written");
            return Err(StoreError::Io { doing: "write an attachment", source });
        }
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.check()?;
        self.hasher.update(&piece);
        if self.spilled.is_none() && self.small.len() + piece.len() <= SMALL_BLOB_BYTES_MAX {
            self.small.extend_from_slice(&piece);
            return Ok(());
        }
        self.broken = true;
        let spilled = self.spilled.clone();
        let earlier = std::mem::take(&mut self.small);
        let blobs = self.blobs.clone();
        let spilled = run_blocking(move || {
            let write = || {
                let temporary = match spilled {
                    Some(temporary) => temporary,
                    None => Arc::new(Temporary::new(&blobs.join(TEMPORARY_DIR))?),
                };
                (&temporary.file).write_all(&earlier)?;
                (&temporary.file).write_all(&piece)?;
                Ok(temporary)
            };
            write().map_err(doing("write an attachment"))
        });
        self.spilled = Some(spilled.await?);
        self.broken = false;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<StagedBlob, StoreError> {
        self.check()?;
        let Self { inner, blobs, db, hasher, small, spilled, .. } = *self;
        let blob = hasher.finish();
        let Some(temporary) = spilled else {
            return Ok(StagedBlob { blob, small: Some(small.into()) });
        };
        let shared = Arc::clone(&inner.shared);
        // Holding the database open keeps the directory locked until the file has its name.
        let kept = inner.with_db(move |_| {
            if shared.is_destroyed(db) {
                return Err(StoreError::DatabaseGone);
            }
            make_database_dir(&blobs, db, &shared.making_dirs)
                .and_then(|dir| temporary.keep(&dir, &blob.key))
                .map_err(doing("write an attachment"))
        });
        kept.await?;
        Ok(StagedBlob { blob, small: None })
    }
}

/// The directory of a database, whose name is on disk.
fn make_database_dir(blobs: &Path, db: DatabaseKey, making: &Mutex<()>) -> io::Result<PathBuf> {
    let dir = database_dir(blobs, db);
    // Who finds it there counts on its name, so it is not seen before that is on disk.
    let _making = making.lock().unwrap_or_else(PoisonError::into_inner);
    match fs::create_dir(&dir) {
        Ok(()) => sync_dir(blobs).inspect_err(|_| drop(fs::remove_dir(&dir)))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    Ok(dir)
}

/// A file that goes when this is dropped, unless it was kept.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    fn new(dir: &Path) -> io::Result<Self> {
        // Names need to differ within this process only: opening removes older files.
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = dir.join(format!("{:016x}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let file = File::create_new(&path)?;
        Ok(Self { path, file })
    }

    fn keep(&self, dir: &Path, key: &BlobKey) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, dir.join(key.to_string()))?;
        sync_dir(dir)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name; whatever else is left goes at the next
        // opening.
        drop(fs::remove_file(&self.path));
    }
}

/// Gives a file's bytes.
pub(super) struct FileReader(pub(super) Arc<File>);

#[async_trait]
impl BlobReader for FileReader {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        let file = Arc::clone(&self.0);
        run_blocking(move || {
            let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
            let read = (&*file).take(PIECE_BYTES_MAX as u64).read_to_end(&mut piece);
            read.map_err(doing("read an attachment"))?;
            Ok((!piece.is_empty()).then(|| piece.into()))
        })
        .await
    }
}
