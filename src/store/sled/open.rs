//! Opening a data directory: the lock, sled with its leftovers removed, the format version.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::close::{self, SLED_LOCK_WAIT};
use super::lock::{LOCK_FILE, lock};
use super::log::{self, LastOpening};
use super::mark::Mark;
use super::value::{self, SEGMENT_BYTES, Writes};
use super::{Db, SledOptions, io_error, rewrite};
use crate::store::backend::Uuid;
use crate::store::error::StoreError;
use crate::store::{keys, migrate};

/// There while a backup is being restored to the directory.
const RESTORING_FILE: &str = "restoring";
/// There while the directory is being opened.
const OPENING_FILE: &str = "opening";
pub(super) const SLED_DIR: &str = "sled";
/// sled's.
const SETTINGS_FILE: &str = "conf";

/// How sled is given its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Log {
    /// A damaged one is refused.
    LookedOver,
    /// sled gives what it finds.
    AsItIs,
    /// The same, without the snapshots that save sled reading all of it: they may be what is damaged.
    WithoutSnapshots,
}

/// What is given back by closing.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Db,
    /// Locked as long as it is open; declared last, so that it is let go last.
    lock: File,
}

impl Opened {
    /// Closes sled and waits until it has gone; the data directory stays locked by what is
    /// answered.
    pub(super) fn close(self, path: &Path) -> Result<File, StoreError> {
        close::close_sled(self.db, path, &path.join(SLED_DIR))?;
        Ok(self.lock)
    }

    /// Closes sled, and then lets go of the data directory.
    pub(super) fn let_go(self) -> Result<(), StoreError> {
        close::let_go(self.db)
    }
}

/// sled's data file, opened a second time: sled's flush writes to it but does not sync it.
#[derive(Debug)]
pub(super) struct DataFile(File);

impl DataFile {
    pub(super) fn open(sled_dir: &Path) -> Result<Self, StoreError> {
        let data = File::options().read(true).write(true).open(sled_dir.join("db"));
        data.map(Self).map_err(doing("open the database's file"))
    }

    /// Brings all that was written to the disk.
    pub(super) fn flush(&self, db: &Db) -> Result<(), StoreError> {
        db.flush().map_err(|error| io_error("flush to disk", error))?;
        self.0.sync_data().map_err(doing("flush to disk"))
    }
}

pub(super) fn doing(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Io { doing, source }
}

/// Opens or makes a data directory.
pub(super) fn open(
    path: &Path,
    options: &SledOptions,
) -> Result<(Opened, DataFile, Mark), StoreError> {
    check_finished(path)?;
    let lock = lock(path)?;
    // Restoring may have begun until it was locked.
    check_finished(path)?;
    open_anyway(path, lock, options, Log::LookedOver)
}

pub(super) fn check_finished(path: &Path) -> Result<(), StoreError> {
    if path.join(RESTORING_FILE).exists() {
        return Err(StoreError::Unfinished { path: path.to_owned() });
    }
    Ok(())
}

/// Begins to restore: makes a data directory that [`open`] refuses until [`finish_restoring`]. One
/// that was begun before is begun anew, unless its restoring still runs and holds the lock.
pub(super) fn begin_restoring(
    path: &Path,
    options: &SledOptions,
) -> Result<(Opened, DataFile, Mark), StoreError> {
    let failed = || doing("make the new data directory");
    make_dir(path).map_err(failed())?;
    // Before it is locked, too, so that nobody's directory gets a lock file.
    check_restorable(path).map_err(failed())?;
    let lock = lock(path)?;
    let begin = || {
        check_restorable(path)?;
        File::create(path.join(RESTORING_FILE))?.sync_all()?;
        sync_dir(path)?;
        remove_begun(path)?;
        // It stays: with another file in its place, two could hold a lock each.
        lock.set_len(0)
    };
    begin().map_err(failed())?;
    open_anyway(path, lock, options, Log::LookedOver)
}

