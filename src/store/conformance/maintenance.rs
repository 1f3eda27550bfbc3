use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::blobs::{bytes, read, stage};
use super::make::{Editor, body, changes, create, id, rev};
use crate::doc::{BlobKey, StoredAttachment};
use crate::store::backend::{
    Backend, Commit, Compacted, DatabaseSettings, DocCommit, DocPurge, Order, ReadBody, StagedBlob,
    SweptBlobs, Version,
};

super::conformance!(
    compaction_leaves_the_bodies_of_leaves,
    a_write_merged_before_a_compaction_is_stale,
    a_purged_document_leaves_nothing,
    a_purge_of_one_branch_changes_the_document,
    a_purge_of_another_version_is_stale,
    settings_are_kept,
    a_sweep_removes_what_nobody_names,
    a_sweep_spares_what_was_named_meanwhile,
    a_document_whose_attachment_was_swept_is_refused,
    young_attachments_are_not_listed,
);

async fn compaction_leaves_the_bodies_of_leaves(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let small = editor.put("a", &["1-a"]);
    let large = editor.edit("b", &["1-a"], false, body("1-a", 9_000));
    editor.commit(&*store, db, vec![small, large]).await;
    let small = editor.put("a", &["2-b", "1-a"]);
    let large = editor.edit("b", &["2-b", "1-a"], false, body("2-b", 9_000));
    editor.commit(&*store, db, vec![small, large]).await;
    let branch = editor.put("a", &["2-c", "1-a"]);
    editor.commit(&*store, db, vec![branch]).await;
    let before = store.counts(db).await.expect("counts are read");
    let feed = changes(&*store, db, 0, 9, Order::Ascending).await;

    let ids = vec![id("a"), id("missing"), id("b")];
    let compacted = store.compact(db, ids.clone()).await.expect("it is compacted");

    let bytes = before.body_bytes - before.leaf_bytes;
    assert_eq!(compacted, Compacted { bodies: 2, bytes });
    let after = store.counts(db).await.expect("counts are read");
    assert_eq!(after.body_bytes, before.leaf_bytes);
    assert_eq!((after.update_seq, after.docs), (before.update_seq, before.docs));
    assert_eq!(changes(&*store, db, 0, 9, Order::Ascending).await, feed);
    let asked = [("a", "1-a"), ("a", "2-b"), ("a", "2-c"), ("b", "1-a"), ("b", "2-b")];
    let asked = asked.map(|(doc, r)| (id(doc), rev(r)));
    let bodies = store.bodies(db, &asked).await.expect("bodies are read");
    let kept: Vec<bool> = bodies.iter().map(Option::is_some).collect();
    assert_eq!(kept, [false, true, true, false, true]);
    let again = store.compact(db, ids).await.expect("it is compacted");
    assert_eq!(again, Compacted::default());
}

async fn a_write_merged_before_a_compaction_is_stale(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"])]).await;
    editor.commit(&*store, db, vec![editor.put("a", &["2-b", "1-a"])]).await;
    store.compact(db, vec![id("a")]).await.expect("it is compacted");
    let late = editor.put("a", &["3-c", "2-b"]);
    let Commit::Stale(stale) = store.commit(db, vec![late]).await.expect("it is answered") else {
        panic!("it was merged against bodies that are gone")
    };
    let there = stale[0].1.as_ref().expect("the document is there");
    assert_eq!(there.version, Version { seq: 2, edition: 1 });
    assert_eq!(there.tree.state(&rev("1-a")).expect("it is known").body_bytes, None);
    editor.known.insert(id("a"), (there.version, there.tree.clone()));
    editor.commit(&*store, db, vec![editor.put("a", &["3-c", "2-b"])]).await;
}

