//! `settee info` and `settee check`: what is there, and whether it is sound.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::fs;
use std::path::{Path, PathBuf};

use binary::{arg, place, settee, settee_with};
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn databases_are_listed_with_their_counts() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    settee_with(&["load", &place(data, "a")], b"{\"_id\":\"x\"}\n{\"_id\":\"y\"}").ok();
    let gone = b"{\"_id\":\"x\",\"_rev\":\"1-a\",\"_revisions\":{\"start\":1,\"ids\":[\"a\"]},\"_deleted\":true}";
    settee_with(&["load", &place(data, "bb")], gone).ok();
    let listed = settee(&["info", arg(data)]).ok();
    assert_eq!(listed, "a   2 documents, 0 deleted\nbb  0 documents, 1 deleted\n");
    let json: Value = serde_json::from_str(&settee(&["info", "--json", arg(data)]).ok()).unwrap();
    assert_eq!(json["databases"][1]["name"], "bb");
    assert_eq!(json["databases"][0]["doc_count"], 2);
    let one = settee(&["info", "--json", &place(data, "bb")]).ok();
    let one: Value = serde_json::from_str(&one).unwrap();
    assert_eq!((&one["deleted_count"], &one["doc_count"]), (&1.into(), &0.into()));
    assert!(settee(&["info", &place(data, "a")]).ok().contains("documents    2\n"));
    assert!(settee(&["info", &place(data, "c")]).failure().contains("no database c"));
    let nowhere = data.join("nowhere/x");
    assert!(settee(&["info", arg(&nowhere)]).failure().contains("not a data directory"));
    assert!(!nowhere.exists());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn check_fails_when_an_attachment_is_damaged() {
    let dir = tempdir().unwrap();
    let data = dir.path();
    let large = "QUJD".repeat(100_000);
    let doc = format!("{{\"_id\":\"x\",\"_attachments\":{{\"f\":{{\"data\":\"{large}\"}}}}}}");
    settee_with(&["load", &place(data, "db")], doc.as_bytes()).ok();
    settee_with(&["load", &place(data, "other")], b"{\"_id\":\"y\"}").ok();
    let sound = settee(&["check", arg(data)]).ok();
    assert_eq!(
        sound,
        "db: sound (1 documents, 1 revisions, 1 attachments read)\n\
         other: sound (1 documents, 1 revisions, 0 attachments read)\n"
    );
    let [blob] = &files(&data.join("blobs"))[..] else { panic!("one attachment is one file") };
    let mut bytes = fs::read(blob).unwrap();
    bytes[1_000] ^= 1;
    fs::write(blob, bytes).unwrap();
    let damaged = settee(&["check", arg(data)]);
    assert_eq!(damaged.code, Some(1));
    assert!(damaged.stdout.contains("attachment \"f\" is damaged"), "{damaged:?}");
    assert!(damaged.stdout.contains("db: 1 problem"), "{damaged:?}");
    assert!(settee(&["check", &place(data, "other")]).ok().starts_with("other: sound"));
    fs::remove_file(blob).unwrap();
    let missing = settee(&["check", &place(data, "db")]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stdout.contains("attachment \"f\" is missing"), "{missing:?}");
}

#[test]
fn help_tells_of_each_command_in_short_and_at_length() {
    let help = settee(&["help"]).ok();
    assert!(help.contains("check          Read everything and say what does not fit together\n"));
    let short = settee(&["check", "-h"]).ok();
    assert!(!short.contains("exit code"), "{short}");
    let long = settee(&["check", "--help"]).ok();
    assert!(long.contains("The exit code is 0 if there is none"), "{long}");
}
