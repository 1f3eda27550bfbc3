//! Recordings of the npm package `pouch-websocket-sync` 0.3, its real client and its real server,
//! replayed: what the client sent is sent to the gateway, and the gateway answers as the server did.
//!
//! Names of streams, the database's id, the form of seqs and the order of leaves in a row are ours.
//! Everything else that differs is named below, with the reason.

#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use legacy::Legacy;
use raw::Served;
use serde_json::{Map, Value, json};
use settee::doc::{LocalDocument, LocalId};
use settee::server::{AccessRequest, Denied, Gateway, Grant};
use settee::store::{EditMode, MemoryBackend};
use settee::{DbName, Document, Limits, Store};

/// What the gateway does in another way than the original, by recording and kind of record.
#[derive(Default)]
struct Better {
    /// The original refuses `null` as a database's name, so that PouchDB 6 and later cannot sync.
    takes_null: bool,
    /// Documents with several leaves, whose rows have no `doc`: the original shows the winner, and
    /// the client then never gets the losing first revision.
    several_leaves: &'static [&'static str],
    /// Documents whose revisions have attachments: the client ends its sync when it is shown one.
    with_attachments: &'static [&'static str],
    /// Calls, by number, that are answered in another way, with what is answered.
    answers: Vec<(u64, Value)>,
    /// Calls of methods that no sync needs: refused as ones that do not exist.
    refused: &'static [u64],
    /// Calls that are not made, since their effect is another one here; tested for themselves.
    skipped: &'static [u64],
    /// Whether seqs count on by other steps: three branches written in one call are three changes
    /// there and one here.
    seqs_differ: bool,
}

struct Recording {
    lines: Vec<Value>,
    /// By connection and name of stream: the database.
    channels: HashMap<(u64, String), String>,
    /// By connection, stream and number.
    calls: HashMap<(u64, String, u64), Value>,
    /// Revisions that a client wrote.
    pushed: HashSet<(String, String, String)>,
    /// Revisions that the server showed, by database, document and revision.
    shown: HashMap<(String, String, String), Value>,
}

impl Recording {
    fn read(name: &str) -> Self {
        let path = format!("tests/fixtures/legacy/{name}.jsonl");
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        let text = std::fs::read_to_string(path).expect("the recording is there");
        let lines = text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
        let mut recording = Self {
            lines: lines.collect(),
            channels: HashMap::new(),
            calls: HashMap::new(),
            pushed: HashSet::new(),
            shown: HashMap::new(),
        };
        recording.understand();
        recording
    }

    fn understand(&mut self) {
        let mut requested = HashMap::new();
        let mut granted = HashMap::new();
        let lines = std::mem::take(&mut self.lines);
        for (line, record) in records(&lines) {
            let (conn, from_client) = (line["conn"].as_u64().unwrap(), line["dir"] == "c>s");
            let (stream, data) = (text(&record[0]), &record[2]);
            if from_client && data["database"].is_string() {
                requested.insert((conn, stream.clone()), text(&data["database"]));
            } else if !from_client
                && record[1] == "data"
                && data[0].is_null()
                && data[1].is_string()
            {
                let database = requested[&(conn, stream.clone())].clone();
                granted.insert((conn, text(&data[1])), database);
            } else if !from_client && record[1] == "new" {
                let database = granted[&(conn, text(&data["meta"]))].clone();
                self.channels.insert((conn, stream), database);
            } else if let Some(seq) = data[0].as_u64() {
                let key = (conn, stream.clone(), seq);
                let Some(database) = self.channels.get(&(conn, stream)).cloned() else { continue };
                if from_client {
                    self.calls.insert(key, data.clone());
                    self.note_pushed(&database, data);
                } else if let Some(call) = self.calls.get(&key).cloned() {
                    self.note_shown(&database, &call, &data[1][1]);
                }
            }
        }
        self.lines = lines;
    }

