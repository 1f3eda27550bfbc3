//! Each bound of a connection holds: at the bound things work, one over it they are refused as
//! documented, and who keeps to the bounds is not touched.

#[path = "support/raw.rs"]
mod raw;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use raw::{Came, FIN, HANDSHAKE, PONG, Raw, Served};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant, ProposedWrite, Validator};
use settee::transport::{Connector as _, TcpConnector};
use settee::{Database, DbName, Document, Limits, Store};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

fn grant(request: AccessRequest) -> Grant {
    let user = request.credentials["user"].as_str().map(ToOwned::to_owned);
    let grant = Grant::database(request.database);
    user.into_iter().fold(grant, Grant::user)
}

async fn store() -> (Store, Database) {
    let store = Store::memory();
    let db = store.create(&DbName::parse("tests").unwrap()).await.unwrap();
    (store, db)
}

async fn served(limits: Limits) -> (Arc<Served>, Database) {
    let (store, db) = store().await;
    let authorizer = |request: AccessRequest| async move { Ok::<_, Denied>(grant(request)) };
    (Served::new(Gateway::builder(store).limits(limits).authorizer(authorizer)), db)
}

fn open() -> Value {
    json!({"database": "tests"})
}

async fn write(db: &Database, id: &str, bytes: usize) {
    let doc = Document::new(id, &json!({"text": "x".repeat(bytes)})).unwrap();
    db.put(doc).await.unwrap();
}

fn assert_refused(message: &Value, verb: &str, status: u16) {
    assert_eq!(message[0], verb, "{message}");
    let error = message.as_array().unwrap().last().unwrap();
    assert_eq!(error["status"], status, "{message}");
}

#[tokio::test]
async fn request_headers_have_a_size() {
    let limits = Limits { request_header_bytes_max: 8 * 1024, ..Limits::default() };
    let (served, _) = served(limits).await;
    let request = |padding: usize| {
        format!("GET / HTTP/1.1\r\nHost: gateway\r\nX-Padding: {}\r\n\r\n", "x".repeat(padding))
    };
    let around = request(0).len();
    let (fits, _) = served.bytes().await.request(request(8 * 1024 - around - 1).as_bytes()).await;
    assert_eq!(fits, 200);
    let mut raw = served.bytes().await;
    let (over, _) = raw.request(request(8 * 1024 - around + 1).as_bytes()).await;
    assert_eq!(over, 431);
    assert_eq!(raw.next().await, Came::Gone);
}

