//! A sync that goes on where an earlier one stopped, and begins anew where it must.

#[path = "support/syncing.rs"]
mod syncing;

use settee::Store;
use settee::replicate::Direction;
use syncing::*;

#[tokio::test]
async fn a_second_run_reads_nothing_again() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 2_000).await;
    fill(&there, "b", 2_000).await;
    let client = network.client();
    Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    assert_equal(&a, &there).await;
    let before = network.sent() + network.received();
    let again = Watched::new(client.sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(again.changes, []);
    let again = again.summary();
    assert_eq!((again.push.unwrap().docs_read, again.pull.unwrap().docs_read), (0, 0));
    let crossed = network.sent() + network.received() - before;
    assert!(crossed < 10_000, "{crossed} bytes for nothing");
    put(&a, "one more", "1").await;
    let third = Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    assert_eq!(third.push.unwrap().docs_read, 1);
}

#[tokio::test]
async fn after_a_cut_only_the_rest_is_transferred() {
    const DOCS: usize = 20_000;
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&there, "doc", DOCS).await;
    let client = network.client();
    // A run that was cancelled in its middle has written its checkpoint.
    let mut first = Watched::new(client.sync(&a, live("shared").pull_only()));
    first.until("change").await;
    first.until("change").await;
    let cancelled = first.stop().await.summary();
    assert!(cancelled.cancelled);
    let got = cancelled.pull.unwrap().docs_written;
    assert!(got > 0 && got < DOCS as u64, "{got}");
    assert_eq!(count_of(&a).await, got, "what was begun is finished, and its checkpoint written");
    // A cut connection loses at most what had no checkpoint yet.
    network.close_after_receiving(1_000_000);
    let cut = Watched::new(client.sync(&a, one_shot("shared").pull_only())).ended().await;
    let read_before_cut: u64 = cut.changes.iter().map(|change| change.docs_read).sum();
    assert!(cut.error().to_string().contains("not connected"));
    let there_after_cut = count_of(&a).await;
    assert!(there_after_cut < DOCS as u64, "the cut came too late to show anything");
    network.open();
    let mut up = network.client().sync(&a, live("shared").pull_only());
    up.up_to_date().await.unwrap();
    let rest = Watched::new(up).stop().await.summary().pull.unwrap();
    assert!(rest.docs_read <= DOCS as u64 - got, "{} + {got}", rest.docs_read);
    assert!(rest.docs_read + read_before_cut + got >= DOCS as u64);
    assert_equal(&a, &there).await;
}

#[tokio::test(start_paused = true)]
async fn a_live_sync_writes_a_checkpoint_every_second() {
    let gateway = TestGateway::new(Store::memory());
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "doc", 500).await;
    let mut sync = Watched::new(network.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    // Nothing else happens in this time: it passes at once.
    tokio::time::advance(std::time::Duration::from_millis(1_100)).await;
    let sent = network.sent();
    put(&a, "probe", "1").await;
    sync.up_to_date().await.unwrap();
    assert!(network.sent() > sent);
    // The sync dies without a farewell; the next one begins after its last checkpoint.
    drop(sync);
    let sync = network.client().sync(&a, one_shot("shared").push_only());
    let again = Watched::new(sync).ended().await.summary().push.unwrap();
    assert!(again.docs_read <= 1, "{}", again.docs_read);
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn a_remote_database_made_again_is_compared_anew() {
    let gateway = TestGateway::new(Store::memory());
    let a = local().await;
    fill(&a, "a", 300).await;
    let client = gateway.client();
    Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    let store = gateway.gateway.store();
    let mut live_sync = Watched::new(client.sync(&a, live("shared")));
    live_sync.up_to_date().await.unwrap();
    store.destroy(&name("shared")).await.unwrap();
    let error = live_sync.ended().await.error();
    assert!(error.to_string().contains("destroyed"), "{error}");
    let there = store.create(&name("shared")).await.unwrap();
    fill(&there, "b", 400).await;
    let anew = Watched::new(client.sync(&a, one_shot("shared"))).ended().await.summary();
    assert_eq!(anew.push.unwrap().docs_written, 300);
    assert_eq!(anew.pull.unwrap().docs_written, 400);
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn a_changed_filter_begins_anew_and_each_goes_on_by_itself() {
    let gateway = TestGateway::new(Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&there, "b", 10).await;
    let client = gateway.client();
    let pulled = async |ids: &[&str]| {
        let options = one_shot("shared").pull_only().doc_ids(ids.iter().map(|text| id(text)));
        let summary = Watched::new(client.sync(&a, options)).ended().await.summary();
        let pull = summary.pull.unwrap();
        (pull.docs_read, pull.docs_written)
    };
    assert_eq!(pulled(&["b1", "b2"]).await, (2, 2));
    assert_eq!(pulled(&["b3", "b2", "b1"]).await, (3, 1), "another filter, another replication");
    assert_eq!(pulled(&["b2", "b1", "b3"]).await, (0, 0), "the same filter in another order");
    let all = Watched::new(client.sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(all.times_written(Direction::Pull, "b9"), 1);
    assert_equal(&a, &there).await;
    assert_eq!(pulled(&["b1", "b2"]).await, (0, 0));
}
