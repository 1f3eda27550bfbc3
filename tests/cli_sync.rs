//! `settee sync`: directions, refusals, going on until interrupted.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};

use binary::{Served, arg, command, place, send_signal, settee, settee_with};
use settee::server::{AccessRequest, Denied, Gateway, Grant, ProposedWrite};
use settee::{DbName, Store};
use tempfile::tempdir;

#[test]
fn each_direction_can_be_had_alone() {
    let dir = tempdir().unwrap();
    let served = Served::start(&dir.path().join("gateway"), "127.0.0.1:0");
    let url = served.url("shared");
    let [a, b] = ["a", "b"].map(|name| place(&dir.path().join(name), "db"));
    let sync = |db: &str, flags: &[&str]| {
        settee(&[&["sync", db, &url, "--token", "secret"], flags].concat())
    };
    assert!(sync(&a, &[]).failure().contains("not exist"), "only --create makes a database");
    settee_with(&["load", &a], b"{\"_id\":\"from a\"}").ok();
    settee_with(&["load", &b], b"{\"_id\":\"from b\"}").ok();
    let pushed = sync(&a, &["--create", "--push"]).ok();
    assert_eq!(pushed, "pushed 1 revisions, 0 refused\ncomplete\n");
    let pulled = sync(&b, &["--pull"]).ok();
    assert_eq!(pulled, "pulled 1 revisions, 0 refused\ncomplete\n");
    let both = sync(&b, &[]).ok();
    assert_eq!(both, "pushed 1 revisions, 0 refused\npulled 0 revisions, 0 refused\ncomplete\n");
    assert_eq!(settee(&["dump", &b]).ok().lines().count(), 2);
    assert_eq!(settee(&["dump", &a]).ok().lines().count(), 1);
    assert_eq!(sync(&a, &["--pull"]).ok(), "pulled 1 revisions, 0 refused\ncomplete\n");
    assert_eq!(settee(&["dump", &a]).ok(), settee(&["dump", &b]).ok());
    assert_eq!(sync(&a, &["--push", "--pull"]).code, Some(2));
}

