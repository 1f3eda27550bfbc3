//! Live subscribers of a gateway that is calm, and again while it is besieged: idle sockets, readers
//! that take nothing, peers that are gone without a word, headers and bodies that come byte by byte.
//!
//! `cargo bench --bench siege [-- SUBSCRIBERS [WRITES_PER_SECOND [SECONDS [IDLE]]]]`: 1,000
//! subscribers, 100 writes a second for 15 seconds, and 5,000 idle sockets unless said otherwise;
//! beside them always 200 slow readers, 50 half-open peers, 100 slow headers and 100 slow bodies.
//!
//! Prints the times from the acknowledgement of a write to its arrival in both, and what memory the
//! gateway takes. It fails if the besiegers make the 99th of 100 more than twice as slow, or take
//! more than their bounds allow.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/fan.rs"]
mod fan;
#[path = "support/process.rs"]
mod process;
#[path = "support/subscriber.rs"]
mod subscriber;

use std::time::Duration;

use fan::{Fan, Fanned, Load, open_channel};
use process::{GatewayProcess, Outcome, arguments, number, open_socket};
use serde_json::json;
use subscriber::text_frame;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep};

const SLOW_READERS: usize = 200;
const HALF_OPEN: usize = 50;
const SLOW_HEADERS: usize = 100;
const SLOW_BODIES: usize = 100;

/// What a slow reader asks for again and again.
const LARGE_DOC_BYTES: usize = 200_000;

/// What a connection of each kind may have in memory: for a slow reader `outbound_bytes_max`, a
/// message over it, one that is being written, and four answers that wait for room; a buffer or two
/// for the others.
const SLOW_READER_BYTES_MAX: u64 = (1 << 20) + 6 * LARGE_DOC_BYTES as u64;
const OTHER_BYTES_MAX: u64 = 16 * 1024;

/// What the allocator may take on top, as it rounds sizes up and keeps some of what was freed.
const ALLOCATOR_PART: u64 = 8;

/// Between two bytes of a slow header or body.
const BYTE_INTERVAL: Duration = Duration::from_millis(500);

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Some(arguments) = arguments(&runtime)? else { return Ok(()) };
    drop(runtime);
    let load = Load {
        subscribers: number(&arguments, 0, 1_000)?,
        writes_per_second: number(&arguments, 1, 100)?,
        seconds: number(&arguments, 2, 15)?,
    };
    let idle = number(&arguments, 3, 5_000)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(load, idle))
}

async fn measure(load: Load, idle: usize) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let calm = Fan::open(&gateway.address, "calm", load).await?.run().await?;
    report("calm", &calm);
    let fan = Fan::open(&gateway.address, "siege", load).await?;
    let before = gateway.resident_bytes()?;
    let besiegers = besiege(&gateway.address, idle).await?;
    let mut look = interval(Duration::from_millis(200));
    let mut peak = before;
    let running = fan.run();
    tokio::pin!(running);
    let besieged = loop {
        tokio::select! {
            besieged = &mut running => break besieged?,
            _ = look.tick() => peak = peak.max(gateway.resident_bytes()?),
        }
    };
    drop(besiegers);
    report("besieged", &besieged);
    let (ratio, taken) = (besieged.at(990) / calm.at(990), peak.saturating_sub(before));
    let others = (idle + HALF_OPEN + SLOW_HEADERS + SLOW_BODIES) as u64;
    let bound = SLOW_READERS as u64 * SLOW_READER_BYTES_MAX + others * OTHER_BYTES_MAX;
    let bound = bound + bound / ALLOCATOR_PART;
    println!("p99 besieged is {ratio:.2} times that of calm");
    println!(
        "memory: {} MiB before, {} MiB at most, so {} MiB for the besiegers, whose bounds are {} MiB",
        before >> 20,
        peak >> 20,
        taken >> 20,
        bound >> 20
    );
    match (ratio <= 2.0, taken <= bound) {
        (true, true) => Ok(()),
        (false, _) => Err("the others suffer".into()),
        (_, false) => Err("memory is not bounded".into()),
    }
}

fn report(when: &str, fanned: &Fanned) {
    println!(
        "{when}: write acknowledged to received: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; {} \
         documents in {} messages, written in {:.1?}",
        fanned.at(500),
        fanned.at(990),
        fanned.at(1000),
        fanned.times.len(),
        fanned.messages,
        fanned.wrote_in,
    );
}

/// Brings all of them, which go on until what is returned is dropped.
async fn besiege(address: &str, idle: usize) -> Outcome<(JoinSet<()>, Vec<TcpStream>)> {
    let mut tasks = JoinSet::new();
    for _ in 0..idle {
        tasks.spawn(stay_idle(open_socket(address).await?));
    }
    let mut writer = open_channel(address, "large").await?;
    let large = json!({"_id": "large", "text": "x".repeat(LARGE_DOC_BYTES)});
    let put = json!(["call", 1, 1, "put", {"doc": large}]).to_string();
    writer.write_all(&text_frame(&put)).await?;
    subscriber::message(&mut writer).await?;
    let mut silent = vec![writer];
    for _ in 0..SLOW_READERS {
        let mut reader = open_channel(address, "large").await?;
        for call in 1..=100 {
            let get = json!(["call", 1, call, "get", {"id": "large"}]).to_string();
            reader.write_all(&text_frame(&get)).await?;
        }
        silent.push(reader);
    }
    for _ in 0..HALF_OPEN {
        silent.push(open_channel(address, "large").await?);
    }
    for number in 0..SLOW_HEADERS + SLOW_BODIES {
        let beginning = if number < SLOW_HEADERS {
            "GET / HTTP/1.1\r\nhost: gateway\r\nx-slow: "
        } else {
            "POST /large/_bulk_docs HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n\
             content-length: 1000000\r\n\r\n"
        };
        tasks.spawn(send_slowly(address.to_owned(), beginning));
    }
    Ok((tasks, silent))
}

/// Answers pings, as a client that has nothing to do.
async fn stay_idle(mut socket: TcpStream) {
    const EMPTY_PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];
    let mut bytes = [0; 64];
    while let Ok(1..) = socket.read(&mut bytes).await {
        if socket.write_all(&EMPTY_PONG).await.is_err() {
            return;
        }
    }
}

/// Sends a byte now and then, and begins anew whenever it is cut.
async fn send_slowly(address: String, beginning: &str) {
    loop {
        if let Ok(mut socket) = TcpStream::connect(&address).await {
            let mut sent = socket.write_all(beginning.as_bytes()).await;
            while sent.is_ok() {
                sleep(BYTE_INTERVAL).await;
                sent = socket.write_all(b"x").await;
            }
        }
        sleep(BYTE_INTERVAL).await;
    }
}
