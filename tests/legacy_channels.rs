//! The protocol of 2015 beyond its recordings: rights, ends, limits, frames, attachments, and clients
//! of settee.v1 on the same database.

#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::time::Duration;

use legacy::Legacy;
use raw::{LEGACY_HANDSHAKE, Served};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant, ProposedWrite};
use settee::store::MemoryBackend;
use settee::{Client, DbName, DocId, Document, Limits, Selector, Store, SyncOptions};

fn builder(store: &Store) -> GatewayBuilder {
    let authorizer = |request: AccessRequest| async move {
        let grant = Grant::database(request.database).creating().destroying();
        match request.credentials["token"].as_str() {
            Some("secret") => Ok(grant),
            Some("reader") => Ok(grant.read_only()),
            Some("writer") => Ok(grant.write_only()),
            Some("validated") => Ok(grant.validator(notes_only)),
            Some("selected") => Ok(grant.selector(annas())),
            Some("short") => Ok(grant.expires_in(Duration::from_millis(50))),
            Some("anna") => Ok(grant.user("anna")),
            Some("panic") => panic!("an authorizer that panics"),
            Some(_) => Err(Denied::forbidden("go away")),
            None => Err(Denied::new("show a token")),
        }
    };
    Gateway::builder(store.clone()).authorizer(authorizer)
}

fn annas() -> Selector {
    Selector::from_value(&json!({"owner": "anna"})).unwrap()
}

fn notes_only(write: &ProposedWrite<'_>) -> Result<(), Denied> {
    let note = write.document.to::<Value>().is_ok_and(|body| body["type"] == "note");
    if note { Ok(()) } else { Err(Denied::forbidden("only notes")) }
}

fn served(limits: Limits) -> (Arc<Served>, Store) {
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    (Served::new(builder(&store).limits(limits)), store)
}

async fn database(store: &Store, name: &str) -> settee::Database {
    store.open_or_create(&DbName::parse(name).unwrap()).await.unwrap()
}

fn replicated(docs: Value) -> Value {
    json!([{"docs": docs, "new_edits": false}, {"new_edits": false}])
}

fn missing() -> Value {
    json!([{"message": "missing", "status": 404, "name": "not_found", "error": true}, null])
}

#[tokio::test]
async fn a_reader_is_refused_each_document_and_keeps_its_checkpoints() {
    let (served, store) = served(Limits::default());
    let there = database(&store, "todos").await;
    there.put(Document::new("a", &json!({"n": 1})).unwrap()).await.unwrap();
    let mut client = Legacy::connect(&served).await;
    let stream = client.open("n", "todos", json!({"token": "reader"})).await;
    let docs = json!([{"_id": "b", "_rev": "1-b"}, {"_id": "c", "_rev": "1-c"}]);
    let rows = client.result(&stream, "_bulkDocs", replicated(docs)).await;
    for (row, id) in rows.as_array().unwrap().iter().zip(["b", "c"]) {
        assert_eq!((&row["id"], &row["status"]), (&json!(id), &json!(403)), "{row}");
        // The names that make a `denied` event of it.
        assert_eq!((&row["name"], &row["error"]), (&json!("forbidden"), &json!(true)), "{row}");
    }
    let checkpoint = json!([{"docs": [{"_id": "_local/x", "last_seq": 1}]}, {"new_edits": true}]);
    let rows = client.result(&stream, "_bulkDocs", checkpoint).await;
    assert_eq!(rows, json!([{"ok": true, "id": "_local/x", "rev": "0-1"}]));
    let found = client.result(&stream, "get", json!(["a"])).await;
    assert_eq!(found["n"], 1);
    assert_eq!(there.info().await.unwrap().doc_count, 1);
}

#[tokio::test]
async fn a_writer_reads_nothing() {
    let (served, store) = served(Limits::default());
    database(&store, "todos").await.put(Document::new("a", &json!({})).unwrap()).await.unwrap();
    let mut client = Legacy::connect(&served).await;
    let stream = client.open("n", "todos", json!({"token": "writer"})).await;
    for (method, args) in [("get", json!(["a"])), ("allDocs", json!([{"keys": ["a"]}]))] {
        let answer = client.call(&stream, method, args).await;
        assert_eq!(answer[0]["status"], 403, "{method}: {answer}");
    }
    client.result(&stream, "_changes", json!([0, {"since": 0}])).await;
    let (event, payload) = client.event(&stream, 0).await;
    assert_eq!((&*event, &payload["status"]), ("error", &json!(403)));
    let docs = json!([{"_id": "b", "_rev": "1-b"}]);
    assert_eq!(client.result(&stream, "_bulkDocs", replicated(docs)).await, json!([]));
}

