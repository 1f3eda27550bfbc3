//! A grant with a selector shows a part of a database: every way to read hides the rest, and
//! nothing outside can be written.

#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;

use std::sync::Arc;

use raw::{Raw, Served};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant, ProposedWrite};
use settee::store::EditMode;
use settee::{Database, Document, Limits, Selector, Store, SyncOptions};
use syncing::{TestGateway, Watched, id, local, name};

/// Shows each user what it owns; `admin` everything.
fn by_owner(store: Store) -> GatewayBuilder {
    Gateway::builder(store).authorizer(|request: AccessRequest| async move {
        let user = request.credentials["user"].as_str().unwrap_or_default().to_owned();
        let grant = Grant::database(request.database).user(user.clone());
        if user == "admin" {
            return Ok(grant);
        }
        let own = Selector::from_value(&json!({"owner": user})).expect("a selector");
        Ok(grant.selector(own).validator(|write: &ProposedWrite<'_>| {
            let bad = write.document.id.as_str() == "bad";
            if bad { Err(Denied::forbidden("it is bad")) } else { Ok(()) }
        }))
    })
}

async fn write(db: &Database, texts: &[&str]) {
    let parse = |text: &&str| Document::parse(text, &Limits::default()).expect(text);
    let outcomes = db.bulk_docs(texts.iter().map(parse).collect(), EditMode::Replicated).await;
    assert!(outcomes.unwrap().iter().all(Result::is_ok));
}

/// A database in which Anna has one of each pair, and Bob the other.
async fn shared() -> (Arc<Served>, Database) {
    let store = Store::memory();
    let db = store.create(&name("tests")).await.unwrap();
    write(
        &db,
        &[
            r#"{"_id":"a","_rev":"1-a","owner":"anna","_attachments":{"f":{"content_type":"text/plain","data":"aGk="}}}"#,
            r#"{"_id":"b","_rev":"1-b","owner":"bob","_attachments":{"f":{"content_type":"text/plain","data":"aGk="}}}"#,
            r#"{"_id":"lost","_rev":"1-z","owner":"bob"}"#,
            r#"{"_id":"lost","_rev":"1-y","owner":"anna"}"#,
            r#"{"_id":"won","_rev":"1-z","owner":"anna"}"#,
            r#"{"_id":"won","_rev":"1-y","owner":"bob"}"#,
            r#"{"_id":"won","_rev":"1-x","owner":"anna"}"#,
            r#"{"_id":"gone a","_rev":"1-a","owner":"anna"}"#,
            r#"{"_id":"gone b","_rev":"1-b","owner":"bob"}"#,
            r#"{"_id":"moved","_rev":"1-a","owner":"anna"}"#,
        ],
    )
    .await;
    write(
        &db,
        &[
            r#"{"_id":"gone a","_rev":"2-d","_deleted":true,"_revisions":{"start":2,"ids":["d","a"]}}"#,
            r#"{"_id":"gone b","_rev":"2-d","_deleted":true,"_revisions":{"start":2,"ids":["d","b"]}}"#,
            r#"{"_id":"moved","_rev":"2-b","owner":"bob","_revisions":{"start":2,"ids":["b","a"]}}"#,
        ],
    )
    .await;
    (Served::new(by_owner(store)), db)
}

async fn channel(served: &Served, user: &str) -> Raw {
    served.channel(json!({"database": "tests", "credentials": {"user": user}})).await
}

/// A call's reply, rows of a stream, or the error's status.
async fn call(raw: &mut Raw, method: &str, params: Value) -> Value {
    let answer = raw.ask(json!(["call", 1, 1, method, params])).await;
    match answer[0].as_str() {
        Some("fail") => answer[3]["status"].clone(),
        Some("rows") => {
            assert_eq!(raw.json().await[0], "end");
            answer[3].clone()
        }
        Some("end") => json!([]),
        _ => answer[3].clone(),
    }
}

