//! Reads beside a bulk writer: sled holds readers up while it applies a batch.
//!
//! `cargo bench --bench mixed_reads [-- SECONDS]`: four readers get documents at random, first alone,
//! then beside a writer of 1,000 new documents a call; 5 seconds each unless said otherwise.

#[path = "support/allocator.rs"]
mod allocator;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use settee::store::GetOptions;
use settee::{Database, DbName, DocId, Document, Store};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const READERS: usize = 4;
const DOCS: usize = 100_000;
const BATCH: usize = 1_000;

fn main() -> Outcome<()> {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let seconds = given.map_or(Ok(5), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(Duration::from_secs(seconds)))
}

async fn measure(time: Duration) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path().join("store"))?;
    let database = store.create(&DbName::parse("bench")?).await?;
    for from in (0..DOCS).step_by(BATCH) {
        write(&database, from).await?;
    }
    report("alone", read(&database, time).await?, time);
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (database, stop) = (database.clone(), Arc::clone(&stop));
        async move {
            let began = Instant::now();
            let mut written = 0;
            while !stop.load(Ordering::Relaxed) {
                write(&database, DOCS + written).await?;
                written += BATCH;
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(written as f64 / began.elapsed().as_secs_f64())
        }
    });
    let times = read(&database, time).await?;
    stop.store(true, Ordering::Relaxed);
    let rate = writer.await??;
    report(&format!("beside a writer of {rate:.0} documents/s"), times, time);
    store.close().await?;
    Ok(())
}

async fn write(database: &Database, from: usize) -> Outcome<()> {
    let text = "x".repeat(210);
    let batch = (from..from + BATCH)
        .map(|n| Document::new(&id(n), &json!({"n": n, "text": text})))
        .collect::<Result<Vec<_>, _>>()?;
    database.bulk_docs(batch, Default::default()).await?;
    Ok(())
}

fn id(n: usize) -> String {
    format!("document-{n:09}")
}

/// Times of all reads of all readers.
async fn read(database: &Database, time: Duration) -> Outcome<Vec<Duration>> {
    let readers: Vec<_> = (0..READERS)
        .map(|reader| tokio::spawn(read_at_random(database.clone(), reader as u64 + 1, time)))
        .collect();
    let mut times = Vec::new();
    for reader in readers {
        times.extend(reader.await??);
    }
    times.sort_unstable();
    Ok(times)
}

async fn read_at_random(database: Database, seed: u64, time: Duration) -> Outcome<Vec<Duration>> {
    let bytes_max = database.limits().doc_id_bytes_max;
    let mut random = seed;
    let mut times = Vec::new();
    let until = Instant::now() + time;
    while Instant::now() < until {
        // Knuth's generator; its upper bits are good enough to choose documents by.
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let id = DocId::parse(&id((random >> 33) as usize % DOCS), bytes_max)?;
        let began = Instant::now();
        database.get(&id, &GetOptions::default()).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

/// `times` in ascending order.
fn report(what: &str, times: Vec<Duration>, time: Duration) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{READERS} readers {what}: {:.0} reads/s, p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        times.len() as f64 / time.as_secs_f64(),
        at(50),
        at(99),
        at(100),
    );
}