#[tokio::test]
async fn a_selector_narrows_feed_reads_trees_and_writes() {
    let (served, store) = served(Limits::default());
    let (mut all, everything) = Legacy::with_channel(&served, "todos").await;
    let docs = json!([
        {"_id": "mine", "_rev": "1-a", "owner": "anna"},
        {"_id": "other", "_rev": "1-a", "owner": "ben"},
        {"_id": "both", "_rev": "2-b", "_revisions": {"start": 2, "ids": ["b", "a"]}, "owner": "anna"},
        {"_id": "both", "_rev": "2-c", "_revisions": {"start": 2, "ids": ["c", "a"]}, "owner": "ben"},
    ]);
    all.result(&everything, "_bulkDocs", replicated(docs)).await;
    let mut client = Legacy::connect(&served).await;
    let stream = client.open("n", "todos", json!({"token": "selected"})).await;
    client.result(&stream, "_changes", json!([0, {"style": "all_docs"}])).await;
    for (id, rev) in [("mine", "1-a"), ("both", "2-b")] {
        let (_, change) = client.event(&stream, 0).await;
        assert_eq!((&change["id"], &change["changes"]), (&json!(id), &json!([{"rev": rev}])));
    }
    assert_eq!(client.event(&stream, 0).await.0, "complete");
    assert_eq!(client.call(&stream, "get", json!(["other"])).await, missing());
    let asked = json!(["both", {"open_revs": ["2-b", "2-c"]}]);
    let read = client.result(&stream, "get", asked).await;
    assert_eq!((&read[0]["ok"]["owner"], &read[1]), (&json!("anna"), &json!({"missing": "2-c"})));
    let rows = client.result(&stream, "allDocs", json!([{"keys": ["other", "mine"]}])).await;
    assert_eq!(rows["rows"][0], json!({"key": "other", "error": "not_found"}));
    assert_eq!(rows["rows"][1]["id"], "mine");
    assert_eq!(client.call(&stream, "_getRevisionTree", json!(["other"])).await, missing());
    let tree = client.result(&stream, "_getRevisionTree", json!(["both"])).await;
    let branch = json!(["b", {"status": "available"}, []]);
    assert_eq!(tree, json!([{"pos": 1, "ids": ["a", {"status": "missing"}, [branch]]}]));
    let docs = json!([{"_id": "new", "_rev": "1-a", "owner": "ben"}]);
    let rows = client.result(&stream, "_bulkDocs", replicated(docs)).await;
    assert_eq!((&rows[0]["id"], &rows[0]["status"]), (&json!("new"), &json!(403)));
    // A checkpoint of the part says nothing about the whole.
    let ids = [
        all.result(&everything, "_id", json!([])).await,
        client.result(&stream, "_id", json!([])).await,
    ];
    assert_ne!(ids[0], ids[1]);
    assert_eq!(database(&store, "todos").await.info().await.unwrap().doc_count, 3);
}

#[tokio::test]
async fn a_validators_words_reach_the_client_with_the_document_refused() {
    let (served, _) = served(Limits::default());
    let mut client = Legacy::connect(&served).await;
    let stream = client.open("n", "todos", json!({"token": "validated"})).await;
    let docs = json!([{"_id": "a", "_rev": "1-a", "type": "note"}, {"_id": "b", "_rev": "1-b"}]);
    let rows = client.result(&stream, "_bulkDocs", replicated(docs)).await;
    assert_eq!(
        rows,
        json!([{"id": "b", "rev": "1-b", "status": 403, "name": "forbidden", "error": true,
            "message": "only notes"}])
    );
}

