//! The `settee` command as its users run it: processes, their output, and signals.
#![allow(dead_code, reason = "each test file uses some of these")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};

/// What a command printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    /// The output of a command that must have succeeded.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// The one line that a command failed with.
    pub fn failure(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "one line: {self:?}");
        assert!(self.stderr.starts_with("settee: "), "{self:?}");
        self.stderr
    }
}

pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_settee"));
    command.args(args).env_remove("SETTEE_TOKEN").env_remove("SETTEE_LOG");
    command
}

/// Runs a command to its end.
pub fn settee(args: &[&str]) -> Ran {
    settee_with(args, b"")
}

/// The same with standard input.
pub fn settee_with(args: &[&str], input: &[u8]) -> Ran {
    let mut command = command(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // A command that does not read its input closes it.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the command ends");
    writing.join().expect("writing does not panic");
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("it prints UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("it prints UTF-8"),
    }
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}

/// `DIR/DB`.
pub fn place(dir: &Path, name: &str) -> String {
    format!("{}/{name}", arg(dir))
}

/// A gateway that runs until it is told to stop, and is killed when dropped.
pub struct Served {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// `HOST:PORT`.
    pub address: String,
}

impl Served {
    /// `settee serve` with the token `secret`, on a port of its own or on a given address.
    pub fn start(data: &Path, listen: &str) -> Self {
        let args = ["serve", "--data", arg(data), "--listen", listen, "--token", "secret"];
        Self::spawn(command(&args))
    }

    /// Runs a command that prints where it listens.
    pub fn spawn(mut command: Command) -> Self {
        command.stderr(Stdio::inherit());
        Self::spawn_logged(command)
    }

    /// The same, whose log goes where the command says.
    pub fn spawn_logged(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the gateway starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it prints where it listens");
        let url = line.strip_prefix("listening on http").map(|url| url.trim_start_matches('s'));
        let address = url.and_then(|url| url.strip_prefix("://")?.strip_suffix('\n'));
        let address = address.unwrap_or_else(|| panic!("it printed {line:?}")).to_owned();
        Self { child, stdout, address }
    }

    pub fn url(&self, database: &str) -> String {
        format!("ws://{}/{database}", self.address)
    }

    /// Sends a signal that does not end it.
    pub fn signal(&self, signal: &str) {
        send_signal(&self.child, signal);
    }

    /// Its log, if it is piped; once.
    pub fn log(&mut self) -> BufReader<ChildStderr> {
        BufReader::new(self.child.stderr.take().expect("it is piped"))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as a crash would (SIGKILL).
    pub fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    /// Sends a signal, waits for the end, and returns what else was printed.
    pub fn stop(mut self, signal: &str) -> (ExitStatus, String) {
        send_signal(&self.child, signal);
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it prints UTF-8");
        (self.child.wait().expect("it ends"), rest)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn send_signal(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
    assert!(sent.success(), "{signal} to {pid}");
}
