//! The Autobahn test suite against this gateway's side of a WebSocket: reader, writer, outbox and
//! bounds as they serve clients, with the shipped limits. Only the protocol spoken over it is an echo,
//! since that is what the suite expects, and the handshake is by hand.
//!
//! `tests/autobahn/run` installs the suite and says in `SETTEE_AUTOBAHN` where it is.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Store;

use super::bounds::Held;
use super::error::CloseReason;
use super::life::SessionInfo;
use super::observe::Spoken;
use super::outbox::Gone;
use super::socket::{self, Peer, Protocol, Socket};
use super::{Gateway, Shared};

/// Says where the suite is installed.
const SUITE: &str = "SETTEE_AUTOBAHN";

/// The cases that it is compared in, with how they end. Compression (12 and 13) is not offered.
const EXPECTED: &str = include_str!("../../tests/autobahn/expected.json");

struct Echo(Socket);

impl Protocol for Echo {
    const SPOKEN: Spoken = Spoken::V1;

    fn new(socket: Socket) -> Self {
        socket.opened_one();
        Self(socket)
    }

    fn socket(&self) -> &Socket {
        &self.0
    }

    async fn take(
        self: &Arc<Self>,
        message: Message,
        _held: Held,
        _tasks: &mut JoinSet<()>,
    ) -> Result<Option<CloseReason>, Gone> {
        match message {
            Message::Text(text) => self.0.outbox.shared_text(text).await?,
            other => self.0.outbox.binary(other.into_data()).await?,
        }
        Ok(None)
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("the suite sends text");
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = derive_accept_key(key.expect("the suite sends a key").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await.ok()?;
    let headers = Arc::new(HeaderMap::new());
    let info = SessionInfo {
        id: shared.observed.number(),
        protocol: Echo::SPOKEN.name(),
        peer: None,
        headers: Arc::clone(&headers),
    };
    let seat = Arc::new(shared.census.admit(None).ok()?);
    let session = shared.life.connect(info).await.ok()?;
    let peer = Peer { address: None, headers, seat, session };
    socket::run::<Echo, _>(stream, shared, peer).await;
    Some(())
}

/// Runs the suite against an address; how each case ended.
///
/// How its close did is not told: after a frame that breaks the protocol, the gateway gives the peer a
/// second to read why, which is as long as the suite waits.
fn run_suite(suite: &Path, address: &str, reports: &Path) -> BTreeMap<String, String> {
    let spec = reports.join("spec.json");
    let settings = json!({
        "outdir": reports,
        "servers": [{"agent": "settee", "url": format!("ws://{address}")}],
        "cases": ["*"],
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    });
    std::fs::write(&spec, settings.to_string()).expect("a directory of its own can be written");
    let status = Command::new(suite.join("run-wstest"))
        .args(["-m", "fuzzingclient", "-s"])
        .arg(&spec)
        .current_dir(reports)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("the suite starts").success(), "the suite ends well");
    let index = std::fs::read_to_string(reports.join("index.json")).expect("it makes an index");
    let index: Value = serde_json::from_str(&index).expect("the index is JSON");
    let cases = index["settee"].as_object().expect("there are cases").iter();
    let ended = |case: &Value| case["behavior"].as_str().expect("a text").to_owned();
    cases.map(|(number, case)| (number.clone(), ended(case))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn autobahn_finds_what_is_expected() {
    let Some(suite) = std::env::var_os(SUITE) else {
        println!("left out: {SUITE} is not set; tests/autobahn/run does so");
        return;
    };
    let gateway = Gateway::builder(Store::memory()).build().expect("the defaults work");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it listens").to_string();
    let serving = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("it accepts");
            tokio::spawn(serve(stream, Arc::clone(&gateway.shared)));
        }
    });
    let reports = tempfile::tempdir().expect("a directory");
    let place = reports.path().to_owned();
    let found = tokio::task::spawn_blocking(move || run_suite(Path::new(&suite), &address, &place));
    let found = found.await.expect("the suite does not panic");
    serving.abort();
    let expected: BTreeMap<String, String> =
        serde_json::from_str(EXPECTED).expect("what is expected is JSON");
    let mut counts = BTreeMap::<&str, usize>::new();
    found.values().for_each(|ended| *counts.entry(ended).or_default() += 1);
    println!("{} cases: {counts:?}", found.len());
    let differing: Vec<_> =
        found.iter().filter(|(number, ended)| expected.get(*number) != Some(ended)).collect();
    assert!(differing.is_empty(), "not as expected: {differing:#?}");
    assert_eq!(found.len(), expected.len(), "cases are missing");
}
