//! `settee load` and `settee dump`: what is dumped and loaded again is the same.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::fs;

use binary::{arg, place, settee, settee_with};
use tempfile::tempdir;

/// Histories, conflicts, tombstones that win and that do not, attachments small and large, numbers
/// that no float can hold, ids in need of escapes.
fn lines() -> String {
    let large = "QUJD".repeat(100_000);
    let mut lines = [
        r#"{"_id":"conflict","_rev":"3-c","_revisions":{"start":3,"ids":["c","b","a"]},"n":1.10}"#,
        r#"{"_id":"conflict","_rev":"2-z","_revisions":{"start":2,"ids":["z","a"]},"side":true}"#,
        r#"{"_id":"conflict","_rev":"9-x","_deleted":true,"_revisions":{"start":9,"ids":["x","w"]},"why":"old"}"#,
        r#"{"_id":"gone","_rev":"2-b","_deleted":true,"_revisions":{"start":2,"ids":["b","a"]}}"#,
        r#"{"_id":"picture","_rev":"2-b","_revisions":{"start":2,"ids":["b","a"]},"_attachments":{"a.txt":{"content_type":"text/plain","revpos":1,"digest":"md5-SfaKXIST7CwL9ImCHCH8Ow==","data":"aGk="}},"big":11037754778148512814851267060610}"#,
        r#"{"_id":"ä \"/\" \u0001","_rev":"1-a","_revisions":{"start":1,"ids":["a"]}}"#,
    ]
    .join("\n");
    lines.push_str(&format!(
        "\n{{\"_id\":\"large\",\"_rev\":\"1-a\",\"_revisions\":{{\"start\":1,\"ids\":[\"a\"]}},\
         \"_attachments\":{{\"f\":{{\"data\":\"{large}\"}}}}}}\n"
    ));
    lines
}

#[test]
fn a_dump_loads_to_the_same_dump() {
    let dir = tempdir().unwrap();
    let (a, b) = (place(&dir.path().join("a"), "db"), place(&dir.path().join("b"), "db"));
    let loaded = settee_with(&["load", &a], lines().as_bytes()).ok();
    assert_eq!(loaded, "loaded 7 documents; 0 were there already; 0 were bad\n");
    let first = settee(&["dump", &a]).ok();
    let file = dir.path().join("dump");
    fs::write(&file, &first).unwrap();
    settee(&["load", &b, arg(&file)]).ok();
    let again = dir.path().join("again");
    settee(&["dump", &b, arg(&again)]).ok();
    assert!(fs::read_to_string(again).unwrap() == first, "the dumps differ");
    let written = lines();
    let small: Vec<&str> = written.lines().take(6).collect();
    let order = [0, 1, 2, 3];
    for (line, wanted) in first.lines().zip(order) {
        assert_eq!(line, small[wanted], "winner first, then the other leaves");
    }
    let of = |id: &str| first.lines().find(|line| line.contains(id)).expect("it is dumped");
    assert_eq!(of("\"picture\""), small[4]);
    assert_eq!(of("\"ä"), small[5]);
    assert!(of("\"large\"").contains(&"QUJD".repeat(100_000)));
    let repeated = settee(&["load", &b, arg(&file)]).ok();
    assert_eq!(repeated, "loaded 0 documents; 7 were there already; 0 were bad\n");
    assert!(settee(&["check", &b]).ok().starts_with("db: sound (5 documents"));
}

