//! Reading between two commits, and what maintenance notes.

use std::sync::Arc;

use super::make::{Editor, create, id};
use crate::store::backend::{Backend, ReadTree};
use crate::store::error::StoreError;

super::conformance!(
    a_snapshot_has_what_changed_and_its_counters,
    a_snapshot_beside_writers_is_between_two_commits,
    notes_are_kept_as_they_are,
);

async fn a_snapshot_has_what_changed_and_its_counters(backend: Arc<dyn Backend>) {
    let db = create(&*backend, "db").await;
    let mut editor = Editor::default();
    for doc in ["a", "b", "c"] {
        editor.commit(&*backend, db, vec![editor.put(doc, &["1-a"])]).await;
    }
    editor.commit(&*backend, db, vec![editor.put("a", &["2-b", "1-a"])]).await;
    let ids = |docs: &[(crate::doc::DocId, crate::store::backend::StoredDoc)]| {
        docs.iter().map(|(id, doc)| (id.clone(), doc.version.seq)).collect::<Vec<_>>()
    };
    let all = backend.snapshot(db, 0, 3).await.expect("a snapshot");
    assert_eq!(ids(&all.docs), [(id("b"), 2), (id("c"), 3), (id("a"), 4)]);
    assert_eq!((all.more, all.counts.update_seq, all.counts.docs), (false, 4, 3));
    assert_eq!(all.docs[2].1.tree, editor.known[&id("a")].1);
    assert_eq!(all.docs[2].1.read, ReadTree::Whole);
    let few = backend.snapshot(db, 2, 3).await.expect("a snapshot");
    assert_eq!(ids(&few.docs), [(id("c"), 3), (id("a"), 4)]);
    let more = backend.snapshot(db, 0, 2).await.expect("a snapshot");
    assert_eq!((more.docs.len(), more.more, more.counts), (0, true, all.counts));
}

async fn a_snapshot_beside_writers_is_between_two_commits(backend: Arc<dyn Backend>) {
    const WRITES: u64 = 300;
    let db = create(&*backend, "db").await;
    let writing = tokio::spawn({
        let backend = Arc::clone(&backend);
        async move {
            let mut editor = Editor::default();
            for n in 0..WRITES {
                // Both documents of a commit are there, or neither.
                let rev = format!("{}-{n:x}", n / 10 + 1);
                let batch = ["x", "y"].map(|doc| editor.put(&format!("{doc}{}", n % 10), &[&rev]));
                editor.commit(&*backend, db, batch.to_vec()).await;
            }
        }
    });
    let mut reached = 0;
    while reached < 2 * WRITES {
        let found = backend.snapshot(db, 0, 100).await.expect("a snapshot");
        reached = found.counts.update_seq;
        assert_eq!(reached % 2, 0);
        assert_eq!(found.docs.len() as u64, reached.min(20), "at {reached}");
        assert_eq!(found.docs.last().map_or(0, |(_, doc)| doc.version.seq), reached);
        tokio::task::yield_now().await;
    }
    writing.await.expect("writing does not panic");
}

async fn notes_are_kept_as_they_are(backend: Arc<dyn Backend>) {
    let (db, other) = (create(&*backend, "db").await, create(&*backend, "other").await);
    assert_eq!(backend.notes(db).await.expect("none"), None);
    // Longer than a row of sled may be, then shorter.
    for notes in [vec![7; 100_000], Vec::new(), vec![0, 255]] {
        backend.commit_notes(db, notes.clone()).await.expect("they are kept");
        assert_eq!(backend.notes(db).await.expect("notes"), Some(notes));
    }
    assert_eq!(backend.notes(other).await.expect("none"), None);
    backend.destroy_database(&super::make::name("db")).await.expect("it is destroyed");
    let refused = backend.commit_notes(db, vec![1]).await;
    assert!(matches!(refused, Err(StoreError::DatabaseGone)), "{refused:?}");
    assert!(matches!(backend.snapshot(other, 0, 1).await, Ok(found) if found.docs.is_empty()));
}
