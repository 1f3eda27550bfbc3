//! Bounds over time and over all connections: rates of messages and requests, failed logins, JSON in
//! memory, and HTTP clients that stop reading.

#[path = "support/http.rs"]
mod http;
#[path = "support/legacy.rs"]
mod legacy;
#[path = "support/raw.rs"]
mod raw;

use std::time::Duration;

use http::{Answer, Api, token_gateway};
use legacy::Legacy;
use raw::{FIN, HANDSHAKE, LEGACY_HANDSHAKE, Raw, TEXT, frame};
use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, Grant, MetricsAccess};
use settee::{Limits, Store};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout};

/// A gateway behind a proxy, so that a test may come from any address.
fn behind_a_proxy(limits: Limits) -> Api {
    Api::served(token_gateway(Store::memory()).limits(limits).trusted_proxies(["unix".into()]))
}

async fn from(api: &Api, address: &str, token: &str, path: &str) -> Answer {
    let token = format!("Bearer {token}");
    api.ask("GET", path, &[("X-Forwarded-For", address), ("Authorization", &token)], b"").await
}

fn assert_too_many(answer: &Answer, retry_after: &str) {
    answer.assert_error("too many", 429, "too_many_requests", "try again in");
    assert_eq!(answer.header("Retry-After"), Some(retry_after));
}

/// A WebSocket from an address.
async fn socket_from(api: &Api, address: &str, handshake: &str) -> Raw {
    let mut raw = api.served.bytes().await;
    let request =
        handshake.replace("Host: gateway", &format!("Host: gateway\r\nX-Forwarded-For: {address}"));
    let (status, body) = raw.request(request.as_bytes()).await;
    assert_eq!(status, 101, "{body}");
    raw
}

