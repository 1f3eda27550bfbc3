//! How the cost of a write grows: with the number of revisions of a document, and with the number
//! of documents of a database. Prints ratios to the smallest.
//!
//! `cargo bench --bench growth [-- DOCS]`, with up to DOCS documents (1,000,000 if not given).

use std::time::{Duration, Instant};

use serde_json::json;
use settee::doc::{RevHash, RevPath};
use settee::store::EditMode;
use settee::{Database, DbName, DocId, Document, Rev, Store};

const BATCH: usize = 100;
/// Documents of each length of history.
const DOCS_PER_LENGTH: usize = 200;
const ROUNDS: usize = 10;
/// Edits measured at each size of the database.
const EDITS: usize = 500;

fn hash(seed: u64, generation: u64) -> RevHash {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    digest[8..].copy_from_slice(&generation.to_be_bytes());
    RevHash::from_digest(digest)
}

fn document(id: &str) -> Document {
    Document::new(id, &json!({"fill": "x".repeat(225)})).expect("a legal document")
}

/// A document that arrives with a history of `length` revisions.
fn grown(number: usize, length: u64) -> Document {
    let mut document = document(&format!("length-{length:04}-{number:06}"));
    let hashes = (1..=length).rev().map(|generation| hash(number as u64, generation)).collect();
    let path = RevPath::new(length, hashes).expect("a legal path");
    document.rev = Some(path.leaf());
    document.revisions = Some(path);
    document
}

/// Edits every document once; answers the revisions made.
async fn edit(db: &Database, known: &[(DocId, Rev)]) -> Vec<(DocId, Rev)> {
    let mut next = Vec::with_capacity(known.len());
    for batch in known.chunks(BATCH) {
        let edits = batch.iter().map(|(id, rev)| {
            let mut edited = document(id.as_str());
            edited.rev = Some(rev.clone());
            edited
        });
        let outcomes = db.bulk_docs(edits.collect(), EditMode::Edit).await.expect("it is written");
        next.extend(outcomes.into_iter().map(|outcome| {
            let written = outcome.expect("nobody else writes");
            (written.id, written.rev)
        }));
    }
    next
}

async fn by_revisions(db: &Database) {
    println!("edits in batches of {BATCH}, by the number of revisions that a document has");
    let lengths = [1, 10, 100, 999];
    let mut known = Vec::new();
    for length in lengths {
        let docs = (0..DOCS_PER_LENGTH).map(|number| grown(number, length)).collect::<Vec<_>>();
        let ids = docs.iter().map(|doc| (doc.id.clone(), doc.rev.clone().expect("it has one")));
        known.push(ids.collect::<Vec<_>>());
        db.bulk_docs(docs, EditMode::Replicated).await.expect("they are written");
    }
    let mut times = vec![Vec::new(); lengths.len()];
    for _ in 0..ROUNDS {
        for (docs, times) in known.iter_mut().zip(&mut times) {
            let started = Instant::now();
            *docs = edit(db, docs).await;
            times.push(started.elapsed());
        }
    }
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    for (length, time) in lengths.iter().zip(&medians) {
        let each = time.as_secs_f64() * 1e6 / DOCS_PER_LENGTH as f64;
        let ratio = time.as_secs_f64() / medians[0].as_secs_f64();
        println!("{length:>9} revisions: {each:>7.1} µs an edit, {ratio:.2} times the first");
    }
}

async fn by_documents(store: &Store, most: usize) {
    println!("edits of random documents in batches of {BATCH}, by the documents of the database");
    let name = DbName::parse("growing").expect("a legal name");
    let db = store.create(&name).await.expect("a fresh store");
    let mut known: Vec<(DocId, Rev)> = Vec::new();
    let mut first = None;
    let mut seed = 1_u64;
    for size in [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= most) {
        let started = Instant::now();
        let before = known.len();
        while known.len() < size {
            let from = known.len();
            let docs = (from..from + 1_000).map(|n| document(&format!("document-{n:09}")));
            let outcomes = db.bulk_docs(docs.collect(), EditMode::Edit).await.expect("written");
            known.extend(outcomes.into_iter().map(|outcome| {
                let written = outcome.expect("nobody else writes");
                (written.id, written.rev)
            }));
        }
        let rate = (size - before) as f64 / started.elapsed().as_secs_f64();
        let mut places: Vec<usize> = (0..EDITS)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 33) as usize % size
            })
            .collect();
        places.sort_unstable();
        places.dedup();
        let chosen: Vec<_> = places.iter().map(|&place| known[place].clone()).collect();
        let started = Instant::now();
        let edited = edit(&db, &chosen).await;
        let each = started.elapsed().as_secs_f64() * 1e6 / chosen.len() as f64;
        places.into_iter().zip(edited).for_each(|(place, edited)| known[place] = edited);
        let ratio = each / *first.get_or_insert(each);
        println!(
            "{size:>9} documents: {each:>7.1} µs an edit, {ratio:.2} times the first; {rate:.0} new docs/s on the way"
        );
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let argument = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let store = Store::open(directory.path()).expect("the store opens");
        let name = DbName::parse("lengths").expect("a legal name");
        by_revisions(&store.create(&name).await.expect("a fresh store")).await;
        by_documents(&store, argument.unwrap_or(1_000_000)).await;
        store.close().await.expect("the store closes");
    });
}
