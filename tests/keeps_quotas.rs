//! A database takes as much as its quota, and not one more; deletions always.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
mod support;

use http::{Api, token_gateway};
use serde_json::json;
use settee::server::{AccessRequest, Gateway, Grant};
use settee::store::{DocError, EditMode, Quota, QuotaRule};
use settee::{Database, Document, Store, StoreError};
use support::documents::{database, parse, replicate, replicated, rev};
use support::stores::stores;

fn doc(id: &str, text: &str) -> Document {
    Document::new(id, &json!({"t": text})).unwrap()
}

fn rules(docs_max: Option<u64>, bytes_max: Option<u64>) -> Vec<QuotaRule> {
    vec![QuotaRule { databases: "t*".into(), quota: Quota { docs_max, bytes_max } }]
}

async fn held(db: &Database) -> (u64, u64) {
    let info = db.info().await.unwrap();
    (info.doc_count, info.leaf_bytes)
}

fn assert_over<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) {
    let Err(StoreError::Refused(DocError::OverQuota { what: of, .. })) = result else {
        panic!("it was not refused: {result:?}")
    };
    assert_eq!(of, what);
}

#[tokio::test]
async fn documents_fit_up_to_the_bound() {
    for (_, store, _dir) in stores() {
        store.set_quotas(rules(Some(3), None));
        let db = database(&store).await;
        let docs = ["a", "b", "c", "d"].map(|id| doc(id, "")).to_vec();
        let written = db.bulk_docs(docs, EditMode::Edit).await.unwrap();
        let stored: Vec<bool> = written.iter().map(Result::is_ok).collect();
        assert_eq!(stored, [true, true, true, false], "row by row");
        assert!(matches!(
            written[3].as_ref().unwrap_err().error,
            DocError::OverQuota { what: "documents", max: 3 }
        ));
        let a = written[0].as_ref().unwrap().rev.clone();
        let edited = db.put(doc("a", "edited").with_rev(a)).await.expect("no more documents");
        assert_over(db.put(doc("e", "")).await, "documents");
        db.delete(&edited.id, edited.rev).await.expect("a deletion goes through");
        db.put(doc("e", "")).await.expect("there is room again");
        assert_over(db.put(doc("a", "made anew")).await, "documents");
        let tombstone = replicated("never-seen", &["2-b", "1-a"], true);
        assert!(replicate(&db, vec![tombstone]).await.remove(0).is_ok());
        let foreign = replicated("f", &["2-b", "1-a"], false);
        assert!(replicate(&db, vec![foreign]).await.remove(0).is_err());
        let conflict = replicated("b", &["1-x"], false);
        assert!(replicate(&db, vec![conflict]).await.remove(0).is_ok(), "b is there already");
        let again = replicated("b", &["1-x"], false);
        assert!(replicate(&db, vec![again]).await.remove(0).is_ok(), "it is known");
        let error = db.put(doc("b", "no revision")).await.unwrap_err();
        assert!(matches!(error, StoreError::Refused(DocError::Conflict)), "{error}");
        assert_eq!(held(&db).await.0, 3);
    }
}

