//! Documents that the gateway refuses: told, kept in mind over restarts, and tried again.

#[path = "support/syncing.rs"]
mod syncing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;
use settee::replicate::Direction;
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant, ProposedWrite};
use settee::{Limits, Store, SyncOptions, SyncState};
use syncing::*;

/// A gateway that refuses documents whose ids begin with `x`, until it is lenient.
fn strict() -> (GatewayBuilder, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (lenient, judged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let state = (Arc::clone(&lenient), Arc::clone(&judged));
    let builder = Gateway::builder(Store::memory()).authorizer(move |request: AccessRequest| {
        let (lenient, judged) = state.clone();
        async move {
            let validator = move |write: &ProposedWrite<'_>| {
                let document = write.document;
                if !document.id.as_str().starts_with('x') {
                    return Ok(());
                }
                judged.fetch_add(1, Ordering::Relaxed);
                let body: serde_json::Value = document.to().expect("a body is JSON");
                let good = lenient.load(Ordering::Relaxed) || body["text"] == "good";
                if good { Ok(()) } else { Err(Denied::forbidden("no x here")) }
            };
            Ok(Grant::database(request.database).creating().validator(validator))
        }
    });
    (builder, lenient, judged)
}

fn denied_ids(sync: &settee::Sync) -> Vec<String> {
    let mut ids: Vec<String> = sync.denied().iter().map(|denied| denied.id.to_string()).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn the_others_are_stored_and_the_refused_are_listed_until_accepted() {
    let (builder, _, _) = strict();
    let gateway = TestGateway::with(builder);
    let client = gateway.client();
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 100).await;
    fill(&a, "x", 5).await;
    let mut sync = Watched::new(client.sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    assert_eq!(count_of(&there).await, 100);
    assert_eq!(denied_ids(&sync), ["x0", "x1", "x2", "x3", "x4"]);
    let listed = sync.denied().remove(0);
    assert_eq!((listed.error.status, listed.error.reason.as_str()), (403, "no x here"));
    assert_eq!(listed.direction, Direction::Push);
    assert_eq!((sync.status().state, sync.status().denied), (SyncState::SomeDenied, 5));
    // A later edit that is accepted brings the refused revision along as its ancestor.
    put(&a, "x3", "good").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(denied_ids(&sync), ["x0", "x1", "x2", "x4"]);
    assert_eq!(text(&there, "x3").await.as_deref(), Some("good"));
    let ended = sync.stop().await;
    let told: Vec<&str> = ended.denied.iter().map(|denied| denied.id.as_str()).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    assert_eq!(ended.denied[0].error.reason, "no x here");
    assert_eq!(ended.summary().push.unwrap().doc_write_failures, 5);
}

#[tokio::test]
async fn the_list_survives_restarts_and_the_checkpoint_does_not_lose_it() {
    let (builder, lenient, _) = strict();
    let gateway = TestGateway::with(builder);
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "x", 150).await;
    fill(&a, "a", 1_000).await;
    for _ in 0..2 {
        let sync = gateway.client().sync(&a, one_shot("shared"));
        let mut status = sync.watch_status();
        let ended = Watched::new(sync).ended().await;
        assert_eq!(status.borrow_and_update().denied, 150);
        assert!(ended.result.is_ok());
    }
    let again = Watched::new(gateway.client().sync(&a, one_shot("shared").push_only()));
    let again = again.ended().await;
    assert_eq!(again.denied, [], "what is known is not told again");
    assert_eq!(again.summary().push.unwrap().docs_read, 150, "only the refused are tried again");
    lenient.store(true, Ordering::Relaxed);
    let last = Watched::new(gateway.client().sync(&a, one_shot("shared").push_only()));
    let last = last.ended().await.summary().push.unwrap();
    assert_eq!((last.docs_written, last.doc_write_failures), (150, 0));
    assert_equal(&a, &there).await;
    let none = Watched::new(gateway.client().sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(none.summary().push.unwrap().docs_read, 0);
}

#[tokio::test]
async fn retried_when_asked_and_then_at_rest_again() {
    let (builder, lenient, judged) = strict();
    let gateway = TestGateway::with(builder);
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "x", 3).await;
    let mut sync = Watched::new(gateway.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    assert_eq!(judged.load(Ordering::Relaxed), 3);
    lenient.store(true, Ordering::Relaxed);
    sync.retry_denied();
    until_state(&sync, SyncState::UpToDate).await;
    assert_eq!(denied_ids(&sync), [""; 0]);
    assert_equal(&a, &there).await;
    let ended = sync.stop().await;
    assert_eq!(ended.times_written(Direction::Push, "x1"), 1);
    assert_eq!(ended.summary().push.unwrap().docs_written, 3);
}

#[tokio::test(start_paused = true)]
async fn retried_with_a_new_connection() {
    let (builder, lenient, _) = strict();
    let gateway = TestGateway::with(builder);
    let network = Network::new(gateway.connector.clone());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "x", 3).await;
    let sync = Watched::new(network.client().sync(&a, live("shared")));
    until_state(&sync, SyncState::SomeDenied).await;
    network.close();
    until_state(&sync, SyncState::Offline).await;
    assert_eq!(sync.denied().len(), 3);
    lenient.store(true, Ordering::Relaxed);
    network.open();
    until_state(&sync, SyncState::UpToDate).await;
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn syncs_of_one_database_keep_their_lists_apart() {
    let (builder, _, _) = strict();
    let gateway = TestGateway::with(builder);
    let client = gateway.client();
    let (a, _there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "x", 3).await;
    let mut some = Watched::new(client.sync(&a, live("shared").doc_ids([id("x0"), id("x7")])));
    some.up_to_date().await.unwrap();
    let mut all = Watched::new(client.sync(&a, live("shared")));
    all.up_to_date().await.unwrap();
    put(&a, "x7", "bad").await;
    all.up_to_date().await.unwrap();
    some.up_to_date().await.unwrap();
    assert_eq!(denied_ids(&some), ["x0", "x7"]);
    some.stop().await.summary();
    all.stop().await.summary();
    let mut all = Watched::new(client.sync(&a, live("shared")));
    all.up_to_date().await.unwrap();
    assert_eq!(denied_ids(&all), ["x0", "x1", "x2", "x7"]);
}

fn granting(grant: impl Fn(Grant) -> Grant + Clone + Send + Sync + 'static) -> TestGateway {
    let builder = Gateway::builder(Store::memory()).authorizer(move |request: AccessRequest| {
        let grant = grant(Grant::database(request.database).creating());
        async move { Ok(grant) }
    });
    TestGateway::with(builder)
}

#[tokio::test]
async fn a_read_only_grant_refuses_each_push_and_lets_pull_and_checkpoints_work() {
    let gateway = granting(Grant::read_only);
    let client = gateway.client();
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 10).await;
    attach(&a, "with attachment", "f", "some bytes").await;
    fill(&there, "b", 500).await;
    let first = Watched::new(client.sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(first.denied.len(), 11);
    assert!(first.denied.iter().all(|denied| denied.error.status == 403), "{:?}", first.denied);
    assert_eq!(first.summary().pull.unwrap().docs_written, 500);
    assert_eq!((count_of(&a).await, count_of(&there).await), (511, 500));
    let second = Watched::new(client.sync(&a, one_shot("shared"))).ended().await;
    assert_eq!(second.summary().pull.unwrap().docs_read, 0, "checkpoints are written");
}

#[tokio::test]
async fn a_write_only_grant_takes_pushes_and_shows_nothing() {
    let gateway = granting(Grant::write_only);
    let client = gateway.client();
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 600).await;
    put(&there, "secret", "1").await;
    let pushed = Watched::new(client.sync(&a, one_shot("shared").push_only())).ended().await;
    assert_eq!(pushed.summary().push.unwrap().docs_written, 600);
    assert_eq!(count_of(&there).await, 601);
    let error = Watched::new(client.sync(&a, live("shared").pull_only())).ended().await.error();
    assert!(error.to_string().contains("forbidden"), "{error}");
    assert_eq!(text(&a, "secret").await, None);
}

