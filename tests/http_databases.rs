//! Databases and what is for no one database over HTTP, with CouchDB's statuses and words.

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use http::{Api, JSON, docs};
use serde_json::{Value, json};

#[tokio::test]
async fn the_welcome_is_couchdbs_and_names_the_store() {
    let api = Api::new();
    let welcome = api.get("/").await.json();
    assert_eq!(welcome["couchdb"], "Welcome");
    assert_eq!(welcome["vendor"]["name"], "Settee");
    assert_eq!(welcome["uuid"], api.served.gateway.store().uuid().to_string());
    assert_eq!(api.get("/_up").await.json()["status"], "ok");
    assert_eq!(api.ask("HEAD", "/", &[], b"").await.body, b"");
}

#[tokio::test]
async fn a_database_is_made_described_and_destroyed() {
    let api = Api::new();
    for slash in ["", "/"] {
        let path = format!("/todos{slash}");
        api.get(&path).await.assert_error(&path, 404, "not_found", "Database does not exist");
        let made = api.ask("PUT", &format!("{path}?q=1"), &[], b"").await;
        assert_eq!((made.status, made.json()), (201, json!({"ok": true})));
        assert_eq!(made.header("location"), Some("http://gateway/todos"));
        let again = api.ask("PUT", &path, &[], b"").await;
        again.assert_error(&path, 412, "file_exists", "already exists");
        let rev = api.put("/todos/a", json!({"n": 1})).await;
        api.put("/todos/b", json!({})).await;
        api.put("/todos/_design/d", json!({})).await;
        api.put("/todos/_local/l", json!({})).await;
        api.ask("DELETE", &format!("/todos/a?rev={rev}"), &[], b"").await;
        let info = api.get(&path).await.json();
        assert_eq!(info["db_name"], "todos");
        assert_eq!((&info["doc_count"], &info["doc_del_count"]), (&json!(2), &json!(1)));
        assert_eq!(info["compact_running"], false);
        assert!(info["update_seq"].as_str().unwrap().starts_with("4-"), "{info}");
        for member in ["sizes", "purge_seq", "instance_start_time", "props", "cluster"] {
            assert!(info.get(member).is_some(), "{member}");
        }
        let with_rev = api.ask("DELETE", "/todos?rev=1-a", &[], b"").await;
        with_rev.assert_error("rev", 400, "bad_request", "DELETE a document");
        let destroyed = api.ask("DELETE", &path, &[], b"").await;
        assert_eq!((destroyed.status, destroyed.json()), (200, json!({"ok": true})));
        api.ask("DELETE", &path, &[], b"").await.assert_error("gone", 404, "not_found", "");
    }
}

#[tokio::test]
async fn a_name_may_hold_a_slash_and_nothing_odd() {
    let api = Api::new();
    api.database("a%2Fb$()+-_0").await;
    assert_eq!(api.get("/a%2Fb$()+-_0").await.json()["db_name"], "a/b$()+-_0");
    for bad in ["A", "1", "a.b", "a%20b", "%C3%A4", "a%00", "..", "a%2F..%2Fb", "-a"] {
        for method in ["PUT", "GET", "DELETE", "HEAD", "POST"] {
            let answer = api.ask(method, &format!("/{bad}"), &[JSON], b"{}").await;
            assert_eq!(answer.status, 400, "{method} {bad}");
            if method != "HEAD" {
                answer.assert_error(bad, 400, "illegal_database_name", "lowercase");
            }
        }
    }
}

#[tokio::test]
async fn databases_are_listed_and_described_together() {
    let api = Api::new();
    for name in ["a", "b", "c", "d"] {
        api.database(name).await;
    }
    assert_eq!(api.get("/_all_dbs").await.json(), json!(["a", "b", "c", "d"]));
    let some = "/_all_dbs?startkey=%22b%22&limit=2&skip=1";
    assert_eq!(api.get(some).await.json(), json!(["c", "d"]));
    let infos = api.json("POST", "/_dbs_info", json!({"keys": ["b", "zz", "_x"]})).await.json();
    assert_eq!(infos[0]["info"]["db_name"], "b");
    assert_eq!(infos[1], json!({"key": "zz", "error": "not_found"}));
    assert_eq!(infos[2]["error"], "not_found");
    assert_eq!(api.get("/_dbs_info").await.json().as_array().map(Vec::len), Some(4));
}

