//! Wrong input, by table: each case gets its named error or close code; where the connection may go
//! on it goes on, and other connections never notice.
#![allow(clippy::too_many_lines, reason = "a table is one function, however many cases it has")]

#[path = "support/raw.rs"]
mod raw;

use raw::{BINARY, CLOSE, CONTINUATION, Came, FIN, HANDSHAKE, PING, Raw, Served, TEXT};
use raw::{frame, piece, unmasked};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant};
use settee::store::MemoryBackend;
use settee::{DbName, Document, Limits, Store};
use std::sync::Arc;

/// What is sent.
enum Sent {
    Text(String),
    Binary(Vec<u8>),
    /// Bytes of frames.
    Frames(Vec<u8>),
    /// Instead of a handshake.
    Http(Vec<u8>),
}

/// What must come of it.
enum Comes {
    /// `["error", …]` with this status, error and part of the reason.
    Complaint(u16, &'static str, &'static str),
    /// `["refused", 2, …]`
    Refusal(u16, &'static str, &'static str),
    /// `["fail", 1, 7, …]`
    Failure(u16, &'static str, &'static str),
    /// `["reply", 1, 7, [row]]` with this error in its row.
    Row(u16, &'static str, &'static str),
    /// A message that begins like this.
    Answer(&'static str),
    /// A message that contains this.
    Within(&'static str),
    /// Nothing: it is passed over.
    Nothing,
    /// A close with this code.
    Close(u16),
    /// An HTTP answer with this status and part of the body.
    Status(u16, &'static str),
}

use Comes::*;

struct Case {
    name: String,
    sent: Sent,
    comes: Comes,
}

const DOC_BYTES_MAX: usize = 2_000;
const FRAME_BYTES_MAX: usize = 100_000;
const MESSAGE_BYTES_MAX: usize = 150_000;

fn store_limits() -> Limits {
    Limits {
        doc_bytes_max: DOC_BYTES_MAX,
        json_members_max: 300,
        doc_id_bytes_max: 50,
        bulk_rows_max: 5,
        attachment_bytes_max: 1_000,
        attachments_per_doc_max: 2,
        leaves_per_doc_max: 3,
        ..Limits::default()
    }
}

async fn served() -> Arc<Served> {
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), store_limits());
    let db = store.create(&DbName::parse("tests").unwrap()).await.unwrap();
    let limits = Limits::default();
    db.put(Document::parse(r#"{"_id":"a","n":1}"#, &limits).unwrap()).await.unwrap();
    let limits = Limits {
        frame_bytes_max: FRAME_BYTES_MAX,
        message_bytes_max: MESSAGE_BYTES_MAX,
        ..store_limits()
    };
    let authorizer = |request: AccessRequest| async move {
        match request.credentials["token"].as_str() {
            Some("secret") => Ok(Grant::database(request.database).creating()),
            _ => Err(Denied::new("not allowed")),
        }
    };
    Served::new(Gateway::builder(store).limits(limits).authorizer(authorizer))
}

fn open() -> Value {
    json!({"database": "tests", "credentials": {"token": "secret"}})
}

async fn check(served: &Served, witness: &mut Raw, case: &Case) {
    let name = &case.name;
    if let Sent::Http(request) = &case.sent {
        let Status(status, part) = case.comes else { panic!("{name}: expects no status") };
        let (came, body) = served.bytes().await.request(request).await;
        assert_eq!(came, status, "{name}: {body}");
        assert!(body.contains(part), "{name}: {body}");
        return witness.assert_alive(name).await;
    }
    let mut raw = served.channel(open()).await;
    match &case.sent {
        Sent::Text(text) => raw.text(text).await,
        Sent::Binary(bytes) => raw.frame(FIN | BINARY, bytes).await,
        Sent::Frames(bytes) => raw.write(bytes).await,
        Sent::Http(_) => unreachable!("handled above"),
    }
    let error = |message: &Value, place: &str, status: u16, error: &str, part: &str| {
        let told = message.pointer(place).unwrap_or(&Value::Null);
        assert_eq!(told["status"], status, "{name}: {message}");
        assert_eq!(told["error"], error, "{name}: {message}");
        let reason = told["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(part), "{name}: {message}");
        assert!(reason.len() < 1_000, "{name}: a reason of {} bytes", reason.len());
    };
    match &case.comes {
        Close(code) => {
            let (came, reason) = raw.closed().await;
            assert_eq!(came, *code, "{name}: {reason}");
            return witness.assert_alive(name).await;
        }
        Nothing => assert_eq!(raw.ask(json!(["ping", 1])).await, json!(["pong", 1]), "{name}"),
        Complaint(status, named, part) => {
            let message = raw.json().await;
            assert_eq!(message[0], "error", "{name}: {message}");
            error(&message, "/1", *status, named, part);
        }
        Refusal(status, named, part) => {
            let message = raw.json().await;
            assert_eq!((&message[0], &message[1]), (&json!("refused"), &json!(2)), "{name}");
            error(&message, "/2", *status, named, part);
        }
        Failure(status, named, part) => {
            let message = raw.json().await;
            assert_eq!(message[0], "fail", "{name}: {message}");
            error(&message, "/3", *status, named, part);
        }
        Row(status, named, part) => {
            let message = raw.json().await;
            assert_eq!(message[0], "reply", "{name}: {message}");
            error(&message, "/3/0", *status, named, part);
        }
        Answer(begin) => {
            let message = raw.json().await.to_string();
            assert!(message.starts_with(begin), "{name}: {message}");
        }
        Within(part) => {
            let message = raw.json().await.to_string();
            assert!(message.contains(part), "{name}: {message}");
        }
        Status(..) => panic!("{name}: a status is for HTTP"),
    }
    raw.assert_alive(name).await;
    witness.assert_alive(name).await;
}

#[derive(Default)]
struct Table(Vec<Case>);

impl Table {
    fn add(&mut self, name: impl Into<String>, sent: Sent, comes: Comes) {
        self.0.push(Case { name: name.into(), sent, comes });
    }

    fn text(&mut self, text: impl Into<String>, comes: Comes) {
        let text = text.into();
        let name: String = text.chars().take(100).collect();
        self.add(name, Sent::Text(text), comes);
    }

    fn call(&mut self, method: &str, params: &str, comes: Comes) {
        self.text(format!(r#"["call",1,7,"{method}",{params}]"#), comes);
    }

    fn doc(&mut self, doc: &str, comes: Comes) {
        self.call("bulk_docs", &format!(r#"{{"docs":[{doc}]}}"#), comes);
    }

    fn replicated(&mut self, doc: &str, comes: Comes) {
        self.call("bulk_docs", &format!(r#"{{"new_edits":false,"docs":[{doc}]}}"#), comes);
    }

    fn frames(&mut self, name: &str, frames: &[Vec<u8>], comes: Comes) {
        self.add(name, Sent::Frames(frames.concat()), comes);
    }

    fn http(&mut self, name: &str, request: impl Into<Vec<u8>>, comes: Comes) {
        self.add(name, Sent::Http(request.into()), comes);
    }
}

fn messages(table: &mut Table) {
    for text in [
        "",
        " ",
        "x",
        "nonsense",
        "{}",
        "[]",
        "1",
        "null",
        "true",
        "\"open\"",
        "[1]",
        "[null]",
        "[[\"open\"]]",
        "[{}]",
        "[\"open\"",
        "[\"ping\",]",
        "[\"ping\" 1]",
        "['ping']",
        "[\"ping\"]x",
        "[\"ping\",01]",
        "[\"ping\",\"\\x\"]",
        "[\"ping\",nan]",
        "[\"ping\",\"\u{1}\"]",
        "\u{feff}[\"ping\"]",
        "[\"\\ud800\"]",
        "{\"0\":\"ping\"}",
    ] {
        table.text(text, Close(1002));
    }
    for text in [
        "[\"fly\"]",
        "[\"OPEN\",1]",
        "[\"\"]",
        "[\"open \",1]",
        "[\"opened\",1,{}]",
        "[\"reply\",1,1,1]",
        "[\"rows\",1,1,[]]",
        "[\"p\\u0000ing\"]",
    ] {
        table.text(text, Complaint(400, "bad_request", "unknown verb"));
    }
    table.text(format!("[\"{}\"]", "v".repeat(5_000)), Complaint(400, "bad_request", "vvv…"));
    for text in [
        r#"["open"]"#,
        r#"["open",2]"#,
        r#"["open",2,null]"#,
        r#"["open",2,{}]"#,
        r#"["open",2,{"database":1}]"#,
        r#"["open",2,{"database":null}]"#,
        r#"["open",2,{"database":["tests"]}]"#,
        r#"["open",2,{"database":"tests","create":1}]"#,
        r#"["open","2",{"database":"tests"}]"#,
        r#"["open",0,{"database":"tests"}]"#,
        r#"["open",-1,{"database":"tests"}]"#,
        r#"["open",2.5,{"database":"tests"}]"#,
        r#"["open",1e3,{"database":"tests"}]"#,
        r#"["open",4294967296,{"database":"tests"}]"#,
        r#"["open",99999999999999999999,{"database":"tests"}]"#,
        r#"["open",null,{}]"#,
        r#"["open",{"database":"tests"},2]"#,
    ] {
        table.text(text, Complaint(400, "bad_request", "malformed \"open\""));
    }
    for (verb, texts) in [
        ("identify", &[r#"["identify"]"#][..]),
        (
            "join",
            &[
                r#"["join"]"#,
                r#"["join",5]"#,
                r#"["join",""]"#,
                r#"["join",["a"]]"#,
                r#"["join","a",null]"#,
                r#"["join","a",[]]"#,
                r#"["join","a",{"presense":true}]"#,
                r#"["join","a",{"presence":1}]"#,
            ],
        ),
        ("leave", &[r#"["leave"]"#, r#"["leave",null]"#, r#"["leave",""]"#]),
        ("state", &[r#"["state"]"#, r#"["state","a"]"#, r#"["state",1,2]"#]),
        (
            "send",
            &[
                r#"["send"]"#,
                r#"["send",1]"#,
                r#"["send",0,{"event":"e","targets":{"users":"a"}}]"#,
                r#"["send",-1,{"event":"e","targets":{"users":"a"}}]"#,
                r#"["send",1,{"event":5,"targets":{"users":"a"}}]"#,
                r#"["send",1,{"event":"e"}]"#,
                r#"["send",1,{"targets":{"users":"a"}}]"#,
                r#"["send",1,{"event":"e","targets":[]}]"#,
                r#"["send",1,["e",{"users":"a"}]]"#,
                r#"["send",1,{"event":"e","targets":{"users":{}}}]"#,
                r#"["send",1,{"event":"e","targets":{"users":[1]}}]"#,
                r#"["send",1,{"event":"e","targets":{"rooms":"a"}}]"#,
                r#"["send",1,{"event":"e","targets":{"users":"a"},"data":1}]"#,
            ],
        ),
    ] {
        for text in texts {
            let reason = match verb {
                "identify" => "malformed \"identify\"",
                "join" => "malformed \"join\"",
                "leave" => "malformed \"leave\"",
                "state" => "malformed \"state\"",
                _ => "malformed \"send\"",
            };
            table.text(*text, Complaint(400, "bad_request", reason));
        }
    }
    table.text(format!(r#"["join","{}"]"#, "x".repeat(257)), Complaint(400, "bad_request", "join"));
    table.text(r#"["identify",null]"#, Answer(r#"["unidentified","#));
    table.text(r#"["identify",{"token":"secret"}]"#, Answer(r#"["unidentified","#));
    table.text(r#"["join","a"]"#, Within("has not identified itself"));
    table.text(r#"["leave","a"]"#, Nothing);
    table.text(r#"["state","a",1]"#, Nothing);
    table.text(
        r#"["send",1,{"event":"e","targets":{"broadcast":true}}]"#,
        Within("has not identified itself"),
    );
    table.text(r#"["send",1,{"event":"","targets":{"broadcast":true}}]"#, Within("empty"));
    table.text(r#"["send",1,{"event":"e","targets":{}}]"#, Within("needs a target"));
    for verb in ["identified", "joined", "event", "presence", "lost"] {
        table.text(format!("[\"{verb}\",1]"), Complaint(400, "bad_request", "unknown verb"));
    }
    for text in [
        r#"["call"]"#,
        r#"["call",1]"#,
        r#"["call",1,7]"#,
        r#"["call",1,0,"info"]"#,
        r#"["call",0,7,"info"]"#,
        r#"["call",-1,7,"info"]"#,
        r#"["call",1,-7,"info"]"#,
        r#"["call",1,"7","info"]"#,
        r#"["call",1,7.5,"info"]"#,
        r#"["call",1,4294967296,"info"]"#,
        r#"["call",1,7,5]"#,
        r#"["call",1,7,null]"#,
        r#"["call",1,7,["info"]]"#,
        r#"["call",1,7,"info",[]]"#,
        r#"["call",1,7,"info",null]"#,
        r#"["call",1,7,"info",5]"#,
        r#"["call",1,7,"info","{}"]"#,
    ] {
        table.text(text, Complaint(400, "bad_request", "malformed \"call\""));
    }
    for (verb, texts) in [
        (
            "more",
            &[
                r#"["more"]"#,
                r#"["more",1,7]"#,
                r#"["more",1,7,0]"#,
                r#"["more",1,7,-1]"#,
                r#"["more",1,7,"8"]"#,
                r#"["more",1,7,1e9]"#,
                r#"["more",1,7,4294967296]"#,
            ][..],
        ),
        (
            "cancel",
            &[r#"["cancel"]"#, r#"["cancel",1]"#, r#"["cancel",1,0]"#, r#"["cancel",1,null]"#],
        ),
        ("credentials", &[r#"["credentials"]"#, r#"["credentials",1]"#, r#"["credentials",0,{}]"#]),
        ("close", &[r#"["close"]"#, r#"["close",0]"#, r#"["close","1"]"#, r#"["close",-1]"#]),
    ] {
        for text in texts {
            let verb = match verb {
                "more" => "malformed \"more\"",
                "cancel" => "malformed \"cancel\"",
                "credentials" => "malformed \"credentials\"",
                _ => "malformed \"close\"",
            };
            table.text(*text, Complaint(400, "bad_request", verb));
        }
    }
    // Of what is not there, or no more.
    table.text(r#"["call",9,7,"info"]"#, Failure(404, "not_found", "no such channel"));
    table.text(r#"["call",4294967295,7,"info"]"#, Failure(404, "not_found", "no such channel"));
    for text in [
        r#"["more",9,7,1]"#,
        r#"["more",1,9,1]"#,
        r#"["cancel",9,7]"#,
        r#"["cancel",1,9]"#,
        r#"["close",9]"#,
        r#"["credentials",9,{}]"#,
        r#"["pong"]"#,
        r#"["pong",1,2,3]"#,
    ] {
        table.text(text, Nothing);
    }
    table.text(format!(r#"["open",1,{}]"#, open()), Complaint(400, "bad_request", "open already"));
    table.text(r#"["ping"]"#, Answer(r#"["pong",null]"#));
    table.text(r#"["ping",1,2,3,4,5,6,7,8,9,10,11]"#, Answer(r#"["pong",1]"#));
    let many = format!("[\"fly\"{}]", ",1".repeat(40_000));
    table.text(many, Complaint(400, "bad_request", "unknown verb"));
    let deep = format!("[\"ping\",{}{}]", "[".repeat(120), "]".repeat(120));
    table.text(deep, Within("[[[[[["));
}

fn opening(table: &mut Table) {
    let long = "a".repeat(239);
    for name in [
        "",
        "Tests",
        "1tests",
        "_users",
        "../tests",
        "tests/../../etc",
        "a.b",
        "a%2fb",
        "a b",
        "a\\u0000b",
        "tést",
        "\\ud83d\\ude00",
        "a\\\\b",
        "a:b",
        "a?b",
        "a#b",
        "-a",
        "/a",
        " a",
        "a ",
        "a\\n",
        &long,
    ] {
        let open = format!(
            r#"["open",2,{{"database":"{name}","credentials":{{"token":"secret"}},"create":true}}]"#
        );
        table.text(open, Refusal(400, "illegal_database_name", "Only lowercase"));
    }
    let fits = "a".repeat(238);
    for name in ["a", "a/b", "a_$()+-/9", "a//b", &fits] {
        let open = json!({"database": name, "credentials": {"token": "secret"}, "create": true});
        table.text(json!(["open", 2, open]).to_string(), Answer(r#"["opened",2,"#));
    }
    for credentials in
        ["null", "{}", "5", "\"secret\"", "[]", r#"{"token":null}"#, r#"{"token":"wrong"}"#]
    {
        let open = format!(r#"["open",2,{{"database":"tests","credentials":{credentials}}}]"#);
        table.text(open, Refusal(401, "unauthorized", "not allowed"));
    }
    table.text(r#"["open",2,{"database":"tests"}]"#, Refusal(401, "unauthorized", "not allowed"));
    let absent = json!(["open", 2, {"database": "absent", "credentials": {"token": "secret"}}]);
    table.text(absent.to_string(), Refusal(404, "not_found", ""));
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(66_000));
    let text = format!(r#"["open",2,{{"database":"tests","credentials":{long}}}]"#);
    table.text(text, Refusal(413, "too_large", "credentials may have 65536 bytes"));
    table.text(format!(r#"["credentials",1,{long}]"#), Complaint(413, "too_large", "credentials"));
    let many = format!("[{}1]", "1,".repeat(33_000));
    table.text(format!(r#"["credentials",1,{many}]"#), Complaint(413, "too_large", "credentials"));
    let duplicate = r#"["open",2,{"database":"tests","database":"other"}]"#;
    table.text(duplicate, Complaint(400, "bad_request", "malformed \"open\""));
}

fn parameters(table: &mut Table) {
    for method in ["", "Info", "_bulk_docs", "info ", "eval", "bulk_docs\\u0000"] {
        table.call(method, "{}", Failure(404, "not_found", "No method named"));
    }
    table.call(&"m".repeat(9_000), "{}", Failure(404, "not_found", "No method named mmm"));
    for method in [
        "get",
        "put",
        "delete",
        "bulk_docs",
        "bulk_get",
        "all_docs",
        "changes",
        "attachment",
        "upload",
    ] {
        table.call(method, r#"{"unheard_of":1}"#, Failure(400, "bad_request", "unheard_of"));
    }
    for (method, params) in [
        ("get", r#"{"id":5}"#),
        ("get", r#"{"id":"a","rev":5}"#),
        ("get", r#"{"id":"a","revs":"yes"}"#),
        ("get", r#"{"id":"a","open_revs":5}"#),
        ("get", r#"{"id":"a","open_revs":"some"}"#),
        ("get", r#"{"id":"a","open_revs":[5]}"#),
        ("get", r#"{"id":"a","open_revs":{}}"#),
        ("get", r#"{"id":"a","id":"b"}"#),
        ("get", r#"{"id":null}"#),
        ("put", "{}"),
        ("put", r#"{"doc":{},"new_edits":"no"}"#),
        ("put", r#"{"doc":{},"doc":{}}"#),
        ("delete", "{}"),
        ("delete", r#"{"id":"a"}"#),
        ("delete", r#"{"id":"a","rev":1}"#),
        ("bulk_docs", "{}"),
        ("bulk_docs", r#"{"docs":{}}"#),
        ("bulk_docs", r#"{"docs":null}"#),
        ("bulk_docs", r#"{"docs":[],"new_edits":0}"#),
        ("bulk_get", "{}"),
        ("bulk_get", r#"{"docs":[{}]}"#),
        ("bulk_get", r#"{"docs":["a"]}"#),
        ("bulk_get", r#"{"docs":[{"id":1}]}"#),
        ("bulk_get", r#"{"docs":[],"credit":-1}"#),
        ("revs_diff", r#"{"a":"1-b"}"#),
        ("revs_diff", r#"{"a":[1]}"#),
        ("revs_diff", r#"{"a":null}"#),
        ("all_docs", r#"{"limit":-1}"#),
        ("all_docs", r#"{"limit":"1"}"#),
        ("all_docs", r#"{"skip":1.5}"#),
        ("all_docs", r#"{"keys":"a"}"#),
        ("all_docs", r#"{"keys":[1]}"#),
        ("all_docs", r#"{"key":{}}"#),
        ("all_docs", r#"{"startkey":1}"#),
        ("all_docs", r#"{"credit":99999999999}"#),
        ("all_docs", r#"{"startkey":"a","start_key":"b"}"#),
        ("changes", r#"{"since":-1}"#),
        ("changes", r#"{"since":1.5}"#),
        ("changes", r#"{"since":[]}"#),
        ("changes", r#"{"since":{}}"#),
        ("changes", r#"{"since":true}"#),
        ("changes", r#"{"style":"all"}"#),
        ("changes", r#"{"live":1}"#),
        ("changes", r#"{"doc_ids":"a"}"#),
        ("changes", r#"{"doc_ids":[1]}"#),
        ("changes", r#"{"limit":-5}"#),
        ("changes", r#"{"credit":-1}"#),
        ("attachment", "{}"),
        ("attachment", r#"{"id":"a"}"#),
        ("attachment", r#"{"id":"a","name":1}"#),
        ("upload", r#"{"length":-1}"#),
        ("upload", r#"{"length":"1"}"#),
        ("upload", r#"{"digest":1}"#),
    ] {
        table.call(method, params, Failure(400, "bad_request", "parameters of"));
    }
    for since in
        ["x", "", "-1", "1-", "1-zz", "1-0123456789abcdeF", "NOW", "1e3", "99999999999999999999"]
    {
        table.call(
            "changes",
            &json!({"since": since}).to_string(),
            Failure(400, "bad_request", "since"),
        );
    }
    table.call("changes", r#"{"since":18446744073709551615}"#, Answer(r#"["end",1,7,"#));
    table.call("changes", r#"{"since":"now","limit":0}"#, Answer(r#"["end",1,7,"#));
    table.call(
        "changes",
        r#"{"live":true,"descending":true}"#,
        Failure(400, "bad_request", "descend"),
    );
    table.call("changes", r#"{"live":true,"limit":0}"#, Failure(400, "bad_request", "limit"));
    let quoted = json!({"since": ["y".repeat(50_000)]}).to_string();
    table.call("changes", &quoted, Failure(400, "bad_request", "parameters of changes"));
    let quoted = json!({"style": "y".repeat(50_000)}).to_string();
    table.call("changes", &quoted, Failure(400, "bad_request", "parameters of changes"));
    for (method, params) in [
        ("get", r#"{"id":"a","rev":"x"}"#),
        ("get", r#"{"id":"a","rev":""}"#),
        ("get", r#"{"id":"a","rev":"0-a"}"#),
        ("get", r#"{"id":"a","rev":"-1-a"}"#),
        ("get", r#"{"id":"a","rev":"1"}"#),
        ("get", r#"{"id":"a","rev":"99999999999999999999999-a"}"#),
        ("get", r#"{"id":"a","open_revs":["x"]}"#),
        ("delete", r#"{"id":"a","rev":"nonsense"}"#),
        ("bulk_get", r#"{"docs":[{"id":"a","rev":"x"}]}"#),
        ("revs_diff", r#"{"a":["x"]}"#),
        ("attachment", r#"{"id":"a","name":"n","rev":"x"}"#),
    ] {
        table.call(method, params, Failure(400, "bad_request", "Invalid rev format"));
    }
    for digest in
        ["", "md5", "md5-", "md5-!!", "md5-YQ==", "sha1-YQ==", "md5-AAAAAAAAAAAAAAAAAAAAAAA="]
    {
        let params = json!({"digest": digest}).to_string();
        table.call("upload", &params, Failure(400, "bad_request", "Invalid digest format"));
    }
    let long = "i".repeat(51);
    for (id, part) in [
        ("", "must not be empty"),
        ("_x", "underscore"),
        ("_design", "underscore"),
        ("_design/", "underscore"),
        (&long[..], "at most 50"),
    ] {
        table.call("get", &json!({"id": id}).to_string(), Failure(400, "illegal_docid", part));
        let docs = json!({"docs": [{"id": id}]}).to_string();
        table.call("bulk_get", &docs, Failure(400, "illegal_docid", part));
        table.call("revs_diff", &json!({id: []}).to_string(), Failure(400, "illegal_docid", part));
        table.call(
            "all_docs",
            &json!({"keys": [id]}).to_string(),
            Failure(400, "illegal_docid", part),
        );
        table.call(
            "changes",
            &json!({"doc_ids": [id]}).to_string(),
            Failure(400, "illegal_docid", part),
        );
        table.doc(&json!({"_id": id}).to_string(), Row(400, "illegal_docid", part));
    }
    table.call("get", r#"{"id":"_local/"}"#, Failure(400, "illegal_docid", "must not be empty"));
    table.call("get", r#"{"id":"_local/absent"}"#, Failure(404, "not_found", ""));
    table.call("get", r#"{"id":"absent"}"#, Failure(404, "not_found", "missing"));
    table.call("get", r#"{"id":"a","rev":"5-a"}"#, Failure(404, "not_found", "missing"));
    table.call("delete", r#"{"id":"absent","rev":"1-a"}"#, Failure(409, "conflict", "conflict"));
    table.call("destroy", "{}", Failure(403, "forbidden", "destroy"));
    table.call("attachment", r#"{"id":"a","name":"none"}"#, Failure(404, "not_found", ""));
    let ids = |count: usize| (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>();
    let docs = |count| ids(count).iter().map(|id| json!({"id": id})).collect::<Vec<_>>();
    table.call("all_docs", &json!({"keys": ids(6)}).to_string(), Failure(413, "too_large", "keys"));
    table.call(
        "changes",
        &json!({"doc_ids": ids(6)}).to_string(),
        Failure(413, "too_large", "doc_ids"),
    );
    table.call(
        "bulk_get",
        &json!({"docs": docs(6)}).to_string(),
        Failure(413, "too_large", "in one read"),
    );
    table.call("bulk_get", &json!({"docs": docs(5)}).to_string(), Answer(r#"["rows",1,7,"#));
    let revs = ["1-a", "1-b", "1-c", "1-d", "1-e", "1-f"];
    table.call(
        "revs_diff",
        &json!({"a": revs}).to_string(),
        Failure(413, "too_large", "revs_diff"),
    );
    table.call("revs_diff", &json!({"a": revs[1..]}).to_string(), Answer(r#"["reply",1,7,"#));
    let open_revs = json!({"id": "a", "open_revs": revs}).to_string();
    table.call("get", &open_revs, Failure(413, "too_large", "revisions in one read"));
    let row = |count: usize| json!({"docs": vec![json!({}); count]}).to_string();
    table.call("bulk_docs", &row(5), Answer(r#"["reply",1,7,[{"#));
    table.call("bulk_docs", &row(6), Failure(413, "too_large", "in one write"));
    let many = format!("{{\"docs\":[{}1]}}", "1,".repeat(40_000));
    table.call("bulk_docs", &many, Failure(413, "too_large", "in one write"));
    let limit = r#"{"limit":18446744073709551615,"skip":18446744073709551615}"#;
    table.call("all_docs", limit, Answer(r#"["end",1,7,"#));
}

fn documents(table: &mut Table) {
    for doc in ["5", "null", "[]", "\"a\"", "true"] {
        table.doc(doc, Row(400, "bad_request", "JSON object"));
    }
    table.call("put", r#"{"doc":[]}"#, Failure(400, "bad_request", "JSON object"));
    for doc in [r#"{"_id":5}"#, r#"{"_id":null}"#, r#"{"_id":{}}"#] {
        table.doc(doc, Row(400, "illegal_docid", "string"));
    }
    for doc in [r#"{"_id":"b","_rev":"x"}"#, r#"{"_id":"b","_rev":"0-a"}"#] {
        table.doc(doc, Row(400, "bad_request", "Invalid rev format"));
    }
    for doc in [
        r#"{"_id":"b","_admin":true}"#,
        r#"{"_id":"b","_":1}"#,
        r#"{"_id":"b","\u005fadmin":1}"#,
        r#"{"_id":"b","_deleted":"yes"}"#,
        r#"{"_id":"b","_deleted":1}"#,
        r#"{"_id":"b","_revisions":5}"#,
        r#"{"_id":"b","_revisions":{}}"#,
        r#"{"_id":"b","_revisions":{"start":1,"ids":[]}}"#,
        r#"{"_id":"b","_revisions":{"start":0,"ids":["a"]}}"#,
        r#"{"_id":"b","_attachments":5}"#,
    ] {
        table.doc(doc, Row(400, "doc_validation", ""));
    }
    for doc in [
        r#"{"_id":"b","_attachments":{"a":5}}"#,
        r#"{"_id":"b","_attachments":{"a":{}}}"#,
        r#"{"_id":"b","_attachments":{"a":{"data":"!"}}}"#,
        r#"{"_id":"b","_attachments":{"a":{"data":5}}}"#,
    ] {
        table.doc(doc, Row(400, "bad_request", "attachment"));
    }
    let stub =
        r#"{"_id":"b","_attachments":{"a":{"stub":true,"digest":"md5-AAAAAAAAAAAAAAAAAAAAAA=="}}}"#;
    table.doc(stub, Row(412, "missing_stub", ""));
    table.doc(r#"{"_id":"a"}"#, Row(409, "conflict", "Document update conflict"));
    table.doc(r#"{"_id":"b","_rev":"1-abc"}"#, Row(409, "conflict", ""));
    table.replicated(r#"{"_id":"b"}"#, Row(400, "bad_request", "_rev"));
    // The last of equal names wins, for what is checked and what is stored.
    for half in
        [r#"{"s":"\ud800"}"#, r#"{"s":"\udc00"}"#, r#"{"\ud800":1}"#, r#"{"s":"\ud800\u0041"}"#]
    {
        table.doc(half, Row(400, "bad_request", "surrogate"));
    }
    table.doc(r#"{"_id":"ok","_id":"_bad"}"#, Row(400, "illegal_docid", "underscore"));
    table.doc(r#"{"_id":"_bad","_id":"ok"}"#, Within("\"ok\":true"));
    table.doc(r#"{"_id":"c","_rev":"1-a","_rev":"x"}"#, Row(400, "bad_request", "Invalid rev"));
    table.doc(r#"{"_id":"c","_deleted":"no","_deleted":false}"#, Within("\"ok\":true"));
    table.doc(r#"{"_id":"c2","_deleted":false,"_deleted":"no"}"#, Row(400, "doc_validation", ""));
    table.doc(r#"{"_id":"_x","\u005fid":"d"}"#, Within("\"id\":\"d\""));
    let deep =
        |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1));
    table.doc(&deep(100), Within("\"ok\":true"));
    table.doc(&deep(101), Row(400, "bad_request", "deeper than 100"));
    table.doc(&deep(900), Row(400, "bad_request", "deeper than 100"));
    let members = |count: usize| format!("{{\"a\":[{}1]}}", "1,".repeat(count - 2));
    table.doc(&members(300), Within("\"ok\":true"));
    table.doc(&members(301), Row(400, "bad_request", "more than 300"));
    let sized = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
    table.doc(&sized(DOC_BYTES_MAX), Within("\"ok\":true"));
    table.doc(&sized(DOC_BYTES_MAX + 1), Row(413, "too_large", "at most 2000"));
    let attachments = |count: usize| {
        let one = |n| (format!("f{n}"), json!({"data": "YQ=="}));
        let all: serde_json::Map<String, Value> = (0..count).map(one).collect();
        json!({"_attachments": all}).to_string()
    };
    table.doc(&attachments(2), Within("\"ok\":true"));
    table.doc(&attachments(3), Row(400, "doc_validation", "more attachments than"));
}

fn binaries(table: &mut Table) {
    for (name, bytes) in [
        ("an empty binary message", vec![]),
        ("a binary message of one byte", vec![0]),
        ("a binary message one byte too short", vec![0; 8]),
        ("a binary message of an unknown kind", piece(2, 1, 7, b"x")),
        ("a binary message of kind 255", piece(255, 1, 7, b"x")),
    ] {
        table.add(name, Sent::Binary(bytes), Close(1002));
    }
    for (name, bytes) in [
        ("a piece for an unknown call", piece(0, 1, 99, b"x")),
        ("a piece for an unknown channel", piece(1, 99, 1, b"x")),
        ("a piece for channel and call 0", piece(1, 0, 0, b"")),
    ] {
        table.add(name, Sent::Binary(bytes), Nothing);
    }
    let call =
        |params: &str| frame(FIN | TEXT, format!(r#"["call",1,7,"upload",{params}]"#).as_bytes());
    let part = |last, bytes: &[u8]| frame(FIN | BINARY, &piece(last, 1, 7, bytes));
    let too_large = call(r#"{"length":1001}"#);
    table.frames(
        "an upload announced too large",
        &[too_large],
        Failure(413, "too_large", "attachment"),
    );
    let mismatch = || Failure(400, "bad_request", "announced length or digest");
    table.frames(
        "an upload of another length",
        &[call(r#"{"length":2}"#), part(1, b"x")],
        mismatch(),
    );
    let digest = call(r#"{"digest":"md5-AAAAAAAAAAAAAAAAAAAAAA=="}"#);
    table.frames("an upload of another digest", &[digest, part(1, b"x")], mismatch());
    let over = part(1, &[0; 1_001]);
    table.frames("an upload too large", &[call("{}"), over], Failure(413, "too_large", "1000"));
    let fits = part(1, &[0; 1_000]);
    table.frames("an upload that fits", &[call("{}"), fits], Answer(r#"["reply",1,7,{"#));
    let large = part(0, &vec![0; 64 * 1024 + 1]);
    table.frames("a piece too large", &[call("{}"), large], Failure(413, "too_large", "65536"));
    let after = [call("{}"), part(1, b"x"), part(0, b"y"), part(1, b"z")];
    table.frames("pieces after the last", &after, Answer(r#"["reply",1,7,{"#));
    let waits = frame(FIN | TEXT, br#"["call",1,7,"upload",{}]"#);
    let reused = frame(FIN | TEXT, br#"["call",1,7,"info"]"#);
    let used = "a call of this number is in progress";
    table.frames("a call number in use", &[waits, reused], Failure(400, "bad_request", used));
}

fn frames(table: &mut Table) {
    let ping = br#"["ping",1]"#;
    let text = |payload: &[u8]| frame(FIN | TEXT, payload);
    for (name, bytes) in [
        ("an unmasked text frame", unmasked(FIN | TEXT, ping)),
        ("an unmasked close frame", unmasked(FIN | CLOSE, &[3, 232])),
        ("reserved bit 1", frame(FIN | 0x40 | TEXT, ping)),
        ("reserved bit 2", frame(FIN | 0x20 | TEXT, ping)),
        ("reserved bit 3", frame(FIN | 0x10 | TEXT, ping)),
        ("reserved opcode 3", frame(FIN | 3, ping)),
        ("reserved opcode 7", frame(FIN | 7, ping)),
        ("reserved opcode 11", frame(FIN | 0xB, ping)),
        ("reserved opcode 15", frame(FIN | 0xF, ping)),
        ("a continuation of nothing", frame(FIN | CONTINUATION, ping)),
        ("a fragmented ping", frame(PING, b"x")),
        ("a fragmented close", frame(CLOSE, &[3, 232])),
        ("a ping of 126 bytes", frame(FIN | PING, &[0; 126])),
        ("a close of 126 bytes", frame(FIN | CLOSE, &[3; 126])),
        ("a close of one byte", frame(FIN | CLOSE, &[3])),
        ("a text within a text", [frame(TEXT, b"["), text(ping)].concat()),
        ("a binary within a text", [frame(TEXT, b"["), frame(FIN | BINARY, ping)].concat()),
        ("close code 999", frame(FIN | CLOSE, &999_u16.to_be_bytes())),
        ("close code 1004", frame(FIN | CLOSE, &1004_u16.to_be_bytes())),
        ("close code 1005", frame(FIN | CLOSE, &1005_u16.to_be_bytes())),
        ("close code 1006", frame(FIN | CLOSE, &1006_u16.to_be_bytes())),
        ("close code 0", frame(FIN | CLOSE, &0_u16.to_be_bytes())),
        ("close code 65535", frame(FIN | CLOSE, &65_535_u16.to_be_bytes())),
    ] {
        table.frames(name, &[bytes], Close(1002));
    }
    table.frames("close code 1000", &[frame(FIN | CLOSE, &1000_u16.to_be_bytes())], Close(1000));
    table.frames("close code 4000", &[frame(FIN | CLOSE, &4000_u16.to_be_bytes())], Close(4000));
    table.frames("a close without a code", &[frame(FIN | CLOSE, &[])], Close(1005));
    let invalid: [&[u8]; 5] =
        [b"\xff", b"[\"\xc3\x28\"]", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf8\x88\x80\x80\x80"];
    for payload in invalid {
        table.frames(&format!("text {payload:x?}"), &[text(payload)], Close(1007));
    }
    let cut = [frame(TEXT, b"[\"\xc3"), frame(FIN | CONTINUATION, b"\x28\"]")].concat();
    table.frames("invalid UTF-8 over two frames", &[cut], Close(1007));
    let whole = [frame(TEXT, b"[\"ping\",\"\xc3"), frame(FIN | CONTINUATION, b"\xbc\"]")].concat();
    table.frames("a character over two frames", &[whole], Answer("[\"pong\",\"ü\"]"));
    let split =
        [frame(TEXT, b"[\"ping\""), frame(FIN | PING, b""), frame(FIN | CONTINUATION, b",5]")];
    table.frames("a ping between two fragments", &split, Answer("[\"pong\",5]"));
    let empty =
        [frame(TEXT, b""), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, b"[\"ping\",6]")];
    table.frames("empty fragments", &empty, Answer("[\"pong\",6]"));
    let padded = |bytes: usize| format!("[\"ping\",\"{}\"]", "x".repeat(bytes - 11)).into_bytes();
    table.frames(
        "a frame at its bound",
        &[text(&padded(FRAME_BYTES_MAX))],
        Answer("[\"pong\",\"xxx"),
    );
    table.frames("a frame over its bound", &[text(&padded(FRAME_BYTES_MAX + 1))], Close(1009));
    let halves = |bytes: usize| {
        let all = padded(bytes);
        let (first, second) = all.split_at(FRAME_BYTES_MAX);
        [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat()
    };
    table.frames("a message at its bound", &[halves(MESSAGE_BYTES_MAX)], Answer("[\"pong\",\"xxx"));
    table.frames("a message over its bound", &[halves(MESSAGE_BYTES_MAX + 1)], Close(1009));
    let announced = [&[FIN | TEXT, 0xFF][..], &(1_u64 << 62).to_be_bytes(), &[1, 2, 3, 4]].concat();
    table.frames("a frame announced as 4 EiB", &[announced], Close(1009));
}

fn handshakes(table: &mut Table) {
    let without = |line: &str| {
        let changed = HANDSHAKE.replace(line, "");
        assert_ne!(changed, HANDSHAKE, "{line}");
        changed
    };
    let with = |from: &str, to: &str| {
        let changed = HANDSHAKE.replace(from, to);
        assert_ne!(changed, HANDSHAKE, "{from}");
        changed
    };
    let bad = || Status(400, "Sec-WebSocket-Key");
    table.http("no key", without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), bad());
    table.http("an empty key", with("dGhlIHNhbXBsZSBub25jZQ==", ""), bad());
    table.http("a short key", with("dGhlIHNhbXBsZSBub25jZQ==", "YQ=="), bad());
    table.http("a key that is no base64", with("dGhlIHNhbXBsZSBub25jZQ==", "!!"), bad());
    table.http("no version", without("Sec-WebSocket-Version: 13\r\n"), bad());
    table.http("version 8", with("Version: 13", "Version: 8"), bad());
    table.http("version 130", with("Version: 13", "Version: 130"), bad());
    table.http("no Connection", without("Connection: Upgrade\r\n"), bad());
    table.http("Connection: close", with("Connection: Upgrade", "Connection: close"), bad());
    table.http("HTTP/1.0", with("HTTP/1.1", "HTTP/1.0"), bad());
    let none = || Status(400, "settee.v1");
    // The protocol of 2015: see legacy_wrong_input.rs.
    table.http("no subprotocol", without("Sec-WebSocket-Protocol: settee.v1\r\n"), Status(101, ""));
    table.http("an empty subprotocol", with("settee.v1", ""), none());
    table.http("another subprotocol", with("settee.v1", "mqtt"), none());
    table.http("a later subprotocol", with("settee.v1", "settee.v10"), none());
    table.http("several subprotocols", with("settee.v1", "mqtt, settee.v1"), Status(101, ""));
    table.http("no Upgrade", without("Upgrade: websocket\r\n"), Status(200, "Welcome"));
    table.http("Upgrade: h2c", with("Upgrade: websocket", "Upgrade: h2c"), Status(200, "Welcome"));
    table.http("POST", with("GET /", "POST /"), Status(405, "method_not_allowed"));
    for origin in
        ["https://evil.example", "null", "", "http://gateway.evil.example", "http://", "gateway"]
    {
        let request = with("Host: gateway\r\n", &format!("Host: gateway\r\nOrigin: {origin}\r\n"));
        table.http(&format!("Origin {origin:?}"), request, Status(403, "forbidden"));
    }
    let own = with("Host: gateway\r\n", "Host: gateway\r\nOrigin: http://gateway\r\n");
    table.http("the own origin", own, Status(101, ""));
    for (path, expected) in [
        ("/x", Status(401, "unauthorized")),
        ("/tests", Status(401, "unauthorized")),
        ("/tests/_changes", Status(401, "unauthorized")),
        ("/..", Status(400, "illegal_database_name")),
        ("/%2e%2e/etc/passwd", Status(400, "illegal_database_name")),
        ("/_utils", Status(404, "not_found")),
        ("//", Status(200, "Welcome")),
        ("/?_up", Status(200, "Welcome")),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n");
        table.http(path, request, expected);
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n");
        table.http(&format!("{method} /"), request, Status(405, "method_not_allowed"));
    }
    table.http("GET /_up", "GET /_up HTTP/1.1\r\nHost: gateway\r\n\r\n", Status(200, "ok"));
    for (name, request) in [
        ("no HTTP", "nonsense\r\n\r\n"),
        ("no version", "GET /\r\n\r\n"),
        ("HTTP/9.9", "GET / HTTP/9.9\r\n\r\n"),
        ("a header without a name", "GET / HTTP/1.1\r\n: x\r\n\r\n"),
        ("a header with a space", "GET / HTTP/1.1\r\nHo st: x\r\n\r\n"),
        ("two lengths", "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ("a length that is none", "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
    ] {
        table.http(name, request, Status(400, ""));
    }
}

#[tokio::test]
async fn every_wrong_input_has_its_answer_and_harms_nobody_else() {
    let mut table = Table::default();
    for fill in [messages, opening, parameters, documents, binaries, frames, handshakes]
        as [fn(&mut Table); 7]
    {
        fill(&mut table);
    }
    let served = served().await;
    let mut witness = served.channel(open()).await;
    for case in &table.0 {
        check(&served, &mut witness, case).await;
    }
    assert!(table.0.len() >= 480, "{} cases", table.0.len());
}

#[tokio::test]
async fn numbers_and_escapes_come_back_as_they_were_sent() {
    let served = served().await;
    let mut raw = served.channel(open()).await;
    let body = r#""n":11037754778148512814851267060610,"m":1.10e-400,"s":"\ud83d\ude00","z":-0"#;
    let put = format!(r#"["call",1,1,"put",{{"doc":{{"_id":"kept",{body}}}}}]"#);
    raw.text(&put).await;
    let stored = raw.json().await;
    assert_eq!(stored[0], "reply", "{stored}");
    raw.text(r#"["call",1,2,"get",{"id":"kept"}]"#).await;
    let mut reply = Vec::new();
    while !String::from_utf8_lossy(&reply).contains(body) {
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(&mut raw.stream, &mut byte).await.unwrap();
        reply.extend(byte);
        assert!(reply.len() < 1_000, "{}", String::from_utf8_lossy(&reply));
    }
}

#[tokio::test]
async fn an_upload_that_overruns_its_credit_fails_alone() {
    let served = served().await;
    let mut raw = served.channel(open()).await;
    let mut burst = frame(FIN | TEXT, br#"["call",1,7,"upload",{}]"#);
    for _ in 0..40 {
        burst.extend(frame(FIN | BINARY, &piece(0, 1, 7, b"x")));
    }
    raw.write(&burst).await;
    let failed = loop {
        let message = raw.json().await;
        if message[0] != "more" {
            break message;
        }
    };
    assert_eq!(failed[0], "fail", "{failed}");
    assert_eq!(failed[3]["reason"], "the upload sent more pieces than it had credit for");
    assert_eq!(raw.ask(json!(["ping", 1])).await, json!(["pong", 1]));
    assert!(matches!(
        {
            raw.frame(FIN | PING, b"hello").await;
            raw.next().await
        },
        Came::Pong(payload) if payload == b"hello"
    ));
}
