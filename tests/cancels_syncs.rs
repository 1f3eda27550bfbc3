//! How syncs end when somebody wants them to.

#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use settee::replicate::NotUpToDate;
use settee::{Store, SyncState};
use syncing::*;
use tokio::time::Instant;

/// Waits, with other tasks running, until the gateway has so many channels.
async fn until_channels(gateway: &TestGateway, count: usize) {
    let probe = Instant::now();
    while gateway.gateway.counts().1 != count {
        tokio::task::yield_now().await;
        assert!(probe.elapsed() < Duration::from_secs(20), "{:?}", gateway.gateway.counts());
    }
}

#[tokio::test]
async fn cancelling_completes_after_a_last_checkpoint() {
    let gateway = TestGateway::new(Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "doc", 100).await;
    let client = gateway.client();
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    sync.cancel().await;
    assert_eq!(sync.status().state, SyncState::Ended);
    assert_eq!(sync.up_to_date().await, Err(NotUpToDate));
    sync.cancel().await;
    let summary = sync.ended().await.summary();
    assert!(summary.cancelled);
    assert_eq!(summary.push.unwrap().docs_written, 100);
    until_channels(&gateway, 0).await;
    let again = Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    assert_eq!((again.push.unwrap().docs_read, again.cancelled), (0, false));
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn dropping_the_handle_closes_the_channel_and_leaves_the_others() {
    let gateway = TestGateway::new(Store::memory());
    let client = gateway.client();
    let (a, b) = (local().await, local().await);
    let mut dropped = client.sync(&a, live("one"));
    let mut kept = Watched::new(client.sync(&b, live("two")));
    dropped.up_to_date().await.unwrap();
    kept.up_to_date().await.unwrap();
    assert_eq!(gateway.gateway.counts(), (1, 2));
    drop(dropped);
    until_channels(&gateway, 1).await;
    put(&b, "doc", "1").await;
    kept.up_to_date().await.unwrap();
    assert_eq!(count_of(&remote(&gateway, "two").await).await, 1);
}

#[tokio::test]
async fn the_connection_ends_with_the_client_and_its_last_sync() {
    let gateway = TestGateway::new(Store::memory());
    let client = gateway.client();
    let a = local().await;
    let mut sync = client.sync(&a, live("shared"));
    drop(client);
    sync.up_to_date().await.unwrap();
    assert_eq!(gateway.gateway.counts(), (1, 1), "a sync keeps its client");
    drop(sync);
    until_channels(&gateway, 0).await;
    let began = Instant::now();
    while gateway.gateway.counts().0 != 0 {
        tokio::task::yield_now().await;
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test(start_paused = true)]
async fn cancelling_offline_takes_no_time() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let a = local().await;
    network.close();
    let sync = Watched::new(network.client().sync(&a, live("shared")));
    until_state(&sync, SyncState::Offline).await;
    let began = Instant::now();
    let ended = sync.stop().await;
    assert!(ended.summary().cancelled);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn cancelling_before_the_database_is_open_takes_no_time() {
    let gateway = TestGateway::new(Store::memory());
    let a = local().await;
    let options = live("shared").credentials_from(std::future::pending);
    let sync = Watched::new(gateway.client().sync(&a, options));
    let began = Instant::now();
    assert!(sync.stop().await.summary().cancelled);
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn cancelling_over_a_dead_connection_is_bounded() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let a = local().await;
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    network.swallow();
    put(&a, "doc", "1").await;
    sync.until("active").await;
    let began = Instant::now();
    assert!(sync.stop().await.summary().cancelled);
    assert!(began.elapsed() <= Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn finished_gives_the_summary_or_the_error() {
    let gateway = TestGateway::new(Store::memory());
    let client = gateway.client();
    let a = local().await;
    put(&a, "doc", "1").await;
    let summary = client.sync(&a, one_shot("shared")).finished().await.unwrap();
    assert_eq!(summary.push.unwrap().docs_written, 1);
    let refused = settee::SyncOptions::one_shot("shared");
    let error = client.sync(&a, refused).finished().await.unwrap_err();
    assert!(error.to_string().contains("not allowed"), "{error}");
    assert_eq!((error.local.as_str(), error.remote.as_str()), ("todos", "shared"));
}

#[tokio::test]
async fn closing_the_client_fails_its_syncs() {
    let gateway = TestGateway::new(Store::memory());
    let client = gateway.client();
    let a = local().await;
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    client.close().await;
    let error = sync.ended().await.error();
    assert!(error.to_string().contains("the client was closed"), "{error}");
    let error = client.sync(&a, live("shared")).finished().await.unwrap_err();
    assert!(error.to_string().contains("the client was closed"), "{error}");
}
