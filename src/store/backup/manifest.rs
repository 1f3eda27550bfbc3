//! What an archive holds, as its last record tells it: how far each database was backed up.

use std::collections::BTreeMap;
use std::io::Read;

use serde::{Deserialize, Serialize};

use super::BackupError;
use super::record::{ArchiveReader, Record};
use crate::doc::DbName;
use crate::store::backend::Uuid;

/// How far each database was backed up: what the next archive goes on from.
///
/// Serialised it is what the gateway's backup route takes as `since`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Names the archive.
    pub archive: Uuid,
    /// The store that was backed up.
    pub store: Uuid,
    /// The databases.
    pub databases: BTreeMap<DbName, Reached>,
}

/// How far a database was backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reached {
    /// Which of the databases that ever had this name it is.
    pub incarnation: Uuid,
    /// The update seq as of which everything is in the archive.
    pub seq: u64,
    /// Documents that had been purged by then.
    pub purge_seq: u64,
}

impl Manifest {
    /// Reads a whole archive, checking every byte of it, for the sake of its last record. Blocks.
    ///
    /// # Errors
    /// [`BackupError`] for an archive that is cut or damaged.
    pub fn read(archive: impl Read) -> Result<Self, BackupError> {
        let mut reader = ArchiveReader::begin(archive)?;
        loop {
            if let Record::End(manifest) = reader.record()? {
                return Ok(manifest);
            }
        }
    }
}
