//! Requests to a whole gateway: query strings, headers, cookies, tokens, ranges, bodies in parts. Each
//! has an answer that is no failure of the gateway, and the next request is served.

use std::sync::Arc;
use std::time::Duration;

use settee::access::Settings;
use settee::server::{
    AccessRequest, Authorizer as _, Denied, Gateway, Grant, ServerGrant, ServerRequest,
};
use settee::store::MemoryBackend;
use settee::transport::{Connector as _, MemoryConnector, memory};
use settee::{Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const REQUESTS_MAX: usize = 4;
/// Virtual time after which an answer that goes on, as a feed's does, is left.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who shows credentials is judged by these, and everybody else is let in.
const ACCESS: &str = r#"
    [[tokens]]
    name = "t"
    token = "a token of some length"
    rules = [{ databases = "*", rights = ["read", "write"] }]
    [[jwt.keys]]
    algorithm = "HS256"
    secret = "a secret of thirty-two bytes or more"
"#;

/// What is there before the first request: a document with a conflict and an attachment.
const BEFORE: [&str; 3] = [
    "PUT /db",
    "PUT /db/a\n\n{\"n\":1,\"_attachments\":{\"t\":{\"content_type\":\"text/plain\",\"data\":\"aGVsbG8gd29ybGQ=\"}}}",
    "PUT /db/a?new_edits=false\n\n{\"_rev\":\"1-0\",\"n\":2}",
];

// Requests are divided by lines of a percent sign. In each, the first line is a method and a path,
// further lines are headers, and after an empty line comes the body.
pub fn run(bytes: &[u8]) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime starts").block_on(async {
        let connector = served();
        for request in BEFORE {
            let answer = ask(&connector, &http(request.as_bytes())).await;
            assert!(answer.starts_with(b"HTTP/1.1 20"), "{}", String::from_utf8_lossy(&answer));
        }
        for request in split(bytes, b"\n%\n").into_iter().take(REQUESTS_MAX) {
            check(&ask(&connector, &http(request)).await);
        }
        let answer = ask(&connector, &http(b"GET /")).await;
        assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    });
}

fn served() -> MemoryConnector {
    let limits = Limits {
        doc_bytes_max: 10_000,
        bulk_rows_max: 50,
        attachment_bytes_max: 10_000,
        leaves_per_doc_max: 10,
        request_json_bytes_max: 20_000,
        ..Limits::default()
    };
    let chain = toml::from_str::<Settings>(ACCESS).expect("it is a table").build();
    let access = Arc::new(settee::access::Access::new(chain.expect("it is complete")));
    let store = Store::with_backend(Arc::new(MemoryBackend::new()), limits.clone());
    let server =
        |_: ServerRequest| async { Ok::<_, Denied>(ServerGrant::known().user("anna").listing()) };
    let gateway = Gateway::builder(store).limits(limits).server_authorizer(server);
    let gateway = gateway.authorizer(move |request: AccessRequest| {
        let access = Arc::clone(&access);
        async move {
            if request.credentials.value().is_null() {
                return Ok::<Grant, Denied>(Grant::database(request.database).creating());
            }
            access.authorize(request).await
        }
    });
    let gateway = gateway.build().expect("the settings work");
    let (listener, connector) = memory();
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    connector
}

fn split<'a>(bytes: &'a [u8], at: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    let mut rest = bytes;
    while let Some(place) = rest.windows(at.len()).position(|window| window == at) {
        parts.push(&rest[..place]);
        rest = &rest[place + at.len()..];
    }
    parts.push(rest);
    parts
}

/// A request on the wire, which ends its connection.
fn http(request: &[u8]) -> Vec<u8> {
    let (head, body) = match request.windows(2).position(|window| window == b"\n\n") {
        Some(place) => (&request[..place], &request[place + 2..]),
        None => (request, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let mut out = lines.next().unwrap_or_default().to_vec();
    out.extend_from_slice(b" HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
    let mut typed = false;
    for line in lines {
        typed |= line.to_ascii_lowercase().starts_with(b"content-type");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\r\n");
    }
    if !typed {
        out.extend_from_slice(b"Content-Type: application/json\r\n");
    }
    out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out
}

async fn ask(connector: &MemoryConnector, request: &[u8]) -> Vec<u8> {
    let stream = connector.connect("gateway", 0).await.expect("it listens");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let both = async {
        // A gateway that refuses a request need not read all of it.
        let write = writer.write_all(request);
        let _ = tokio::join!(write, reader.read_to_end(&mut answer));
    };
    let in_time = tokio::time::timeout(PATIENCE, both).await.is_ok();
    assert!(in_time || !answer.is_empty() || says_how_long_it_is(request), "no answer");
    answer
}

/// Whether headers beside ours say where the body ends, which may be further on.
fn says_how_long_it_is(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_ascii_lowercase();
    text.matches("content-length").count() > 1 || text.contains("transfer-encoding")
}

fn check(answer: &[u8]) {
    // A head that is no HTTP may end the connection without a word.
    if answer.is_empty() {
        return;
    }
    let (head, body) = match answer.windows(4).position(|window| window == b"\r\n\r\n") {
        Some(place) => (&answer[..place], &answer[place + 4..]),
        None => panic!("an answer without an end of its head: {}", String::from_utf8_lossy(answer)),
    };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let status = head.get(9..12).and_then(|status| status.parse::<u16>().ok());
    assert!(status.is_some_and(|status| (100..600).contains(&status) && status != 500), "{head}");
    let whole = head.contains("\r\ncontent-length:") && !head.contains("\r\ncontent-length: 0");
    if whole && !body.is_empty() && head.contains("\r\ncontent-type: application/json") {
        let json = serde_json::from_slice::<serde::de::IgnoredAny>(body);
        assert!(json.is_ok(), "{head}: {}", String::from_utf8_lossy(body));
    }
}