fn open(token: &str) -> Value {
    json!({"database": "db", "credentials": {"token": token}})
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_messages_passes_and_more_are_read_no_faster() {
    let limits = Limits {
        messages_per_second_max: 100,
        messages_burst_max: 50,
        messages_overrun_timeout_ms: 5_000,
        ..Limits::default()
    };
    let api = Api::with(Store::memory(), limits);
    api.database("db").await;
    let mut raw = api.served.channel(open("secret")).await;
    let began = Instant::now();
    for n in 0..49 {
        assert_eq!(raw.ask(json!(["ping", n])).await, json!(["pong", n]));
    }
    assert_eq!(began.elapsed().as_millis(), 0, "the burst, with the open before it");
    for n in 0..101 {
        assert_eq!(raw.ask(json!(["ping", n])).await, json!(["pong", n]));
    }
    let took = began.elapsed().as_millis();
    assert!((950..=1_050).contains(&took), "{took} ms for 100 more");
}

#[tokio::test(start_paused = true)]
async fn who_sends_too_many_messages_for_too_long_is_closed_and_others_are_not() {
    let limits = Limits {
        messages_per_second_max: 100,
        messages_burst_max: 50,
        messages_overrun_timeout_ms: 5_000,
        ..Limits::default()
    };
    let api = Api::with(Store::memory(), limits);
    api.database("db").await;
    let mut other = api.served.channel(open("secret")).await;
    let mut flood = api.served.channel(open("secret")).await;
    let began = Instant::now();
    let empty = frame(FIN | raw::PONG, b"");
    while timeout(Duration::from_secs(1), flood.stream_write(&empty)).await == Ok(true) {
        assert!(began.elapsed() < Duration::from_secs(30), "it may go on for ever");
    }
    let (code, reason) = flood.closed().await;
    assert_eq!((code, began.elapsed().as_secs()), (1008, 5), "{reason}");
    other.assert_alive("beside a flood").await;
}

#[tokio::test(start_paused = true)]
async fn bytes_over_the_rate_wait_and_harm_nobody_else() {
    let limits = Limits {
        doc_bytes_max: 10_000,
        message_bytes_max: 20_000,
        inbound_bytes_per_second_max: 10_000,
        ..Limits::default()
    };
    let api = Api::with(Store::memory(), limits);
    api.database("db").await;
    let mut other = api.served.channel(open("secret")).await;
    let mut raw = api.served.channel(open("secret")).await;
    let began = Instant::now();
    let pad = "x".repeat(5_000);
    for n in 0..9 {
        raw.text(&json!(["ping", pad]).to_string()).await;
        other.assert_alive(&format!("beside one of many bytes {n}")).await;
    }
    for _ in 0..9 {
        assert_eq!(raw.json().await[0], "pong");
    }
    let took = began.elapsed().as_millis();
    assert!((3_000..=4_000).contains(&took), "{took} ms for 45 kB at 10 kB a second");
}

#[tokio::test(start_paused = true)]
async fn requests_of_an_address_and_of_a_user_are_counted() {
    let by_address = Limits { requests_per_second_per_address_max: 1, ..Limits::default() };
    let by_user = Limits { requests_per_second_per_user_max: 1, ..Limits::default() };
    for (limits, address) in [(by_address, "192.0.2.1"), (by_user, "192.0.2.2")] {
        let api = behind_a_proxy(limits);
        for _ in 0..10 {
            assert_eq!(from(&api, address, "secret", "/_all_dbs").await.status, 200);
        }
        let same_user = from(&api, "192.0.2.2", "secret", "/_all_dbs").await;
        assert_too_many(&same_user_or_address(&api, address, same_user).await, "1");
        let other = from(&api, "192.0.2.3", "user", "/absent").await;
        assert_eq!(other.status, 404, "{}", other.text());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(from(&api, address, "secret", "/_all_dbs").await.status, 200);
    }
}

/// The eleventh request of the user from another address, or if that passed, from the same one.
async fn same_user_or_address(api: &Api, address: &str, first: Answer) -> Answer {
    if first.status == 200 { from(api, address, "secret", "/_all_dbs").await } else { first }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_for_no_database_count_for_their_user() {
    let login = json!({"name": "anna", "password": "secret"});
    let cancel = json!({"cancel": true, "replication_id": "none"});
    for (method, path, body) in [
        ("GET", "/_all_dbs", Value::Null),
        ("GET", "/_dbs_info", Value::Null),
        ("GET", "/_db_updates", Value::Null),
        ("GET", "/_scheduler/jobs", Value::Null),
        ("GET", "/_active_tasks", Value::Null),
        ("POST", "/_replicate", cancel),
        ("POST", "/_session", login),
    ] {
        let api =
            behind_a_proxy(Limits { requests_per_second_per_user_max: 1, ..Limits::default() });
        for n in 1..=10 {
            let answer = api.json(method, path, body.clone()).await;
            assert_ne!(answer.status, 429, "{path} {n}");
        }
        assert_too_many(&api.json(method, path, body).await, "1");
    }
}

#[tokio::test(start_paused = true)]
async fn events_are_messages_and_no_faster() {
    let limits = Limits {
        messages_per_second_max: 100,
        messages_burst_max: 50,
        messages_overrun_timeout_ms: 5_000,
        ..Limits::default()
    };
    let api = Api::with(Store::memory(), limits);
    let mut raw = api.served.socket().await;
    raw.ask(json!(["identify", {"token": "secret"}])).await;
    let began = Instant::now();
    let event = json!({"event": "said", "targets": {"broadcast": true}, "payload": null});
    for n in 1..=150 {
        raw.text(&json!(["send", n, event]).to_string()).await;
    }
    loop {
        let came = raw.json().await;
        if came[0] == "sent" && came[1] == 150 {
            break;
        }
    }
    let took = began.elapsed().as_millis();
    assert!((950..=1_050).contains(&took), "{took} ms for 100 more than the burst");
}

#[tokio::test(start_paused = true)]
async fn upgrades_count_as_requests() {
    let limits = Limits { requests_per_second_per_address_max: 1, ..Limits::default() };
    let api = behind_a_proxy(limits);
    for _ in 0..10 {
        socket_from(&api, "192.0.2.1", HANDSHAKE).await;
    }
    let mut raw = api.served.bytes().await;
    let request = HANDSHAKE.replace("Host:", "X-Forwarded-For: 192.0.2.1\r\nHost:");
    assert_eq!(raw.request(request.as_bytes()).await.0, 429);
    socket_from(&api, "192.0.2.2", HANDSHAKE).await;
}

/// Every way to log in, with bad credentials; the status.
async fn fail(api: &Api, way: &str, address: &str) -> u16 {
    let headers = [("X-Forwarded-For", address), ("Authorization", "Bearer wrong")];
    match way {
        "database" => api.ask("GET", "/db", &headers, b"").await.status,
        "server" => api.ask("GET", "/_all_dbs", &headers, b"").await.status,
        "session" => {
            let headers = [headers[0], http::JSON];
            let body = br#"{"name":"anna","password":"wrong"}"#;
            api.ask("POST", "/_session", &headers, body).await.status
        }
        "socket" => {
            let mut raw = socket_from(api, address, HANDSHAKE).await;
            let refused = raw.ask(json!(["open", 1, open("wrong")])).await;
            refused[2]["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap()
        }
        "credentials" => {
            let mut raw = socket_from(api, address, HANDSHAKE).await;
            let opened = raw.ask(json!(["open", 1, {"database": "db", "credentials": null}])).await;
            assert_eq!(opened[0], "refused", "{opened}");
            let refused = raw.ask(json!(["open", 1, open("wrong")])).await;
            refused[2]["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap()
        }
        "legacy" => {
            let raw = socket_from(api, address, LEGACY_HANDSHAKE).await;
            let request = json!({"database": "db", "credentials": {"token": "wrong"}});
            let refused = Legacy::over(raw).ask("n", request).await;
            refused[0]["status"].as_u64().and_then(|status| status.try_into().ok()).unwrap()
        }
        other => panic!("{other}"),
    }
}

#[tokio::test(start_paused = true)]
async fn failed_logins_of_an_address_are_counted_whatever_the_way() {
    for way in ["database", "server", "session", "socket", "credentials", "legacy"] {
        let api = behind_a_proxy(Limits::default());
        api.database("db").await;
        for n in 1..=10 {
            assert_eq!(fail(&api, way, "192.0.2.1").await, 401, "{way} {n}");
        }
        assert_eq!(fail(&api, way, "192.0.2.1").await, 429, "{way}");
        assert_too_many(&from(&api, "192.0.2.1", "secret", "/db").await, "60");
        assert_eq!(from(&api, "192.0.2.2", "secret", "/db").await.status, 200, "{way}");
        let here = [("X-Forwarded-For", "192.0.2.1")];
        assert_eq!(api.ask("GET", "/", &here, b"").await.status, 200, "{way}");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(from(&api, "192.0.2.1", "secret", "/db").await.status, 200, "{way}");
        for _ in 0..10 {
            fail(&api, way, "192.0.2.1").await;
        }
        assert_too_many(&from(&api, "192.0.2.1", "secret", "/db").await, "120");
    }
}

#[tokio::test(start_paused = true)]
async fn failed_logins_of_clients_that_no_proxy_names_are_counted_together() {
    let api = behind_a_proxy(Limits::default());
    for n in 1..=10 {
        assert_eq!(fail(&api, "database", "unknown").await, 401, "{n}");
    }
    assert_eq!(fail(&api, "database", "\"").await, 429);
    assert_eq!(fail(&api, "database", "192.0.2.1").await, 401);
}

/// A judgement under way, which says when it is given up.
struct Judged(UnboundedSender<&'static str>);

impl Drop for Judged {
    fn drop(&mut self) {
        let _ = self.0.send("given up");
    }
}

#[tokio::test(start_paused = true)]
async fn logins_that_their_clients_give_up_are_failures() {
    let (tell, mut told) = unbounded_channel();
    let authorizer = move |request: AccessRequest| {
        let tell = tell.clone();
        async move {
            if request.credentials["token"] == "slow" {
                tell.send("judged").unwrap();
                let _judged = Judged(tell);
                std::future::pending::<()>().await;
            }
            Ok::<_, Denied>(Grant::database(request.database))
        }
    };
    let gateway = Gateway::builder(Store::memory()).authorizer(authorizer);
    let api = Api::served(gateway.trusted_proxies(["unix".into()]));
    let slow = b"GET /db HTTP/1.1\r\nHost: gateway\r\nX-Forwarded-For: 192.0.2.1\r\n\
        Authorization: Bearer slow\r\n\r\n";
    for n in 1..=10 {
        assert_eq!(from(&api, "192.0.2.1", "good", "/db").await.status, 404, "{n}");
        let mut raw = api.served.bytes().await;
        raw.write(slow).await;
        assert_eq!(told.recv().await, Some("judged"));
        drop(raw);
        assert_eq!(told.recv().await, Some("given up"));
    }
    assert_too_many(&from(&api, "192.0.2.1", "good", "/db").await, "60");
    assert_eq!(from(&api, "192.0.2.2", "good", "/db").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn the_token_of_metrics_cannot_be_guessed() {
    for wrong in ["guess", "user"] {
        let metrics = MetricsAccess::Token("scraper".into());
        let gateway = token_gateway(Store::memory()).metrics(metrics);
        let api = Api::served(gateway.trusted_proxies(["unix".into()]));
        for _ in 0..20 {
            assert_eq!(from(&api, "192.0.2.1", "scraper", "/_metrics").await.status, 200);
            assert_eq!(from(&api, "192.0.2.1", "secret", "/_metrics").await.status, 200);
        }
        for n in 1..=10 {
            let refused = from(&api, "192.0.2.1", wrong, "/_metrics").await.status;
            assert!(refused == 401 || refused == 403, "{refused} {n}");
        }
        assert_too_many(&from(&api, "192.0.2.1", "scraper", "/_metrics").await, "60");
        assert_eq!(from(&api, "192.0.2.2", "scraper", "/_metrics").await.status, 200);
    }
}

#[tokio::test(start_paused = true)]
async fn good_and_no_credentials_are_never_failures() {
    let api = behind_a_proxy(Limits::default());
    api.database("db").await;
    for _ in 0..50 {
        assert_eq!(from(&api, "192.0.2.1", "secret", "/db").await.status, 200);
        assert_eq!(from(&api, "192.0.2.1", "stranger", "/db").await.status, 403);
        let mut raw = socket_from(&api, "192.0.2.1", HANDSHAKE).await;
        let refused = raw.ask(json!(["open", 1, {"database": "db"}])).await;
        assert_eq!(refused[2]["status"], 401, "{refused}");
    }
}

#[tokio::test]
async fn json_in_memory_has_one_bound_for_all() {
    const MIB: usize = 1 << 20;
    let limits = Limits {
        doc_bytes_max: MIB / 2,
        message_bytes_max: MIB,
        request_json_bytes_max: MIB,
        json_bytes_in_memory_max: MIB,
        ..Limits::default()
    };
    let api = Api::with(Store::memory(), limits);
    api.database("db").await;
    let mut socket = api.served.channel(open("secret")).await;
    let mut half = api.served.channel(open("secret")).await;
    let pad = |bytes: usize| "x".repeat(bytes);
    // A message of 700 KiB that does not end.
    let message = frame(FIN | TEXT, json!(["ping", pad(900 * 1024)]).to_string().as_bytes());
    half.write(&message[..700 * 1024]).await;
    let large = json!({"_id": "large", "text": pad(480 * 1024)});
    let put = async || api.json("POST", "/db", large.clone()).await;
    // The gateway reads beside us: the room is taken once it has come so far.
    let refused = loop {
        let answer = put().await;
        if answer.status == 503 {
            break answer;
        }
    };
    refused.assert_error("over", 503, "service_unavailable", "memory");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    api.put("/db/small", json!({"text": pad(50_000)})).await;
    socket.text(&json!(["ping", pad(480 * 1024)]).to_string()).await;
    assert_eq!(socket.closed().await.0, 1013);
    drop(socket);
    while api.served.gateway.counts().0 > 1 {
        tokio::task::yield_now().await;
    }
    half.write(&message[700 * 1024..]).await;
    assert_eq!(half.json().await[0], "pong");
    let fits = put().await;
    assert_eq!(fits.status, 201, "its room is free again: {}", fits.text());
}

#[tokio::test(start_paused = true)]
async fn an_http_client_that_stops_reading_is_ended() {
    let api = Api::new();
    api.database("db").await;
    let bytes = vec![7; 3_000_000];
    assert_eq!(api.ask("PUT", "/db/doc/large", &[], &bytes).await.status, 201);
    let began = Instant::now();
    let mut stalled = api.served.bytes().await;
    stalled
        .write(
            b"GET /db/doc/large HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer secret\r\n\r\n",
        )
        .await;
    stalled.stream.read_u8().await.unwrap();
    while api.served.gateway.counts().0 > 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it is kept for ever");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let ended = began.elapsed().as_secs();
    assert!((30..=31).contains(&ended), "after {ended} s");
    drop(stalled);
}

#[tokio::test(start_paused = true)]
async fn a_slow_http_client_that_goes_on_reading_gets_everything() {
    let api = Api::new();
    api.database("db").await;
    let bytes = vec![7; 300_000];
    assert_eq!(api.ask("PUT", "/db/doc/large", &[], &bytes).await.status, 201);
    let mut slow = api.served.bytes().await;
    slow.write(
        b"GET /db/doc/large HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\
          Authorization: Bearer secret\r\n\r\n",
    )
    .await;
    let (mut read, mut piece) = (0, vec![0; 20_000]);
    loop {
        tokio::time::sleep(Duration::from_secs(20)).await;
        match slow.stream.read(&mut piece).await.unwrap() {
            0 => break,
            length => read += length,
        }
    }
    assert!(read > bytes.len(), "{read} bytes came");
}
