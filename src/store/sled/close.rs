//! Closing sled, which may never end: it waits for its thread that cleans pages, also where that has
//! panicked over a damaged one.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use super::open::doing;
use super::{Db, lock};
use crate::store::error::StoreError;

/// How long sled's own lock may still be held by threads of an instance that this process closed.
pub(super) const SLED_LOCK_WAIT: Duration = Duration::from_secs(5);
/// How long closing may take. There is nothing to write then that anybody waits for.
const CLOSE_WAIT: Duration = Duration::from_secs(30);

/// Closes sled and waits until it has gone.
pub(super) fn close_sled(db: Db, path: &Path, sled_dir: &Path) -> Result<(), StoreError> {
    let_go(db)?;
    wait_closed(path, sled_dir)
}

/// Closes sled, or gives it up.
pub(super) fn let_go(db: Db) -> Result<(), StoreError> {
    drop_within(CLOSE_WAIT, db)
}

/// Drops what may never come back from it.
fn drop_within<T: Send + 'static>(patience: Duration, what: T) -> Result<(), StoreError> {
    let (gone, has_gone) = mpsc::channel();
    let thread = std::thread::Builder::new().name("settee-closing".to_owned());
    let dropping = thread.spawn(move || {
        drop(what);
        // Whoever waited may have given up.
        let _ = gone.send(());
    });
    dropping.map_err(doing("close the database"))?;
    let what = match has_gone.recv_timeout(patience) {
        Ok(()) => return Ok(()),
        Err(RecvTimeoutError::Timeout) => "sled does not end",
        Err(RecvTimeoutError::Disconnected) => "sled panicked",
    };
    let what = format!("{what}; everything that was acknowledged is on disk");
    Err(StoreError::Io { doing: "close the database", source: io::Error::other(what) })
}

/// Waits until threads of a sled that this process closed have let go of its directory: until then
/// they may still write to it by its name.
pub(super) fn wait_closed(path: &Path, sled_dir: &Path) -> Result<(), StoreError> {
    let file = File::open(sled_dir.join("db")).map_err(doing("open the database's file"))?;
    lock::take(&file, SLED_LOCK_WAIT, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Waits(mpsc::Receiver<()>);

    impl Drop for Waits {
        fn drop(&mut self) {
            // Until the other end is dropped.
            let _ = self.0.recv();
        }
    }

    struct Panics;

    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("a page is damaged");
        }
    }

    #[test]
    fn what_does_not_end_is_given_up() {
        let (end, ended) = mpsc::channel();
        let given_up = drop_within(Duration::from_millis(10), Waits(ended));
        let error = given_up.expect_err("it does not end").to_string();
        assert!(error.contains("does not end"), "{error}");
        drop(end);
    }

    #[test]
    fn a_panic_is_told() {
        let closed = drop_within(Duration::from_secs(60), Panics);
        let error = closed.expect_err("it panicked").to_string();
        assert!(error.contains("panicked"), "{error}");
    }

    #[test]
    fn what_ends_is_waited_for() {
        let (end, ended) = mpsc::channel();
        drop(end);
        drop_within(Duration::from_secs(60), Waits(ended)).expect("it ends");
    }
}
