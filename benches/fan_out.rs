//! Subscribers of one database's live changes while it is written to: how long after a write was
//! acknowledged its document is at a subscriber.
//!
//! `cargo bench --bench fan_out [-- SUBSCRIBERS [WRITES_PER_SECOND [SECONDS]]]`: 1,000 subscribers,
//! 500 writes of one document a second and 10 seconds unless said otherwise.
//!
//! The gateway is a process of its own, its store on disk; the subscribers are sockets over loopback
//! in this process, all read by one thread, and the writer another thread. Both processes share the
//! machine's cores, so that what the load costs is taken from the gateway: processor times of both
//! are printed.

#[path = "support/process.rs"]
mod process;
#[path = "support/subscriber.rs"]
mod subscriber;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use process::{GatewayProcess, Outcome, arguments, cpu_of, number, open_socket};
use serde_json::{Value, json};
use subscriber::{Arrival, Subscriber, text_frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Writes without an answer yet; the gateway takes 128 calls of a connection at a time.
const UNDER_WAY_MAX: usize = 100;

/// How long the last rows may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> Outcome<()> {
    // The gateway wants all cores, the load only as little as it can do with.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let Some(arguments) = arguments(&runtime)? else { return Ok(()) };
    drop(runtime);
    let load = Load {
        subscribers: number(&arguments, 0, 1_000)?,
        writes_per_second: number(&arguments, 1, 500)?,
        seconds: number(&arguments, 2, 10)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(load))
}

#[derive(Clone, Copy)]
struct Load {
    subscribers: usize,
    writes_per_second: usize,
    seconds: usize,
}

/// When which write was acknowledged.
type Acknowledged = Vec<Option<Instant>>;

async fn measure(load: Load) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let writer = open_channel(&gateway.address).await?;
    let writes = load.writes_per_second * load.seconds;
    let mut tasks = Vec::with_capacity(load.subscribers);
    for number in 0..load.subscribers {
        let mut socket = open_channel(&gateway.address).await?;
        let live = json!(["call", 1, 1, "changes", {
            "live": true, "docs": true, "style": "all_docs", "credit": subscriber::CREDIT,
        }]);
        socket.write_all(&text_frame(&live.to_string())).await?;
        // One subscriber reads the rows, to learn which write has which place.
        let mut subscriber = Subscriber::new(socket, number == 0);
        subscriber.read_until(0).await?;
        tasks.push(tokio::spawn(async move {
            let read = timeout(PATIENCE + Duration::from_secs(load.seconds as u64), async {
                subscriber.read_until(writes as u64).await.map_err(|error| error.to_string())
            });
            read.await.map_err(|_| "rows did not come in time".to_owned())??;
            Ok::<_, String>(subscriber)
        }));
    }
    let cpu = (gateway.cpu()?, cpu_of("self")?);
    let began = Instant::now();
    let writing = std::thread::spawn(move || write(writer, load));
    let mut subscribers = Vec::with_capacity(load.subscribers);
    for task in tasks {
        subscribers.push(task.await??);
    }
    let took = began.elapsed();
    let cpu = (gateway.cpu()?.saturating_sub(cpu.0), cpu_of("self")?.saturating_sub(cpu.1));
    let (acknowledged, wrote_in) = writing.join().map_err(|_| "the writer panicked")??;
    let mut times = latencies(&subscribers, &acknowledged)?;
    times.sort_unstable();
    let at = |thousandth: usize| f64::from(times[(times.len() - 1) * thousandth / 1000]) / 1000.0;
    println!(
        "fan-out: {} subscribers, {:.0} writes/s reached of {}, {} documents received in {} messages",
        load.subscribers,
        writes as f64 / wrote_in.as_secs_f64(),
        load.writes_per_second,
        times.len(),
        subscribers.iter().map(|one| one.arrivals.len()).sum::<usize>(),
    );
    println!(
        "write acknowledged to received: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(500),
        at(950),
        at(990),
        at(1000),
    );
    let share = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64();
    println!(
        "processor time in {took:.2?}: gateway {:.0} % of a core, load generator {:.0} %",
        share(cpu.0),
        share(cpu.1)
    );
    Ok(())
}

/// A socket with channel 1 open.
async fn open_channel(address: &str) -> Outcome<TcpStream> {
    let mut socket = open_socket(address).await?;
    socket.set_nodelay(true)?;
    let open = json!(["open", 1, {"database": "bench", "create": true}]);
    socket.write_all(&text_frame(&open.to_string())).await?;
    let opened = subscriber::message(&mut socket).await?;
    if !opened.starts_with("[\"opened\"") {
        return Err(opened.into());
    }
    Ok(socket)
}

/// Writes at an even pace as long as the gateway keeps up; in a runtime of its own, so that the
/// subscribers' arrivals do not delay it.
fn write(socket: TcpStream, load: Load) -> Result<(Acknowledged, Duration), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let written = runtime.map_err(|error| error.to_string())?.block_on(async {
        let socket = TcpStream::from_std(socket.into_std()?)?;
        let (mut reader, mut sender) = socket.into_split();
        let writes = load.writes_per_second * load.seconds;
        let under_way = Semaphore::new(UNDER_WAY_MAX);
        let began = Instant::now();
        let send = async {
            let mut ticks = interval(Duration::from_secs(1) / load.writes_per_second as u32);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in 1..=writes {
                ticks.tick().await;
                under_way.acquire().await?.forget();
                let doc =
                    json!({"_id": format!("document-{n:08}"), "n": n, "text": "x".repeat(180)});
                let put = json!(["call", 1, n, "put", {"doc": doc}]).to_string();
                sender.write_all(&text_frame(&put)).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let take = async {
            let mut acknowledged = vec![None; writes + 1];
            let mut answers = 0;
            while answers < writes {
                let text = subscriber::message(&mut reader).await?;
                let now = Instant::now();
                // A ping: the next write shows that the writer is alive.
                if text.is_empty() {
                    continue;
                }
                answers += 1;
                under_way.add_permits(1);
                let answer: Value = serde_json::from_str(&text)?;
                if answer[0] != "reply" {
                    return Err(text.into());
                }
                let n = answer[2].as_u64().ok_or("a reply has no call")?;
                acknowledged[usize::try_from(n)?] = Some(now);
            }
            Ok::<_, Box<dyn std::error::Error>>(acknowledged)
        };
        let ((), acknowledged) = tokio::try_join!(send, take)?;
        Ok::<_, Box<dyn std::error::Error>>((acknowledged, began.elapsed()))
    });
    written.map_err(|error| error.to_string())
}

/// Microseconds from the acknowledgement of each write to its arrival at each subscriber. A document
/// may be at a subscriber before the writer hears of it: that counts as none.
fn latencies(subscribers: &[Subscriber], acknowledged: &Acknowledged) -> Outcome<Vec<u32>> {
    let places: &HashMap<u64, usize> = &subscribers[0].places;
    let mut times = Vec::with_capacity(subscribers.len() * acknowledged.len());
    for subscriber in subscribers {
        let mut seq = 0;
        for Arrival { at, last_seq } in &subscriber.arrivals {
            while seq < *last_seq {
                seq += 1;
                let n = places.get(&seq).ok_or("a place without a document")?;
                let acknowledged = acknowledged[*n].ok_or("a write without an answer")?;
                let time = at.saturating_duration_since(acknowledged).as_micros();
                times.push(u32::try_from(time)?);
            }
        }
    }
    Ok(times)
}
