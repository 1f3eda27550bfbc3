//! Tombstones go when they are old and every replica that counts has seen them.

mod support;

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use settee::doc::{Body, LocalId};
use settee::replicate::{self, ReplicationOptions};
use settee::store::{ChangesOptions, TombstonePolicy, TombstoneReport};
use settee::{Database, DbName, Document, Limits, Store};
use support::documents::{assert_sound, database, id, replicate, replicated, update_seq};
use support::stores::stores;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn policy() -> TombstonePolicy {
    TombstonePolicy { age: 10 * DAY, client_age: 30 * DAY, ..TombstonePolicy::default() }
}

fn day(number: u32) -> SystemTime {
    SystemTime::UNIX_EPOCH + (20_000 + number) * DAY
}

async fn purge(db: &Database, at: SystemTime) -> TombstoneReport {
    let report = db.purge_tombstones(policy(), at).await.expect("it is looked at");
    assert_sound(db).await;
    report
}

async fn made_and_deleted(db: &Database, id: &str) {
    let doc = Document::new(id, &json!({"n": 1})).unwrap();
    let written = db.put(doc).await.unwrap();
    db.delete(&written.id, written.rev).await.unwrap();
}

async fn ids(db: &Database) -> Vec<String> {
    let rows = db.changes(&ChangesOptions::default()).await.unwrap().rows;
    rows.into_iter().map(|row| row.id.to_string()).collect()
}

fn local_id(text: &str) -> LocalId {
    LocalId::parse(text, 1024).unwrap()
}

/// A checkpoint as a replica leaves it that has pulled so far.
async fn checkpoint(db: &Database, replica: &str, last_seq: Value) {
    let body = json!({"session_id": "s", "last_seq": last_seq, "version": 1, "history": []});
    let body = Body::parse(&body.to_string(), &Limits::default()).unwrap();
    db.set_local(&local_id(replica), body).await.unwrap();
}

async fn seq(db: &Database) -> String {
    db.info().await.unwrap().update_seq.to_string()
}

#[tokio::test]
async fn what_was_deleted_long_ago_goes_and_the_rest_stays() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        db.put(Document::new("open", &json!({})).unwrap()).await.unwrap();
        made_and_deleted(&db, "old").await;
        // A document of which one branch is open is not deleted.
        let branches = ["2-x", "1-a"].map(|rev| replicated("half", &[rev], rev == "2-x"));
        assert!(replicate(&db, branches.to_vec()).await.iter().all(Result::is_ok));
        assert_eq!(purge(&db, day(0)).await, TombstoneReport::default(), "nobody knows how old");
        made_and_deleted(&db, "young").await;
        assert_eq!(purge(&db, day(9)).await.purged, 0);
        assert_eq!(purge(&db, day(10)).await.purged, 1);
        assert_eq!(ids(&db).await, ["open", "half", "young"]);
        let info = db.info().await.unwrap();
        assert_eq!((info.doc_count, info.deleted_count, info.purge_seq), (2, 1, 1));
        assert_eq!(info.body_bytes - info.leaf_bytes, 8, "of the body that young had");
        assert_eq!(purge(&db, day(18)).await.purged, 0);
        assert_eq!(purge(&db, day(19)).await.purged, 1);
        assert_eq!(ids(&db).await, ["open", "half"]);
    }
}

#[tokio::test]
async fn a_deletion_that_was_undone_or_made_again_counts_from_then() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        made_and_deleted(&db, "back").await;
        made_and_deleted(&db, "again").await;
        purge(&db, day(0)).await;
        db.put(Document::new("back", &json!({})).unwrap()).await.unwrap();
        made_and_deleted(&db, "again").await;
        assert_eq!(purge(&db, day(5)).await.purged, 0);
        assert_eq!(purge(&db, day(14)).await.purged, 0);
        assert_eq!(purge(&db, day(15)).await.purged, 1);
        assert_eq!(ids(&db).await, ["back"]);
    }
}

#[tokio::test]
async fn replicas_hold_up_what_they_lack_until_they_have_been_silent_too_long() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        made_and_deleted(&db, "first").await;
        let behind = seq(&db).await;
        made_and_deleted(&db, "second").await;
        purge(&db, day(0)).await;
        checkpoint(&db, "behind", json!(behind)).await;
        checkpoint(&db, "there", json!(seq(&db).await)).await;
        // Neither is a place in this database.
        checkpoint(&db, "pushes", json!(1)).await;
        checkpoint(&db, "pushes-too", json!("1-00000000000000ff")).await;

        let report = purge(&db, day(20)).await;
        assert_eq!((report.purged, report.holding, report.checkpoints_removed), (1, 1, 0));
        assert_eq!(ids(&db).await, ["second"], "one replica has not seen that");
        let report = purge(&db, day(29)).await;
        assert_eq!((report.purged, report.holding, report.checkpoints_removed), (0, 1, 0));
        let report = purge(&db, day(30)).await;
        assert_eq!((report.purged, report.holding, report.checkpoints_removed), (1, 0, 1));
        assert_eq!(ids(&db).await, [""; 0]);
        for (replica, stays) in
            [("behind", false), ("there", true), ("pushes", true), ("pushes-too", true)]
        {
            let found = db.local(&local_id(replica)).await.unwrap();
            assert_eq!(found.is_some(), stays, "{replica}");
        }
    }
}

#[tokio::test]
async fn a_replica_that_lacks_nothing_is_never_too_old() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        db.put(Document::new("open", &json!({})).unwrap()).await.unwrap();
        checkpoint(&db, "idle", json!(seq(&db).await)).await;
        purge(&db, day(0)).await;
        assert_eq!(purge(&db, day(1_000)).await.checkpoints_removed, 0);
        made_and_deleted(&db, "late").await;
        let report = purge(&db, day(1_001)).await;
        assert_eq!((report.purged, report.checkpoints_removed), (0, 0));
        let report = purge(&db, day(1_015)).await;
        assert_eq!((report.purged, report.holding), (0, 1), "it has its time from then on");
    }
}

#[tokio::test]
async fn a_replica_that_saw_the_deletion_does_not_bring_the_document_back() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let replica = Store::memory();
        let replica = database(&replica).await;
        let doc = Document::new("doc", &json!({"n": 1})).unwrap();
        let written = db.put(doc).await.unwrap();
        let sync = async || {
            let options = ReplicationOptions::default();
            replicate::replicate(&replica, &db, options).finished().await.unwrap();
        };
        sync().await;
        db.delete(&written.id, written.rev).await.unwrap();
        purge(&db, day(0)).await;
        let report = purge(&db, day(20)).await;
        assert_eq!((report.purged, report.holding), (0, 1), "the replica's own checkpoint counts");
        sync().await;
        assert_eq!(purge(&db, day(21)).await.purged, 1);
        sync().await;
        let found = db.get(&id("doc"), &Default::default()).await;
        assert!(found.is_err(), "{found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_keeps_its_tombstones_purged() {
    let store = Store::memory();
    let db = store.create(&DbName::parse("tests").unwrap()).await.unwrap();
    made_and_deleted(&db, "doc").await;
    let seq = update_seq(&db).await;
    let policy = TombstonePolicy { age: Duration::ZERO, ..TombstonePolicy::default() };
    let keeping = tokio::spawn({
        let store = store.clone();
        async move { store.keep_tombstones_purged(policy).await }
    });
    let mut changed = store.updates();
    while update_seq(&db).await == seq {
        changed.next().await.expect("the store is there").expect("nothing is dropped");
    }
    assert_eq!(ids(&db).await, [""; 0]);
    store.close().await.unwrap();
    keeping.await.expect("it ends with the store");
}
