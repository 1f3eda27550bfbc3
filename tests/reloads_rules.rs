//! SIGHUP: the command reads its rules again, and open grants are judged by them.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/raw.rs"]
mod raw;

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{ChildStderr, Stdio};

use binary::{Served, arg, command};
use raw::{HANDSHAKE, Raw};
use serde_json::{Value, json};
use settee::transport::{Connector as _, TcpConnector};
use tempfile::tempdir;
use tokio::io::AsyncReadExt as _;

const BOTH: &str = r#""read", "write", "create""#;

/// A configuration with a token for each name and its rights.
fn configure(file: &Path, tokens: &[(&str, &str)]) {
    let mut text = String::new();
    for (name, rights) in tokens {
        text.push_str(&format!(
            "[[access.tokens]]\nname = \"{name}\"\ntoken = \"{name}-t0ken\"\n\
             rules = [{{ databases = \"todos\", rights = [{rights}] }}]\n"
        ));
    }
    std::fs::write(file, text).unwrap();
}

/// Reads the log until a line has a text.
fn until_logged(log: &mut BufReader<ChildStderr>, text: &str) {
    let mut line = String::new();
    while !line.contains(text) {
        line.clear();
        assert!(log.read_line(&mut line).unwrap() > 0, "the log ended without {text}");
        assert!(!line.contains("t0ken") && !line.contains("hunter2"), "{line}");
    }
}

async fn bytes(served: &Served) -> Raw {
    let (host, port) = served.address.rsplit_once(':').unwrap();
    Raw::new(TcpConnector.connect(host, port.parse().unwrap()).await.unwrap())
}

async fn channel(served: &Served, name: &str) -> Raw {
    let mut raw = bytes(served).await;
    assert_eq!(raw.request(HANDSHAKE.as_bytes()).await.0, 101);
    let credentials = json!({"token": format!("{name}-t0ken")});
    let open = json!({"database": "todos", "credentials": credentials, "create": true});
    let opened = raw.ask(json!(["open", 1, open])).await;
    assert_eq!(opened[0], "opened", "{name}: {opened}");
    raw
}

/// A continuous feed over HTTP, past its head.
async fn feed(served: &Served, name: &str) -> Raw {
    let mut raw = bytes(served).await;
    let request = format!(
        "GET /todos/_changes?feed=continuous&since=now&heartbeat=60000 HTTP/1.1\r\nHost: x\r\n\
         Connection: close\r\nAuthorization: Bearer {name}-t0ken\r\n\r\n"
    );
    assert_eq!(raw.request(request.as_bytes()).await.0, 200, "{name}");
    raw
}

/// Reads a feed until it shows a text.
async fn shows(feed: &mut Raw, text: &str) {
    let mut seen = String::new();
    while !seen.contains(text) {
        seen.push(char::from(feed.stream.read_u8().await.expect("the feed goes on")));
    }
}

async fn put(raw: &mut Raw, call: u32, id: &str) -> Value {
    raw.ask(json!(["call", 1, call, "put", {"doc": {"_id": id}}])).await
}

#[tokio::test]
async fn open_grants_are_judged_by_the_new_rules() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("settee.toml");
    configure(&file, &[("kept", BOTH), ("gone", BOTH), ("narrowed", BOTH)]);
    let data = dir.path().join("data");
    let args = ["serve", "--config", arg(&file), "--data", arg(&data), "--listen", "127.0.0.1:0"];
    let mut command = command(&args);
    command.stderr(Stdio::piped());
    let mut served = Served::spawn_logged(command);
    let mut log = served.log();
    let mut kept = channel(&served, "kept").await;
    let mut gone = channel(&served, "gone").await;
    let mut narrowed = channel(&served, "narrowed").await;
    let mut kept_feed = feed(&served, "kept").await;
    let mut gone_feed = feed(&served, "gone").await;
    let mut narrowed_feed = feed(&served, "narrowed").await;
    assert_eq!(put(&mut narrowed, 1, "before").await[0], "reply");

    configure(&file, &[("kept", BOTH), ("narrowed", r#""read""#)]);
    served.signal("HUP");
    let closed = gone.json().await;
    assert_eq!((&closed[0], &closed[2]["status"]), (&json!("closed"), &json!(401)), "{closed}");
    assert_eq!(closed[2]["reason"], "this token is not known");
    gone_feed.rest().await;
    narrowed_feed.rest().await;
    until_logged(&mut log, "rules of access and the log's level were read again");
    assert_eq!(put(&mut narrowed, 2, "after").await[3]["status"], 403);
    assert_eq!(put(&mut kept, 2, "after").await[0], "reply");
    shows(&mut kept_feed, "\"after\"").await;
    feed(&served, "narrowed").await;

    std::fs::write(&file, "[[access.tokens]]\nname = \"x\"\ntoken = 5\npassword = \"hunter2\"\n")
        .unwrap();
    served.signal("HUP");
    until_logged(&mut log, "the settings stay as they were");
    assert_eq!(put(&mut kept, 3, "still").await[0], "reply");
    shows(&mut kept_feed, "\"still\"").await;
    channel(&served, "kept").await;
    assert!(served.stop("TERM").0.success());
}
