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

#[path = "support/allocator.rs"]
mod allocator;
#[path = "support/fan.rs"]
mod fan;
#[path = "support/process.rs"]
mod process;
#[path = "support/subscriber.rs"]
mod subscriber;

use std::time::{Duration, Instant};

use fan::{Fan, Load};
use process::{GatewayProcess, Outcome, arguments, cpu_of, number};

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

async fn measure(load: Load) -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let gateway = GatewayProcess::start(&directory.path().join("gateway"))?;
    let fan = Fan::open(&gateway.address, "bench", load).await?;
    let cpu = (gateway.cpu()?, cpu_of("self")?);
    let began = Instant::now();
    let fanned = fan.run().await?;
    let took = began.elapsed();
    let cpu = (gateway.cpu()?.saturating_sub(cpu.0), cpu_of("self")?.saturating_sub(cpu.1));
    println!(
        "fan-out: {} subscribers, {:.0} writes/s reached of {}, {} documents received in {} messages",
        load.subscribers,
        (load.writes_per_second * load.seconds) as f64 / fanned.wrote_in.as_secs_f64(),
        load.writes_per_second,
        fanned.times.len(),
        fanned.messages,
    );
    println!(
        "write acknowledged to received: p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        fanned.at(500),
        fanned.at(950),
        fanned.at(990),
        fanned.at(1000),
    );
    let share = |time: Duration| 100.0 * time.as_secs_f64() / took.as_secs_f64();
    println!(
        "processor time in {took:.2?}: gateway {:.0} % of a core, load generator {:.0} %",
        share(cpu.0),
        share(cpu.1)
    );
    Ok(())
}
