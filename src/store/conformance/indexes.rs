use std::sync::Arc;

use super::make::{Editor, create, id};
use crate::doc::RevTree;
use crate::store::backend::{
    Backend, Commit, DatabaseKey, DocPurge, IndexCommit, IndexEntry, IndexKey, IndexOutcome,
    IndexRange, IndexState, Order, ReadBody, ReadDoc,
};

super::conformance!(
    entries_stand_in_the_order_of_their_keys,
    a_range_is_read_either_way_and_from_any_entry,
    a_new_key_replaces_the_old_one,
    a_step_from_another_state_changes_nothing,
    a_purge_takes_entries_along,
    a_removed_index_is_gone_and_can_be_built_again,
    indexes_of_a_destroyed_database_are_gone,
);

const INDEX: IndexKey = IndexKey([0xff; 16]);
const OTHER: IndexKey = IndexKey([7; 16]);

/// Documents with one-letter keys.
async fn step(
    store: &dyn Backend,
    db: DatabaseKey,
    index: IndexKey,
    (from, to): (Option<u64>, u64),
    docs: &[(&str, Option<&str>)],
) -> IndexOutcome {
    let purge_seq = store.counts(db).await.expect("counts are read").purge_seq;
    let key = |key: &str| [key.as_bytes(), &[0]].concat();
    let commit = IndexCommit {
        index,
        expected: from.map(|seq| IndexState { seq, removing: false }),
        purge_seq,
        seq: to,
        docs: docs.iter().map(|(doc, text)| (id(doc), text.map(key))).collect(),
    };
    store.commit_index(db, commit).await.expect("a step is made")
}

async fn read(store: &dyn Backend, db: DatabaseKey, range: IndexRange) -> Vec<IndexEntry> {
    let found = store.index_entries(db, INDEX, range).await.expect("entries are read");
    found.expect("the index is there")
}

fn ids(entries: &[IndexEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.id.as_str()).collect()
}

fn all(order: Order) -> IndexRange {
    IndexRange { order, limit: 100, ..IndexRange::default() }
}

/// Entries `b` b, `c` a, `c` d, `e` c, beside an index with the key before it.
async fn built(store: &dyn Backend) -> DatabaseKey {
    let db = create(store, "todos").await;
    let docs =
        [("a", Some("c")), ("b", Some("b")), ("c", Some("e")), ("d", Some("c")), ("x", None)];
    assert_eq!(step(store, db, INDEX, (None, 5), &docs).await, IndexOutcome::Done);
    assert_eq!(step(store, db, OTHER, (None, 1), &docs[..1]).await, IndexOutcome::Done);
    db
}

async fn entries_stand_in_the_order_of_their_keys(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let found = read(&*store, db, all(Order::Ascending)).await;
    assert_eq!(ids(&found), ["b", "a", "d", "c"]);
    assert_eq!(found[0].key, b"b\0");
    let found = read(&*store, db, all(Order::Descending)).await;
    assert_eq!(ids(&found), ["c", "d", "a", "b"]);
    let states = store.indexes(db).await.expect("states are read");
    let state = |seq| IndexState { seq, removing: false };
    assert_eq!(states, [(OTHER, state(1)), (INDEX, state(5))]);
}

async fn a_range_is_read_either_way_and_from_any_entry(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let middle =
        IndexRange { low: b"c".to_vec(), high: Some(b"e".to_vec()), ..all(Order::Ascending) };
    assert_eq!(ids(&read(&*store, db, middle.clone()).await), ["a", "d"]);
    let entry = |key: &[u8], doc: &str| Some(IndexEntry { key: key.to_vec(), id: id(doc) });
    for (order, after, left) in [
        (Order::Ascending, entry(b"c\0", "a"), &["d"][..]),
        (Order::Ascending, entry(b"c\0", "c"), &["d"]),
        (Order::Ascending, entry(b"b\0", "b"), &["a", "d"]),
        (Order::Ascending, entry(b"e\0", "c"), &[]),
        (Order::Descending, entry(b"c\0", "d"), &["a"]),
        (Order::Descending, entry(b"e\0", "c"), &["d", "a"]),
        (Order::Descending, entry(b"b\0", "b"), &[]),
    ] {
        let range = IndexRange { order, after: after.clone(), ..middle.clone() };
        assert_eq!(ids(&read(&*store, db, range).await), left, "{order:?} {after:?}");
    }
    let first = IndexRange { limit: 1, ..all(Order::Descending) };
    assert_eq!(ids(&read(&*store, db, first).await), ["c"]);
    let none =
        IndexRange { low: b"d".to_vec(), high: Some(b"c".to_vec()), ..all(Order::Ascending) };
    assert!(read(&*store, db, none).await.is_empty());
}

