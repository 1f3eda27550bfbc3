//! A gateway counts, keeps sets, and merges what offline edits bring.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/syncing.rs"]
mod syncing;

use http::Api;
use serde_json::{Value, json};
use settee::doc::{Merge, MergePolicy, Operations};
use settee::server::{Denied, ProposedWrite};
use settee::store::GetOptions;
use settee::validate::DbPattern;
use settee::{Database, Document, Store};
use syncing::{TestGateway, Watched, id, local, name, one_shot};

fn policy() -> MergePolicy {
    MergePolicy::new()
        .field("likes", Merge::Counter)
        .field("tags", Merge::Set)
        .field("best", Merge::Max)
        .field("state", Merge::Latest)
}

fn posts() -> DbPattern {
    "post*".parse().expect("a pattern")
}

async fn api() -> Api {
    let builder = http::token_gateway(Store::memory()).merge_policy(posts(), policy());
    let api = Api::served(builder);
    api.database("posts").await;
    api
}

async fn operate(db: &Database, writer: &str, what: Value) {
    let operations = Operations::parse(&what.to_string()).expect("operations");
    db.operate(&id("a"), &operations, writer).await.expect("applied");
}

async fn body(db: &Database) -> Value {
    db.get(&id("a"), &GetOptions::default()).await.expect("it is there").to().expect("an object")
}

#[tokio::test]
async fn offline_edits_of_two_devices_are_merged_and_the_loser_can_be_looked_at() {
    let store = Store::memory();
    let builder = syncing::token_gateway(store.clone()).merge_policy(posts(), policy());
    let gateway = TestGateway::with(builder);
    let (phone, laptop) = (local().await, local().await);
    let (one, other) = (gateway.client(), gateway.client());
    let sync = async |client: &settee::Client, db: &Database| {
        Watched::new(client.sync(db, one_shot("posts"))).ended().await.summary();
    };
    let made = json!({"title": "A", "best": 1, "state": {"at": 1, "value": "new"}});
    phone.put(Document::new("a", &made).unwrap()).await.unwrap();
    sync(&one, &phone).await;
    sync(&other, &laptop).await;

    operate(&phone, "phone", json!({"inc": {"likes": 2}, "add": {"tags": ["red"]}})).await;
    operate(&laptop, "laptop", json!({"inc": {"likes": -1}, "add": {"tags": ["blue"]}})).await;
    let on_laptop = laptop.get(&id("a"), &GetOptions::default()).await.unwrap();
    let mut edited: Value = on_laptop.to().unwrap();
    edited["best"] = json!(7);
    edited["state"] = json!({"at": 5, "value": "seen"});
    let rev = on_laptop.rev.unwrap();
    laptop.put(Document::new("a", &edited).unwrap().with_rev(rev)).await.unwrap();
    for _ in 0..2 {
        sync(&one, &phone).await;
        sync(&other, &laptop).await;
    }
    let merged = json!({
        "title": "A", "best": 7, "state": {"at": 5, "value": "seen"},
        "likes": {"phone": [2, 0], "laptop": [0, 1]}, "tags": {"red": 1, "blue": 1},
    });
    let served = store.database(&name("posts")).await.unwrap();
    for db in [&phone, &laptop, &served] {
        assert_eq!(body(db).await, merged);
    }
    let all = GetOptions { conflicts: true, deleted_conflicts: true, ..GetOptions::default() };
    let read = phone.get(&id("a"), &all).await.unwrap();
    assert_eq!((read.extra.conflicts.len(), read.extra.deleted_conflicts.len()), (0, 1));
    let rev = Some(read.extra.deleted_conflicts[0].clone());
    let loser = phone.get(&id("a"), &GetOptions { rev, ..GetOptions::default() }).await.unwrap();
    let loser: Value = loser.to().unwrap();
    assert_eq!(loser["tags"].as_object().unwrap().len(), 1, "its own branch: {loser}");
}

#[tokio::test]
async fn what_differs_without_a_rule_stays_a_conflict() {
    let api = api().await;
    let branches = |title: &str| {
        json!({"new_edits": false, "docs": [
            {"_id": "a", "_rev": "1-a", "title": "A", "likes": {"x": [1, 0]}},
            {"_id": "a", "_rev": "1-b", "title": title, "likes": {"y": [1, 0]}},
        ]})
    };
    api.database("notes").await;
    for (db, title, conflicts) in [("posts", "B", 1), ("posts2", "A", 0), ("notes", "A", 1)] {
        if db == "posts2" {
            api.database(db).await;
        }
        api.json("POST", &format!("/{db}/_bulk_docs"), branches(title)).await;
        let read = api.get(&format!("/{db}/a?conflicts=true")).await.json();
        let left = read["_conflicts"].as_array().map_or(0, Vec::len);
        assert_eq!(left, conflicts, "{db} {title}: {read}");
        // What is counted is counted over all branches, merged or not.
        api.json("POST", &format!("/{db}/a/_ops"), json!({"inc": {"likes": 3}})).await;
        let likes = api.get(&format!("/{db}/a")).await.json()["likes"].clone();
        assert_eq!(likes.as_object().unwrap().len(), 3, "{db}: {likes}");
    }
}

