//! What is kept for a database beside its documents.

mod support;

use std::num::NonZeroU32;

use settee::{Database, DbName, Document, Limits, Rev, Store, StoreError};
use support::documents::{assert_sound, database, history, id};
use support::stores::{stores, stores_with};

fn limit(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

/// Edits the document once more; answers its revision and the length of its history.
async fn edit(db: &Database, rev: Option<Rev>) -> (Rev, usize) {
    let document = Document::new("doc", &serde_json::json!({})).unwrap();
    let rev = db.put(Document { rev, ..document }).await.unwrap().rev;
    let length = history(db, &id("doc"), &rev.to_string()).await.len();
    (rev, length)
}

#[tokio::test]
async fn histories_are_stemmed_at_the_next_write() {
    for (_, store, _dir) in stores_with(&Limits { revs_limit: 5, ..Limits::default() }) {
        let db = database(&store).await;
        assert_eq!(db.revs_limit(), 5, "the store's");
        let (mut rev, mut length) = edit(&db, None).await;
        for _ in 0..7 {
            (rev, length) = edit(&db, Some(rev)).await;
        }
        assert_eq!(length, 5);
        db.set_revs_limit(limit(2)).await.unwrap();
        assert_eq!(db.revs_limit(), 2);
        assert_eq!(history(&db, &id("doc"), &rev.to_string()).await.len(), 5, "not yet");
        (rev, length) = edit(&db, Some(rev)).await;
        assert_eq!(length, 2);
        db.set_revs_limit(limit(9)).await.unwrap();
        for expected in 3..=9 {
            (rev, length) = edit(&db, Some(rev)).await;
            assert_eq!(length, expected);
        }
        let other = store.create(&DbName::parse("other").unwrap()).await.unwrap();
        assert_eq!(other.revs_limit(), 5, "it is each database's own");
        assert_sound(&db).await;
    }
}

#[tokio::test]
async fn a_security_object_is_kept_as_it_is() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        assert_eq!(db.security(), None);
        let text = r#"{ "members": {"names":["é"]} }"#.to_owned();
        db.set_security(Some(text.clone())).await.unwrap();
        db.set_revs_limit(limit(3)).await.unwrap();
        assert_eq!((db.security(), db.revs_limit()), (Some(text), 3), "neither ends the other");
        db.set_security(None).await.unwrap();
        assert_eq!((db.security(), db.revs_limit()), (None, 3));
    }
}

#[tokio::test]
async fn changes_made_together_are_all_kept() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for round in 1..20 {
            let text = format!("{{\"round\":{round}}}");
            let (a, b) =
                tokio::join!(db.set_revs_limit(limit(round)), db.set_security(Some(text.clone())));
            a.unwrap();
            b.unwrap();
            assert_eq!((db.revs_limit(), db.security()), (round, Some(text)));
        }
    }
}

#[tokio::test]
async fn a_database_made_again_has_no_settings() {
    for (_, store, _dir) in stores() {
        let name = DbName::parse("tests").unwrap();
        let old = database(&store).await;
        old.set_revs_limit(limit(2)).await.unwrap();
        old.set_security(Some("{}".into())).await.unwrap();
        store.destroy(&name).await.unwrap();
        let refused = old.set_revs_limit(limit(4)).await.unwrap_err();
        assert!(matches!(refused, StoreError::DatabaseDestroyed { .. }), "{refused}");
        let new = store.create(&name).await.unwrap();
        assert_eq!((new.revs_limit(), new.security()), (Limits::default().revs_limit, None));
    }
}

#[cfg(feature = "sled")]
#[tokio::test]
async fn settings_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(100_000));
    let store = Store::open(dir.path()).unwrap();
    let db = database(&store).await;
    db.set_revs_limit(limit(3)).await.unwrap();
    db.set_security(Some(long.clone())).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(dir.path()).unwrap();
    let db = database(&store).await;
    assert_eq!((db.revs_limit(), db.security()), (3, Some(long)));
    let (mut rev, mut length) = edit(&db, None).await;
    for _ in 0..5 {
        (rev, length) = edit(&db, Some(rev)).await;
    }
    assert_eq!(length, 3);
    store.close().await.unwrap();
}
