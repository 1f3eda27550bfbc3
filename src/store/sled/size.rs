//! How much the files of a store take.

use std::io;
use std::path::Path;

/// Bytes of the files in a directory and below. What goes away meanwhile counts as nothing.
pub(super) fn of_files(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        match entry.metadata() {
            Ok(found) if found.is_dir() => bytes += of_files(&entry.path())?,
            Ok(found) => bytes += found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}
