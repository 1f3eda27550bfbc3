//! How near the data directory comes to the bytes that a database holds: before compaction, after
//! it, after the store was opened again, after another round of edits, and after it was rewritten.
//!
//! `cargo bench --bench space [-- DOCS EDITS]`, 100,000 documents and 20 edits of each if not given.

#[path = "support/allocator.rs"]
mod allocator;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Instant;

use serde_json::json;
use settee::store::{CompactOptions, EditMode};
use settee::{Database, DbName, DocId, Document, Rev, Store};

const BATCH: usize = 100;

fn document(number: usize, round: usize) -> Document {
    let fill = "x".repeat(225);
    Document::new(&format!("document-{number:09}"), &json!({"round": round, "fill": fill}))
        .expect("a legal document")
}

/// Edits every document once, or makes it.
async fn round(db: &Database, round: usize, docs: usize, known: &mut Vec<(DocId, Rev)>) {
    let mut next = Vec::with_capacity(docs);
    for first in (0..docs).step_by(BATCH) {
        let batch = (first..docs.min(first + BATCH)).map(|number| {
            let mut edited = document(number, round);
            edited.rev = known.get(number).map(|(_, rev)| rev.clone());
            edited
        });
        let outcomes = db.bulk_docs(batch.collect(), EditMode::Edit).await.expect("it is written");
        next.extend(outcomes.into_iter().map(|outcome| {
            let written = outcome.expect("nobody else writes");
            (written.id, written.rev)
        }));
    }
    *known = next;
}

/// Bytes that a directory takes on the disk.
fn on_disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("the directory is there");
    let sizes = entries.map(|entry| {
        let entry = entry.expect("the directory can be read");
        let metadata = entry.metadata().expect("nobody removes files");
        if metadata.is_dir() { on_disk(&entry.path()) } else { metadata.blocks() * 512 }
    });
    sizes.sum()
}

async fn print(what: &str, db: &Database, dir: &Path, since: Instant) {
    let info = db.info().await.expect("it tells of itself");
    let (bytes, leaves) = (on_disk(dir), info.leaf_bytes);
    println!(
        "{what:<24} {:>9.1} MB of bodies, {:>8.1} MB of leaves, {:>9.1} MB on disk, {:.2} times the leaves; {:.1} s",
        info.body_bytes as f64 / 1e6,
        leaves as f64 / 1e6,
        bytes as f64 / 1e6,
        bytes as f64 / leaves as f64,
        since.elapsed().as_secs_f64(),
    );
}

/// `compact_every`: rounds of edits after which the database is compacted.
async fn run(docs: usize, edits: usize, compact_every: Option<usize>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let dir = directory.path();
    let name = DbName::parse("edited").expect("a legal name");
    let store = Store::open(dir).expect("the store opens");
    let db = store.create(&name).await.expect("a fresh store");
    let mut known = Vec::new();
    let options = CompactOptions { gently: false, ..CompactOptions::default() };
    let rounds = compact_every.map_or(String::new(), |n| format!(", compacted after every {n}"));
    println!("{docs} documents, {edits} edits of each{rounds}");
    let began = Instant::now();
    round(&db, 0, docs, &mut known).await;
    print("made", &db, dir, began).await;
    for number in 1..=edits {
        round(&db, number, docs, &mut known).await;
        if compact_every.is_some_and(|rounds| number.is_multiple_of(rounds)) {
            db.compact(options).await.expect("it is compacted");
        }
    }
    print("edited", &db, dir, began).await;

    let began = Instant::now();
    db.compact(options).await.expect("it is compacted");
    print("compacted", &db, dir, began).await;

    let began = Instant::now();
    drop(db);
    store.close().await.expect("the store closes");
    let store = Store::open(dir).expect("the store opens");
    let db = store.database(&name).await.expect("it is there");
    print("opened again", &db, dir, began).await;

    let began = Instant::now();
    round(&db, edits + 1, docs, &mut known).await;
    print("edited once more", &db, dir, began).await;
    let began = Instant::now();
    db.compact(options).await.expect("it is compacted");
    print("compacted once more", &db, dir, began).await;
    let began = Instant::now();
    drop(db);
    store.close().await.expect("the store closes");
    let rewritten = Store::rewrite(dir).expect("it is rewritten");
    let store = Store::open(dir).expect("the store opens");
    let db = store.database(&name).await.expect("it is there");
    print("rewritten", &db, dir, began).await;
    println!("{} rows of {:.1} MB", rewritten.rows, rewritten.bytes as f64 / 1e6);
    drop(db);
    store.close().await.expect("the store closes");
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let docs = numbers.next().unwrap_or(100_000);
    let edits = numbers.next().unwrap_or(20);
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        run(docs, edits, None).await;
        run(docs, edits, Some(2)).await;
    });
}