#[tokio::test]
async fn bytes_fit_up_to_the_bound() {
    for (_, store, _dir) in stores() {
        let db = database(&store).await;
        let first = db.put(doc("a", &"x".repeat(100))).await.unwrap();
        let (_, bytes) = held(&db).await;
        store.set_quotas(rules(None, Some(2 * bytes)));
        let one_over = "x".repeat(101);
        assert_over(db.put(doc("b", &one_over)).await, "bytes of documents");
        db.put(doc("b", &"x".repeat(100))).await.expect("exactly as many as may be");
        let longer = doc("a", &one_over).with_rev(first.rev.clone());
        assert_over(db.put(longer).await, "bytes of documents");
        let shorter = db.put(doc("a", &"x".repeat(99)).with_rev(first.rev)).await.unwrap();
        let same = doc("a", &"y".repeat(100)).with_rev(shorter.rev);
        let same = db.put(same).await.expect("old bodies do not count");
        let tombstone = |length: usize| {
            let (rev, why) = (&same.rev, "x".repeat(length));
            parse(&format!(r#"{{"_id":"a","_rev":"{rev}","_deleted":true,"t":"{why}"}}"#))
        };
        assert_over(db.put(tombstone(1_000)).await, "bytes of documents");
        db.put(tombstone(100)).await.expect("a deletion that takes no room goes through");
        let unknown =
            |body: &str| parse(&format!(r#"{{"_id":"u","_rev":"1-aa","_deleted":true{body}}}"#));
        let with_body = unknown(&format!(r#","t":"{}""#, "x".repeat(1_000)));
        assert!(
            replicate(&db, vec![with_body]).await.remove(0).is_err(),
            "tombstones fill a database, too"
        );
        assert!(replicate(&db, vec![unknown("")]).await.remove(0).is_ok(), "it has no body");
        store.set_quotas(Vec::new());
        db.put(doc("c", &"x".repeat(10_000))).await.expect("there is no quota any more");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_never_go_over_together() {
    for (_, store, _dir) in stores() {
        store.set_quotas(rules(Some(50), None));
        let db = database(&store).await;
        let writers = (0..20).map(|writer| {
            let db = db.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    let _ = db.put(doc(&format!("{writer}-{n}"), "")).await;
                }
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
        for n in 0.. {
            if db.put(doc(&format!("last-{n}"), "")).await.is_err() {
                break;
            }
        }
        assert_eq!(held(&db).await.0, 50);
    }
}

#[tokio::test]
async fn a_writer_that_is_gone_keeps_what_its_write_takes() {
    for polls in 0..60 {
        for (_, store, _dir) in stores() {
            store.set_quotas(rules(Some(1), None));
            let db = database(&store).await;
            let mut dropped = Box::pin(db.put(doc("a", "")));
            for _ in 0..polls {
                if futures::poll!(&mut dropped).is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(dropped);
            let _ = db.put(doc("b", "")).await;
            store.set_quotas(Vec::new());
            db.put(doc("c", "")).await.expect("everything before it is written");
            assert!(held(&db).await.0 <= 2, "after {polls} polls");
        }
    }
}

#[tokio::test]
async fn clients_are_told_row_by_row() {
    let api = Api::served(token_gateway(Store::memory()).quotas(rules(Some(2), None)));
    api.database("tiny").await;
    api.database("other").await;
    let docs: Vec<_> = ["a", "b", "c"].iter().map(|id| json!({"_id": id})).collect();
    let answer = api.json("POST", "/tiny/_bulk_docs", json!({"docs": docs})).await;
    assert_eq!(answer.status, 201);
    let rows = answer.json();
    assert_eq!((&rows[1]["ok"], &rows[2]["error"]), (&json!(true), &json!("forbidden")));
    let put = api.json("PUT", "/tiny/d", json!({})).await;
    put.assert_error("one more", 403, "forbidden", "quota: it may hold 2 documents");
    let a = rows[0]["rev"].as_str().unwrap();
    let deleted = api.ask("DELETE", &format!("/tiny/a?rev={a}"), &[], b"").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(api.json("PUT", "/tiny/d", json!({})).await.status, 201);
    for id in ["a", "b", "c"] {
        assert_eq!(api.json("PUT", &format!("/other/{id}"), json!({})).await.status, 201);
    }
}

#[tokio::test]
async fn a_grant_may_allow_less() {
    let gateway =
        Gateway::builder(Store::memory()).authorizer(|request: AccessRequest| async move {
            let guest = request.credentials["token"] == "guest";
            let quota = Quota { docs_max: guest.then_some(1), bytes_max: None };
            Ok(Grant::database(request.database).creating().quota(quota))
        });
    let api = Api::served(gateway);
    api.database("db").await;
    let put = async |token: &str, id: &str| {
        let headers = [http::JSON, ("Authorization", token)];
        api.ask("PUT", &format!("/db/{id}"), &headers, b"{}").await
    };
    assert_eq!(put("Bearer guest", "a").await.status, 201);
    put("Bearer guest", "b").await.assert_error("guest", 403, "forbidden", "quota");
    assert_eq!(put("Bearer member", "b").await.status, 201);
    let edit = put("Bearer guest", &format!("b?rev={}", rev_of(&api, "b").await)).await;
    assert_eq!(edit.status, 201, "no document more");
}

async fn rev_of(api: &Api, id: &str) -> String {
    let found = api.get(&format!("/db/{id}")).await.json();
    rev(found["_rev"].as_str().unwrap()).to_string()
}
