//! Connections that are lost, refused or silent: what a client tells, when it tries again, and that
//! nothing is lost or done twice.

#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use futures::StreamExt as _;
use settee::client::Backoff;
use settee::replicate::{Direction, PauseCause};
use settee::{ClientEvent, Store, SyncState};
use syncing::*;
use tokio::time::{Instant, advance};

#[tokio::test(start_paused = true)]
async fn client_events_come_in_order() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let client = network.client();
    let mut events = client.connection_events();
    let a = local().await;
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    assert_eq!(events.next().await, Some(ClientEvent::Connect));
    sync.up_to_date().await.unwrap();
    network.close();
    assert!(matches!(events.next().await, Some(ClientEvent::Disconnect { .. })));
    assert_eq!(events.next().await, Some(ClientEvent::Reconnect { attempt: 1 }));
    let refused = Some(ClientEvent::Disconnect { cause: "the network is closed".into() });
    assert_eq!(events.next().await, refused);
    assert_eq!(events.next().await, Some(ClientEvent::Reconnect { attempt: 2 }));
    assert_eq!(events.next().await, refused);
    network.open();
    assert_eq!(events.next().await, Some(ClientEvent::Reconnect { attempt: 3 }));
    assert_eq!(events.next().await, Some(ClientEvent::Connect));
    sync.up_to_date().await.unwrap();
    assert!(sync.stop().await.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_to_the_longest() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    network.close();
    let backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(20) };
    let client = network.client_builder().backoff(backoff).connect().unwrap();
    let mut events = client.connection_events();
    while network.attempts().len() < 12 {
        events.next().await;
    }
    let attempts = network.attempts();
    let pauses = attempts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64());
    for (index, pause) in pauses.enumerate() {
        let full = f64::from(1 << index.min(10)).min(20.0);
        assert!(pause >= full / 2.0 - 0.01 && pause <= full + 0.01, "{index}: {pause}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_is_noticed_after_45_seconds() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let client = network.client();
    let mut events = client.connection_events();
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    assert_eq!(events.next().await, Some(ClientEvent::Connect));
    network.swallow();
    let silent_since = Instant::now();
    put(&a, "meanwhile", "1").await;
    let Some(ClientEvent::Disconnect { cause }) = events.next().await else {
        panic!("the silence is noticed");
    };
    assert!(cause.contains("silent"), "{cause}");
    let silence = silent_since.elapsed().as_secs();
    assert!((44..=46).contains(&silence), "{silence}");
    until_state(&sync, SyncState::Offline).await;
    network.open();
    until_text(&there, "meanwhile", "1").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(gateway.gateway.counts(), (1, 1), "the gateway noticed the silence, too");
}

#[tokio::test(start_paused = true)]
async fn a_healthy_idle_connection_is_kept() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let a = local().await;
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    for _ in 0..3_600 {
        advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    put(&a, "doc", "1").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(network.attempts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn edits_made_offline_on_both_sides_arrive_once() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let client = network.client();
    let (a, b) = (local().await, local().await);
    let (there, there_b) = (remote(&gateway, "one").await, remote(&gateway, "two").await);
    let mut in_a = Watched::new(client.sync(&a, live("one")));
    let mut in_b = Watched::new(client.sync(&b, live("two")));
    in_a.up_to_date().await.unwrap();
    in_b.up_to_date().await.unwrap();
    for round in 0..5 {
        network.close();
        until_state(&in_a, SyncState::Offline).await;
        until_state(&in_b, SyncState::Offline).await;
        assert!(in_a.status().last_error.is_some());
        assert!(!client.is_connected());
        put(&a, &format!("a{round}"), "1").await;
        put(&there, &format!("r{round}"), "1").await;
        put(&there_b, &format!("b{round}"), "1").await;
        network.open();
        in_a.up_to_date().await.unwrap();
        in_b.up_to_date().await.unwrap();
        assert_eq!(gateway.gateway.counts(), (1, 2), "each sync has one channel");
        assert_eq!(text(&there, &format!("a{round}")).await.as_deref(), Some("1"));
        assert_equal(&a, &there).await;
        assert_equal(&b, &there_b).await;
    }
    let (in_a, in_b) = (in_a.stop().await, in_b.stop().await);
    for round in 0..5 {
        assert_eq!(in_a.times_written(Direction::Push, &format!("a{round}")), 1);
        assert_eq!(in_a.times_written(Direction::Pull, &format!("r{round}")), 1);
        assert_eq!(in_a.times_written(Direction::Pull, &format!("a{round}")), 0);
        assert_eq!(in_b.times_written(Direction::Pull, &format!("b{round}")), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_never_had_a_connection_says_why_it_rests() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    network.close();
    let client = network.client();
    let a = local().await;
    put(&a, "doc", "1").await;
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    let PauseCause::Offline { cause } = sync.until_paused_with_cause().await else {
        panic!("there is no connection");
    };
    assert_eq!(cause, "the network is closed");
    assert_eq!(sync.status().state, SyncState::Offline);
    let once = Watched::new(client.sync(&a, one_shot("shared"))).ended().await.error();
    assert!(once.to_string().contains("the network is closed"), "{once}");
    network.open();
    sync.up_to_date().await.unwrap();
    assert_eq!(count_of(&remote(&gateway, "shared").await).await, 1);
    assert!(sync.stop().await.result.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_cut_in_the_middle_of_work_rests_with_a_cause() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&there, "doc", 5_000).await;
    network.close_after_receiving(300_000);
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    assert!(matches!(sync.until_paused_with_cause().await, PauseCause::Offline { .. }));
    assert!(count_of(&a).await < 5_000);
    network.open();
    sync.up_to_date().await.unwrap();
    assert_eq!(sync.status().state, SyncState::UpToDate);
    assert_equal(&a, &there).await;
    assert!(sync.stop().await.result.is_ok());
}
