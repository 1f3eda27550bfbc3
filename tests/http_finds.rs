//! CouchDB's queries over HTTP: `_find`, `_explain` and `_index`, their answers and refusals.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use http::{Api, JSON, docs};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Gateway, Grant};
use settee::{Store, doc::Selector};

const NO_INDEX: &str = "No matching index found, create an index to optimize query time.";

async fn games() -> Api {
    let api = Api::new();
    api.database("db").await;
    let games = [
        json!({"_id": "mario", "series": "mario", "debut": 1981, "at": {"home": "n64"}}),
        json!({"_id": "luigi", "series": "mario", "debut": 1983}),
        json!({"_id": "link", "series": "zelda", "debut": 1986}),
        json!({"_id": "samus", "series": "metroid", "debut": 1986}),
    ];
    api.json("POST", "/db/_bulk_docs", docs(&games)).await;
    api
}

async fn make_index(api: &Api, ddoc: &str, fields: Value) -> Value {
    let body = json!({"index": {"fields": fields}, "ddoc": ddoc, "name": "n"});
    let made = api.json("POST", "/db/_index", body).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()
}

async fn find(api: &Api, query: Value) -> Value {
    let found = api.json("POST", "/db/_find", query).await;
    assert_eq!(found.status, 200, "{}", found.text());
    found.json()
}

fn ids(found: &Value) -> Vec<&str> {
    let docs = found["docs"].as_array().expect("a list of documents");
    docs.iter().map(|document| document["_id"].as_str().expect("an id")).collect()
}

#[tokio::test]
async fn what_matches_is_found() {
    let api = games().await;
    make_index(&api, "debut", json!(["debut"])).await;
    for (query, found) in [
        (json!({"selector": {"debut": {"$gt": 1981}}}), &["luigi", "link", "samus"][..]),
        (
            json!({"selector": {"debut": {"$gt": 1981}}, "sort": [{"debut": "desc"}]}),
            &["samus", "link", "luigi"],
        ),
        (json!({"selector": {}, "sort": ["debut"], "limit": 1}), &["mario"]),
        (json!({"selector": {}, "sort": ["debut"], "skip": 3}), &["samus"]),
        (json!({"selector": {"series": "mario"}}), &["luigi", "mario"]),
        (json!({"selector": {"at.home": "n64"}}), &["mario"]),
        (json!({"selector": {"_id": {"$gte": "m"}}}), &["mario", "samus"]),
        (
            json!({"selector": {"_id": {"$gt": null}}, "sort": ["_id"]}),
            &["link", "luigi", "mario", "samus"],
        ),
        (json!({"selector": {"_id": {"$lt": null}}}), &[]),
        (json!({"selector": {"_id": {"$lte": {}}}}), &[]),
        (json!({"selector": {"_id": {"$gt": {}}}, "limit": 1}), &["link"]),
        (json!({"selector": {"$or": []}}), &[]),
        (json!({"selector": {"debut": 1986, "$or": []}}), &["link", "samus"]),
        (json!({"selector": {"debut": 1986}, "limit": 0}), &[]),
        (json!({"selector": {"debut": 1986}, "use_index": "debut"}), &["link", "samus"]),
        (
            json!({"selector": {"debut": 1986}, "use_index": ["_design/debut", "n"]}),
            &["link", "samus"],
        ),
        (json!({"selector": {"debut": 1986}, "stale": "ok"}), &["link", "samus"]),
        (
            json!({"selector": {"debut": 1986}, "update": false, "stable": true, "r": 2}),
            &["link", "samus"],
        ),
    ] {
        assert_eq!(ids(&find(&api, query.clone()).await), found, "{query}");
    }
}

