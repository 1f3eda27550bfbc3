//! What many databases cost: time to make, open, list and destroy them, and memory while idle.
//!
//! `cargo bench --bench databases [-- DATABASES]`, 10,000 if not given.

#[path = "support/allocator.rs"]
mod allocator;

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use settee::store::{EditMode, StoreError};
use settee::{Database, DbName, Document, Store};

/// Databases that are made at a time by as many callers.
const CALLERS: usize = 64;
/// Databases that come and go, with documents in each.
const SHORT_LIVED: usize = 1_600;
const DOCS: usize = 10;

fn name(number: usize) -> DbName {
    DbName::parse(&format!("db-{number:06}")).expect("a legal name")
}

/// Memory of this process that is in use, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn print(what: &str, count: usize, time: Duration) {
    let seconds = time.as_secs_f64();
    println!("{what:<44} {seconds:>7.2} s  {:>8.0} per second", count as f64 / seconds);
}

fn print_memory(what: &str, count: usize, before: u64) {
    let each = resident().saturating_sub(before) as f64 / count as f64;
    println!("{what:<44} {each:>7.0} bytes each");
}

async fn open_all(store: &Store, count: usize) -> Result<Vec<Database>, StoreError> {
    let mut open = Vec::with_capacity(count);
    for number in 0..count {
        open.push(store.database(&name(number)).await?);
    }
    Ok(open)
}

async fn list(store: &Store) -> Result<usize, StoreError> {
    let (mut listed, mut after) = (0, None);
    loop {
        let names = store.names(after.as_ref(), 1_000).await?;
        let Some(last) = names.last() else { return Ok(listed) };
        listed += names.len();
        after = Some(last.clone());
    }
}

async fn destroy_all(store: &Store, count: usize) -> Result<(), StoreError> {
    stream::iter(0..count)
        .map(|number| async move { store.destroy(&name(number)).await })
        .buffer_unordered(CALLERS)
        .try_collect()
        .await
}

async fn make_all(store: &Store, count: usize) -> Result<(), StoreError> {
    stream::iter(0..count)
        .map(|number| async move { store.create(&name(number)).await.map(drop) })
        .buffer_unordered(CALLERS)
        .try_collect()
        .await
}

async fn idle(count: usize) -> Result<(), StoreError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path())?;
    // What is allocated once is there before the measurement.
    store.create(&DbName::parse("first").expect("a legal name")).await?;

    let (began, before) = (Instant::now(), resident());
    make_all(&store, count).await?;
    print(&format!("make, {CALLERS} at a time"), count, began.elapsed());
    print_memory("made and not open", count, before);

    let began = Instant::now();
    assert_eq!(list(&store).await?, count + 1);
    print("list", count, began.elapsed());

    let (began, before) = (Instant::now(), resident());
    let open = open_all(&store, count).await?;
    print("open, one after the other", count, began.elapsed());
    print_memory("open and idle", count, before);
    let began = Instant::now();
    open_all(&store, count).await?;
    print("open what is open", count, began.elapsed());
    drop(open);

    store.close().await?;
    drop(store);
    let store = Store::open(directory.path())?;
    let began = Instant::now();
    let open = open_all(&store, count).await?;
    print("open after a restart", count, began.elapsed());
    drop(open);

    let began = Instant::now();
    destroy_all(&store, count).await?;
    print(&format!("destroy, {CALLERS} at a time"), count, began.elapsed());
    store.close().await
}

/// One caller makes a database, writes documents, and destroys it, again and again.
async fn short_lived(count: usize) -> Result<(), StoreError> {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = Store::open(directory.path())?;
    let began = Instant::now();
    for number in 0..count {
        let db = store.create(&name(number)).await?;
        let docs = (0..DOCS).map(|doc| {
            Document::new(&format!("doc-{doc}"), &json!({"n": number})).expect("a legal document")
        });
        db.bulk_docs(docs.collect(), EditMode::Edit).await?;
    }
    print(&format!("make one by one, with {DOCS} documents"), count, began.elapsed());
    let destroying = Instant::now();
    for number in 0..count {
        store.destroy(&name(number)).await?;
    }
    print("destroy them one by one", count, destroying.elapsed());
    print("both", count, began.elapsed());
    store.close().await
}

fn main() {
    let argument = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        idle(argument.unwrap_or(10_000)).await.expect("the store works");
        short_lived(SHORT_LIVED).await.expect("the store works");
    });
}
