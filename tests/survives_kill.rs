//! The gateway is killed with SIGKILL again and again while two clients push and pull. They go on
//! by themselves; what it acknowledged is never lost; in the end all three are equal.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/replicas.rs"]
mod replicas;

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use binary::{Served, arg, settee};
use replicas::{contents, until_equal};
use serde_json::json;
use settee::client::Backoff;
use settee::doc::Attachment;
use settee::store::{ChangesOptions, Style, Written};
use settee::{Client, Database, DbName, Document, Store, Sync, SyncOptions, SyncState};
use tempfile::tempdir;
use tokio::sync::watch;

const KILLS: u64 = 6;
/// Local changes that the gateway must have acknowledged since it was started before it is killed.
const ACKNOWLEDGED_PER_LIFE: u64 = 150;

fn client(url: &str) -> Client {
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) };
    Client::builder(url).backoff(backoff).connect().unwrap()
}

fn live(client: &Client, db: &Database) -> Sync {
    client.sync(db, SyncOptions::live("shared").credentials(json!({"token": "secret"})).create())
}

async fn local(dir: &Path) -> Database {
    Store::open(dir).unwrap().create(&DbName::parse("local").unwrap()).await.unwrap()
}

async fn put(db: &Database, document: Document) -> Written {
    db.put(document).await.unwrap()
}

/// New documents, edits, deletions and attachments of every size, until told to stop.
async fn write(db: Database, who: &'static str, stop: watch::Receiver<bool>) -> u64 {
    let mut n = 0;
    while !*stop.borrow() {
        n += 1;
        let mut document =
            Document::new(&format!("{who}{n}"), &json!({"by": who, "n": n})).unwrap();
        if n % 20 == 0 {
            let bytes = format!("{who}{n}").repeat(if n % 60 == 0 { 20_000 } else { 20 });
            document = document.with_attachment("file", Attachment::inline("text/plain", bytes));
        }
        let first = put(&db, document).await;
        if n % 3 == 0 {
            let again = Document::new(first.id.as_str(), &json!({"by": who, "n": n, "edits": 1}));
            put(&db, again.unwrap().with_rev(first.rev)).await;
        } else if n % 7 == 0 {
            db.delete(&first.id, first.rev).await.unwrap();
        }
        if n % 10 == 0 {
            // Both write this document: conflicts arise.
            let both = Document::new(&format!("both{n}"), &json!({"by": who})).unwrap();
            // The other's may have come already.
            let _ = db.put(both).await;
        }
    }
    n
}

async fn until_pushed(sync: &Sync, seq: u64) -> u64 {
    let mut status = sync.watch_status();
    let reached = status.wait_for(|s| s.pushed_seq >= seq || s.state == SyncState::Ended);
    let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
    let reached = reached.unwrap_or_else(|_| panic!("never pushed {seq}: {:?}", sync.status()));
    let status = reached.expect("the sync goes on");
    assert_ne!(status.state, SyncState::Ended, "{status:?}");
    status.pushed_seq
}

/// The revisions of a client's own that were its leaves up to a local seq.
async fn pushed_leaves(db: &Database, seq: u64) -> Vec<(String, String)> {
    let options = ChangesOptions { style: Style::AllDocs, ..Default::default() };
    let rows = db.changes(&options).await.unwrap().rows;
    let pushed = rows.into_iter().filter(|row| row.seq.number <= seq);
    pushed
        .flat_map(|row| {
            let id = row.id.to_string();
            row.leaves.into_iter().map(move |(rev, _)| (id.clone(), rev.to_string()))
        })
        .collect()
}

/// Opens what a killed gateway left and looks for revisions in it.
async fn assert_kept(data: &Path, pushed: &[Vec<(String, String)>]) {
    let store = Store::open(data).unwrap();
    let db = store.database(&DbName::parse("shared").unwrap()).await.unwrap();
    let mut known = HashSet::new();
    for line in contents(&db).await {
        let doc: serde_json::Value = serde_json::from_str(&line).unwrap();
        let start = doc["_revisions"]["start"].as_u64().unwrap();
        let ids = doc["_revisions"]["ids"].as_array().unwrap();
        for (back, hash) in (0..).zip(ids) {
            let rev = format!("{}-{}", start - back, hash.as_str().unwrap());
            known.insert((doc["_id"].as_str().unwrap().to_owned(), rev));
        }
    }
    for acknowledged in pushed.iter().flatten() {
        assert!(known.contains(acknowledged), "{acknowledged:?} was acknowledged and is lost");
    }
    assert_eq!(db.check().await.unwrap().problems, []);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_go_on_and_nothing_acknowledged_is_lost() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("gateway");
    let (a, b) = (local(&dir.path().join("a")).await, local(&dir.path().join("b")).await);
    let mut served = Served::start(&data, "127.0.0.1:0");
    let address = served.address.clone();
    let url = format!("ws://{address}");
    let (client_a, client_b) = (client(&url), client(&url));
    let (mut sync_a, mut sync_b) = (live(&client_a, &a), live(&client_b, &b));
    let (stop, stopped) = watch::channel(false);
    let writers = [
        tokio::spawn(write(a.clone(), "a", stopped.clone())),
        tokio::spawn(write(b.clone(), "b", stopped)),
    ];
    let (mut pushed_a, mut pushed_b) = (0, 0);
    for _ in 0..KILLS {
        pushed_a = until_pushed(&sync_a, pushed_a + ACKNOWLEDGED_PER_LIFE).await;
        pushed_b = until_pushed(&sync_b, pushed_b + ACKNOWLEDGED_PER_LIFE).await;
        served.kill();
        let pushed = [pushed_leaves(&a, pushed_a).await, pushed_leaves(&b, pushed_b).await];
        assert_kept(&data, &pushed).await;
        served = Served::start(&data, &address);
    }
    stop.send_replace(true);
    for writer in writers {
        assert!(writer.await.unwrap() > KILLS * 10, "a writer hardly wrote");
    }
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    sync_a.cancel().await;
    sync_b.cancel().await;
    let (in_a, in_b) = (contents(&a).await, contents(&b).await);
    assert!(in_a == in_b, "the clients differ in histories, bodies or attachments");
    for db in [&a, &b] {
        assert_eq!(db.check().await.unwrap().problems, []);
    }
    let (status, _) = served.stop("TERM");
    assert!(status.success());
    let in_gateway = settee(&["dump", arg(&data.join("shared"))]).ok();
    assert!(in_gateway.lines().eq(in_a.iter().map(String::as_str)), "the gateway differs");
    settee(&["check", arg(&data)]).ok();
}