#[tokio::test]
async fn an_answer_has_the_parts_that_couchdb_sends() {
    let api = games().await;
    let found = find(&api, json!({"selector": {"series": "zelda"}, "execution_stats": true})).await;
    assert_eq!(found["warning"], NO_INDEX);
    assert_eq!(found["docs"][0]["series"], "zelda");
    assert!(found["docs"][0]["_rev"].is_string());
    let stats = &found["execution_stats"];
    assert_eq!(stats["total_docs_examined"], 4);
    assert_eq!(stats["total_keys_examined"], 4);
    assert_eq!(stats["total_quorum_docs_examined"], 0);
    assert_eq!(stats["results_returned"], 1);
    assert!(stats["execution_time_ms"].is_number());

    make_index(&api, "debut", json!(["debut"])).await;
    let found =
        find(&api, json!({"selector": {"debut": 1986}, "fields": ["_id", "at.home", "debut"]}))
            .await;
    assert_eq!(
        found["docs"],
        json!([{"_id": "link", "debut": 1986}, {"_id": "samus", "debut": 1986}])
    );
    assert_eq!(found.get("warning"), None);
    assert_eq!(found.get("execution_stats"), None);

    let many: Vec<Value> = (0..30).map(|n| json!({"_id": format!("x{n}"), "debut": 1})).collect();
    api.json("POST", "/db/_bulk_docs", docs(&many)).await;
    let found = find(&api, json!({"selector": {"debut": 1, "_id": "x7"}})).await;
    let warning = found["warning"].as_str().expect("much was looked at");
    assert!(warning.starts_with("The number of documents examined is high"), "{warning}");
    assert_eq!(
        find(&api, json!({"selector": {"debut": 1}})).await["docs"].as_array().unwrap().len(),
        25
    );
}

#[tokio::test]
async fn bookmarks_lead_through_all_documents() {
    let api = games().await;
    make_index(&api, "debut", json!(["debut"])).await;
    for selector in [json!({"debut": {"$gt": 0}}), json!({"series": {"$gt": null}})] {
        let mut seen = Vec::new();
        let mut bookmark = Value::Null;
        loop {
            let found =
                find(&api, json!({"selector": selector, "limit": 3, "bookmark": bookmark})).await;
            let page = ids(&found);
            if page.is_empty() {
                break;
            }
            seen.extend(page.iter().map(ToString::to_string));
            bookmark = found["bookmark"].clone();
        }
        seen.sort();
        assert_eq!(seen, ["link", "luigi", "mario", "samus"], "{selector}");
    }
}

#[tokio::test]
async fn conflicts_are_shown_on_request() {
    let api = games().await;
    let branch =
        json!({"new_edits": false, "docs": [{"_id": "link", "_rev": "1-0", "series": "x"}]});
    api.json("POST", "/db/_bulk_docs", branch).await;
    let found = find(&api, json!({"selector": {"_id": "link"}, "conflicts": true})).await;
    assert_eq!(found["docs"][0]["_conflicts"], json!(["1-0"]));
    let found = find(&api, json!({"selector": {"_id": "link"}})).await;
    assert_eq!(found["docs"][0].get("_conflicts"), None);
}

