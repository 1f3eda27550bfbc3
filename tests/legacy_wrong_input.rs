//! Wrong input in the protocol of 2015, by table: each case is answered, passed over or ends its own
//! connection; other connections, of either protocol, never notice.
#![allow(clippy::too_many_lines, reason = "a table is one function, however many cases it has")]

#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;

use legacy::Legacy;
use raw::{BINARY, CONTINUATION, FIN, PING, Raw, Served, TEXT, frame, unmasked};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant};
use settee::store::MemoryBackend;
use settee::{Limits, Store};

/// What must come of it.
enum Comes {
    /// A refusal of the request on stream `m`, with this status and part of the message.
    Refusal(u16, &'static str),
    /// A failure of call 7, with this status (0 where there is none) and part of the message.
    Failure(u16, &'static str),
    /// A row of a refused document in the answer to call 7.
    Row(u16, &'static str),
    /// An `error` event for listener 0.
    Event(u16, &'static str),
    /// A result of call 7.
    Success,
    /// The end of the channel, after a word.
    ChannelEnds,
    /// Nothing: it is passed over.
    Nothing,
    /// A close with this code.
    Close(u16),
}

use Comes::*;

struct Case {
    name: String,
    /// Bytes of frames, with `$S` for the channel's stream.
    frames: Vec<(u8, Vec<u8>)>,
    /// Whether each byte is sent in a frame of its own.
    bytewise: bool,
    comes: Comes,
}

const MESSAGE_BYTES_MAX: usize = 150_000;

fn served() -> Arc<Served> {
    let limits = Limits {
        doc_bytes_max: 2_000,
        json_members_max: 300,
        doc_id_bytes_max: 50,
        bulk_rows_max: 5,
        attachment_bytes_max: 1_000,
        attachments_per_doc_max: 2,
        leaves_per_doc_max: 3,
        message_bytes_max: MESSAGE_BYTES_MAX,
        ..Limits::default()
    };
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    let authorizer = |request: AccessRequest| async move {
        match request.credentials["token"].as_str() {
            Some("secret") => Ok(Grant::database(request.database).creating()),
            _ => Err(Denied::new("not allowed")),
        }
    };
    Served::new(Gateway::builder(store).limits(limits).authorizer(authorizer))
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn frames(&mut self, name: impl Into<String>, frames: Vec<(u8, Vec<u8>)>, comes: Comes) {
        self.0.push(Case { name: name.into(), frames, bytewise: false, comes });
    }

    fn line(&mut self, line: impl Into<String>, comes: Comes) {
        let line = line.into();
        let name: String = line.chars().take(100).collect();
        self.frames(name, vec![(FIN | TEXT, format!("{line}\n").into_bytes())], comes);
    }

    fn call(&mut self, method: &str, args: &str, comes: Comes) {
        self.line(format!(r#"["$S","data",[7,"tests","{method}",{args}]]"#), comes);
    }

    fn request(&mut self, request: &str, comes: Comes) {
        self.line(format!("[\"m\",\"new\",{{}}]\n[\"m\",\"data\",{request}]"), comes);
    }

    fn replicated(&mut self, doc: &str, comes: Comes) {
        let args = format!(r#"[{{"docs":[{doc}],"new_edits":false}},{{"new_edits":false}}]"#);
        self.call("_bulkDocs", &args, comes);
    }
}

fn lines(table: &mut Table) {
    for not_json in [
        " ",
        "x",
        "hello",
        "[",
        "]",
        "{",
        "\"",
        "[\"a\",\"new\"",
        "[\"a\",\"new\",]",
        "[\"a\",\"new\"]]",
        "[\"a\" \"new\"]",
        "['a','new']",
        "[\"\\x\",\"new\"]",
        "NaN",
        "undefined",
        "\u{feff}[\"a\",\"new\"]",
        "GET / HTTP/1.1",
        "[\"open\",1,{\"database\":\"tests\"}",
    ] {
        table.line(not_json, Close(1002));
    }
    for nothing in [
        "",
        "\r",
        "null",
        "true",
        "7",
        "\"text\"",
        "{}",
        "[]",
        "[1]",
        "[1,2,3]",
        "[null,null]",
        "[\"a\"]",
        "[[\"a\"],\"new\"]",
        "[\"a\",{\"new\":1}]",
        "[\"a\",\"fly\",1]",
        "[\"a\",\"NEW\"]",
        "[\"unknown\",\"data\",[1]]",
        "[\"unknown\",\"end\"]",
        "[\"unknown\",\"close\"]",
        "[\"unknown\",\"error\",{\"message\":\"x\"}]",
        "[\"unknown\",\"pause\"]",
        "[\"unknown\",\"resume\"]",
        "[\"$S\",\"data\"]",
        "[\"$S\",\"new\",{\"opts\":{}}]",
        "[\"$S\",\"pause\"]\n[\"$S\",\"pause\"]\n[\"$S\",\"resume\"]\n[\"$S\",\"resume\"]",
        "[\"\",\"new\"]\n[\"\",\"close\"]",
        "[\"n\",\"data\",{\"database\":\"tests\"}]",
        "[\"open\",1,{\"database\":\"tests\"}]",
    ] {
        // `\r` alone is no JSON.
        let comes = if nothing == "\r" { Close(1002) } else { Nothing };
        table.line(nothing, comes);
    }
    table.line(format!(r#"["{}","new"]"#, "s".repeat(129)), Nothing);
    table.line(format!(r#"["{}","new"]"#, "s".repeat(100_000)), Nothing);
    table.line(format!(r#"["a","{}"]"#, "e".repeat(100_000)), Nothing);
    table.line(format!("[{}1]", "1,".repeat(70_000)), Nothing);
    table.line(format!("{}{}", "[".repeat(70_000), "]".repeat(70_000)), Nothing);
    table.line("[".repeat(140_000), Close(1002));
    table.line(format!("\"{}\"", "x".repeat(MESSAGE_BYTES_MAX)), Close(1009));
}

fn frames(table: &mut Table) {
    let text = |bytes: &[u8]| (FIN | TEXT, bytes.to_vec());
    table.frames("an empty frame", vec![text(b"")], Nothing);
    table.frames("ends of lines only", vec![text(b"\n\n\n\n")], Nothing);
    table.frames("an empty binary frame", vec![(FIN | BINARY, Vec::new())], Nothing);
    table.frames("a line that never ends", vec![text(b"[\"a\"")], Nothing);
    table.frames(
        "a line over many frames",
        vec![text(b"[\"$S\",\"data\",[7,null,\"_id\",[]]]\n")],
        Success,
    );
    table.0.last_mut().expect("it was added").bytewise = true;
    table.frames(
        "a line in binary frames that cut a character",
        vec![
            (FIN | BINARY, b"[\"$S\",\"data\",[7,null,\"get\",[\"\xc3".to_vec()),
            (FIN | BINARY, b"\xa9\"]]]\n".to_vec()),
        ],
        Failure(404, "missing"),
    );
    table.frames("not UTF-8 in a text frame", vec![text(b"\xff\n")], Close(1007));
    table.frames(
        "not UTF-8 in a binary frame",
        vec![(FIN | BINARY, b"\xff\n".to_vec())],
        Close(1007),
    );
    table.frames(
        "a continuation of nothing",
        vec![(FIN | CONTINUATION, b"x".to_vec())],
        Close(1002),
    );
    table.frames("a long ping", vec![(FIN | PING, vec![b'x'; 126])], Close(1002));
    table.frames("a reserved bit", vec![(FIN | 0x40 | TEXT, b"\n".to_vec())], Close(1002));
    table.frames("a reserved opcode", vec![(FIN | 0x3, b"\n".to_vec())], Close(1002));
    table.frames(
        "a message too large",
        vec![text(&vec![b'x'; MESSAGE_BYTES_MAX + 1])],
        Close(1009),
    );
    let half = vec![b'x'; MESSAGE_BYTES_MAX / 2 + 1];
    table.frames("a line too long over two frames", vec![text(&half), text(&half)], Close(1009));
    let long = vec![b'x'; MESSAGE_BYTES_MAX];
    table.frames("a line of the greatest length", vec![text(&long), text(b"\n")], Close(1002));
}

fn requests(table: &mut Table) {
    for malformed in [
        "null",
        "true",
        "7",
        "\"hello\"",
        "[]",
        "{}",
        r#"{"database":null}"#,
        r#"{"database":7}"#,
        r#"{"database":["tests"]}"#,
        r#"{"credentials":{"token":"secret"}}"#,
        r#"{"database":"tests","database":"others"}"#,
    ] {
        table.request(malformed, Refusal(400, "a request must be"));
    }
    for name in ["", "Tests", "1tests", "_users", "../tests", "tests\\u0000", "té", "a b"] {
        let request = format!(r#"{{"database":"{name}","credentials":{{"token":"secret"}}}}"#);
        table.request(&request, Refusal(400, ""));
    }
    let long =
        format!(r#"{{"database":"{}","credentials":{{"token":"secret"}}}}"#, "a".repeat(239));
    table.request(&long, Refusal(400, ""));
    for credentials in ["null", "7", "\"secret\"", "[\"secret\"]", r#"{"token":7}"#, "{}"] {
        let request = format!(r#"{{"database":"tests","credentials":{credentials}}}"#);
        table.request(&request, Refusal(401, "not allowed"));
    }
    table.request(r#"{"database":"tests"}"#, Refusal(401, "not allowed"));
    let long = format!(r#"{{"database":"tests","credentials":"{}"}}"#, "x".repeat(70_000));
    table.request(&long, Refusal(413, "65536 bytes"));
    let deep = format!(
        r#"{{"database":"tests","credentials":{}{}}}"#,
        "[".repeat(30_000),
        "]".repeat(30_000)
    );
    table.request(&deep, Refusal(400, "a request must be"));
}

fn calls(table: &mut Table) {
    for no_call in
        ["true", "null", "{}", "[]", "\"_id\"", "[\"7\",null,\"_id\",[]]", "[[7]]", "[null]"]
    {
        table.line(format!(r#"["$S","data",{no_call}]"#), ChannelEnds);
    }
    table.line(format!(r#"["$S","data",[{}]]"#, "9".repeat(40)), ChannelEnds);
    for unknown in ["", "destroy", "put", "_ID", "_id ", "toString", "eval", "_id\\u0000"] {
        table.call(unknown, "[]", Failure(0, "No method named"));
    }
    table.call(&"m".repeat(9_000), "[]", Failure(0, "No method named mmm"));
    table.line(r#"["$S","data",[7]]"#, Failure(0, "No method named null"));
    table.line(r#"["$S","data",[7,"tests",{"a":1},[]]]"#, Failure(0, "No method named"));
    for database in ["\"others\"", "\"\"", "7", "{}", "[\"tests\"]", "false"] {
        let line = format!(r#"["$S","data",[7,{database},"_id",[]]]"#);
        table.line(line, Failure(0, "No allowed database named"));
    }
    table.line(r#"["$S","data",[7,"tests","_id","none"]]"#, Success);
    table.line(r#"["$S","data",[7,"tests","_id",[1,2,3,4,5,6,7,8,9,10],11]]"#, Success);
    table.line(r#"["$S","data",[7,"tests","_info",{}]]"#, Success);
}

fn reads(table: &mut Table) {
    let parameters = || Failure(400, "parameters of");
    for args in ["[7]", "[{}]", "[[\"a\"]]", "[true]"] {
        table.call("get", args, parameters());
        table.call("_getRevisionTree", args, parameters());
    }
    for id in ["[]", "[null]", "[\"\"]", "[\"_design\"]", "[\"_bad\"]"] {
        table.call("get", id, Failure(400, ""));
        table.call("_getRevisionTree", id, Failure(400, ""));
    }
    let long = format!("[\"{}\"]", "i".repeat(51));
    table.call("get", &long, Failure(400, "at most 50"));
    table.call("get", "[\"_local/none\"]", Failure(404, "missing"));
    table.call("_getRevisionTree", "[\"_local/none\"]", Failure(400, ""));
    for options in [
        "7",
        "\"all\"",
        r#"{"rev":7}"#,
        r#"{"revs":"yes"}"#,
        r#"{"open_revs":"some"}"#,
        r#"{"open_revs":7}"#,
        r#"{"open_revs":[7]}"#,
        r#"{"latest":1}"#,
    ] {
        table.call("get", &format!("[\"a\",{options}]"), parameters());
    }
    for rev in ["", "x", "1", "-a", "0-a", "01-a", "99999999999999999999-a"] {
        table.call("get", &format!(r#"["a",{{"rev":"{rev}"}}]"#), Failure(400, "Invalid rev"));
        table.call(
            "get",
            &format!(r#"["a",{{"open_revs":["{rev}"]}}]"#),
            Failure(400, "Invalid rev"),
        );
    }
    let revs = (1..=6).map(|n| format!("\"1-{n}\"")).collect::<Vec<_>>().join(",");
    table.call("get", &format!(r#"["a",{{"open_revs":[{revs}]}}]"#), Failure(413, "revisions"));
    for options in [
        "7",
        r#"{"keys":"a"}"#,
        r#"{"keys":[7]}"#,
        r#"{"keys":{}}"#,
        r#"{"limit":-1}"#,
        r#"{"skip":1.5}"#,
        r#"{"startkey":7}"#,
        r#"{"include_docs":"yes"}"#,
    ] {
        table.call("allDocs", &format!("[{options}]"), parameters());
    }
    table.call("allDocs", r#"[{"keys":["_bad"]}]"#, Failure(400, "underscore"));
    table.call("allDocs", r#"[{"keys":["1","2","3","4","5","6"]}]"#, Failure(413, "keys"));
}

fn writes(table: &mut Table) {
    for args in ["[]", "[null]", "[{}]", r#"[{"docs":null}]"#] {
        table.call("_bulkDocs", args, Failure(400, "Missing JSON list of 'docs'"));
    }
    for args in ["[7]", r#"[{"docs":7}]"#, r#"[{"docs":{}}]"#, r#"[{"docs":[],"new_edits":"no"}]"#]
    {
        table.call("_bulkDocs", args, Failure(400, "parameters of"));
    }
    table.call("_bulkDocs", r#"[{"docs":[{},{},{},{},{},{}]}]"#, Failure(413, "documents"));
    for (doc, part) in [
        ("7", "Document must be"),
        ("null", "Document must be"),
        ("[]", "Document must be"),
        (r#"{"_id":7,"_rev":"1-a"}"#, "id must be"),
        (r#"{"_id":"","_rev":"1-a"}"#, "id must not"),
        (r#"{"_id":"_x","_rev":"1-a"}"#, "underscore"),
        (r#"{"_id":"a"}"#, "needs a _rev"),
        (r#"{"_id":"a","_rev":7}"#, "Invalid rev"),
        (r#"{"_id":"a","_rev":"nonsense"}"#, "Invalid rev"),
        (r#"{"_id":"a","_rev":"2-b","_revisions":{"start":2,"ids":["c","a"]}}"#, "_revisions"),
        (r#"{"_id":"a","_rev":"1-b","_revisions":{"start":1,"ids":[]}}"#, "_revisions"),
        (r#"{"_id":"a","_rev":"1-b","_revisions":{"start":1,"ids":["b","a"]}}"#, "_revisions"),
        (r#"{"_id":"a","_rev":"1-b","_revisions":7}"#, "_revisions"),
        (r#"{"_id":"a","_rev":"1-b","_deleted":"yes"}"#, "_deleted"),
        (r#"{"_id":"a","_rev":"1-b","_unknown":1}"#, "_unknown"),
        (r#"{"_id":"a","_rev":"1-b","_attachments":7}"#, "_attachments"),
        (r#"{"_id":"a","_rev":"1-b","_attachments":{"t":7}}"#, "attachment"),
        (r#"{"_id":"a","_rev":"1-b","_attachments":{"t":{"data":{}}}}"#, "Buffers"),
        (r#"{"_id":"a","_rev":"1-b","_attachments":{"t":{"data":{"type":"Buffer"}}}}"#, "Buffers"),
        (r#"{"_id":"a","_rev":"1-b","_attachments":{"t":{"data":"~"}}}"#, "base64"),
        (
            r#"{"_id":"a","_rev":"1-b","_attachments":{"t":{"data":{"type":"Buffer","data":[256]}}}}"#,
            "Buffers",
        ),
        (
            r#"{"_id":"a","_rev":"1-b","_attachments":{"t":{"stub":true,"digest":"md5-XUFAKrxLKna5cZ2REBfFkg=="}}}"#,
            "stub",
        ),
        (r#"{"_id":"_local/a","_rev":"1-b"}"#, "Invalid rev"),
    ] {
        table.replicated(doc, Row(0, part));
    }
    let large = format!(r#"{{"_id":"a","_rev":"1-b","x":"{}"}}"#, "x".repeat(3_000));
    table.replicated(&large, Row(413, "at most 2000"));
    let many = format!(r#"{{"_id":"a","_rev":"1-b","x":[{}1]}}"#, "1,".repeat(400));
    table.replicated(&many, Row(400, "more than 300"));
    let deep = format!(r#"{{"_id":"a","_rev":"1-b","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    table.replicated(&deep, Row(400, "deeper"));
    let bytes = vec!["1"; 1_001].join(",");
    let attached = |data: &str| {
        format!(r#"{{"_id":"a","_rev":"1-b","_attachments":{{"t":{{"data":{data}}}}}}}"#)
    };
    let buffer = attached(&format!(r#"{{"type":"Buffer","data":[{bytes}]}}"#));
    table.replicated(&buffer, Row(400, "larger"));
    let deep = attached(&format!("{}{}", "[".repeat(60_000), "]".repeat(60_000)));
    table.replicated(&deep, Row(400, ""));
    let checkpoint = r#"[{"docs":[{"_id":"_local/x","_rev":"0-9"}]},{"new_edits":true}]"#;
    table.call("_bulkDocs", checkpoint, Row(409, "Document update conflict"));
}

fn feeds(table: &mut Table) {
    for options in [
        "7",
        r#"{"since":-1}"#,
        r#"{"since":1.5}"#,
        r#"{"since":[]}"#,
        r#"{"since":{}}"#,
        r#"{"since":"x"}"#,
        r#"{"since":"1-zz"}"#,
        r#"{"limit":-5}"#,
        r#"{"live":1}"#,
        r#"{"style":7}"#,
        r#"{"doc_ids":"a"}"#,
        r#"{"doc_ids":["_x"]}"#,
        r#"{"live":true,"descending":true}"#,
    ] {
        table.call("_changes", &format!("[0,{options}]"), Event(400, ""));
    }
    let many = r#"[0,{"doc_ids":["1","2","3","4","5","6"]}]"#;
    table.call("_changes", many, Event(413, "doc_ids"));
    for no_listener in ["[]", "[null]", "[\"a\"]", "[{}]"] {
        table.call("_changes", no_listener, Success);
    }
    table.call("_changes", "[0]", Success);
}

struct Witnesses {
    old: (Legacy, String),
    new: Raw,
}

impl Witnesses {
    async fn assert_alive(&mut self, case: &str) {
        let (client, stream) = &mut self.old;
        client.assert_alive(stream, case).await;
        self.new.assert_alive(case).await;
    }
}

async fn check(served: &Arc<Served>, witnesses: &mut Witnesses, case: &Case) {
    let name = &case.name;
    let (mut client, stream) = Legacy::with_channel(served, "tests").await;
    for (first, payload) in &case.frames {
        let payload = replaced(payload, &stream);
        let length = if case.bytewise { 1 } else { payload.len().max(1) };
        for piece in payload.chunks(length) {
            client.raw.frame(*first, piece).await;
        }
        if payload.is_empty() {
            client.raw.frame(*first, &[]).await;
        }
    }
    let told = |error: &Value, status: u16, part: &str| {
        let expected = if status == 0 { error["status"].clone() } else { json!(status) };
        assert_eq!(error["status"], expected, "{name}: {error}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(message.contains(part), "{name}: {error}");
        assert!(message.len() < 1_000, "{name}: a message of {} bytes", message.len());
    };
    let seven = |r: &Value| r[0] == *stream && r[2][0] == 7;
    match &case.comes {
        Close(code) => {
            let (came, reason) = client.raw.closed().await;
            assert_eq!(came, *code, "{name}: {reason}");
            return witnesses.assert_alive(name).await;
        }
        Nothing => {}
        Success => {
            let answer = client.find(name, seven).await;
            assert!(answer[2][1][0].is_null(), "{name}: {answer}");
        }
        Refusal(status, part) => {
            let answer = client.find(name, |r| r[0] == "m" && r[1] == "data").await;
            told(&answer[2][0], *status, part);
        }
        Failure(status, part) => {
            let answer = client.find(name, seven).await;
            assert!(answer[2][1][1].is_null(), "{name}: {answer}");
            told(&answer[2][1][0], *status, part);
        }
        Row(status, part) => {
            let answer = client.find(name, seven).await;
            told(&answer[2][1][1][0], *status, part);
        }
        Event(status, part) => {
            let (event, payload) = client.event(&stream, 0).await;
            assert_eq!(event, "error", "{name}: {payload}");
            told(&payload, *status, part);
        }
        ChannelEnds => {
            let answer = client.find(name, |r| r[2][0] == -1).await;
            assert_eq!(answer[2][1][0]["message"], "require an array", "{name}");
            client.find(name, |r| *r == json!([stream, "close"])).await;
            let again = client.open("again", "tests", json!({"token": "secret"})).await;
            client.assert_alive(&again, name).await;
            return witnesses.assert_alive(name).await;
        }
    }
    if name != "a line that never ends" {
        client.assert_alive(&stream, name).await;
    }
    witnesses.assert_alive(name).await;
}

/// A payload with the name of the channel's stream in each place where it is meant.
fn replaced(payload: &[u8], stream: &str) -> Vec<u8> {
    let mut parts = payload.split(|byte| *byte == b'$');
    let mut all = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        all.extend_from_slice(stream.as_bytes());
        all.extend_from_slice(part.strip_prefix(b"S").unwrap_or(part));
    }
    all
}

async fn witnesses(served: &Arc<Served>) -> Witnesses {
    let open = json!({"database": "tests", "credentials": {"token": "secret"}});
    let old = Legacy::with_channel(served, "tests").await;
    Witnesses { old, new: served.channel(open).await }
}

#[tokio::test]
async fn wrong_input_is_answered_where_it_was_made() {
    let served = served();
    let mut witnesses = witnesses(&served).await;
    let mut table = Table::default();
    lines(&mut table);
    frames(&mut table);
    requests(&mut table);
    calls(&mut table);
    reads(&mut table);
    writes(&mut table);
    feeds(&mut table);
    assert!(table.0.len() >= 230, "{} cases", table.0.len());
    for case in &table.0 {
        check(&served, &mut witnesses, case).await;
    }
}

#[tokio::test]
async fn frames_of_a_server_end_their_connection() {
    let served = served();
    let mut witnesses = witnesses(&served).await;
    let (mut client, _) = Legacy::with_channel(&served, "tests").await;
    client.raw.write(&unmasked(FIN | TEXT, b"\n")).await;
    assert_eq!(client.raw.closed().await.0, 1002);
    witnesses.assert_alive("unmasked").await;
    assert_eq!(frame(FIN | TEXT, b"").len(), 6, "frames of these tests are masked");
}

#[tokio::test]
async fn ten_thousand_streams_are_refused_and_cost_nothing() {
    let served = served();
    let mut witnesses = witnesses(&served).await;
    let (mut client, stream) = Legacy::with_channel(&served, "tests").await;
    let max = Limits::default().channels_per_connection_max;
    let mut refused = 0;
    for n in 0..10_000 {
        client.record(json!([format!("s{n}"), "new", {}])).await;
        if n >= max - 1 {
            let answer = client.next().await;
            assert_eq!(answer[2][0]["status"], 429, "{answer}");
            for end in ["end", "close"] {
                assert_eq!(client.next().await[1], end);
            }
            refused += 1;
        }
    }
    assert_eq!(refused, 10_000 - max + 1);
    client.assert_alive(&stream, "after 10,000 streams").await;
    witnesses.assert_alive("10,000 streams").await;
    // Asked for without reading a refusal: the connection is not read either.
    let mut silent = Legacy::connect(&served).await;
    let streams: String = (0..2_000).map(|n| format!("[\"s{n}\",\"new\"]\n")).collect();
    silent.raw.text(&streams).await;
    witnesses.assert_alive("2,000 refusals that nobody reads").await;
    assert_eq!(served.gateway.counts().1, 3);
}

/// 100 MB, in frames of 64 KiB that each are within their bound, and as one frame.
#[tokio::test]
async fn a_record_of_100_megabytes_ends_its_connection_early() {
    let served = served();
    let mut witnesses = witnesses(&served).await;
    let (mut client, _) = Legacy::with_channel(&served, "tests").await;
    let piece = frame(FIN | BINARY, &vec![b'x'; 65_536]);
    for sent in 0..1_600 {
        client.raw.write(&piece).await;
        if sent % 100 == 0 {
            witnesses.assert_alive("100 MB in pieces").await;
        }
    }
    assert_eq!(client.raw.closed().await.0, 1009);
    let (mut client, _) = Legacy::with_channel(&served, "tests").await;
    // The head of a frame announces what follows.
    let mut head = vec![FIN | TEXT, 0xff];
    head.extend(100_000_000_u64.to_be_bytes());
    head.extend([1, 2, 3, 4]);
    client.raw.write(&head).await;
    assert_eq!(client.raw.closed().await.0, 1009);
    witnesses.assert_alive("100 MB in one frame").await;
}
