//! Attachments travel with their documents, both ways, and no more often than needed.

#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use async_trait::async_trait;
use settee::doc::Body;
use settee::server::{Denied, Fetch, FetchHandler};
use settee::store::GetOptions;
use settee::validate::DbPattern;
use settee::{Store, SyncState};
use syncing::*;

/// Bytes that no compression or chance makes equal.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test]
async fn of_every_kind_in_both_directions() {
    let gateway = TestGateway::new(Store::memory());
    let (a, b, there) = (local().await, local().await, remote(&gateway, "shared").await);
    for (db, from) in [(&a, "a"), (&b, "b")] {
        attach(db, from, "text.txt", "grüße\n").await;
        attach(db, from, "empty", "").await;
        attach(db, from, "binary/ö", noise(1, 70_000)).await;
        attach(db, &format!("{from}5"), "5 MB", noise(2, 5_000_000)).await;
    }
    let (mut in_a, mut in_b) = (
        Watched::new(gateway.client().sync(&a, live("shared"))),
        Watched::new(gateway.client().sync(&b, live("shared"))),
    );
    until_count(&a, 4).await;
    until_count(&b, 4).await;
    in_a.up_to_date().await.unwrap();
    in_b.up_to_date().await.unwrap();
    for db in [&a, &b, &there] {
        assert_eq!(attached(db, "a", "text.txt").await, "grüße\n");
        assert_eq!(attached(db, "b", "empty").await, "");
        assert_eq!(attached(db, "b", "binary/ö").await, noise(1, 70_000));
        assert_eq!(attached(db, "a5", "5 MB").await, noise(2, 5_000_000));
    }
    assert_equal(&a, &there).await;
    assert_equal(&b, &there).await;
    assert!(in_a.stop().await.denied.is_empty() && in_b.stop().await.denied.is_empty());
}

/// Purges a document whenever it is read.
struct Purging(Store);

#[async_trait]
impl FetchHandler for Purging {
    async fn on_fetch(&self, fetch: &Fetch<'_>) -> Result<Option<Body>, Denied> {
        if fetch.document.id.as_str() == "purged" {
            let db = self.0.database(&name("shared")).await.expect("it is there");
            let rev = fetch.document.rev.clone().expect("a read has its revision");
            db.purge(&[(id("purged"), vec![rev])]).await.expect("it is purged");
        }
        Ok(None)
    }
}

#[tokio::test]
async fn a_revision_that_is_purged_before_its_bytes_were_read_is_passed_over() {
    let store = Store::memory();
    let there = store.create(&name("shared")).await.unwrap();
    attach(&there, "purged", "file", noise(8, 70_000)).await;
    attach(&there, "stays", "file", noise(9, 70_000)).await;
    let pattern: DbPattern = "shared".parse().unwrap();
    let builder = token_gateway(store.clone()).fetch_handler(pattern, Purging(store));
    let gateway = TestGateway::with(builder);
    let here = local().await;
    let ended = Watched::new(gateway.client().sync(&here, one_shot("shared"))).ended().await;
    assert!(ended.denied.is_empty(), "{:?}", ended.denied);
    assert_eq!(ended.summary().pull.unwrap().docs_written, 1);
    assert_eq!(attached(&here, "stays", "file").await, noise(9, 70_000));
    assert_equal(&here, &there).await;
}

#[tokio::test]
async fn the_same_content_in_many_documents() {
    let gateway = TestGateway::new(Store::memory());
    let (a, b, there) = (local().await, local().await, remote(&gateway, "shared").await);
    for n in 0..100 {
        attach(&a, &format!("doc{n}"), "logo", noise(3, 2_000)).await;
    }
    let up = Watched::new(gateway.client().sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(up.summary().push.unwrap().docs_written, 100);
    Watched::new(gateway.client().sync(&b, one_shot("shared"))).ended().await.summary();
    assert_equal(&a, &there).await;
    assert_equal(&a, &b).await;
    assert_eq!(attached(&b, "doc99", "logo").await, noise(3, 2_000));
}

#[tokio::test]
async fn later_edits_do_not_send_the_bytes_again() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    attach(&a, "doc", "large", noise(4, 500_000)).await;
    sync.up_to_date().await.unwrap();
    let (sent, received) = (network.sent(), network.received());
    assert!(sent > 500_000);
    for n in 0..10 {
        let document = a.get(&id("doc"), &GetOptions::default()).await.unwrap();
        let body = settee::doc::Body::from_value(&serde_json::json!({ "n": n })).unwrap();
        a.put(settee::Document { body, ..document }).await.unwrap();
        sync.up_to_date().await.unwrap();
    }
    attach(&a, "doc", "small", "new").await;
    sync.up_to_date().await.unwrap();
    let crossed = network.sent() + network.received() - sent - received;
    assert!(crossed < 50_000, "{crossed} bytes for small edits");
    assert_equal(&a, &there).await;
    assert_eq!(attached(&there, "doc", "large").await, noise(4, 500_000));
}

#[tokio::test(start_paused = true)]
async fn added_offline_and_edited_again_before_the_connection_is_back() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    put(&a, "mine", "1").await;
    put(&there, "theirs", "1").await;
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    network.close();
    until_state(&sync, SyncState::Offline).await;
    attach(&a, "mine", "f", noise(5, 200_000)).await;
    attach(&a, "mine", "g", "second").await;
    attach(&there, "theirs", "f", noise(6, 200_000)).await;
    attach(&there, "theirs", "g", "second").await;
    network.open();
    sync.up_to_date().await.unwrap();
    assert_equal(&a, &there).await;
    assert_eq!(attached(&there, "mine", "f").await, noise(5, 200_000));
    assert_eq!(attached(&a, "theirs", "f").await, noise(6, 200_000));
    assert_eq!(sync.denied(), []);
}

#[tokio::test]
async fn more_in_one_sync_than_a_gateway_keeps_waiting() {
    let gateway = TestGateway::new(Store::memory());
    let (a, b, there) = (local().await, local().await, remote(&gateway, "shared").await);
    for n in 0..900 {
        attach(&a, &format!("doc{n}"), "f", noise(n, 100)).await;
    }
    let sync = gateway.client().sync(&a, live("shared").batch_size(200));
    let mut sync = Watched::new(sync);
    sync.up_to_date().await.unwrap();
    assert_eq!(sync.denied(), []);
    assert_equal(&a, &there).await;
    Watched::new(gateway.client().sync(&b, one_shot("shared"))).ended().await.summary();
    assert_equal(&b, &there).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_one_is_made_good() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    attach(&there, "doc", "large", noise(8, 3_000_000)).await;
    network.close_after_receiving(1_000_000);
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    sync.until_paused_with_cause().await;
    assert_eq!(count_of(&a).await, 0, "a document comes with its attachments or not at all");
    network.open();
    sync.up_to_date().await.unwrap();
    assert_equal(&a, &there).await;
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(attached(&a, "doc", "large").await, noise(8, 3_000_000));
}
