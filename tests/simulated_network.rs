//! The whole gateway and whole clients on a simulated network, in virtual time: delays, partitions,
//! crashes, restarts, slow readers, suspended machines, tokens that end and grants that are taken
//! back. When that is over, all replicas become equal within a minute, every sync says so, every
//! sync kept to the grammar of events, and no acknowledged write is lost.
//!
//! `SETTEE_SIMULATE` says how many schedules, `SETTEE_SEED` with which seed to begin. Each is drawn
//! from one seed and happens again, byte for byte, with the same. `RUST_LOG` shows what happens.
//!
//! It has a `main` of its own, since the harness of tests spins where the clocks are simulated.
#![cfg(target_os = "linux")]

#[path = "support/grammar.rs"]
mod grammar;
#[path = "support/random.rs"]
mod random;
#[path = "support/simulation/mod.rs"]
mod simulation;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use random::setting;

/// Says which schedule a process is to run.
const SCHEDULE: &str = "SETTEE_SCHEDULE";

/// Schedules that run at a time.
const PROCESSES: usize = 2;

/// Schedules that are run twice.
const TWICE: u64 = 10;

/// So many schedules have every kind of event among them.
const VARIED: u64 = 500;

/// Time after which a schedule counts as stuck. It takes a fraction of a second.
const STUCK: Duration = Duration::from_secs(120);

/// What a schedule's process says at its end: its trace, and how often what happened.
type Report = BTreeMap<String, u64>;

fn main() {
    if std::env::var_os(SCHEDULE).is_some() {
        return run_schedule(setting(SCHEDULE, 0));
    }
    // As the harness would have it: part of a test's name first, if anything.
    let filter = std::env::args().nth(1).filter(|first| !first.starts_with('-'));
    let wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter));
    let (first, count) = (setting("SETTEE_SEED", 0), setting("SETTEE_SIMULATE", 2_000));
    println!("{count} schedules on a simulated network from SETTEE_SEED={first}");
    if wanted("a_seed_gives_the_same_schedule_byte_for_byte") {
        a_seed_gives_the_same_schedule_byte_for_byte(first, count.min(TWICE));
    }
    if wanted("replicas_become_equal_whatever_happens") {
        replicas_become_equal_whatever_happens(first, count);
    }
}

/// The part of a process that runs one schedule.
fn run_schedule(seed: u64) {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        std::process::exit(1);
    }));
    std::thread::spawn(|| {
        std::thread::sleep(STUCK);
        eprintln!("it did not end within {STUCK:?}");
        std::process::exit(1);
    });
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    }
    let outcome = simulation::run(seed);
    let counts = outcome.counts.iter().map(|(what, count)| ((*what).to_owned(), *count));
    let mut report: Report = counts.collect();
    report.insert("trace".into(), outcome.trace);
    report.insert("settled_ms".into(), outcome.settled_ms);
    report.insert("virtual_ms".into(), outcome.virtual_ms);
    println!("{}", serde_json::to_string(&report).expect("it is JSON"));
}

/// Runs a schedule in a process of its own.
fn schedule(seed: u64) -> Result<Report, String> {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    let output = command.env(SCHEDULE, seed.to_string()).output().expect("this program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!(
            "schedule {seed}: {said}\n  again: SETTEE_SIMULATE=1 SETTEE_SEED={seed} \
             cargo test --test simulated_network"
        ));
    }
    eprint!("{said}");
    Ok(serde_json::from_slice(&output.stdout).expect("it says what happened"))
}

fn a_seed_gives_the_same_schedule_byte_for_byte(first: u64, count: u64) {
    let mut traces = Vec::new();
    for seed in first..first + count {
        let [once, again] = [schedule(seed), schedule(seed)].map(|ran| ran.expect("it succeeds"));
        assert_eq!(once, again, "SETTEE_SEED={seed}");
        traces.push(once["trace"]);
    }
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len() as u64, count, "each seed gives a schedule of its own");
}

fn replicas_become_equal_whatever_happens(first: u64, count: u64) {
    let (begun, totals) = (AtomicU64::new(0), Mutex::new(Report::new()));
    let failures = Mutex::new(Vec::new());
    let work = || {
        while failures.lock().unwrap().is_empty() {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            match schedule(first.wrapping_add(number)) {
                Ok(report) => add(&mut totals.lock().unwrap(), report),
                Err(failure) => failures.lock().unwrap().push(failure),
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let totals = totals.into_inner().unwrap();
    println!("{totals:?}");
    for what in simulation::EVENTS {
        assert!(count < VARIED || totals.contains_key(*what), "{what} never happened");
    }
}

fn add(totals: &mut Report, mut report: Report) {
    report.remove("trace");
    let settled_ms = report.remove("settled_ms").expect("it was measured");
    let longest_ms = totals.entry("longest to settle, ms".into()).or_default();
    *longest_ms = settled_ms.max(*longest_ms);
    for (what, count) in report {
        *totals.entry(what).or_default() += count;
    }
}
