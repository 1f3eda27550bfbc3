//! Node and the npm packages that tests compare Settee with.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

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
