//! What a channel wrote does not come back to it, and nothing of anybody else's is lost by that.

#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;

use async_trait::async_trait;
use raw::{Raw, Served};
use serde_json::{Value, json};
use settee::doc::Body;
use settee::server::{
    AccessRequest, Denied, Gateway, GatewayBuilder, Grant, Handled, ProposedWrite, WriteHandler,
};
use settee::store::EditMode;
use settee::validate::DbPattern;
use settee::{Database, DbName, Document, Limits, Store};

async fn served() -> (Arc<Served>, Database) {
    let (builder, database) = gateway().await;
    (Served::new(builder), database)
}

async fn gateway() -> (GatewayBuilder, Database) {
    let store = Store::memory();
    let database = store.create(&DbName::parse("tests").unwrap()).await.unwrap();
    let allow = |request: AccessRequest| async move { Ok(Grant::database(request.database)) };
    (Gateway::builder(store).authorizer(allow), database)
}

/// Writes another body into the document `changed`.
struct Changes;

#[async_trait]
impl WriteHandler for Changes {
    async fn on_create(&self, write: &ProposedWrite<'_>) -> Result<Handled, Denied> {
        let body = Body::from_value(&json!({"changed": true})).expect("an object");
        let is_changed = write.document.id.as_str() == "changed";
        let handled = Handled::as_it_is();
        Ok(if is_changed { handled.with_body(body) } else { handled })
    }
}

async fn write(raw: &mut Raw, rev: &str) {
    let doc = json!({"_id": "doc", "_rev": rev});
    let reply = raw.ask(json!(["call", 1, 1, "put", {"doc": doc, "new_edits": false}])).await;
    assert_eq!(reply[0], "reply", "{reply}");
}

async fn somebody_else_writes(database: &Database, id: &str, rev: &str) {
    let text = json!({"_id": id, "_rev": rev}).to_string();
    let document = Document::parse(&text, &Limits::default()).unwrap();
    database.bulk_docs(vec![document], EditMode::Replicated).await.unwrap();
}

/// Ids and leaves of all rows of a feed that ends.
async fn rows(raw: &mut Raw, params: Value) -> Vec<String> {
    raw.text(&json!(["call", 1, 2, "changes", params]).to_string()).await;
    let mut told = Vec::new();
    loop {
        let message = raw.json().await;
        if message[0] == "end" {
            return told;
        }
        for row in message[3].as_array().expect("rows") {
            let revs = row["changes"].as_array().expect("changes").iter();
            let revs: Vec<&str> = revs.map(|c| c["rev"].as_str().expect("a rev")).collect();
            told.push(format!("{} {}", row["id"].as_str().expect("an id"), revs.join(" ")));
        }
    }
}

#[tokio::test]
async fn a_leaf_of_somebody_elses_always_arrives() {
    let (served, database) = served().await;
    let mut raw = served.channel(json!({"database": "tests"})).await;
    write(&mut raw, "1-b").await;
    let pull = json!({"docs": true, "style": "all_docs"});
    assert_eq!(rows(&mut raw, pull.clone()).await, [""; 0]);
    assert_eq!(
        rows(&mut raw, json!({"docs": true, "style": "all_docs", "echo": true})).await,
        ["doc 1-b"]
    );
    somebody_else_writes(&database, "doc", "1-a").await;
    assert_eq!(rows(&mut raw, pull).await, ["doc 1-b 1-a"]);
}

#[tokio::test]
async fn an_edit_comes_back_if_a_handler_has_changed_it() {
    let (builder, _) = gateway().await;
    let all: DbPattern = "*".parse().unwrap();
    let served = Served::new(builder.write_handler(all, Changes));
    let mut raw = served.channel(json!({"database": "tests"})).await;
    let mut revs = Vec::new();
    for id in ["kept", "changed"] {
        let put = json!(["call", 1, 1, "put", {"doc": {"_id": id, "n": 1}}]);
        let reply = raw.ask(put).await;
        revs.push(reply[3]["rev"].as_str().expect("a rev").to_owned());
    }
    let told = rows(&mut raw, json!({"docs": true, "style": "all_docs"})).await;
    assert_eq!(told, [format!("changed {}", revs[1])]);
}

/// Symptom: a plain reader of changes did not see documents that its own channel had written, and
/// with `main_only` not the conflicts that others made. Cause: rows were left out whatever was asked
/// for. Repair: only a reader of every leaf with its document does without its own.
#[tokio::test]
async fn a_plain_feed_tells_everything() {
    let (served, database) = served().await;
    let mut raw = served.channel(json!({"database": "tests"})).await;
    write(&mut raw, "1-b").await;
    somebody_else_writes(&database, "doc", "1-a").await;
    for params in [json!({}), json!({"docs": true}), json!({"include_docs": true})] {
        assert_eq!(rows(&mut raw, params.clone()).await, ["doc 1-b"], "{params}");
    }
    assert_eq!(rows(&mut raw, json!({"style": "all_docs"})).await, ["doc 1-b 1-a"]);
}

/// A client that has everything is told the places of its own writes in few messages.
#[tokio::test(start_paused = true)]
async fn places_of_own_writes_are_told_together() {
    let (served, _database) = served().await;
    let mut raw = served.channel(json!({"database": "tests"})).await;
    let live = json!({"docs": true, "style": "all_docs", "live": true});
    let first = raw.ask(json!(["call", 1, 9, "changes", live])).await;
    assert_eq!((&first[0], &first[4]["pending"]), (&json!("rows"), &json!(0)));
    for n in 1..=20 {
        write(&mut raw, &format!("1-{n:02}")).await;
    }
    let note = raw.json().await;
    assert_eq!((&note[0], &note[3]), (&json!("rows"), &json!([])));
    let seq = note[4]["last_seq"].as_str().expect("a place");
    assert!(seq.starts_with("20-"), "{seq}");
}
