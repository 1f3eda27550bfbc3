//! Databases are made, listed, destroyed and made again.

mod support;

use settee::store::{ChangesOptions, GetOptions};
use settee::{Database, DbName, Document, Store, StoreError};
use support::documents::{assert_sound, id};
use support::stores::stores;

fn name(text: &str) -> DbName {
    DbName::parse(text).unwrap()
}

async fn put(db: &Database) -> Result<settee::store::Written, StoreError> {
    db.put(Document::new("a", &serde_json::json!({})).unwrap()).await
}

#[tokio::test]
async fn a_database_is_made_once() {
    for (_, store, _dir) in stores() {
        let missing = store.database(&name("a")).await.unwrap_err();
        assert!(matches!(missing, StoreError::DatabaseMissing { .. }), "{missing}");
        let made = store.create(&name("a")).await.unwrap();
        put(&made).await.unwrap();
        let exists = store.create(&name("a")).await.unwrap_err();
        assert!(matches!(exists, StoreError::DatabaseExists { .. }), "{exists}");
        for opened in [store.database(&name("a")).await, store.open_or_create(&name("a")).await] {
            assert_eq!(opened.unwrap().info().await.unwrap(), made.info().await.unwrap());
        }
        let info = made.info().await.unwrap();
        drop(made);
        assert_eq!(store.database(&name("a")).await.unwrap().info().await.unwrap(), info);
    }
}

async fn assert_destroyed(db: &Database) {
    let destroyed = |error: StoreError| {
        assert!(matches!(error, StoreError::DatabaseDestroyed { .. }), "{error}");
    };
    destroyed(put(db).await.unwrap_err());
    destroyed(db.info().await.unwrap_err());
    destroyed(db.get(&id("a"), &GetOptions::default()).await.unwrap_err());
    destroyed(db.changes(&ChangesOptions::default()).await.unwrap_err());
    destroyed(db.all_docs(&Default::default()).await.unwrap_err());
    destroyed(db.revs_diff(&[]).await.unwrap_err());
    destroyed(db.locals(None, 1).await.unwrap_err());
    destroyed(db.check().await.unwrap_err());
    db.destroyed().await;
}

#[tokio::test]
async fn a_database_made_again_is_empty_and_another() {
    for (_, store, _dir) in stores() {
        let old = store.create(&name("a")).await.unwrap();
        put(&old).await.unwrap();
        store.destroy(&name("a")).await.unwrap();
        assert_destroyed(&old).await;
        let missing = store.destroy(&name("a")).await.unwrap_err();
        assert!(matches!(missing, StoreError::DatabaseMissing { .. }), "{missing}");

        let new = store.open_or_create(&name("a")).await.unwrap();
        assert_destroyed(&old).await;
        let info = new.info().await.unwrap();
        assert_eq!((info.doc_count, info.update_seq.number, info.body_bytes), (0, 0, 0));
        assert_ne!(info.incarnation, old.incarnation());
        assert_eq!(put(&new).await.unwrap().seq.unwrap().number, 1);
        assert_sound(&new).await;
    }
}

/// A write that met a database destroyed under it failed with an error that names no database.
#[tokio::test]
async fn a_write_under_way_says_that_its_database_was_destroyed() {
    for (_, store, _dir) in stores() {
        let db = store.create(&name("a")).await.unwrap();
        let destroying = store.clone();
        let pieces = futures::stream::unfold(0, move |piece| {
            let store: Store = destroying.clone();
            async move {
                if piece == 2 {
                    store.destroy(&name("a")).await.unwrap();
                }
                let bytes = settee::store::backend::SMALL_BLOB_BYTES_MAX;
                (piece < 4).then(|| (Ok(vec![7; bytes].into()), piece + 1))
            }
        });
        let error = db.stage_attachment(pieces).await.unwrap_err();
        assert!(matches!(error, StoreError::DatabaseDestroyed { .. }), "{error}");
    }
}

#[tokio::test]
async fn names_are_listed_in_order_page_by_page() {
    for (_, store, _dir) in stores() {
        for text in ["b", "a/x", "a", "c-1", "c"] {
            store.create(&name(text)).await.unwrap();
        }
        store.destroy(&name("b")).await.unwrap();
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let page = store.names(after.as_ref(), 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.clone());
            pages.push(page.iter().map(|name| name.as_str().to_owned()).collect::<Vec<String>>());
        }
        assert_eq!(pages, [["a", "a/x"], ["c", "c-1"]]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_opens_or_creates_at_once_gets_the_same_database() {
    for (_, store, _dir) in stores() {
        for round in 0..20 {
            let db = name(&format!("a{round}"));
            let openers = (0..8).map(|_| {
                let (store, db) = (store.clone(), db.clone());
                tokio::spawn(async move { store.open_or_create(&db).await.unwrap().incarnation() })
            });
            let mut found = Vec::new();
            for opener in openers.collect::<Vec<_>>() {
                found.push(opener.await.unwrap());
            }
            assert!(found.iter().all(|incarnation| *incarnation == found[0]), "{found:?}");
        }
    }
}

#[tokio::test]
async fn a_closed_store_says_so() {
    for (_, store, _dir) in stores() {
        let db = store.create(&name("a")).await.unwrap();
        put(&db).await.unwrap();
        store.close().await.unwrap();
        assert!(matches!(put(&db).await, Err(StoreError::Closed)));
        assert!(matches!(store.create(&name("b")).await, Err(StoreError::Closed)));
    }
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn a_data_directory_is_told_from_another() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!Store::is_at(directory.path()));
    assert!(!Store::is_at(directory.path().join("nowhere")));
    let store = Store::open(directory.path()).unwrap();
    store.close().await.unwrap();
    assert!(Store::is_at(directory.path()));
    assert!(!Store::is_at(directory.path().join("sled")));
}