/// The purge of some leaves of a document as the editor knows it.
fn purge(editor: &Editor, doc: &str, revs: &[&str]) -> DocPurge {
    let (expected, tree) = editor.known[&id(doc)].clone();
    let revs: Vec<_> = revs.iter().map(|text| rev(text)).collect();
    let (left, gone) = tree.without(&revs);
    assert_eq!(gone, revs, "all of them are leaves");
    let stored = tree.revs().filter(|(_, state)| state.body_bytes.is_some());
    let dropped = stored.map(|(rev, _)| rev).filter(|rev| !left.contains(rev));
    DocPurge { id: id(doc), expected, dropped: dropped.cloned().collect(), tree: left }
}

async fn a_purged_document_leaves_nothing(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"]), editor.put("b", &["1-a"])]).await;
    let large = editor.edit("a", &["2-b", "1-a"], false, body("2-b", 60_000));
    editor.commit(&*store, db, vec![large]).await;
    let mut watch = store.watch(db);
    let batch = vec![purge(&editor, "a", &["2-b"])];
    let purged = store.purge(db, batch).await.expect("it is answered");
    assert_eq!(purged, Commit::Done(vec![4]));
    watch.changed().await.expect("the database is there");

    let counts = store.counts(db).await.expect("counts are read");
    let size = body("1-a", 10).encode().len() as u64;
    assert_eq!((counts.docs, counts.deleted_docs, counts.purge_seq), (1, 0, 1));
    assert_eq!((counts.update_seq, counts.body_bytes, counts.leaf_bytes), (4, size, size));
    let read = store.read(db, &[id("a")], ReadBody::Winner).await.expect("it is read");
    assert_eq!(read, [None]);
    let bodies = [(id("a"), rev("1-a")), (id("a"), rev("2-b"))];
    assert_eq!(store.bodies(db, &bodies).await.expect("bodies are read"), [None, None]);
    let page = changes(&*store, db, 0, 9, Order::Ascending).await;
    assert_eq!((page.rows.len(), page.last_seq), (1, 4));
    // It can be made anew.
    editor.known.remove(&id("a"));
    editor.commit(&*store, db, vec![editor.put("a", &["1-z"])]).await;
}

async fn a_purge_of_one_branch_changes_the_document(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"])]).await;
    editor.commit(&*store, db, vec![editor.put("a", &["2-b", "1-a"])]).await;
    editor.commit(&*store, db, vec![editor.put("a", &["2-c", "1-a"])]).await;
    let batch = vec![purge(&editor, "a", &["2-c"])];
    assert_eq!(store.purge(db, batch).await.expect("it is answered"), Commit::Done(vec![4]));
    let page = changes(&*store, db, 0, 9, Order::Ascending).await;
    assert_eq!(page.rows.len(), 1);
    assert_eq!((page.rows[0].seq, &page.rows[0].leaves), (4, &vec![(rev("2-b"), false)]));
    let read = store.read(db, &[id("a")], ReadBody::Winner).await.expect("it is read");
    let read = read[0].as_ref().expect("it is there");
    assert_eq!(read.version, Version { seq: 4, edition: 0 });
    assert_eq!(read.winner_body, Some(body("2-b", 10)));
    assert!(!read.tree.contains(&rev("2-c")) && read.tree.contains(&rev("1-a")));
}

async fn a_purge_of_another_version_is_stale(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"])]).await;
    let late = purge(&editor, "a", &["1-a"]);
    editor.commit(&*store, db, vec![editor.put("a", &["2-b", "1-a"])]).await;
    let answer = store.purge(db, vec![late]).await.expect("it is answered");
    assert!(matches!(answer, Commit::Stale(stale) if stale[0].1.is_some()));
    assert_eq!(store.counts(db).await.expect("counts are read").purge_seq, 0);
}

async fn settings_are_kept(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let other = create(&*store, "other").await;
    let read = async |db| store.settings(db).await.expect("settings are read");
    assert_eq!(read(db).await, DatabaseSettings::default());
    for (limit, security) in [(Some(7), None), (None, Some("x".repeat(100_000))), (Some(1), None)] {
        let settings = DatabaseSettings { revs_limit: limit.and_then(NonZeroU32::new), security };
        store.commit_settings(db, settings.clone()).await.expect("they are kept");
        assert_eq!(read(db).await, settings);
        assert_eq!(read(other).await, DatabaseSettings::default());
    }
}

