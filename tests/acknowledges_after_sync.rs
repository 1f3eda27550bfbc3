//! A trace of the gateway's system calls: between the arrival of each write and its reply, sled's
//! file was synced to the disk.
//!
//! Needs strace. Without, it says so and tests nothing. `SETTEE_ACKS` says how many writes.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/random.rs"]
mod random;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/wire.rs"]
mod wire;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use binary::{Served, arg};
use random::setting;
use serde_json::json;
use tempfile::tempdir;
use wire::Wire;

const CLIENTS: u64 = 4;

fn strace(trace: &Path, data: &Path) -> Option<Command> {
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!(
            "left out: the trace of acknowledgements, since strace is missing or may not trace"
        );
        return None;
    }
    let mut command = Command::new("strace");
    // The tracer is the grandchild, so that signals reach the gateway.
    command.args(["-D", "-f", "-yy", "-e", "trace=fdatasync,recvfrom,sendto,writev", "-o"]);
    command.args([arg(trace), env!("CARGO_BIN_EXE_settee"), "serve", "--listen", "127.0.0.1:0"]);
    command.args(["--token", "secret", "--data", arg(data)]);
    Some(command)
}

async fn write(address: String, client: u64, writes: u64) {
    let mut wire = Wire::connect(&address).await.expect("it listens");
    wire.open("db", true).await.expect("it goes on");
    for n in 0..writes {
        let doc = json!({"_id": format!("{client}-{n}"), "text": "x".repeat(n as usize)});
        let put = wire.call("db", "put", &json!({"doc": doc})).await.expect("it goes on");
        put.expect("it is written");
    }
}

/// The whole trace, once the tracer has seen the gateway end.
fn read(trace: &Path) -> String {
    let started = Instant::now();
    loop {
        let text = String::from_utf8_lossy(&fs::read(trace).unwrap()).into_owned();
        if text.lines().last().is_some_and(|line| line.contains("+++ exited")) {
            return text;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "the trace has no end");
        std::thread::yield_now();
    }
}

/// Where a system call of a trace began and ended, by lines.
#[derive(Debug)]
struct Traced<'a> {
    began: usize,
    ended: usize,
    /// With its arguments, as far as they were printed when it began.
    call: &'a str,
    result: &'a str,
}

/// strace prints a call in two lines if another thread's comes in between.
fn calls(trace: &str) -> Vec<Traced<'_>> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (line, text) in trace.lines().enumerate() {
        let (thread, text) = text.split_once(' ').expect("lines begin with the thread");
        let text = text.trim_start();
        if let Some(call) = text.strip_suffix("<unfinished ...>") {
            begun.insert(thread, (line, call));
        } else if let Some((_, result)) = text.rsplit_once(" = ") {
            let resumed = if text.starts_with("<...") { begun.remove(thread) } else { None };
            let (began, call) = resumed.unwrap_or((line, text));
            calls.push(Traced { began, ended: line, call, result });
        }
    }
    calls.sort_by_key(|call| call.began);
    calls
}

/// `TCP:[...]` of a call on a socket.
fn socket(call: &str) -> Option<&str> {
    let start = call.find("<TCP:[")?;
    Some(&call[start..start + call[start..].find(']')?])
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_follows_a_sync_that_follows_its_request() {
    let dir = tempdir().unwrap();
    let (trace, data) = (dir.path().join("trace"), dir.path().join("data"));
    let Some(command) = strace(&trace, &data) else { return };
    let served = Served::spawn(command);
    let writes = setting("SETTEE_ACKS", 100) / CLIENTS;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| tokio::spawn(write(served.address.clone(), client, writes)))
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert!(served.stop("TERM").0.success());
    let text = read(&trace);
    let calls = calls(&text);
    let is_sync = |call: &&Traced| {
        call.call.starts_with("fdatasync(") && call.call.contains("/sled/db") && call.result == "0"
    };
    let syncs: Vec<&Traced> = calls.iter().filter(is_sync).collect();
    let mut requests: HashMap<&str, usize> = HashMap::new();
    let mut replies = 0;
    for call in &calls {
        let Some(socket) = socket(call.call) else { continue };
        if call.call.starts_with("recvfrom(") {
            if !call.result.starts_with('-') {
                requests.insert(socket, call.ended);
            }
        } else if call.call.contains(r#"[\"reply\""#) {
            let asked = requests[socket];
            let synced = |sync: &&&Traced| sync.began > asked && sync.ended < call.began;
            let lines: Vec<&str> = text.lines().skip(asked).take(1 + call.began - asked).collect();
            assert!(syncs.iter().any(|sync| synced(&sync)), "not synced:\n{}", lines.join("\n"));
            replies += 1;
        }
    }
    assert_eq!(replies, writes * CLIENTS, "every reply is in the trace");
    println!(
        "{replies} replies, each after one of {} syncs that began after its request",
        syncs.len()
    );
}
