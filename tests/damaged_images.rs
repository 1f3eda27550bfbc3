//! Damaged data directories: each opens with everything there, or the damage is told by name. It
//! never opens with less and says nothing. And what is salvaged of one is sound, and all of it where
//! nothing is said to be lost.
//!
//! `SETTEE_IMAGES` says how many are tried and `SETTEE_SEED` with which seed; image n of seed s is
//! image 0 of seed s + n.
#![cfg(feature = "cli")]

#[path = "support/binary.rs"]
mod binary;
#[path = "support/directories.rs"]
mod directories;
#[path = "support/random.rs"]
mod random;
#[path = "support/replicas.rs"]
mod replicas;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use binary::{arg, command};
use directories::{copy, files};
use random::{Random, seed, setting};
use replicas::everything;
use serde_json::json;
use settee::doc::{Attachment, Body, LocalId};
use settee::store::{EditMode, SalvagedDatabase};
use settee::{Database, DbName, Document, Limits, Store, StoreError};
use tempfile::tempdir;
use tokio::time::timeout;

/// Longest time that a command may take on a damaged directory.
const PATIENCE: Duration = Duration::from_secs(120);
const DATABASES: [&str; 3] = ["orders", "people", "things"];
const DOCS: u64 = 250;

/// What a store holds: for each database its leaves with histories and attachments, then its local
/// documents.
type Contents = BTreeMap<String, Vec<String>>;

async fn write(db: &Database, random: &mut Random, round: u64) {
    for chunk in 0..DOCS / 50 {
        let docs = (0..50).map(|n| {
            let id = format!("{round}-{:03}", chunk * 50 + n);
            let length = random.of(10..5_000);
            let text = random.text(length);
            let mut doc = Document::new(&id, &json!({"round": round, "text": text})).unwrap();
            if n % 10 == 0 {
                let length = random.of(1..20_000);
                let bytes = random.text(length);
                doc = doc.with_attachment("small", Attachment::inline("text/plain", bytes));
            }
            if n == 7 {
                let length = random.of(40_000..120_000);
                let bytes = random.text(length);
                doc = doc.with_attachment("large", Attachment::inline("text/plain", bytes));
            }
            doc
        });
        let docs = docs.collect();
        let written = db.bulk_docs(docs, EditMode::Edit).await.unwrap();
        for (n, outcome) in written.into_iter().enumerate() {
            let written = outcome.unwrap();
            if n % 4 == 0 {
                let next = json!({"round": round, "edited": random.text(300)});
                let next = Document::new(written.id.as_str(), &next).unwrap();
                db.put(next.with_rev(written.rev)).await.unwrap();
            } else if n % 9 == 0 {
                db.delete(&written.id, written.rev).await.unwrap();
            } else if n % 5 == 0 {
                branch(db, written.id.as_str(), random).await;
            }
        }
    }
    for n in 0..5 {
        let id = LocalId::parse(&n.to_string(), 1024).unwrap();
        let body = Body::parse(&json!({"text": random.text(500)}).to_string(), &Limits::default())
            .unwrap();
        db.set_local(&id, body).await.unwrap();
    }
}

/// A replicated revision beside what is there.
async fn branch(db: &Database, id: &str, random: &mut Random) {
    let hash = format!("{:032x}", random.next());
    let ids = json!({"start": 2, "ids": [hash, format!("{:032x}", random.next())]});
    let doc = json!({"_id": id, "_rev": format!("2-{hash}"), "_revisions": ids, "branch": true});
    let doc = Document::parse(&doc.to_string(), &Limits::default()).unwrap();
    db.bulk_docs(vec![doc], EditMode::Replicated).await.unwrap();
}

/// Data directories to damage.
struct Images {
    /// As it was half-way, to take older copies of files from.
    older: PathBuf,
    /// As a killed process leaves it.
    killed: PathBuf,
    closed: PathBuf,
    holds: Contents,
}

async fn make(dir: &Path) -> Images {
    let live = dir.join("live");
    let path = |name: &str| dir.join(name);
    let images = (path("older"), path("killed"), path("closed"));
    let mut random = Random::new(1);
    let name = |name: &str| DbName::parse(name).unwrap();
    let store = Store::open(&live).unwrap();
    for database in DATABASES.into_iter().chain(["doomed"]) {
        let db = store.create(&name(database)).await.unwrap();
        write(&db, &mut random, 0).await;
    }
    store.close().await.unwrap();
    let store = Store::open(&live).unwrap();
    for (round, database) in [(1, "orders"), (2, "people")] {
        write(&store.database(&name(database)).await.unwrap(), &mut random, round).await;
    }
    copy(&live, &images.0);
    store.destroy(&name("doomed")).await.unwrap();
    for (round, database) in [(3, "things"), (4, "orders")] {
        write(&store.database(&name(database)).await.unwrap(), &mut random, round).await;
    }
    let holds = everything(&store).await;
    copy(&live, &images.1);
    store.close().await.unwrap();
    copy(&live, &images.2);
    Images { older: images.0, killed: images.1, closed: images.2, holds }
}

