//! Events to many connections, and what they take from documents on the same gateway.
//!
//! `cargo bench --bench events [-- CONNECTIONS [EVENTS_PER_SECOND [SECONDS]]]`: 1,000 connections that
//! receive 10,000 events a second in all, for 10 seconds, unless said otherwise: each event goes to a
//! channel that all have joined, then each to one user. Before, between and after nothing is sent.
//! Meanwhile another connection writes documents into a new database, a hundred at a time, as fast as
//! they are acknowledged; their rate is compared with that of the silences on both sides, since the
//! machine's own changes with time.
//!
//! The gateway is a process of its own, its store on disk; everything else is in this process, on two
//! threads. Both processes share the machine's cores, so that what the load costs is taken from the
//! gateway: processor times of both are printed.

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/process.rs"]
mod process;
#[path = "support/subscriber.rs"]
#[allow(dead_code, reason = "this bench reads frames only")]
mod subscriber;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use process::{GatewayProcess, Outcome, arguments, cpu_of, number, open_socket};
use serde_json::{Value, json};
use subscriber::{message, text_frame};
use tokio::io::{AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Documents of one write.
const BATCH: usize = 100;

/// How long the last events may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
struct Load {
    connections: usize,
    events_per_second: usize,
    seconds: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Silence,
    ToChannel,
    ToUsers,
}

fn main() -> Outcome<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Some(arguments) = arguments(&runtime)? else { return Ok(()) };
    drop(runtime);
    let load = Load {
        connections: number(&arguments, 0, 1_000)?,
        events_per_second: number(&arguments, 1, 10_000)?,
        seconds: number(&arguments, 2, 10)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(load))
}

async fn measure(load: Load) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let base = Instant::now();
    let (arrived, mut arrivals) = mpsc::channel::<Duration>(100_000);
    for n in 0..load.connections {
        let mut socket = identified(&gateway.address, &format!("user-{n}")).await?;
        ask(&mut socket, &json!(["join", "all"]), "[\"joined\"").await?;
        tokio::spawn(receive(socket, base, arrived.clone()));
    }
    let mut rates = Vec::new();
    for shape in SHAPES {
        let cpu = (gateway.cpu()?, cpu_of("self")?);
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let writing = {
            let (address, stop) = (gateway.address.clone(), Arc::clone(&stop));
            let database = format!("bench-{}", rates.len());
            let write = move || write(&address, &database, &stop);
            std::thread::spawn(move || write().map_err(|error| error.to_string()))
        };
        let mut times = run(&gateway.address, load, shape, base, &mut arrivals).await?;
        stop.store(true, Ordering::Relaxed);
        let rate = loop {
            if writing.is_finished() {
                break writing.join().map_err(|_| "the writer panicked")??;
            }
            tokio::task::yield_now().await;
        };
        let took = began.elapsed();
        let cpu = (gateway.cpu()?.saturating_sub(cpu.0), cpu_of("self")?.saturating_sub(cpu.1));
        tell(shape, load, took, &mut times);
        println!("  documents: {rate:.0}/s acknowledged");
        let share = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64();
        println!(
            "  processor time: gateway {:.0} % of a core, load generator {:.0} %",
            share(cpu.0),
            share(cpu.1)
        );
        rates.push(rate);
    }
    for place in [1, 3] {
        let silent = f64::midpoint(rates[place - 1], rates[place + 1]);
        println!(
            "{}: {:.0} % of the documents of a silence",
            SHAPES[place].name(),
            100.0 * rates[place] / silent
        );
    }
    Ok(())
}

/// With a silence on both sides of each.
const SHAPES: [Shape; 5] =
    [Shape::Silence, Shape::ToChannel, Shape::Silence, Shape::ToUsers, Shape::Silence];

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::ToChannel => "to a channel of all",
            Self::ToUsers => "to one user each",
        }
    }
}

fn tell(shape: Shape, load: Load, took: Duration, times: &mut [Duration]) {
    let Load { connections, .. } = load;
    let name = shape.name();
    if shape == Shape::Silence {
        return println!("{name}: {connections} connections that get nothing");
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{name}: {} events received by {connections} connections, {:.0}/s",
        times.len(),
        times.len() as f64 / took.as_secs_f64()
    );
    println!(
        "  sent to received: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(99),
        at(100)
    );
}