#[tokio::test]
async fn single_reads_hide_the_rest() {
    let (served, _) = shared().await;
    let mut raw = channel(&served, "anna").await;
    for (params, expected) in [
        (json!({"id": "a"}), json!("anna")),
        (json!({"id": "b"}), json!(404)),
        (json!({"id": "b", "rev": "1-b"}), json!(404)),
        (json!({"id": "lost"}), json!(404)),
        (json!({"id": "lost", "rev": "1-y"}), json!("anna")),
        (json!({"id": "moved"}), json!(404)),
        (json!({"id": "moved", "rev": "1-a"}), json!("anna")),
        (json!({"id": "moved", "rev": "1-a", "latest": true}), json!(404)),
        (json!({"id": "b", "open_revs": "all"}), json!(404)),
        (json!({"id": "nowhere", "open_revs": "all"}), json!(404)),
    ] {
        let found = call(&mut raw, "get", params.clone()).await;
        let found = if found.is_object() { found["owner"].clone() } else { found };
        assert_eq!(found, expected, "{params}");
    }
    let conflicts = call(&mut raw, "get", json!({"id": "won", "conflicts": true})).await;
    assert_eq!(conflicts["_conflicts"], json!(["1-x"]));
    let leaves = call(&mut raw, "get", json!({"id": "won", "open_revs": "all"})).await;
    let revs: Vec<&Value> = leaves.as_array().unwrap().iter().map(|l| &l["ok"]["_rev"]).collect();
    assert_eq!(revs, ["1-z", "1-x"]);
    let named = json!({"id": "won", "open_revs": ["1-y", "1-x"]});
    let named = call(&mut raw, "get", named).await;
    assert_eq!((&named[0], &named[1]["ok"]["_rev"]), (&json!({"missing": "1-y"}), &json!("1-x")));
    let reason = async |raw: &mut Raw, id: &str| {
        raw.ask(json!(["call", 1, 1, "get", {"id": id}])).await[3]["reason"].clone()
    };
    assert_eq!(reason(&mut raw, "gone a").await, "deleted");
    assert_eq!(reason(&mut raw, "gone b").await, "missing");
}

#[tokio::test]
async fn bulk_reads_and_lists_hide_the_rest() {
    let (served, _) = shared().await;
    let mut raw = channel(&served, "anna").await;
    let ids = |rows: &Value| {
        let id = |row: &Value| row["id"].as_str().unwrap_or("-").to_owned();
        rows.as_array().unwrap().iter().map(id).collect::<Vec<_>>()
    };
    for include_docs in [false, true] {
        let rows = call(&mut raw, "all_docs", json!({"include_docs": include_docs})).await;
        assert_eq!(ids(&rows), ["a", "won"]);
    }
    let rows = call(&mut raw, "all_docs", json!({"limit": 1, "skip": 1})).await;
    assert_eq!(ids(&rows), ["won"]);
    let rows = call(&mut raw, "all_docs", json!({"include_docs": true, "conflicts": true})).await;
    assert_eq!(rows[1]["doc"]["_conflicts"], json!(["1-x"]));
    let keys = json!({"keys": ["b", "a", "gone a", "gone b", "moved"]});
    let rows = call(&mut raw, "all_docs", keys).await;
    assert_eq!(ids(&rows), ["-", "a", "gone a", "-", "-"]);
    let docs = json!({"docs": [{"id": "b"}, {"id": "b", "rev": "1-b"}, {"id": "won"}, {"id": "won", "rev": "1-y"}]});
    let rows = call(&mut raw, "bulk_get", docs).await;
    let shown = |row: usize| {
        let docs = rows[row]["docs"].as_array().unwrap().iter();
        docs.map(|doc| doc["ok"]["_rev"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(
        [shown(0), shown(1), shown(2), shown(3)],
        [vec!["-"], vec!["-"], vec!["1-z", "1-x"], vec!["-"]]
    );
    for (id, expected) in [("a", json!("binary")), ("b", json!(404))] {
        for rev in [None, Some(format!("1-{id}"))] {
            let params = json!({"id": id, "name": "f", "rev": rev});
            raw.text(&json!(["call", 1, 1, "attachment", params]).to_string()).await;
            let came = match raw.next().await {
                raw::Came::Json(answer) => answer[3]["status"].clone(),
                raw::Came::Binary(_) => {
                    assert_eq!(raw.json().await[0], "end");
                    json!("binary")
                }
                other => panic!("{other:?}"),
            };
            assert_eq!(came, expected, "{id} {rev:?}");
        }
    }
}

#[tokio::test]
async fn feeds_hide_the_rest_and_tell_deletions() {
    let (served, _) = shared().await;
    let mut raw = channel(&served, "anna").await;
    let params = json!({"style": "all_docs", "docs": true});
    let rows = call(&mut raw, "changes", params).await;
    let rows: Vec<(String, Value)> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["id"].as_str().unwrap().to_owned(), row["changes"].clone()))
        .collect();
    let rev = |text: &str| json!({"rev": text});
    assert_eq!(
        rows,
        [
            ("a".to_owned(), json!([rev("1-a")])),
            ("lost".to_owned(), json!([rev("1-y")])),
            ("won".to_owned(), json!([rev("1-z"), rev("1-x")])),
            ("gone a".to_owned(), json!([rev("2-d")])),
        ]
    );
    let narrower = json!({"selector": {"_id": "a"}, "include_docs": true});
    let rows = call(&mut raw, "changes", narrower).await;
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["doc"]["owner"]), (1, &json!("anna")));
    let others = json!({"selector": {"owner": "bob"}});
    assert_eq!(call(&mut raw, "changes", others).await, json!([]));
}

