//! Whoever watches a store is told what happens to its databases.

mod support;

use std::num::NonZeroU32;

use futures::FutureExt as _;
use settee::store::{DbUpdate, DbUpdateKind, DbUpdates};
use settee::{Database, DbName, Document};
use support::documents::{id, rev};
use support::stores::stores;

fn name(text: &str) -> DbName {
    DbName::parse(text).unwrap()
}

fn update(text: &str, kind: DbUpdateKind) -> DbUpdate {
    DbUpdate { name: name(text), kind }
}

async fn put(db: &Database, doc: &str) -> settee::Rev {
    db.put(Document::new(doc, &serde_json::json!({})).unwrap()).await.unwrap().rev
}

/// What was told so far.
fn told(updates: &mut DbUpdates) -> Vec<DbUpdate> {
    // A task that is told many things is asked to pause by its runtime.
    let mut now = || tokio::task::unconstrained(updates.next()).now_or_never();
    let next = || now().map(|next| next.expect("the store is there"));
    std::iter::from_fn(next).map(|update| update.expect("none was dropped")).collect()
}

#[tokio::test]
async fn everything_is_told_in_its_order() {
    use DbUpdateKind::{Created, Deleted, Updated};
    for (_, store, _dir) in stores() {
        store.create(&name("before")).await.unwrap();
        let (mut updates, mut second) = (store.updates(), store.updates());
        let a = store.create(&name("a")).await.unwrap();
        store.open_or_create(&name("b")).await.unwrap();
        let first = put(&a, "doc").await;
        let before = store.database(&name("before")).await.unwrap();
        put(&before, "doc").await;
        a.purge(&[(id("doc"), vec![first])]).await.unwrap();
        store.destroy(&name("a")).await.unwrap();
        store.create(&name("a")).await.unwrap();
        let expected = [
            update("a", Created),
            update("b", Created),
            update("a", Updated),
            update("before", Updated),
            update("a", Updated),
            update("a", Deleted),
            update("a", Created),
        ];
        assert_eq!(told(&mut updates), expected);
        assert_eq!(told(&mut second), expected, "each listener is told everything");
    }
}

#[tokio::test]
async fn what_changes_no_document_is_not_told() {
    for (_, store, _dir) in stores() {
        let db = store.create(&name("a")).await.unwrap();
        let first = put(&db, "doc").await;
        db.put(Document::new("doc", &serde_json::json!({})).unwrap().with_rev(first))
            .await
            .unwrap();
        let mut updates = store.updates();
        db.compact(Default::default()).await.unwrap();
        db.purge(&[(id("doc"), vec![rev("9-z")])]).await.unwrap();
        db.set_revs_limit(NonZeroU32::new(7).unwrap()).await.unwrap();
        db.put(Document::new("doc", &serde_json::json!({})).unwrap()).await.unwrap_err();
        store.open_or_create(&name("a")).await.unwrap();
        store.create(&name("a")).await.unwrap_err();
        store.destroy(&name("b")).await.unwrap_err();
        assert_eq!(told(&mut updates), []);
    }
}

#[tokio::test]
async fn a_slow_listener_is_told_how_many_it_missed() {
    for (_, store, _dir) in stores() {
        let db = store.create(&name("a")).await.unwrap();
        let mut updates = store.updates();
        // One more than a listener may have waiting for each that is to be dropped.
        let writes = 1024 + 3;
        for from in 0..writes {
            put(&db, &format!("doc{from}")).await;
        }
        assert_eq!(updates.next().await, Some(Err(3)));
        assert_eq!(told(&mut updates).len(), 1024);
        put(&db, "again").await;
        assert_eq!(told(&mut updates), [update("a", DbUpdateKind::Updated)]);
    }
}
