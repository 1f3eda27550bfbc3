//! What a sync's options do: which way, for how long, which documents, from where.

#[path = "support/syncing.rs"]
mod syncing;

use settee::replicate::{Direction, Directions, Lifetime, ReplicationOptions, replicate};
use settee::{SyncOptions, SyncState};
use syncing::*;

#[tokio::test]
async fn push_only_and_pull_only() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    put(&a, "mine", "1").await;
    put(&there, "theirs", "1").await;
    let client = gateway.client();
    let pushed = Watched::new(client.sync(&a, one_shot("shared").push_only())).ended().await;
    let pushed = pushed.summary();
    assert_eq!(pushed.push.unwrap().docs_written, 1);
    assert_eq!(pushed.pull, None);
    assert!(!pushed.cancelled);
    assert_eq!((text(&a, "theirs").await, count_of(&there).await), (None, 2));
    put(&a, "mine", "2").await;
    let pulled = Watched::new(client.sync(&a, one_shot("shared").pull_only())).ended().await;
    let pulled = pulled.summary();
    // The older edit of its own was read too, and was known.
    assert_eq!((pulled.push, pulled.pull.unwrap().docs_written), (None, 1));
    assert_eq!(text(&there, "mine").await.as_deref(), Some("1"));
    assert_eq!(text(&a, "mine").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn live_syncs_in_one_direction_carry_edits_that_way_alone() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, b, there) = (local().await, local().await, remote(&gateway, "shared").await);
    let client = gateway.client();
    let mut push = Watched::new(client.sync(&a, live("shared").push_only()));
    let mut pull = Watched::new(client.sync(&b, live("shared").pull_only()));
    push.up_to_date().await.unwrap();
    pull.up_to_date().await.unwrap();
    put(&b, "stays", "1").await;
    put(&a, "goes", "1").await;
    until_text(&b, "goes", "1").await;
    push.up_to_date().await.unwrap();
    pull.up_to_date().await.unwrap();
    assert_eq!((text(&a, "stays").await, text(&there, "stays").await), (None, None));
    let pushed = push.stop().await;
    assert_eq!(pushed.times_written(Direction::Push, "goes"), 1);
    let pushed = pushed.summary();
    assert!(pushed.cancelled);
    assert_eq!(pushed.push.unwrap().docs_written, 1);
    assert_eq!(pull.stop().await.summary().pull.unwrap().docs_written, 1);
}

#[tokio::test]
async fn an_edit_made_just_before_is_pushed_when_up_to_date_returns() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    let mut sync = Watched::new(gateway.client().sync(&a, live("shared")));
    for n in 0..200 {
        let wanted = n.to_string();
        put(&a, "doc", &wanted).await;
        sync.up_to_date().await.unwrap();
        assert_eq!(text(&there, "doc").await, Some(wanted));
        assert_eq!(sync.status().state, SyncState::UpToDate);
    }
    let ended = sync.stop().await;
    assert_eq!(ended.times_written(Direction::Pull, "doc"), 0, "what was pushed does not return");
}

#[tokio::test]
async fn an_edit_that_was_pulled_is_not_sent_back() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, b) = (local().await, local().await);
    let (mut in_a, mut in_b) = (
        Watched::new(gateway.client().sync(&a, live("shared"))),
        Watched::new(gateway.client().sync(&b, live("shared"))),
    );
    for n in 0..20 {
        put(&a, "doc", &n.to_string()).await;
        until_text(&b, "doc", &n.to_string()).await;
    }
    in_a.up_to_date().await.unwrap();
    in_b.up_to_date().await.unwrap();
    let (in_a, in_b) = (in_a.stop().await.summary(), in_b.stop().await.summary());
    assert_eq!(in_b.push.unwrap().docs_read, 0);
    assert_eq!(in_a.pull.unwrap().docs_read, 0);
}

#[tokio::test]
async fn only_named_documents_and_up_to_date_despite_others() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 50).await;
    fill(&there, "b", 50).await;
    let ids = || ["a7", "b9", "nowhere"].map(id);
    let client = gateway.client();
    let once = Watched::new(client.sync(&a, one_shot("shared").doc_ids(ids()))).ended().await;
    let once = once.summary();
    assert_eq!((once.push.unwrap().docs_written, once.pull.unwrap().docs_written), (1, 1));
    assert_eq!((count_of(&a).await, count_of(&there).await), (51, 51));
    let mut sync = Watched::new(client.sync(&a, live("shared").doc_ids(ids())));
    sync.up_to_date().await.unwrap();
    put(&a, "another", "1").await;
    sync.up_to_date().await.unwrap();
    put(&a, "a7", "edited").await;
    put(&a, "another", "2").await;
    sync.up_to_date().await.unwrap();
    assert_eq!(text(&there, "a7").await.as_deref(), Some("edited"));
    assert_eq!(text(&there, "another").await, None);
    put(&there, "b9", "edited").await;
    until_text(&a, "b9", "edited").await;
    assert!(sync.stop().await.result.is_ok());
}

#[tokio::test]
async fn a_batch_of_one() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 40).await;
    let sync = gateway.client().sync(&a, one_shot("shared").batch_size(1));
    let ended = Watched::new(sync).ended().await;
    let pushed = ended.changes.iter().filter(|change| change.direction == Direction::Push);
    assert_eq!(pushed.map(|change| change.docs_read).collect::<Vec<_>>(), [1; 40]);
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn the_remote_name_defaults_to_the_databases_own() {
    let gateway = TestGateway::new(settee::Store::memory());
    let a = local().await;
    put(&a, "doc", "1").await;
    let ended = Watched::new(gateway.client().sync(&a, one_shot(""))).ended().await;
    assert_eq!(ended.summary().push.unwrap().docs_written, 1);
    assert_equal(&a, &remote(&gateway, "todos").await).await;
}

