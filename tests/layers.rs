//! The layering, read from the sources: what may name what.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file's code and comments, without its unit tests.
const LINES_MAX: usize = 600;

fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("sources can be listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    assert!(found.len() > 30, "the sources were found");
    let name = |path: &Path| {
        path.strip_prefix(&root).expect("below src").to_string_lossy().replace('\\', "/")
    };
    let text = |path: &Path| {
        let text = fs::read_to_string(path).expect("a source is text");
        text.split("#[cfg(test)]\nmod tests").next().expect("a first part").to_owned()
    };
    found.iter().map(|path| (name(path), text(path))).collect()
}

/// Code without comments: what is only spoken of is not used.
fn code(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// No file that `within` picks names any of the words.
fn check(within: impl Fn(&str) -> bool, words: &[&str]) {
    for (name, text) in sources().iter().filter(|(name, _)| within(name)) {
        let code = code(text);
        for word in words {
            assert!(!code.contains(word), "src/{name} names {word}");
        }
    }
}

#[test]
fn the_model_and_the_protocol_are_pure() {
    let pure = |name: &str| name.starts_with("doc/") || name.starts_with("proto/");
    check(pure, &["tokio", "Instant", "SystemTime", "sled::", "warp", "std::fs", "std::net"]);
    check(|name| name.starts_with("doc/"), &["crate::proto", "crate::store"]);
    check(|name| name.starts_with("proto/"), &["crate::store", "crate::server", "crate::client"]);
}

#[test]
fn the_store_knows_no_network() {
    let store = |name: &str| name.starts_with("store/");
    check(store, &["crate::proto", "crate::server", "crate::client", "crate::transport"]);
}

#[test]
fn server_and_client_do_not_know_each_other() {
    check(|name| name.starts_with("server/"), &["crate::client"]);
    let elsewhere = |name: &str| {
        name.starts_with("server/")
            && !name.starts_with("server/replication/")
            && name != "server/error.rs"
    };
    check(elsewhere, &["crate::replicate", "crate::http_peer"]);
    check(|name| name.starts_with("http_peer/"), &["crate::server", "crate::client"]);
    check(|name| name.starts_with("client/"), &["crate::server", "crate::access"]);
}

#[test]
fn rules_of_access_stand_on_the_server_and_not_under_it() {
    check(
        |name| name.starts_with("server/"),
        &["crate::access", "crate::validate", "jsonwebtoken", "argon2"],
    );
}

#[test]
fn engines_and_frameworks_have_one_place() {
    check(
        |name| !name.starts_with("store/sled"),
        &["::sled::", "sled::Db", "sled::Tree", "sled::Config"],
    );
    check(|name| !name.starts_with("server/"), &["warp::", "hyper::"]);
    check(|name| !name.starts_with("store/"), &["store::keys"]);
}

#[test]
fn one_table_makes_errors_and_close_codes() {
    let elsewhere = |name: &str| {
        name.starts_with("server/")
            && name != "server/error.rs"
            && !name.starts_with("server/error/")
    };
    check(elsewhere, &["CloseCode", "CloseFrame", "WireError {"]);
}

#[test]
fn nothing_is_unsafe_and_no_file_is_too_long() {
    check(|_| true, &["unsafe {", "unsafe fn", "unsafe impl"]);
    for (name, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "src/{name} has {lines} lines");
    }
}
