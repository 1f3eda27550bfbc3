//! HTTP by hand: a gateway in this process, requests as bytes, answers taken apart.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::Arc;

use serde_json::{Value, json};
use settee::server::{AccessRequest, Denied, Gateway, GatewayBuilder, Grant, ServerGrant};
use settee::server::{ProposedWrite, ServerRequest};
use settee::store::MemoryBackend;
use settee::transport::ByteStream;
use settee::{Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Duration, timeout};

use crate::raw::Served;

/// No answer in this time is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub const JSON: (&str, &str) = ("Content-Type", "application/json");

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts an error's status, name and a part of its reason.
    pub fn assert_error(&self, case: &str, status: u16, error: &str, reason: &str) {
        assert_eq!(self.status, status, "{case}: {}", String::from_utf8_lossy(&self.body));
        let body = self.json();
        assert_eq!(body["error"], error, "{case}: {body}");
        let told = body["reason"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{case}: {told}");
    }
}

/// A gateway and a token to use it with.
pub struct Api {
    pub served: Arc<Served>,
    pub headers: Vec<(&'static str, String)>,
}

impl Api {
    /// In memory, for the token `secret`.
    pub fn new() -> Self {
        Self::with(Store::memory(), Limits::default())
    }

    pub fn with_limits(store: Limits, gateway: Limits) -> Self {
        Self::with(Store::with_backend(Arc::new(MemoryBackend::new()), store), gateway)
    }

    pub fn with(store: Store, limits: Limits) -> Self {
        Self::served(token_gateway(store).limits(limits))
    }

    pub fn served(builder: GatewayBuilder) -> Self {
        let headers = vec![("Authorization", "Bearer secret".to_owned())];
        Self { served: Served::new(builder), headers }
    }

    /// A request with a body of JSON.
    pub async fn json(&self, method: &str, path: &str, body: Value) -> Answer {
        self.ask(method, path, &[JSON], body.to_string().as_bytes()).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("Accept", "application/json")], b"").await
    }

    pub async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        self.stream(method, path, headers, body).await.rest().await
    }

    /// A request whose answer is read as it comes.
    pub async fn stream(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Coming {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n");
        let own = |name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        for (name, value) in self.headers.iter().filter(|(name, _)| !own(name)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || method == "POST" || method == "PUT" {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.bytes(&bytes).await
    }

    /// Bytes on a connection of their own.
    pub async fn bytes(&self, request: &[u8]) -> Coming {
        let (mut reader, mut writer) = tokio::io::split(self.served.bytes().await.stream);
        let request = request.to_vec();
        // The gateway may answer before it has read everything.
        let writing = tokio::spawn(async move {
            let _ = writer.write_all(&request).await;
            writer
        });
        let head = timeout(PATIENCE, head_of(&mut reader)).await.expect("an answer in time");
        Coming { reader: Box::new(reader), _writing: writing, head, waiting: Vec::new() }
    }

    /// Makes a database.
    pub async fn database(&self, name: &str) {
        let made = self.ask("PUT", &format!("/{name}"), &[], b"").await;
        assert_eq!(made.status, 201, "{}", made.text());
    }

    /// Writes a document; its revision.
    pub async fn put(&self, path: &str, document: Value) -> String {
        let written = self.json("PUT", path, document).await;
        assert!(matches!(written.status, 200 | 201), "{path}: {}", written.text());
        written.json()["rev"].as_str().expect("a revision").to_owned()
    }
}

async fn head_of(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(reader.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).expect("a head is text"))
}

/// An answer whose body is still to come.
pub struct Coming {
    reader: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// Holds the writing half, so that the connection stays open.
    _writing: tokio::task::JoinHandle<tokio::io::WriteHalf<Box<dyn ByteStream>>>,
    head: Option<String>,
    waiting: Vec<u8>,
}

impl Coming {
    pub fn status(&self) -> u16 {
        let head = self.head.as_deref().unwrap_or_default();
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    fn headers(&self) -> Vec<(String, String)> {
        let lines = self.head.as_deref().unwrap_or_default().lines().skip(1);
        let pair = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        lines.filter_map(pair).collect()
    }

    /// One line of a body that is sent in chunks, or `None` at its end.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.waiting.drain(..=end).collect();
                return Some(
                    String::from_utf8(line).expect("a line is text").trim_end().to_owned(),
                );
            }
            let chunk = timeout(PATIENCE, next_chunk(&mut self.reader)).await.expect("in time");
            self.waiting.extend(chunk?);
        }
    }

    /// The next line that is not a heartbeat.
    pub async fn row(&mut self) -> Option<Value> {
        loop {
            let line = self.line().await?;
            if !line.is_empty() {
                return Some(serde_json::from_str(&line).expect("a row is JSON"));
            }
        }
    }

    pub async fn rest(mut self) -> Answer {
        let headers = self.headers();
        let chunked =
            headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        let mut body = std::mem::take(&mut self.waiting);
        let read = async {
            if chunked {
                while let Some(chunk) = next_chunk(&mut self.reader).await {
                    body.extend(chunk);
                }
            } else {
                // A connection that is cut has said what it had to say.
                let _ = self.reader.read_to_end(&mut body).await;
            }
        };
        timeout(PATIENCE, read).await.expect("an answer in time");
        Answer { status: self.status(), headers, body }
    }
}

async fn next_chunk(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let mut size = Vec::new();
    while !size.ends_with(b"\r\n") {
        size.push(reader.read_u8().await.ok()?);
    }
    let size = std::str::from_utf8(&size).expect("a size is text").trim();
    let size = usize::from_str_radix(size, 16).expect("a size");
    let mut chunk = vec![0; size + 2];
    reader.read_exact(&mut chunk).await.ok()?;
    chunk.truncate(size);
    (size > 0).then_some(chunk)
}

/// Lets in who shows the token `secret`, by any way; `reader`, `writer` and `stranger` get less.
/// Documents whose `text` is `evil` are forbidden.
pub fn token_gateway(store: Store) -> GatewayBuilder {
    let validator = |write: &ProposedWrite<'_>| {
        let body: Value = write.document.body.to().unwrap_or_default();
        if body["text"] == "evil" { Err(Denied::forbidden("no evil")) } else { Ok(()) }
    };
    Gateway::builder(store)
        .authorizer(move |request: AccessRequest| async move {
            let grant = Grant::database(request.database.clone()).validator(validator);
            match shown(&request.credentials) {
                Some("secret") => Ok(grant.creating().destroying().administering().user("root")),
                Some("user") => Ok(grant.user("anna").role("editors")),
                Some("reader") => Ok(grant.read_only().user("rosa")),
                Some("writer") => Ok(grant.write_only().user("willy")),
                Some("stranger") => Err(Denied::forbidden("not for you")),
                _ => Err(Denied::new("You are not authorized to access this db.")),
            }
        })
        .server_authorizer(|request: ServerRequest| async move {
            match shown(&request.credentials) {
                Some("secret") => {
                    let grant = ServerGrant::known().user("root").listing();
                    Ok(grant.administering().backing_up().replicating().broadcasting())
                }
                Some("user") => Ok(ServerGrant::known().user("anna")),
                Some("stranger") => Err(Denied::forbidden("not for you")),
                _ => Err(Denied::new("You are not a server admin.")),
            }
        })
}

fn shown(credentials: &settee::server::Credentials) -> Option<&str> {
    credentials["token"].as_str().or(credentials["password"].as_str())
}

/// A list of documents as `_bulk_docs` takes it.
pub fn docs(docs: &[Value]) -> Value {
    json!({"docs": docs})
}
