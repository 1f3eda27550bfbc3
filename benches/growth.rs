//! How the cost of a write grows: with the number of revisions of a document, and with the number
//! of documents of a database, beside sled alone with the same rows. Prints ratios to the smallest.
//!
//! `cargo bench --bench growth [-- DOCS [CACHE_MIB]]`, with up to DOCS documents (1,000,000 if not
//! given) and as much cache.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/bare_sled.rs"]
mod bare_sled;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bare_sled::BareSled;
use serde_json::json;
use settee::doc::{RevHash, RevPath};
use settee::store::{EditMode, SledBackend, SledOptions};
use settee::{Database, DbName, DocId, Document, Limits, Rev, Store};

const BATCH: usize = 100;
/// Documents of each length of history.
const DOCS_PER_LENGTH: usize = 200;
const ROUNDS: usize = 10;
/// Edits measured at each size of the database.
const EDITS: usize = 5_000;
/// Documents of one batch while a database grows.
const LOADED: usize = 1_000;
/// As in the store.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

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

/// Edits every document once; answers the revisions made, and the times of the batches.
async fn edit(db: &Database, known: &[(DocId, Rev)]) -> (Vec<(DocId, Rev)>, Vec<Duration>) {
    let mut next = Vec::with_capacity(known.len());
    let mut times = Vec::new();
    for batch in known.chunks(BATCH) {
        let started = Instant::now();
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
        times.push(started.elapsed());
    }
    (next, times)
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
            let (edited, batches) = edit(db, docs).await;
            *docs = edited;
            times.push(batches.iter().sum());
        }
    }
    let medians: Vec<Duration> = times.into_iter().map(median).collect();
    for (length, time) in lengths.iter().zip(&medians) {
        let each = time.as_secs_f64() * 1e6 / DOCS_PER_LENGTH as f64;
        let ratio = time.as_secs_f64() / medians[0].as_secs_f64();
        println!("{length:>9} revisions: {each:>7.1} µs an edit, {ratio:.2} times the first");
    }
}

/// What an edit costs at one size of the database, in microseconds.
#[derive(Clone, Copy)]
struct Cost {
    elapsed: f64,
    processor: f64,
}

impl Cost {
    fn new(batches: Vec<Duration>, processor: Duration) -> Self {
        let elapsed = median(batches).as_secs_f64() * 1e6 / BATCH as f64;
        Self { elapsed, processor: processor.as_secs_f64() * 1e6 / EDITS as f64 }
    }

    fn print(self, size: usize, first: Self, rate: f64) {
        let Self { elapsed, processor } = self;
        println!(
            "{size:>9} documents: {elapsed:>6.1} µs an edit, {:.2} times the first; {processor:>5.1} µs of processor time, {:.2} times; {rate:.0} new docs/s on the way",
            elapsed / first.elapsed,
            processor / first.processor
        );
    }
}

/// Different documents of that many, in no order.
fn some_of(size: usize, seed: &mut u64) -> Vec<usize> {
    let mut met = HashSet::new();
    let mut places = Vec::with_capacity(EDITS);
    while places.len() < EDITS {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let place = (*seed >> 33) as usize % size;
        if met.insert(place) {
            places.push(place);
        }
    }
    places
}

async fn by_documents(store: &Store, sizes: &[usize]) {
    println!("edits of random documents in batches of {BATCH}, by the documents of the database");
    let name = DbName::parse("growing").expect("a legal name");
    let db = store.create(&name).await.expect("a fresh store");
    let mut known: Vec<(DocId, Rev)> = Vec::new();
    let mut first = None;
    let mut seed = 1;
    for &size in sizes {
        let started = Instant::now();
        let before = known.len();
        while known.len() < size {
            let from = known.len();
            let docs = (from..from + LOADED).map(|n| document(&format!("document-{n:09}")));
            let outcomes = db.bulk_docs(docs.collect(), EditMode::Edit).await.expect("written");
            known.extend(outcomes.into_iter().map(|outcome| {
                let written = outcome.expect("nobody else writes");
                (written.id, written.rev)
            }));
        }
        let rate = (size - before) as f64 / started.elapsed().as_secs_f64();
        let places = some_of(size, &mut seed);
        let chosen: Vec<_> = places.iter().map(|&place| known[place].clone()).collect();
        let began = processor_time();
        let (edited, batches) = edit(&db, &chosen).await;
        let cost = Cost::new(batches, processor_time().saturating_sub(began));
        places.into_iter().zip(edited).for_each(|(place, edited)| known[place] = edited);
        cost.print(size, *first.get_or_insert(cost), rate);
    }
}

fn by_documents_bare(mut sled: BareSled, sizes: &[usize]) {
    println!("the same rows in sled alone");
    let mut first = None;
    let mut seed = 1;
    for &size in sizes {
        let started = Instant::now();
        let before = sled.len();
        while sled.len() < size {
            sled.add(LOADED);
        }
        let rate = (size - before) as f64 / started.elapsed().as_secs_f64();
        let began = processor_time();
        let batches = some_of(size, &mut seed)
            .chunks(BATCH)
            .map(|batch| {
                let started = Instant::now();
                sled.edit(batch);
                started.elapsed()
            })
            .collect();
        let cost = Cost::new(batches, processor_time().saturating_sub(began));
        cost.print(size, *first.get_or_insert(cost), rate);
    }
}

/// Of all threads so far: beside other programs it says more than the clock does.
fn processor_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux tells of threads");
    let nanos = tasks.map(|task| {
        let path = task.expect("a thread's directory").path().join("schedstat");
        // A thread that has ended meanwhile is left out.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default()
    });
    Duration::from_nanos(nanos.sum())
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let docs = arguments.next().unwrap_or(1_000_000);
    let mut options = SledOptions::default();
    if let Some(cache_mib) = arguments.next() {
        options.cache_bytes = cache_mib as u64 * 1024 * 1024;
    }
    let sizes: Vec<_> =
        [10_000, 100_000, 1_000_000].into_iter().filter(|size| *size <= docs).collect();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let backend = SledBackend::open_with(directory.path(), &options).expect("it opens");
        let store = Store::with_backend(Arc::new(backend), Limits::default());
        let name = DbName::parse("lengths").expect("a legal name");
        by_revisions(&store.create(&name).await.expect("a fresh store")).await;
        by_documents(&store, &sizes).await;
        store.close().await.expect("the store closes");
    });
    let directory = tempfile::tempdir().expect("a temporary directory");
    by_documents_bare(BareSled::open(directory.path(), options.cache_bytes, SEGMENT_BYTES), &sizes);
}
