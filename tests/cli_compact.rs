//! `settee compact`, `purge`, `destroy`, `list` and `check --repair`: what goes, and what is said.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::fs;
use std::path::{Path, PathBuf};

use binary::{Served, arg, place, settee, settee_with};
use serde_json::Value;
use tempfile::tempdir;

/// A revision of a document with its ancestors, as a line for `settee load`.
fn line(id: &str, hashes: &[&str], more: &str) -> String {
    let (generation, ids) = (hashes.len(), serde_json::json!(hashes));
    format!(
        "{{\"_id\":{id:?},\"_rev\":\"{generation}-{}\",\"_revisions\":{{\"start\":{generation},\"ids\":{ids}}}{more}}}\n",
        hashes[0]
    )
}

fn load(place: &str, lines: &[String]) {
    settee_with(&["load", place], lines.concat().as_bytes()).ok();
}

fn info(place: &str) -> Value {
    serde_json::from_str(&settee(&["info", "--json", place]).ok()).unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// An attachment that is a file.
fn attachment() -> String {
    format!(",\"_attachments\":{{\"f\":{{\"data\":\"{}\"}}}}", "QUJD".repeat(20_000))
}

#[test]
fn compact_says_what_went_and_what_the_disk_has() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    let (a, b) = (place(data, "a"), place(data, "b"));
    load(&a, &[line("x", &["a"], &attachment()), line("x", &["b", "a"], ",\"n\":2")]);
    load(&b, &[line("y", &["a"], ""), line("y", &["b", "a"], "")]);
    let (dump, before) = (settee(&["dump", &a]).ok(), info(&a));
    let old = before["body_bytes"].as_u64().unwrap() - before["leaf_bytes"].as_u64().unwrap();
    let said = settee(&["compact", &a]).ok();
    let lines: Vec<&str> = said.lines().collect();
    let expected = format!("a: 1 bodies of {old} bytes and 1 attachments of 60000 bytes removed");
    assert_eq!(lines[0], expected);
    assert!(lines[1].starts_with(&format!("{}: ", arg(data))), "{said}");
    let numbers: Vec<u64> = lines[1].split(' ').filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] > 0 && numbers[1] > 0 && numbers[0] > numbers[1], "{said}");
    assert_eq!(files(&data.join("blobs")), Vec::<PathBuf>::new());
    assert_eq!(settee(&["dump", &a]).ok(), dump, "leaves and histories stay");
    assert_eq!(info(&a)["body_bytes"], before["leaf_bytes"]);
    let all = settee(&["compact", arg(data)]).ok();
    assert!(all.starts_with("a: 0 bodies") && all.contains("\nb: 1 bodies"), "{all}");
    settee(&["check", arg(data)]).ok();
}

#[test]
fn a_rewritten_directory_holds_the_same() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    let a = place(data, "a");
    let lines: Vec<String> = (0..2_000)
        .map(|n| line(&format!("doc{n}"), &["a"], &format!(",\"fill\":{:?}", "x".repeat(500))))
        .collect();
    load(&a, &lines);
    load(&place(data, "b"), &[line("y", &["a"], &attachment())]);
    settee(&["destroy", &a]).ok();
    load(&a, &[line("z", &["b", "a"], ""), line("z", &["c", "a"], "")]);
    let dumps = || [settee(&["dump", &a]).ok(), settee(&["dump", &place(data, "b")]).ok()];
    let (before, uuid) = (dumps(), info(arg(data))["uuid"].clone());
    let said = settee(&["compact", "--rewrite", arg(data)]).ok();
    let numbers = said.lines().last().unwrap().split(' ').filter_map(|word| word.parse().ok());
    let numbers: Vec<u64> = numbers.collect();
    assert!(numbers[1] < numbers[0], "{said}");
    assert_eq!((dumps(), info(arg(data))["uuid"].clone()), (before, uuid));
    settee(&["check", arg(data)]).ok();
    assert!(!data.join("sled.old").exists() && !data.join("sled.new").exists());
    let served = Served::start(data, "127.0.0.1:0");
    let refused = settee(&["compact", "--rewrite", arg(data)]).failure();
    assert!(refused.contains("in use"), "{refused}");
    drop(served);
}