#[tokio::test]
async fn without_checkpoints_everything_is_compared_again_and_nothing_sent() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&a, "a", 30).await;
    let client = gateway.client();
    for written in [30, 0] {
        let sync = client.sync(&a, one_shot("shared").push_only().without_checkpoints());
        let push = Watched::new(sync).ended().await.summary().push.unwrap();
        assert_eq!((push.docs_read, push.docs_written), (written, written));
    }
    assert_equal(&a, &there).await;
}

#[tokio::test]
async fn a_sync_may_begin_before_and_after_the_connection() {
    let gateway = TestGateway::new(settee::Store::memory());
    let client = gateway.client();
    let (a, b) = (local().await, local().await);
    let mut early = Watched::new(client.sync(&a, live("shared")));
    assert!(!client.is_connected());
    early.up_to_date().await.unwrap();
    assert!(client.is_connected());
    let mut late = Watched::new(client.sync(&b, live("shared")));
    late.up_to_date().await.unwrap();
    put(&a, "doc", "1").await;
    until_text(&b, "doc", "1").await;
    assert_eq!(gateway.gateway.counts(), (1, 2));
}

#[tokio::test]
async fn two_local_databases_once() {
    let (a, b) = (local().await, local().await);
    fill(&a, "a", 1_200).await;
    fill(&b, "b", 3).await;
    put(&a, "both", "in a").await;
    put(&b, "both", "in b").await;
    delete(&a, "a0").await;
    let both = Watched::new(replicate(&a, &b, ReplicationOptions::default())).ended().await;
    let both = both.summary();
    assert_eq!(both.push.unwrap().docs_written, 1_201);
    assert_eq!(both.pull.unwrap().docs_written, 4);
    assert_equal(&a, &b).await;
    let push_only =
        ReplicationOptions { directions: Directions::PushOnly, ..ReplicationOptions::default() };
    put(&a, "a1", "new").await;
    put(&b, "b1", "new").await;
    let pushed = Watched::new(replicate(&a, &b, push_only)).ended().await.summary();
    assert_eq!((pushed.push.unwrap().docs_written, pushed.pull), (1, None));
    assert_eq!(text(&a, "b1").await.as_deref(), Some(""));
}

#[tokio::test]
async fn two_local_databases_live() {
    let (a, b) = (local().await, local().await);
    let options = ReplicationOptions { lifetime: Lifetime::Live, ..ReplicationOptions::default() };
    let mut sync = Watched::new(replicate(&a, &b, options));
    for n in 0..20 {
        put(&a, "from a", &n.to_string()).await;
        until_text(&b, "from a", &n.to_string()).await;
        put(&b, "from b", &n.to_string()).await;
        until_text(&a, "from b", &n.to_string()).await;
    }
    sync.up_to_date().await.unwrap();
    let ended = sync.stop().await;
    assert_equal(&a, &b).await;
    let summary = ended.summary();
    assert_eq!((summary.push.unwrap().docs_read, summary.pull.unwrap().docs_read), (20, 20));
}

#[tokio::test]
async fn a_local_database_that_is_destroyed_ends_its_sync() {
    let gateway = TestGateway::new(settee::Store::memory());
    for options in [live("shared"), live("shared").pull_only()] {
        let store = settee::Store::memory();
        let a = store.create(&name("todos")).await.unwrap();
        let mut sync = Watched::new(gateway.client().sync(&a, options));
        sync.up_to_date().await.unwrap();
        store.destroy(a.name()).await.unwrap();
        let error = sync.ended().await.error();
        assert!(error.to_string().contains("destroyed"), "{error}");
    }
}

#[tokio::test]
async fn deletions_reach_a_client_that_began_with_nothing() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, there) = (local().await, remote(&gateway, "shared").await);
    fill(&there, "a", 20).await;
    delete(&there, "a0").await;
    let mut sync = Watched::new(gateway.client().sync(&a, live("shared")));
    until_count(&a, 19).await;
    sync.up_to_date().await.unwrap();
    assert_eq!(a.info().await.unwrap().deleted_count, 0, "old tombstones are left out");
    delete(&there, "a1").await;
    put(&there, "last", "1").await;
    until_text(&a, "last", "1").await;
    assert_eq!(text(&a, "a1").await, None);
    assert_equal(&a, &there).await;
    assert!(sync.stop().await.result.is_ok());
}

#[tokio::test]
async fn an_unread_event_queue_stalls_nothing() {
    let gateway = TestGateway::new(settee::Store::memory());
    let (a, b) = (local().await, local().await);
    fill(&a, "a", 25_000).await;
    fill(&b, "b", 25_000).await;
    let small = |options: SyncOptions| options.batch_size(50);
    let (one, other) = (gateway.client(), gateway.client());
    let mut in_a = Watched::new(one.sync(&a, small(live("shared"))));
    let mut in_b = Watched::new(other.sync(&b, small(live("shared"))));
    until_count(&a, 50_000).await;
    until_count(&b, 50_000).await;
    in_a.up_to_date().await.unwrap();
    in_b.up_to_date().await.unwrap();
    let ended = in_a.stop().await;
    let pushed = ended.changes.iter().filter(|change| change.direction == Direction::Push);
    assert_eq!(pushed.map(|change| change.docs_written).sum::<u64>(), 25_000);
    assert_eq!(ended.summary().pull.unwrap().docs_written, 25_000);
    assert_eq!(in_b.stop().await.summary().pull.unwrap().docs_written, 25_000);
}
