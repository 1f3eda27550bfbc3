//! Subscribers of one database's live changes while it is written to, and how long each change took
//! to each of them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::process::{Outcome, open_socket};
use super::subscriber::{self, Arrival, Subscriber, text_frame};

/// Writes without an answer yet; the gateway takes 128 calls of a connection at a time.
const UNDER_WAY_MAX: usize = 100;

/// How long the last rows may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy)]
pub struct Load {
    pub subscribers: usize,
    pub writes_per_second: usize,
    pub seconds: usize,
}

/// When which write was acknowledged.
type Acknowledged = Vec<Option<Instant>>;

/// Subscribers that have caught up.
pub struct Fan {
    load: Load,
    writer: TcpStream,
    tasks: Vec<tokio::task::JoinHandle<Result<Subscriber, String>>>,
}

/// What came of it.
pub struct Fanned {
    /// Microseconds from acknowledgement to arrival, of each document at each subscriber, sorted.
    pub times: Vec<u32>,
    pub messages: usize,
    pub wrote_in: Duration,
}

impl Fanned {
    /// Milliseconds at a thousandth of all times.
    pub fn at(&self, thousandth: usize) -> f64 {
        f64::from(self.times[(self.times.len() - 1) * thousandth / 1000]) / 1000.0
    }
}

impl Fan {
    /// Opens everything on a database that has not been written to.
    pub async fn open(address: &str, database: &str, load: Load) -> Outcome<Self> {
        let writer = open_channel(address, database).await?;
        let writes = load.writes_per_second * load.seconds;
        let mut tasks = Vec::with_capacity(load.subscribers);
        for number in 0..load.subscribers {
            let mut socket = open_channel(address, database).await?;
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
        Ok(Self { load, writer, tasks })
    }

    /// Writes until everything has come to everybody.
    pub async fn run(self) -> Outcome<Fanned> {
        let Self { load, writer, tasks } = self;
        let writing = std::thread::spawn(move || write(writer, load));
        let mut subscribers = Vec::with_capacity(tasks.len());
        for task in tasks {
            subscribers.push(task.await??);
        }
        let (acknowledged, wrote_in) = writing.join().map_err(|_| "the writer panicked")??;
        let mut times = latencies(&subscribers, &acknowledged)?;
        times.sort_unstable();
        let messages = subscribers.iter().map(|one| one.arrivals.len()).sum();
        Ok(Fanned { times, messages, wrote_in })
    }
}

/// A socket with channel 1 open.
pub async fn open_channel(address: &str, database: &str) -> Outcome<TcpStream> {
    let mut socket = open_socket(address).await?;
    socket.set_nodelay(true)?;
    let open = json!(["open", 1, {"database": database, "create": true}]);
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