#[test]
fn a_selector_narrows_a_sync() {
    let dir = tempdir().unwrap();
    let served = Served::start(&dir.path().join("gateway"), "127.0.0.1:0");
    let url = served.url("shared");
    let db = place(&dir.path().join("a"), "db");
    settee_with(&["load", &db], b"{\"_id\":\"a\",\"n\":1}\n{\"_id\":\"b\",\"n\":2}").ok();
    let flags = ["sync", &db, &url, "--token", "secret", "--create", "--push"];
    let pushed = settee(&[&flags[..], &["--selector", r#"{"n":1}"#]].concat()).ok();
    assert_eq!(pushed, "pushed 1 revisions, 0 refused\ncomplete\n");
    assert_eq!(settee(&flags).ok(), "pushed 1 revisions, 0 refused\ncomplete\n");
}

#[test]
fn an_address_of_http_is_synced_with_too() {
    let dir = tempdir().unwrap();
    let served = Served::start(&dir.path().join("gateway"), "127.0.0.1:0");
    let url = format!("http://{}/shared", served.address);
    let [a, b] = ["a", "b"].map(|name| place(&dir.path().join(name), "db"));
    settee_with(&["load", &a], b"{\"_id\":\"from a\",\"n\":1}\n{\"_id\":\"other\",\"n\":2}").ok();
    settee_with(&["load", &b], b"{\"_id\":\"from b\",\"n\":1}").ok();
    let token = ["--token", "secret"];
    let missing = settee(&[&["sync", &a, &url], &token[..]].concat()).failure();
    assert!(missing.contains("not exist"), "{missing}");
    let narrow = ["--create", "--push", "--selector", r#"{"n":1}"#];
    let pushed = settee(&[&["sync", &a, &url], &token[..], &narrow[..]].concat()).ok();
    assert_eq!(pushed, "pushed 1 revisions, 0 refused\ncomplete\n");
    let with_password = url.replace("http://", "http://anna:secret@");
    let both = settee(&["sync", &b, &with_password]).ok();
    assert_eq!(both, "pushed 1 revisions, 0 refused\npulled 1 revisions, 0 refused\ncomplete\n");
    let pulled = settee(&[&["sync", &a, &url, "--pull"], &token[..]].concat()).ok();
    assert_eq!(pulled, "pulled 1 revisions, 0 refused\ncomplete\n");
    let wrong = settee(&["sync", &a, &url.replace("http://", "http://anna:wrong@")]).failure();
    assert!(wrong.contains("unauthorized") && !wrong.contains("wrong@"), "{wrong}");
}

#[test]
fn a_live_sync_over_http_goes_on_over_restarts() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("gateway");
    let served = Served::start(&data, "127.0.0.1:0");
    let url = format!("http://{}/shared", served.address);
    let [a, b] = ["a", "b"].map(|name| place(&dir.path().join(name), "db"));
    let (mut child, mut stderr) = start_live(&a, &url);
    until(&mut stderr, "up to date", "0 pulled");
    let address = served.address.clone();
    served.kill();
    until(&mut stderr, "offline, trying again", "");
    let served = Served::start(&data, &address);
    settee_with(&["load", &b], b"{\"_id\":\"x\"}").ok();
    settee(&["sync", &b, &url, "--token", "secret"]).ok();
    until(&mut stderr, "up to date", "1 pulled");
    send_signal(&child, "INT");
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(stdout.ends_with("cancelled\n"), "{stdout}");
    drop(served);
    assert_eq!(settee(&["dump", &a]).ok(), settee(&["dump", &b]).ok());
}

#[test]
fn what_cannot_work_is_said() {
    let dir = tempdir().unwrap();
    let db = place(dir.path(), "db");
    assert!(settee(&["sync", &db, "localhost"]).failure().contains("ws://HOST:PORT/DB"));
    let no_database = settee(&["sync", &db, "http://anna:secret@localhost"]).failure();
    assert!(no_database.contains("names no database"), "{no_database}");
    assert!(!no_database.contains("secret"), "{no_database}");
    // A port that nobody listens on: it was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failure = settee(&["sync", &db, &format!("ws://{free}/db")]).failure();
    assert!(failure.contains("not connected"), "{failure}");
}

/// Reads lines until one has a beginning and an end.
fn until(stderr: &mut BufReader<ChildStderr>, text: &str, end: &str) {
    let mut line = String::new();
    while !(line.starts_with(text) && line.trim_end().ends_with(end)) {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it said {text:?}");
    }
}

fn start_live(db: &str, url: &str) -> (Child, BufReader<ChildStderr>) {
    let mut command = command(&["sync", db, url, "--token", "secret", "--create", "--live"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    (child, stderr)
}

#[test]
fn live_goes_on_until_interrupted() {
    let dir = tempdir().unwrap();
    let data = dir.path().join("gateway");
    let served = Served::start(&data, "127.0.0.1:0");
    let url = served.url("shared");
    let [a, b] = ["a", "b"].map(|name| place(&dir.path().join(name), "db"));
    settee_with(&["load", &b], b"{\"_id\":\"x\"}").ok();
    let (mut child, mut stderr) = start_live(&a, &url);
    until(&mut stderr, "up to date", "0 pulled");
    settee(&["sync", &b, &url, "--token", "secret"]).ok();
    until(&mut stderr, "up to date", "1 pulled");
    let address = served.address.clone();
    served.kill();
    until(&mut stderr, "offline, trying again", "");
    let served = Served::start(&data, &address);
    until(&mut stderr, "connected", "");
    send_signal(&child, "INT");
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(stdout.ends_with(" revisions, 0 refused\ncancelled\n"), "{stdout}");
    drop(served);
    assert_eq!(settee(&["dump", &a]).ok(), settee(&["dump", &b]).ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_documents_are_listed() {
    let dir = tempdir().unwrap();
    let store = Store::memory();
    store.create(&DbName::parse("shared").unwrap()).await.unwrap();
    let no_bad = |write: &ProposedWrite<'_>| {
        let bad = write.document.id.as_str().starts_with("bad");
        if bad { Err(Denied::forbidden("it is bad")) } else { Ok(()) }
    };
    let gateway = Gateway::builder(store)
        .authorizer(move |request: AccessRequest| async move {
            Ok(Grant::database(request.database).validator(no_bad))
        })
        .build()
        .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/shared", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        gateway.serve(listener, std::future::pending()).await;
    });
    let db = place(dir.path(), "db");
    let lines: String = (10..35).map(|n| format!("{{\"_id\":\"bad{n}\"}}\n")).collect();
    settee_with(&["load", &db], format!("{lines}{{\"_id\":\"good\"}}").as_bytes()).ok();
    let ran = tokio::task::spawn_blocking(move || settee(&["sync", &db, &url])).await.unwrap();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.starts_with("pushed 1 revisions, 25 refused\n"), "{ran:?}");
    let listed = ran.stderr.lines().filter(|l| l.ends_with("was refused: forbidden: it is bad"));
    assert_eq!(listed.count(), 20, "{ran:?}");
    assert!(ran.stderr.contains("settee: 25 documents were refused"), "{ran:?}");
    assert!(settee(&["check", arg(dir.path())]).ok().contains("sound"));
    serving.abort();
}
