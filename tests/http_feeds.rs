//! The changes feed over HTTP in its four forms.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use http::{Answer, Api, docs};
use serde_json::{Value, json};

async fn with_documents(count: usize) -> Api {
    let api = Api::new();
    api.database("db").await;
    let all: Vec<Value> = (0..count).map(|n| json!({"_id": format!("d{n}"), "n": n})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&all)).await;
    api
}

fn ids(answer: &Answer) -> Vec<String> {
    let rows = answer.json()["results"].clone();
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_feed_is_paged_by_its_last_seq() {
    let api = with_documents(5).await;
    let (mut since, mut all) = ("0".to_owned(), Vec::new());
    for pending in [3, 1, 0] {
        let page = api.get(&format!("/db/_changes?limit=2&since={since}")).await;
        all.extend(ids(&page));
        since = page.json()["last_seq"].as_str().unwrap().to_owned();
        assert_eq!(page.json()["pending"], pending);
    }
    assert_eq!(all, ["d0", "d1", "d2", "d3", "d4"]);
    let end = api.get(&format!("/db/_changes?since={since}")).await.json();
    assert_eq!((&end["results"], &end["last_seq"]), (&json!([]), &json!(since)));
    let none = api.get("/db/_changes?limit=0").await.json();
    assert_eq!((&none["results"], &none["pending"]), (&json!([]), &json!(5)));
    assert!(none["last_seq"].as_str().unwrap().starts_with("0-"), "{none}");
    let descending = api.get("/db/_changes?descending=true&limit=2").await;
    assert_eq!(ids(&descending), ["d4", "d3"]);
    let quoted = format!("/db/_changes?since=%22{since}%22");
    assert_eq!(ids(&api.get(&quoted).await).len(), 0);
    assert_eq!(ids(&api.get("/db/_changes?since=now").await).len(), 0);
    assert_eq!(ids(&api.get("/db/_changes?since=3").await), ["d3", "d4"]);
}

#[tokio::test]
async fn pages_tell_what_follows_while_others_write() {
    let api = with_documents(40).await;
    let page = async |since: &str| {
        let page = api.get(&format!("/db/_changes?limit=10&since={since}")).await.json();
        (page["last_seq"].as_str().unwrap().to_owned(), page["pending"].as_u64().unwrap())
    };
    let (since, pending) = page("0").await;
    assert_eq!(pending, 30);
    assert_eq!(page(&since).await.1, 20);
    api.put("/db/new", json!({})).await;
    assert_eq!(page(&since).await.1, 21, "a document more");
    let many: Vec<Value> = (0..100).map(|n| json!({"_id": format!("e{n}")})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&many)).await;
    let (since, pending) = page(&since).await;
    assert_eq!(pending, 121, "many more");
    let purged = api.get("/db/d39").await.json()["_rev"].clone();
    api.json("POST", "/db/_purge", json!({"d39": [purged]})).await;
    assert_eq!(page(&since).await.1, 110, "ten were read, one is purged");
}

#[tokio::test]
async fn rows_show_leaves_documents_and_deletions() {
    let api = with_documents(0).await;
    let branches = json!({"new_edits": false, "docs": [
        {"_id": "x", "_rev": "1-a", "n": 1}, {"_id": "x", "_rev": "1-b", "n": 2},
    ]});
    api.json("POST", "/db/_bulk_docs", branches).await;
    let rev = api.put("/db/gone", json!({})).await;
    api.ask("DELETE", &format!("/db/gone?rev={rev}"), &[], b"").await;
    let query = "/db/_changes?style=all_docs&include_docs=true&conflicts=true";
    let rows = api.get(query).await.json()["results"].clone();
    assert_eq!(rows[0]["changes"], json!([{"rev": "1-b"}, {"rev": "1-a"}]));
    assert_eq!(rows[0]["doc"]["_conflicts"], json!(["1-a"]));
    assert_eq!((&rows[1]["deleted"], &rows[1]["doc"]["_deleted"]), (&json!(true), &json!(true)));
    let main = api.get("/db/_changes").await.json()["results"][0].clone();
    assert_eq!(main["changes"], json!([{"rev": "1-b"}]));
    assert!(main.get("doc").is_none() && main.get("deleted").is_none());
}