#[tokio::test]
async fn what_is_wrong_with_one_document_keeps_no_other_from_being_written() {
    let (served, store) = served(Limits { doc_bytes_max: 100, ..Limits::default() });
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    let docs = json!([
        {"_id": "bad-rev", "_rev": "nonsense"},
        {"_id": "_bad-id", "_rev": "1-a"},
        {"_id": "large", "_rev": "1-a", "x": "x".repeat(200)},
        {"_id": "lost", "_rev": "1-a", "_attachments": {"t": {"content_type": "a/b", "data": {}}}},
        {"_id": "good", "_rev": "1-a"},
    ]);
    let rows = client.result(&stream, "_bulkDocs", replicated(docs)).await;
    let rows = rows.as_array().unwrap();
    let ids: Vec<&Value> = rows.iter().map(|row| &row["id"]).collect();
    assert_eq!(ids, ["bad-rev", "_bad-id", "large", "lost"]);
    assert!(rows.iter().all(|row| row["name"] == "forbidden"), "{rows:?}");
    assert!(rows[3]["message"].as_str().unwrap().contains("Buffers"), "{}", rows[3]);
    assert_eq!(database(&store, "todos").await.info().await.unwrap().doc_count, 1);
}

#[tokio::test]
async fn a_call_reaches_no_other_database_and_no_other_method() {
    let (served, store) = served(Limits::default());
    let mut client = Legacy::connect(&served).await;
    let credentials = json!({"token": "secret"});
    let one = client.open("n1", "one", credentials.clone()).await;
    client.open("n2", "two", credentials).await;
    let answer = client.call_as(&one, json!("two"), "_id", json!([])).await;
    assert_eq!(answer[0], json!({"message": "No allowed database named two", "name": "Error"}));
    assert_eq!(client.call_as(&one, json!("one"), "_id", json!([])).await[0], Value::Null);
    for method in ["destroy", "put", "close", "bulkDocs", "constructor", "__proto__", ""] {
        let answer = client.call(&one, method, json!([])).await;
        let message = format!("No method named {method}");
        assert_eq!(answer, json!([{"message": message, "name": "Error"}, null]), "{method}");
    }
    assert!(store.database(&DbName::parse("one").unwrap()).await.is_ok());
}

#[tokio::test]
async fn the_id_is_the_same_for_ever_and_another_for_another_database() {
    let (served, store) = served(Limits::default());
    let mut ids = Vec::new();
    for name in ["todos", "todos", "others"] {
        let (mut client, stream) = Legacy::with_channel(&served, name).await;
        ids.push(client.result(&stream, "_id", json!([])).await);
    }
    store.destroy(&DbName::parse("todos").unwrap()).await.unwrap();
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    ids.push(client.result(&stream, "_id", json!([])).await);
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
    assert_ne!(ids[0], ids[3]);
}

#[tokio::test]
async fn rows_of_conflicted_documents_have_no_document() {
    let (served, _) = served(Limits::default());
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    let docs = json!([
        {"_id": "k", "_rev": "1-a"}, {"_id": "k", "_rev": "1-b"}, {"_id": "one", "_rev": "1-a"},
    ]);
    client.result(&stream, "_bulkDocs", replicated(docs)).await;
    let asked = json!([{"keys": ["k", "one", "none"], "include_docs": true}]);
    let all = client.result(&stream, "allDocs", asked).await;
    let rows = all["rows"].as_array().unwrap();
    assert_eq!(rows[0], json!({"id": "k", "key": "k", "value": {"rev": "1-b"}}));
    assert_eq!(rows[1]["doc"]["_id"], "one");
    assert_eq!(rows[2], json!({"key": "none", "error": "not_found"}));
}