#[tokio::test]
async fn uuids_are_as_many_as_asked_within_a_bound() {
    let api = Api::new();
    assert_eq!(api.get("/_uuids").await.json()["uuids"].as_array().unwrap().len(), 1);
    let many = api.get("/_uuids?count=1000").await.json();
    let many: std::collections::HashSet<&str> =
        many["uuids"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(many.len(), 1000);
    assert!(many.iter().all(|uuid| uuid.len() == 32));
    api.get("/_uuids?count=1001").await.assert_error("1001", 403, "forbidden", "too large");
    let huge = api.get("/_uuids?count=99999999999999999999").await;
    huge.assert_error("huge", 400, "query_parse_error", "count");
}

#[tokio::test]
async fn what_needs_javascript_or_a_replicator_says_what_to_use_instead() {
    let api = Api::new();
    api.database("db").await;
    let functions = json!({"filters": {"f": "x"}, "views": {"v": {"map": "x"}}});
    api.put("/db/_design/d", functions).await;
    for path in [
        "/db/_design/d/_view/v",
        "/db/_design/d/_show/s/doc",
        "/db/_design/d/_list/l/v",
        "/db/_design/d/_update/u",
        "/db/_design/d/_rewrite/x",
        "/db/_temp_view",
        "/db/_changes?filter=d/f",
        "/db/_changes?filter=_view&view=d/v",
    ] {
        api.get(path).await.assert_error(path, 501, "not_implemented", "JavaScript");
    }
    for (query, reason) in [
        ("filter=x/f", "missing"),
        ("filter=d/x", "missing json key: x"),
        ("filter=_view&view=d/x", "missing json key: x"),
    ] {
        let path = format!("/db/_changes?{query}");
        api.get(&path).await.assert_error(&path, 404, "not_found", reason);
    }
    let replicate = api.json("POST", "/_replicate", json!({})).await;
    replicate.assert_error("_replicate", 400, "bad_request", "`source`");
    for path in ["/_nothing", "/_users", "/_node/_local/_config", "/_utils"] {
        api.get(path).await.assert_error(path, 404, "not_found", "missing");
    }
}

#[tokio::test]
async fn an_address_takes_its_methods_only() {
    let api = Api::new();
    api.database("db").await;
    for (path, allowed) in [
        ("/", "GET,HEAD"),
        ("/_all_dbs", "GET,HEAD"),
        ("/_session", "DELETE,GET,HEAD,POST"),
        ("/db", "DELETE,GET,HEAD,POST,PUT"),
        ("/db/doc", "COPY,DELETE,GET,HEAD,PATCH,PUT"),
        ("/db/doc/att", "DELETE,GET,HEAD,PUT"),
        ("/db/_local/x", "DELETE,GET,HEAD,PUT"),
        ("/db/_bulk_docs", "POST"),
        ("/db/_changes", "GET,HEAD,POST"),
        ("/db/_security", "GET,HEAD,PUT"),
    ] {
        let answer = api.ask("BREW", path, &[], b"").await;
        answer.assert_error(path, 405, "method_not_allowed", allowed);
        assert_eq!(answer.header("allow"), Some(allowed), "{path}");
    }
}

#[tokio::test]
async fn who_administers_sets_who_may_use_a_database() {
    let api = Api::new();
    api.database("db").await;
    let empty = json!({"names": [], "roles": []});
    assert_eq!(api.get("/db/_security").await.json(), json!({"admins": empty, "members": empty}));
    let user = ("Authorization", "Bearer user");
    assert_eq!(api.ask("GET", "/db", &[user], b"").await.status, 200);
    let mut feed =
        api.stream("GET", "/db/_changes?feed=continuous&heartbeat=5", &[user], b"").await;
    assert_eq!(feed.line().await.as_deref(), Some(""), "it runs");
    for (members, may) in [
        (json!({"names": ["someone"], "roles": ["others"]}), false),
        (json!({"names": ["anna"], "roles": []}), true),
        (json!({"names": [], "roles": ["editors"]}), true),
    ] {
        let set = api.json("PUT", "/db/_security", json!({"members": members})).await;
        assert_eq!(set.status, 200, "{}", set.text());
        let answer = api.ask("GET", "/db", &[user], b"").await;
        if may {
            assert_eq!(answer.status, 200, "{members}");
        } else {
            answer.assert_error("members", 403, "forbidden", "not allowed to access");
            while feed.line().await.is_some() {}
        }
        assert_eq!(api.get("/db").await.status, 200, "an admin is not bound by it");
    }
    let body = json!({"admins": {"names": ["anna"], "roles": []}}).to_string();
    let set = api.ask("PUT", "/db/_security", &[user], body.as_bytes()).await;
    set.assert_error("not yet", 403, "forbidden", "not an admin");
    api.json("PUT", "/db/_security", serde_json::from_str(&body).unwrap()).await;
    let set = api.ask("PUT", "/db/_security", &[user, JSON], body.as_bytes()).await;
    assert_eq!(set.status, 200, "anna is its admin");
    for bad in
        [json!([]), json!({"members": 1}), json!({"members": {"names": [1]}}), json!({"x": 1})]
    {
        assert_eq!(api.json("PUT", "/db/_security", bad.clone()).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn revisions_are_bounded_purged_and_compacted() {
    let api = Api::new();
    api.database("db").await;
    assert_eq!(api.get("/db/_revs_limit").await.json(), json!(1000));
    for bad in ["0", "-1", "x", "\"5\"", "1.5", "99999999999"] {
        let set = api.ask("PUT", "/db/_revs_limit", &[JSON], bad.as_bytes()).await;
        set.assert_error(bad, 400, "bad_request", "revs_limit");
    }
    assert_eq!(api.ask("PUT", "/db/_revs_limit", &[JSON], b"2").await.status, 200);
    assert_eq!(api.get("/db/_revs_limit").await.json(), json!(2));
    let first = api.put("/db/a", json!({"n": 1})).await;
    let second = api.put("/db/a", json!({"n": 2, "_rev": first})).await;
    let third = api.put("/db/a", json!({"n": 3, "_rev": second})).await;
    let read = api.get("/db/a?revs=true").await.json();
    assert_eq!(read["_revisions"]["ids"].as_array().unwrap().len(), 2, "{read}");
    assert_eq!(api.get(&format!("/db/a?rev={second}")).await.status, 200);
    api.ask("POST", "/db/_compact", &[], b"").await.assert_error(
        "",
        415,
        "bad_content_type",
        "JSON".to_lowercase().as_str(),
    );
    assert_eq!(api.ask("POST", "/db/_compact", &[JSON], b"").await.status, 202);
    while api.get("/db").await.json()["compact_running"] == true {
        tokio::task::yield_now().await;
    }
    api.get(&format!("/db/a?rev={second}")).await.assert_error("old", 404, "not_found", "missing");
    let info = api.get("/db/a?revs_info=true").await.json();
    let statuses: Vec<&Value> =
        info["_revs_info"].as_array().unwrap().iter().map(|one| &one["status"]).collect();
    assert_eq!(statuses, ["available", "missing"]);
    let purged = api.json("POST", "/db/_purge", json!({"a": [third], "b": ["1-a"]})).await;
    assert_eq!(purged.status, 201);
    assert_eq!(purged.json()["purged"], json!({"a": [third], "b": []}));
    api.get("/db/a").await.assert_error("purged", 404, "not_found", "missing");
    assert_eq!(api.get("/db").await.json()["purge_seq"], 1);
}

#[tokio::test]
async fn what_happens_to_databases_is_told() {
    let api = Api::new();
    api.database("first").await;
    let all = api.get("/_db_updates").await.json();
    assert_eq!(all["results"][0]["db_name"], "first");
    let since = all["last_seq"].as_str().unwrap().to_owned();
    let none = api.get(&format!("/_db_updates?since={since}")).await.json();
    assert_eq!(none["results"], json!([]));
    let path = format!("/_db_updates?feed=continuous&since={since}&heartbeat=10000");
    let mut feed = api.stream("GET", &path, &[], b"").await;
    api.database("second").await;
    let row = feed.row().await.unwrap();
    assert_eq!((&row["db_name"], &row["type"]), (&json!("second"), &json!("created")));
    api.put("/second/doc", json!({})).await;
    assert_eq!(feed.row().await.unwrap()["type"], "updated");
    api.ask("DELETE", "/second", &[], b"").await;
    assert_eq!(feed.row().await.unwrap()["type"], "deleted");
    // Each database once, at its last update, for who comes later; all of them for who comes with
    // a place of another run.
    let later = api.get(&format!("/_db_updates?feed=longpoll&since={since}")).await.json();
    assert_eq!(later["results"].as_array().unwrap().len(), 1, "{later}");
    let strange = api.get("/_db_updates?since=5-0123").await.json();
    let rows = strange["results"].as_array().unwrap();
    assert!(rows.iter().any(|row| row["db_name"] == "first"), "{strange}");
    let waiting = api.get("/_db_updates?feed=longpoll&since=now&timeout=1").await.json();
    assert_eq!(waiting["results"], json!([]));
    for bad in ["since=x", "since=-1", "feed=x", "timeout=x", "heartbeat=0"] {
        assert_eq!(api.get(&format!("/_db_updates?{bad}")).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn views_have_nothing_to_clean_and_every_write_is_on_disk() {
    let api = Api::new();
    api.database("db").await;
    api.json("POST", "/db/_bulk_docs", docs(&[json!({"_id": "a"})])).await;
    for (path, status) in
        [("_view_cleanup", 202), ("_compact/ddoc", 202), ("_ensure_full_commit", 201)]
    {
        let answer = api.json("POST", &format!("/db/{path}"), json!({})).await;
        assert_eq!((answer.status, &answer.json()["ok"]), (status, &json!(true)), "{path}");
    }
}
