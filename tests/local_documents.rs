//! Local documents: written by revision, outside the feed.

mod support;

use settee::doc::{Body, LocalDocument, LocalId, LocalRev};
use settee::store::DocError;
use settee::{Database, StoreError};
use support::documents::{assert_sound, database, update_seq};
use support::stores::stores;

fn local(name: &str) -> LocalId {
    LocalId::parse(name, 1024).unwrap()
}

fn body(n: u64) -> Body {
    Body::from_value(&serde_json::json!({ "n": n })).unwrap()
}

async fn put(db: &Database, rev: Option<u64>, deleted: bool) -> Result<LocalRev, StoreError> {
    let rev = rev.map(LocalRev);
    db.put_local(LocalDocument { id: local("a"), rev, deleted, body: body(1) }).await
}

#[tokio::test]
async fn a_write_must_name_the_revision_that_is_there() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let conflict = |result: Result<LocalRev, StoreError>| {
            matches!(result, Err(StoreError::Refused(DocError::Conflict)))
        };
        assert_eq!(db.local(&local("a")).await.unwrap(), None);
        assert!(conflict(put(&db, Some(1), false).await));
        assert!(matches!(put(&db, None, true).await, Err(StoreError::LocalMissing { .. })));
        assert_eq!(put(&db, None, false).await.unwrap(), LocalRev(1));
        assert!(conflict(put(&db, None, false).await));
        assert!(conflict(put(&db, None, true).await));
        assert_eq!(put(&db, Some(1), false).await.unwrap(), LocalRev(2));
        assert!(conflict(put(&db, Some(1), false).await));
        assert!(conflict(put(&db, Some(1), true).await));
        let read = db.local(&local("a")).await.unwrap().unwrap();
        assert_eq!(read.to_json(), r#"{"_id":"_local/a","_rev":"0-2","n":1}"#);
        assert_eq!(put(&db, Some(2), true).await.unwrap(), LocalRev(0));
        assert_eq!(db.local(&local("a")).await.unwrap(), None);
        assert_eq!(put(&db, Some(0), false).await.unwrap(), LocalRev(1));
        assert_eq!(update_seq(&db).await, 0, "local documents are in no feed");
        assert_sound(&db).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn set_local_writes_over_whatever_is_there() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let writers = (0..8).map(|writer| {
            let db = db.clone();
            tokio::spawn(async move {
                for _ in 0..20 {
                    db.set_local(&local("a"), body(writer)).await.unwrap();
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        assert_eq!(db.local(&local("a")).await.unwrap().unwrap().rev, Some(LocalRev(160)));
    }
}

#[tokio::test]
async fn they_are_listed_in_order_page_by_page() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        for name in ["b", "a/1", "ä", "a"] {
            db.set_local(&local(name), body(0)).await.unwrap();
        }
        let (mut after, mut names) = (None, Vec::new());
        loop {
            let page = db.locals(after.as_ref(), 3).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.id.clone());
            names.extend(page.iter().map(|document| document.id.to_string()));
        }
        assert_eq!(names, ["_local/a", "_local/a/1", "_local/b", "_local/ä"]);
    }
}
