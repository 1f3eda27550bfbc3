//! What each part of the library may not know, read from its sources.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()))
    {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Lines of code below `src/PART` that hold one of `words`, apart from comments.
fn lines_with(part: &str, words: &[&str], except: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root.join(part), &mut files);
    assert!(!files.is_empty(), "src/{part} has no sources");
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        if except.iter().any(|except| name.starts_with(except)) {
            continue;
        }
        for line in fs::read_to_string(&file).unwrap().lines() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{name}: {}", line.trim()));
            }
        }
    }
    found
}

fn check(part: &str, words: &[&str], except: &[&str]) {
    assert_eq!(lines_with(part, words, except), [""; 0], "src/{part} must not name {words:?}");
}

#[test]
fn words_are_found_where_they_are() {
    assert!(!lines_with("store", &["tokio"], &[]).is_empty());
}

#[test]
fn documents_and_protocol_are_pure() {
    for part in ["doc", "proto"] {
        check(part, &["tokio", "std::fs", "std::net", "Instant", "SystemTime"], &[]);
        check(part, &["crate::store", "crate::server", "crate::client", "crate::replicate"], &[]);
    }
}

#[test]
fn the_store_knows_no_network() {
    check("store", &["crate::proto", "crate::server", "crate::client", "crate::replicate"], &[]);
}

#[test]
fn gateway_and_client_do_not_know_each_other() {
    check("server", &["crate::client", "crate::replicate"], &[]);
    check("client", &["crate::server", "warp"], &[]);
    check("replicate", &["crate::server", "crate::client", "warp"], &[]);
}

#[test]
fn only_its_backend_names_sled() {
    check("", &["::sled::", "sled::Db", "sled::IVec"], &["store/sled"]);
}