#[test]
fn a_selector_narrows_a_dump() {
    let dir = tempdir().unwrap();
    let db = place(dir.path(), "db");
    settee_with(&["load", &db], lines().as_bytes()).ok();
    let dumped = settee(&["dump", &db, "--selector", r#"{"n":{"$lt":1.2}}"#]).ok();
    let written = lines();
    assert_eq!(dumped.trim_end(), written.lines().next().unwrap());
    let refused = settee(&["dump", &db, "--selector", r#"{"a":{"$foo":1}}"#]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("Invalid operator: $foo"), "{refused:?}");
}

#[test]
fn local_documents_stay_where_they_are() {
    let dir = tempdir().unwrap();
    let db = place(dir.path(), "db");
    let loaded = settee_with(&["load", &db], b"{\"_id\":\"_local/x\"}\n{\"_id\":\"a\"}\n");
    assert_eq!(loaded.code, Some(1));
    assert_eq!(loaded.stderr, "settee: line 1: local documents are not loaded\n");
    let dumped = settee(&["dump", &db]).ok();
    assert!(dumped.starts_with(r#"{"_id":"a","#) && dumped.lines().count() == 1, "{dumped}");
}

#[test]
fn bad_lines_are_named_and_the_others_loaded() {
    let dir = tempdir().unwrap();
    let db = place(dir.path(), "db");
    settee_with(&["load", &db], b"{\"_id\":\"there\"}").ok();
    let input = b"{\"_id\":\"a\"}\n\nnot json\n{\"n\":1}\n{\"_id\":\"there\"}\n\xff\n\
        {\"_id\":\"b\",\"_rev\":\"1-x\",\"_revisions\":7}\n{\"_id\":\"c\"}";
    let loaded = settee_with(&["load", &db, "-"], input);
    assert_eq!(loaded.code, Some(1));
    assert_eq!(loaded.stdout, "loaded 2 documents; 0 were there already; 5 were bad\n");
    let lines: Vec<&str> = loaded.stderr.lines().collect();
    let starts = [
        "settee: line 3: invalid UTF-8 JSON",
        "settee: line 4: it has no _id; name the member that is to be it with --id",
        "settee: line 6: it is not UTF-8",
        "settee: line 7: Bad value of special document member _revisions",
        "settee: line 5: document there: Document update conflict.",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:?}");
    for start in starts {
        assert!(lines.iter().any(|line| line.starts_with(start)), "{start}: {lines:?}");
    }
    let many = "x\n".repeat(30);
    let loaded = settee_with(&["load", &db], many.as_bytes());
    assert_eq!(loaded.stderr.lines().count(), 21);
    assert!(loaded.stderr.ends_with("settee: 10 more bad documents are not listed\n"));
}

#[test]
fn arrays_are_read_and_ids_taken_from_a_member() {
    let dir = tempdir().unwrap();
    let db = place(dir.path(), "db");
    let array =
        br#" [{"code": "x", "n": 1.0}, {"code": 7}, {"code": []}, 3, {"_id":"own","code":1}]"#;
    let loaded = settee_with(&["load", &db, "--id", "code"], array);
    assert_eq!(loaded.code, Some(1));
    assert_eq!(loaded.stdout, "loaded 3 documents; 0 were there already; 2 were bad\n");
    assert!(loaded.stderr.contains("element 3: ") && loaded.stderr.contains("element 4: "));
    let dumped = settee(&["dump", &db]).ok();
    let ends = [r#""code":7}"#, r#""code":1}"#, r#""code":"x","n":1.0}"#];
    for ((line, end), id) in dumped.lines().zip(ends).zip(["7", "own", "x"]) {
        assert!(line.starts_with(&format!("{{\"_id\":\"{id}\",")) && line.ends_with(end), "{line}");
    }
    let object = b"{\n\"about\": [1],\n\"rows\": [\n{\"_id\": \"row\"}\n]\n}\n";
    let refused = settee_with(&["load", &db], object).failure();
    assert!(refused.contains("--array"), "{refused}");
    settee_with(&["load", &db, "--array", "rows"], object).ok();
    let missing = settee_with(&["load", &db, "--array", "row"], object);
    assert!(missing.stderr.contains("no member \"row\"") && missing.code == Some(1));
    let cut = settee_with(&["load", &db], b"[{\"_id\":\"last\"}, {\"_id\"");
    assert_eq!(cut.code, Some(1));
    assert!(cut.stderr.contains("cannot be read further") && cut.stdout.starts_with("loaded 1 "));
}

#[test]
fn what_is_not_there_is_said_and_not_made() {
    let dir = tempdir().unwrap();
    let nowhere = place(&dir.path().join("nowhere"), "db");
    assert!(settee(&["dump", &nowhere]).failure().contains("nowhere is not a data directory"));
    assert!(!dir.path().join("nowhere").exists());
    let data = dir.path().join("data");
    settee_with(&["load", &place(&data, "db")], b"").ok();
    assert!(settee(&["dump", &place(&data, "other")]).failure().contains("no database other"));
    assert!(settee(&["dump", &place(&data, "Other")]).failure().contains("lowercase"));
    assert!(settee(&["load", "db"]).failure().contains("DIR/DB"));
    assert!(settee(&["load", &nowhere, "no-such-file"]).failure().contains("no-such-file"));
    settee_with(&["load", arg(&data), "--db", "a/b"], b"{\"_id\":\"x\"}").ok();
    assert_eq!(settee(&["dump", arg(&data), "--db", "a/b"]).ok().lines().count(), 1);
}
