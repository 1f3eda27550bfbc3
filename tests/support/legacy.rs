//! A client of the protocol of 2015 that writes its records by hand.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::raw::{Came, LEGACY_HANDSHAKE, Raw, Served};

pub struct Legacy {
    pub raw: Raw,
    /// Records that came and were not asked for yet.
    came: VecDeque<Value>,
    seq: u64,
}

impl Legacy {
    pub async fn connect(served: &Arc<Served>) -> Self {
        let mut raw = served.bytes().await;
        let (status, body) = raw.request(LEGACY_HANDSHAKE.as_bytes()).await;
        assert_eq!(status, 101, "{body}");
        Self::over(raw)
    }

    /// Over a WebSocket that there is.
    pub fn over(raw: Raw) -> Self {
        Self { raw, came: VecDeque::new(), seq: 1_000 }
    }

    /// A connection with a channel for a database, and the channel's stream.
    pub async fn with_channel(served: &Arc<Served>, database: &str) -> (Self, String) {
        let mut client = Self::connect(served).await;
        let stream = client.open("n", database, json!({"token": "secret"})).await;
        (client, stream)
    }

    pub async fn line(&mut self, line: &str) {
        self.raw.text(&format!("{line}\n")).await;
    }

    pub async fn record(&mut self, record: Value) {
        self.line(&record.to_string()).await;
    }

    /// The next record, whatever it is.
    pub async fn next(&mut self) -> Value {
        loop {
            if let Some(record) = self.came.pop_front() {
                return record;
            }
            match self.raw.next().await {
                Came::Records(records) => self.came.extend(records),
                Came::Ping => {}
                other => panic!("expected records, came {other:?}"),
            }
        }
    }

    /// The next record that `wanted` picks; others stay for later.
    pub async fn find(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut looked = 0;
        loop {
            if let Some(place) = self.came.iter().skip(looked).position(&wanted) {
                return self.came.remove(looked + place).expect("it was found there");
            }
            looked = self.came.len();
            match self.raw.next().await {
                Came::Records(records) => self.came.extend(records),
                Came::Ping => {}
                other => panic!("{what}: expected records, came {other:?} after {:?}", self.came),
            }
        }
    }

    /// Records that came and were not asked for.
    pub fn left(&self) -> &VecDeque<Value> {
        &self.came
    }

    /// Asks for a database on a stream; the answer.
    pub async fn ask(&mut self, stream: &str, request: Value) -> Value {
        self.record(json!([stream, "new", {"opts": {"writable": true, "readable": true}}])).await;
        self.record(json!([stream, "data", request])).await;
        let answer = self.find("an answer", |r| r[0] == stream && r[1] == "data").await;
        for end in ["end", "close"] {
            self.find(end, |r| *r == json!([stream, end])).await;
        }
        answer[2].clone()
    }

    /// Opens a database; the stream of its channel.
    pub async fn open(&mut self, stream: &str, database: &str, credentials: Value) -> String {
        let request = json!({"database": database, "credentials": credentials});
        let answer = self.ask(stream, request).await;
        assert_eq!(answer[0], Value::Null, "{answer}");
        let opened = self.find("the channel", |r| r[1] == "new").await;
        assert_eq!(opened[2]["meta"], answer[1], "{opened}");
        opened[0].as_str().expect("a stream's name").to_owned()
    }

    /// Makes a call on a channel; `[error, result]`.
    pub async fn call(&mut self, stream: &str, method: &str, args: Value) -> Value {
        self.call_as(stream, Value::Null, method, args).await
    }

    pub async fn call_as(&mut self, stream: &str, db: Value, method: &str, args: Value) -> Value {
        self.seq += 1;
        let seq = self.seq;
        self.record(json!([stream, "data", [seq, db, method, args]])).await;
        let reply = |r: &Value| r[0] == stream && r[1] == "data" && r[2][0] == seq;
        self.find(method, reply).await[2][1].clone()
    }

    /// The result of a call that must succeed.
    pub async fn result(&mut self, stream: &str, method: &str, args: Value) -> Value {
        let answer = self.call(stream, method, args).await;
        assert_eq!(answer[0], Value::Null, "{method}: {answer}");
        answer[1].clone()
    }

    /// The next event of a feed: its name and payload.
    pub async fn event(&mut self, stream: &str, listener: u64) -> (String, Value) {
        let event = |r: &Value| r[0] == stream && r[2][0] == "_event" && r[2][2][0] == listener;
        let event = self.find("an event", event).await;
        (event[2][1].as_str().expect("a name").to_owned(), event[2][2][1].clone())
    }

    /// Asserts that the connection and a channel go on.
    pub async fn assert_alive(&mut self, stream: &str, case: &str) {
        let answer = self.call(stream, "_id", json!([])).await;
        assert!(answer[1].is_string(), "{case}: {answer}");
    }
}
