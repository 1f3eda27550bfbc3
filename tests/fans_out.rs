//! Many live feeds of one database share what is read for one of them, and each gets what it would
//! have read by itself.

#[path = "support/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::sync::Arc;

use raw::{Raw, Served};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Gateway, Grant};
use settee::{Database, DbName, Document, Rev, Store};

const CALL: u64 = 9;

async fn served() -> (Arc<Served>, Database) {
    let store = Store::memory();
    let database = store.create(&DbName::parse("tests").unwrap()).await.unwrap();
    let allow = |request: AccessRequest| async move { Ok(Grant::database(request.database)) };
    (Served::new(Gateway::builder(store).authorizer(allow)), database)
}

/// A live feed, and what it has told.
struct Subscriber {
    raw: Raw,
    /// Document to its newest row.
    rows: BTreeMap<String, Value>,
    reached: u64,
}

fn number(seq: &Value) -> u64 {
    seq.as_str().expect("a seq").split('-').next().unwrap().parse().expect("a number")
}

impl Subscriber {
    /// Follows a feed and has read it to its end.
    async fn new(served: &Arc<Served>, mut params: Value) -> Self {
        let raw = served.channel(json!({"database": "tests"})).await;
        params["live"] = true.into();
        let mut subscriber = Self { raw, rows: BTreeMap::new(), reached: 0 };
        let call = json!(["call", 1, CALL, "changes", params]).to_string();
        subscriber.raw.text(&call).await;
        while subscriber.take().await > 0 {}
        subscriber
    }

    async fn more(&mut self, credit: u32) {
        self.raw.text(&json!(["more", 1, CALL, credit]).to_string()).await;
    }

    /// Takes one message; answers what follows.
    async fn take(&mut self) -> u64 {
        let message = self.raw.json().await;
        assert_eq!((&message[0], &message[2]), (&json!("rows"), &json!(CALL)), "{message}");
        for row in message[3].as_array().expect("rows") {
            let seq = number(&row["seq"]);
            assert!(seq > self.reached, "rows come in the order of their seqs: {row}");
            self.reached = seq;
            self.rows.insert(row["id"].as_str().expect("an id").to_owned(), row.clone());
        }
        self.reached = self.reached.max(number(&message[4]["last_seq"]));
        message[4]["pending"].as_u64().expect("a number")
    }

    async fn reach(&mut self, seq: u64) {
        while self.reached < seq {
            self.take().await;
            self.more(1).await;
        }
    }
}

async fn put(database: &Database, id: &str, rev: Option<Rev>, n: u64) -> Rev {
    let document = Document { rev, ..Document::new(id, &json!({ "n": n })).unwrap() };
    database.put(document).await.unwrap().rev
}

async fn update_seq(database: &Database) -> u64 {
    database.info().await.unwrap().update_seq.number
}

#[tokio::test]
async fn every_subscriber_ends_with_what_the_database_has() {
    let (served, database) = served().await;
    put(&database, "before", None, 0).await;
    let mut subscribers = Vec::new();
    for n in 0..48 {
        let params = match n % 3 {
            0 => json!({"docs": true, "style": "all_docs"}),
            1 => json!({"include_docs": true}),
            _ => json!({}),
        };
        subscribers.push((n % 3, Subscriber::new(&served, params).await));
    }
    let writes = async {
        let mut revs: BTreeMap<String, Rev> = BTreeMap::new();
        for n in 0..200 {
            let id = format!("doc-{}", n % 23);
            let rev = put(&database, &id, revs.get(&id).cloned(), n).await;
            revs.insert(id, rev);
            tokio::task::yield_now().await;
        }
        update_seq(&database).await
    };
    let (last, ()) = tokio::join!(writes, async {
        for (_, subscriber) in &mut subscribers {
            // Some are ahead of others while the writes go on.
            subscriber.reach(20).await;
        }
    });
    for (kind, subscriber) in &mut subscribers {
        subscriber.reach(last).await;
        assert_eq!(subscriber.rows.len(), 24);
        for (id, row) in subscriber.rows.iter().filter(|(id, _)| *id != "before") {
            let doc_id = settee::DocId::parse(id, 512).unwrap();
            let document = database.get(&doc_id, &Default::default()).await.unwrap();
            let document: Value = serde_json::from_str(&document.to_json()).unwrap();
            assert_eq!(row["changes"], json!([{"rev": document["_rev"]}]), "{id}");
            let told = [&row["docs"][0]["n"], &row["doc"]["n"], &Value::Null][*kind];
            let expected = if *kind == 2 { &Value::Null } else { &document["n"] };
            assert_eq!(told, expected, "{id}");
        }
    }
}

#[tokio::test]
async fn own_writes_are_left_out_for_their_writer_only() {
    let (served, database) = served().await;
    let pull = json!({"docs": true, "style": "all_docs"});
    let mut writer = Subscriber::new(&served, pull.clone()).await;
    let mut reader = Subscriber::new(&served, pull).await;
    for id in ["own-1", "own-2"] {
        let doc = json!({"_id": id, "_rev": "1-a"});
        let reply = writer.raw.ask(json!(["call", 1, 1, "put", {"doc": doc, "new_edits": false}]));
        assert_eq!(reply.await[0], "reply");
    }
    put(&database, "other", None, 1).await;
    let last = update_seq(&database).await;
    reader.reach(last).await;
    writer.reach(last).await;
    assert_eq!(reader.rows.keys().collect::<Vec<_>>(), ["other", "own-1", "own-2"]);
    assert_eq!(writer.rows.keys().collect::<Vec<_>>(), ["other"]);
}

#[tokio::test]
async fn a_slow_subscriber_costs_only_itself() {
    let (served, database) = served().await;
    let mut slow = Subscriber::new(&served, json!({"docs": true, "credit": 1})).await;
    let mut quick = Subscriber::new(&served, json!({"docs": true})).await;
    for n in 0..300 {
        put(&database, &format!("doc-{n:03}"), None, n).await;
        quick.reach(n + 1).await;
    }
    assert_eq!((quick.rows.len(), slow.rows.len()), (300, 0));
    slow.more(1).await;
    slow.reach(300).await;
    assert_eq!(slow.rows, quick.rows);
}

#[tokio::test]
async fn what_was_purged_is_not_shown_to_a_subscriber_that_comes_later() {
    let (served, database) = served().await;
    let mut slow = Subscriber::new(&served, json!({"docs": true, "credit": 1})).await;
    let mut quick = Subscriber::new(&served, json!({"docs": true})).await;
    let secret = put(&database, "secret", None, 1).await;
    quick.reach(1).await;
    assert_eq!(quick.rows.len(), 1);
    let id = settee::DocId::parse("secret", 512).unwrap();
    database.purge(&[(id, vec![secret])]).await.unwrap();
    put(&database, "plain", None, 2).await;
    slow.more(1).await;
    slow.reach(update_seq(&database).await).await;
    assert_eq!(slow.rows.keys().collect::<Vec<_>>(), ["plain"]);
}
