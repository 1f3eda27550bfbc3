//! A client that can do everything wrong: it writes and reads bytes, frames and JSON by hand.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use settee::server::{Gateway, GatewayBuilder};
use settee::transport::{ByteStream, Connector as _, MemoryConnector, memory};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No answer in this time is a failure.
const PATIENCE: Duration = Duration::from_secs(60);

pub const FIN: u8 = 0x80;
pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// What the client of 2015 asks with: no subprotocol.
pub const LEGACY_HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

pub const HANDSHAKE: &str = "GET / HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: settee.v1\r\n\r\n";

/// A gateway in this process, served until it is stopped or dropped.
pub struct Served {
    pub gateway: Gateway,
    pub connector: MemoryConnector,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    task: JoinHandle<()>,
}

impl Served {
    pub fn new(builder: GatewayBuilder) -> Arc<Self> {
        let gateway = builder.build().expect("the settings work");
        let (listener, connector) = memory();
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn({
            let gateway = gateway.clone();
            async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                gateway.serve(listener, stopped).await;
            }
        });
        Arc::new(Self { gateway, connector, stop: Mutex::new(Some(stop)), task })
    }

    /// Asks it to stop.
    pub fn stop(&self) {
        self.stop.lock().expect("nobody panics with it").take();
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    /// Bytes to a new connection, before any handshake.
    pub async fn bytes(&self) -> Raw {
        let stream = self.connector.connect("gateway", 0).await.expect("it listens");
        Raw::new(stream)
    }

    /// A WebSocket.
    pub async fn socket(&self) -> Raw {
        let mut raw = self.bytes().await;
        raw.upgrade().await;
        raw
    }

    /// A WebSocket with channel 1 open on a database.
    pub async fn channel(&self, open: Value) -> Raw {
        let mut raw = self.socket().await;
        raw.text(&serde_json::json!(["open", 1, open]).to_string()).await;
        let opened = raw.json().await;
        assert_eq!(opened[0], "opened", "{opened}");
        raw
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What came.
#[derive(Debug, Clone, PartialEq)]
pub enum Came {
    Json(Value),
    /// Records of the protocol of 2015.
    Records(Vec<Value>),
    Binary(Vec<u8>),
    Ping,
    Pong(Vec<u8>),
    Close(u16, String),
    /// The end of the stream.
    Gone,
}

pub struct Raw {
    pub stream: Box<dyn ByteStream>,
}

impl Raw {
    pub fn new(stream: Box<dyn ByteStream>) -> Self {
        Self { stream }
    }

    pub async fn upgrade(&mut self) {
        let (status, body) = self.request(HANDSHAKE.as_bytes()).await;
        assert_eq!(status, 101, "{body}");
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        // A gateway that has already refused may be gone; what it said is what counts.
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Writes as far as the gateway takes it; false if it is gone.
    pub async fn stream_write(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok() && self.stream.flush().await.is_ok()
    }

    /// Sends a request; the status and the body, which is empty after 101.
    pub async fn request(&mut self, request: &[u8]) -> (u16, String) {
        self.write(request).await;
        self.response().await
    }

    pub async fn response(&mut self) -> (u16, String) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match self.byte().await {
                Some(byte) => head.push(byte),
                None => return (0, String::from_utf8_lossy(&head).into_owned()),
            }
        }
        let head = String::from_utf8(head).expect("a head is text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
        let length = head.split("content-length: ").nth(1);
        let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        let _ = self.stream.read_exact(&mut body).await;
        (status, String::from_utf8(body).expect("a body is text"))
    }

    /// Everything until the gateway ends the connection.
    pub async fn rest(&mut self) -> String {
        let mut text = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_string(&mut text)).await;
        read.expect("an end in time").expect("text");
        text
    }

    /// Waits for the end of the stream, whatever comes before it.
    pub async fn stream_end(&mut self) {
        let mut bytes = Vec::new();
        // A reset is an end too.
        let end = self.stream.read_to_end(&mut bytes);
        drop(tokio::time::timeout(PATIENCE, end).await.expect("an end in time"));
    }

    async fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.stream.read_exact(&mut byte)).await;
        read.expect("an answer in time").is_ok().then_some(byte[0])
    }

    /// Writes a frame. Its first byte is whatever is wanted.
    pub async fn frame(&mut self, first: u8, payload: &[u8]) {
        let bytes = frame(first, payload);
        self.write(&bytes).await;
    }

    pub async fn text(&mut self, text: &str) {
        self.frame(FIN | TEXT, text.as_bytes()).await;
    }

    /// The next frame, which no gateway of ours fragments.
    pub async fn next(&mut self) -> Came {
        let Some(first) = self.byte().await else { return Came::Gone };
        let Some(short) = self.byte().await else { return Came::Gone };
        let extra = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mut length = if extra == 0 { usize::from(short) } else { 0 };
        for _ in 0..extra {
            let Some(byte) = self.byte().await else { return Came::Gone };
            length = length << 8 | usize::from(byte);
        }
        let mut payload = vec![0; length];
        if self.stream.read_exact(&mut payload).await.is_err() {
            return Came::Gone;
        }
        match first & 0xF {
            TEXT if payload.ends_with(b"\n") => {
                let lines = payload.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
                let record = |line| serde_json::from_slice(line).expect("records are JSON");
                Came::Records(lines.map(record).collect())
            }
            TEXT => Came::Json(serde_json::from_slice(&payload).expect("messages are JSON")),
            BINARY => Came::Binary(payload),
            PING => Came::Ping,
            PONG => Came::Pong(payload),
            CLOSE => {
                let code =
                    payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code));
                let reason = payload.get(2..).unwrap_or_default();
                Came::Close(code, String::from_utf8(reason.to_vec()).expect("UTF-8"))
            }
            other => panic!("opcode {other}"),
        }
    }

    /// The next JSON message.
    pub async fn json(&mut self) -> Value {
        loop {
            match self.next().await {
                Came::Json(value) => return value,
                Came::Ping | Came::Pong(_) => {}
                other => panic!("expected a message, came {other:?}"),
            }
        }
    }

    /// Sends a message and takes the next one.
    pub async fn ask(&mut self, message: Value) -> Value {
        self.text(&message.to_string()).await;
        self.json().await
    }

    /// The close code, whatever came before it.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Came::Close(code, reason) => return (code, reason),
                Came::Gone => return (0, "gone without a word".into()),
                _ => {}
            }
        }
    }

    /// Asserts that the connection and its channel 1 go on.
    pub async fn assert_alive(&mut self, case: &str) {
        self.text(&serde_json::json!(["ping", case]).to_string()).await;
        let pong = serde_json::json!(["pong", case]);
        while self.json().await != pong {}
        let info = self.ask(serde_json::json!(["call", 1, 4_000_000_000_u32, "info"])).await;
        assert_eq!(info[0], "reply", "{case}: {info}");
    }
}

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0x80, payload.len());
    let mask = [1, 2, 3, 4];
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A frame as only a server may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, 0, payload.len());
    bytes.extend(payload);
    bytes
}

fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(mask | u8::try_from(length).expect("checked")),
        126..65_536 => {
            bytes.push(mask | 0x7e);
            bytes.extend(u16::try_from(length).expect("checked").to_be_bytes());
        }
        _ => {
            bytes.push(mask | 0x7f);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes
}

/// A binary message of an upload.
pub fn piece(last: u8, channel: u32, call: u32, bytes: &[u8]) -> Vec<u8> {
    let mut piece = vec![last];
    piece.extend(channel.to_be_bytes());
    piece.extend(call.to_be_bytes());
    piece.extend(bytes);
    piece
}
