//! The gateway is killed with SIGKILL under mixed load and while it opens its data directory, in
//! turn. After each kill what it left is opened: it must be sound, hold every acknowledged write
//! with its history and attachments, and no batch of up to 100 documents in part.
//!
//! The gateway compacts by itself all the time, so kills interrupt that too.
//!
//! `SETTEE_CRASHES` says how often, `SETTEE_SEED` with which seed. Each kill is made of what the one
//! before left: nothing is repaired in between, and what is opened to be compared is a copy.
#![cfg(feature = "cli")]

#[path = "support/ask.rs"]
mod ask;
#[path = "support/binary.rs"]
mod binary;
#[path = "support/directories.rs"]
mod directories;
#[path = "support/load.rs"]
mod load;
#[path = "support/random.rs"]
mod random;
#[path = "support/raw.rs"]
mod raw;
#[path = "support/replicas.rs"]
mod replicas;
#[path = "support/soundness.rs"]
mod soundness;
#[path = "support/wire.rs"]
mod wire;

use std::collections::VecDeque;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use binary::{Served, arg, command};
use directories::copy;
use load::{Change, Client, SHARED};
use random::{Random, seed, setting};
use replicas::everything;
use settee::store::{BackupError, RestoreOptions};
use settee::{DbName, Store, StoreError};
use soundness::check_sound;
use tempfile::tempdir;
use tokio::sync::watch;

const CLIENTS: usize = 5;
/// Whatever is old goes soon.
const CONFIG: &str = "[compaction]\nold_mib_min = 0\nold_part_min = 0.01\ninterval_s = 0.02\n";

struct Harness {
    config: PathBuf,
    /// What the killed process left.
    data: PathBuf,
    /// Where it is compared.
    copy: PathBuf,
    model: Store,
    random: Random,
    /// How long the gateway took to open when it was last let.
    opening: Duration,
    acknowledged: u64,
    /// Kills while a change was under way, and those before the gateway listened.
    under_way: u64,
    opening_kills: u64,
    /// Kills that left fewer bytes of old bodies than were written.
    compacted: u64,
    /// Backups that were taken to their end, and those that a kill cut.
    backups: u64,
    cut_backups: u64,
}

impl Harness {
    async fn new(dir: &Path, seed: u64) -> Self {
        let shared = DbName::parse(SHARED).unwrap();
        let model = Store::memory();
        model.create(&shared).await.unwrap();
        let data = dir.join("data");
        let store = Store::open(&data).unwrap();
        store.create(&shared).await.unwrap();
        store.close().await.unwrap();
        let config = dir.join("settee.toml");
        fs::write(&config, CONFIG).unwrap();
        Self {
            config,
            data,
            copy: dir.join("copy"),
            model,
            random: Random::new(seed),
            opening: Duration::ZERO,
            acknowledged: 0,
            under_way: 0,
            opening_kills: 0,
            compacted: 0,
            backups: 0,
            cut_backups: 0,
        }
    }

    fn serve(&self) -> Command {
        let (config, data) = (arg(&self.config), arg(&self.data));
        let place = ["--config", config, "--data", data, "--listen", "127.0.0.1:0"];
        let mut command = command(&[&["serve", "--token", "secret"][..], &place].concat());
        command.env("SETTEE_LOG", "warn");
        command
    }

