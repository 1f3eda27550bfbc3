//! Giving back the space of destroyed databases, a little at a time.
//!
//! Destroying removes the name and leaves a note; the rows go while the committer is idle. The
//! note goes last, so that a process that ends in between goes on when it is opened again.

use std::collections::VecDeque;
use std::path::Path;
use std::{fs, io};

use super::open::{blobs_dir, doing};
use super::value::{LONG_ROW_BYTES, Writes, damaged};
use super::{Db, blobs, io_error};
use crate::store::backend::DatabaseKey;
use crate::store::error::StoreError;
use crate::store::keys::{self, Kind};

/// Rows or files removed between two looks at the queue: about a millisecond.
const STEP_ROWS: usize = 128;

pub(super) enum Swept {
    Partly,
    Whole,
}

/// Destroyed databases of which something may be left.
pub(super) fn unfinished(db: &Db) -> Result<VecDeque<DatabaseKey>, StoreError> {
    let keys = db.range(keys::all_swept()).keys();
    keys.map(|key| {
        let key = key.map_err(|error| io_error("read the database", error))?;
        keys::swept_of(&key).ok_or_else(|| damaged(&key, "has no database key"))
    })
    .collect()
}

/// Removes some files of a destroyed database; answers which rows are to be removed.
pub(super) fn step(
    db: &Db,
    path: &Path,
    database: DatabaseKey,
) -> Result<(Writes, Swept), StoreError> {
    let mut writes = Writes::default();
    let mut rows = 0;
    for kind in keys::SWEEP_ORDER {
        for key in db.range(keys::all(database, kind)).keys().take(STEP_ROWS - rows) {
            let key = key.map_err(|error| io_error("read the database", error))?;
            let is_long = matches!(kind, Kind::Body | Kind::Blob | Kind::Piece);
            writes.remove_of(&key, if is_long { LONG_ROW_BYTES } else { 0 });
            rows += 1;
        }
    }
    let files_left = rows == STEP_ROWS
        || remove_files(&blobs::database_dir(&blobs_dir(path), database))
            .map_err(doing("remove a destroyed database's attachments"))?;
    if !files_left {
        writes.remove(&keys::swept(database));
    }
    Ok((writes, if files_left { Swept::Partly } else { Swept::Whole }))
}

/// Removes some files and, when none is left, their directory; answers whether some are left.
fn remove_files(dir: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut removed = 0;
    for entry in entries.take(STEP_ROWS) {
        fs::remove_file(entry?.path())?;
        removed += 1;
    }
    if removed == STEP_ROWS {
        return Ok(true);
    }
    fs::remove_dir(dir).map(|()| false)
}