#[test]
fn check_tells_of_attachments_that_nobody_names_and_repair_removes_them() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    let (a, b) = (place(data, "a"), place(data, "b"));
    load(&a, &[line("x", &["a"], &attachment()), line("x", &["b", "a"], "")]);
    load(&a, &[line("y", &["a"], &attachment().replace("QUJD", "REVG"))]);
    load(&b, &[line("z", &["a"], &attachment())]);
    settee(&["purge", &a, "y", "1-a"]).ok();
    assert_eq!(files(&data.join("blobs")).len(), 3);
    let told = settee(&["check", arg(data)]).ok();
    assert!(told.contains("a: sound") && told.contains("b: sound"), "{told}");
    assert!(told.contains("a: 1 attachments that no revision names; --repair"), "{told}");
    assert!(!told.contains("b: 1 attachments that"), "{told}");
    let repaired = settee(&["check", "--repair", arg(data)]).ok();
    assert!(repaired.contains("a: 1 attachments of 60000 bytes"), "{repaired}");
    assert_eq!(files(&data.join("blobs")).len(), 2, "an old revision's attachment stays");
    assert_eq!(info(&a)["doc_count"], 1);
    assert_ne!(info(&a)["body_bytes"], info(&a)["leaf_bytes"], "old bodies stay");
    let again = settee(&["check", "--repair", arg(data)]).ok();
    assert!(!again.contains("no revision names"), "{again}");
}

#[test]
fn what_is_damaged_is_not_swept() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    let a = place(data, "a");
    load(&a, &[line("x", &["a"], &attachment())]);
    let [kept] = &files(&data.join("blobs"))[..] else { panic!("one attachment is one file") };
    let unnamed = kept.with_file_name("0".repeat(64));
    fs::rename(kept, &unnamed).unwrap();
    let damaged = settee(&["check", "--repair", &a]);
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.stdout.contains("attachment \"f\" is missing"), "{damaged:?}");
    assert!(damaged.stdout.contains("stay, since it is damaged"), "{damaged:?}");
    assert!(unnamed.exists());
}

#[test]
fn attachments_of_destroyed_databases_go() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    load(&place(data, "a"), &[line("x", &["a"], &attachment())]);
    let stray = data.join("blobs").join("0000ffff");
    fs::create_dir(&stray).unwrap();
    fs::write(stray.join("0".repeat(64)), b"left").unwrap();
    settee(&["check", "--repair", arg(data)]).ok();
    assert!(!stray.exists());
    settee(&["destroy", &place(data, "a")]).ok();
    settee(&["check", "--repair", arg(data)]).ok();
    assert_eq!(files(&data.join("blobs")), Vec::<PathBuf>::new());
}

#[test]
fn purge_takes_leaves_and_names_what_is_none() {
    let dir = tempdir().unwrap();
    let a = place(dir.path(), "a");
    load(&a, &[line("x", &["b", "a"], ""), line("x", &["c", "a"], "")]);
    let purged = settee(&["purge", &a, "x", "2-c", "1-a"]);
    assert_eq!(purged.stdout, "purged 2-c of x\n");
    let failure = purged.failure();
    assert!(failure.contains("no leaf of x: 1-a"), "{failure}");
    assert_eq!(info(&a)["purge_seq"], 1);
    assert!(settee(&["purge", &a, "x", "b"]).failure().contains("cannot be a revision"));
    assert!(settee(&["purge", &a, "", "1-a"]).failure().contains("cannot be the id"));
    let nowhere = place(dir.path(), "b");
    assert!(settee(&["purge", &nowhere, "x", "1-a"]).failure().contains("no database b"));
    assert_eq!(settee(&["purge", &a, "x", "2-b"]).ok(), "purged 2-b of x\n");
    assert_eq!(settee(&["dump", &a]).ok(), "");
}

#[test]
fn databases_are_listed_and_destroyed() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    for name in ["b", "a", "c"] {
        load(&place(data, name), &[line("x", &["a"], "")]);
    }
    assert_eq!(settee(&["list", arg(data)]).ok(), "a\nb\nc\n");
    assert_eq!(settee(&["destroy", &place(data, "b")]).ok(), "");
    assert_eq!(settee(&["list", arg(data)]).ok(), "a\nc\n");
    let again = settee(&["destroy", arg(data), "--db", "b"]).failure();
    assert!(again.contains("no database b"), "{again}");
    assert!(settee(&["list", arg(&data.join("d"))]).failure().contains("not a data directory"));
}

#[test]
fn info_tells_what_compaction_would_keep() {
    let dir = tempdir().unwrap();
    let a = place(dir.path(), "a");
    load(&a, &[line("x", &["a"], ""), line("x", &["b", "a"], "")]);
    let text = settee(&["info", &a]).ok();
    for wanted in
        ["body bytes   6\n", "leaf bytes   3\n", "purge seq    0\n", "revs limit   1000\n"]
    {
        assert!(text.contains(wanted), "{wanted:?} in {text}");
    }
    assert_eq!(info(&a)["revs_limit"], 1_000);
}