#[tokio::test(start_paused = true)]
async fn request_headers_have_a_time() {
    let (served, _) = served(Limits::default()).await;
    for begin in ["", "GET / HT", "GET / HTTP/1.1\r\nHost: gateway\r\nX-Slow"] {
        let began = Instant::now();
        let mut raw = served.bytes().await;
        raw.write(begin.as_bytes()).await;
        assert_eq!(raw.next().await, Came::Gone, "{begin}");
        assert_eq!(began.elapsed().as_secs(), 10, "{begin}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_opens_nothing_is_closed() {
    let (served, _) = served(Limits::default()).await;
    let began = Instant::now();
    let mut idle = served.socket().await;
    let mut denied = served.socket().await;
    let refused = denied.ask(json!(["open", 1, {"database": "absent"}])).await;
    assert_refused(&refused, "refused", 404);
    assert_eq!(idle.closed().await.0, 1008);
    assert_eq!(began.elapsed().as_secs(), 10);
    assert_eq!(denied.closed().await.0, 1008);
}

#[tokio::test]
async fn channels_of_a_connection_are_counted() {
    let (served, _) = served(Limits { channels_per_connection_max: 2, ..Limits::default() }).await;
    let mut raw = served.channel(open()).await;
    assert_eq!(raw.ask(json!(["open", 2, open()])).await[0], "opened");
    assert_refused(&raw.ask(json!(["open", 3, open()])).await, "refused", 429);
    assert_eq!(raw.ask(json!(["close", 2])).await, json!(["closed", 2, null]));
    assert_eq!(raw.ask(json!(["open", 3, open()])).await[0], "opened");
}

#[tokio::test]
async fn calls_of_a_connection_are_counted() {
    let (served, _) = served(Limits { calls_per_connection_max: 2, ..Limits::default() }).await;
    let mut raw = served.channel(open()).await;
    let live = |call: u32| json!(["call", 1, call, "changes", {"live": true}]);
    assert_eq!(raw.ask(live(1)).await[0], "rows");
    assert_eq!(raw.ask(live(2)).await[0], "rows");
    assert_refused(&raw.ask(json!(["call", 1, 3, "info"])).await, "fail", 429);
    raw.text(r#"["cancel",1,1]"#).await;
    assert_eq!(raw.ask(json!(["call", 1, 3, "info"])).await[0], "reply");
    assert_eq!(raw.ask(json!(["call", 1, 3, "info"])).await[0], "reply");
}

async fn tcp(limits: Limits) -> (u16, tokio::task::JoinHandle<()>) {
    let (store, _) = store().await;
    let authorizer = |request: AccessRequest| async move { Ok::<_, Denied>(grant(request)) };
    let gateway = Gateway::builder(store).limits(limits).authorizer(authorizer).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async move { gateway.serve(listener, std::future::pending()).await };
    (port, tokio::spawn(serving))
}

async fn connect(port: u16) -> (Raw, u16, String) {
    let mut raw = Raw::new(TcpConnector.connect("127.0.0.1", port).await.unwrap());
    let (status, body) = raw.request(HANDSHAKE.as_bytes()).await;
    (raw, status, body)
}

/// A seat comes free when its connection has been taken down, which takes the gateway a moment.
async fn connect_when_free(port: u16) -> Raw {
    loop {
        let (raw, status, _) = connect(port).await;
        if status == 101 {
            return raw;
        }
    }
}

#[tokio::test]
async fn connections_are_counted_by_address_and_in_all() {
    let by_address = Limits { connections_per_address_max: 2, ..Limits::default() };
    let in_all = Limits { connections_max: 2, ..Limits::default() };
    for (limits, expected, error) in
        [(by_address, 429, "too_many_requests"), (in_all, 503, "service_unavailable")]
    {
        let (port, serving) = tcp(limits).await;
        let (mut first, status, _) = connect(port).await;
        assert_eq!(status, 101);
        let (second, status, _) = connect(port).await;
        assert_eq!(status, 101);
        let (_, status, body) = connect(port).await;
        assert_eq!(status, expected);
        assert!(body.contains(error), "{body}");
        assert_eq!(first.ask(json!(["ping", 1])).await, json!(["pong", 1]));
        drop(second);
        connect_when_free(port).await;
        serving.abort();
    }
}

#[tokio::test]
async fn connections_of_a_user_are_counted() {
    let (served, _) = served(Limits { connections_per_user_max: 1, ..Limits::default() }).await;
    let of = |user: &str| json!({"database": "tests", "credentials": {"user": user}});
    let mut first = served.channel(of("anna")).await;
    assert_eq!(first.ask(json!(["open", 2, of("anna")])).await[0], "opened");
    let mut second = served.channel(of("berta")).await;
    let refused = second.ask(json!(["open", 2, of("anna")])).await;
    assert_refused(&refused, "refused", 429);
    // Not by way of new credentials either.
    let closed = second.ask(json!(["credentials", 1, {"user": "anna"}])).await;
    assert_refused(&closed, "closed", 429);
    drop(first);
    while second.ask(json!(["open", 2, of("anna")])).await[0] != "opened" {}
}

#[tokio::test]
async fn credit_is_clamped() {
    let limits = Limits { stream_credit_max: 3, rows_bytes_target: 64, ..Limits::default() };
    let (served, db) = served(limits).await;
    for n in 0..50 {
        write(&db, &format!("d{n}"), 100).await;
    }
    let mut raw = served.channel(open()).await;
    for params in [
        json!({"credit": 1_000_000_000, "include_docs": true}),
        json!({"credit": u32::MAX, "include_docs": true, "live": true}),
    ] {
        raw.text(&json!(["call", 1, 1, "changes", params]).to_string()).await;
        for _ in 0..2 {
            for _ in 0..3 {
                assert_eq!(raw.json().await[0], "rows");
            }
            assert_eq!(raw.ask(json!(["ping", 1])).await, json!(["pong", 1]));
            raw.text(r#"["more",1,1,1000000000]"#).await;
        }
        raw.text(r#"["cancel",1,1]"#).await;
        raw.text(r#"["ping",2]"#).await;
        while raw.json().await != json!(["pong", 2]) {}
    }
}

/// The rows of each message that a list of documents comes in, as bytes.
async fn messages_of_rows(target: usize) -> Vec<Vec<usize>> {
    let limits = Limits { rows_bytes_target: target, ..Limits::default() };
    let (served, db) = served(limits).await;
    for n in 10..30 {
        write(&db, &format!("d{n}"), 100).await;
    }
    let mut raw = served.channel(open()).await;
    raw.text(r#"["call",1,1,"all_docs",{"include_docs":true,"credit":16}]"#).await;
    let mut messages = Vec::new();
    loop {
        let message = raw.json().await;
        if message[0] == "end" {
            return messages;
        }
        raw.text(r#"["more",1,1,1]"#).await;
        let rows = message[3].as_array().unwrap();
        messages.push(rows.iter().map(|row| row.to_string().len()).collect());
    }
}

#[tokio::test]
async fn rows_come_in_messages_of_their_target() {
    let whole = messages_of_rows(1_000_000).await;
    let row = *whole[0].iter().max().unwrap();
    for target in [4 * row, 7 * row] {
        let messages = messages_of_rows(target).await;
        assert_eq!(messages.iter().map(Vec::len).sum::<usize>(), 20);
        let fullest = messages.iter().map(|rows| rows.iter().sum::<usize>()).max().unwrap();
        assert!(fullest <= target && fullest > target - 2 * row, "{fullest} of {target}");
    }
    assert!(messages_of_rows(1).await.iter().all(|rows| rows.len() == 1), "one still travels");
}

#[tokio::test]
async fn the_oldest_upload_is_forgotten() {
    let limits =
        Limits { uploads_per_channel_max: 2, attachments_per_doc_max: 2, ..Limits::default() };
    let (served, _) = served(limits).await;
    let mut raw = served.channel(open()).await;
    let mut digests = Vec::new();
    for (call, bytes) in (1..).zip([b"a", b"b", b"c"]) {
        raw.text(&json!(["call", 1, call, "upload", {}]).to_string()).await;
        raw.frame(FIN | raw::BINARY, &raw::piece(1, 1, call, bytes)).await;
        let reply = loop {
            let message = raw.json().await;
            if message[0] != "more" {
                break message;
            }
        };
        digests.push(reply[3]["digest"].clone());
    }
    let put = |id: &str, digest: &Value| {
        let stub = json!({"content_type": "text/plain", "digest": digest, "stub": true});
        json!(["call", 1, 9, "put", {"doc": {"_id": id, "_attachments": {"f": stub}}}])
    };
    assert_refused(&raw.ask(put("a", &digests[0])).await, "fail", 412);
    assert_eq!(raw.ask(put("b", &digests[1])).await[0], "reply");
    assert_eq!(raw.ask(put("c", &digests[2])).await[0], "reply");
}

/// Bytes on their way through the memory transport and both ends' buffers, with room to spare.
const ON_THE_WAY_BYTES: usize = 256 * 1024;

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_not_read_any_more_and_is_closed() {
    let limits =
        Limits { outbound_bytes_max: 10_000, stream_credit_max: 1_000_000, ..Limits::default() };
    let (served, db) = served(limits).await;
    write(&db, "large", 100_000).await;
    let mut other = served.channel(open()).await;
    let mut greedy = served.channel(open()).await;
    greedy
        .text(r#"["call",1,1,"changes",{"include_docs":true,"live":true,"credit":1000000}]"#)
        .await;
    let began = Instant::now();
    let mut sent = 0;
    for call in 2_u32.. {
        let get = raw::frame(
            FIN | raw::TEXT,
            json!(["call", 1, call, "get", {"id": "large"}]).to_string().as_bytes(),
        );
        if timeout(Duration::from_secs(1), greedy.write(&get)).await.is_err() {
            break;
        }
        sent += get.len();
        assert!(sent < ON_THE_WAY_BYTES, "calls are taken without end, and nobody takes answers");
        other.assert_alive("beside a greedy client").await;
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    while served.gateway.counts().1 > 1 {
        other.assert_alive("beside a stalled client").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let stalled = began.elapsed().as_secs();
    assert!((29..=36).contains(&stalled), "closed after {stalled} s");
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_pinged_and_dropped() {
    let (served, _) = served(Limits::default()).await;
    let began = Instant::now();
    let mut silent = served.channel(open()).await;
    for seconds in [20, 40] {
        assert_eq!(silent.next().await, Came::Ping);
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    assert_eq!(silent.next().await, Came::Gone);
    assert_eq!(began.elapsed().as_secs(), 45);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_lives() {
    let (served, _) = served(Limits::default()).await;
    let mut answering = served.channel(open()).await;
    for _ in 0..20 {
        assert_eq!(answering.next().await, Came::Ping);
        answering.frame(FIN | PONG, b"").await;
    }
    answering.assert_alive("after many pings").await;
}

#[tokio::test(start_paused = true)]
async fn a_busy_feed_does_not_put_off_the_ping() {
    let (served, db) = served(Limits::default()).await;
    let mut reader = served.channel(open()).await;
    let feed = json!(["call", 1, 1, "changes", {"live": true, "credit": 16}]);
    assert_eq!(reader.ask(feed).await[0], "rows");
    let began = Instant::now();
    for n in 0.. {
        tokio::time::sleep(Duration::from_secs(3)).await;
        write(&db, &format!("d{n}"), 10).await;
        let came = reader.next().await;
        if came == Came::Ping {
            break;
        }
        assert!(matches!(came, Came::Json(_)), "{came:?}");
        assert!(began.elapsed() < Duration::from_secs(30), "no ping beside a busy feed");
    }
}

/// Holds writes up until it is told to go on.
#[derive(Clone, Default)]
struct Gate {
    reached: Arc<Notify>,
    opened: Arc<Notify>,
}

#[async_trait]
impl Validator for Gate {
    async fn validate(&self, _: &ProposedWrite<'_>) -> Result<(), Denied> {
        self.reached.notify_one();
        self.opened.notified().await;
        Ok(())
    }
}

async fn gated() -> (Arc<Served>, Gate, Raw) {
    let (store, _) = store().await;
    let gate = Gate::default();
    let validator = gate.clone();
    let served = Served::new(Gateway::builder(store).authorizer(move |request: AccessRequest| {
        let validator = validator.clone();
        async move { Ok::<_, Denied>(Grant::database(request.database).validator(validator)) }
    }));
    let mut raw = served.channel(open()).await;
    raw.text(r#"["call",1,1,"put",{"doc":{"_id":"a"}}]"#).await;
    gate.reached.notified().await;
    (served, gate, raw)
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_calls_finish_and_takes_no_more() {
    let (served, gate, mut raw) = gated().await;
    let mut idle_http = served.bytes().await;
    served.stop();
    assert_eq!(idle_http.next().await, Came::Gone);
    assert_refused(&raw.ask(json!(["call", 1, 2, "info"])).await, "fail", 503);
    assert_refused(&raw.ask(json!(["open", 2, open()])).await, "refused", 503);
    gate.opened.notify_one();
    assert_eq!(raw.json().await[0], "reply");
    assert_eq!(raw.closed().await.0, 1012);
    drop(raw);
    while !served.has_ended() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_waits_for_calls_only_so_long() {
    let (served, _gate, mut raw) = gated().await;
    let began = Instant::now();
    served.stop();
    assert_eq!(raw.closed().await.0, 1012);
    assert_eq!(began.elapsed().as_secs(), 20);
    // A peer that neither answers the close nor goes away cannot hold it up.
    while !served.has_ended() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_stop_just_after_a_call_still_waits_for_it() {
    let (served, gate, mut raw) = gated().await;
    gate.opened.notify_one();
    raw.json().await;
    raw.text(r#"["call",1,2,"put",{"doc":{"_id":"b"}}]"#).await;
    gate.reached.notified().await;
    served.stop();
    gate.opened.notify_one();
    assert_eq!(raw.json().await[0], "reply");
    assert_eq!(raw.closed().await.0, 1012);
}
