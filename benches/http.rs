//! Documents over HTTP: `_bulk_docs` in batches of 1,000, single PUTs from 16 clients, `_changes`
//! and `_bulk_get`. Against a gateway in this process, on disk, and against the CouchDB that
//! `COUCHDB_URL` names (`http://user:password@host:port`), if one is given; then with ratios.
//!
//! `cargo bench --bench http [-- DOCS]`: documents (default 50,000).

#[path = "support/allocator.rs"]
mod allocator;

use std::error::Error;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use settee::server::{AccessRequest, Gateway, Grant};
use settee::{Limits, Store};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BATCH: usize = 1_000;
const WRITERS: usize = 16;
const PUTS_PER_WRITER: usize = 250;
const DATABASE: &str = "/settee-bench";

/// Where to send requests.
#[derive(Clone)]
struct Server {
    name: &'static str,
    address: String,
    /// The line for `Authorization`, or nothing.
    authorization: String,
}

/// A connection that is kept for one request after another.
struct Connection {
    stream: BufReader<TcpStream>,
    server: Server,
}

impl Connection {
    async fn open(server: &Server) -> Outcome<Self> {
        let stream = TcpStream::connect(&server.address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::with_capacity(1 << 16, stream), server: server.clone() })
    }

    /// Sends a request and reads its answer; one that is not of the 200s fails.
    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Outcome<Vec<u8>> {
        let Server { address, authorization, .. } = &self.server;
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\n{authorization}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await?;
        let mut line = String::new();
        self.stream.read_line(&mut line).await?;
        let is_good = line.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        let status = line.trim().to_owned();
        let mut content_length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            if line == "\r\n" {
                break;
            }
            let header = line.to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length:") {
                content_length = Some(value.trim().parse::<usize>()?);
            }
        }
        let body = match content_length {
            Some(length) => {
                let mut body = vec![0; length];
                self.stream.read_exact(&mut body).await?;
                body
            }
            None => self.chunks().await?,
        };
        if is_good { Ok(body) } else { Err(format!("{method} {path}: {status}").into()) }
    }

    async fn chunks(&mut self) -> Outcome<Vec<u8>> {
        let mut body = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            let start = body.len();
            body.resize(start + length, 0);
            self.stream.read_exact(&mut body[start..]).await?;
            line.clear();
            self.stream.read_line(&mut line).await?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
}

/// Things a second, by what was done.
type Rates = Vec<(&'static str, f64)>;

async fn measure(server: &Server, docs: usize) -> Outcome<Rates> {
    let mut connection = Connection::open(server).await?;
    // What an earlier run may have left.
    let _ = connection.ask("DELETE", DATABASE, "").await;
    connection.ask("PUT", DATABASE, "").await?;
    let mut rates = Rates::new();
    let fill = "x".repeat(200);
    let batch = |kind: &str, from: usize, revs: bool| {
        let docs = (from..from + BATCH).map(|n| {
            let rev = if revs { format!("\"_rev\":\"1-{n:032x}\",") } else { String::new() };
            format!("{{\"_id\":\"{kind}-{n:08}\",{rev}\"n\":{n},\"fill\":\"{fill}\"}}")
        });
        let new_edits = !revs;
        let docs = docs.collect::<Vec<_>>().join(",");
        format!("{{\"new_edits\":{new_edits},\"docs\":[{docs}]}}")
    };
    for (what, kind, revs) in [
        ("_bulk_docs, new_edits: true", "edited", false),
        ("_bulk_docs, new_edits: false", "replicated", true),
    ] {
        let batches: Vec<String> =
            (0..docs).step_by(BATCH).map(|from| batch(kind, from, revs)).collect();
        let began = Instant::now();
        for body in &batches {
            connection.ask("POST", &format!("{DATABASE}/_bulk_docs"), body).await?;
        }
        rates.push((what, docs as f64 / began.elapsed().as_secs_f64()));
    }
    rates.push(("PUT from 16 clients", puts(server, &fill).await?));
    let began = Instant::now();
    let feed = connection.ask("GET", &format!("{DATABASE}/_changes"), "").await?;
    let rows =
        feed.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"{\"seq\"")).count();
    rates.push(("_changes", rows as f64 / began.elapsed().as_secs_f64()));
    let asked = |from: usize| {
        let docs = (from..from + BATCH).map(|n| format!("{{\"id\":\"edited-{n:08}\"}}"));
        format!("{{\"docs\":[{}]}}", docs.collect::<Vec<_>>().join(","))
    };
    let batches: Vec<String> = (0..docs).step_by(BATCH).map(asked).collect();
    let began = Instant::now();
    for body in &batches {
        connection.ask("POST", &format!("{DATABASE}/_bulk_get?revs=true"), body).await?;
    }
    rates.push(("_bulk_get", docs as f64 / began.elapsed().as_secs_f64()));
    connection.ask("DELETE", DATABASE, "").await?;
    Ok(rates)
}

async fn puts(server: &Server, fill: &str) -> Outcome<f64> {
    let began = Instant::now();
    let writers = (0..WRITERS).map(|writer| {
        let (server, fill) = (server.clone(), fill.to_owned());
        tokio::spawn(async move {
            let mut connection = Connection::open(&server).await?;
            for n in 0..PUTS_PER_WRITER {
                let body = format!("{{\"n\":{n},\"fill\":\"{fill}\"}}");
                connection.ask("PUT", &format!("{DATABASE}/put-{writer}-{n}"), &body).await?;
            }
            Outcome::Ok(())
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await??;
    }
    Ok((WRITERS * PUTS_PER_WRITER) as f64 / began.elapsed().as_secs_f64())
}

fn couchdb() -> Outcome<Option<Server>> {
    let Ok(url) = std::env::var("COUCHDB_URL") else { return Ok(None) };
    let rest = url.strip_prefix("http://").ok_or("COUCHDB_URL must begin with http://")?;
    let rest = rest.trim_end_matches('/');
    let (authorization, address) = match rest.rsplit_once('@') {
        None => (String::new(), rest),
        Some((user, address)) => {
            (format!("authorization: Basic {}\r\n", STANDARD.encode(user)), address)
        }
    };
    Ok(Some(Server { name: "CouchDB", address: address.to_owned(), authorization }))
}

async fn gateway(directory: &std::path::Path) -> Outcome<Server> {
    let limits = Limits { connections_per_address_max: 1_000, ..Limits::default() };
    let gateway = Gateway::builder(Store::open(directory)?)
        .limits(limits)
        .authorizer(|request: AccessRequest| async move {
            Ok(Grant::database(request.database).creating().destroying())
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    tokio::spawn(async move { gateway.serve(listener, std::future::pending()).await });
    Ok(Server { name: "gateway", address, authorization: String::new() })
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let docs = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(50_000);
    let directory = tempfile::tempdir()?;
    let gateway = gateway(directory.path()).await?;
    let ours = measure(&gateway, docs).await?;
    let theirs = match couchdb()? {
        Some(server) => Some((server.name, measure(&server, docs).await?)),
        None => None,
    };
    println!("a second, with {docs} documents of 250 bytes");
    for (place, (what, rate)) in ours.iter().enumerate() {
        let beside = theirs.as_ref().map_or_else(String::new, |(name, rates)| {
            let other = rates[place].1;
            format!("; {name} {other:.0}, {:.1} times", rate / other)
        });
        println!("{what:<30} {} {rate:.0}{beside}", gateway.name);
    }
    Ok(())
}
