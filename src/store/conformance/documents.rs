use std::sync::Arc;

use super::make::{Editor, all_docs, body, create, id, rev};
use crate::Limits;
use crate::doc::{Body, LocalId, LocalRev};
use crate::store::backend::{
    Backend, Commit, Counts, DocCommit, LocalCommit, LocalOutcome, ReadBody, Version,
};

super::conformance!(
    seqs_are_in_the_order_given,
    a_stale_batch_writes_nothing,
    concurrent_writers_of_one_document_take_turns,
    counts_follow_the_winning_revs,
    bodies_of_old_revisions_stay_until_they_are_dropped,
    a_losing_revision_leaves_the_winners_body,
    a_winner_may_change_back,
    large_bodies_and_trees_are_replaced_whole,
    strange_ids_are_different_documents,
    a_watch_tells_the_durable_seq,
    local_documents_are_compared_by_revision,
);

async fn seqs_are_in_the_order_given(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let batch: Vec<DocCommit> =
        (0..350).rev().map(|n| editor.put(&format!("d{n}"), &["1-a"])).collect();
    assert_eq!(editor.commit(&*store, db, batch).await, (1..=350).collect::<Vec<u64>>());
    let batch = vec![editor.put("d7", &["2-b", "1-a"]), editor.put("d3", &["2-b", "1-a"])];
    assert_eq!(editor.commit(&*store, db, batch).await, [351, 352]);
    let read = store.read(db, &[id("d3"), id("no"), id("d7")], ReadBody::Winner).await;
    let read = read.expect("documents are read");
    assert_eq!(read[1], None);
    for (doc, version) in [(&read[0], 352), (&read[2], 351)] {
        let doc = doc.as_ref().expect("the document is there");
        assert_eq!((doc.version.seq, &doc.winner_body), (version, &Some(body("2-b", 10))));
    }
    assert_eq!(
        store.commit(db, Vec::new()).await.expect("nothing is written"),
        Commit::Done(vec![])
    );
}

async fn a_stale_batch_writes_nothing(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"]), editor.put("b", &["1-a"])]).await;
    let before = store.counts(db).await.expect("counts are read");
    let nobody = Editor::default();
    let mut gone = editor.put("gone", &["1-a"]);
    gone.expected = Version { seq: 9, edition: 0 };
    let batch = vec![editor.put("new", &["1-a"]), nobody.put("b", &["1-z"]), gone];
    let Commit::Stale(stale) = store.commit(db, batch).await.expect("it is answered") else {
        panic!("the batch is stale")
    };
    assert_eq!(stale.len(), 2);
    let (place, doc) = &stale[0];
    let doc = doc.as_ref().expect("b is there");
    assert_eq!((*place, doc.version.seq, &doc.winner_body), (1, 2, &None));
    assert_eq!(doc.tree, editor.known[&id("b")].1);
    assert_eq!(stale[1], (2, None));
    assert_eq!(store.counts(db).await.expect("counts are read"), before);
    assert_eq!(store.read(db, &[id("new")], ReadBody::No).await.expect("it is read"), [None]);
}

async fn concurrent_writers_of_one_document_take_turns(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let writers = (0..16).map(|n| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut editor = Editor::default();
            loop {
                let doc = editor.put("shared", &[&format!("1-w{n}")]);
                match store.commit(db, vec![doc]).await.expect("it is answered") {
                    Commit::Done(seqs) => return seqs[0],
                    Commit::Stale(mut stale) => {
                        let there = stale.remove(0).1.expect("another writer was faster");
                        editor.known.insert(id("shared"), (there.version, there.tree));
                    }
                    Commit::BlobsMissing(_) => panic!("there are no attachments"),
                }
            }
        })
    });
    let mut seqs = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        seqs.push(writer.await.expect("the writer ends"));
    }
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=16).collect::<Vec<u64>>());
    let read = store.read(db, &[id("shared")], ReadBody::No).await.expect("it is read");
    assert_eq!(read[0].as_ref().expect("it is there").tree.leaves().len(), 16);
    assert_eq!(store.count_changes(db, 0).await.expect("they are counted"), 1);
}

async fn counts_follow_the_winning_revs(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let size = |mark| body(mark, 10).encode().len() as u64;
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"]), editor.put("b", &["1-a"])]).await;
    let deleted = editor.edit("a", &["2-b", "1-a"], true, body("2-b", 10));
    editor.commit(&*store, db, vec![deleted]).await;
    let counts = Counts {
        docs: 1,
        deleted_docs: 1,
        update_seq: 3,
        body_bytes: 3 * size("1-a"),
        leaf_bytes: 2 * size("1-a"),
        purge_seq: 0,
    };
    assert_eq!(store.counts(db).await.expect("counts are read"), counts);
    editor.commit(&*store, db, vec![editor.put("a", &["3-c", "2-b"])]).await;
    let counts =
        Counts { docs: 2, deleted_docs: 0, update_seq: 4, body_bytes: 4 * size("1-a"), ..counts };
    assert_eq!(store.counts(db).await.expect("counts are read"), counts);
}

