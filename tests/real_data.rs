//! The languages of ISO 639-3, from Debian's package iso-codes, through the gateway and back: first
//! all of them, then edits, deletions, attachments and conflicts from both sides.
//!
//! Install the package, or set SETTEE_NO_ISO_CODES=1 to go without these tests.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/replicas.rs"]
mod replicas;

use std::path::Path;

use binary::{Served, arg, place, settee};
use replicas::until_equal;
use serde_json::{Value, json};
use settee::doc::Attachment;
use settee::store::GetOptions;
use settee::{Client, Database, DbName, DocId, Document, Store, Sync, SyncOptions};
use tempfile::tempdir;

const LANGUAGES: &str = "/usr/share/iso-codes/json/iso_639-3.json";

fn has_languages() -> bool {
    if std::env::var_os("SETTEE_NO_ISO_CODES").is_some_and(|value| value == "1") {
        return false;
    }
    assert!(
        Path::new(LANGUAGES).is_file(),
        "{LANGUAGES} is missing: install the package iso-codes, or set SETTEE_NO_ISO_CODES=1"
    );
    true
}

fn sync(dir: &Path, served: &Served) -> String {
    let url = served.url("languages");
    settee(&["sync", &place(dir, "languages"), &url, "--create", "--token", "secret"]).ok()
}

fn dump(dir: &Path) -> String {
    settee(&["dump", &place(dir, "languages")]).ok()
}

fn load(dir: &Path) -> String {
    let place = place(dir, "languages");
    settee(&["load", &place, LANGUAGES, "--array", "639-3", "--id", "alpha_3"]).ok()
}

#[test]
fn languages_go_through_a_gateway_unchanged() {
    if !has_languages() {
        return;
    }
    let dir = tempdir().unwrap();
    let [a, b, data] = ["a", "b", "gateway"].map(|name| dir.path().join(name));
    let text = std::fs::read_to_string(LANGUAGES).unwrap();
    let source: Value = serde_json::from_str(&text).unwrap();
    let count = source["639-3"].as_array().unwrap().len();
    assert!(count > 7_000, "{count}");
    assert!(load(&a).starts_with(&format!("loaded {count} documents; 0 ")));
    let served = Served::start(&data, "127.0.0.1:0");
    assert!(sync(&a, &served).contains(&format!("pushed {count} revisions, 0 refused")));
    assert!(sync(&b, &served).contains(&format!("pulled {count} revisions, 0 refused")));
    assert!(sync(&b, &served).contains("pulled 0 revisions"));
    let (status, _) = served.stop("TERM");
    assert!(status.success());
    let dumped = dump(&a);
    assert!(dumped == dump(&b) && dumped == dump(&data), "the dumps differ");
    for (line, language) in dumped.lines().zip(source["639-3"].as_array().unwrap()) {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let members = line.as_object_mut().unwrap();
        members.retain(|name, _| !name.starts_with('_'));
        assert_eq!(&line, language);
    }
    for dir in [&a, &b, &data] {
        assert!(settee(&["check", arg(dir)]).ok().contains("sound"));
    }
}

fn id(text: &str) -> DocId {
    DocId::parse(text, 100).unwrap()
}

async fn open(dir: &Path) -> (Store, Database) {
    let store = Store::open(dir).unwrap();
    let db = store.database(&DbName::parse("languages").unwrap()).await.unwrap();
    (store, db)
}

async fn edit(db: &Database, code: &str, by: &str) -> Document {
    let current = db.get(&id(code), &GetOptions::default()).await.unwrap();
    let mut body: Value = current.to().unwrap();
    body["edited_by"] = by.into();
    let edited = Document::new(code, &body).unwrap().with_rev(current.rev.unwrap());
    Document { attachments: current.attachments, ..edited }
}

async fn delete(db: &Database, code: &str) {
    let current = db.get(&id(code), &GetOptions::default()).await.unwrap();
    db.delete(&id(code), current.rev.unwrap()).await.unwrap();
}

/// What one side does without knowing of the other.
async fn work(db: &Database, by: &'static str, own: [&str; 3], shared: [&str; 2]) {
    db.put(edit(db, own[0], by).await).await.unwrap();
    delete(db, own[1]).await;
    let sound = by.repeat(100_000);
    let with = edit(db, own[2], by).await;
    let with = with.with_attachment("sound", Attachment::inline("audio/x", sound));
    let with = with.with_attachment("note", Attachment::inline("text/plain", by));
    db.put(with).await.unwrap();
    for code in shared {
        db.put(edit(db, code, by).await).await.unwrap();
    }
}

fn live(db: &Database, served: &Served) -> Sync {
    let client = Client::connect(&format!("ws://{}", served.address)).unwrap();
    let options = SyncOptions::live("languages").credentials(json!({"token": "secret"}));
    client.sync(db, options)
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_from_both_sides_end_equal() {
    if !has_languages() {
        return;
    }
    let dir = tempdir().unwrap();
    let [dir_a, dir_b, data] = ["a", "b", "gateway"].map(|name| dir.path().join(name));
    load(&dir_a);
    let served = Served::start(&data, "127.0.0.1:0");
    sync(&dir_a, &served);
    sync(&dir_b, &served);
    let ((store_a, a), (store_b, b)) = (open(&dir_a).await, open(&dir_b).await);
    // Offline, on both sides; `ita` is edited by one and deleted by the other.
    work(&a, "a", ["deu", "aaa", "eng"], ["fra", "ita"]).await;
    work(&b, "b", ["nld", "aab", "swe"], ["fra", "spa"]).await;
    delete(&b, "ita").await;
    let (mut sync_a, mut sync_b) = (live(&a, &served), live(&b, &served));
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    // Online.
    work(&a, "a2", ["por", "aac", "nld"], ["deu", "ita"]).await;
    work(&b, "b2", ["fin", "aad", "eng"], ["rus", "swe"]).await;
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    let options = GetOptions { conflicts: true, ..GetOptions::default() };
    let winners = [a.get(&id("fra"), &options).await, b.get(&id("fra"), &options).await];
    let [in_a, in_b] = winners.map(|winner| winner.unwrap());
    assert_eq!(in_a.rev, in_b.rev);
    assert_eq!((in_a.extra.conflicts.len(), &in_a.extra), (1, &in_b.extra));
    for code in ["aaa", "aab", "aac", "aad"] {
        assert!(a.get(&id(code), &GetOptions::default()).await.is_err(), "{code} is deleted");
    }
    for (db, code, by) in [(&a, "swe", "b"), (&a, "eng", "b2"), (&b, "nld", "a2")] {
        let sound = db.attachment(&id(code), "sound", None).await.unwrap().bytes().await.unwrap();
        assert!(sound == by.repeat(100_000).as_bytes(), "{code}");
    }
    sync_a.cancel().await;
    sync_b.cancel().await;
    drop((sync_a, sync_b, a, b));
    store_a.close().await.unwrap();
    store_b.close().await.unwrap();
    let (status, _) = served.stop("TERM");
    assert!(status.success());
    let dumped = dump(&dir_a);
    assert!(dumped == dump(&dir_b) && dumped == dump(&data), "the dumps differ");
    for dir in [&dir_a, &dir_b, &data] {
        assert!(settee(&["check", arg(dir)]).ok().contains("sound"));
    }
}