/// Sends at an even pace and waits for everything; the time that each event took.
async fn run(
    address: &str,
    load: Load,
    shape: Shape,
    base: Instant,
    arrivals: &mut mpsc::Receiver<Duration>,
) -> Outcome<Vec<Duration>> {
    let seconds = Duration::from_secs(load.seconds as u64);
    if shape == Shape::Silence {
        tokio::time::sleep(seconds).await;
        return Ok(Vec::new());
    }
    let each = if shape == Shape::ToChannel { load.connections } else { 1 };
    let per_second = (load.events_per_second / each).max(1);
    let (sends, wanted) = (per_second * load.seconds, per_second * load.seconds * each);
    let socket = identified(address, "sender").await?;
    let (reader, mut writer) = socket.into_split();
    // The answers have to be taken; what they say is in what arrives.
    let answers = tokio::spawn(async move {
        let mut reader = BufReader::new(reader);
        while next_text(&mut reader).await.is_some() {}
    });
    let sending = async {
        let mut ticks = interval(Duration::from_secs(1) / per_second as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for n in 0..sends {
            ticks.tick().await;
            let targets = match shape {
                Shape::ToChannel => json!({"channels": "all"}),
                _ => json!({"users": format!("user-{}", n % load.connections)}),
            };
            let payload = base.elapsed().as_micros();
            let event = json!({"event": "e", "targets": targets, "payload": payload as u64});
            let text = json!(["send", n + 1, event]).to_string();
            writer.write_all(&text_frame(&text)).await?;
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let receiving = async {
        let mut times = Vec::with_capacity(wanted);
        while times.len() < wanted {
            let next = timeout(PATIENCE + seconds, arrivals.recv()).await;
            times.push(next.map_err(|_| "events were lost")?.ok_or("the receivers are gone")?);
        }
        Ok(times)
    };
    let ((), times) = tokio::try_join!(sending, receiving)?;
    answers.abort();
    Ok(times)
}

/// Takes events as long as there are some; what each took since it was sent.
async fn receive(socket: TcpStream, base: Instant, arrived: mpsc::Sender<Duration>) {
    let mut socket = BufReader::new(socket);
    while let Some(text) = next_text(&mut socket).await {
        let sent = text.strip_prefix("[\"event\",\"e\",").and_then(|rest| rest.split(',').next());
        if let Some(micros) = sent.and_then(|micros| micros.parse().ok()) {
            let time = base.elapsed().saturating_sub(Duration::from_micros(micros));
            if arrived.send(time).await.is_err() {
                return;
            }
        }
    }
}

async fn next_text(socket: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    message(socket).await.ok()
}

/// A connection that has identified itself.
async fn identified(address: &str, user: &str) -> Outcome<TcpStream> {
    let mut socket = open_socket(address).await?;
    socket.set_nodelay(true)?;
    ask(&mut socket, &json!(["identify", {"user": user}]), "[\"identified\"").await?;
    Ok(socket)
}

async fn ask(
    socket: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin),
    question: &Value,
    expected: &str,
) -> Outcome<()> {
    socket.write_all(&text_frame(&question.to_string())).await?;
    let answer = message(socket).await?;
    if answer.starts_with(expected) { Ok(()) } else { Err(answer.into()) }
}

/// Writes documents as a push does until told to stop; documents a second.
fn write(address: &str, database: &str, stop: &AtomicBool) -> Outcome<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut socket = open_socket(address).await?;
        socket.set_nodelay(true)?;
        let open = json!(["open", 1, {"database": database, "create": true}]);
        ask(&mut socket, &open, "[\"opened\"").await?;
        let began = Instant::now();
        let mut batches = 0;
        while !stop.load(Ordering::Relaxed) {
            let doc = |n: usize| json!({"n": n, "text": "x".repeat(180)});
            let docs: Vec<Value> = (0..BATCH).map(doc).collect();
            batches += 1;
            let call = json!(["call", 1, batches, "bulk_docs", {"docs": docs}]);
            ask(&mut socket, &call, "[\"reply\"").await?;
        }
        Ok((batches * BATCH) as f64 / began.elapsed().as_secs_f64())
    })
}