async fn a_new_key_replaces_the_old_one(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let docs = [("a", Some("f")), ("b", None), ("c", Some("e")), ("new", Some("a"))];
    assert_eq!(step(&*store, db, INDEX, (Some(5), 9), &docs).await, IndexOutcome::Done);
    assert_eq!(ids(&read(&*store, db, all(Order::Ascending)).await), ["new", "d", "c", "a"]);
}

async fn a_step_from_another_state_changes_nothing(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    for from in [None, Some(4)] {
        let outcome = step(&*store, db, INDEX, (from, 9), &[("b", None)]).await;
        assert_eq!(outcome, IndexOutcome::Stale, "{from:?}");
    }
    let commit = IndexCommit {
        index: INDEX,
        expected: Some(IndexState { seq: 5, removing: false }),
        purge_seq: 1,
        seq: 9,
        docs: vec![(id("b"), None)],
    };
    assert_eq!(store.commit_index(db, commit).await.expect("it is tried"), IndexOutcome::Stale);
    assert_eq!(ids(&read(&*store, db, all(Order::Ascending)).await), ["b", "a", "d", "c"]);
}

async fn a_purge_takes_entries_along(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let mut editor = Editor::default();
    let doc = editor.put("a", &["1-a"]);
    editor.commit(&*store, db, vec![doc]).await;
    let what = ReadDoc::whole(ReadBody::No);
    let found = store.read(db, &[id("a")], what).await.expect("it is read").remove(0);
    let stored = found.expect("it is there");
    let purge = DocPurge {
        id: id("a"),
        expected: stored.version,
        tree: RevTree::default(),
        dropped: stored.tree.revs().map(|(rev, _)| rev.clone()).collect(),
    };
    let purged = store.purge(db, vec![purge]).await.expect("it is purged");
    assert!(matches!(purged, Commit::Done(_)));
    assert_eq!(ids(&read(&*store, db, all(Order::Ascending)).await), ["b", "d", "c"]);
    // What was made before the purge does not come after it.
    let commit = IndexCommit {
        index: INDEX,
        expected: Some(IndexState { seq: 5, removing: false }),
        purge_seq: 0,
        seq: 9,
        docs: vec![(id("a"), Some(b"a\0".to_vec()))],
    };
    assert_eq!(store.commit_index(db, commit).await.expect("it is tried"), IndexOutcome::Stale);
}

async fn a_removed_index_is_gone_and_can_be_built_again(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let names: Vec<String> = (0..300).map(|number| format!("n{number}")).collect();
    let docs: Vec<(&str, Option<&str>)> = names.iter().map(|name| (&**name, Some("z"))).collect();
    assert_eq!(step(&*store, db, INDEX, (Some(5), 305), &docs).await, IndexOutcome::Done);
    let mut left = store.remove_index(db, INDEX).await.expect("it is removed");
    // Whether some of it is left or not, nobody reads it.
    let found = store.index_entries(db, INDEX, all(Order::Ascending)).await;
    assert_eq!(found.expect("it is looked for"), None);
    while left {
        left = store.remove_index(db, INDEX).await.expect("it is removed");
    }
    let states = store.indexes(db).await.expect("states are read");
    assert_eq!(states.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [OTHER]);
    assert_eq!(step(&*store, db, INDEX, (None, 1), &[("a", Some("a"))]).await, IndexOutcome::Done);
    assert_eq!(ids(&read(&*store, db, all(Order::Ascending)).await), ["a"]);
}

async fn indexes_of_a_destroyed_database_are_gone(store: Arc<dyn Backend>) {
    let db = built(&*store).await;
    let name = crate::doc::DbName::parse("todos").expect("a name");
    store.destroy_database(&name).await.expect("it is destroyed");
    let found = store.index_entries(db, INDEX, all(Order::Ascending)).await;
    assert_eq!(found.expect("it is looked for"), None);
    assert!(store.indexes(db).await.expect("it is looked for").is_empty());
    let again = create(&*store, "todos").await;
    assert!(store.indexes(again).await.expect("states are read").is_empty());
}
