//! The log and the audit file of `settee serve`: their forms, SIGHUP, and that they keep secrets.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};

use binary::{arg, command, send_signal, settee};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// A gateway whose log is read line by line.
struct Logged {
    child: Child,
    address: String,
    log: BufReader<ChildStderr>,
    dir: TempDir,
}

impl Logged {
    /// With further settings, and the token `hush-token`.
    fn start(settings: &str, filter: Option<&str>) -> Self {
        let dir = tempdir().unwrap();
        let config = dir.path().join("settee.toml");
        fs::write(&config, settings.replace("DIR", arg(dir.path()))).unwrap();
        let data = dir.path().join("data");
        let args = ["serve", "--config", arg(&config), "--data", arg(&data)];
        let mut command: Command = command(&args);
        command.args(["--listen", "127.0.0.1:0", "--token", "hush-token"]);
        if let Some(filter) = filter {
            command.env("SETTEE_LOG", filter);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap().to_owned();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, address, log, dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The whole answer to a request with the right token.
    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        self.ask_as("Bearer hush-token", method, path, body)
    }

    fn ask_as(&self, authorization: &str, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Authorization: {authorization}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Reads the log up to a line that has a text in it.
    fn until_logged(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.log.read_line(&mut line).unwrap() > 0, "never logged: {text}");
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Stops it; the rest of the log.
    fn stop(mut self) -> (String, TempDir) {
        send_signal(&self.child, "TERM");
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        let dir = std::mem::replace(&mut self.dir, tempdir().unwrap());
        (rest, dir)
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn events(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["event"].as_str().unwrap()).collect()
}

#[test]
fn the_level_changes_at_a_hangup_and_the_audit_file_is_opened_anew() {
    let settings = "[log]\nformat = \"json\"\nlevel = \"warn\"\n[audit]\npath = \"DIR/audit\"\n";
    let mut gateway = Logged::start(settings, None);
    gateway.ask("PUT", "/db", "");
    // Whoever is answered has been told of.
    gateway.ask("PUT", "/db/one", "{}");
    let (old, new) = (gateway.path("audit.1"), gateway.path("audit"));
    fs::rename(&new, &old).unwrap();
    let changed = settings.replace("warn", "info").replace("DIR", arg(gateway.dir.path()));
    fs::write(gateway.path("settee.toml"), changed).unwrap();
    send_signal(&gateway.child, "HUP");
    // Nothing was logged before: the first line says that the level was read.
    let line: Value = serde_json::from_str(&gateway.until_logged("")).unwrap();
    assert_eq!(line["level"], "INFO");
    assert!(line["message"].as_str().unwrap().starts_with("SIGHUP"), "{line}");
    gateway.ask("PUT", "/db/two", "{}");
    fs::write(gateway.path("settee.toml"), "[log]\nlevel = \"loud,=\"\n").unwrap();
    send_signal(&gateway.child, "HUP");
    let line = gateway.until_logged("stay as they were");
    assert!(line.contains("loud"), "{line}");
    let (_, dir) = gateway.stop();
    assert_eq!(events(&lines(&dir.path().join("audit.1"))), ["administered", "opened", "wrote"]);
    let later = lines(&dir.path().join("audit"));
    assert_eq!(events(&later), ["opened", "wrote"]);
    assert_eq!(later[1]["id"], "two");
}

#[test]
fn events_from_before_a_hangup_belong_to_the_file_that_was_moved_away() {
    let dir = tempdir().unwrap();
    let (old, new) = (dir.path().join("audit.1"), dir.path().join("audit"));
    assert!(Command::new("mkfifo").arg(&new).status().unwrap().success());
    // Whoever opens a pipe to write waits for a reader, and one that reads and writes waits for none.
    let opener = File::options().read(true).write(true).open(&new).unwrap();
    let mut gateway = Logged::start(&format!("[audit]\npath = \"{}\"\n", arg(&new)), None);
    let reader = File::open(&new).unwrap();
    drop(opener);
    // The pipe is full long before the last event, so that most wait when the signal comes.
    const DOCS: usize = 5_000;
    let docs: Vec<Value> = (0..DOCS).map(|n| json!({"_id": format!("d{n}")})).collect();
    gateway.ask("PUT", "/db", "");
    gateway.ask("POST", "/db/_bulk_docs", &json!({"docs": docs}).to_string());
    fs::rename(&new, &old).unwrap();
    send_signal(&gateway.child, "HUP");
    gateway.until_logged("SIGHUP");
    gateway.ask("PUT", "/db/later", "{}");
    // Its end comes when the gateway closes it.
    let moved: Vec<Value> = BufReader::new(reader)
        .lines()
        .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
        .collect();
    assert_eq!(events(&moved).iter().filter(|event| **event == "wrote").count(), DOCS);
    gateway.stop();
    let later = lines(&new);
    assert_eq!(events(&later), ["opened", "wrote"]);
    assert_eq!(later[1]["id"], "later");
}

#[test]
fn what_cannot_be_a_setting_is_refused_before_anything_is_done() {
    let dir = tempdir().unwrap();
    let config = dir.path().join("settee.toml");
    let refused = |settings: &str| {
        fs::write(&config, settings.replace("DIR", arg(dir.path()))).unwrap();
        settee(&["serve", "--config", arg(&config), "--token", "x", "--listen", "127.0.0.1:0"])
            .failure()
    };
    assert!(refused("[log]\nlevel = \"loud,=\"").contains("loud"));
    assert!(refused("[log]\nformat = \"xml\"").contains("xml"));
    assert!(refused("[audit]\npath = \"DIR/none/audit\"").contains("none/audit"));
    assert!(refused("[metrics]\ntoken = \"\"").contains("empty"));
}

/// Everything that holds a secret here begins with this.
const HUSH: &str = "hush";

#[test]
fn no_token_password_or_body_is_told_anywhere() {
    let settings = "[audit]\npath = \"DIR/audit\"\n[metrics]\ntoken = \"hush-scraper\"\n[limits]\ndoc_bytes_max = 400\n";
    let gateway = Logged::start(settings, Some("settee=trace"));
    let secret = "hush-body";
    let long = json!({"text": secret.repeat(100)}).to_string();
    let login = json!({"name": "anna", "password": "hush-token"}).to_string();
    let wrong = json!({"name": "anna", "password": "hush-wrong"}).to_string();
    let mut told = String::new();
    gateway.ask("PUT", "/db", "");
    for body in [
        json!({"text": secret}).to_string(),
        long.clone(),
        format!("{{\"text\": \"{secret}"),
        format!("[\"{secret}\"]"),
        json!({"_unknown": secret}).to_string(),
        json!({"_attachments": {"a": {"data": secret}}}).to_string(),
    ] {
        told.push_str(&gateway.ask("PUT", "/db/doc", &body));
        told.push_str(&gateway.ask("POST", "/db/_bulk_docs", &format!("{{\"docs\":[{body}]}}")));
    }
    for (authorization, method, path, body) in [
        ("Bearer hush-wrong", "GET", "/db", ""),
        ("Bearer hush-wrong", "GET", "/_metrics", ""),
        ("Basic aHVzaDpodXNo", "PUT", "/db/doc", &*long),
        ("Hush hush", "GET", "/db", ""),
        ("Bearer hush-token", "POST", "/_session", &*wrong),
        ("Bearer hush-token", "GET", "/_settee/status", ""),
        ("Bearer hush-scraper", "GET", "/_metrics", ""),
    ] {
        told.push_str(&gateway.ask_as(authorization, method, path, body));
    }
    let session = gateway.ask_as("Bearer hush-token", "POST", "/_session", &login);
    assert!(session.starts_with("HTTP/1.1 200"), "{session}");
    told.push_str(&session);
    assert!(told.contains("settee_refusals_total{reason=\"unauthorized\"}"), "metrics are in it");
    let local = format!("{}/local", arg(&gateway.path("other")));
    let url = format!("ws://{}/db", gateway.address);
    settee(&["sync", &local, &url, "--token", "hush-token"]).ok();
    settee(&["sync", &local, &url, "--token", "hush-wrong"]).failure();
    let (log, dir) = gateway.stop();
    let audit = fs::read_to_string(dir.path().join("audit")).unwrap();
    assert!(log.contains("channel refused") && audit.contains("session_begun"));
    for (name, text) in [("an answer", &told), ("the log", &log), ("the audit file", &audit)] {
        let found = text.lines().find(|line| line.to_lowercase().contains(HUSH));
        assert_eq!(found, None, "in {name}");
    }
}

#[test]
fn events_without_room_are_counted_and_said_and_nobody_waits_for_them() {
    let dir = tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Whoever opens a pipe to write waits for a reader, and one that reads and writes waits for none.
    let reader = File::options().read(true).write(true).open(&pipe).unwrap();
    let gateway = Logged::start(&format!("[audit]\npath = \"{}\"\n", arg(&pipe)), Some("error"));
    gateway.ask("PUT", "/db", "");
    const DOCS: usize = 10_000;
    let docs: Vec<Value> = (0..DOCS).map(|n| json!({"_id": format!("d{n}")})).collect();
    for database in ["/db", "/other"] {
        gateway.ask("PUT", database, "");
        let answer = gateway.ask(
            "POST",
            &format!("{database}/_bulk_docs"),
            &json!({"docs": docs}).to_string(),
        );
        assert!(answer.starts_with("HTTP/1.1 201"), "the write did not wait");
    }
    let metrics = gateway.ask("GET", "/_metrics", "");
    let lost = metrics.lines().find_map(|line| line.strip_prefix("settee_audit_lost_total "));
    let lost: usize = lost.unwrap().parse().unwrap();
    assert!(lost > 1_000 && lost < DOCS, "{lost}");
    let (mut written, mut said) = (0, 0);
    for line in BufReader::new(&reader).lines() {
        let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
        match event["event"].as_str().unwrap() {
            "wrote" => written += 1,
            "lost" => said += event["count"].as_u64().unwrap() as usize,
            _ => {}
        }
        if said >= lost && written + said >= 2 * DOCS {
            break;
        }
    }
    assert!(written + said >= 2 * DOCS, "every event is there or was counted");
    drop(reader);
    gateway.stop();
}