#[tokio::test]
async fn filters_let_pass_what_they_name() {
    let api = with_documents(4).await;
    api.put("/db/_design/x", json!({})).await;
    let by_id = api.json("POST", "/db/_changes?filter=_doc_ids", json!({"doc_ids": ["d2", "zz"]}));
    assert_eq!(ids(&by_id.await), ["d2"]);
    let query = "/db/_changes?filter=_doc_ids&doc_ids=[%22d1%22]";
    assert_eq!(ids(&api.get(query).await), ["d1"]);
    let long = json!({"doc_ids": ["d3", "x".repeat(5_000), "", "_x"]});
    assert_eq!(ids(&api.json("POST", "/db/_changes?filter=_doc_ids", long).await), ["d3"]);
    assert_eq!(ids(&api.get("/db/_changes?filter=_design").await), ["_design/x"]);
    let selector = json!({"selector": {"n": {"$gte": 2}}});
    let selected = api.json("POST", "/db/_changes?filter=_selector", selector).await;
    assert_eq!(ids(&selected), ["d2", "d3"]);
    let last = selected.json()["last_seq"].as_str().unwrap().to_owned();
    assert!(last.starts_with("5-"), "a filtered feed has read everything: {last}");
    for (query, body, status, reason) in [
        ("filter=_selector", json!({}), 400, "expected a JSON object"),
        ("filter=_selector", json!({"selector": 5}), 400, "expected a JSON object"),
        ("filter=_selector", json!({"selector": {"a": {"$foo": 1}}}), 400, "$foo"),
        ("filter=_doc_ids", json!({}), 400, "doc_ids"),
        ("filter=_doc_ids", json!({"doc_ids": "x"}), 400, "doc_ids"),
        ("filter=_doc_ids", json!({"doc_ids": [1]}), 400, "doc_ids"),
        ("filter=nonsense", json!({}), 400, "Invalid filter"),
        ("filter=_view", json!({}), 400, "view"),
        ("since=nonsense", json!({}), 400, "since"),
        ("since=1-x", json!({}), 400, "since"),
        ("style=x", json!({}), 400, "style"),
        ("feed=x", json!({}), 400, "feed"),
        ("limit=-1", json!({}), 400, "limit"),
        ("heartbeat=0", json!({}), 400, "heartbeat"),
        ("heartbeat=x", json!({}), 400, "heartbeat"),
        ("timeout=-1", json!({}), 400, "timeout"),
    ] {
        let answer = api.json("POST", &format!("/db/_changes?{query}"), body.clone()).await;
        assert_eq!(answer.status, status, "{query} {body}");
        let told = answer.json()["reason"].as_str().unwrap().to_owned();
        assert!(told.contains(reason), "{query} {body}: {told}");
    }
}

#[tokio::test]
async fn a_longpoll_ends_with_the_first_change_that_passes() {
    let api = with_documents(1).await;
    let at_once = api.get("/db/_changes?feed=longpoll").await;
    assert_eq!(ids(&at_once), ["d0"]);
    let since = at_once.json()["last_seq"].as_str().unwrap().to_owned();
    let path = format!("/db/_changes?feed=longpoll&since={since}&filter=_design&heartbeat=5");
    let mut waiting = api.stream("GET", &path, &[], b"").await;
    assert_eq!(waiting.line().await.as_deref(), Some("{\"results\":["));
    assert_eq!(waiting.line().await.as_deref(), Some(""), "a heartbeat");
    api.put("/db/other", json!({})).await;
    api.put("/db/_design/x", json!({})).await;
    let mut text = "{\"results\":[".to_owned();
    while let Some(line) = waiting.line().await {
        text.push_str(&line);
    }
    let ended: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(ended["results"][0]["id"], "_design/x");
    assert_eq!(ended["results"].as_array().unwrap().len(), 1);
    let path =
        format!("/db/_changes?feed=longpoll&since={since}&filter=_doc_ids&doc_ids=[]&timeout=1");
    let late = api.get(&path).await.json();
    assert_eq!(late["results"], json!([]), "the timeout ends it");
    assert!(late["last_seq"].as_str().unwrap().starts_with("3-"), "{late}");
}

#[tokio::test]
async fn a_continuous_feed_goes_on() {
    let api = with_documents(1).await;
    let path = "/db/_changes?feed=continuous&include_docs=true&heartbeat=10000&limit=3";
    let mut feed = api.stream("GET", path, &[], b"").await;
    assert_eq!(feed.row().await.unwrap()["doc"]["n"], 0);
    for id in ["x", "y"] {
        api.put(&format!("/db/{id}"), json!({})).await;
        assert_eq!(feed.row().await.unwrap()["id"], id);
    }
    let end = feed.row().await.unwrap();
    assert!(end["last_seq"].as_str().unwrap().starts_with("3-"), "{end}");
    assert_eq!(end["pending"], 0);
    assert!(feed.row().await.is_none());
}

#[tokio::test]
async fn an_event_source_goes_on_where_its_reader_was() {
    let api = with_documents(2).await;
    let path = "/db/_changes?feed=eventsource&timeout=1";
    let whole = api.ask("GET", path, &[], b"").await;
    assert_eq!(whole.header("content-type"), Some("text/event-stream"));
    let lines: Vec<&str> = whole.text().lines().collect();
    let row: Value = serde_json::from_str(lines[0].strip_prefix("data: ").unwrap()).unwrap();
    let id = lines[1].strip_prefix("id: ").unwrap();
    assert_eq!((row["id"].as_str(), row["seq"].as_str()), (Some("d0"), Some(id)));
    let rest = api.ask("GET", path, &[("Last-Event-ID", id)], b"").await;
    assert!(rest.text().contains("\"d1\"") && !rest.text().contains("\"d0\""), "{}", rest.text());
}

#[tokio::test]
async fn a_feed_ends_with_its_database_its_grant_and_its_gateway() {
    let api = with_documents(1).await;
    let path = "/db/_changes?feed=continuous&heartbeat=10000";
    let open = async || {
        let mut feed = api.stream("GET", path, &[], b"").await;
        feed.row().await.expect("a row");
        feed
    };
    let mut feed = open().await;
    assert_eq!(api.served.gateway.revoke("gone", |user, _| user == Some("root")), 1);
    assert!(feed.row().await.unwrap()["last_seq"].is_string());
    let (mut one, mut other) = (open().await, open().await);
    api.ask("DELETE", "/db", &[], b"").await;
    for feed in [&mut one, &mut other] {
        while feed.row().await.is_some() {}
    }
    api.database("db").await;
    api.put("/db/x", json!({})).await;
    let mut feed = open().await;
    api.served.stop();
    assert!(feed.row().await.unwrap()["last_seq"].is_string(), "a stop ends it in words");
}
