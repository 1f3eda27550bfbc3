//! Groups over the wire: `atomic` in settee.v1 and over HTTP, and `groups` in the changes feed.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;

use http::Api;
use raw::Served;
use serde_json::{Value, json};
use settee::Store;

async fn wire() -> (Arc<Served>, raw::Raw) {
    let served = Served::new(http::token_gateway(Store::memory()));
    let open = json!({"database": "db", "credentials": {"token": "secret"}, "create": true});
    let raw = served.channel(open).await;
    (served, raw)
}

fn words(rows: &Value) -> Vec<String> {
    let word = |row: &Value| {
        let status = row["status"].as_u64().map_or_else(String::new, |status| status.to_string());
        format!(
            "{} {} {status}",
            row["id"].as_str().unwrap(),
            row["error"].as_str().unwrap_or("ok")
        )
    };
    rows.as_array().unwrap().iter().map(word).collect()
}

#[tokio::test]
async fn a_group_over_the_wire_is_whole_or_refused_and_read_as_one() {
    let (_served, mut raw) = wire().await;
    let call =
        |id: u32, docs: Value| json!(["call", 1, id, "bulk_docs", {"docs": docs, "atomic": true}]);
    let written = raw.ask(call(1, json!([{"_id": "a"}, {"_id": "b"}]))).await;
    assert_eq!(words(&written[3]), ["a ok ", "b ok "]);
    let refused = raw.ask(call(2, json!([{"_id": "c"}, {"_id": "a"}, {"_id": "d"}]))).await;
    let wanted = ["c group_refused 424", "a conflict 409", "d group_refused 424"];
    assert_eq!(words(&refused[3]), wanted);
    let unreadable = raw.ask(call(3, json!([{"_id": "c"}, {"_id": "_odd"}]))).await;
    assert_eq!(unreadable[3][0]["status"], 424, "{unreadable}");
    assert_eq!(unreadable[3][1]["status"], 400, "{unreadable}");
    let local = raw.ask(call(4, json!([{"_id": "c"}, {"_id": "_local/x"}]))).await;
    assert_eq!((&local[0], &local[3]["status"]), (&json!("fail"), &json!(400)), "{local}");
    let many: Vec<Value> = (0..101).map(|n| json!({"_id": format!("m{n}")})).collect();
    let many = raw.ask(call(5, json!(many))).await;
    assert_eq!((&many[0], &many[3]["status"]), (&json!("fail"), &json!(413)), "{many}");
    let plain = json!(["call", 1, 6, "bulk_docs", {"docs": [{"_id": "e"}]}]);
    assert_eq!(words(&raw.ask(plain).await[3]), ["e ok "]);
    for (number, groups, wanted) in [
        (7, true, json!([["a", 2], ["b", 2], ["e", null]])),
        (8, false, json!([["a", null], ["b", null], ["e", null]])),
    ] {
        let rows = raw.ask(json!(["call", 1, number, "changes", {"groups": groups}])).await;
        let rows: Vec<Value> = rows[3]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| json!([row["id"], row["group"]]))
            .collect();
        assert_eq!(json!(rows), wanted);
        raw.json().await;
    }
}

#[tokio::test]
async fn a_group_over_http_is_whole_or_refused() {
    let api = Api::new();
    api.database("db").await;
    let group = |docs: Value| json!({"docs": docs, "atomic": true});
    let written =
        api.json("POST", "/db/_bulk_docs", group(json!([{"_id": "a"}, {"_id": "b"}]))).await;
    assert_eq!(
        (written.status, words(&written.json())),
        (201, vec!["a ok ".into(), "b ok ".into()])
    );
    let refused =
        api.json("POST", "/db/_bulk_docs", group(json!([{"_id": "c"}, {"_id": "a"}]))).await;
    assert_eq!(words(&refused.json()), ["c group_refused ", "a conflict "]);
    let reason = "not written: document \"a\" of the same group was refused";
    assert_eq!(refused.json()[0]["reason"], reason);
    assert_eq!(api.get("/db/c").await.status, 404);
    let changes = api.get("/db/_changes").await.json();
    assert_eq!(changes["results"][0].get("group"), None, "CouchDB's feed knows no groups");
}
