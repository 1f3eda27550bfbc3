//! Writing everything into a fresh sled, since sled hardly ever gives back space that its file has
//! taken once.
//!
//! The hard case is a process that is killed in between. The rows are copied into [`NEW_DIR`], which
//! is read back and compared, and synced. Then the old directory is renamed to [`OLD_DIR`], the new
//! one takes its name, the data directory being synced after each, and the old one is removed. What
//! an opening finds tells how far it came:
//!
//! | `sled` | `sled.old` | `sled.new` | |
//! |---|---|---|---|
//! | there | | there | the copy was not finished, or not yet put in place: it is removed |
//! | | there | there | the copy is whole: it takes its place |
//! | there | there | | the copy is in its place: the old directory is removed |
//!
//! Nothing is removed before the store that remains was opened and found to be the right one.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::close::close_sled;
use super::open::{self, DataFile, Log, SLED_DIR, doing, sync_dir};
use super::value::Writes;
use super::{Db, SledOptions, io_error, sweep};
use crate::store::backend::DatabaseKey;
use crate::store::error::StoreError;
use crate::store::keys;

pub(super) const NEW_DIR: &str = "sled.new";
pub(super) const OLD_DIR: &str = "sled.old";
/// Rows and bytes are copied in batches of about so many.
const BATCH_ROWS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// What a data directory that was rewritten holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Rows that were copied.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// The steps that put a finished copy in its place.
type Step = fn(&Path) -> io::Result<()>;
const STEPS: [Step; 3] = [set_aside, put_in_place, remove_leftovers];

/// Rewrites a data directory that nobody has open.
pub(super) fn rewrite(path: &Path, options: &SledOptions) -> Result<Rewritten, StoreError> {
    let (opened, ..) = open::open(path, options)?;
    let rewritten = copy(path, &opened.db, options)?;
    // Kept until the end: nobody opens the directory in between.
    let _lock = opened.close(path)?;
    for step in STEPS {
        step(path).map_err(doing("put the rewritten database in its place"))?;
    }
    Ok(rewritten)
}

/// Makes a copy that is on disk and equal.
fn copy(path: &Path, from: &Db, options: &SledOptions) -> Result<Rewritten, StoreError> {
    let new_dir = path.join(NEW_DIR);
    let destroyed: HashSet<DatabaseKey> = sweep::unfinished(from)?.into_iter().collect();
    let to = open::open_sled(path, &new_dir, options, Log::LookedOver)?;
    let mut sum = Rewritten { rows: 0, bytes: 0 };
    let mut writes = Writes::default();
    let mut rows_waiting = 0;
    for row in rows(from, &destroyed) {
        let (key, value) = row?;
        sum.rows += 1;
        sum.bytes += (key.len() + value.len()) as u64;
        writes.insert(&key, &value);
        rows_waiting += 1;
        if rows_waiting == BATCH_ROWS || writes.log_bytes() >= BATCH_BYTES {
            std::mem::take(&mut writes).apply(&to)?;
            rows_waiting = 0;
        }
    }
    writes.apply(&to)?;
    DataFile::open(&new_dir)?.flush(&to)?;
    close_sled(to, path, &new_dir)?;
    // What is compared is what the files hold, and not what is still in memory.
    let to = open::open_sled(path, &new_dir, options, Log::LookedOver)?;
    compare(rows(from, &destroyed), rows(&to, &HashSet::new()))?;
    close_sled(to, path, &new_dir)?;
    sync_files(&new_dir).map_err(doing("flush to disk"))?;
    sync_dir(path).map_err(doing("flush to disk"))?;
    Ok(sum)
}

type Row = Result<(::sled::IVec, ::sled::IVec), StoreError>;

/// All rows but those of databases that were destroyed, and the notes that these are.
fn rows<'a>(db: &Db, destroyed: &'a HashSet<DatabaseKey>) -> impl Iterator<Item = Row> + 'a {
    let rows = db.iter().map(|row| row.map_err(|error| io_error("read the database", error)));
    rows.filter(move |row| {
        let Ok((key, _)) = row else { return true };
        let gone = keys::swept_of(key).or_else(|| keys::database_of(key));
        gone.is_none_or(|database| !destroyed.contains(&database))
    })
}

fn compare(
    mut from: impl Iterator<Item = Row>,
    mut to: impl Iterator<Item = Row>,
) -> Result<(), StoreError> {
    loop {
        match (from.next().transpose()?, to.next().transpose()?) {
            (None, None) => return Ok(()),
            (from, to) if from == to => {}
            (from, to) => {
                let key = from.or(to).map(|(key, _)| key.escape_ascii().to_string());
                let what = format!("row {} differs in the copy", key.unwrap_or_default());
                return Err(StoreError::Damaged { what });
            }
        }
    }
}

