//! A settee.v1 client over TCP that makes one call at a time and can tell that the gateway died.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::collections::BTreeMap;

use serde_json::{Value, json};
use settee::transport::{Connector as _, TcpConnector};

use crate::raw::{BINARY, Came, FIN, HANDSHAKE, Raw, piece};

/// The gateway is gone.
#[derive(Debug)]
pub struct Died;

/// A settee.v1 connection.
pub struct Wire {
    raw: Raw,
    number: u32,
    channels: BTreeMap<String, u32>,
}

/// A call's value, or its error.
pub type Answer = Result<Value, Value>;

impl Wire {
    pub async fn connect(address: &str) -> Result<Self, Died> {
        let (host, port) = address.rsplit_once(':').expect("HOST:PORT");
        let port = port.parse().expect("a port");
        let stream = TcpConnector.connect(host, port).await.map_err(|_| Died)?;
        let mut raw = Raw::new(stream);
        match raw.request(HANDSHAKE.as_bytes()).await {
            (101, _) => Ok(Self { raw, number: 0, channels: BTreeMap::new() }),
            (0, _) => Err(Died),
            other => panic!("the handshake was answered with {other:?}"),
        }
    }

    async fn message(&mut self) -> Result<Value, Died> {
        loop {
            match self.raw.next().await {
                Came::Json(value) => return Ok(value),
                Came::Gone => return Err(Died),
                Came::Ping | Came::Pong(_) => {}
                other => panic!("expected a message, came {other:?}"),
            }
        }
    }

    /// The channel of a database, opened where it is not.
    pub async fn open(&mut self, database: &str, create: bool) -> Result<u32, Died> {
        if let Some(channel) = self.channels.get(database) {
            return Ok(*channel);
        }
        self.number += 1;
        let channel = self.number;
        let open =
            json!({"database": database, "credentials": {"token": "secret"}, "create": create});
        self.raw.text(&json!(["open", channel, open]).to_string()).await;
        let opened = self.until(|message| message[1] == channel).await?;
        assert_eq!(opened[0], "opened", "{database}: {opened}");
        self.channels.insert(database.to_owned(), channel);
        Ok(channel)
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Result<Value, Died> {
        loop {
            let message = self.message().await?;
            if wanted(&message) {
                return Ok(message);
            }
        }
    }

    pub async fn call(
        &mut self,
        database: &str,
        method: &str,
        params: &Value,
    ) -> Result<Answer, Died> {
        let channel = self.open(database, false).await?;
        self.number += 1;
        let call = self.number;
        self.raw.text(&json!(["call", channel, call, method, params]).to_string()).await;
        self.answer(channel, call).await
    }

    async fn answer(&mut self, channel: u32, call: u32) -> Result<Answer, Died> {
        let answers = |message: &Value| {
            message[1] == channel
                && message[2] == call
                && (message[0] == "reply" || message[0] == "fail")
        };
        let mut answer = self.until(answers).await?;
        let value = answer[3].take();
        Ok(if answer[0] == "reply" { Ok(value) } else { Err(value) })
    }

    pub async fn upload(&mut self, database: &str, bytes: &[u8]) -> Result<Answer, Died> {
        let channel = self.open(database, false).await?;
        self.number += 1;
        let call = self.number;
        self.raw.text(&json!(["call", channel, call, "upload", {}]).to_string()).await;
        let halves = bytes.split_at(bytes.len() / 2);
        self.raw.frame(FIN | BINARY, &piece(0, channel, call, halves.0)).await;
        self.raw.frame(FIN | BINARY, &piece(1, channel, call, halves.1)).await;
        self.answer(channel, call).await
    }

    /// The channel of a destroyed database is closed by the gateway.
    pub fn forget(&mut self, database: &str) {
        self.channels.remove(database);
    }
}