/// A document shown without its attachments would lose them at its next edit.
#[tokio::test]
async fn attachments_are_stored_and_a_revision_that_has_some_is_not_shown() {
    let (served, store) = served(Limits::default());
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    let data: Vec<u8> = (0..=255).cycle().take(150_000).collect();
    let attachment = json!({"content_type": "x/y", "data": {"type": "Buffer", "data": data}});
    let docs = json!([{"_id": "a", "_rev": "1-a", "_attachments": {"p": attachment}}]);
    assert_eq!(client.result(&stream, "_bulkDocs", replicated(docs)).await, json!([]));
    let there = database(&store, "todos").await;
    let id = DocId::parse("a", 10).unwrap();
    let mut reader = there.attachment(&id, "p", None).await.unwrap();
    let mut read = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        read.extend_from_slice(&piece);
    }
    assert_eq!(read, data);
    assert_eq!(client.call(&stream, "get", json!(["a"])).await, missing());
    let asked = json!(["a", {"open_revs": ["1-a"], "revs": true}]);
    assert_eq!(client.result(&stream, "get", asked).await, json!([{"missing": "1-a"}]));
    let tree = client.result(&stream, "_getRevisionTree", json!(["a"])).await;
    assert_eq!(tree, json!([{"pos": 1, "ids": ["a", {"status": "available"}, []]}]));
    // Once an edit has taken them away it is shown.
    let path = json!({"start": 2, "ids": ["b", "a"]});
    let docs = json!([{"_id": "a", "_rev": "2-b", "_revisions": path}]);
    client.result(&stream, "_bulkDocs", replicated(docs)).await;
    assert_eq!(client.result(&stream, "get", json!(["a"])).await["_rev"], "2-b");
}

#[tokio::test]
async fn a_paused_channel_is_told_nothing_and_another_goes_on() {
    let (served, store) = served(Limits::default());
    let mut client = Legacy::connect(&served).await;
    let credentials = json!({"token": "secret"});
    let one = client.open("n1", "one", credentials.clone()).await;
    let two = client.open("n2", "two", credentials).await;
    client.result(&one, "_changes", json!([0, {"since": 0, "live": true}])).await;
    client.record(json!([one, "pause"])).await;
    client.record(json!([one, "data", [7, null, "_id", []]])).await;
    database(&store, "one").await.put(Document::new("a", &json!({})).unwrap()).await.unwrap();
    for _ in 0..50 {
        client.result(&two, "_info", json!([])).await;
    }
    assert!(client.left().is_empty(), "{:?}", client.left());
    client.record(json!([one, "resume"])).await;
    assert_eq!(client.event(&one, 0).await.0, "change");
    client.find("the answer", |r| r[2][0] == 7).await;
}

/// The word to go on is behind calls for which there is no room.
#[tokio::test]
async fn a_pause_does_not_outlast_a_full_backlog() {
    let limits = Limits { doc_bytes_max: 10_000, message_bytes_max: 20_000, ..Limits::default() };
    let (served, _) = served(limits);
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    client.record(json!([stream, "pause"])).await;
    for seq in 0..200 {
        client.record(json!([stream, "data", [seq, null, "_id", []]])).await;
    }
    client.record(json!([stream, "resume"])).await;
    for seq in 0..200 {
        client.find("an answer", |r| r[2][0] == seq).await;
    }
}

#[tokio::test]
async fn answers_come_in_order_and_a_feed_shows_what_was_written_before() {
    let (served, _) = served(Limits::default());
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    let write = |id: &str, seq: u64| {
        let args = replicated(json!([{"_id": id, "_rev": "1-a"}]));
        json!([stream, "data", [seq, null, "_bulkDocs", args]])
    };
    let calls = [
        write("a", 0),
        json!([stream, "data", [1, null, "_changes", [0, {"since": 0}]]]),
        write("b", 2),
        json!([stream, "data", [3, null, "_info", []]]),
    ];
    let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
    client.raw.text(&lines).await;
    for seq in 0..4 {
        let came = client.find("an answer", |r| r[2][0].is_u64()).await;
        assert_eq!(came[2][0], seq);
    }
    let (event, change) = client.event(&stream, 0).await;
    assert_eq!((&*event, &change["id"]), ("change", &json!("a")));
    assert_eq!(client.event(&stream, 0).await.0, "complete");
}

#[tokio::test]
async fn a_live_feed_goes_on_from_a_seq_and_has_no_end() {
    let (served, store) = served(Limits::default());
    let there = database(&store, "todos").await;
    for n in 0..5 {
        there.put(Document::new(&format!("d{n}"), &json!({})).unwrap()).await.unwrap();
    }
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    client.result(&stream, "_changes", json!([0, {"since": 0, "limit": 2}])).await;
    let mut last = Value::Null;
    for id in ["d0", "d1"] {
        let (_, change) = client.event(&stream, 0).await;
        assert_eq!(change["id"], id);
        last = change["seq"].clone();
    }
    let (event, complete) = client.event(&stream, 0).await;
    assert_eq!((&*event, &complete["last_seq"]), ("complete", &last));
    let live = json!([1, {"since": last, "limit": 2, "live": true, "continuous": true}]);
    client.result(&stream, "_changes", live).await;
    for id in ["d2", "d3", "d4"] {
        assert_eq!(client.event(&stream, 1).await.1["id"], id);
    }
    there.put(Document::new("later", &json!({})).unwrap()).await.unwrap();
    assert_eq!(client.event(&stream, 1).await.1["id"], "later");
    assert!(client.left().is_empty());
}

