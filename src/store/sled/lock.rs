//! The lock of a data directory: one process has it open, once.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::open::{doing, make_dir};
use crate::store::error::StoreError;

pub(super) const LOCK_FILE: &str = "lock";
/// How long a lock is waited for that was let go: a child that another thread has begun holds all of
/// this process's files until it becomes its own program.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Makes the directory if need be, and locks it for as long as the file is open.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    make_dir(path).map_err(doing("make the data directory"))?;
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    let file = options.open(path.join(LOCK_FILE));
    let file = file.map_err(doing("open the lock file"))?;
    take(&file, LOCK_WAIT, path)?;
    Ok(file)
}

/// Locks a file of the data directory at `path`.
pub(super) fn take(file: &File, patience: Duration, path: &Path) -> Result<(), StoreError> {
    let started = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if started.elapsed() > patience => {
                return Err(StoreError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(5)),
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io { doing: "lock the data directory", source });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::tempdir;

    use super::*;

    #[test]
    fn a_lock_that_is_let_go_in_a_moment_is_waited_for() {
        let dir = tempdir().expect("a directory");
        let held = lock(dir.path()).expect("it is locked");
        let held_on = held.try_clone().expect("as a child has it");
        drop(held);
        let letting_go = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            drop(held_on);
        });
        lock(dir.path()).expect("it is waited for");
        letting_go.join().expect("it is let go");
    }

    #[test]
    fn a_lock_that_is_held_on_is_told() {
        let dir = tempdir().expect("a directory");
        let _held = lock(dir.path()).expect("it is locked");
        let refused = lock(dir.path()).expect_err("it is held");
        assert!(matches!(refused, StoreError::Locked { .. }), "{refused}");
    }
}
