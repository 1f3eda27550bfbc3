//! The disk becomes full under the gateway: writes fail with an error that names it, reads go on,
//! nothing is there in part, and with room again everything acknowledged is there.
//!
//! Needs a small file system of its own, hence root. Without, it says so and tests nothing.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/directories.rs"]
mod directories;
#[path = "support/random.rs"]
mod random;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/wire.rs"]
mod wire;

use std::fs;
use std::path::Path;
use std::process::Command;

use binary::{Served, arg, settee};
use directories::files;

use random::Random;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};
use wire::{Answer, Wire};

const DISK_BYTES: u64 = 64 << 20;
/// What is removed to make room.
const BALLAST_BYTES: usize = 8 << 20;
const DOCS_PER_WRITE: u64 = 20;

/// A file system of its own, unmounted when dropped.
struct Disk(TempDir);

impl Disk {
    fn mount() -> Option<Self> {
        let dir = tempdir().unwrap();
        let options = format!("size={DISK_BYTES}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs", arg(dir.path())]);
        let mounted = mount.output().ok().filter(|output| output.status.success());
        if mounted.is_none() {
            eprintln!("left out: a full disk, since mounting a file system needs root");
        }
        mounted.map(|_| Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, since a failing test may still have its gateway there.
        let _ = Command::new("umount").args(["-l", arg(self.path())]).status();
    }
}

/// A batch of documents; `write` says which write they are of.
fn batch(write: u64, random: &mut Random) -> Value {
    let docs = (0..DOCS_PER_WRITE).map(|n| {
        let id = format!("{write}-{n}");
        json!({"_id": id, "text": random.text(15_000)})
    });
    json!({"docs": docs.collect::<Vec<Value>>()})
}

/// Writes batches until one fails; answers what was acknowledged and the error.
async fn fill(wire: &mut Wire, random: &mut Random) -> (Vec<Value>, Value) {
    let mut acknowledged = Vec::new();
    for write in 0.. {
        assert!(write * DOCS_PER_WRITE * 15_000 < DISK_BYTES, "the disk never fills");
        let params = batch(write, random);
        match wire.call("db", "bulk_docs", &params).await.expect("the gateway goes on") {
            Ok(_) => acknowledged.extend(params["docs"].as_array().expect("docs").clone()),
            Err(error) => return (acknowledged, error),
        }
    }
    unreachable!("the loop ends by itself")
}

async fn get(wire: &mut Wire, id: &Value) -> Answer {
    wire.call("db", "get", &json!({"id": id})).await.expect("the gateway goes on")
}

async fn assert_there(wire: &mut Wire, docs: &[Value]) {
    for doc in docs {
        let found = get(wire, &doc["_id"]).await.expect("an acknowledged document is there");
        assert_eq!(found["text"], doc["text"], "{}", doc["_id"]);
    }
}

async fn post(served: &Served, path: &str, body: &Value) -> u16 {
    let url = format!("http://{}/{path}", served.address);
    let request = reqwest::Client::new().post(url).bearer_auth("secret").json(body);
    request.send().await.expect("it is answered").status().as_u16()
}

async fn connect(served: &Served) -> Wire {
    let mut wire = Wire::connect(&served.address).await.expect("it listens");
    wire.open("db", true).await.expect("it opens");
    wire
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_named_and_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let (data, ballast) = (disk.path().join("data"), disk.path().join("ballast"));
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let served = Served::start(&data, "127.0.0.1:0");
    let mut wire = connect(&served).await;
    let mut random = Random::new(1);
    let (acknowledged, error) = fill(&mut wire, &mut random).await;
    assert!(acknowledged.len() as u64 > 10 * DOCS_PER_WRITE, "the disk was hardly used");
    assert_eq!((&error["status"], &error["error"]), (&json!(507), &json!("insufficient_storage")));
    assert_there(&mut wire, &acknowledged).await;
    let again = wire.call("db", "bulk_docs", &batch(1_000_000, &mut random)).await;
    let again = again.expect("the gateway goes on").expect_err("there is no more room");
    assert_eq!(again["status"], 507, "{again}");
    let doc = &acknowledged[0]["_id"];
    let rev = get(&mut wire, doc).await.expect("it is there")["_rev"].clone();
    let purge = json!({doc.as_str().expect("an id"): [rev]});
    let purged = post(&served, "db/_purge", &purge).await;
    // A small one may still fit in what the large write would not.
    let left = get(&mut wire, doc).await.map_err(|error| error["status"].clone());
    match purged {
        201 => assert_eq!(left.expect_err("it is purged"), 404),
        refused => assert_eq!((refused, left.is_ok()), (507, true)),
    }
    let kept = &acknowledged[usize::from(purged == 201)..];
    let failed = format!("{}-", acknowledged.len() as u64 / DOCS_PER_WRITE);
    for n in 0..DOCS_PER_WRITE {
        let half = get(&mut wire, &json!(format!("{failed}{n}"))).await;
        assert_eq!(half.expect_err("nothing of it is there")["status"], 404, "{failed}{n}");
    }

    fs::remove_file(&ballast).unwrap();
    let more = batch(1_000_000, &mut random);
    let written = wire.call("db", "bulk_docs", &more).await.expect("the gateway goes on");
    written.expect("there is room again");
    let (ended, _) = served.stop("TERM");
    assert!(ended.success(), "the store is not poisoned");
    let served = Served::start(&data, "127.0.0.1:0");
    let mut wire = connect(&served).await;
    assert_there(&mut wire, kept).await;
    assert_there(&mut wire, more["docs"].as_array().expect("docs")).await;
    drop(served.stop("TERM"));
    settee(&["check", arg(&data)]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_that_has_no_room_is_refused_alone() {
    let Some(disk) = Disk::mount() else { return };
    let (data, ballast) = (disk.path().join("data"), disk.path().join("ballast"));
    let served = Served::start(&data, "127.0.0.1:0");
    let mut wire = connect(&served).await;
    let put = json!({"doc": {"_id": "before"}});
    wire.call("db", "put", &put).await.expect("it goes on").expect("there is room");
    let used: u64 = files(disk.path())
        .iter()
        .map(|file| fs::metadata(disk.path().join(file)).unwrap().len())
        .sum();
    // Not even an attachment of 128 KiB has room.
    let bytes = DISK_BYTES - used.next_multiple_of(4096) - (100 << 10);
    fs::write(&ballast, vec![1; bytes as usize]).unwrap();
    let refused = wire.upload("db", &vec![1; 128 << 10]).await.expect("it goes on");
    let refused = refused.expect_err("there is no room");
    assert_eq!(refused["status"], 507, "{refused}");
    assert_eq!(files(&data.join("blobs")), [] as [std::path::PathBuf; 0], "nothing is left behind");
    wire.call("db", "get", &json!({"id": "before"}))
        .await
        .expect("it goes on")
        .expect("it is there");
    fs::remove_file(&ballast).unwrap();
    wire.upload("db", &vec![1; 128 << 10]).await.expect("it goes on").expect("there is room again");
    drop(served.stop("TERM"));
    settee(&["check", arg(&data)]).ok();
}
