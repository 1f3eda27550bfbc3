//! Parts of documents are changed on the server, and edits that change nothing make no revision.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use http::{Answer, Api, docs};
use serde_json::{Value, json};
use settee::doc::Body;
use settee::server::{Denied, Fetch, FetchHandler};
use settee::{DbName, Store};

const MERGE: (&str, &str) = ("Content-Type", "application/merge-patch+json");
const OPERATIONS: (&str, &str) = ("Content-Type", "application/json-patch+json");

async fn with(document: &str) -> (Api, String) {
    let api = Api::new();
    api.database("db").await;
    let made = api.ask("PUT", "/db/a", &[http::JSON], document.as_bytes()).await.json();
    (api, made["rev"].as_str().expect("a revision").to_owned())
}

async fn patch(api: &Api, path: &str, kind: (&str, &str), body: &str) -> Answer {
    api.ask("PATCH", path, &[kind], body.as_bytes()).await
}

#[tokio::test]
async fn a_merge_patch_changes_the_members_it_names_and_no_others() {
    let (api, rev) = with(r#"{"n":1,"price":1.10,"big":12345678901234567890123,"gone":1}"#).await;
    let answer = patch(&api, "/db/a", MERGE, r#"{"n":2,"gone":null}"#).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let patched = answer.json()["rev"].as_str().unwrap().to_owned();
    assert_eq!(answer.header("etag"), Some(format!("\"{patched}\"").as_str()));
    let read = api.get("/db/a?revs=true").await;
    assert!(read.text().contains(r#""n":2,"price":1.10,"big":12345678901234567890123}"#));
    assert_eq!(read.json()["_revisions"]["ids"][1], rev.split_once('-').unwrap().1);
}

#[tokio::test]
async fn a_json_patch_is_applied_whole_or_not_at_all() {
    let (api, rev) = with(r#"{"list":["a"],"n":1}"#).await;
    let good = r#"[{"op":"test","path":"/n","value":1},{"op":"add","path":"/list/-","value":"b"}]"#;
    for (body, status, error) in [
        (
            r#"[{"op":"remove","path":"/n"},{"op":"test","path":"/n","value":1}]"#,
            422,
            "unprocessable_content",
        ),
        (
            r#"[{"op":"remove","path":"/list"},{"op":"test","path":"/n","value":2}]"#,
            412,
            "precondition_failed",
        ),
        (r#"[{"op":"add","path":"/_deleted","value":true}]"#, 400, "doc_validation"),
        (r#"{"op":"remove"}"#, 400, "bad_request"),
    ] {
        patch(&api, "/db/a", OPERATIONS, body).await.assert_error(body, status, error, "");
    }
    assert_eq!(api.get("/db/a").await.json()["_rev"], rev.as_str());
    assert_eq!(patch(&api, "/db/a", OPERATIONS, good).await.status, 200);
    assert_eq!(api.get("/db/a").await.json()["list"], json!(["a", "b"]));
}

#[tokio::test]
async fn a_patch_of_a_named_base_conflicts_if_that_has_moved() {
    let (api, rev) = with(r#"{"n":1}"#).await;
    let named = format!("/db/a?rev={rev}");
    assert_eq!(patch(&api, &named, MERGE, r#"{"n":2}"#).await.status, 200);
    for path in [named.as_str(), "/db/a?rev=1-none"] {
        let answer = patch(&api, path, MERGE, r#"{"n":3}"#).await;
        answer.assert_error(path, 409, "conflict", "");
    }
    let headers = [MERGE, ("If-Match", rev.as_str())];
    let answer = api.ask("PATCH", "/db/a", &headers, br#"{"n":3}"#).await;
    answer.assert_error("If-Match", 409, "conflict", "");
    assert_eq!(api.get("/db/a").await.json()["n"], 2);
}

#[tokio::test]
async fn patches_without_a_base_do_not_get_into_each_others_way() {
    let (api, _) = with("{}").await;
    let bodies: Vec<String> = (0..12).map(|n| format!("{{\"m{n}\":{n}}}")).collect();
    let all = bodies.iter().map(|body| patch(&api, "/db/a", MERGE, body));
    for answer in futures::future::join_all(all).await {
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let read = api.get("/db/a?conflicts=true").await.json();
    assert_eq!((&read["m0"], &read["m11"], read.get("_conflicts")), (&json!(0), &json!(11), None));
    assert!(read["_rev"].as_str().unwrap().starts_with("13-"), "{read}");
}

#[tokio::test]
async fn what_cannot_be_patched_is_refused_in_words() {
    let (api, rev) = with(r#"{"n":1}"#).await;
    let plain = patch(&api, "/db/a", http::JSON, "{}").await;
    plain.assert_error("a plain body", 415, "bad_content_type", "merge-patch");
    let none = patch(&api, "/db/none", MERGE, "{}").await;
    none.assert_error("no document", 404, "not_found", "missing");
    let cut = patch(&api, "/db/a", MERGE, r#"{"n":"#).await;
    cut.assert_error("no JSON", 400, "bad_request", "invalid UTF-8 JSON");
    api.ask("DELETE", &format!("/db/a?rev={rev}"), &[], b"").await;
    let gone = patch(&api, "/db/a", MERGE, "{}").await;
    gone.assert_error("a deleted document", 404, "not_found", "deleted");
}

#[tokio::test]
async fn attachments_stay_when_a_document_is_patched() {
    let (api, _) =
        with(r#"{"_attachments":{"f":{"content_type":"text/plain","data":"aGk="}}}"#).await;
    assert_eq!(patch(&api, "/db/a", MERGE, r#"{"n":2}"#).await.status, 200);
    assert_eq!(api.get("/db/a/f").await.text(), "hi");
}

#[tokio::test]
async fn an_edit_that_changes_nothing_makes_no_revision_if_asked_so() {
    let (api, rev) = with(r#"{"a":1,"b":[1.0]}"#).await;
    let same = r#"{"b":[1.0],"a":1}"#;
    let put = async |query: &str, body: &str| {
        api.ask("PUT", &format!("/db/a{query}"), &[http::JSON], body.as_bytes()).await.json()
    };
    assert_eq!(put("?if_changed=true", same).await["rev"], rev.as_str());
    let named = format!("?if_changed=true&rev={rev}");
    assert_eq!(put(&named, same).await["rev"], rev.as_str());
    let unchanged = patch(&api, "/db/a?if_changed=true", MERGE, r#"{"a":1,"c":null}"#).await;
    assert_eq!(unchanged.json()["rev"], rev.as_str());
    let mut batch = docs(&[json!({"_id": "a", "a": 1, "b": [1.0]}), json!({"_id": "b"})]);
    batch["if_changed"] = json!(true);
    let rows = api.json("POST", "/db/_bulk_docs", batch).await.json();
    assert_eq!((&rows[0]["rev"], &rows[1]["ok"]), (&json!(rev), &json!(true)), "{rows}");
    assert!(api.get("/db/_changes").await.json()["last_seq"].as_str().unwrap().starts_with("2-"));
    let other = put(&named, r#"{"a":2,"b":[1.0]}"#).await["rev"].as_str().unwrap().to_owned();
    assert!(other.starts_with("2-"), "{other}");
    let again = put(&format!("?rev={other}"), r#"{"a":2,"b":[1.0]}"#).await;
    assert!(again["rev"].as_str().unwrap().starts_with("3-"), "not asked so: {again}");
    let mut brought = docs(&[json!({"_id": "b", "_rev": "7-abc"})]);
    brought["if_changed"] = json!(true);
    brought["new_edits"] = json!(false);
    assert_eq!(api.json("POST", "/db/_bulk_docs", brought).await.json(), json!([]));
    assert_eq!(api.get("/db/b?rev=7-abc").await.status, 200, "a revision is brought all the same");
}

#[tokio::test]
async fn the_calls_of_settee_v1_patch_and_leave_out_alike() {
    let (api, rev) = with(r#"{"n":1,"price":1.10}"#).await;
    let open = json!({"database": "db", "credentials": {"token": "secret"}});
    let mut raw = api.served.channel(open).await;
    let mut ask = async |method: &str, params: Value| {
        raw.ask(json!(["call", 1, 1, method, params])).await[3].clone()
    };
    let same = json!({"id": "a", "merge": {"n": 1}, "if_changed": true});
    assert_eq!(ask("patch", same).await, json!({"ok": true, "id": "a", "rev": rev}));
    // A client that parsed the price prints it with fewer digits.
    let same = json!({"doc": {"_id": "a", "price": 1.1, "n": 1}, "if_changed": true});
    assert_eq!(ask("put", same).await["rev"], rev.as_str());
    let operations = json!([{"op": "replace", "path": "/n", "value": 2}]);
    let moved = ask("patch", json!({"id": "a", "operations": operations, "rev": "1-x"})).await;
    assert_eq!(moved["status"], 409, "{moved}");
    let patched = ask("patch", json!({"id": "a", "operations": operations})).await;
    assert_eq!(patched["ok"], true, "{patched}");
    let neither = ask("patch", json!({"id": "a"})).await;
    assert_eq!(neither["status"], 400, "{neither}");
    assert_eq!(api.get("/db/a").await.json()["n"], 2);
}

#[tokio::test]
async fn who_may_not_read_cannot_guess_what_is_stored() {
    let (api, rev) = with(r#"{"pin":1234}"#).await;
    let writer = ("Authorization", "Bearer writer");
    let guess = format!("/db/a?if_changed=true&rev={rev}");
    let written = api.ask("PUT", &guess, &[http::JSON, writer], br#"{"pin":1234}"#).await.json();
    assert!(written["rev"].as_str().unwrap().starts_with("2-"), "{written}");
}

/// Hides a member from everybody.
struct Hide;

#[async_trait::async_trait]
impl FetchHandler for Hide {
    async fn on_fetch(&self, fetch: &Fetch<'_>) -> Result<Option<Body>, Denied> {
        let mut body: Value = fetch.document.to().expect("an object");
        let hidden = body.as_object_mut().and_then(|members| members.remove("hidden"));
        Ok(hidden.map(|_| Body::from_value(&body).expect("an object")))
    }
}

#[tokio::test]
async fn a_patch_keeps_what_is_hidden_and_does_not_lay_it_open() {
    let store = Store::memory();
    let all = |_: &DbName| true;
    let api = Api::served(http::token_gateway(store.clone()).fetch_handler(all, Hide));
    api.database("db").await;
    api.put("/db/a", json!({"hidden": 7, "n": 1})).await;
    for body in [
        r#"[{"op":"copy","from":"/hidden","path":"/n"}]"#,
        r#"[{"op":"test","path":"/hidden","value":7}]"#,
    ] {
        let refused = patch(&api, "/db/a", OPERATIONS, body).await;
        refused.assert_error(body, 403, "forbidden", "shown changed");
    }
    assert_eq!(patch(&api, "/db/a", MERGE, r#"{"n":2}"#).await.status, 200);
    let rev = api.get("/db/a").await.json()["_rev"].as_str().unwrap().to_owned();
    let attached = api.ask("PUT", &format!("/db/a/f?rev={rev}"), &[], b"hi").await;
    assert_eq!(attached.status, 201, "{}", attached.text());
    let db = store.database(&DbName::parse("db").unwrap()).await.unwrap();
    let id = settee::DocId::parse("a", 10).unwrap();
    let stored: Value = db.get(&id, &Default::default()).await.unwrap().to().unwrap();
    assert_eq!(stored, json!({"hidden": 7, "n": 2}));
}
