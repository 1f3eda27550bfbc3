//! A purged revision is as if it had never been there, until somebody sends it again.

mod support;

use std::time::Duration;

use settee::doc::Attachment;
use settee::replicate::{self, ReplicationOptions};
use settee::store::{ChangesOptions, CompactOptions, GetOptions, Purged};
use settee::{Database, Limits, Rev, Store, StoreError};
use support::documents::{
    assert_sound, database, history, id, leaves, replicate, replicated, rev, revs, update_seq,
};
use support::stores::{stores, stores_with};

/// A document with two branches, `2-b` and `3-d`, that share `1-a`.
async fn branched(db: &Database) {
    let documents = vec![
        replicated("doc", &["2-b", "1-a"], false),
        replicated("doc", &["3-d", "2-c", "1-a"], false),
    ];
    assert!(replicate(db, documents).await.iter().all(Result::is_ok));
}

async fn purge(db: &Database, asked: &[&str]) -> Vec<Rev> {
    let mut purged = db.purge(&[(id("doc"), revs(asked))]).await.expect("it is answered");
    assert_sound(db).await;
    let Purged { id: of, revs } = purged.remove(0);
    assert_eq!((of, purged.len()), (id("doc"), 0));
    revs
}

/// Ids and seqs of the feed.
async fn feed(db: &Database) -> Vec<(String, u64)> {
    let changes = db.changes(&ChangesOptions::default()).await.unwrap();
    changes.rows.into_iter().map(|row| (row.id.to_string(), row.seq.number)).collect()
}

#[tokio::test]
async fn a_branch_goes_with_what_it_does_not_share() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        assert_eq!(purge(&db, &["3-d"]).await, revs(&["3-d"]));
        assert_eq!(leaves(&db, &id("doc")).await, ["2-b"]);
        assert_eq!(history(&db, &id("doc"), "2-b").await, ["2-b", "1-a"]);
        let diff = db.revs_diff(&[(id("doc"), revs(&["3-d", "2-c", "2-b", "1-a"]))]).await.unwrap();
        let missing: Vec<Rev> = diff.into_iter().flat_map(|(_, diff)| diff.missing).collect();
        assert_eq!(missing, revs(&["3-d", "2-c"]), "they can be sent again");
        assert_eq!(feed(&db).await, [("doc".to_owned(), 2)], "the document changed");
        assert_eq!(db.info().await.unwrap().purge_seq, 1);
    }
}

#[tokio::test]
async fn a_document_goes_with_its_last_leaf() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        replicate(&db, vec![replicated("other", &["1-a"], false)]).await.remove(0).unwrap();
        assert_eq!(purge(&db, &["2-b", "3-d"]).await, revs(&["2-b", "3-d"]));
        let missing = db.get(&id("doc"), &GetOptions::default()).await.unwrap_err();
        assert!(matches!(missing, StoreError::DocMissing { .. }), "no tombstone: {missing}");
        assert_eq!(feed(&db).await, [("other".to_owned(), 2)]);
        let info = db.info().await.unwrap();
        assert_eq!((info.doc_count, info.deleted_count, info.purge_seq), (1, 0, 1));
        assert_eq!(info.body_bytes, info.leaf_bytes);
        // A listener that goes on from where the purge left the feed misses nothing.
        let seq = update_seq(&db).await;
        replicate(&db, vec![replicated("doc", &["1-z"], false)]).await.remove(0).unwrap();
        assert_eq!(feed(&db).await, [("other".to_owned(), 2), ("doc".to_owned(), seq + 1)]);
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn what_is_no_leaf_stays() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        let before = (db.info().await.unwrap(), feed(&db).await);
        assert_eq!(purge(&db, &["1-a", "2-c", "9-z"]).await, []);
        let unknown = (id("nowhere"), revs(&["1-a"]));
        let purged = db.purge(std::slice::from_ref(&unknown)).await.unwrap();
        assert_eq!(purged, [Purged { id: unknown.0, revs: Vec::new() }]);
        assert_eq!((db.info().await.unwrap(), feed(&db).await), before, "nothing happened");
        assert_eq!(purge(&db, &["1-a", "2-b"]).await, revs(&["2-b"]), "each by itself");
    }
}

