//! Node and the npm packages that tests compare Settee with.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Says that the machine has no Node on purpose.
const OPT_OUT: &str = "SETTEE_NO_NODE";

/// Whether the caller chose to go without Node; prints that the test is skipped.
pub fn opted_out() -> bool {
    let opted_out = std::env::var_os(OPT_OUT).is_some_and(|value| value == "1");
    if opted_out {
        println!("skipped: {OPT_OUT}=1 is set, so nothing is compared with JavaScript");
    }
    opted_out
}

/// `tests/js/node_modules`, with the packages of the lock file beside it.
///
/// Installs them when they are missing or when the lock file changed since.
pub fn node_modules() -> Result<PathBuf, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/js");
    let node_modules = directory.join("node_modules");
    run(Command::new("node").arg("--version"))?;
    let _alone =
        install_lock().map_err(|error| format!("cannot lock the installation: {error}"))?;
    let lock_file = directory.join("package-lock.json");
    let wanted = fs::read(&lock_file)
        .map_err(|error| format!("cannot read {}: {error}", lock_file.display()))?;
    // Written last, so a torn installation is not taken for a whole one.
    let stamp = node_modules.join(".settee-installed");
    if !fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory))?;
        fs::write(&stamp, wanted)
            .map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    }
    Ok(node_modules)
}

/// Runs inputs through a script of `tests/js`: one a line in, one answer a line out.
pub fn through<I: Serialize + Sync, O: DeserializeOwned>(script: &str, inputs: &[I]) -> Vec<O> {
    let node_modules = node_modules().unwrap_or_else(|problem| panic!("{problem}"));
    let mut script = Command::new("node")
        .arg(node_modules.with_file_name(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node was asked for its version a moment ago");
    let mut stdin = script.stdin.take().expect("it is piped");
    let stdout = BufReader::new(script.stdout.take().expect("it is piped"));
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for input in inputs {
                let line = serde_json::to_string(input).expect("it has string keys only");
                writeln!(stdin, "{line}").expect("the script reads to the end");
            }
        });
        let parse = |line: std::io::Result<String>| {
            let line = line.expect("the script writes UTF-8");
            serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
        };
        stdout.lines().map(parse).collect()
    });
    assert!(script.wait().expect("it was started").success());
    answers
}

/// Tests run in parallel, in one process and in several; npm must not.
fn install_lock() -> std::io::Result<File> {
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("npm-install.lock"))?;
    lock.lock()?;
    Ok(lock)
}

fn run(command: &mut Command) -> Result<(), String> {
    let how = "install Node 20 or later with npm, run `npm ci` in tests/js where npm reaches a \
               registry, or set SETTEE_NO_NODE=1 to skip the tests that need JavaScript";
    let output = command.output().map_err(|error| format!("{command:?}: {error}; {how}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}: {said}\n{how}", output.status))
}