    fn note_pushed(&mut self, database: &str, call: &Value) {
        if call[2] != "_bulkDocs" {
            return;
        }
        for doc in call[3][0]["docs"].as_array().into_iter().flatten() {
            let rev = doc["_rev"].as_str().unwrap_or_default().to_owned();
            self.pushed.insert((database.to_owned(), text(&doc["_id"]), rev));
        }
    }

    fn note_shown(&mut self, database: &str, call: &Value, result: &Value) {
        if call[2] == "_bulkDocs" {
            for row in array(result).iter().filter(|row| row["ok"] == true) {
                let key = (database.to_owned(), text(&row["id"]), text(&row["rev"]));
                self.pushed.insert(key);
            }
        }
        let docs: Vec<&Value> = match call[2].as_str() {
            Some("allDocs") => array(&result["rows"]).iter().map(|row| &row["doc"]).collect(),
            Some("get") if result.is_array() => array(result).iter().map(|r| &r["ok"]).collect(),
            Some("get") => vec![result],
            _ => Vec::new(),
        };
        for doc in docs.into_iter().filter(|doc| doc["_rev"].is_string()) {
            let key = (database.to_owned(), text(&doc["_id"]), text(&doc["_rev"]));
            // A read with the history tells more than one without.
            if doc["_revisions"].is_object() || !self.shown.contains_key(&key) {
                self.shown.insert(key, doc.clone());
            }
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The whole records of a recording, with the lines that brought them.
fn records(lines: &[Value]) -> Vec<(&Value, Value)> {
    let data = |line: &Value| line["data"].as_str().map(str::to_owned);
    let of = |line| data(line).unwrap_or_default();
    let parse = |text: &str| serde_json::from_str::<Value>(text).ok().filter(Value::is_array);
    lines
        .iter()
        .flat_map(|line| {
            let found: Vec<_> = of(line).lines().filter_map(parse).collect();
            found.into_iter().map(move |record| (line, record))
        })
        .collect()
}

struct Replay {
    recording: Recording,
    better: Better,
    served: Arc<Served>,
    store: Store,
    clients: HashMap<u64, Legacy>,
    /// By connection and recorded name: the name here.
    streams: HashMap<(u64, String), String>,
    /// Recorded revisions and ids that the server made, and those made here.
    made: Vec<(String, String)>,
    /// What is to come once the client has said that it takes more.
    held: Option<Vec<Value>>,
    written: HashSet<(String, String, String)>,
    compared: usize,
}

impl Replay {
    fn new(name: &str, better: Better) -> Self {
        let recording = Recording::read(name);
        let store = Store::with_backend(Arc::new(MemoryBackend::new()), Limits::default());
        let authorizer = |request: AccessRequest| async move {
            match (request.credentials["token"].as_str(), request.database.as_str()) {
                (Some("good-token"), "nope") => Err(Denied::new("unknown database nope")),
                (Some("good-token"), _) => Ok(Grant::database(request.database).creating()),
                _ => Err(Denied::new("not allowed")),
            }
        };
        let served = Served::new(Gateway::builder(store.clone()).authorizer(authorizer));
        Self {
            written: recording.pushed.clone(),
            recording,
            better,
            served,
            store,
            clients: HashMap::new(),
            streams: HashMap::new(),
            made: Vec::new(),
            held: None,
            compared: 0,
        }
    }

    async fn run(mut self) -> Self {
        self.write_checkpoints().await;
        for line in self.recording.lines.clone() {
            let Some(conn) = line["conn"].as_u64() else { continue };
            if line["ev"] == "upgrade" {
                self.write_what_a_first_feed_shows(conn).await;
                let client = Legacy::connect(&self.served).await;
                self.clients.insert(conn, client);
            }
            if let Some(base64) = line["base64"].as_str() {
                self.send_binary(conn, base64).await;
            }
            let Some(data) = line["data"].as_str() else { continue };
            if line["dir"] == "c>s" {
                self.send(conn, data).await;
                continue;
            }
            for record in data.lines().map(|text| serde_json::from_str(text).unwrap()) {
                match &mut self.held {
                    Some(held) => held.push(record),
                    None => self.expect(conn, record).await,
                }
            }
        }
        assert!(self.compared > 2, "{} records were compared", self.compared);
        self
    }

    async fn database(&self, name: &str) -> settee::Database {
        self.store.open_or_create(&DbName::parse(name).unwrap()).await.unwrap()
    }

    /// Checkpoints of an earlier session than the recorded one.
    async fn write_checkpoints(&self) {
        let shown = self.recording.shown.iter().filter(|((_, id, _), _)| id.starts_with("_local/"));
        for ((database, id, rev), doc) in shown {
            let pushed = self.recording.pushed.iter().any(|(d, i, _)| d == database && i == id);
            let first =
                |(d, i, r): &(String, String, String)| d == database && i == id && r.is_empty();
            if pushed && self.recording.pushed.iter().any(first) {
                continue;
            }
            let lowest = self.recording.shown.keys().filter(|(d, i, _)| d == database && i == id);
            if lowest.map(|(_, _, rev)| rev).min() != Some(rev) {
                continue;
            }
            let database = self.database(database).await;
            let count: u64 = rev.strip_prefix("0-").unwrap().parse().unwrap();
            let mut own = doc.as_object().unwrap().clone();
            own.retain(|name, _| !name.starts_with('_'));
            let body = settee::doc::Body::from_value(&own).unwrap();
            let id = LocalId::parse(id.strip_prefix("_local/").unwrap(), 100).unwrap();
            for _ in 0..count {
                database.set_local(&id, body.clone()).await.unwrap();
            }
            let _: Option<LocalDocument> = database.local(&id).await.unwrap();
        }
    }

    /// Writes what the server had before a connection: what that connection's feeds told that are
    /// not live, in the order of their seqs.
    async fn write_what_a_first_feed_shows(&mut self, wanted: u64) {
        let mut rows = Vec::new();
        for (line, record) in records(&self.recording.lines) {
            if line["conn"] != wanted || record[2][0] != "_event" || record[2][1] != "change" {
                continue;
            }
            if !self.is_live(wanted, &record) {
                let database = self.recording.channels[&(wanted, text(&record[0]))].clone();
                rows.push((database, record[2][2][1].clone()));
            }
        }
        rows.sort_by_key(|(_, row)| row["seq"].as_u64());
        for (database, row) in rows {
            self.write_row(&database, &row).await;
        }
    }

    fn is_live(&self, conn: u64, event: &Value) -> bool {
        let mut calls = self.recording.calls.iter();
        let stream = text(&event[0]);
        calls.any(|((c, s, _), call)| {
            *c == conn
                && *s == stream
                && call[2] == "_changes"
                && call[3][0] == event[2][2][0]
                && call[3][1]["live"] == true
        })
    }

    /// Writes the leaves of a row that no client wrote.
    async fn write_row(&mut self, name: &str, row: &Value) {
        let id = text(&row["id"]);
        let mut docs = Vec::new();
        for rev in array(&row["changes"]).iter().map(|change| text(&change["rev"])) {
            let key = (name.to_owned(), id.clone(), rev);
            // The client did not ask for every revision that it was told of.
            let never_read = || json!({"_id": id, "_rev": key.2});
            let doc = self.recording.shown.get(&key).cloned().unwrap_or_else(never_read);
            if self.written.insert(key) {
                docs.push(plain(doc));
            }
        }
        if docs.is_empty() {
            return;
        }
        let database = self.database(name).await;
        let seq = row["seq"].as_u64().unwrap();
        // Changes of a time that was not recorded.
        while database.info().await.unwrap().update_seq.number + 1 < seq {
            let n = database.info().await.unwrap().update_seq.number;
            let filler = Document::new(&format!("earlier-{n}"), &json!({})).unwrap();
            database.put(filler).await.unwrap();
        }
        database.bulk_docs(docs, EditMode::Replicated).await.unwrap();
    }

    async fn send(&mut self, conn: u64, data: &str) {
        let record: Value = serde_json::from_str(data).unwrap_or_default();
        let seq = record[2][0].as_u64();
        if seq.is_some_and(|seq| self.better.skipped.contains(&seq)) {
            return;
        }
        let data = self.translated(conn, data);
        self.clients.get_mut(&conn).unwrap().raw.text(&data).await;
        if record[1] == "pause" {
            // The original lets one answer more through, the gateway none.
            self.held = Some(Vec::new());
        } else if record[1] == "resume" {
            for record in self.held.take().into_iter().flatten() {
                self.expect(conn, record).await;
            }
        }
    }

    /// A recorded text with the names of this replay.
    fn translated(&self, conn: u64, text: &str) -> String {
        let streams = self.streams.iter().filter(|((of, _), _)| *of == conn);
        let names = streams.map(|((_, recorded), here)| (recorded, here));
        let made = self.made.iter().map(|(recorded, here)| (recorded, here));
        names
            .chain(made)
            .fold(text.to_owned(), |text, (recorded, here)| text.replace(recorded, here))
    }

    async fn send_binary(&mut self, conn: u64, base64: &str) {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap();
        let text = self.translated(conn, &String::from_utf8(bytes).unwrap());
        let client = self.clients.get_mut(&conn).unwrap();
        client.raw.frame(raw::FIN | raw::BINARY, text.as_bytes()).await;
    }

    /// Waits for the record that the gateway sends in the place of a recorded one.
    async fn expect(&mut self, conn: u64, recorded: Value) {
        let (stream, kind) = (text(&recorded[0]), text(&recorded[1]));
        if kind == "pause" || kind == "resume" {
            // Hints about the original's queue; the gateway reads no more when its own is full.
            return;
        }
        if kind == "new" {
            let client = self.clients.get_mut(&conn).unwrap();
            let came = client.find("a channel", |r| r[1] == "new").await;
            assert_eq!(came[2]["opts"], recorded[2]["opts"]);
            self.streams.insert((conn, stream), text(&came[0]));
            self.compared += 1;
            return;
        }
        let here = self.streams.get(&(conn, stream.clone())).cloned().unwrap_or(stream.clone());
        let data = recorded[2].clone();
        if data[0] == "_event" {
            self.expect_event(conn, &stream, &here, &data, &recorded).await;
        } else if kind == "data" && self.recording.channels.contains_key(&(conn, stream.clone())) {
            self.expect_reply(conn, &stream, &here, &data).await;
        } else {
            let client = self.clients.get_mut(&conn).unwrap();
            let wanted = |r: &Value| r[0] == *here && r[1] == recorded[1];
            let came = client.find(&recorded.to_string(), wanted).await;
            if data[0].is_object() {
                // Status and name come with the message, which is the authorizer's.
                if text(&data[0]["message"]) != "not allowed" || came[2][0]["status"] != 400 {
                    assert_eq!(came[2][0]["message"], data[0]["message"]);
                }
            }
        }
        self.compared += 1;
    }

    async fn expect_event(
        &mut self,
        conn: u64,
        stream: &str,
        here: &str,
        data: &Value,
        recorded: &Value,
    ) {
        let (event, listener, payload) = (&data[1], &data[2][0], &data[2][1]);
        if event == "change" && self.is_live(conn, recorded) {
            let database = self.recording.channels[&(conn, stream.to_owned())].clone();
            self.write_row(&database, payload).await;
        }
        let payload = self.translated(conn, &payload.to_string());
        let payload: Value = serde_json::from_str(&payload).unwrap();
        let client = self.clients.get_mut(&conn).unwrap();
        let wanted = |r: &Value| {
            r[0] == here
                && r[2][0] == "_event"
                && r[2][1] == *event
                && r[2][2][0] == *listener
                && (event != "change" || r[2][2][1]["id"] == payload["id"])
        };
        let came = client.find(&recorded.to_string(), wanted).await;
        let (mut came, mut recorded) = (came[2][2][1].clone(), payload.clone());
        if event == "complete" {
            // The client reads the changes, and never these.
            came["results"].take();
            recorded["results"].take();
            // A write that the client sent meanwhile may belong to the feed or not.
            let number = |payload: &Value| self.comparable(payload.clone())["last_seq"].as_u64();
            assert!(number(&came) >= number(&recorded), "{came} {recorded}");
            return;
        }
        if let Some(Value::Object(doc)) = recorded.get_mut("doc") {
            // An option that no sync uses.
            doc.remove("_conflicts");
        }
        assert_eq!(self.comparable(came), self.comparable(recorded), "{event}");
    }

    async fn expect_reply(&mut self, conn: u64, stream: &str, here: &str, data: &Value) {
        let seq = data[0].clone();
        let call = seq
            .as_u64()
            .and_then(|seq| self.recording.calls.get(&(conn, stream.to_owned(), seq)).cloned());
        if seq.as_u64().is_some_and(|seq| self.better.skipped.contains(&seq)) {
            return;
        }
        let method = call.as_ref().map_or("none".into(), |call| text(&call[2]));
        let client = self.clients.get_mut(&conn).unwrap();
        let wanted = |r: &Value| r[0] == here && r[2][0] == seq;
        let came = client.find(&format!("{method} {data}"), wanted).await;
        let (mut came, recorded) =
            (came[2][1].clone(), self.translated(conn, &data[1].to_string()));
        let mut recorded: Value = serde_json::from_str(&recorded).unwrap();
        if let Some(seq) = seq.as_u64() {
            if self.better.refused.contains(&seq) {
                let message = format!("No method named {method}");
                recorded = json!([{"message": message, "name": "Error"}, null]);
            }
            let other = self.better.answers.iter().find(|(number, _)| *number == seq);
            recorded = other.map_or(recorded, |(_, answer)| answer.clone());
        }
        match &*method {
            "_id" => {
                if self.better.takes_null {
                    assert_eq!(recorded[0]["message"], "No allowed database named null");
                    recorded = json!([null, "an id"]);
                }
                assert!(came[1].is_string(), "{came}");
                came[1] = json!("an id");
                recorded[1] = json!("an id");
            }
            "_info" => {
                if self.better.seqs_differ || recorded[0].is_object() {
                    return;
                }
                came[1]["backend_adapter"].take();
                recorded[1]["backend_adapter"].take();
            }
            "none" if seq.is_u64() => {
                assert!(came[0].is_null(), "a call over the borders of frames: {came}");
                return;
            }
            "_bulkDocs" => self.note_made(&came, &mut recorded),
            "allDocs" => {
                self.leave_out_docs(&mut recorded);
                for rows in [&mut came[1]["rows"], &mut recorded[1]["rows"]] {
                    rows.as_array_mut().unwrap().sort_by_key(|row| text(&row["key"]));
                }
            }
            "get" => self.leave_out_attachments(&call.unwrap(), &mut recorded),
            _ => {}
        }
        assert_eq!(self.comparable(came), self.comparable(recorded), "{method} {seq}");
    }

    /// Revisions and ids that a write made have other names here; a refused row names its document.
    fn note_made(&mut self, came: &Value, recorded: &mut Value) {
        let rows = recorded[1].as_array_mut().into_iter().flatten();
        for (recorded, came) in rows.zip(array(&came[1])) {
            for name in ["id", "rev"] {
                let local = text(&came["id"]).starts_with("_local/");
                if !local && recorded["ok"] == true && recorded[name] != came[name] {
                    // A revision's hash stands alone in a tree.
                    let part = |value: &Value| text(value).rsplit('-').next().map(str::to_owned);
                    let whole = |value: &Value| Some(text(value));
                    let of = |value| if name == "rev" { part(value) } else { whole(value) };
                    self.made.extend(of(&recorded[name]).zip(of(&came[name])));
                }
            }
            if !local_row(came) && (recorded["ok"] == true || recorded["id"].is_null()) {
                recorded["id"] = came["id"].clone();
            }
            if !local_row(came) && recorded["ok"] == true {
                recorded["rev"] = came["rev"].clone();
            }
        }
    }

    fn leave_out_docs(&self, recorded: &mut Value) {
        let without = [self.better.several_leaves, self.better.with_attachments].concat();
        for row in recorded[1]["rows"].as_array_mut().into_iter().flatten() {
            if without.contains(&row["id"].as_str().unwrap_or_default()) {
                row.as_object_mut().unwrap().remove("doc");
            }
        }
    }

    fn leave_out_attachments(&self, call: &Value, recorded: &mut Value) {
        let id = call[3][0].as_str().unwrap_or_default();
        if self.better.with_attachments.contains(&id) {
            for one in recorded[1].as_array_mut().into_iter().flatten() {
                *one = json!({"missing": one["ok"]["_rev"]});
            }
        }
    }

    /// A value with what is ours to choose made equal: seqs as numbers, leaves in one order.
    fn comparable(&self, mut value: Value) -> Value {
        if let Some(object) = value.as_object_mut() {
            for name in ["seq", "last_seq", "update_seq"] {
                if let Some(seq) = object.get_mut(name) {
                    let number = seq.as_str().and_then(|text| text.split('-').next()?.parse().ok());
                    let number = number.or(seq.as_u64()).map_or(Value::Null, |n: u64| json!(n));
                    *seq = if self.better.seqs_differ { json!("a seq") } else { number };
                }
            }
            if let Some(Value::Array(leaves)) = object.get_mut("changes") {
                leaves.sort_by_key(|leaf| text(&leaf["rev"]));
            }
            let inner = std::mem::take(object).into_iter();
            let inner = inner.map(|(name, value)| (name, self.comparable(value)));
            return Value::Object(inner.collect::<Map<_, _>>());
        }
        if let Some(array) = value.as_array_mut() {
            let mut all: Vec<Value> =
                std::mem::take(array).into_iter().map(|value| self.comparable(value)).collect();
            // Roots and branches of a tree.
            all.sort_by_key(|one| (one["pos"].as_u64(), text(&one["ids"][0])));
            if all.iter().all(Value::is_array) {
                all.sort_by_key(|one| text(&one[0]));
            }
            if all.iter().all(|one| one.get("ok").is_some_and(Value::is_object)) {
                all.sort_by_key(|one| text(&one["ok"]["_rev"]));
            }
            return Value::Array(all);
        }
        value
    }
}

fn local_row(row: &Value) -> bool {
    text(&row["id"]).starts_with("_local/") && row["ok"] == true
}

/// A document as the store takes it: attachments' bytes are in base64 in what the original shows,
/// or come as Buffers.
fn plain(mut doc: Value) -> Document {
    for attachment in doc["_attachments"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        let attachment = attachment.as_object_mut().unwrap();
        attachment.remove("stub");
        attachment.remove("length");
        attachment.remove("digest");
        attachment.insert("data".into(), json!("aGVsbG8="));
    }
    if doc["_attachments"].is_null() {
        doc.as_object_mut().unwrap().remove("_attachments");
    }
    Document::parse(&doc.to_string(), &Limits::default()).unwrap_or_else(|e| panic!("{doc}: {e}"))
}

async fn replay(name: &str, better: Better) -> Replay {
    Replay::new(name, better).run().await
}

#[tokio::test]
async fn a_first_sync_and_live_changes_from_either_side() {
    replay("01-basic-live", Better::default()).await;
    replay("01-basic-live.pouch9", Better::default()).await;
}

#[tokio::test]
async fn refusals_have_the_authorizers_words() {
    replay("02-denied", Better::default()).await;
    replay("03-unknown-database", Better::default()).await;
}

#[tokio::test]
async fn conflicts_of_first_revisions() {
    let better = || Better { several_leaves: &["doc"], ..Better::default() };
    replay("04-conflict", better()).await;
    replay("04-conflict.pouch9", better()).await;
    let better = Better { several_leaves: &["d"], ..Better::default() };
    replay("14-first-revision-conflict", better).await;
}

#[tokio::test]
async fn two_databases_over_one_socket() {
    replay("06-two-databases", Better::default()).await;
}

#[tokio::test]
async fn connections_lost_and_made_again() {
    replay("07-reconnect", Better::default()).await;
    replay("08-resume-from-checkpoint", Better::default()).await;
    replay("08-resume-from-checkpoint.pouch9", Better::default()).await;
}

#[tokio::test]
async fn many_documents_each_way() {
    replay("09-flow-control", Better::default()).await;
    replay("10-flow-control-pull", Better::default()).await;
}

#[tokio::test]
async fn null_is_the_channels_own_database() {
    let better = Better { takes_null: true, ..Better::default() };
    replay("13-null-database.pouch9", better).await;
}

/// The original ended with an uncaught exception here.
#[tokio::test]
async fn an_attachment_that_is_pushed_is_stored() {
    let mut replayed = replay("05-attachment-push", Better::default()).await;
    let client = replayed.clients.get_mut(&1).unwrap();
    let answer = client.find("the answer to the write", |r| r[2][0] == 9).await;
    assert_eq!(answer[2][1], json!([null, []]));
    let database = replayed.database("lab-att").await;
    let id = settee::DocId::parse("att", 100).unwrap();
    let mut reader = database.attachment(&id, "t.txt", None).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap(), "hello");
}

/// The original's client ended its sync here, both ways and at every new connection.
#[tokio::test]
async fn revisions_with_attachments_are_not_shown() {
    let better = Better { with_attachments: &["att"], ..Better::default() };
    replay("12-attachment-pull", better).await;
}

#[tokio::test]
async fn every_method_with_odd_arguments_and_malformed_input() {
    let error = |status: u16, name: &str, message: &str| json!([{"message": message, "status": status, "name": name, "error": true}, null]);
    let leaf = |rev: &str, ids: &[&str], own: Value| {
        let start = ids.len();
        let mut doc = json!({"_id": "k", "_rev": rev, "_revisions": {"start": start, "ids": ids}});
        doc.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        json!({"ok": doc})
    };
    let answers = vec![
        // One malformed document does not keep the others of its call from being written.
        (
            1,
            json!([null, [
                {"id": "d1", "status": 409, "name": "conflict",
                 "message": "Document update conflict", "error": true},
                {"id": "_bad", "status": 400, "name": "illegal_docid",
                 "message": "Only reserved document ids may start with underscore.", "error": true},
            ]]),
        ),
        // `latest` finds the leaves below a revision that is no leaf.
        (
            18,
            json!([null, [
                leaf("2-b", &["b", "a"], json!({"v": "b"})),
                {"missing": "9-zz"},
                leaf("2-c", &["c", "a"], json!({"v": "c"})),
                leaf("3-d", &["d", "c2", "a"], json!({"_deleted": true})),
            ]]),
        ),
        (
            22,
            error(
                400,
                "bad_request",
                "parameters of get: invalid type: integer `7`, expected \"all\" or an array of \
                 revisions at line 1 column 14",
            ),
        ),
    ];
    let better = Better {
        answers,
        several_leaves: &["k"],
        refused: &[44, 45, 46, 47],
        // A malformed revision: the original refuses the whole call.
        skipped: &[4],
        seqs_differ: true,
        ..Better::default()
    };
    let mut replayed = replay("11-raw-probes", better).await;
    // The original's process ended at a line that is no JSON, and at a request that is `null`.
    let (code, _) = replayed.clients.get_mut(&2).unwrap().raw.closed().await;
    assert_eq!(code, 1002);
    let refused = replayed.clients.get_mut(&3).unwrap().find("a refusal", |r| r[1] == "data").await;
    assert_eq!(refused[2][0]["status"], 400);
}
