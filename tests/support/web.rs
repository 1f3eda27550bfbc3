//! Servers on a port of this machine: gateways, and one that answers as a test says.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::sync::{Arc, Mutex};

use settee::http_peer::{HttpOptions, Remote};
use settee::replicate::{Backoff, Directions, Lifetime, ReplicationOptions};
use settee::server::{Gateway, GatewayBuilder};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Duration;

/// A server that ends with the test.
pub struct Web {
    /// `HOST:PORT`.
    pub address: String,
    /// The first lines of the requests that came.
    pub asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Web {
    /// A gateway.
    pub async fn gateway(builder: GatewayBuilder) -> (Gateway, Self) {
        let gateway = builder.build().expect("the settings work");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens").to_string();
        let served = gateway.clone();
        let task = tokio::spawn(async move {
            served.serve(listener, std::future::pending()).await;
        });
        (gateway, Self { address, asked: Arc::default(), task })
    }

    /// Answers each request with the bytes that `answer` makes of its first line and body, and
    /// closes the connection; no bytes leave the client waiting.
    pub async fn scripted<F>(answer: F) -> Self
    where
        F: Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it listens").to_string();
        let (answer, asked) = (Arc::new(answer), Arc::<Mutex<Vec<String>>>::default());
        let noted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer_one(stream, Arc::clone(&answer), Arc::clone(&noted)));
            }
        });
        Self { address, asked, task }
    }

    pub fn url(&self, database: &str) -> String {
        format!("http://{}/{database}", self.address)
    }

    pub fn remote(&self, database: &str) -> Remote {
        self.url(database).parse().expect("an address")
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("nobody panics with it").clone()
    }
}

async fn answer_one<F>(mut stream: TcpStream, answer: Arc<F>, asked: Arc<Mutex<Vec<String>>>)
where
    F: Fn(&str, &str) -> Vec<u8> + Send + Sync + 'static,
{
    let Some((first, body)) = request(&mut stream).await else { return };
    asked.lock().expect("nobody panics with it").push(first.clone());
    let bytes = answer(&first, &body);
    if bytes.is_empty() {
        std::future::pending::<()>().await;
    }
    // A client that has read enough goes away.
    let _ = stream.write_all(&bytes).await;
    let _ = stream.shutdown().await;
}

async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("a head is text");
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case(wanted).then(|| value.to_owned())
        })
    };
    let length = header("content-length").map_or(0, |text| text.parse().expect("a length"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let first = head.lines().next().expect("a first line").to_owned();
    Some((first, String::from_utf8_lossy(&body).into_owned()))
}

/// An answer of JSON.
pub fn json(status: u16, body: &str) -> Vec<u8> {
    with_header(status, "X-Nothing: 0", body)
}

pub fn with_header(status: u16, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Word\r\nContent-Length: {length}\r\n{header}\r\n");
    format!("{head}Connection: close\r\n\r\n{body}").into_bytes()
}

/// Options with short pauses.
pub fn quick(directions: Directions, lifetime: Lifetime) -> HttpOptions {
    HttpOptions {
        replication: ReplicationOptions { directions, lifetime, ..Default::default() },
        backoff: Backoff { first: Duration::from_millis(5), max: Duration::from_millis(50) },
        ..HttpOptions::default()
    }
}
