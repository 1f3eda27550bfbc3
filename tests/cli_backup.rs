//! `settee backup` and `settee restore`: of a directory, of a gateway that serves, and cut short.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/replicas.rs"]
mod replicas;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use binary::{Served, arg, command, place, settee, settee_with};
use replicas::everything;
use settee::Store;
use tempfile::tempdir;

fn lines(from: usize, to: usize) -> String {
    let text = "x".repeat(200);
    (from..to).map(|n| format!("{{\"_id\":\"d{n:05}\",\"text\":\"{text}\"}}\n")).collect()
}

fn load(dir: &Path, database: &str, from: usize, to: usize) {
    settee_with(&["load", &place(dir, database)], lines(from, to).as_bytes()).ok();
}

async fn held(dir: &Path) -> std::collections::BTreeMap<String, Vec<String>> {
    let store = Store::open(dir).expect("it opens");
    let mut held = everything(&store).await;
    store.close().await.expect("it closes");
    held.values_mut().for_each(|lines| lines.retain(|line| !line.contains("session_id")));
    held
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_goes_through_a_pipe_and_comes_back() {
    let dir = tempdir().unwrap();
    let (data, archive) = (dir.path().join("data"), dir.path().join("archive"));
    load(&data, "todos", 0, 500);
    let mut backup = command(&["backup", arg(&data), "--gzip"]);
    let mut child = backup.stdout(Stdio::piped()).spawn().unwrap();
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success());
    fs::write(&archive, &bytes).unwrap();
    let copy = dir.path().join("copy");
    let told = settee(&["restore", arg(&copy), arg(&archive)]).ok();
    assert_eq!(
        told,
        "todos: as it was at seq 500\n500 documents restored, 0 checkpoints left out\n"
    );
    assert!(settee(&["check", arg(&copy)]).ok().contains("todos: sound (500 documents"));
    assert_eq!(held(&copy).await, held(&data).await);
    let failure = settee(&["restore", arg(&copy), arg(&archive)]).failure();
    assert!(failure.contains("empty directory"), "{failure}");

    let cut = dir.path().join("cut");
    fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let half = dir.path().join("half");
    settee(&["restore", arg(&half), arg(&cut)]).failure();
    let failure = settee(&["check", arg(&half)]).failure();
    assert!(failure.contains("was not finished"), "{failure}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_backed_up_while_it_serves() {
    let dir = tempdir().unwrap();
    let (data, local) = (dir.path().join("data"), dir.path().join("local"));
    load(&data, "todos", 0, 500);
    let served = Served::start(&data, "127.0.0.1:0");
    let url = format!("http://{}/", served.address);
    let file = |name: &str| dir.path().join(name);
    let (base, more) = (file("base"), file("more"));
    let backup = |args: &[&str]| settee(&[&["backup", &url], args].concat());
    let failure = backup(&["--token", "wrong", "-o", arg(&base)]).failure();
    assert!(failure.contains("401") && failure.contains("not known"), "{failure}");
    assert!(!base.exists(), "nothing half is left");
    backup(&["--token", "secret", "-o", arg(&base)]);
    load(&local, "todos", 500, 600);
    let sync = ["sync", &place(&local, "todos"), &served.url("todos"), "--token", "secret"];
    settee(&sync).ok();
    let since = ["--token", "secret", "--since", arg(&base), "-o", arg(&more), "--gzip"];
    let ran = backup(&since);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(fs::metadata(&more).unwrap().len() * 3 < fs::metadata(&base).unwrap().len());
    drop(served.stop("TERM"));
    let copy = file("copy");
    settee(&["restore", arg(&copy), arg(&base), arg(&more)]).ok();
    assert_eq!(held(&copy).await, held(&data).await);
    assert_eq!(held(&copy).await["todos"].len(), 600);

    // A client that knows the old gateway notices, and is in sync with the restored one.
    let served = Served::start(&copy, "127.0.0.1:0");
    load(&local, "todos", 600, 601);
    let sync = ["sync", &place(&local, "todos"), &served.url("todos"), "--token", "secret"];
    settee(&sync).ok();
    drop(served.stop("TERM"));
    assert_eq!(held(&copy).await, held(&local).await);
}

#[test]
fn an_answer_that_is_no_archive_takes_no_archives_place() {
    let dir = tempdir().unwrap();
    let archive = dir.path().join("archive");
    fs::write(&archive, "the archive of yesterday").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        assert!(peer.read(&mut asked).unwrap() > 0);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 7\r\nconnection: close\r\n\r\nwelcome";
        peer.write_all(answer.as_bytes()).unwrap();
    });
    settee(&["backup", &url, "-o", arg(&archive)]).failure();
    server.join().unwrap();
    assert_eq!(fs::read(&archive).unwrap(), b"the archive of yesterday");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing half is left");
}

#[test]
fn a_restore_that_is_killed_leaves_nothing_that_opens() {
    let dir = tempdir().unwrap();
    let (data, archive) = (dir.path().join("data"), dir.path().join("archive"));
    load(&data, "todos", 0, 20_000);
    settee(&["backup", arg(&data), "-o", arg(&archive)]);
    let fifo = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let whole = fs::read(&archive).unwrap();
    let copy = dir.path().join("copy");
    for part in [0, 1_000, whole.len() / 2, whole.len() - 1] {
        // It reads this much, and waits for more, when it is killed.
        let mut child = command(&["restore", arg(&copy), arg(&fifo)]).spawn().unwrap();
        let mut to = fs::File::options().write(true).open(&fifo).unwrap();
        to.write_all(&whole[..part]).unwrap();
        while part > 0 && !copy.join("sled/db").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it waits for the rest");
            thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        drop(to);
        if copy.join("restoring").exists() {
            for args in [&["check", arg(&copy)][..], &["info", arg(&copy)]] {
                let failure = settee(args).failure();
                assert!(
                    failure.contains("not finished") || failure.contains("not a data directory"),
                    "{failure}"
                );
            }
        } else {
            assert_eq!(part, 0, "it has begun");
        }
    }
    settee(&["restore", arg(&copy), arg(&archive)]).ok();
    assert!(settee(&["check", arg(&copy)]).ok().contains("sound (20000 documents"));
}

#[test]
fn tombstones_are_purged_from_a_directory() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("data");
    load(&data, "todos", 0, 10);
    let dumped = settee(&["dump", &place(&data, "todos")]).ok();
    let first: serde_json::Value = serde_json::from_str(dumped.lines().next().unwrap()).unwrap();
    let tombstone =
        serde_json::json!({"_id": first["_id"], "_rev": first["_rev"], "_deleted": true});
    settee_with(&["load", &place(&data, "todos")], tombstone.to_string().as_bytes()).ok();
    let purge =
        |age: &str| settee(&["purge", &place(&data, "todos"), "--tombstones-older-than", age]).ok();
    assert!(purge("90d").starts_with("purged 0 deleted documents"));
    assert!(purge("0d").starts_with("purged 1 deleted documents"));
    assert!(settee(&["check", arg(&data)]).ok().contains("sound (9 documents"));
    assert_eq!(settee(&["purge", &place(&data, "todos")]).code, Some(2), "what is to be purged?");
}
