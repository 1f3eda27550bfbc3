//! What strace wrote down, as calls.

use std::collections::HashMap;

/// A system call: the lines of the trace where it began and ended, and what it was asked.
#[derive(Debug)]
pub struct Call {
    pub began: usize,
    pub ended: usize,
    pub name: String,
    pub args: Vec<String>,
    /// What it returned; -1 for a failure.
    pub result: i64,
}

impl Call {
    /// The number that an argument begins with, as descriptors and offsets do.
    pub fn number(&self, arg: usize) -> i64 {
        let digits = self.args[arg].split('<').next().unwrap_or_default();
        digits.parse().unwrap_or_else(|_| panic!("no number: {self:?}"))
    }

    /// A string, all of which was written down in hex digits.
    pub fn bytes(&self, arg: usize) -> Vec<u8> {
        let text = &self.args[arg];
        assert!(text.len().is_multiple_of(4), "no whole string in line {}", self.began);
        unescape(text)
    }

    pub fn path(&self, arg: usize) -> String {
        String::from_utf8(self.bytes(arg)).expect("paths are UTF-8")
    }

    /// What `-y` says of a descriptor.
    pub fn described(&self, arg: usize) -> String {
        let path =
            self.args[arg].split_once('<').map_or("", |(_, path)| path.trim_end_matches('>'));
        String::from_utf8_lossy(&unescape(path)).into_owned()
    }
}

/// `\x61\x62` as bytes.
fn unescape(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks_exact(4)
        .map(|one| HEX[one[2] as usize] << 4 | HEX[one[3] as usize])
        .collect()
}

/// The values of digits.
const HEX: [u8; 256] = {
    let mut values = [0; 256];
    let mut digit = 0;
    while digit < 16 {
        values[b"0123456789abcdef"[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};

/// The calls of a trace, in the order in which they ended. Those that never ended end with it.
pub fn calls(trace: &str) -> Vec<Call> {
    let mut begun: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    let mut lines = 0;
    for (line, text) in trace.lines().enumerate() {
        lines = line + 1;
        let (thread, text) = text.split_once(' ').expect("lines begin with the thread");
        let text = text.trim_start();
        if let Some(call) = text.strip_suffix(" <unfinished ...>") {
            begun.insert(thread, (line, call));
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let (began, call) = begun.remove(thread).expect("what is resumed was begun");
            let (_, rest) = rest.split_once(" resumed>").expect("it is resumed");
            calls.push(call_of(&format!("{call}{rest}"), began, line));
        } else if text.contains('(') {
            calls.push(call_of(text, line, line));
        }
    }
    for (began, call) in begun.into_values() {
        calls.push(call_of(&format!("{call}) = -1"), began, lines));
    }
    calls
}

fn call_of(text: &str, began: usize, ended: usize) -> Call {
    let (name, rest) = text.split_once('(').expect("a call has arguments");
    let (args, result) = rest.rsplit_once(" = ").expect("a call has a result");
    let args = args.trim_end().strip_suffix(')').expect("arguments end");
    let digits = result.split(['<', ' ']).next().unwrap_or_default();
    Call {
        began,
        ended,
        name: name.to_owned(),
        args: arguments(args),
        result: digits.parse().unwrap_or(-1),
    }
}

/// Arguments, strings without their quotes.
fn arguments(text: &str) -> Vec<String> {
    let mut args = vec![String::new()];
    // What is escaped as a whole holds no quotes.
    for (number, piece) in text.split('"').enumerate() {
        let mut parts = if number % 2 == 1 { vec![piece] } else { piece.split(", ").collect() };
        let first = parts.remove(0);
        args.last_mut().expect("there is one").push_str(first);
        args.extend(parts.into_iter().map(str::to_owned));
    }
    args
}