#[tokio::test]
async fn revs_diff_tells_what_is_missing_and_no_other_revision() {
    let (served, _) = shared().await;
    let asked = json!({"b": ["1-b", "2-x"], "a": ["1-a"]});
    let mut raw = channel(&served, "anna").await;
    assert_eq!(
        call(&mut raw, "revs_diff", asked.clone()).await,
        json!({"b": {"missing": ["2-x"]}})
    );
    let mut admin = channel(&served, "admin").await;
    let all = call(&mut admin, "revs_diff", asked).await;
    assert_eq!(all["b"]["possible_ancestors"], json!(["1-b"]));
}

/// The row of a write, as a word.
async fn outcome(raw: &mut Raw, doc: Value, new_edits: bool) -> Value {
    let rows = call(raw, "bulk_docs", json!({"docs": [doc], "new_edits": new_edits})).await;
    rows[0].get("status").cloned().unwrap_or(json!("ok"))
}

#[tokio::test]
async fn writes_stay_within() {
    let (served, db) = shared().await;
    let mut raw = channel(&served, "anna").await;
    let revisions = |ids: &[&str]| json!({"start": ids.len(), "ids": ids});
    for (doc, new_edits, expected) in [
        (json!({"_id": "new", "owner": "anna"}), true, json!("ok")),
        (json!({"_id": "other", "owner": "bob"}), true, json!(403)),
        (json!({"_id": "other"}), true, json!(403)),
        (json!({"_id": "bad", "owner": "anna"}), true, json!(403)),
        (json!({"_id": "a", "_rev": "1-a", "owner": "bob"}), true, json!(403)),
        (json!({"_id": "a", "_rev": "1-a", "owner": "anna", "n": 1}), true, json!("ok")),
        (json!({"_id": "b", "_rev": "1-b", "owner": "anna"}), true, json!(403)),
        (json!({"_id": "b", "_rev": "1-b", "_deleted": true}), true, json!(403)),
        (json!({"_id": "b", "_rev": "1-b", "_deleted": true, "owner": "anna"}), true, json!(403)),
        (json!({"_id": "b", "_rev": "9-x", "owner": "anna"}), false, json!(403)),
        (json!({"_id": "won", "_rev": "1-y", "_deleted": true}), true, json!(403)),
        (json!({"_id": "won", "_rev": "1-y", "owner": "anna"}), true, json!(403)),
        (
            json!({"_id": "won", "_rev": "2-n", "owner": "anna", "_revisions": revisions(&["n", "y"])}),
            false,
            json!(403),
        ),
        (json!({"_id": "won", "_rev": "1-z", "_deleted": true}), true, json!("ok")),
        (
            json!({"_id": "moved", "_rev": "2-d", "_deleted": true, "_revisions": revisions(&["d", "a"])}),
            false,
            json!(403),
        ),
        (
            json!({"_id": "brief", "_rev": "2-d", "_deleted": true, "_revisions": revisions(&["d", "a"])}),
            false,
            json!("ok"),
        ),
        (
            json!({"_id": "stray", "_rev": "2-d", "_deleted": true, "owner": "bob"}),
            false,
            json!(403),
        ),
        (json!({"_id": "gone b", "owner": "anna"}), true, json!("ok")),
    ] {
        assert_eq!(outcome(&mut raw, doc.clone(), new_edits).await, expected, "{doc}");
    }
    let offline = json!({"_id": "new", "_rev": "3-d", "_deleted": true, "_revisions": revisions(&["d", "c", "x"])});
    let rev = db.get(&id("new"), &Default::default()).await.unwrap().rev.unwrap();
    let mut known = offline.clone();
    known["_revisions"]["ids"][2] = json!(rev.hash().to_string());
    assert_eq!(
        outcome(&mut raw, offline, false).await,
        json!(403),
        "it deletes nothing that is known"
    );
    assert_eq!(outcome(&mut raw, known, false).await, json!("ok"), "edited and deleted offline");
    assert!(db.get(&id("new"), &Default::default()).await.is_err());
    let put = call(&mut raw, "put", json!({"doc": {"_id": "_local/x", "n": 1}})).await;
    assert_eq!(put["ok"], true, "local documents belong to everybody");
}