#[tokio::test]
async fn who_asks_twice_is_answered_once() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        branched(&db).await;
        replicate(&db, vec![replicated("other", &["1-a"], false)]).await.remove(0).unwrap();
        let asked = [("doc", "2-b"), ("other", "1-a"), ("doc", "2-b"), ("doc", "3-d")];
        let asked = asked.map(|(of, leaf)| (id(of), revs(&[leaf])));
        let purged = db.purge(&asked).await.unwrap();
        let gone: Vec<Vec<Rev>> = purged.into_iter().map(|row| row.revs).collect();
        assert_eq!(gone, [revs(&["2-b"]), revs(&["1-a"]), Vec::new(), revs(&["3-d"])]);
        assert_eq!(feed(&db).await, []);
        assert_sound(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_are_edited_meanwhile_are_purged_before_or_not_at_all() {
    const DOCUMENTS: usize = 250;
    let named = |n: usize| format!("doc{n:03}");
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let documents = (0..DOCUMENTS).map(|n| replicated(&named(n), &["1-a"], false)).collect();
        assert!(replicate(&db, documents).await.iter().all(Result::is_ok));
        let asked: Vec<_> = (0..DOCUMENTS).map(|n| (id(&named(n)), revs(&["1-a"]))).collect();
        let edited: Vec<String> = (0..DOCUMENTS).step_by(10).map(named).collect();
        let edit = async {
            for name in &edited {
                let edit = replicated(name, &["2-b", "1-a"], false);
                replicate(&db, vec![edit]).await.remove(0).unwrap();
            }
        };
        let (purged, ()) = tokio::join!(db.purge(&asked), edit);
        let purged = purged.unwrap();
        assert!(purged.iter().zip(&asked).all(|(row, (id, _))| row.id == *id), "in order");
        for row in &purged {
            let is_edited = edited.iter().any(|name| name == row.id.as_str());
            assert!(row.revs == revs(&["1-a"]) || (is_edited && row.revs.is_empty()), "{row:?}");
        }
        let mut there: Vec<String> = feed(&db).await.into_iter().map(|(id, _)| id).collect();
        there.sort_unstable();
        assert_eq!(there, edited);
        let gone = purged.iter().filter(|row| !row.revs.is_empty()).count() as u64;
        assert_eq!(db.info().await.unwrap().purge_seq, gone, "counted once each");
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn tombstones_can_be_purged() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let dead = vec![replicated("doc", &["2-b", "1-a"], true)];
        replicate(&db, dead).await.remove(0).unwrap();
        assert_eq!(purge(&db, &["2-b"]).await, revs(&["2-b"]));
        assert_eq!(db.info().await.unwrap().deleted_count, 0);
        assert_eq!(feed(&db).await, []);
    }
}

#[tokio::test]
async fn too_many_at_once_are_refused() {
    for (_, store, _dir) in stores_with(&Limits { bulk_rows_max: 2, ..Limits::default() }) {
        let db = database(&store).await;
        let asked = |documents: usize, each: usize| -> Vec<_> {
            (0..documents).map(|n| (id(&format!("doc{n}")), vec![rev("1-a"); each])).collect()
        };
        assert_eq!(db.purge(&asked(2, 1)).await.unwrap().len(), 2);
        for asked in [asked(3, 0), asked(1, 3)] {
            let refused = db.purge(&asked).await.unwrap_err();
            assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
        }
    }
}

#[tokio::test]
async fn attachments_go_with_the_next_compaction() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for bytes in [vec![1; 1_000], vec![2; 100_000]] {
            let attachment = Attachment::inline("text/plain", bytes);
            let document = replicated("doc", &["1-a"], false).with_attachment("f", attachment);
            replicate(&db, vec![document]).await.remove(0).unwrap();
            assert_eq!(purge(&db, &["1-a"]).await.len(), 1);
            assert_eq!(db.check().await.unwrap().unnamed_attachments, 1);
            let options = CompactOptions {
                upload_age: Duration::ZERO,
                gently: false,
                ..CompactOptions::default()
            };
            assert_eq!(db.compact(options).await.unwrap().attachments, 1);
            assert_eq!(db.check().await.unwrap().unnamed_attachments, 0);
        }
    }
}

#[tokio::test]
async fn a_replica_that_has_it_brings_it_back() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let replica = database(&Store::memory()).await;
        branched(&replica).await;
        let sync = || async {
            let options = ReplicationOptions::default();
            replicate::replicate(&replica, &db, options).finished().await.unwrap()
        };
        sync().await;
        let both = ["3-d", "2-b"];
        assert_eq!(leaves(&db, &id("doc")).await, both);
        purge(&db, &["3-d"]).await;
        sync().await;
        assert_eq!(leaves(&replica, &id("doc")).await, both, "a purge is not replicated");
        assert_eq!(leaves(&db, &id("doc")).await, ["2-b"], "the checkpoint says it was sent");
        // An edit of the branch brings all of it.
        let edit = replicated("doc", &["4-e", "3-d", "2-c", "1-a"], false);
        replicate(&replica, vec![edit]).await.remove(0).unwrap();
        sync().await;
        assert_eq!(leaves(&db, &id("doc")).await, ["4-e", "2-b"]);
        assert_eq!(history(&db, &id("doc"), "4-e").await, ["4-e", "3-d", "2-c", "1-a"]);
        assert_sound(&db).await;
        // One without checkpoints sends everything.
        purge(&db, &["2-b", "4-e"]).await;
        let anew = ReplicationOptions { checkpoints: false, ..ReplicationOptions::default() };
        replicate::replicate(&replica, &db, anew).finished().await.unwrap();
        assert_eq!(leaves(&db, &id("doc")).await, ["4-e", "2-b"]);
        assert_sound(&db).await;
    }
}
