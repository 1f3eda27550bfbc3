use std::sync::Arc;

use super::make::{Editor, changes, create, id, name};
use crate::store::backend::{Backend, ChangeRow, Commit, DatabaseKey, GroupRow, Order, Version};

super::conformance!(
    a_group_stands_beside_the_rows_of_its_documents,
    a_stale_group_leaves_nothing,
    groups_are_read_from_a_place_on_and_forgotten,
    groups_go_with_their_database,
);

async fn groups(store: &dyn Backend, db: DatabaseKey) -> Vec<GroupRow> {
    store.groups(db, 0, 99).await.expect("groups are read")
}

fn seqs(rows: &[ChangeRow]) -> Vec<u64> {
    rows.iter().map(|row| row.seq).collect()
}

async fn a_group_stands_beside_the_rows_of_its_documents(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let first = editor.put("b", &["1-a"]);
    editor.commit(&*store, db, vec![first]).await;
    let batch = ["a", "c", "d"].map(|doc| editor.put(doc, &["1-a"])).to_vec();
    let committed = store.commit_group(db, batch).await.expect("it is committed");
    assert_eq!(committed, Commit::Done(vec![2, 3, 4]));
    let feed = changes(&*store, db, 1, 9, Order::Ascending).await;
    let found = groups(&*store, db).await;
    assert_eq!(found, [GroupRow { rows: feed.rows }]);
    assert_eq!((found[0].first(), found[0].last()), (2, 4));
    let alone = vec![editor.put("e", &["1-a"])];
    store.commit_group(db, alone).await.expect("it is committed");
    assert_eq!(groups(&*store, db).await, found, "one document is no group");
    // The rows of the group stay as they were when a document moves on.
    let (seqs, mut later) = (found[0].rows.iter().map(|row| row.seq), Editor::default());
    for (seq, doc) in seqs.zip(["a", "c", "d"]) {
        let tree = editor.put(doc, &["1-a"]).tree;
        later.known.insert(id(doc), (Version { seq, edition: 0 }, tree));
    }
    let edit = later.put("c", &["2-b", "1-a"]);
    later.commit(&*store, db, vec![edit]).await;
    assert_eq!(groups(&*store, db).await, found);
}

async fn a_stale_group_leaves_nothing(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let first = editor.put("b", &["1-a"]);
    editor.commit(&*store, db, vec![first]).await;
    let fresh = Editor::default();
    let batch = ["a", "b"].map(|doc| fresh.put(doc, &["1-x"])).to_vec();
    let committed = store.commit_group(db, batch).await.expect("it is answered");
    assert!(matches!(committed, Commit::Stale(stale) if stale.len() == 1 && stale[0].0 == 1));
    assert_eq!(groups(&*store, db).await, []);
    let feed = changes(&*store, db, 0, 9, Order::Ascending).await;
    assert_eq!(seqs(&feed.rows), [1]);
}

async fn groups_are_read_from_a_place_on_and_forgotten(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let editor = Editor::default();
    for n in 0..3 {
        let batch = ["a", "b"].map(|doc| editor.put(&format!("{doc}{n}"), &["1-a"])).to_vec();
        store.commit_group(db, batch).await.expect("it is committed");
    }
    let lasts = async |since, limit| {
        let found = store.groups(db, since, limit).await.expect("groups are read");
        found.iter().map(GroupRow::last).collect::<Vec<_>>()
    };
    assert_eq!(lasts(0, 9).await, [2, 4, 6]);
    assert_eq!(lasts(2, 9).await, [4, 6]);
    assert_eq!(lasts(3, 1).await, [4]);
    store.forget_groups(db, vec![4, 5]).await.expect("they are forgotten");
    assert_eq!(lasts(0, 9).await, [2, 6]);
    let feed = changes(&*store, db, 0, 9, Order::Ascending).await;
    assert_eq!(seqs(&feed.rows), [1, 2, 3, 4, 5, 6]);
}

async fn groups_go_with_their_database(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let editor = Editor::default();
    let batch = ["a", "b"].map(|doc| editor.put(doc, &["1-a"])).to_vec();
    store.commit_group(db, batch).await.expect("it is committed");
    store.destroy_database(&name("todos")).await.expect("it is destroyed");
    let again = create(&*store, "todos").await;
    assert_eq!(groups(&*store, again).await, []);
    assert_eq!(groups(&*store, db).await, []);
}
