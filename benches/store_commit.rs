//! Documents a second through `Backend::commit` on sled, each commit on disk when it returns.
//!
//! `cargo bench --bench store_commit [-- DIR]`

#[path = "support/allocator.rs"]
mod allocator;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use settee::doc::{Body, BodyRecord, RevHash, RevPath, RevState, RevTree};
use settee::store::SledBackend;
use settee::store::backend::{Backend, Commit, DatabaseKey, DocCommit, OlderCommit, Version};
use settee::{DbName, DocId, Limits, Rev};

const DOCS: usize = 200_000;
const BATCH: usize = 1_000;
const UPDATES: usize = 20_000;
const WRITERS: usize = 64;
const SINGLES_PER_WRITER: usize = 1_000;

fn doc(n: usize, generation: u64, known: Option<(u64, &RevTree)>) -> DocCommit {
    let text = format!(r#"{{"n":{n},"generation":{generation},"fill":"{}"}}"#, "x".repeat(210));
    let body = Body::parse(&text, &Limits::default()).expect("a legal body");
    let body = BodyRecord { attachments: Vec::new(), body };
    let hash = |generation: u64| {
        let mut digest = [0; 16];
        digest[..8].copy_from_slice(&(n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        digest[8..].copy_from_slice(&generation.to_be_bytes());
        RevHash::from_digest(digest)
    };
    let hashes = (1..=generation).rev().map(hash).collect();
    let path = RevPath::new(generation, hashes).expect("a legal path");
    let state = RevState { deleted: false, body_bytes: u32::try_from(body.encode().len()).ok() };
    let tree = RevTree::from_path(&path, state);
    let (expected, tree) = match known {
        Some((version, old)) => (version, old.merge(&tree)),
        None => (0, tree),
    };
    DocCommit {
        id: DocId::parse(&format!("document-{n:09}"), 512).expect("a legal id"),
        expected: Version { seq: expected, edition: 0 },
        leaves: tree.leaves(),
        tree,
        older: OlderCommit::default(),
        bodies: vec![(Rev::new(generation, hash(generation)).expect("a legal revision"), body)],
        dropped: Vec::new(),
        blobs: Vec::new(),
    }
}

async fn commit(store: &dyn Backend, db: DatabaseKey, batch: Vec<DocCommit>) -> Vec<u64> {
    match store.commit(db, batch).await.expect("the commit succeeds") {
        Commit::Done(seqs) => seqs,
        Commit::Stale(_) | Commit::BlobsMissing(_) => panic!("nobody else writes"),
    }
}

fn report(what: &str, docs: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    println!("{what}: {:.0} docs/s ({docs} in {seconds:.2} s)", docs as f64 / seconds);
}

async fn run(path: PathBuf) {
    let store = Arc::new(SledBackend::open(&path).expect("the store opens"));
    let name = DbName::parse("bench").expect("a legal name");
    let db = store.create_database(&name).await.expect("a fresh directory").key;

    let mut versions = Vec::with_capacity(DOCS);
    let started = Instant::now();
    for from in (0..DOCS).step_by(BATCH) {
        let batch = (from..from + BATCH).map(|n| doc(n, 1, None)).collect();
        versions.extend(commit(&*store, db, batch).await);
    }
    report("new documents, 1,000 a commit", DOCS, started);

    let started = Instant::now();
    for from in (0..UPDATES).step_by(BATCH) {
        let batch = (from..from + BATCH).map(|n| {
            let n = n * (DOCS / UPDATES);
            doc(n, 2, Some((versions[n], &doc(n, 1, None).tree)))
        });
        commit(&*store, db, batch.collect()).await;
    }
    report("updates, 1,000 a commit", UPDATES, started);

    let started = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..SINGLES_PER_WRITER {
                    let n = DOCS + n * WRITERS + writer;
                    commit(&*store, db, vec![doc(n, 1, None)]).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("the writer ends");
    }
    report("64 writers, 1 document a commit", WRITERS * SINGLES_PER_WRITER, started);

    let started = Instant::now();
    const ALONE: usize = 5_000;
    for n in 0..ALONE {
        commit(&*store, db, vec![doc(10 * DOCS + n, 1, None)]).await;
    }
    report("1 writer, 1 document a commit", ALONE, started);
    store.close().await.expect("the store closes");
}

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let path = given.map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(run(path));
}