/// Fails for a directory that holds anything but what a restoring has begun.
fn check_restorable(path: &Path) -> io::Result<()> {
    if path.join(RESTORING_FILE).exists() {
        return Ok(());
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() != LOCK_FILE || entry.metadata()?.len() > 0 {
            let what = "there is something in it, and only an empty directory will do";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
    }
    Ok(())
}

/// Removes what a restoring has left that did not come to its end.
fn remove_begun(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.collect::<io::Result<Vec<_>>>()? {
        let name = entry.file_name();
        if name == RESTORING_FILE || name == LOCK_FILE {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What was restored is whole, closed and on disk: from here on the directory can be opened. Fails
/// if it holds another store than this one, since restoring was begun anew after the closing.
pub(super) fn finish_restoring(path: &Path, store: Uuid) -> Result<(), StoreError> {
    let mut lock = lock(path)?;
    let mut made = Vec::new();
    lock.read_to_end(&mut made).map_err(doing("read the lock file"))?;
    if made != store.to_string().as_bytes() {
        return Err(StoreError::Unfinished { path: path.to_owned() });
    }
    let finish = || {
        fs::remove_file(path.join(RESTORING_FILE))?;
        sync_dir(path)
    };
    finish().map_err(doing("finish the restored data directory"))
}

/// Opens a directory that is locked, whether it was restored to the end or not.
pub(super) fn open_anyway(
    path: &Path,
    mut lock: File,
    options: &SledOptions,
    log: Log,
) -> Result<(Opened, DataFile, Mark), StoreError> {
    let mut made = Vec::new();
    lock.read_to_end(&mut made).map_err(doing("read the lock file"))?;
    if !made.iter().all(u8::is_ascii_hexdigit) {
        // A power loss came while it was written.
        made.clear();
    }
    let sled_dir = path.join(SLED_DIR);
    rewrite::recover(path).map_err(doing("put the rewritten database in its place"))?;
    let is_removed = |name: &str| log == Log::WithoutSnapshots || name.ends_with(".generating");
    remove_snapshots(&sled_dir, is_removed).map_err(doing("remove a snapshot"))?;
    if made.is_empty() {
        remove_settings(&sled_dir).map_err(doing("remove the database's settings"))?;
    }
    if log == Log::LookedOver {
        log::check(&sled_dir, last_opening(path))?;
    }
    begin_opening(path).map_err(doing("begin to open the data directory"))?;
    let db = open_sled(path, &sled_dir, options, log)?;
    match take_over(path, &sled_dir, &db, &mut lock, &made) {
        Ok((data, mark)) => Ok((Opened { db, lock }, data, mark)),
        Err(error) => {
            // It is the earlier error that tells what to do.
            let _ = close::let_go(db);
            Err(error)
        }
    }
}

/// Makes of sled's rows those of a store that was `made` here, or makes a new one of none.
fn take_over(
    path: &Path,
    sled_dir: &Path,
    db: &Db,
    lock: &mut File,
    made: &[u8],
) -> Result<(DataFile, Mark), StoreError> {
    let data = DataFile::open(sled_dir)?;
    if !made.is_empty() && db.is_empty() {
        return Err(lost(sled_dir));
    }
    migrate::prepare(&Rows { db, data: &data }, path)?;
    let store = read_uuid(db)?;
    let uuid = store.to_string();
    // A killed process may have left writes that nobody has brought to the disk, and they are about
    // to be shown.
    data.flush(db)?;
    if made.is_empty() {
        // From here on it counts as damage if sled's files are missing.
        sync_new(path, sled_dir).map_err(doing("flush the data directory"))?;
        lock.set_len(0).map_err(doing("write the lock file"))?;
        lock.rewind().map_err(doing("write the lock file"))?;
        lock.write_all(uuid.as_bytes()).map_err(doing("write the lock file"))?;
        lock.sync_all().map_err(doing("write the lock file"))?;
    } else if made != uuid.as_bytes() {
        return Err(lost(sled_dir));
    }
    let mark = Mark::open(path, store, read_group(db)?)?;
    finish_opening(path).map_err(doing("flush the data directory"))?;
    rewrite::remove_leftovers(path).map_err(doing("remove what a rewriting left"))?;
    Ok((data, mark))
}

pub(super) fn last_opening(path: &Path) -> LastOpening {
    if path.join(OPENING_FILE).exists() { LastOpening::Cut } else { LastOpening::Done }
}

/// Notes that sled is about to change its files, see [`super::log`].
fn begin_opening(path: &Path) -> io::Result<()> {
    File::create(path.join(OPENING_FILE))?;
    sync_dir(path)
}

/// What sled changed is on disk; brings the names there too.
fn finish_opening(path: &Path) -> io::Result<()> {
    sync_dir(&path.join(SLED_DIR))?;
    fs::remove_file(path.join(OPENING_FILE))?;
    sync_dir(path)
}

/// Brings to the disk what sled made and does not sync: the names of its files, and its settings,
/// without which it does not open.
fn sync_new(path: &Path, sled_dir: &Path) -> io::Result<()> {
    File::open(sled_dir.join(SETTINGS_FILE))?.sync_all()?;
    sync_dir(sled_dir)?;
    sync_dir(path)
}

/// Whether a directory looks like one that [`open`] made.
pub(super) fn is_at(path: &Path) -> bool {
    path.join(LOCK_FILE).is_file() && has_rows(path)
}

/// Whether sled's files are in a directory.
pub(super) fn has_rows(path: &Path) -> bool {
    [SLED_DIR, rewrite::OLD_DIR].iter().any(|dir| path.join(dir).is_dir())
}

/// sled takes a log that it cannot read for one that ends there, and opens as if it were empty. The
/// store's uuid in the lock file tells that from a fresh directory.
fn lost(sled_dir: &Path) -> StoreError {
    let sled_dir = sled_dir.display();
    StoreError::Damaged {
        what: format!("the files in {sled_dir} lack the store that was made here"),
    }
}

/// Makes a directory and those above it. The names of those that are made are on disk on return.
pub(super) fn make_dir(path: &Path) -> io::Result<()> {
    let missing = path.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists());
    let missing: Vec<&Path> = missing.collect();
    fs::create_dir_all(path)?;
    missing.into_iter().try_for_each(|dir| match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    })
}

pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn read_uuid(db: &Db) -> Result<Uuid, StoreError> {
    let key = keys::uuid();
    let bytes = value::get(db, &key)?.ok_or_else(|| value::damaged(&key, "is missing"))?;
    let bytes = bytes.as_ref().try_into();
    bytes.map(Uuid).map_err(|_| value::damaged(&key, "does not have 16 bytes"))
}

fn read_group(db: &Db) -> Result<u64, StoreError> {
    let key = keys::group();
    let Some(value) = value::get(db, &key)? else { return Ok(0) };
    let bytes = value.as_ref().try_into();
    bytes.map(u64::from_be_bytes).map_err(|_| value::damaged(&key, "does not have 8 bytes"))
}

/// A process killed while it opened sled may leave a snapshot half written (`.generating`). sled takes
/// it for a whole one and refuses the database for ever; it is made again from the log.
fn remove_snapshots(sled_dir: &Path, is_removed: impl Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(sled_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && is_removed(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// sled does not sync its settings, and refuses a database whose settings a power loss has torn.
/// It writes them again where they are missing, and they are always the same.
fn remove_settings(sled_dir: &Path) -> io::Result<()> {
    match fs::remove_file(sled_dir.join(SETTINGS_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

pub(super) fn open_sled(
    path: &Path,
    sled_dir: &Path,
    options: &SledOptions,
    log: Log,
) -> Result<Db, StoreError> {
    let mut config = ::sled::Config::new()
        .path(sled_dir)
        .cache_capacity(options.cache_bytes)
        .segment_size(SEGMENT_BYTES);
    if log != Log::LookedOver {
        // No thread that cleans pages and panics over damaged ones.
        config = config.flush_every_ms(None);
    }
    let started = Instant::now();
    loop {
        // sled asserts on some damage where it could answer.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        let opened = opened.map_err(|_| StoreError::Damaged {
            what: format!("sled's files in {} cannot be read", sled_dir.display()),
        })?;
        match opened {
            Ok(db) => return Ok(db),
            Err(::sled::Error::Io(error)) if error.to_string().contains("acquire lock") => {
                if started.elapsed() > SLED_LOCK_WAIT {
                    return Err(StoreError::Locked { path: path.to_owned() });
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(::sled::Error::Io(source)) => {
                return Err(StoreError::Io { doing: "open the database", source });
            }
            Err(error) => {
                let what = format!("sled's files in {}: {error}", sled_dir.display());
                return Err(StoreError::Damaged { what });
            }
        }
    }
}

struct Rows<'a> {
    db: &'a Db,
    data: &'a DataFile,
}

impl migrate::Rows for Rows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(value::get(self.db, key)?.map(|value| value.to_vec()))
    }

    fn is_empty(&self) -> bool {
        self.db.is_empty()
    }

    fn write(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<(), StoreError> {
        let mut writes = Writes::default();
        rows.iter().for_each(|(key, value)| writes.insert(key, value));
        writes.apply(self.db)?;
        self.data.flush(self.db)
    }
}

/// Where attachments are, beside sled.
pub(super) fn blobs_dir(path: &Path) -> PathBuf {
    path.join("blobs")
}
