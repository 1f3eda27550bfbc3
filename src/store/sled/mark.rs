//! How far the store had come, told outside sled.
//!
//! sled takes damage near the end of its log for the end, see [`super::log`]. The number of the last group
//! stands in a row; after the group's flush it is also written to a file beside sled, before
//! anybody is answered. A store that opens with a lower number than the file's has lost what was
//! acknowledged.
//!
//! The file is not synced: a process that is killed loses nothing of what it wrote, and after a
//! power loss an older number is there, which demands less. So the mark costs a write of 34 bytes
//! for each flush.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::open::doing;
use crate::store::backend::Uuid;
use crate::store::error::StoreError;

const MARK_FILE: &str = "mark";

#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    uuid: Uuid,
    reached: u64,
}

impl Mark {
    /// Opens or makes the mark of a store that has come to `group`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a later group was acknowledged, or the file is not a mark.
    pub(super) fn open(path: &Path, uuid: Uuid, group: u64) -> Result<Self, StoreError> {
        let path: PathBuf = path.join(MARK_FILE);
        if !path.exists() {
            make(&path, &text(uuid, group)).map_err(doing("make the mark"))?;
        }
        let file = File::options().read(true).write(true).open(&path);
        let mut file = file.map_err(doing("open the mark"))?;
        let mut text = String::new();
        let read = file.read_to_string(&mut text);
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => text = "?".into(),
            Err(source) => return Err(StoreError::Io { doing: "read the mark", source }),
        }
        let mark = Self { file, uuid, reached: group };
        // A process that ended while it made the file left it empty.
        if !text.is_empty() {
            mark.judge(&text).map_err(|problem| StoreError::Damaged {
                what: format!("{} {problem}", path.display()),
            })?;
        }
        mark.set(group).map_err(doing("write the mark"))?;
        mark.file.sync_all().map_err(doing("write the mark"))?;
        Ok(mark)
    }

    /// The last group when it was opened.
    pub(super) fn reached(&self) -> u64 {
        self.reached
    }

    fn judge(&self, text: &str) -> Result<(), String> {
        match group_in(text, self.uuid) {
            None => Err("is malformed".into()),
            Some(group) if group > self.reached => Err(format!(
                "says that {group} groups of writes were acknowledged, and sled's files hold \
                 {} of them",
                self.reached
            )),
            Some(_) => Ok(()),
        }
    }

    /// Tells that a group is on disk.
    pub(super) fn set(&self, group: u64) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text(self.uuid, group).as_bytes())
    }
}

/// How far the store with this uuid had come by the mark in a directory; `None` if there is none, or
/// it is malformed.
pub(super) fn told(path: &Path, uuid: Uuid) -> Option<u64> {
    group_in(&fs::read_to_string(path.join(MARK_FILE)).ok()?, uuid)
}

fn group_in(text: &str, uuid: Uuid) -> Option<u64> {
    let group = text.split(' ').next().and_then(|group| u64::from_str_radix(group, 16).ok());
    group.filter(|group| self::text(uuid, *group) == text)
}

/// Makes the file under another name first, so that it is whole where a power loss leaves it.
fn make(path: &Path, text: &str) -> io::Result<()> {
    let made = path.with_extension("new");
    let mut file = File::create(&made)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&made, path)
}

/// The group and a checksum, always of the same length.
fn text(uuid: Uuid, group: u64) -> String {
    let mut hasher = Sha256::new();
    hasher.update(uuid.0);
    hasher.update(group.to_be_bytes());
    let sum: [u8; 32] = hasher.finalize().into();
    let sum = u64::from_be_bytes(*sum.first_chunk().expect("32 bytes hold 8"));
    format!("{group:016x} {sum:016x}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_behind_its_mark_is_refused_and_one_ahead_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let uuid = Uuid([7; 16]);
        let open = |group| Mark::open(dir.path(), uuid, group);
        open(0).expect("a new mark").set(300).expect("it is written");
        let refused = open(299).expect_err("one group is missing").to_string();
        assert!(refused.contains("300 groups") && refused.contains("mark"), "{refused}");
        open(300).expect("nothing is missing");
        open(301).expect("a power loss may lose the mark's last state");
        open(300).expect_err("opening has raised the mark");
        Mark::open(dir.path(), Uuid([8; 16]), 301).expect_err("the mark of another store");
        for damaged in ["", "0", "000000000000012d 0000000000000000\n", "\u{ff}"] {
            std::fs::write(dir.path().join(MARK_FILE), damaged).expect("it is written");
            assert_eq!(open(301).is_ok(), damaged.is_empty(), "{damaged:?}");
        }
    }
}
