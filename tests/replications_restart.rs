//! Continuous replications between two gateways that are killed with SIGKILL again and again:
//! they begin anew by themselves, and no document is lost or doubled.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/replicas.rs"]
mod replicas;

use std::path::Path;
use std::time::{Duration, Instant};

use binary::{Served, arg, settee};
use reqwest::Client;
use serde_json::{Value, json};
use settee::{DbName, Store};
use tempfile::tempdir;

/// Longest time to become equal; only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(90);

async fn ask(served: &Served, path: &str, body: Option<Value>) -> Value {
    let url = format!("http://{}{path}", served.address);
    let client = Client::new();
    let request = match &body {
        Some(body) => client.post(url).json(body),
        None => client.get(url),
    };
    request.bearer_auth("secret").send().await.unwrap().json().await.unwrap()
}

async fn make(served: &Served) {
    let url = format!("http://{}/db", served.address);
    let made = Client::new().put(url).bearer_auth("secret").send().await.unwrap();
    assert!(made.status().is_success(), "{made:?}");
}

async fn write(served: &Served, prefix: &str, count: usize) {
    let docs: Vec<Value> =
        (0..count).map(|n| json!({"_id": format!("{prefix}{n}"), "n": n})).collect();
    let rows = ask(served, "/db/_bulk_docs", Some(json!({"docs": docs}))).await;
    assert!(rows.as_array().unwrap().iter().all(|row| row["ok"] == true), "{rows}");
}

async fn count(served: &Served) -> u64 {
    ask(served, "/db", None).await["doc_count"].as_u64().unwrap()
}

async fn until_count(served: &Served, wanted: u64) {
    let began = Instant::now();
    loop {
        let found = count(served).await;
        if found == wanted {
            return;
        }
        assert!(found < wanted && began.elapsed() < PATIENCE, "{found} of {wanted}");
        // A longpoll of the feed answers with the next change, or after a while without one.
        let since = ask(served, "/db", None).await["update_seq"].as_str().unwrap().to_owned();
        ask(served, &format!("/db/_changes?feed=longpoll&timeout=1000&since={since}"), None).await;
    }
}

fn url(served: &Served) -> String {
    format!("http://anna:secret@{}/db", served.address)
}

async fn contents(dir: &Path) -> Vec<String> {
    let store = Store::open(dir).unwrap();
    let db = store.database(&DbName::parse("db").unwrap()).await.unwrap();
    let contents = replicas::contents(&db).await;
    store.close().await.unwrap();
    contents
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_over_kills_of_either_side() {
    let dir = tempdir().unwrap();
    let dirs = ["a", "b"].map(|name| dir.path().join(name));
    let mut here = Served::start(&dirs[0], "127.0.0.1:0");
    let mut there = Served::start(&dirs[1], "127.0.0.1:0");
    make(&here).await;
    make(&there).await;
    let mut ids = Vec::new();
    for (source, target) in [(json!("db"), json!(url(&there))), (json!(url(&there)), json!("db"))] {
        let body = json!({"source": source, "target": target, "continuous": true});
        let started = ask(&here, "/_replicate", Some(body)).await;
        ids.push(started["_local_id"].as_str().expect("it starts").to_owned());
    }
    ids.sort();
    let mut total = 0;
    for round in 0..4 {
        write(&here, &format!("here{round}-"), 300).await;
        write(&there, &format!("there{round}-"), 300).await;
        total += 600;
        // In the middle of the work: what is under way is cut wherever it is.
        if round % 2 == 0 {
            let address = here.address.clone();
            here.kill();
            here = Served::start(&dirs[0], &address);
        } else {
            let address = there.address.clone();
            there.kill();
            there = Served::start(&dirs[1], &address);
        }
        until_count(&here, total).await;
        until_count(&there, total).await;
        let jobs = ask(&here, "/_scheduler/jobs", None).await;
        let mut found: Vec<&str> = jobs["jobs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|job| job["id"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        assert_eq!(found, ids);
        assert!(!jobs.to_string().contains("secret"), "{jobs}");
    }
    // What was cancelled stays so over a restart.
    let cancelled = json!({"replication_id": ids[0], "cancel": true});
    assert_eq!(ask(&here, "/_replicate", Some(cancelled)).await["ok"], true);
    let address = here.address.clone();
    let (status, _) = here.stop("TERM");
    assert!(status.success());
    here = Served::start(&dirs[0], &address);
    assert_eq!(ask(&here, "/_scheduler/jobs", None).await["jobs"][0]["id"], ids[1]);
    assert_eq!(ask(&here, "/_scheduler/jobs", None).await["total_rows"], 1);
    assert!(here.stop("TERM").0.success());
    assert!(there.stop("TERM").0.success());
    for dir in &dirs {
        assert!(settee(&["check", arg(dir)]).ok().contains("sound"));
    }
    assert_eq!(contents(&dirs[0]).await, contents(&dirs[1]).await);
}

#[cfg(target_os = "linux")]
/// Resident memory of a process at its highest, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_large_attachment_travels_both_ways_in_bounded_memory() {
    const MIB: usize = 64;
    let dir = tempdir().unwrap();
    let dirs = ["a", "b"].map(|name| dir.path().join(name));
    let here = Served::start(&dirs[0], "127.0.0.1:0");
    let there = Served::start(&dirs[1], "127.0.0.1:0");
    make(&here).await;
    make(&there).await;
    let bytes: Vec<u8> = (0..MIB * 1024 * 1024).map(|n| (n % 251) as u8).collect();
    let put = async |served: &Served, doc: &str| {
        let url = format!("http://{}/db/{doc}/file", served.address);
        let body = bytes.clone();
        let put = Client::new().put(url).bearer_auth("secret").body(body).send().await.unwrap();
        assert_eq!(put.status(), 201);
    };
    let get = async |served: &Served, doc: &str| {
        let url = format!("http://{}/db/{doc}/file", served.address);
        let got = Client::new().get(url).bearer_auth("secret").send().await.unwrap();
        got.bytes().await.unwrap()
    };
    let peaks = || [&here, &there].map(|served| peak_mib(served.pid()));
    let before = peaks();
    put(&here, "pushed").await;
    put(&there, "pulled").await;
    for (source, target) in [(json!("db"), json!(url(&there))), (json!(url(&there)), json!("db"))] {
        let body = json!({"source": source, "target": target});
        let done = ask(&here, "/_replicate", Some(body)).await;
        assert_eq!(done["history"][0]["docs_written"], 1, "{done}");
    }
    for (before, peak) in before.into_iter().zip(peaks()) {
        assert!(peak - before < MIB as u64 / 2, "{before} MiB before, {peak} MiB at most");
    }
    assert!(get(&there, "pushed").await == bytes);
    assert!(get(&here, "pulled").await == bytes);
}