#[tokio::test]
async fn indexes_are_made_listed_and_removed() {
    let api = games().await;
    let all_docs = json!({"ddoc": null, "name": "_all_docs", "type": "special", "def": {"fields": [{"_id": "asc"}]}});
    let listed = api.get("/db/_index").await.json();
    assert_eq!(listed, json!({"total_rows": 1, "indexes": [all_docs]}));

    let made = make_index(&api, "one", json!(["debut", {"at.home": "asc"}])).await;
    assert_eq!(made, json!({"result": "created", "id": "_design/one", "name": "n"}));
    assert_eq!(make_index(&api, "one", json!(["debut", "at.home"])).await["result"], "exists");
    let body = json!({"index": {"fields": ["debut"], "partial_filter_selector": {"series": "x"}}});
    let auto = api.json("POST", "/db/_index", body).await.json();
    assert_eq!(auto["id"], format!("_design/{}", auto["name"].as_str().expect("a name")));

    let listed = api.get("/db/_index").await.json();
    assert_eq!(listed["total_rows"], 3);
    let one =
        listed["indexes"].as_array().unwrap().iter().find(|index| index["ddoc"] == "_design/one");
    assert_eq!(
        one,
        Some(&json!({"ddoc": "_design/one", "name": "n", "type": "json", "partitioned": false,
            "def": {"fields": [{"debut": "asc"}, {"at.home": "asc"}]}}))
    );
    let part = api.get("/db/_index?skip=1&limit=1").await.json();
    assert_eq!(part["indexes"].as_array().unwrap().len(), 1);
    let ddoc = api.get("/db/_design/one").await.json();
    assert_eq!(ddoc["language"], "query");
    assert_eq!(ddoc["views"]["n"]["map"]["fields"], json!({"debut": "asc", "at.home": "asc"}));

    for path in [
        "/db/_index/one/json/n",
        "/db/_index/one/json/n",
        "/db/_index/_design/x/json/n",
        "/db/_index/one/text/n",
    ] {
        let removed = api.ask("DELETE", path, &[], b"").await;
        if path == "/db/_index/one/json/n" && removed.status == 200 {
            assert_eq!(removed.json(), json!({"ok": true}));
            api.get("/db/_design/one").await.assert_error(path, 404, "not_found", "deleted");
        } else {
            removed.assert_error(path, 404, "not_found", "missing");
        }
    }
    for path in ["/db/_index/_design%2Ftwo/json/n", "/db/_index/_design/two/json/n"] {
        make_index(&api, "two", json!(["debut"])).await;
        assert_eq!(api.ask("DELETE", path, &[], b"").await.status, 200, "{path}");
    }
    make_index(&api, "two", json!(["debut"])).await;
    let gone = json!({"docids": ["_design/two", auto["id"], "three"]});
    let gone = api.json("POST", "/db/_index/_bulk_delete", gone).await.json();
    assert_eq!(
        gone["success"],
        json!([{"id": "_design/two", "ok": true}, {"id": auto["id"], "ok": true}])
    );
    assert_eq!(gone["fail"], json!([{"id": "_design/three", "error": "not_found"}]));
    assert_eq!(api.get("/db/_index").await.json()["total_rows"], 1);
    assert_eq!(api.json("POST", "/db/_view_cleanup", json!({})).await.status, 202);
}

#[tokio::test]
async fn an_explanation_tells_the_way() {
    let api = games().await;
    make_index(&api, "debut", json!(["debut"])).await;
    make_index(&api, "series", json!(["series"])).await;
    let query = json!({"selector": {"debut": {"$gt": 1981, "$lte": 1990}}, "fields": ["_id", "debut"], "sort": [{"debut": "desc"}]});
    let told = api.json("POST", "/db/_explain", query).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.json();
    assert_eq!(told["dbname"], "db");
    assert_eq!(told["index"]["ddoc"], "_design/debut");
    assert_eq!(
        told["selector"],
        json!({"$and": [{"debut": {"$gt": 1981}}, {"debut": {"$lte": 1990}}]})
    );
    assert_eq!((&told["limit"], &told["skip"]), (&json!(25), &json!(0)));
    assert_eq!(told["fields"], json!(["_id", "debut"]));
    assert_eq!(told["opts"]["sort"], json!({"debut": "desc"}));
    assert_eq!((&told["opts"]["use_index"], &told["opts"]["r"]), (&json!([]), &json!(1)));
    let args = &told["mrargs"];
    assert_eq!(args["start_key"], json!([1990, "<MAX>"]));
    assert_eq!(args["end_key"], json!([1981]));
    assert_eq!(args["direction"], "rev");
    assert_eq!(told["covering"], true);
    let candidates = told["index_candidates"].as_array().expect("a list");
    let reason = |name: &str| {
        let found = candidates
            .iter()
            .find(|one| one["index"]["name"] == name || one["index"]["ddoc"] == name);
        let analysis = &found.expect("it is a candidate")["analysis"];
        (analysis["usable"].clone(), analysis["reasons"][0]["name"].clone())
    };
    assert_eq!(reason("_all_docs"), (json!(false), json!("sort_order_mismatch")));
    assert_eq!(reason("_design/series"), (json!(false), json!("field_mismatch")));
    assert_eq!(
        told["selector_hints"],
        json!([{"type": "json", "indexable_fields": ["debut"], "unindexable_fields": []}])
    );

    let told =
        api.json("POST", "/db/_explain", json!({"selector": {"x": {"$ne": 1}}})).await.json();
    assert_eq!(told["index"]["name"], "_all_docs");
    assert_eq!(told["mrargs"]["end_key"], "<MAX>");
    assert_eq!(told["fields"], json!([]));

    let told = api.json("POST", "/db/_explain", json!({"selector": {}, "sort": ["x"]})).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let told = told.json();
    assert_eq!((&told["index"], told.get("mrargs")), (&Value::Null, None));
    assert_eq!(told["index_candidates"].as_array().map(Vec::len), Some(3));
}

