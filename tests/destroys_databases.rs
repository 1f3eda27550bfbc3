//! A client destroys a database, and what it was told is true.
#![cfg(all(feature = "server", feature = "sled"))]

#[path = "support/raw.rs"]
mod raw;

use raw::Served;
use serde_json::json;
use settee::Store;
use settee::server::{AccessRequest, Denied, Gateway, Grant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_hears_that_a_database_is_destroyed_finds_it_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open(directory.path()).expect("a store");
    let builder = Gateway::builder(store).authorizer(|request: AccessRequest| async move {
        Ok::<_, Denied>(Grant::database(request.database).creating().destroying())
    });
    let served = Served::new(builder);
    for _ in 0..50 {
        let mut raw = served.channel(json!({"database": "todos", "create": true})).await;
        raw.text(r#"["call",1,1,"put",{"doc":{"_id":"a"}}]"#).await;
        assert_eq!(raw.json().await[0], "reply");
        raw.text(r#"["call",1,2,"destroy"]"#).await;
        // The answer or the end of the channel, whichever comes first.
        let first = raw.json().await;
        assert!(first[0] == "reply" || first[0] == "closed", "{first}");
        let mut other = served.socket().await;
        other.text(&json!(["open", 1, {"database": "todos"}]).to_string()).await;
        let answer = other.json().await;
        assert_eq!((&answer[0], &answer[2]["status"]), (&json!("refused"), &json!(404)));
    }
}
