//! Power losses: of what a writing process asked the kernel to do, anything that no completed sync
//! covers is dropped, torn or reordered, at any moment. What is left opens, holds every acknowledged
//! write whole, is the beginning of what was written, and can be written to.
//!
//! The process is traced once for some hundred losses; each is an image made of the trace.
//! `SETTEE_POWER_CUTS` says how many, `SETTEE_SEED` with which seed; loss n of seed s is loss 0 of
//! seed s + n. A seed does not repeat in which order threads ran, so a failure keeps the trace, and
//! `SETTEE_POWER_TRACE` takes it. Needs strace; without, it says so and tests nothing.
//!
//! It has a `main` of its own, since it is also the process that is traced.

#[path = "support/power/mod.rs"]
mod power;
#[path = "support/random.rs"]
mod random;
#[path = "support/soundness.rs"]
mod soundness;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use power::disk::{CALLS, Chance, Disk};
use power::judge::{Contents, History, Outcome, read};
use power::script::Script;
use power::{OPS, WRITERS, trace, writer};
use random::{Random, seed, setting};
use settee::Store;
use soundness::check_sound;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Says to a process where to write.
const WRITE_TO: &str = "SETTEE_POWER_WRITE_TO";
/// Losses of each traced process.
const CUTS_OF_TRACE: u64 = 400;
const THREADS: usize = 2;
/// So many, and one in two hundred, may be refused as damaged: what is torn in a part of sled's log that
/// was about to be used anew looks like damage.
const REFUSED_MAX: u64 = 2;
/// Of these so many, and one loss in a thousand, may be salvaged in part or not at all: where the place
/// from which a page had been moved on was written anew, and the page's new place was not.
const LOST_MAX: u64 = 2;

fn main() {
    if let Some(data) = std::env::var_os(WRITE_TO) {
        return runtime().block_on(writer::write(Path::new(&data), setting("SETTEE_SEED", 0)));
    }
    let tried = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    if !tried.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: power losses, since strace is missing or may not trace");
        return;
    }
    let (first, cuts) = (seed(), setting("SETTEE_POWER_CUTS", 2_000));
    println!("{cuts} power losses from SETTEE_SEED={first}");
    let (mut failures, mut refused, mut lost, mut moments) = (Vec::new(), 0, 0, 0);
    let mut next = first;
    while next < first + cuts {
        let number = next / CUTS_OF_TRACE;
        let until = (first + cuts).min((number + 1) * CUTS_OF_TRACE);
        let dir = tempfile::tempdir().expect("a temporary directory");
        let kept = std::env::var_os("SETTEE_POWER_TRACE").map(PathBuf::from);
        let traced = Traced::new(number, kept.as_deref().unwrap_or(dir.path()));
        let mut losses = traced.losses(next, until);
        moments += traced.disk.moments().len();
        refused += losses.refused;
        lost += losses.lost;
        if !losses.failures.is_empty() && failures.is_empty() && kept.is_none() {
            // For the command that repeats it.
            let _ = dir.keep();
        }
        failures.append(&mut losses.failures);
        next = until;
    }
    println!(
        "{} of {cuts} failed, {refused} were refused by name, of which all but {lost} were salvaged, of \
         processes with {moments} moments",
        failures.len()
    );
    if lost > LOST_MAX + cuts / 1_000 {
        failures.push("too little was salvaged".into());
    }
    if refused > REFUSED_MAX + cuts / 200 {
        failures.push("too many were refused".into());
    }
    if !failures.is_empty() {
        eprintln!("{}", failures.join("\n"));
        std::process::exit(1);
    }
}

fn runtime() -> Runtime {
    Runtime::new().expect("a runtime")
}

/// Where files are written fast: what a sync promises is modelled, not measured.
fn directory() -> TempDir {
    let made = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
    made.expect("a temporary directory")
}

/// A process that wrote, and what it did.
struct Traced {
    /// The trace, and where it wrote.
    dir: PathBuf,
    disk: Disk,
    scripts: Vec<Script>,
    last: Contents,
}

