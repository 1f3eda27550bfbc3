//! A gateway in a process of its own, and what benches measure of it.
#![allow(dead_code, reason = "each bench uses some of these")]

use std::error::Error;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use settee::server::{AccessRequest, Gateway, Grant, ServerGrant, ServerRequest};
use settee::{Limits, Store};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// The argument that makes a bench the gateway.
const GATEWAY: &str = "--be-the-gateway";

/// What a bench was given; `None` if it was to be the gateway, and has been.
pub fn arguments(runtime: &tokio::runtime::Runtime) -> Outcome<Option<Vec<String>>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|a| a == GATEWAY) {
        runtime.block_on(be_the_gateway(&arguments[1]))?;
        return Ok(None);
    }
    Ok(Some(arguments))
}

/// A number among the arguments.
pub fn number(arguments: &[String], place: usize, default: usize) -> Outcome<usize> {
    Ok(arguments.get(place).map_or(Ok(default), |text| text.parse::<usize>())?)
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
        .server_authorizer(|request: ServerRequest| async move {
            let user = request.credentials["user"].as_str().unwrap_or_default();
            Ok(ServerGrant::known().user(user).joining("*").sending("*").sending_to_users())
        })
        .build()?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    gateway.serve(listener, std::future::pending()).await;
    Ok(())
}

/// The gateway's process; ends with this value.
pub struct GatewayProcess {
    child: Child,
    pub address: String,
}

impl GatewayProcess {
    pub fn start(directory: &Path) -> Outcome<Self> {
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

    pub fn resident_bytes(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
        let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
        Ok(kib * 1024)
    }

    /// Processor time so far.
    pub fn cpu(&self) -> Outcome<Duration> {
        cpu_of(&self.child.id().to_string())
    }
}

impl Drop for GatewayProcess {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process so far; "self" is this one.
pub fn cpu_of(process: &str) -> Outcome<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name before it, in parentheses, may have blanks.
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let ticks =
        |place| rest.split_whitespace().nth(place).and_then(|text| text.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).ok_or("no times in stat")?;
    // Linux tells hundredths of a second, whatever the kernel counts in.
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 10))
}

/// The machine's own time to put 512 bytes on disk.
pub fn fsync_times(directory: &Path, count: usize) -> Outcome<Vec<Duration>> {
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

pub fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100]
}

/// An upgraded socket.
pub async fn open_socket(address: &str) -> Outcome<TcpStream> {
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