async fn bodies_of_old_revisions_stay_until_they_are_dropped(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let paths: [&[&str]; 3] = [&["1-a"], &["2-b", "1-a"], &["3-c", "2-b", "1-a"]];
    for path in paths {
        editor.commit(&*store, db, vec![editor.put("doc", path)]).await;
    }
    let bodies = async || {
        let revs = ["1-a", "2-b", "3-c", "4-d"].map(|text| (id("doc"), rev(text)));
        store.bodies(db, &revs).await.expect("bodies are read")
    };
    let some = |mark| Some(body(mark, 10));
    assert_eq!(bodies().await, [some("1-a"), some("2-b"), some("3-c"), None]);
    // The tree forgets the first body; then the winning one goes too, as its document is emptied.
    for dropped in ["1-a", "3-c"] {
        let (expected, mut tree) = editor.known[&id("doc")].clone();
        tree.set_body_bytes(&rev(dropped), None);
        let leaves = tree.leaves();
        let (bodies, blobs) = (Vec::new(), Vec::new());
        let dropped = vec![rev(dropped)];
        let doc = DocCommit { id: id("doc"), expected, tree, leaves, bodies, dropped, blobs };
        editor.commit(&*store, db, vec![doc]).await;
    }
    assert_eq!(bodies().await, [None, some("2-b"), None, None]);
    let doc = store.read(db, &[id("doc")], ReadBody::Winner).await.expect("it is read").remove(0);
    assert_eq!(doc.expect("it is there").winner_body, None);
}

async fn a_losing_revision_leaves_the_winners_body(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    for size in [10, 6_000] {
        let doc = format!("doc{size}");
        let first = editor.edit(&doc, &["2-b", "1-a"], false, body("win", size));
        editor.commit(&*store, db, vec![first]).await;
        editor.commit(&*store, db, vec![editor.put(&doc, &["2-a", "1-a"])]).await;
        let read =
            store.read(db, &[id(&doc)], ReadBody::Winner).await.expect("it is read").remove(0);
        assert_eq!(read.expect("it is there").winner_body, Some(body("win", size)));
        let revs = [(id(&doc), rev("2-a")), (id(&doc), rev("2-b"))];
        let found = store.bodies(db, &revs).await.expect("bodies are read");
        assert_eq!(found, [Some(body("2-a", 10)), Some(body("win", size))]);
    }
}

async fn a_winner_may_change_back(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("doc", &["2-a", "1-a"])]).await;
    editor.commit(&*store, db, vec![editor.put("doc", &["2-b", "1-a"])]).await;
    let deleted = editor.edit("doc", &["3-c", "2-b"], true, body("3-c", 10));
    editor.commit(&*store, db, vec![deleted]).await;
    let doc = store.read(db, &[id("doc")], ReadBody::Winner).await.expect("it is read").remove(0);
    let doc = doc.expect("it is there");
    assert_eq!(doc.tree.winner().map(|leaf| leaf.rev), Some(rev("2-a")));
    assert_eq!(doc.winner_body, Some(body("2-a", 10)));
    editor.commit(&*store, db, vec![editor.put("doc", &["3-a", "2-a"])]).await;
    let revs = ["2-a", "2-b", "3-c", "3-a"].map(|text| (id("doc"), rev(text)));
    let found = store.bodies(db, &revs).await.expect("bodies are read");
    assert_eq!(found, ["2-a", "2-b", "3-c", "3-a"].map(|mark| Some(body(mark, 10))));
}

async fn large_bodies_and_trees_are_replaced_whole(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let mut branches: Vec<String> = Vec::new();
    for (turn, size) in [3_000_000, 100, 70_000, 4_000_000].into_iter().enumerate() {
        // 2,000 text hashes of 60 bytes make the tree and the by-seq row longer than 64 KiB.
        let rev_text = format!("2-z{turn}");
        branches.push(rev_text.clone());
        let mut doc = editor.edit("big", &[&rev_text, "1-a"], false, body(&rev_text, size));
        let from = turn * 500;
        for n in from..from + 500 {
            let more = editor.put("big", &[&format!("2-{n:060}"), "1-a"]);
            doc.tree = doc.tree.merge(&more.tree);
            doc.tree.set_body_bytes(&rev(&format!("2-{n:060}")), None);
        }
        doc.leaves = doc.tree.leaves();
        editor.commit(&*store, db, vec![doc]).await;
        let read =
            store.read(db, &[id("big")], ReadBody::Winner).await.expect("it is read").remove(0);
        let read = read.expect("it is there");
        assert_eq!(read.tree, editor.known[&id("big")].1);
        assert!(read.winner_body == Some(body(&rev_text, size)), "turn {turn}");
        let page = super::make::changes(&*store, db, 0, 9, Default::default()).await;
        assert_eq!(page.rows.len(), 1);
        assert_eq!(page.rows[0].leaves.len(), (turn + 1) * 501);
    }
    let revs: Vec<_> = branches.iter().map(|text| (id("big"), rev(text))).collect();
    let found = store.bodies(db, &revs).await.expect("bodies are read");
    assert!(found.iter().all(Option::is_some));
    let local = LocalId::parse("big", 512).expect("a legal name");
    let content = body("local", 500_000).body;
    let commit = LocalCommit {
        id: local.clone(),
        expected: None,
        content: Some((LocalRev(1), content.clone())),
    };
    store.commit_local(db, commit).await.expect("it is written");
    assert!(store.local(db, &local).await.expect("it is read") == Some((LocalRev(1), content)));
}

