use std::sync::Arc;

use super::make::{Editor, all_docs, changes, create, id, name};
use crate::store::StoreError;
use crate::store::backend::{Backend, Counts, Order, ReadBody, ReadDoc};

super::conformance!(
    names_are_listed_in_order_and_in_pages,
    a_name_is_taken_once,
    destroyed_databases_read_empty_and_take_no_writes,
    a_database_made_again_is_another,
    databases_do_not_see_each_other,
    a_closed_store_answers_nothing,
);

async fn names_are_listed_in_order_and_in_pages(store: Arc<dyn Backend>) {
    for text in ["b", "a/b", "a", "c", "a-b"] {
        create(&*store, text).await;
    }
    let list = async |after: Option<&str>, limit| {
        let after = after.map(name);
        let names = store.database_names(after.as_ref(), limit).await.expect("names are listed");
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 100).await, ["a", "a-b", "a/b", "b", "c"]);
    assert_eq!(list(None, 2).await, ["a", "a-b"]);
    assert_eq!(list(Some("a-b"), 2).await, ["a/b", "b"]);
    assert_eq!(list(Some("a-c"), 1).await, ["a/b"]);
    assert!(list(Some("c"), 1).await.is_empty());
    assert!(list(None, 0).await.is_empty());
}

async fn a_name_is_taken_once(store: Arc<dyn Backend>) {
    let record = store.create_database(&name("todos")).await.expect("the database is made");
    assert_eq!(store.database(&name("todos")).await.expect("it is looked up"), Some(record));
    let again = store.create_database(&name("todos")).await;
    assert!(
        matches!(again, Err(StoreError::DatabaseExists { name: found }) if found == name("todos"))
    );
    assert_eq!(store.database(&name("todo")).await.expect("it is looked up"), None);
    let missing = store.destroy_database(&name("todo")).await;
    assert!(matches!(missing, Err(StoreError::DatabaseMissing { .. })));
}

async fn destroyed_databases_read_empty_and_take_no_writes(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    let mut editor = Editor::default();
    let docs: Vec<_> = (0..300).map(|n| editor.put(&format!("doc{n}"), &["1-a"])).collect();
    editor.commit(&*store, db, docs).await;
    let mut watch = store.watch(db);
    store.destroy_database(&name("todos")).await.expect("it is destroyed");
    assert_eq!(store.database(&name("todos")).await.expect("it is looked up"), None);
    assert_eq!(store.counts(db).await.expect("counts are read"), Counts::default());
    let read = store.read(db, &[id("doc1"), id("doc2")], ReadDoc::whole(ReadBody::Winner)).await;
    assert_eq!(read.expect("documents are read"), [None, None]);
    assert!(store.docs(db, all_docs(ReadBody::No)).await.expect("they are listed").is_empty());
    let page = changes(&*store, db, 0, 10, Order::Ascending).await;
    assert_eq!((page.rows.len(), page.last_seq, page.more), (0, 0, false));
    assert_eq!(store.count_changes(db, 0).await.expect("they are counted"), 0);
    let write = store.commit(db, vec![editor.put("new", &["1-a"])]).await;
    assert!(matches!(write, Err(StoreError::DatabaseGone)), "{write:?}");
    watch.borrow_and_update();
    assert!(watch.changed().await.is_err(), "the watch of a destroyed database ends");
}

async fn a_database_made_again_is_another(store: Arc<dyn Backend>) {
    let first = store.create_database(&name("todos")).await.expect("it is made");
    let mut editor = Editor::default();
    editor.commit(&*store, first.key, vec![editor.put("a", &["1-a"])]).await;
    store.destroy_database(&name("todos")).await.expect("it is destroyed");
    let second = store.create_database(&name("todos")).await.expect("it is made again");
    assert!(second.key != first.key && second.incarnation != first.incarnation);
    assert_eq!(store.counts(second.key).await.expect("counts are read"), Counts::default());
    let seqs = Editor::default()
        .commit(&*store, second.key, vec![Editor::default().put("a", &["1-a"])])
        .await;
    assert_eq!(seqs, [1]);
}

async fn databases_do_not_see_each_other(store: Arc<dyn Backend>) {
    let (one, two) = (create(&*store, "one").await, create(&*store, "two").await);
    let mut editor = Editor::default();
    editor.commit(&*store, one, vec![editor.put("a", &["1-a"]), editor.put("b", &["1-a"])]).await;
    Editor::default().commit(&*store, two, vec![Editor::default().put("c", &["1-a"])]).await;
    let ids = async |db| {
        let docs = store.docs(db, all_docs(ReadBody::No)).await.expect("they are listed");
        docs.into_iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((ids(one).await, ids(two).await), (vec!["a".into(), "b".into()], vec!["c".into()]));
    assert_eq!(store.counts(two).await.expect("counts are read").update_seq, 1);
}

async fn a_closed_store_answers_nothing(store: Arc<dyn Backend>) {
    let db = create(&*store, "todos").await;
    store.close().await.expect("it closes");
    let write = store.commit(db, vec![Editor::default().put("a", &["1-a"])]).await;
    assert!(matches!(write, Err(StoreError::Closed)), "{write:?}");
    assert!(matches!(store.counts(db).await, Err(StoreError::Closed)));
    assert!(matches!(store.database(&name("todos")).await, Err(StoreError::Closed)));
    assert!(matches!(store.write_blob(db).await, Err(StoreError::Closed)));
    assert!(matches!(store.close().await, Err(StoreError::Closed)));
}