    /// Kills the gateway while clients write; answers what they were waiting for.
    async fn kill_under_load(&mut self) -> Vec<Change> {
        let started = Instant::now();
        let served = Served::spawn(self.serve());
        self.opening = started.elapsed();
        let acknowledged = watch::Sender::new(0);
        let mut reached = acknowledged.subscribe();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = Client::new(number, self.model.clone(), self.random.next());
                tokio::spawn(client.run(served.address.clone(), acknowledged.clone()))
            })
            .collect();
        let backups = self.random.one_in(4).then(|| tokio::spawn(back_up(served.address.clone())));
        let until = self.random.of(1..250);
        let in_time = tokio::time::timeout(Duration::from_secs(60), async {
            reached.wait_for(|count| *count >= until).await.map(drop)
        });
        in_time.await.expect("writes are acknowledged").expect("clients go on");
        tokio::time::sleep(Duration::from_micros(self.random.of(0..10_000))).await;
        served.kill();
        let mut under_way = Vec::new();
        for client in clients {
            under_way.extend(client.await.expect("a client sees no wrong answer"));
        }
        if let Some(backups) = backups {
            for archive in backups.await.expect("a backup does not panic") {
                self.restore(archive).await;
            }
        }
        self.acknowledged += *acknowledged.borrow();
        self.under_way += u64::from(!under_way.is_empty());
        under_way
    }

    /// Restores what came of a backup until the kill: it is refused by name, or whole.
    async fn restore(&mut self, archive: Vec<u8>) {
        let restored = self.copy.with_file_name("restored");
        let archives = vec![Cursor::new(archive)];
        match Store::restore(&restored, archives, RestoreOptions::default()).await {
            Ok(_) => {
                let store = Store::open(&restored).expect("what was restored opens");
                check_sound(&store).await.expect("what was restored is sound");
                store.close().await.expect("it closes");
                self.backups += 1;
            }
            Err(StoreError::Backup(BackupError::Cut { .. } | BackupError::NotABackup)) => {
                self.cut_backups += 1;
            }
            Err(error) => panic!("a cut backup is refused with {error:?}"),
        }
        if restored.exists() {
            fs::remove_dir_all(&restored).expect("it can be removed");
        }
    }

    /// Kills the gateway before it has opened its data directory, or a little later.
    fn kill_opening(&mut self) {
        let mut command = self.serve();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the gateway starts");
        let longest = u64::try_from(self.opening.as_micros()).expect("a short time");
        std::thread::sleep(Duration::from_micros(self.random.of(0..longest.max(1))));
        child.kill().expect("it can be killed");
        let mut printed = String::new();
        let stdout = child.stdout.as_mut().expect("it is piped");
        stdout.read_to_string(&mut printed).expect("it prints UTF-8");
        child.wait().expect("it ends");
        self.opening_kills += u64::from(printed.is_empty());
    }

    /// Opens a copy of what was left, and compares.
    async fn compare(&mut self, under_way: &[Change]) -> Result<(), String> {
        copy(&self.data, &self.copy);
        let store =
            Store::open(&self.copy).map_err(|error| format!("it does not open: {error}"))?;
        for change in under_way {
            let settled = change.settle(&self.model, &store).await;
            settled.map_err(|problem| format!("{problem}: {change:?}"))?;
        }
        check_sound(&store).await?;
        let (found, wanted) = (everything(&store).await, everything(&self.model).await);
        self.compacted += u64::from(old_bytes(&store).await < old_bytes(&self.model).await);
        store.close().await.map_err(|error| error.to_string())?;
        if !found.keys().eq(wanted.keys()) {
            return Err(format!("databases: {:?}, not {:?}", found.keys(), wanted.keys()));
        }
        for (name, lines) in &wanted {
            let only = |these: &[String], those: &[String]| -> Vec<String> {
                let only = these.iter().filter(|line| !those.contains(line));
                only.map(|line| format!("{line:.300}")).collect()
            };
            let (lacks, has) = (only(lines, &found[name]), only(&found[name], lines));
            if !lacks.is_empty() || !has.is_empty() {
                return Err(format!("{name} lacks {lacks:#?} and has {has:#?}"));
            }
        }
        Ok(())
    }
}

/// Takes backups until the gateway dies; answers what came of the last two.
async fn back_up(address: String) -> VecDeque<Vec<u8>> {
    let mut last = VecDeque::new();
    while let Some(archive) = ask::bytes(&address, "GET", "/_settee/backup", "").await {
        last.push_back(archive);
        if last.len() > 2 {
            last.pop_front();
        }
    }
    last
}

/// Bytes of bodies that are no leaves' in the database that all clients write to.
async fn old_bytes(store: &Store) -> u64 {
    let shared = store.database(&DbName::parse(SHARED).unwrap()).await.unwrap();
    let info = shared.info().await.unwrap();
    info.body_bytes - info.leaf_bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let (seed, kills) = (seed(), setting("SETTEE_CRASHES", 100));
    println!("{kills} kills with SETTEE_SEED={seed}");
    let dir = tempdir().unwrap();
    let mut harness = Harness::new(dir.path(), seed).await;
    for kill in 1..=kills {
        let under_way = if kill % 2 == 1 {
            harness.kill_under_load().await
        } else {
            harness.kill_opening();
            Vec::new()
        };
        if let Err(problem) = harness.compare(&under_way).await {
            let kept = dir.keep();
            panic!(
                "kill {kill}: {problem}\n  files: {}\n  \
                 again: SETTEE_SEED={seed} SETTEE_CRASHES={kill} cargo test --test crashes",
                kept.display()
            );
        }
    }
    let Harness { acknowledged, under_way, opening_kills, compacted, .. } = harness;
    let Harness { backups, cut_backups, .. } = harness;
    println!(
        "{kills} kills, {opening_kills} before it listened, {under_way} with changes under way, \
         {compacted} with something compacted; {acknowledged} acknowledged changes kept; \
         {backups} backups whole, {cut_backups} cut and refused"
    );
    assert!(acknowledged >= kills / 2, "the gateway was hardly used");
    assert!(compacted > 0 || kills < 10, "the gateway did not compact");
    assert!(cut_backups > 0 || kills < 100, "no kill cut a backup");
}
