//! Replication over CouchDB's HTTP API: documents a second, pushed and pulled in one go, between a
//! data directory and a gateway with another one, over TCP.
//!
//! `cargo bench --bench http_sync [-- DOCUMENTS]`

#[path = "support/allocator.rs"]
mod allocator;

use std::time::Instant;

use serde_json::json;
use settee::http_peer::{HttpOptions, Remote, sync};
use settee::replicate::{Directions, ReplicationOptions};
use settee::server::{AccessRequest, Gateway, Grant};
use settee::{Database, DbName, Document, Store};
use tokio::net::TcpListener;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const BATCH: usize = 1_000;

async fn fill(database: &Database, docs: usize) -> Outcome<()> {
    let fill = "x".repeat(200);
    for from in (0..docs).step_by(BATCH) {
        let batch = (from..docs.min(from + BATCH))
            .map(|n| Document::new(&format!("doc-{n:08}"), &json!({"n": n, "fill": fill})));
        database.bulk_docs(batch.collect::<Result<_, _>>()?, Default::default()).await?;
    }
    Ok(())
}

async fn measure(database: &Database, remote: &Remote, directions: Directions) -> Outcome<f64> {
    let replication = ReplicationOptions { directions, ..ReplicationOptions::default() };
    let options = HttpOptions { replication, create: true, ..HttpOptions::default() };
    let began = Instant::now();
    let summary = sync(database, remote.clone(), options).finished().await?;
    let seconds = began.elapsed().as_secs_f64();
    let moved = summary.push.or(summary.pull).ok_or("nothing moved")?;
    Ok(moved.docs_written as f64 / seconds)
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let docs = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(10_000);
    let directory = tempfile::tempdir()?;
    let name = DbName::parse("db")?;
    let [here, there, back] = ["here", "there", "back"].map(|name| directory.path().join(name));
    let gateway = Gateway::builder(Store::open(there)?)
        .authorizer(|request: AccessRequest| async move {
            Ok(Grant::database(request.database).creating())
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let remote: Remote = format!("http://{}/db", listener.local_addr()?).parse()?;
    let serving = tokio::spawn(async move {
        gateway.serve(listener, std::future::pending()).await;
    });
    let (here, back) = (Store::open(here)?, Store::open(back)?);
    let (source, target) = (here.create(&name).await?, back.create(&name).await?);
    fill(&source, docs).await?;
    let pushed = measure(&source, &remote, Directions::PushOnly).await?;
    let pulled = measure(&target, &remote, Directions::PullOnly).await?;
    println!("{docs} documents of 250 bytes: pushed {pushed:.0}/s, pulled {pulled:.0}/s");
    serving.abort();
    here.close().await?;
    back.close().await?;
    Ok(())
}
