//! Databases are compacted without anybody asking.

#[path = "support/syncing.rs"]
mod syncing;

use std::time::Duration;

use serde_json::json;
use settee::doc::Attachment;
use settee::server::ServerError;
use settee::store::{CompactOptions, CompactionPolicy, DatabaseInfo, EditMode};
use settee::{Database, Document, Gateway, Rev, Store};
use syncing::{TestGateway, name, put, token_gateway};
use tokio::time::Instant;

const INTERVAL: Duration = Duration::from_secs(30);

fn policy() -> CompactionPolicy {
    CompactionPolicy { old_bytes_min: 2_000, interval: INTERVAL, ..CompactionPolicy::default() }
}

async fn info(db: &Database) -> DatabaseInfo {
    db.info().await.unwrap()
}

fn old_bytes(info: &DatabaseInfo) -> u64 {
    info.body_bytes - info.leaf_bytes
}

/// Edits one document until the database has so many old bytes.
async fn edit_until(db: &Database, bytes: u64) {
    while old_bytes(&info(db).await) < bytes {
        put(db, "doc", &"x".repeat(100)).await;
    }
}

/// Waits, on the paused clock, until a database has no old bytes.
async fn until_compacted(db: &Database) {
    while old_bytes(&info(db).await) > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_is_compacted_when_enough_of_it_is_old() {
    let gateway = TestGateway::with(token_gateway(Store::memory()).compaction(Some(policy())));
    let db = gateway.gateway.store().create(&name("a")).await.unwrap();
    edit_until(&db, 1_000).await;
    let few = info(&db).await;
    tokio::time::sleep(3 * INTERVAL).await;
    assert_eq!(info(&db).await, few, "too little of it is old");

    edit_until(&db, 2_000).await;
    let began = Instant::now();
    until_compacted(&db).await;
    assert!(began.elapsed() <= 2 * INTERVAL, "{:?}", began.elapsed());
    assert_eq!(info(&db).await.leaf_bytes, few.leaf_bytes);
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_is_compacted_when_many_groups_were_written() {
    let policy = CompactionPolicy { old_bytes_min: u64::MAX, ..policy() };
    let gateway = TestGateway::with(token_gateway(Store::memory()).compaction(Some(policy)));
    let db = gateway.gateway.store().create(&name("a")).await.unwrap();
    let mut revs = [None, None];
    for n in 0..10_000 {
        let document = |(id, rev): (&str, Option<Rev>)| Document {
            rev,
            ..Document::new(id, &json!({ "n": n })).unwrap()
        };
        let group = ["a", "b"].into_iter().zip(revs).map(document).collect();
        let written = db.write_group(group, EditMode::Edit).await.unwrap();
        revs = [0, 1].map(|place: usize| Some(written[place].as_ref().unwrap().rev.clone()));
    }
    assert!(old_bytes(&info(&db).await) > 0);
    until_compacted(&db).await;
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_part_that_is_small_stays() {
    let store = Store::memory();
    let db = store.create(&name("a")).await.unwrap();
    for n in 0..100 {
        put(&db, &format!("other{n}"), &"x".repeat(100)).await;
    }
    edit_until(&db, 3_000).await;
    let gateway = TestGateway::with(token_gateway(store).compaction(Some(policy())));
    let before = info(&db).await;
    tokio::time::sleep(3 * INTERVAL).await;
    assert_eq!(info(&db).await, before);
    edit_until(&db, before.leaf_bytes * 2).await;
    until_compacted(&db).await;
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_old_before_the_start_is_compacted() {
    let store = Store::memory();
    let db = store.create(&name("a")).await.unwrap();
    edit_until(&db, 2_000).await;
    let keeping = tokio::spawn({
        let store = store.clone();
        async move { store.keep_compacted(policy()).await }
    });
    until_compacted(&db).await;
    store.close().await.unwrap();
    keeping.await.expect("it ends with the store");
}

#[tokio::test(start_paused = true)]
async fn attachments_that_nothing_names_count_when_they_have_grown() {
    let store = Store::memory();
    let db = store.create(&name("a")).await.unwrap();
    let start = || {
        TestGateway::with(token_gateway(store.clone()).compaction(Some(CompactionPolicy {
            old_bytes_min: 50_000,
            options: CompactOptions { upload_age: Duration::ZERO, ..CompactOptions::default() },
            ..policy()
        })))
    };
    let upload = async |byte: u8| {
        // Too long to wait for its document in memory.
        let bytes = vec![byte; 40_000];
        db.stage_attachment(futures::stream::iter([Ok(bytes.into())])).await.unwrap()
    };
    let unnamed = async || db.check().await.unwrap().unnamed_attachments;
    let until_none = async || {
        while unnamed().await > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let gateway = start();
    upload(1).await;
    tokio::time::sleep(2 * INTERVAL).await;
    assert_eq!(unnamed().await, 1, "they are few");
    let document = Document::new("doc", &json!({})).unwrap();
    let data = upload(2).await;
    let attachment = Attachment { content_type: "text/plain".into(), revpos: 0, data };
    db.put(document.with_attachment("kept", attachment)).await.unwrap();
    until_none().await;
    gateway.stop().await;

    // What was left then is known after a start.
    let gateway = start();
    upload(3).await;
    tokio::time::sleep(2 * INTERVAL).await;
    assert_eq!(unnamed().await, 1, "they have grown by little");
    gateway.stop().await;
    let gateway = start();
    upload(4).await;
    put(&db, "other", "tells of a change").await;
    until_none().await;
    gateway.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_ends_when_the_gateway_stops() {
    let store = Store::memory();
    let gateway = TestGateway::with(token_gateway(store.clone()).compaction(Some(policy())));
    let db = store.create(&name("a")).await.unwrap();
    edit_until(&db, 2_000).await;
    until_compacted(&db).await;
    gateway.stop().await;
    edit_until(&db, 2_000).await;
    let before = info(&db).await;
    tokio::time::sleep(3 * INTERVAL).await;
    assert_eq!(info(&db).await, before);
}

#[tokio::test(start_paused = true)]
async fn it_can_be_turned_off() {
    let store = Store::memory();
    let db = store.create(&name("a")).await.unwrap();
    edit_until(&db, 2_000).await;
    let gateway = TestGateway::with(token_gateway(store).compaction(None));
    let before = info(&db).await;
    tokio::time::sleep(3 * INTERVAL).await;
    assert_eq!(info(&db).await, before);
    gateway.stop().await;
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused() {
    let bad = [
        CompactionPolicy { old_part_min: 1.5, ..policy() },
        CompactionPolicy { old_part_min: f64::NAN, ..policy() },
        CompactionPolicy { interval: Duration::ZERO, ..policy() },
    ];
    for bad in bad {
        let refused = Gateway::builder(Store::memory()).compaction(Some(bad)).build();
        assert!(matches!(refused, Err(ServerError::Compaction(_))), "{bad:?}");
    }
}
