//! The gateway is killed with SIGKILL while a client pushes groups and another pulls them. What it
//! leaves on disk has each group whole or not at all, and so has the other client at any moment.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/ledger.rs"]
mod ledger;
#[path = "support/replicas.rs"]
mod replicas;

use std::path::Path;
use std::time::Duration;

use binary::Served;
use ledger::{Ledger, Written, assert_whole};
use replicas::{contents, until_equal};
use serde_json::json;
use settee::client::Backoff;
use settee::{Client, Database, DbName, Store, Sync, SyncOptions, SyncState, SyncStatus};
use tempfile::tempdir;
use tokio::sync::watch;

const KILLS: u64 = 8;
/// Local changes that are not pushed yet, at most.
const AHEAD_MAX: u64 = 400;
/// Local changes that the gateway must have acknowledged since it was started before it is killed.
const ACKNOWLEDGED_PER_LIFE: u64 = 120;

fn client(url: &str) -> Client {
    let backoff = Backoff { first: Duration::from_millis(20), max: Duration::from_millis(100) };
    Client::builder(url).backoff(backoff).connect().unwrap()
}

fn live(client: &Client, db: &Database) -> Sync {
    client.sync(db, SyncOptions::live("shared").credentials(json!({"token": "secret"})).create())
}

async fn local() -> Database {
    Store::memory().create(&DbName::parse("local").unwrap()).await.unwrap()
}

/// Groups that share a document, and edits of it in between, until told to stop; not much further
/// than what is pushed.
async fn write(
    db: Database,
    mut status: watch::Receiver<SyncStatus>,
    groups: watch::Sender<Vec<Written>>,
    stop: watch::Receiver<bool>,
) {
    let mut ledger = Ledger::new(db);
    for n in 0_u64.. {
        if *stop.borrow() {
            return;
        }
        let mine: Vec<String> = (0..n % 40).map(|m| format!("item{n}-{m}")).collect();
        // Far fewer edits than `revs_limit`, so that no revision is forgotten.
        let counter = format!("counter{}", n / 100);
        let ids: Vec<&str> = mine.iter().chain([&counter]).map(String::as_str).collect();
        ledger.group(&ids).await;
        let newest = ledger.groups.last().cloned();
        groups.send_modify(|groups| groups.extend(newest));
        if n % 3 == 0 {
            ledger.edit(&counter).await;
        }
        let written = ledger.db.newest_change();
        let close = status.wait_for(|status| status.pushed_seq + AHEAD_MAX >= written).await;
        drop(close.expect("the sync goes on"));
    }
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

/// Opens what a killed gateway left; answers how many of the groups are there.
async fn assert_whole_on_disk(data: &Path, groups: &[Written]) -> usize {
    let store = Store::open(data).unwrap();
    let db = store.database(&DbName::parse("shared").unwrap()).await.unwrap();
    let mut there = 0;
    for group in groups {
        assert_whole(group, &db, None).await;
        let (id, rev) = &group[0];
        let trees = db.rev_trees(std::slice::from_ref(id)).await.unwrap();
        there += usize::from(trees[0].as_ref().is_some_and(|tree| tree.contains(rev)));
    }
    assert_eq!(db.check().await.unwrap().problems, []);
    store.close().await.unwrap();
    there
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_gateway_has_no_part_of_a_group() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("gateway");
    let (a, b) = (local().await, local().await);
    let mut served = Served::start(&data, "127.0.0.1:0");
    let address = served.address.clone();
    let url = format!("ws://{address}");
    let (client_a, client_b) = (client(&url), client(&url));
    let (mut sync_a, mut sync_b) = (live(&client_a, &a), live(&client_b, &b));
    let (stop, stopped) = watch::channel(false);
    let (told, groups) = watch::channel(Vec::new());
    let writer = tokio::spawn(write(a.clone(), sync_a.watch_status(), told, stopped));
    let (mut pushed, mut there) = (0, 0);
    for _ in 0..KILLS {
        pushed = until_pushed(&sync_a, pushed + ACKNOWLEDGED_PER_LIFE).await;
        served.kill();
        let written = groups.borrow().clone();
        there = assert_whole_on_disk(&data, &written).await;
        for group in &written {
            assert_whole(group, &b, None).await;
        }
        served = Served::start(&data, &address);
    }
    assert!(there > 10, "hardly a group arrived: {there}");
    stop.send_replace(true);
    writer.await.unwrap();
    until_equal((&a, &mut sync_a), (&b, &mut sync_b)).await;
    sync_a.cancel().await;
    sync_b.cancel().await;
    assert!(contents(&a).await == contents(&b).await, "the clients differ");
    served.kill();
    let written = groups.borrow().clone();
    assert_eq!(assert_whole_on_disk(&data, &written).await, written.len());
}
