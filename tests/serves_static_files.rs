//! Static files beside databases: what is a page's, and what is the API's.
#![cfg(feature = "server")]

#[path = "support/http.rs"]
mod http;
#[path = "support/raw.rs"]
mod raw;

use std::fs::{create_dir, write};

use http::{Api, token_gateway};
use serde_json::json;
use settee::Store;
use tempfile::tempdir;

#[tokio::test]
async fn a_file_wins_over_a_database_of_its_name_where_it_is_read() {
    let dir = tempdir().unwrap();
    let files = dir.path();
    write(files.join("todos"), "a file").unwrap();
    create_dir(files.join("lists")).unwrap();
    write(files.join("lists/index.html"), "a page").unwrap();
    create_dir(files.join("bare")).unwrap();
    write(files.join("bare/doc"), "a document's namesake").unwrap();
    let api = Api::served(token_gateway(Store::memory()).static_dir(files));
    for name in ["todos", "lists", "bare"] {
        api.database(name).await;
        api.put(&format!("/{name}/doc"), json!({"of": name})).await;
    }
    for (path, content) in [
        ("/todos", "a file"),
        ("/lists", "a page"),
        ("/lists/", "a page"),
        ("/bare/doc", "a document's namesake"),
    ] {
        let read = api.get(path).await;
        assert_eq!((read.status, read.text()), (200, content), "{path}");
        let head = api.ask("HEAD", path, &[], b"").await;
        assert_eq!(head.header("content-length"), Some(&*content.len().to_string()), "{path}");
    }
    // A directory that has no page of its own stands for nothing.
    assert_eq!(api.get("/bare").await.json()["db_name"], "bare");
    for name in ["todos", "lists"] {
        assert_eq!(api.get(&format!("/{name}/doc")).await.json()["of"], name);
        let found = api.json("POST", &format!("/{name}/_all_docs"), json!({})).await.json();
        assert_eq!(found["total_rows"], 1, "{name}");
    }
    // Whatever writes is the database's.
    let path = "/todos";
    api.ask("PUT", path, &[], b"").await.assert_error(path, 412, "file_exists", "already exists");
    assert_eq!(api.json("POST", path, json!({"_id": "second"})).await.status, 201);
    assert_eq!(api.ask("DELETE", path, &[], b"").await.status, 200);
    assert_eq!(api.get("/todos/doc").await.status, 404);
    assert_eq!(api.get(path).await.text(), "a file");
}

#[tokio::test]
async fn a_file_without_credentials_is_everybodys_and_its_database_is_not() {
    let dir = tempdir().unwrap();
    write(dir.path().join("todos"), "a file").unwrap();
    let mut api = Api::served(token_gateway(Store::memory()).static_dir(dir.path()));
    api.database("todos").await;
    api.headers.clear();
    assert_eq!(api.get("/todos").await.text(), "a file");
    assert_eq!(api.get("/todos/_all_docs").await.status, 401);
    assert_eq!(api.ask("DELETE", "/todos", &[], b"").await.status, 401);
}

#[tokio::test]
async fn an_address_of_the_api_is_no_files() {
    let dir = tempdir().unwrap();
    write(dir.path().join("_all_dbs"), "a file").unwrap();
    write(dir.path().join("index.html"), "a page").unwrap();
    let api = Api::served(token_gateway(Store::memory()).static_dir(dir.path()));
    assert_eq!(api.get("/_all_dbs").await.json(), json!([]));
    assert_eq!(api.get("/").await.json()["couchdb"], "Welcome");
    assert_eq!(api.ask("GET", "/", &[("Accept", "text/html")], b"").await.text(), "a page");
}
