//! How fast a store is backed up and restored, and what writers notice of it.
//!
//! `cargo bench --bench backup [-- DOCUMENTS]`, 100,000 if not given.

#[path = "support/allocator.rs"]
mod allocator;

use std::fs::File;
use std::io::{BufReader, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::json;
use settee::store::{BackupOptions, EditMode, Manifest, RestoreOptions};
use settee::{Database, DbName, Document, Store};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{MissedTickBehavior, interval};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 1_000;
/// Documents that are edited between two archives.
const EDITED: usize = 1_000;

fn print(what: &str, docs: usize, bytes: u64, time: Duration) {
    let seconds = time.as_secs_f64();
    let (rate, mib) = (docs as f64 / seconds, bytes as f64 / seconds / f64::from(1 << 20));
    println!("{what:<44} {seconds:>7.2} s  {rate:>8.0} documents/s  {mib:>7.1} MiB/s");
}

fn document(number: usize) -> Outcome<Document> {
    let text = format!("{number:0>220}");
    Ok(Document::new(&format!("doc-{number:07}"), &json!({"n": number, "text": text}))?)
}

async fn back_up(store: &Store, since: Option<Manifest>, path: &Path) -> Outcome<u64> {
    let mut backup = store.backup(BackupOptions { since, ..BackupOptions::default() });
    let mut file = File::create(path)?;
    while let Some(piece) = backup.next().await {
        file.write_all(&piece?)?;
    }
    file.sync_all()?;
    Ok(backup.report().bytes)
}

fn manifest(path: &Path) -> Outcome<Manifest> {
    Ok(Manifest::read(BufReader::new(File::open(path)?))?)
}

/// Times that single writes took, 500 in a second, until the other end is gone.
async fn write(
    db: Database,
    prefix: &'static str,
    mut stop: tokio::sync::oneshot::Receiver<()>,
) -> Vec<Duration> {
    let mut ticks = interval(Duration::from_millis(2));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut times = Vec::new();
    while stop.try_recv() == Err(TryRecvError::Empty) {
        ticks.tick().await;
        let began = Instant::now();
        let doc = Document::new(&format!("{prefix}-{}", times.len()), &json!({"n": 1}));
        db.put(doc.expect("a document")).await.expect("it is written");
        times.push(began.elapsed());
    }
    times
}

fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let (count, p50, p99, max) = (times.len(), at(50), at(99), at(100));
    println!("{what:<44} {count} writes, p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.1} ms");
}

async fn run(docs: usize) -> Outcome<()> {
    let dir = tempfile::tempdir()?;
    let file = |name: &str| dir.path().join(name);
    let store = Store::open(file("data"))?;
    let db = store.create(&DbName::parse("db")?).await?;
    for first in (0..docs).step_by(BATCH) {
        let batch = (first..docs.min(first + BATCH)).map(document).collect::<Outcome<_>>()?;
        db.bulk_docs(batch, EditMode::Edit).await?;
    }
    let began = Instant::now();
    let bytes = back_up(&store, None, &file("base")).await?;
    print("whole backup to a file", docs, bytes, began.elapsed());
    let began = Instant::now();
    let base = manifest(&file("base"))?;
    print("reading it", docs, bytes, began.elapsed());
    for number in 0..EDITED {
        let written = db.get(&document(number)?.id, &Default::default()).await?;
        db.put(document(number)?.with_rev(written.rev.ok_or("a revision")?)).await?;
    }
    let began = Instant::now();
    let changed = back_up(&store, Some(base), &file("more")).await?;
    print("backup of what changed", EDITED, changed, began.elapsed());
    let began = Instant::now();
    let archives = vec![BufReader::new(File::open(file("base"))?)];
    Store::restore(file("restored"), archives, RestoreOptions::default()).await?;
    print("restore", docs, bytes, began.elapsed());

    for backing_up in [false, true] {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let what = if backing_up { "writes beside a backup" } else { "writes alone" };
        let writing = tokio::spawn(write(db.clone(), what, stopped));
        if backing_up {
            back_up(&store, None, &file("busy")).await?;
        } else {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        drop(stop);
        print_times(what, writing.await?);
    }
    store.close().await?;
    Ok(())
}

fn main() -> Outcome<()> {
    let docs = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(docs.unwrap_or(100_000)))
}