/// The client notices nothing less than the end of its socket.
#[tokio::test]
async fn whatever_ends_a_channel_ends_its_socket() {
    let (served, store) = served(Limits::default());
    let mut client = Legacy::connect(&served).await;
    client.open("n", "todos", json!({"token": "short"})).await;
    assert_eq!(client.raw.closed().await.0, 1008);

    let mut client = Legacy::connect(&served).await;
    client.open("n", "todos", json!({"token": "anna"})).await;
    assert_eq!(served.gateway.revoke("logged out", |user, _| user == Some("anna")), 1);
    let (code, reason) = client.raw.closed().await;
    assert_eq!(code, 1008);
    assert!(reason.contains("logged out"), "{reason}");

    let (mut client, _) = Legacy::with_channel(&served, "todos").await;
    store.destroy(&DbName::parse("todos").unwrap()).await.unwrap();
    assert_eq!(client.raw.closed().await.0, 1008);
}

#[tokio::test]
async fn refusals_tell_why_and_leave_the_socket_open() {
    let (served, _) = served(Limits { channels_per_connection_max: 2, ..Limits::default() });
    let mut client = Legacy::connect(&served).await;
    let check = |answer: Value, status: u16, part: &str| {
        assert_eq!(answer[0]["status"], status, "{answer}");
        assert!(answer[0]["message"].as_str().unwrap().contains(part), "{answer}");
    };
    check(client.ask("1", json!({"database": "a"})).await, 401, "show a token");
    let wrong = json!({"database": "a", "credentials": {"token": "x"}});
    check(client.ask("2", wrong).await, 403, "go away");
    let name = json!({"database": "Not_A_Name", "credentials": {"token": "secret"}});
    check(client.ask("3", name).await, 400, "Name");
    let panics = json!({"database": "a", "credentials": {"token": "panic"}});
    check(client.ask("4", panics).await, 500, "internal error");
    let stream = client.open("5", "a", json!({"token": "secret"})).await;
    client.open("6", "a", json!({"token": "secret"})).await;
    let more = json!({"database": "a", "credentials": {"token": "secret"}});
    check(client.ask("7", more).await, 429, "2 channels");
    client.assert_alive(&stream, "after refusals").await;
}

#[tokio::test]
async fn a_closed_channel_is_forgotten_and_its_place_is_free() {
    let (served, _) = served(Limits { channels_per_connection_max: 1, ..Limits::default() });
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    client.result(&stream, "_changes", json!([0, {"since": 0, "live": true}])).await;
    client.record(json!([stream, "end"])).await;
    for end in ["end", "close"] {
        client.find(end, |r| *r == json!([stream, end])).await;
    }
    client.record(json!([stream, "close"])).await;
    client.record(json!([stream, "data", [1, null, "_id", []]])).await;
    let again = client.open("m", "todos", json!({"token": "secret"})).await;
    client.assert_alive(&again, "the second channel").await;
    assert!(client.left().is_empty(), "{:?}", client.left());
    assert_eq!(served.gateway.counts(), (1, 1));
}

#[tokio::test]
async fn feeds_are_bounded() {
    let (served, _) = served(Limits { calls_per_connection_max: 3, ..Limits::default() });
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    for listener in 0..4 {
        client.result(&stream, "_changes", json!([listener, {"live": true}])).await;
    }
    let (event, payload) = client.event(&stream, 3).await;
    assert_eq!((&*event, &payload["status"]), ("error", &json!(429)));
    client.assert_alive(&stream, "after too many feeds").await;
}