/// Path, body, and the name and reason of the refusal.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("_find", "{}", "missing_required_key", "Missing required key: selector"),
    ("_find", "[]", "bad_request", "Request body must be a JSON object"),
    ("_find", "{", "bad_request", "invalid UTF-8 JSON"),
    (
        "_find",
        r#"{"selector":[]}"#,
        "invalid_selector_json",
        "Selector must be a JSON object, not: []",
    ),
    ("_find", r#"{"selector":{"a":{"$x":1}}}"#, "invalid_operator", "Invalid operator: $x"),
    ("_find", r#"{"selector":{"a":{"$in":1}}}"#, "bad_arg", "Bad argument for operator $in: 1"),
    (
        "_find",
        r#"{"selector":{},"limit":-1}"#,
        "invalid_non_neg_integer",
        "-1 is not an integer greater than or equal to zero",
    ),
    ("_find", r#"{"selector":{},"limit":1.5}"#, "invalid_non_neg_integer", "1.5"),
    ("_find", r#"{"selector":{},"skip":"1"}"#, "invalid_non_neg_integer", "\"1\""),
    (
        "_find",
        r#"{"selector":{},"r":0}"#,
        "invalid_pos_integer",
        "0 is not an integer greater than zero",
    ),
    (
        "_find",
        r#"{"selector":{},"sort":{"a":"asc"}}"#,
        "invalid_sort_json",
        "Sort must be an array of sort specs",
    ),
    ("_find", r#"{"selector":{},"sort":[1]}"#, "invalid_sort_field", "Invalid sort field: 1"),
    ("_find", r#"{"selector":{},"sort":[""]}"#, "invalid_sort_field", "Invalid sort field"),
    ("_find", r#"{"selector":{},"sort":[{"a":"up"}]}"#, "invalid_sort_field", "up"),
    (
        "_find",
        r#"{"selector":{},"sort":["a",{"b":"desc"}]}"#,
        "unsupported_mixed_sort",
        "single direction",
    ),
    (
        "_find",
        r#"{"selector":{},"sort":["a"]}"#,
        "no_usable_index",
        "No index exists for this sort, try indexing by the sort fields.",
    ),
    (
        "_find",
        r#"{"selector":{},"fields":"a"}"#,
        "invalid_fields",
        "Fields must be an array of strings",
    ),
    ("_find", r#"{"selector":{},"fields":[1]}"#, "invalid_field", "Invalid JSON for field spec: 1"),
    ("_find", r#"{"selector":{},"fields":["a..b"]}"#, "invalid_field_name", "a..b"),
    ("_find", r#"{"selector":{},"use_index":1}"#, "invalid_index_name", "Invalid index name: 1"),
    (
        "_find",
        r#"{"selector":{},"use_index":["a","b","c"]}"#,
        "invalid_index_name",
        "Invalid index name",
    ),
    (
        "_find",
        r#"{"selector":{},"use_index":"a","allow_fallback":false}"#,
        "invalid_index",
        "_design/a specified by `use_index` could not be found or it is not suitable.",
    ),
    (
        "_find",
        r#"{"selector":{},"use_index":["a","b"],"allow_fallback":false}"#,
        "invalid_index",
        "_design/a, b specified by",
    ),
    (
        "_find",
        r#"{"selector":{},"allow_fallback":false}"#,
        "invalid_index",
        "You must specify an index with the `use_index` parameter.",
    ),
    ("_find", r#"{"selector":{},"bookmark":1}"#, "invalid_bookmark", "Invalid bookmark value: 1"),
    (
        "_find",
        r#"{"selector":{},"bookmark":"x"}"#,
        "invalid_bookmark",
        "Invalid bookmark value: \"x\"",
    ),
    ("_find", r#"{"selector":{},"conflicts":1}"#, "invalid_boolean", "Invalid boolean value: 1"),
    ("_find", r#"{"selector":{},"update":"lazy"}"#, "invalid_boolean", "lazy"),
    ("_find", r#"{"selector":{},"stale":"maybe"}"#, "invalid_ok_or_false_value", "maybe"),
    ("_find", r#"{"selector":{},"foo":1}"#, "invalid_key", "Invalid key foo for this request."),
    ("_find", r#"{"selector":{},"partition":"p"}"#, "bad_request", "partitions"),
    ("_explain", r#"{"limit":1}"#, "missing_required_key", "selector"),
    ("_index", "{}", "missing_required_key", "Missing required key: index"),
    ("_index", r#"{"index":1}"#, "invalid_index", "JSON indexes must be an object, not: 1"),
    ("_index", r#"{"index":{}}"#, "missing_required_key", "Missing required key: fields"),
    ("_index", r#"{"index":{"fields":"a"}}"#, "invalid_sort_json", "Sort must be an array"),
    (
        "_index",
        r#"{"index":{"fields":["a",{"b":"desc"}]}}"#,
        "unsupported_mixed_sort",
        "single direction",
    ),
    (
        "_index",
        r#"{"index":{"fields":["a"],"x":1}}"#,
        "invalid_key",
        "Invalid key x for this request.",
    ),
    (
        "_index",
        r#"{"index":{"fields":["a"],"partial_filter_selector":1}}"#,
        "invalid_selector_json",
        "not: 1",
    ),
    (
        "_index",
        r#"{"index":{"fields":["a"],"partial_filter_selector":{"a":{"$x":1}}}}"#,
        "invalid_operator",
        "$x",
    ),
    (
        "_index",
        r#"{"index":{"fields":["a"]},"name":""}"#,
        "invalid_empty_string",
        "Index name or ddoc cannot be empty string",
    ),
    ("_index", r#"{"index":{"fields":["a"]},"ddoc":1}"#, "invalid_string", "Invalid string: 1"),
    (
        "_index",
        r#"{"index":{"fields":["a"]},"type":"geo"}"#,
        "invalid_index",
        "Invalid type for index: geo",
    ),
    ("_index", r#"{"index":{"fields":["a"]},"w":0}"#, "invalid_pos_integer", "0"),
    ("_index", r#"{"index":{"fields":["a"]},"foo":1}"#, "invalid_key", "foo"),
    (
        "_index/_bulk_delete",
        r#"{"docids":1}"#,
        "invalid_bulk_docs",
        "Bulk Delete requires an array of non-null docids. Docids: 1",
    ),
    ("_index/_bulk_delete", r#"{"docids":[null]}"#, "invalid_bulk_docs", "null"),
    ("_index/_bulk_delete", "{}", "missing_required_key", "docids"),
];

#[tokio::test]
async fn wrong_queries_are_refused_as_couchdb_does() {
    let api = games().await;
    for &(path, body, error, reason) in REFUSED {
        let answer = api.ask("POST", &format!("/db/{path}"), &[JSON], body.as_bytes()).await;
        answer.assert_error(body, 400, error, reason);
    }
}

#[tokio::test]
async fn what_there_is_none_of_is_told() {
    let api = games().await;
    for kind in ["text", "nouveau"] {
        let body = json!({"index": {"fields": ["a"]}, "type": kind});
        let answer = api.json("POST", "/db/_index", body).await;
        answer.assert_error(kind, 501, "not_implemented", "make one of type json");
    }
    api.put("/db/_design/views", json!({"views": {"v": {"map": "function () {}"}}})).await;
    let body = json!({"index": {"fields": ["a"]}, "ddoc": "views"});
    let answer = api.json("POST", "/db/_index", body).await;
    answer.assert_error(
        "language",
        400,
        "invalid_ddoc_lang",
        "Existing design doc has an invalid language",
    );
    for (path, error) in
        [("limit=0", "limit > 1"), ("limit=x", "limit > 1"), ("skip=-1", "skip > 0")]
    {
        let answer = api.get(&format!("/db/_index?{path}")).await;
        answer.assert_error(path, 400, "invalid_list_index_params", error);
    }
    for (method, path, allowed) in [
        ("GET", "_find", "POST"),
        ("PUT", "_explain", "POST"),
        ("PUT", "_index", "GET,HEAD,POST"),
        ("GET", "_index/_bulk_delete", "POST"),
        ("GET", "_index/d/json/n", "DELETE"),
    ] {
        let answer = api.ask(method, &format!("/db/{path}"), &[], b"").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allowed)),
            "{method} {path}"
        );
    }
    let form = [("Content-Type", "text/plain")];
    let answer = api.ask("POST", "/db/_find", &form, br#"{"selector":{}}"#).await;
    answer.assert_error("form", 415, "bad_content_type", "application/json");
}

/// Shows documents of one owner to whoever names it.
async fn by_owner() -> Api {
    let store = Store::memory();
    let gateway = Gateway::builder(store).authorizer(|request: AccessRequest| async move {
        let grant = Grant::database(request.database.clone());
        Ok(match request.credentials["token"].as_str() {
            Some("secret") | None => grant.creating(),
            Some(owner) => grant.selector(Selector::from_value(&json!({"owner": owner})).unwrap()),
        })
    });
    let api = Api::served(gateway);
    api.database("db").await;
    let all = (0..40).map(|n| json!({"_id": format!("d{n:02}"), "n": n, "owner": if n % 4 == 0 { "anna" } else { "bert" }}));
    let all: Vec<Value> = all.collect();
    api.json("POST", "/db/_bulk_docs", docs(&all)).await;
    make_index(&api, "n", json!(["n"])).await;
    api
}

#[tokio::test]
async fn a_limited_reader_finds_what_its_grant_shows_and_learns_no_more() {
    let mut api = by_owner().await;
    api.headers = vec![("Authorization", "Bearer anna".to_owned())];
    for query in [
        json!({"selector": {"n": {"$gte": 8}}, "sort": ["n"], "execution_stats": true}),
        json!({"selector": {"_id": {"$gte": "d08"}}, "execution_stats": true}),
    ] {
        let found = find(&api, query.clone()).await;
        assert_eq!(
            ids(&found),
            ["d08", "d12", "d16", "d20", "d24", "d28", "d32", "d36"],
            "{query}"
        );
        let stats = &found["execution_stats"];
        assert_eq!(stats["total_docs_examined"], 8, "{query}");
        assert_eq!(stats["total_keys_examined"], 8, "{query}");
    }
    let found = find(&api, json!({"selector": {"owner": "bert"}, "execution_stats": true})).await;
    assert_eq!((ids(&found).len(), &found["warning"]), (0, &json!(NO_INDEX)));
    assert_eq!(found["execution_stats"]["total_docs_examined"], 10);
    assert_eq!(api.get("/db/_index").await.json()["total_rows"], 1);
    let told = api.json("POST", "/db/_explain", json!({"selector": {"n": 1}})).await.json();
    assert_eq!(
        (&told["index"]["name"], &told["index_candidates"]),
        (&json!("_all_docs"), &json!([]))
    );
    let refused = api.json("POST", "/db/_index", json!({"index": {"fields": ["x"]}})).await;
    refused.assert_error("outside", 403, "forbidden", "outside the part");
    let removed = api.ask("DELETE", "/db/_index/n/json/n", &[], b"").await;
    removed.assert_error("hidden", 404, "not_found", "missing");
}