fn set_aside(path: &Path) -> io::Result<()> {
    fs::rename(path.join(SLED_DIR), path.join(OLD_DIR))?;
    sync_dir(path)
}

fn put_in_place(path: &Path) -> io::Result<()> {
    fs::rename(path.join(NEW_DIR), path.join(SLED_DIR))?;
    sync_dir(path)
}

/// Goes on with a rewriting that was cut, before a data directory is opened.
pub(super) fn recover(path: &Path) -> io::Result<()> {
    let is_dir = |name| path.join(name).is_dir();
    if !is_dir(SLED_DIR) && is_dir(OLD_DIR) && is_dir(NEW_DIR) {
        put_in_place(path)?;
    }
    Ok(())
}

/// Removes what a rewriting left, after the data directory was found to be whole.
pub(super) fn remove_leftovers(path: &Path) -> io::Result<()> {
    for leftover in [path.join(OLD_DIR), path.join(NEW_DIR)] {
        if leftover.is_dir() {
            fs::remove_dir_all(leftover)?;
        }
    }
    Ok(())
}

/// Brings all files of a directory tree to the disk.
fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { sync_files(&path)? } else { File::open(path)?.sync_all()? }
    }
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Rows = Vec<(Vec<u8>, Vec<u8>)>;

    const GONE: DatabaseKey = DatabaseKey(7);

    /// Makes a store with some rows, and with a database that was destroyed and not yet removed.
    fn make(path: &Path) {
        let (opened, data, _) = open::open(path, &SledOptions::default()).expect("it is made");
        let mut writes = Writes::default();
        for number in 0..5_000_u32 {
            let key = keys::seq(DatabaseKey(6 + number % 3), number.into());
            writes.insert(&key, &vec![number as u8; number as usize % 300]);
        }
        writes.insert(&keys::swept(GONE), &[]);
        writes.apply(&opened.db).expect("rows are written");
        data.flush(&opened.db).expect("they are on disk");
        opened.close(path).expect("it closes");
    }

    fn all(path: &Path) -> Rows {
        let (opened, ..) = open::open(path, &SledOptions::default()).expect("it opens");
        let rows = opened.db.iter().map(|row| row.expect("rows are read"));
        let rows = rows.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        opened.close(path).expect("it closes");
        rows
    }

    /// All rows but those of the database that was destroyed.
    fn kept(path: &Path) -> Rows {
        let gone = |key: &[u8]| [keys::swept_of(key), keys::database_of(key)].contains(&Some(GONE));
        all(path).into_iter().filter(|(key, _)| !gone(key)).collect()
    }

    fn assert_tidy(path: &Path) {
        assert!(path.join(SLED_DIR).is_dir());
        assert!(!path.join(OLD_DIR).exists() && !path.join(NEW_DIR).exists());
    }

    #[test]
    fn every_row_is_there_and_destroyed_databases_are_gone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        make(path);
        let kept = kept(path);
        let rewritten = rewrite(path, &SledOptions::default()).expect("it is rewritten");
        assert_eq!(rewritten.rows, kept.len() as u64);
        assert_tidy(path);
        assert_eq!(all(path), kept);
    }

    #[test]
    fn a_kill_after_any_step_loses_nothing() {
        for done in 0..=STEPS.len() {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let path = directory.path();
            make(path);
            let before = kept(path);
            let (opened, ..) = open::open(path, &SledOptions::default()).expect("it opens");
            copy(path, &opened.db, &SledOptions::default()).expect("it is copied");
            opened.close(path).expect("it closes");
            STEPS[..done].iter().for_each(|step| step(path).expect("the step is made"));
            assert!(open::is_at(path), "after {done} steps");
            assert_eq!(kept(path), before, "after {done} steps");
            assert_tidy(path);
        }
    }

    #[test]
    fn a_copy_that_was_cut_is_removed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        make(path);
        let before = all(path);
        fs::create_dir(path.join(NEW_DIR)).expect("it is made");
        fs::write(path.join(NEW_DIR).join("db"), b"half").expect("it is written");
        assert_eq!(all(path), before);
        assert_tidy(path);
    }

    #[test]
    fn a_copy_that_differs_is_refused() {
        let row = |key: &[u8]| -> Row { Ok((key.into(), b"value".into())) };
        let check = |from: &[&[u8]], to: &[&[u8]]| {
            let rows = |keys: &[&[u8]]| keys.iter().map(|key| row(key)).collect::<Vec<_>>();
            compare(rows(from).into_iter(), rows(to).into_iter())
        };
        assert!(check(&[b"a", b"b"], &[b"a", b"b"]).is_ok());
        for other in [&[b"a" as &[u8]][..], &[b"a", b"c"], &[b"a", b"b", b"c"]] {
            let refused = check(&[b"a", b"b"], other);
            assert!(matches!(refused, Err(StoreError::Damaged { .. })), "{refused:?}");
        }
    }
}
