//! Backups: everything of a store as one stream, and back.
//!
//! An archive (`docs/BACKUP.md`) is read from the feeds of the databases while they are written to.
//! The hard case is that a store has no snapshots: a document that changes while its database is
//! read has left the place in the feed where the reader would have met it. It comes again further
//! on, and a later record of a document takes the place of an earlier one. Near the end of the feed
//! the last few documents are read between two commits ([`Backend::snapshot`]); what the archive
//! then holds is the database at exactly that seq. Bodies that this still names are not removed
//! meanwhile: compaction waits, and a purge makes the database begin anew.
//!
//! [`Backend::snapshot`]: super::backend::Backend::snapshot

mod frame;
mod manifest;
mod record;
#[cfg(feature = "sled")]
mod restoring;
#[cfg(feature = "sled")]
mod salvaging;
mod writing;

use super::backend::Uuid;
use crate::doc::DbName;

pub use manifest::Manifest;
#[cfg(feature = "sled")]
pub use restoring::{RestoreOptions, Restored};
#[cfg(feature = "sled")]
pub use salvaging::{Lost, Salvaged, SalvagedDatabase};
pub use writing::{Backup, BackupOptions, BackupReport};

/// Why a backup cannot be made or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The bytes do not begin as an archive does.
    #[error("this is no backup of settee")]
    NotABackup,
    /// The archive was written by a newer version.
    #[error("the backup has format {found}; this version reads up to {known}")]
    TooNew {
        /// Its format version.
        found: u8,
        /// The newest version known here.
        known: u8,
    },
    /// The archive ends before its end.
    #[error("the backup is cut: it ends in its frame {frame}, and its end is missing")]
    Cut {
        /// Which frame, counted from 1.
        frame: u64,
    },
    /// The archive is not what was written.
    #[error("the backup is damaged: frame {frame} {problem}")]
    Damaged {
        /// Which frame, counted from 1.
        frame: u64,
        /// What is wrong.
        problem: &'static str,
    },
    /// The archive cannot be read.
    #[error("reading the backup: {0}")]
    Io(std::io::Error),
    /// An archive with the changes since another one does not follow on what was restored.
    #[error(
        "the backup {archive} holds the changes since {base}, which must be restored before it"
    )]
    WrongBase {
        /// The archive.
        archive: Uuid,
        /// What it is based on.
        base: Uuid,
    },
    /// A whole archive among those that follow the first.
    #[error("the backup {archive} is whole; only the first may be")]
    NotAnIncrement {
        /// The archive.
        archive: Uuid,
    },
    /// The base is of another store.
    #[error("the earlier backup is of another store, {found}")]
    OtherStore {
        /// The store that was backed up.
        found: Uuid,
    },
    /// No archive to restore.
    #[error("there is no backup to restore")]
    Nothing,
    /// A database changes faster than the backup is taken, or is purged again and again.
    #[error("{name} changes faster than its backup is read; read faster, or when less is written")]
    FellBehind {
        /// The database.
        name: DbName,
    },
}