/// What is done to one file.
#[derive(Debug)]
enum Damage {
    Truncate { at: u64 },
    FlipBit { at: u64, bit: u8 },
    Zero { at: u64, bytes: u64 },
    Delete,
    Older,
}

#[derive(Debug)]
struct Damaged {
    image: &'static str,
    file: PathBuf,
    damage: Damage,
}

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} directory, {}: {:?}", self.image, self.file.display(), self.damage)
    }
}

/// Puts a damaged copy of an image at `to`.
fn damage(images: &Images, to: &Path, random: &mut Random) -> Damaged {
    let (image, from) =
        if random.one_in(2) { ("killed", &images.killed) } else { ("closed", &images.closed) };
    copy(from, to);
    let (blobs, small): (Vec<PathBuf>, Vec<PathBuf>) =
        files(to).into_iter().partition(|path| path.starts_with("blobs"));
    let file = match random.of(0..4) {
        0 => random.choose(&blobs).clone(),
        1 => random.choose(&small).clone(),
        _ => "sled/db".into(),
    };
    let older = images.older.join(&file);
    let path = to.join(&file);
    let length = fs::metadata(&path).unwrap().len();
    let damage = match random.of(0..10) {
        0..2 if length > 0 => Damage::Truncate { at: random.of(0..length) },
        2..6 if length > 0 => {
            Damage::FlipBit { at: random.of(0..length), bit: random.of(0..8) as u8 }
        }
        6..8 if length > 0 => {
            let at = random.of(0..length);
            Damage::Zero { at, bytes: random.of(1..100_000).min(length - at) }
        }
        8 if older.exists() => Damage::Older,
        _ => Damage::Delete,
    };
    match damage {
        Damage::Truncate { at } => {
            File::options().write(true).open(&path).unwrap().set_len(at).unwrap();
        }
        Damage::FlipBit { at, bit } => {
            let opened = File::options().read(true).write(true).open(&path).unwrap();
            let mut byte = [0];
            opened.read_exact_at(&mut byte, at).unwrap();
            opened.write_all_at(&[byte[0] ^ 1 << bit], at).unwrap();
        }
        Damage::Zero { at, bytes } => {
            let opened = File::options().write(true).open(&path).unwrap();
            opened.write_all_at(&vec![0; bytes as usize], at).unwrap();
        }
        Damage::Delete => fs::remove_file(&path).unwrap(),
        Damage::Older => drop(fs::copy(&older, &path).unwrap()),
    }
    Damaged { image, file, damage }
}

/// Runs `settee check` to its end, or kills it when it takes too long.
fn check(data: &Path) -> Option<Output> {
    let mut command = command(&["check", arg(data)]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let pid = child.id().to_string();
    let (ended, output) = mpsc::channel();
    let waiting = std::thread::spawn(move || ended.send(child.wait_with_output().unwrap()));
    let in_time = output.recv_timeout(PATIENCE).ok();
    if in_time.is_none() {
        std::process::Command::new("kill").args(["-s", "KILL", &pid]).status().unwrap();
    }
    let _ = waiting.join().unwrap();
    in_time
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Whole,
    /// Opening was refused with an error that names the damage.
    Refused,
    /// `check` named it.
    Reported,
}

/// What became of a damaged directory, or what should not have.
async fn judge(data: &Path, holds: &Contents) -> Result<(Outcome, String), String> {
    let Some(output) = tokio::task::block_in_place(|| check(data)) else {
        return Err("it hangs".into());
    };
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    match output.status.code() {
        Some(0) => {}
        Some(1) if stdout.contains("problem") => {
            let first = stdout.lines().find(|line| !line.contains(": sound"));
            return Ok((Outcome::Reported, first.unwrap_or_default().to_owned()));
        }
        Some(1) => {
            let last = stderr.lines().last().unwrap_or_default();
            let named = last.starts_with("settee: ") && last.contains("damaged");
            return if named {
                Ok((Outcome::Refused, last.to_owned()))
            } else {
                Err(format!("not named: {stderr}"))
            };
        }
        _ => return Err(format!("{:?}: {stderr}", output.status)),
    }
    let store = Store::open(data).map_err(|error| format!("opens only once: {error}"))?;
    let found = everything(&store).await;
    store.close().await.map_err(|error| error.to_string())?;
    if found == *holds {
        return Ok((Outcome::Whole, String::new()));
    }
    let counts = |all: &Contents| -> Vec<String> {
        all.iter().map(|(name, lines)| format!("{name}: {}", lines.len())).collect()
    };
    Err(format!("silently less: {:?} of {:?}", counts(&found), counts(holds)))
}

/// What was salvaged of a damaged directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Salvaged {
    Nothing,
    /// And it was told that something is missing.
    InPart,
    /// And it was told that something may be missing.
    Perhaps,
    Everything,
}

/// Whether it was told that nothing of a database is there.
fn is_left_out(database: &SalvagedDatabase) -> bool {
    let told = "the database is left out";
    database.docs == 0 && database.lost.iter().any(|lost| lost.problem.starts_with(told))
}