#[tokio::test]
async fn attachments_that_differ_keep_a_conflict() {
    let api = api().await;
    let file = json!({"f": {"content_type": "text/plain", "data": "aGk="}});
    let branches = json!({"new_edits": false, "docs": [
        {"_id": "a", "_rev": "1-a", "_attachments": file}, {"_id": "a", "_rev": "1-b"},
    ]});
    api.json("POST", "/posts/_bulk_docs", branches).await;
    let read = api.get("/posts/a?conflicts=true").await.json();
    assert_eq!(read["_conflicts"], json!(["1-a"]), "{read}");
}

#[tokio::test]
async fn increments_at_the_same_time_are_all_counted() {
    let api = api().await;
    let body = json!({"inc": {"likes": 1}, "add": {"tags": ["red"]}});
    let all = (0..12).map(|_| api.json("POST", "/posts/a/_ops", body.clone()));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let read = api.get("/posts/a?conflicts=true").await.json();
    let likes = read["likes"].as_object().unwrap();
    assert_eq!(likes.values().collect::<Vec<_>>(), [&json!([12, 0])], "{read}");
    assert_eq!((&read["tags"], read.get("_conflicts")), (&json!({"red": 1}), None));
}

#[tokio::test]
async fn an_operation_that_is_sent_again_is_applied_once() {
    let api = api().await;
    let send = async |n: u64| {
        let body = json!({"actor": "anna", "n": n, "inc": {"likes": 5}});
        api.json("POST", "/posts/a/_ops", body).await
    };
    let first = send(1).await.json();
    assert_eq!(send(1).await.json(), first, "the same revision");
    send(3).await.assert_error("a gap", 412, "precondition_failed", "next number is 2");
    assert_eq!(send(2).await.status, 200);
    let read = api.get("/posts/a").await.json();
    assert_eq!(read["likes"], json!({"anna": [10, 0]}), "{read}");
}

#[tokio::test]
async fn operations_that_cannot_be_applied_are_refused_and_change_nothing() {
    let api = api().await;
    let rev = api.put("/posts/a", json!({"likes": 3, "tags": ["red"]})).await;
    for (body, status, error) in [
        (json!({"inc": {"likes": 1}}), 422, "unprocessable_content"),
        (json!({"add": {"tags": ["blue"]}}), 422, "unprocessable_content"),
        (json!({"inc": {"_rev": 1}}), 400, "bad_request"),
        (json!({"push": {}}), 400, "bad_request"),
    ] {
        let answer = api.json("POST", "/posts/a/_ops", body.clone()).await;
        answer.assert_error(&body.to_string(), status, error, "");
    }
    let nothing = api.json("POST", "/posts/a/_ops", json!({})).await;
    assert_eq!(nothing.json()["rev"], rev.as_str());
    let missing = api.json("POST", "/posts/none/_ops", json!({})).await;
    missing.assert_error("nothing to do to nothing", 404, "not_found", "missing");
    assert_eq!(api.get("/posts/a").await.json()["_rev"], rev.as_str());
}

#[tokio::test]
async fn operations_pass_validators_as_any_write() {
    let builder = http::token_gateway(Store::memory()).validator(|write: &ProposedWrite<'_>| {
        let body: Value = write.document.to().unwrap();
        let many = body["likes"].as_object().is_some_and(|likes| likes.len() > 1);
        if many { Err(Denied::forbidden("one actor only")) } else { Ok(()) }
    });
    let api = Api::served(builder);
    api.database("posts").await;
    let send = async |actor: &str| {
        let body = json!({"actor": actor, "n": 1, "inc": {"likes": 1}});
        api.json("POST", "/posts/a/_ops", body).await
    };
    assert_eq!(send("anna").await.status, 200);
    send("bert").await.assert_error("two", 403, "forbidden", "one actor only");
}

#[tokio::test]
async fn the_call_ops_of_settee_v1_does_the_same() {
    let api = api().await;
    let open = json!({"database": "posts", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open).await;
    let ops = json!({"actor": "anna", "n": 1, "inc": {"likes": 2}, "remove": {"tags": ["x"]}});
    let call = json!(["call", 1, 1, "ops", {"id": "a", "ops": ops}]);
    let first = raw.ask(call.clone()).await;
    assert_eq!(first[3]["ok"], true, "{first}");
    let mut again = call;
    again[2] = json!(2);
    assert_eq!(raw.ask(again).await[3], first[3]);
    assert_eq!(api.get("/posts/a").await.json()["likes"], json!({"anna": [2, 0]}));
}
