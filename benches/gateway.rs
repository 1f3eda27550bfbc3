//! A gateway in a process of its own, and clients here: bulk push and pull, live latency beside the
//! machine's own fsync, memory of an idle connection.
//!
//! `cargo bench --bench gateway [-- DOCS [SOCKETS]]`: documents (default 100,000) and idle sockets
//! (default 2,000). Both ends are on disk, in the system's directory for temporary files.

use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use settee::server::{AccessRequest, Gateway, Grant};
use settee::store::{ChangesOptions, Since};
use settee::{Client, Database, DbName, Document, Limits, Store, SyncOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// The argument that makes this program the gateway.
const GATEWAY: &str = "--be-the-gateway";

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == GATEWAY) {
        return runtime.block_on(be_the_gateway(&arguments[1]));
    }
    let number = |place: usize, default: usize| {
        arguments.get(place).map_or(Ok(default), |text| text.parse::<usize>())
    };
    runtime.block_on(measure(number(0, 100_000)?, number(1, 2_000)?))
}

async fn be_the_gateway(directory: &str) -> Outcome<()> {
    let limits = Limits {
        connections_per_address_max: 100_000,
        connections_max: 100_000,
        first_open_timeout_ms: 3_600_000,
        ..Limits::default()
    };
    let gateway = Gateway::builder(Store::open(directory)?)
        .limits(limits)
        .authorizer(|request: AccessRequest| async move {
            Ok(Grant::database(request.database).creating())
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    gateway.serve(listener, std::future::pending()).await;
    Ok(())
}

/// The gateway's process; ends with this value.
struct GatewayProcess {
    child: Child,
    address: String,
}

impl GatewayProcess {
    fn start(directory: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(GATEWAY)
            .arg(directory)
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the gateway has no output")?;
        let mut address = String::new();
        BufReader::new(stdout).read_line(&mut address)?;
        Ok(Self { child, address: address.trim().to_owned() })
    }

    fn resident_bytes(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn measure(docs: usize, sockets: usize) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let stores = Store::open(directory.path().join("a"))?;
    let (a, b) =
        (stores.create(&DbName::parse("a")?).await?, stores.create(&DbName::parse("b")?).await?);
    let url = format!("ws://{}", gateway.address);
    fill(&a, docs).await?;
    bulk("first push", &a, &url, docs).await?;
    bulk("first pull", &b, &url, docs).await?;
    live(&a, &b, &url, directory.path()).await?;
    idle(&gateway, sockets).await
}

async fn fill(database: &Database, docs: usize) -> Outcome<()> {
    let began = Instant::now();
    let text = "x".repeat(210);
    for from in (0..docs).step_by(1_000) {
        let batch = (from..docs.min(from + 1_000))
            .map(|n| Document::new(&format!("document-{n:08}"), &json!({"n": n, "text": text})))
            .collect::<Result<Vec<_>, _>>()?;
        database.bulk_docs(batch, Default::default()).await?;
    }
    report("local load", docs, began.elapsed());
    Ok(())
}

fn report(what: &str, docs: usize, time: Duration) {
    println!(
        "{what}: {docs} documents in {time:.2?}, {:.0} documents/s",
        docs as f64 / time.as_secs_f64()
    );
}

async fn bulk(what: &str, database: &Database, url: &str, docs: usize) -> Outcome<()> {
    let client = Client::connect(url)?;
    let began = Instant::now();
    let options = SyncOptions::one_shot("bench").create().retry(true);
    client.sync(database, options).finished().await?;
    report(what, docs, began.elapsed());
    client.close().await;
    Ok(())
}

/// Times from an edit at one client to its arrival at another.
async fn live(a: &Database, b: &Database, url: &str, directory: &Path) -> Outcome<()> {
    const EDITS: usize = 500;
    let (first, second) = (Client::connect(url)?, Client::connect(url)?);
    let mut sync_a = first.sync(a, SyncOptions::live("bench"));
    let mut sync_b = second.sync(b, SyncOptions::live("bench"));
    sync_a.up_to_date().await?;
    sync_b.up_to_date().await?;
    let options = ChangesOptions { since: Since::Now, ..ChangesOptions::default() };
    let mut feed = b.feed(options).await?;
    feed.next_page(10, usize::MAX).await?;
    let mut times = Vec::with_capacity(EDITS);
    for n in 0..EDITS {
        let began = Instant::now();
        a.put(Document::new(&format!("live-{n}"), &json!({"n": n}))?).await?;
        while feed.next_page(10, usize::MAX).await?.rows.is_empty() {}
        times.push(began.elapsed());
    }
    let fsync = fsync_times(directory, EDITS)?;
    println!(
        "live edit, local write to the other client's disk: p50 {:.2?}, p99 {:.2?}; own fdatasync p50 {:.2?}, p99 {:.2?}",
        percentile(&mut times, 50),
        percentile(&mut times, 99),
        percentile(&mut fsync.clone(), 50),
        percentile(&mut fsync.clone(), 99),
    );
    sync_a.cancel().await;
    sync_b.cancel().await;
    Ok(())
}

fn fsync_times(directory: &Path, count: usize) -> Outcome<Vec<Duration>> {
    let mut file = File::create(directory.join("fsync"))?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        file.write_all(&[0; 512])?;
        file.sync_data()?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

async fn idle(gateway: &GatewayProcess, count: usize) -> Outcome<()> {
    let mut sockets = Vec::with_capacity(count);
    // The first sockets pay for what is made once.
    for _ in 0..50 {
        sockets.push(open_socket(&gateway.address).await?);
    }
    let before = gateway.resident_bytes()?;
    for _ in 0..count {
        sockets.push(open_socket(&gateway.address).await?);
    }
    let after = gateway.resident_bytes()?;
    println!(
        "idle connections: {count} take {} KiB resident, {} bytes each",
        after.saturating_sub(before) / 1024,
        after.saturating_sub(before) / count as u64,
    );
    Ok(())
}

async fn open_socket(address: &str) -> Outcome<TcpStream> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {address}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: settee.v1\r\n\r\n"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(socket.read_u8().await?);
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(String::from_utf8_lossy(&answer).into());
    }
    Ok(socket)
}