#[tokio::test(start_paused = true)]
async fn a_socket_on_which_nothing_is_opened_is_closed() {
    let (served, _) = served(Limits::default());
    let mut client = Legacy::connect(&served).await;
    client.ask("n", json!({"database": "a"})).await;
    assert_eq!(client.raw.closed().await.0, 1008);
}

#[tokio::test]
async fn a_stopping_gateway_answers_what_it_took() {
    let (served, _) = served(Limits::default());
    let (mut client, stream) = Legacy::with_channel(&served, "todos").await;
    let docs: Vec<Value> =
        (0..500).map(|n| json!({"_id": format!("d{n}"), "_rev": "1-a"})).collect();
    let args = replicated(json!(docs));
    client.record(json!([stream, "data", [0, null, "_bulkDocs", args]])).await;
    client.record(json!([stream, "data", [1, null, "_changes", [0, {"live": true}]]])).await;
    client.find("the live feed's begin", |r| r[2][0] == 1).await;
    served.stop();
    client.find("the answer to the write", |r| r[2][0] == 0).await;
    assert_eq!(client.raw.closed().await.0, 1001);
}

#[tokio::test]
async fn an_operator_may_switch_it_off_and_origins_count() {
    let store = Store::memory();
    let off = Served::new(builder(&store).legacy(false));
    let (status, body) = off.bytes().await.request(LEGACY_HANDSHAKE.as_bytes()).await;
    assert_eq!(status, 400);
    assert!(body.contains("settee.v1"), "{body}");
    let on = Served::new(builder(&store).allowed_origins(["https://app.example".to_owned()]));
    for (origin, expected) in [("https://evil.example", 403), ("https://app.example", 101)] {
        let request =
            LEGACY_HANDSHAKE.replace("Upgrade: w", &format!("Origin: {origin}\r\nUpgrade: w"));
        assert_eq!(on.bytes().await.request(request.as_bytes()).await.0, expected, "{origin}");
    }
    let other = LEGACY_HANDSHAKE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n");
    assert_eq!(on.bytes().await.request(other.as_bytes()).await.0, 400);
}

#[tokio::test]
async fn a_client_of_each_protocol_see_one_another_live() {
    let (served, store) = served(Limits::default());
    let (mut old, stream) = Legacy::with_channel(&served, "todos").await;
    old.result(&stream, "_changes", json!([0, {"since": 0, "style": "all_docs", "live": true}]))
        .await;
    let local = Store::memory().create(&DbName::parse("local").unwrap()).await.unwrap();
    let client = Client::builder("ws://gateway").connector(served.connector.clone()).connect();
    let client = client.unwrap();
    let options = SyncOptions::live("todos").credentials(json!({"token": "secret"})).create();
    let sync = client.sync(&local, options);

    local.put(Document::new("new", &json!({"by": "settee.v1"})).unwrap()).await.unwrap();
    let (_, change) = old.event(&stream, 0).await;
    assert_eq!(change["id"], "new");
    let rev = change["changes"][0]["rev"].clone();
    let asked = json!(["new", {"open_revs": [rev], "revs": true}]);
    let read = old.result(&stream, "get", asked).await;
    assert_eq!(read[0]["ok"]["by"], "settee.v1");

    let docs = json!([
        {"_id": "old", "_rev": "1-a", "by": "2015"},
        {"_id": "new", "_rev": "1-ffffffffffffffffffffffffffffffff", "by": "2015"},
    ]);
    old.result(&stream, "_bulkDocs", replicated(docs)).await;
    let mut feed = local.feed(settee::store::ChangesOptions::default()).await.unwrap();
    let id = DocId::parse("new", 10).unwrap();
    let conflicts = settee::store::GetOptions { conflicts: true, ..Default::default() };
    loop {
        feed.next_page(100, 100_000).await.unwrap();
        let all = local.info().await.unwrap().doc_count == 2;
        if all && local.get(&id, &conflicts).await.unwrap().extra.conflicts.len() == 1 {
            break;
        }
    }
    let there = database(&store, "todos").await;
    for id in ["old", "new"] {
        let id = DocId::parse(id, 10).unwrap();
        let here = local.get(&id, &conflicts).await.unwrap();
        let there = there.get(&id, &conflicts).await.unwrap();
        assert_eq!(here, there);
    }
    drop(sync);
}
