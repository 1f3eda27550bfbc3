//! Data directories as files: listing and copying them.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a directory, sorted, relative to it.
pub fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(dir.join(&directory)).expect("a directory can be read") {
            let entry = entry.expect("a directory can be read");
            let path = directory.join(entry.file_name());
            if entry.file_type().expect("files have types").is_dir() {
                directories.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Makes `to` a copy of `from`.
pub fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).expect("an old copy can be removed");
    }
    fs::create_dir_all(to).expect("a directory can be made");
    for path in files(from) {
        let target = to.join(&path);
        fs::create_dir_all(target.parent().expect("it is below")).expect("directories can be made");
        fs::copy(from.join(&path), target).expect("a file can be copied");
    }
}
