//! Documents over HTTP, with CouchDB's statuses and words.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use http::{Api, JSON, docs};
use serde_json::{Value, json};

async fn with_database() -> Api {
    let api = Api::new();
    api.database("db").await;
    api
}

/// A document with the branches 1-a 2-b, 1-a 2-c and a deleted 1-a 2-d 3-e.
async fn branched(api: &Api) {
    let branches = json!({"new_edits": false, "docs": [
        {"_id": "doc", "_rev": "1-a", "n": "a"},
        {"_id": "doc", "_revisions": {"start": 2, "ids": ["b", "a"]}, "n": "b"},
        {"_id": "doc", "_revisions": {"start": 2, "ids": ["c", "a"]}, "n": "c"},
        {"_id": "doc", "_revisions": {"start": 3, "ids": ["e", "d", "a"]}, "_deleted": true, "n": "e"},
    ]});
    let written = api.json("POST", "/db/_bulk_docs", branches).await;
    assert_eq!((written.status, written.json()), (201, json!([])));
}

#[tokio::test]
async fn a_document_is_written_read_and_deleted() {
    let api = with_database().await;
    let put =
        api.ask("PUT", "/db/a", &[], br#"{"n":1.10,"_id":"other","deep":{"x":[1e400]}}"#).await;
    assert_eq!(put.status, 201);
    let rev = put.json()["rev"].as_str().unwrap().to_owned();
    assert_eq!(put.json(), json!({"ok": true, "id": "a", "rev": rev}));
    assert_eq!(put.header("etag"), Some(format!("\"{rev}\"").as_str()));
    assert_eq!(put.header("location"), Some("http://gateway/db/a"));
    let read = api.ask("GET", "/db/a", &[("Accept", "text/html")], b"").await;
    assert_eq!(read.header("content-type"), Some("application/json"));
    assert_eq!(read.header("etag"), Some(format!("\"{rev}\"").as_str()));
    let text =
        format!("{{\"_id\":\"a\",\"_rev\":\"{rev}\",\"n\":1.10,\"deep\":{{\"x\":[1e400]}}}}\n");
    assert_eq!(read.text(), text, "numbers keep their digits");
    assert_eq!(api.ask("HEAD", "/db/a", &[], b"").await.status, 200);
    let tag = format!("\"{rev}\"");
    let known = api.ask("GET", "/db/a", &[("If-None-Match", &tag)], b"").await;
    assert_eq!((known.status, known.body.len()), (304, 0));
    let deleted = api.ask("DELETE", "/db/a", &[("If-Match", &tag)], b"").await;
    assert_eq!(deleted.status, 200);
    let tombstone = deleted.json()["rev"].as_str().unwrap().to_owned();
    api.get("/db/a").await.assert_error("deleted", 404, "not_found", "deleted");
    let read = api.get(&format!("/db/a?rev={tombstone}")).await;
    assert_eq!((read.status, &read.json()["_deleted"]), (200, &json!(true)));
    let again = api.put("/db/a", json!({"back": true})).await;
    assert!(again.starts_with("3-"), "{again}");
    let posted = api.json("POST", "/db/", json!({"n": 2})).await;
    assert_eq!(posted.status, 201);
    assert_eq!(posted.json()["id"].as_str().unwrap().len(), 32);
    let deleted = api.json("PUT", "/db/a", json!({"_rev": again, "_deleted": true})).await;
    assert_eq!(deleted.status, 200);
    let batch = api.json("PUT", "/db/b?batch=ok", json!({})).await;
    assert_eq!((batch.status, batch.json()), (202, json!({"ok": true, "id": "b"})));
}

#[tokio::test]
async fn what_is_wrong_with_a_write_has_couchdbs_name() {
    let api = with_database().await;
    let rev = api.put("/db/a", json!({})).await;
    for (method, path, body, status, error, reason) in [
        ("GET", "/db/x", "", 404, "not_found", "missing"),
        ("GET", "/db/a?rev=9-x", "", 404, "not_found", "missing"),
        ("GET", "/db/a?rev=x", "", 400, "bad_request", "Invalid rev format"),
        ("GET", "/nodb/a", "", 404, "not_found", "Database does not exist"),
        ("PUT", "/db/a", "{}", 409, "conflict", "Document update conflict."),
        ("PUT", "/db/a", r#"{"_rev":"1-x"}"#, 409, "conflict", "Document update conflict."),
        ("PUT", "/db/new", r#"{"_rev":"1-x"}"#, 409, "conflict", "Document update conflict."),
        ("PUT", "/db/a", r#"{"_rev":"x"}"#, 400, "bad_request", "Invalid rev format"),
        ("PUT", "/db/a", "[]", 400, "bad_request", "Document must be a JSON object"),
        ("PUT", "/db/a", "{", 400, "bad_request", "invalid UTF-8 JSON"),
        ("PUT", "/db/a", "", 400, "bad_request", "invalid UTF-8 JSON"),
        ("PUT", "/db/_x", "{}", 400, "illegal_docid", "Only reserved document ids may start"),
        (
            "PUT",
            "/db/b",
            r#"{"_foo":1}"#,
            400,
            "doc_validation",
            "Bad special document member: _foo",
        ),
        ("PUT", "/db/a?rev=1-x", r#"{"_rev":"1-y"}"#, 400, "bad_request", "different values"),
        ("DELETE", "/db/a", "", 409, "conflict", "Document update conflict."),
        ("DELETE", "/db/a?rev=1-x", "", 409, "conflict", "Document update conflict."),
        ("DELETE", "/db/a?rev=x", "", 400, "bad_request", "Invalid rev format"),
        ("DELETE", "/db/x", "", 404, "not_found", "missing"),
        ("PUT", "/db/a/att", "x", 409, "conflict", "Document update conflict."),
        ("GET", "/db/a/att", "", 404, "not_found", "Document is missing attachment"),
        ("GET", "/db/x/att", "", 404, "not_found", "missing"),
        ("DELETE", "/db/a/att", "", 409, "conflict", "Document update conflict."),
        ("GET", "/db/_local/x", "", 404, "not_found", "missing"),
        ("DELETE", "/db/_local/x", "", 404, "not_found", "missing"),
        ("PUT", "/db/_local/x", r#"{"_rev":"1-fake"}"#, 400, "bad_request", "Invalid rev format"),
        (
            "GET",
            "/db/_local/x/att",
            "",
            400,
            "bad_request",
            "_local documents do not accept attachments.",
        ),
        (
            "PUT",
            "/db/_local/x/att",
            "x",
            400,
            "bad_request",
            "_local documents do not accept attachments.",
        ),
        ("COPY", "/db/a", "", 400, "bad_request", "Destination header is mandatory"),
        ("GET", "/db/_unknown", "", 404, "not_found", "missing"),
        ("GET", "/db/a?revs=maybe", "", 400, "query_parse_error", "boolean"),
        ("GET", "/db/a?open_revs=x", "", 400, "bad_request", "Invalid list of revisions"),
        ("GET", "/db/a?open_revs=[1]", "", 400, "bad_request", "Invalid list of revisions"),
    ] {
        let answer = api.ask(method, path, &[], body.as_bytes()).await;
        answer.assert_error(&format!("{method} {path} {body}"), status, error, reason);
    }
    let evil = api.json("PUT", "/db/e", json!({"text": "evil"})).await;
    evil.assert_error("validator", 403, "forbidden", "no evil");
    let read = api.get("/db/a").await.json();
    assert_eq!(read["_rev"], rev, "nothing was changed");
}

#[tokio::test]
async fn a_read_brings_what_its_parameters_ask_for() {
    let api = with_database().await;
    branched(&api).await;
    let read = api.get("/db/doc").await.json();
    assert_eq!(read, json!({"_id": "doc", "_rev": "2-c", "n": "c"}));
    let read =
        api.get("/db/doc?revs=true&conflicts=true&deleted_conflicts=true&local_seq=true").await;
    assert_eq!(read.header("etag"), None);
    let read = read.json();
    assert_eq!(read["_revisions"], json!({"start": 2, "ids": ["c", "a"]}));
    assert_eq!(read["_conflicts"], json!(["2-b"]));
    assert_eq!(read["_deleted_conflicts"], json!(["3-e"]));
    assert_eq!(read["_local_seq"], 1);
    let meta = api.get("/db/doc?meta=true").await.json();
    assert!(meta.get("_conflicts").is_some() && meta.get("_revs_info").is_some(), "{meta}");
    let statuses: Vec<&Value> =
        meta["_revs_info"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["available", "available"]);
    for (query, rev) in [
        ("rev=1-a", "1-a"),
        ("rev=1-a&latest=true", "2-c"),
        ("rev=2-b&latest=true", "2-b"),
        ("rev=2-d&latest=true", "3-e"),
    ] {
        assert_eq!(api.get(&format!("/db/doc?{query}")).await.json()["_rev"], rev, "{query}");
    }
}

#[tokio::test]
async fn branches_are_read_all_or_by_name() {
    let api = with_database().await;
    branched(&api).await;
    let shown = |answer: &http::Answer| -> Vec<String> {
        let one = |one: &Value| match one.get("ok") {
            Some(ok) => ok["_rev"].as_str().unwrap().to_owned(),
            None => format!("missing {}", one["missing"].as_str().unwrap()),
        };
        answer.json().as_array().unwrap().iter().map(one).collect()
    };
    for (query, expected) in [
        ("open_revs=all", vec!["2-c", "2-b", "3-e"]),
        ("open_revs=[\"9-x\",\"2-b\"]", vec!["2-b", "missing 9-x"]),
        ("open_revs=[\"1-a\"]&latest=true", vec!["2-c", "2-b", "3-e"]),
        ("open_revs=[]", vec![]),
    ] {
        let path = format!("/db/doc?{}", query.replace('"', "%22"));
        let answer = api.get(&path).await;
        assert_eq!(
            (answer.status, shown(&answer)),
            (200, expected.iter().map(ToString::to_string).collect()),
            "{query}"
        );
        assert_eq!(answer.header("etag"), None);
    }
    let path = "/db/doc?open_revs=all&revs=true";
    assert_eq!(api.get(path).await.json()[1]["ok"]["_revisions"]["ids"], json!(["b", "a"]));
    api.get("/db/never?open_revs=all").await.assert_error("never", 404, "not_found", "missing");
    let missing = api.get("/db/never?open_revs=[%221-a%22]").await;
    assert_eq!((missing.status, missing.json()), (200, json!([{"missing": "1-a"}])));
}

#[tokio::test]
async fn ids_and_names_of_every_kind_come_back() {
    let api = with_database().await;
    for (encoded, id) in [
        ("a%2Fb", "a/b"),
        ("_design/foo%2Fbar", "_design/foo/bar"),
        ("_design%2Fx", "_design/x"),
        ("_local/l%2Fl", "_local/l/l"),
        ("_local%2Fm", "_local/m"),
        ("constructor", "constructor"),
        ("__proto__x".trim_start_matches('_'), "proto__x"),
        ("a+b", "a+b"),
        ("a%20b%3F%26%25", "a b?&%"),
        ("%C3%A9%F0%9F%9A%80", "é🚀"),
        ("%00%01", "\u{0}\u{1}"),
        ("..", ".."),
        ("%2e%2e%2f", "../"),
    ] {
        let path = format!("/db/{encoded}");
        let written = api.json("PUT", &path, json!({"toString": 1})).await;
        assert_eq!((written.status, &written.json()["id"]), (201, &json!(id)), "{path}");
        let read = api.get(&path).await.json();
        assert_eq!((&read["_id"], &read["toString"]), (&json!(id), &json!(1)));
        if let Some(location) = written.header("location") {
            let path = location.strip_prefix("http://gateway").unwrap();
            assert_eq!(api.get(path).await.json()["_id"], id, "{location}");
        }
    }
}

#[tokio::test]
async fn documents_are_copied() {
    let api = with_database().await;
    let rev = api.put("/db/from", json!({"n": 1})).await;
    let copy = api.ask("COPY", "/db/from", &[("Destination", "to%2Fx")], b"").await;
    assert_eq!((copy.status, &copy.json()["id"]), (201, &json!("to/x")));
    let over = api.ask("COPY", "/db/from", &[("Destination", "to%2Fx")], b"").await;
    over.assert_error("over", 409, "conflict", "");
    let to_rev = copy.json()["rev"].as_str().unwrap().to_owned();
    api.put("/db/from", json!({"n": 2, "_rev": rev})).await;
    let destination = format!("to%2Fx?rev={to_rev}");
    let old = format!("/db/from?rev={rev}");
    assert_eq!(api.ask("COPY", &old, &[("Destination", &destination)], b"").await.status, 201);
    assert_eq!(api.get("/db/to%2Fx").await.json()["n"], 1);
    let far = api.ask("COPY", "/db/from", &[("Destination", "http://x/db/y")], b"").await;
    far.assert_error("far", 400, "bad_request", "relative");
}

#[tokio::test]
async fn local_documents_are_kept_beside() {
    let api = with_database().await;
    let put = api.json("PUT", "/db/_local/x", json!({"last_seq": "5-x", "n": 1})).await;
    assert_eq!((put.status, put.json()["rev"].as_str()), (201, Some("0-1")));
    let read = api.get("/db/_local/x").await.json();
    assert_eq!(read, json!({"_id": "_local/x", "_rev": "0-1", "last_seq": "5-x", "n": 1}));
    let put = api.json("PUT", "/db/_local/x", json!({"_rev": "0-1"})).await;
    assert_eq!(put.json()["rev"], "0-2");
    let stale = api.json("PUT", "/db/_local/x", json!({"_rev": "0-1"})).await;
    stale.assert_error("stale", 409, "conflict", "");
    let list = api.get("/db/_local_docs?include_docs=true").await.json();
    assert_eq!(list["rows"][0]["doc"]["_rev"], "0-2");
    assert_eq!(list["rows"][0]["id"], "_local/x");
    for nothing in ["limit=0", "startkey=%22_local/y%22", "endkey=%22_local/a%22"] {
        let list = api.get(&format!("/db/_local_docs?{nothing}")).await.json();
        assert_eq!(list["rows"], json!([]), "{nothing}");
    }
    let deleted = api.ask("DELETE", "/db/_local/x?rev=0-2", &[], b"").await;
    assert_eq!((deleted.status, deleted.json()["rev"].as_str()), (200, Some("0-0")));
    assert_eq!(api.json("PUT", "/db/_local/x", json!({"_rev": "0-0"})).await.status, 201);
    let reader = ("Authorization", "Bearer reader");
    let put = api.ask("PUT", "/db/_local/checkpoint", &[reader], b"{}").await;
    assert_eq!(put.status, 201, "a reader keeps checkpoints");
}

#[tokio::test]
async fn many_are_written_with_a_row_for_each_refusal() {
    let api = with_database().await;
    let all = [
        json!({"_id": "a"}),
        json!({"n": 1}),
        json!({"_id": "a", "n": 2}),
        json!({"_id": "e", "text": "evil"}),
        json!({"_id": "_local/l"}),
    ];
    let written = api.json("POST", "/db/_bulk_docs", docs(&all)).await;
    assert_eq!(written.status, 201);
    let rows = written.json();
    assert_eq!((&rows[0]["ok"], &rows[0]["id"]), (&json!(true), &json!("a")));
    assert_eq!(rows[1]["id"].as_str().unwrap().len(), 32);
    assert_eq!(
        rows[2],
        json!({"id": "a", "error": "conflict", "reason": "Document update conflict."})
    );
    assert_eq!((&rows[3]["error"], &rows[3]["reason"]), (&json!("forbidden"), &json!("no evil")));
    assert_eq!(rows[4]["rev"], "0-1");
    let replicated = json!({"new_edits": false, "docs": [
        {"_id": "r", "_rev": "3-c2"}, {"_id": "e", "_rev": "1-x", "text": "evil"},
    ]});
    let rows = api.json("POST", "/db/_bulk_docs", replicated).await.json();
    assert_eq!(rows.as_array().unwrap().len(), 1, "{rows}");
    assert_eq!((&rows[0]["id"], &rows[0]["error"]), (&json!("e"), &json!("forbidden")));
    assert_eq!(api.get("/db/r").await.json()["_rev"], "3-c2");
    // What PouchDB makes of a hash that occurs at two generations.
    let two = json!({"_id": "two", "_rev": "2-a", "_revisions": {"start": 1, "ids": ["a"]}});
    let body = json!({"new_edits": false, "docs": [two]});
    assert_eq!(api.json("POST", "/db/_bulk_docs", body).await.json(), json!([]));
    assert_eq!(api.get("/db/two").await.json()["_rev"], "1-a");
    let put = api.json("PUT", "/db/s?new_edits=false", json!({"_rev": "2-fake"})).await;
    assert_eq!((put.status, &put.json()["rev"]), (201, &json!("2-fake")));
    let count = api.get("/db").await.json()["doc_count"].clone();
    for (body, error, reason) in [
        (json!({}), "bad_request", "POST body must include `docs` parameter."),
        (json!({"docs": [{"_id": "y"}, 1]}), "bad_request", "Document must be a JSON object"),
        (json!({"docs": [{"_id": "y"}, {"_id": "_x"}]}), "illegal_docid", "Only reserved"),
        (
            json!({"docs": [{"_id": "y"}, {"_zing": 1}]}),
            "doc_validation",
            "Bad special document member: _zing",
        ),
        (json!({"docs": [{"_id": "y"}], "new_edits": false}), "bad_request", "_rev"),
        (json!({"docs": {}}), "bad_request", "array"),
        (json!([]), "bad_request", "JSON object"),
    ] {
        let answer = api.json("POST", "/db/_bulk_docs", body.clone()).await;
        answer.assert_error(&body.to_string(), 400, error, reason);
    }
    assert_eq!(api.get("/db").await.json()["doc_count"], count, "nothing was written");
}

#[tokio::test]
async fn many_are_read_by_revision() {
    let api = with_database().await;
    branched(&api).await;
    let asked = json!({"docs": [
        {"id": "doc"}, {"id": "doc", "rev": "1-a"}, {"id": "none"}, {"id": "none", "rev": "1-x"},
        {"id": "_bad"}, {"id": "doc", "rev": "bad"},
    ]});
    let found = api.json("POST", "/db/_bulk_get?revs=true", asked.clone()).await.json();
    let results = found["results"].as_array().unwrap();
    let leaves: Vec<&Value> =
        results[0]["docs"].as_array().unwrap().iter().map(|one| &one["ok"]["_rev"]).collect();
    assert_eq!(leaves, ["2-c", "2-b", "3-e"]);
    assert_eq!(results[1]["docs"][0]["ok"]["_revisions"], json!({"start": 1, "ids": ["a"]}));
    assert_eq!(results[2]["docs"][0]["error"]["error"], "not_found");
    assert_eq!(
        results[3]["docs"][0]["error"],
        json!({"id": "none", "rev": "1-x", "error": "not_found", "reason": "missing"})
    );
    assert_eq!(results[4]["docs"][0]["error"]["error"], "illegal_docid");
    assert_eq!(results[5]["docs"][0]["error"]["reason"], "Invalid rev format");
    let latest = api.json("POST", "/db/_bulk_get?latest=true", asked).await.json();
    assert_eq!(latest["results"][1]["docs"].as_array().unwrap().len(), 3);
    assert!(latest["results"][1]["docs"][0]["ok"].get("_revisions").is_none());
    let none = api.json("POST", "/db/_bulk_get", json!({})).await;
    none.assert_error("none", 400, "bad_request", "Missing JSON list of 'docs'.");
}

#[tokio::test]
async fn as_many_are_read_as_are_asked_for_each_in_its_place() {
    let api = with_database().await;
    // Together more than is read at a time, by number and by bytes.
    let fill = "x".repeat(5_000);
    let stored: Vec<Value> =
        (0..200).map(|n| json!({"_id": format!("d{n}"), "fill": fill})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&stored)).await;
    let id = |n: usize| match n % 5 {
        0 => format!("missing{n}"),
        1 => format!("_illegal{n}"),
        _ => format!("d{}", n % 200),
    };
    let asked: Vec<Value> = (0..300).map(|n| json!({"id": id(n)})).collect();
    let found = api.json("POST", "/db/_bulk_get", docs(&asked)).await.json();
    let results = found["results"].as_array().unwrap();
    assert_eq!(results.len(), 300);
    for (n, result) in results.iter().enumerate() {
        assert_eq!(result["id"], id(n));
        let one = &result["docs"][0];
        match n % 5 {
            0 => assert_eq!(one["error"]["error"], "not_found"),
            1 => assert_eq!(one["error"]["error"], "illegal_docid"),
            _ => assert_eq!(one["ok"]["_id"], id(n)),
        }
    }
}

#[tokio::test]
async fn a_replica_learns_what_is_missing() {
    let api = with_database().await;
    branched(&api).await;
    let asked = json!({"doc": ["2-b", "2-z", "1-a"], "new": ["1-x"], "none": []});
    let found = api.json("POST", "/db/_revs_diff", asked.clone()).await.json();
    assert_eq!(found["doc"]["missing"], json!(["2-z"]));
    assert_eq!(found["new"], json!({"missing": ["1-x"]}));
    assert_eq!(found.as_object().unwrap().len(), 2);
    let missing = api.json("POST", "/db/_missing_revs", asked).await.json();
    assert_eq!(missing, json!({"missing_revs": {"doc": ["2-z"], "new": ["1-x"]}}));
    assert_eq!(api.json("POST", "/db/_revs_diff", json!({})).await.json(), json!({}));
}

#[tokio::test]
async fn rows_come_by_range_or_by_key() {
    let api = with_database().await;
    let all: Vec<Value> =
        ["a", "b", "c", "_design/d"].iter().map(|id| json!({"_id": id})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&all)).await;
    let rev = api.get("/db/b").await.json()["_rev"].as_str().unwrap().to_owned();
    api.ask("DELETE", &format!("/db/b?rev={rev}"), &[], b"").await;
    let ids = |answer: http::Answer| -> Vec<String> {
        let rows = answer.json()["rows"].clone();
        rows.as_array().unwrap().iter().map(|row| row["key"].as_str().unwrap().to_owned()).collect()
    };
    for (query, expected) in [
        ("", vec!["_design/d", "a", "c"]),
        ("startkey=%22a%22", vec!["a", "c"]),
        ("end_key=%22a%22", vec!["_design/d", "a"]),
        ("endkey=%22a%22&inclusive_end=false", vec!["_design/d"]),
        ("descending=true&startkey=%22a%22", vec!["a", "_design/d"]),
        ("key=%22b%22", vec![]),
        ("limit=1&skip=1", vec!["a"]),
        ("limit=0", vec![]),
        ("keys=[%22c%22,%22x%22,%22c%22]", vec!["c", "x", "c"]),
    ] {
        let answer = api.get(&format!("/db/_all_docs?{query}")).await;
        assert_eq!(answer.json()["total_rows"], 3, "{query}");
        assert_eq!(ids(answer), expected, "{query}");
    }
    let keys = json!({"keys": ["b", "c", "zz", 5]});
    let rows = api.json("POST", "/db/_all_docs?include_docs=true", keys).await.json();
    assert_eq!(rows["rows"][0]["value"]["deleted"], true);
    assert_eq!(rows["rows"][0]["doc"], Value::Null);
    assert_eq!(rows["rows"][1]["doc"]["_id"], "c");
    assert_eq!(rows["rows"][2], json!({"key": "zz", "error": "not_found"}));
    assert_eq!(rows["rows"][3], json!({"key": 5, "error": "not_found"}));
    assert!(api.get("/db/_all_docs?update_seq=true").await.json()["update_seq"].is_string());
    assert_eq!(ids(api.get("/db/_design_docs").await), ["_design/d"]);
    let descending = "/db/_design_docs?descending=true&startkey=";
    assert_eq!(ids(api.get(&format!("{descending}%22a%22")).await), ["_design/d"]);
    assert_eq!(ids(api.get(&format!("{descending}%22A%22")).await).len(), 0);
    let queries = json!({"queries": [{"keys": ["a"]}, {"limit": 1, "descending": true}]});
    let several = api.json("POST", "/db/_all_docs/queries", queries).await.json();
    assert_eq!(several["results"][0]["rows"][0]["id"], "a");
    assert_eq!(several["results"][1]["rows"][0]["id"], "c");
    for (query, error) in [
        ("limit=-1", "query_parse_error"),
        ("skip=x", "query_parse_error"),
        ("startkey=a", "bad_request"),
        ("keys={}", "bad_request"),
        ("keys=[]&key=%22a%22", "query_parse_error"),
    ] {
        let answer = api.get(&format!("/db/_all_docs?{query}")).await;
        answer.assert_error(query, 400, error, "");
    }
    let keys = api.json("POST", "/db/_all_docs", json!({"keys": "a"})).await;
    keys.assert_error("keys", 400, "bad_request", "`keys` body member must be an array.");
    let plain = api.ask("POST", "/db/_all_docs", &[("Content-Type", "text/plain")], b"{}").await;
    plain.assert_error("plain", 415, "bad_content_type", "application/json");
    assert_eq!(api.ask("POST", "/db/_all_docs", &[JSON], b"").await.status, 200);
}