impl Traced {
    /// Traces a process that writes below a directory, unless it holds a trace.
    fn new(seed: u64, dir: &Path) -> Self {
        let (trace, root) = (dir.join("trace"), dir.join("root"));
        if !trace.exists() {
            fs::create_dir(&root).expect("a directory");
            let mut command = Command::new("strace");
            command.args(["-f", "-y", "-xx", "-s", "100000000", "-e", "signal=none", "-e"]);
            command.arg(format!("trace={CALLS}")).arg("-o").arg(&trace);
            command.arg(std::env::current_exe().expect("this program"));
            command.env(WRITE_TO, root.join("data")).env("SETTEE_SEED", seed.to_string());
            let ran = command.stdout(Stdio::piped()).output().expect("strace runs");
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        }
        let text = fs::read_to_string(&trace).expect("a trace");
        let disk = Disk::follow(&trace::calls(&text), &root);
        drop(text);
        let scripts = (0..WRITERS).map(|number| Script::new(seed, number, OPS)).collect();
        let traced = Self { dir: dir.to_owned(), disk, scripts, last: Contents::default() };
        let image = directory();
        traced.disk.image(usize::MAX, image.path(), &mut Chance::nothing_lost());
        assert!(files(&root) == files(image.path()), "the trace does not tell all");
        let last = runtime().block_on(async {
            let store = Store::open(image.path().join("data")).expect("it opens");
            check_sound(&store).await.expect("it is sound");
            let last = read(&store).await.expect("it can be read");
            store.close().await.expect("it closes");
            last
        });
        Self { last, ..traced }
    }

    fn losses(&self, first: u64, until: u64) -> Losses {
        let (next, losses) = (AtomicU64::new(first), Mutex::new(Losses::default()));
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let runtime = runtime();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= until {
                            return;
                        }
                        let judged = self.loss(seed, &runtime);
                        losses.lock().expect("nobody panics").note(seed, judged, &self.dir);
                    }
                });
            }
        });
        losses.into_inner().expect("nobody panics")
    }

    fn loss(&self, seed: u64, runtime: &Runtime) -> Result<Outcome, String> {
        let mut random = Random::new(seed);
        let moment = *random.choose(self.disk.moments()) + random.below(2);
        let mut acknowledged = vec![0; WRITERS];
        let mut shared_acknowledged = false;
        for line in self.disk.printed_before(moment) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["acknowledged", writer, op] => {
                    let writer: usize = writer.parse().expect("a number");
                    acknowledged[writer] = op.parse::<usize>().expect("a number") + 1;
                }
                _ => shared_acknowledged = true,
            }
        }
        let (scripts, last) = (&self.scripts[..], &self.last);
        let history = History { scripts, acknowledged, shared_acknowledged, last };
        let mut chance = Chance::new(random);
        let shown = format!("at line {moment} with {chance:?}");
        let dir = directory();
        self.disk.image(moment, dir.path(), &mut chance);
        let data = dir.path().join("data");
        let judged = std::thread::scope(|scope| {
            scope.spawn(|| runtime.block_on(history.judge(&data))).join()
        });
        let judged = judged.unwrap_or_else(|_| Err("it panics".into()));
        judged.map_err(|problem| format!("{problem}, {shown}"))
    }
}

/// What became of some losses.
#[derive(Default)]
struct Losses {
    refused: u64,
    /// Those of the refused that were not salvaged whole.
    lost: u64,
    failures: Vec<String>,
}

impl Losses {
    fn note(&mut self, seed: u64, judged: Result<Outcome, String>, trace: &Path) {
        match judged {
            Ok(Outcome::Kept) => {}
            Ok(Outcome::Refused { what, salvaged }) => {
                self.refused += 1;
                self.lost += u64::from(salvaged.is_err());
                println!("{seed} is refused: {what}");
                if let Err(problem) = salvaged {
                    println!("  and not salvaged whole: {problem:.500}");
                }
            }
            Err(problem) => self.failures.push(format!(
                "{seed}: {problem:.2000}\n  again: SETTEE_POWER_TRACE={} SETTEE_SEED={seed} \
                 SETTEE_POWER_CUTS=1 cargo test --test survives_power_loss",
                trace.display()
            )),
        }
    }
}

/// Every file below a directory and what it holds; directories hold nothing.
fn files(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut directories = vec![PathBuf::new()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(dir.join(&directory)).expect("a directory can be read") {
            let entry = entry.expect("a directory can be read");
            let path = directory.join(entry.file_name());
            let is_dir = entry.file_type().expect("files have types").is_dir();
            let bytes = (!is_dir).then(|| fs::read(entry.path()).expect("a file can be read"));
            if is_dir {
                directories.push(path.clone());
            }
            found.insert(path, bytes);
        }
    }
    found
}
