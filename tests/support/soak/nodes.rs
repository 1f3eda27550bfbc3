//! Clients in Node processes, which speak in lines: `tests/soak-js`.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::super::access::KEY;
use super::{DATABASES, ROUND_S, ROUNDS_KEPT, ROUNDS_VERIFIED};

/// The scripts, and the directories of the packages that they use.
const SCRIPTS: [(&str, &[&str]); 3] = [
    ("websocket.mjs", &["client-js", "tests/http-js"]),
    ("http.mjs", &["client-js", "tests/http-js"]),
    ("legacy.cjs", &["tests/legacy-js"]),
];

const ANSWERS: Duration = Duration::from_secs(120);

pub struct Node {
    pub script: &'static str,
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// Starts all of them.
pub fn start_all(address: &str) -> Vec<Node> {
    SCRIPTS.iter().map(|(script, packages)| Node::start(script, packages, address)).collect()
}

impl Node {
    fn start(script: &'static str, packages: &[&str], address: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        for package in packages {
            let installed = root.join(package).join("node_modules").is_dir();
            assert!(installed, "run `npm --prefix {package} ci` first, or set SETTEE_NO_NODE=1");
        }
        let settings = json!({
            "url": format!("ws://{address}"), "key": KEY, "databases": DATABASES,
            "round_s": ROUND_S, "rounds_kept": ROUNDS_KEPT, "rounds_verified": ROUNDS_VERIFIED,
        });
        let mut child = Command::new("node")
            .arg(root.join("tests/soak-js").join(script))
            .env("SETTEE_SOAK", settings.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let stdin = child.stdin.take().expect("it is piped");
        let stdout = child.stdout.take().expect("it is piped");
        Self { script, child, stdin, lines: BufReader::new(stdout).lines() }
    }

    /// Whether it has ended, which it must not by itself.
    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "{} ended with {ended:?}", self.script);
    }

    pub async fn say(&mut self, line: &str) {
        let told = self.stdin.write_all(format!("{line}\n").as_bytes()).await;
        told.unwrap_or_else(|error| panic!("{} has gone: {error}", self.script));
    }

    /// What stands in its replicas, and what it counted.
    pub async fn look(&mut self) -> Value {
        self.say("look").await;
        let line = timeout(ANSWERS, self.lines.next_line()).await.expect("an answer in time");
        let line = line.expect("it prints UTF-8");
        let line = line.unwrap_or_else(|| panic!("{} has ended", self.script));
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for its end, which must be a good one.
    pub async fn end(mut self) {
        self.say("over").await;
        let status = timeout(ANSWERS, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("{} does not end", self.script));
        assert!(status.expect("it was started").success(), "{} failed", self.script);
    }
}