#[tokio::test]
async fn a_document_too_large_for_the_gateway_is_refused_alone() {
    let limits = Limits { doc_bytes_max: 10_000, attachment_bytes_max: 1_000, ..Limits::default() };
    let backend = Arc::new(settee::store::MemoryBackend::new());
    let gateway = TestGateway::new(Store::with_backend(backend, limits));
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    put(&a, "large", &"x".repeat(20_000)).await;
    attach(&a, "large attachment", "f", vec![7; 2_000]).await;
    fill(&a, "a", 10).await;
    let mut sync = Watched::new(gateway.client().sync(&a, live("shared")));
    sync.up_to_date().await.unwrap();
    assert_eq!(denied_ids(&sync), ["large", "large attachment"]);
    assert!(sync.denied().iter().all(|denied| denied.error.status == 413));
    assert_eq!(count_of(&there).await, 10);
    put(&a, "large", "small now").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(text(&there, "large").await.as_deref(), Some("small now"));
    assert_eq!(denied_ids(&sync), ["large attachment"]);
}

#[tokio::test]
async fn refusing_nothing_lists_nothing() {
    let gateway = TestGateway::new(Store::memory());
    let a = local().await;
    fill(&a, "a", 10).await;
    let options = SyncOptions::live("shared").credentials(json!({"token": "secret"})).create();
    let mut sync = Watched::new(gateway.client().sync(&a, options));
    sync.up_to_date().await.unwrap();
    sync.retry_denied();
    assert_eq!(denied_ids(&sync), [""; 0]);
    assert_eq!(sync.stop().await.denied, []);
}