#[tokio::test]
async fn the_view_is_named_and_another_one_is_another_channel() {
    let (served, _) = shared().await;
    let opened = async |user: &str| {
        let mut raw = served.socket().await;
        let open = json!(["open", 1, {"database": "tests", "credentials": {"user": user}}]);
        (raw.ask(open).await[2]["access"]["view"].clone(), raw)
    };
    let (anna, mut raw) = opened("anna").await;
    assert_eq!(anna.as_str().map(str::len), Some(32));
    assert_eq!(opened("anna").await.0, anna);
    assert_ne!(opened("bob").await.0, anna);
    assert_eq!(opened("admin").await.0, Value::Null);
    let again = raw.ask(json!(["credentials", 1, {"user": "anna"}])).await;
    assert_eq!((&again[0], &again[2]["access"]["view"]), (&json!("opened"), &anna));
    let moved = raw.ask(json!(["credentials", 1, {"user": "admin"}])).await;
    assert_eq!((&moved[0], &moved[2]["status"]), (&json!("closed"), &json!(401)));
}

#[tokio::test]
async fn syncs_share_what_is_theirs_and_learn_of_deletions() {
    let gateway = TestGateway::with(by_owner(Store::memory()));
    let there = gateway.gateway.store().create(&name("shared")).await.unwrap();
    let options = |user: &str| SyncOptions::one_shot("shared").credentials(json!({"user": user}));
    let client = gateway.client();
    let sync = async |db: &Database, user: &str| {
        Watched::new(client.sync(db, options(user))).ended().await.summary()
    };
    let (first, second, bob) = (local().await, local().await, local().await);
    let doc = |id: &str, owner: &str| Document::new(id, &json!({"owner": owner})).unwrap();
    first.put(doc("a", "anna")).await.unwrap();
    first.put(doc("not hers", "bob")).await.unwrap();
    bob.put(doc("b", "bob")).await.unwrap();
    let summary = sync(&first, "anna").await.push.unwrap();
    assert_eq!((summary.docs_written, summary.doc_write_failures), (1, 1));
    sync(&bob, "bob").await;
    sync(&second, "anna").await;
    assert!(second.get(&id("a"), &Default::default()).await.is_ok());
    assert!(second.get(&id("b"), &Default::default()).await.is_err());
    assert!(bob.get(&id("a"), &Default::default()).await.is_err());
    syncing::delete(&second, "a").await;
    sync(&second, "anna").await;
    sync(&first, "anna").await;
    assert!(first.get(&id("a"), &Default::default()).await.is_err(), "its deletion came");
    assert_eq!(there.info().await.unwrap().doc_count, 1);
}