async fn strange_ids_are_different_documents(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let ids =
        ["a", "a\0", "a\0\0", "a\0\0b", "a\0b", "a\u{1}", "ab", "a\u{ff}", "\u{10ffff}", "\0", "é"];
    let write = |editor: &Editor, n: &str, path: &[&str]| {
        let batch = ids
            .iter()
            .map(|text| editor.edit(text, path, false, body(&format!("{}{n}", text.len()), 10)));
        batch.collect::<Vec<_>>()
    };
    editor.commit(&*store, db, write(&editor, "first", &["1-a"])).await;
    editor.commit(&*store, db, write(&editor, "second", &["2-b", "1-a"])).await;
    for text in ids {
        let found = store.bodies(db, &[(id(text), rev("1-a")), (id(text), rev("2-b"))]).await;
        let mark = |n: &str| Some(body(&format!("{}{n}", text.len()), 10));
        assert_eq!(found.expect("bodies are read"), [mark("first"), mark("second")], "{text:?}");
    }
    let listed = store.docs(db, all_docs(ReadBody::No)).await.expect("they are listed");
    let mut sorted = ids;
    sorted.sort_unstable();
    assert_eq!(listed.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), sorted);
}

async fn a_watch_tells_the_durable_seq(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    editor.commit(&*store, db, vec![editor.put("a", &["1-a"])]).await;
    let mut watch = store.watch(db);
    assert_eq!(*watch.borrow_and_update(), 1);
    editor.commit(&*store, db, vec![editor.put("b", &["1-a"]), editor.put("c", &["1-a"])]).await;
    watch.changed().await.expect("the database is there");
    assert_eq!(*watch.borrow_and_update(), 3);
    assert_eq!(*store.watch(db).borrow(), 3);
}

async fn local_documents_are_compared_by_revision(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let local = |text: &str| LocalId::parse(text, 512).expect(text);
    let content = |text: &str| Body::parse(text, &Limits::default()).expect(text);
    let write = async |text: &str, expected: Option<u64>, content: Option<(u64, Body)>| {
        let content = content.map(|(rev, body)| (LocalRev(rev), body));
        let commit = LocalCommit { id: local(text), expected: expected.map(LocalRev), content };
        store.commit_local(db, commit).await.expect("it is answered")
    };
    let (one, two) = (content(r#"{"n":1}"#), content(r#"{"n":2}"#));
    assert_eq!(write("b", None, Some((1, one.clone()))).await, LocalOutcome::Done);
    let there = LocalOutcome::Stale(Some((LocalRev(1), one.clone())));
    assert_eq!(write("b", None, Some((1, two.clone()))).await, there);
    assert_eq!(write("c", Some(3), Some((4, two.clone()))).await, LocalOutcome::Stale(None));
    assert_eq!(write("b", Some(1), Some((2, two.clone()))).await, LocalOutcome::Done);
    write("a\0", None, Some((7, one.clone()))).await;
    write("a", None, Some((8, one.clone()))).await;
    let list = async |after: Option<&str>, limit| {
        let after = after.map(local);
        let rows = store.locals(db, after.as_ref(), limit).await.expect("they are listed");
        rows.into_iter().map(|(id, rev, _)| (id.as_str().to_owned(), rev.0)).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 9).await, [("a".into(), 8), ("a\0".into(), 7), ("b".into(), 2)]);
    assert_eq!(list(Some("a"), 1).await, [("a\0".into(), 7)]);
    assert_eq!(write("b", Some(2), None).await, LocalOutcome::Done);
    assert_eq!(store.local(db, &local("b")).await.expect("it is read"), None);
    assert_eq!(store.local(db, &local("a")).await.expect("it is read"), Some((LocalRev(8), one)));
    assert_eq!(store.counts(db).await.expect("counts are read"), Counts::default());
}