/// What can be salvaged of a damaged directory, or what should not have come of it.
async fn judge_salvaged(data: &Path, holds: &Contents) -> Result<Salvaged, String> {
    let new = data.with_extension("salvaged");
    if new.exists() {
        // Of the directory before.
        fs::remove_dir_all(&new).unwrap();
    }
    let salvage = Store::salvage(data.to_owned(), new.clone());
    let salvaged = timeout(PATIENCE, tokio::spawn(salvage)).await;
    let salvaged = salvaged.map_err(|_| "salvaging hangs")?.map_err(|_| "salvaging panics")?;
    let salvaged = match salvaged {
        Ok(salvaged) => salvaged,
        Err(StoreError::Damaged { .. } | StoreError::Io { .. }) => {
            // A directory that was not made to its end does not open.
            return match Store::open(&new) {
                Err(StoreError::Unfinished { .. }) => Ok(Salvaged::Nothing),
                opened => Err(format!("nothing was salvaged, and it opens: {opened:?}")),
            };
        }
        Err(error) => return Err(format!("not salvaged: {error}")),
    };
    let store = Store::open(&new).map_err(|error| format!("salvaged: {error}"))?;
    for database in &salvaged.databases {
        let db = match store.database(&database.name).await {
            Err(StoreError::DatabaseMissing { .. }) if is_left_out(database) => continue,
            db => db.map_err(|error| error.to_string())?,
        };
        let report = db.check().await.map_err(|error| error.to_string())?;
        if !report.problems.is_empty() || report.docs != database.docs {
            return Err(format!("salvaged with {report:?}, and told {database:?}"));
        }
    }
    let found = everything(&store).await;
    store.close().await.map_err(|error| error.to_string())?;
    let all = holds.values().map(Vec::len).sum::<usize>();
    let count = found.values().map(Vec::len).sum::<usize>();
    let Some(acknowledged) = salvaged.acknowledged else { return Ok(Salvaged::InPart) };
    if salvaged.databases.iter().any(|database| !database.lost.is_empty()) {
        return Ok(Salvaged::InPart);
    }
    if acknowledged > salvaged.group {
        return Ok(Salvaged::InPart);
    }
    match (&salvaged.log_damage, found == *holds) {
        (_, true) => Ok(Salvaged::Everything),
        (Some(_), false) => Ok(Salvaged::Perhaps),
        (None, false) => Err(format!("salvaged, silently less: {count} of {all}: {salvaged:?}")),
    }
}

/// Images that are judged at a time.
const AT_A_TIME: usize = 2;

/// Damages and judges images until there are no more; answers what became of each.
async fn judge_some(dir: PathBuf, images: Arc<Images>, seeds: Arc<Mutex<Range<u64>>>) -> Judged {
    let mut judged = Judged::default();
    loop {
        let seed = seeds.lock().unwrap().next();
        let Some(seed) = seed else { return judged };
        let damaged = damage(&images, &dir, &mut Random::new(seed));
        let began = Instant::now();
        let mut outcome = judge(&dir, &images.holds).await.map(|outcome| (outcome, None));
        if let Ok((_, salvaged)) = &mut outcome {
            match judge_salvaged(&dir, &images.holds).await {
                Ok(what) => *salvaged = Some(what),
                Err(problem) => outcome = Err(problem),
            }
        }
        match outcome {
            Ok(((outcome, said), salvaged)) => {
                let took = began.elapsed();
                println!(
                    "{seed} {outcome:?}, {salvaged:?} salvaged, {took:.1?}: {damaged}: {said}"
                );
                *judged.outcomes.entry((outcome, salvaged)).or_default() += 1;
            }
            Err(problem) => {
                let failure = format!(
                    "{damaged}: {problem}\n  again: SETTEE_SEED={seed} SETTEE_IMAGES=1 \
                     cargo test --test damaged_images"
                );
                println!("{failure}");
                judged.failures.push(failure);
            }
        }
    }
}

#[derive(Default)]
struct Judged {
    outcomes: BTreeMap<(Outcome, Option<Salvaged>), u64>,
    failures: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_or_does_not_matter() {
    let dir = tempdir().unwrap();
    let images = Arc::new(make(dir.path()).await);
    let (first, count) = (seed(), setting("SETTEE_IMAGES", 500));
    println!("{count} images from SETTEE_SEED={first}");
    let seeds = Arc::new(Mutex::new(first..first + count));
    let judges: Vec<_> = (0..AT_A_TIME)
        .map(|number| {
            let dir = dir.path().join(format!("damaged{number}"));
            tokio::spawn(judge_some(dir, images.clone(), seeds.clone()))
        })
        .collect();
    let mut all = Judged::default();
    for judge in judges {
        let judged = judge.await.unwrap();
        all.failures.extend(judged.failures);
        for (outcome, count) in judged.outcomes {
            *all.outcomes.entry(outcome).or_default() += count;
        }
    }
    let Judged { outcomes, failures } = all;
    println!("{outcomes:?}");
    assert!(failures.is_empty(), "{} of {count}:\n{}", failures.len(), failures.join("\n"));
}
