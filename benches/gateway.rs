//! A gateway in a process of its own, and clients here: bulk push and pull, live latency beside the
//! machine's own fsync, memory of an idle connection.
//!
//! `cargo bench --bench gateway [-- DOCS [SOCKETS]]`: documents (default 100,000) and idle sockets
//! (default 2,000). Both ends are on disk, in the system's directory for temporary files.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/process.rs"]
mod process;

use std::path::Path;
use std::time::{Duration, Instant};

use process::{GatewayProcess, Outcome, arguments, fsync_times, number, open_socket, percentile};
use serde_json::json;
use settee::store::{ChangesOptions, Since};
use settee::{Client, Database, DbName, Document, Store, SyncOptions};

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Some(arguments) = arguments(&runtime)? else { return Ok(()) };
    runtime.block_on(measure(number(&arguments, 0, 100_000)?, number(&arguments, 1, 2_000)?))
}

async fn measure(docs: usize, sockets: usize) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let stores = Store::open(directory.path().join("a"))?;
    let (a, b) =
        (stores.create(&DbName::parse("a")?).await?, stores.create(&DbName::parse("b")?).await?);
    let url = format!("ws://{}", gateway.address);
    fill(&a, docs).await?;
    bulk("first push", &a, &url, docs).await?;
    bulk("first pull", &b, &url, docs).await?;
    live(&a, &b, &url, directory.path()).await?;
    idle(&gateway, sockets).await
}

async fn fill(database: &Database, docs: usize) -> Outcome<()> {
    let began = Instant::now();
    let text = "x".repeat(210);
    for from in (0..docs).step_by(1_000) {
        let batch = (from..docs.min(from + 1_000))
            .map(|n| Document::new(&format!("document-{n:08}"), &json!({"n": n, "text": text})))
            .collect::<Result<Vec<_>, _>>()?;
        database.bulk_docs(batch, Default::default()).await?;
    }
    report("local load", docs, began.elapsed());
    Ok(())
}

fn report(what: &str, docs: usize, time: Duration) {
    println!(
        "{what}: {docs} documents in {time:.2?}, {:.0} documents/s",
        docs as f64 / time.as_secs_f64()
    );
}

async fn bulk(what: &str, database: &Database, url: &str, docs: usize) -> Outcome<()> {
    let client = Client::connect(url)?;
    let began = Instant::now();
    let options = SyncOptions::one_shot("bench").create().retry(true);
    client.sync(database, options).finished().await?;
    report(what, docs, began.elapsed());
    client.close().await;
    Ok(())
}

/// Times from an edit at one client to its arrival at another.
async fn live(a: &Database, b: &Database, url: &str, directory: &Path) -> Outcome<()> {
    const EDITS: usize = 500;
    let (first, second) = (Client::connect(url)?, Client::connect(url)?);
    let mut sync_a = first.sync(a, SyncOptions::live("bench"));
    let mut sync_b = second.sync(b, SyncOptions::live("bench"));
    sync_a.up_to_date().await?;
    sync_b.up_to_date().await?;
    let options = ChangesOptions { since: Since::Now, ..ChangesOptions::default() };
    let mut feed = b.feed(options).await?;
    feed.next_page(10, usize::MAX).await?;
    let mut times = Vec::with_capacity(EDITS);
    for n in 0..EDITS {
        let began = Instant::now();
        a.put(Document::new(&format!("live-{n}"), &json!({"n": n}))?).await?;
        while feed.next_page(10, usize::MAX).await?.rows.is_empty() {}
        times.push(began.elapsed());
    }
    let fsync = fsync_times(directory, EDITS)?;
    println!(
        "live edit, local write to the other client's disk: p50 {:.2?}, p99 {:.2?}; own fdatasync p50 {:.2?}, p99 {:.2?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        percentile(&mut fsync.clone(), 50),
        percentile(&mut fsync.clone(), 99),
    );
    sync_a.cancel().await;
    sync_b.cancel().await;
    Ok(())
}

async fn idle(gateway: &GatewayProcess, count: usize) -> Outcome<()> {
    let mut sockets = Vec::with_capacity(count);
    // The first sockets pay for what is made once.
    for _ in 0..50 {
        sockets.push(open_socket(&gateway.address).await?);
    }
    let before = gateway.resident_bytes()?;
    for _ in 0..count {
        sockets.push(open_socket(&gateway.address).await?);
    }
    let after = gateway.resident_bytes()?;
    println!(
        "idle connections: {count} take {} KiB resident, {} bytes each",
        after.saturating_sub(before) / 1024,
        after.saturating_sub(before) / count as u64,
    );
    Ok(())
}