/// A document's first revision that names attachment bytes.
fn attached(editor: &Editor, doc: &str, staged: StagedBlob) -> DocCommit {
    let mut record = body("attached", 10);
    record.attachments.push(StoredAttachment {
        name: "file".into(),
        content_type: "text/plain".into(),
        revpos: 1,
        blob: staged.blob,
    });
    let mut commit = editor.edit(doc, &["1-a"], false, record);
    commit.blobs.push(staged);
    commit
}

async fn listed(store: &dyn Backend, db: crate::store::backend::DatabaseKey) -> Vec<BlobKey> {
    let mut keys = store.blobs(db, Duration::ZERO).await.expect("they are listed");
    keys.sort_unstable();
    keys
}

async fn a_sweep_removes_what_nobody_names(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let (small, large) = (bytes(30_000), bytes(100_000));
    let kept = stage(&*store, db, &bytes(200_000)).await;
    let mut sorted = vec![kept.blob.key];
    let (small, large) = (stage(&*store, db, &small).await, stage(&*store, db, &large).await);
    let gone = [small.blob.key, large.blob.key];
    sorted.extend(gone);
    sorted.sort_unstable();
    let batch = vec![
        attached(&editor, "a", kept.clone()),
        attached(&editor, "b", small),
        attached(&editor, "c", large),
    ];
    editor.commit(&*store, db, batch).await;
    assert_eq!(listed(&*store, db).await, sorted);
    let batch = vec![purge(&editor, "b", &["1-a"]), purge(&editor, "c", &["1-a"])];
    store.purge(db, batch).await.expect("they are purged");

    let mut sweep = store.sweep_blobs(db).await.expect("it begins");
    let swept = sweep.remove(gone.to_vec()).await.expect("they are removed");
    assert_eq!(swept, SweptBlobs { blobs: 2, bytes: 130_000 });
    assert_eq!(listed(&*store, db).await, [kept.blob.key]);
    assert_eq!(read(&*store, db, &gone[0]).await, None);
    assert_eq!(read(&*store, db, &gone[1]).await, None);
    assert_eq!(read(&*store, db, &kept.blob.key).await, Some(bytes(200_000)));
    let swept = sweep.remove(gone.to_vec()).await.expect("they are gone already");
    assert_eq!(swept, SweptBlobs::default());
}

async fn a_sweep_spares_what_was_named_meanwhile(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let staged = stage(&*store, db, &bytes(100_000)).await;
    let key = staged.blob.key;
    let mut sweep = store.sweep_blobs(db).await.expect("it begins");
    editor.commit(&*store, db, vec![attached(&editor, "a", staged)]).await;
    let swept = sweep.remove(vec![key]).await.expect("it is answered");
    assert_eq!(swept, SweptBlobs::default());
    assert_eq!(read(&*store, db, &key).await, Some(bytes(100_000)));
}

async fn a_document_whose_attachment_was_swept_is_refused(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let staged = stage(&*store, db, &bytes(100_000)).await;
    let mut sweep = store.sweep_blobs(db).await.expect("it begins");
    sweep.remove(vec![staged.blob.key]).await.expect("it is removed");
    let batch = vec![editor.put("plain", &["1-a"]), attached(&editor, "a", staged)];
    let answer = store.commit(db, batch).await.expect("it is answered");
    assert_eq!(answer, Commit::BlobsMissing(vec![1]));
    assert_eq!(store.counts(db).await.expect("counts are read").docs, 0);
    let staged = stage(&*store, db, &bytes(100_000)).await;
    editor.commit(&*store, db, vec![attached(&editor, "a", staged)]).await;
}

async fn young_attachments_are_not_listed(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let staged = stage(&*store, db, &bytes(100_000)).await;
    assert_eq!(listed(&*store, db).await, [staged.blob.key]);
    let young = store.blobs(db, Duration::from_secs(60)).await.expect("they are listed");
    assert_eq!(young, []);
}
