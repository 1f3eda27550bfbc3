//! A gateway under mixed clients for a long time: Rust clients with stores in memory and on disk,
//! PouchDB 9 over the WebSocket and over HTTP, the client of 2015, and plain HTTP. All edit the same
//! documents, come and go and begin anew; tokens end, with others to follow and without; databases
//! are made and destroyed; the gateway is stopped and killed, and compacts.
//!
//! In the end all replicas must be equal, nothing acknowledged be lost, and nothing be kept for clients
//! that have gone. The memory, the descriptors, the threads and the disk of the gateway stay below
//! fixed bounds in the second part, in which it is not restarted, and must not grow in it if it is long
//! enough for caches to be full.
//!
//! `SETTEE_SOAK_S` says for how many seconds, `SETTEE_SEED` with which seed. Where the first is not
//! set, a few seconds without JavaScript show that all parts work.
#![cfg(feature = "cli")]

#[path = "support/access.rs"]
mod access;
#[path = "support/binary.rs"]
mod binary;
#[path = "support/grammar.rs"]
mod grammar;
#[path = "support/random.rs"]
mod random;
#[path = "support/soak/mod.rs"]
mod soak;

use std::sync::Arc;
use std::time::Duration;

use random::{Random, seed, setting};
use soak::contents::{Contents, Files, Truth};
use soak::gateway::Gateway;
use soak::nodes::{self, Node};
use soak::replicas::{self, Replicas};
use soak::watch::{MEASURES, Sample, Trend, Watch};
use soak::{DATABASES, Phase, Stage, janitor, plain};
use tempfile::tempdir;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Seconds where nothing is said.
const BRIEFLY_S: u64 = 12;

/// In less not everything happens that is to happen.
const JUDGED_S: u64 = 100;

/// In less the caches and the allocator still fill, and whether anything grows cannot be told.
const TREND_S: u64 = 1_200;

/// Of the time, the part in which the gateway is restarted.
const RESTARTS_PART: f64 = 0.4;

/// Longest time to become equal.
const EQUAL: Duration = Duration::from_secs(90);

/// Replicas in Rust, in memory and on disk.
const REPLICAS: [(&str, usize, bool); 2] =
    [("Rust, in memory", 2, false), ("Rust, on disk", 2, true)];

struct Soak {
    stage: Arc<Stage>,
    gateway: Gateway,
    watch: Watch,
    tasks: JoinSet<()>,
    nodes: Vec<Node>,
    random: Random,
}

impl Soak {
    async fn start(dir: &std::path::Path, seed: u64, seconds: u64, with_nodes: bool) -> Self {
        let mut random = Random::new(seed);
        let gateway = Gateway::start(dir);
        let stage = Arc::new(Stage::new(gateway.address().to_owned()));
        janitor::make_databases(&stage).await;
        let watch = Watch::new(&gateway.data, gateway.pid());
        let mut tasks = JoinSet::new();
        let (looking, looked_at) = (watch.clone(), Arc::clone(&stage));
        let line_s = (seconds / 30).max(1);
        tasks.spawn(async move { looking.look_on(&looked_at, line_s).await });
        let (made, tidied) = (Arc::clone(&stage), Arc::clone(&stage));
        tasks.spawn(async move { janitor::make(&made).await });
        tasks.spawn(async move { janitor::tidy(&tidied).await });
        for (kind, count, on_disk) in REPLICAS {
            for number in 0..count {
                let dir = on_disk.then(|| dir.join("replicas"));
                let random = Random::new(random.next());
                let stage = Arc::clone(&stage);
                tasks.spawn(Replicas { kind, stage, number, dir, random }.live());
            }
        }
        for work in plain::all(&stage, &mut random) {
            tasks.spawn(work);
        }
        tasks.spawn(replicas::ending_tokens(Arc::clone(&stage), Random::new(random.next())));
        let nodes = if with_nodes { nodes::start_all(gateway.address()) } else { Vec::new() };
        Self { stage, gateway, watch, tasks, nodes, random }
    }

    /// Goes on until then; nothing may end by itself or fail.
    async fn until(&mut self, then: Instant) {
        while Instant::now() < then {
            self.nodes.iter_mut().for_each(Node::assert_alive);
            let second = Duration::from_secs(1).min(then.duration_since(Instant::now()));
            tokio::select! {
                Some(ended) = self.tasks.join_next() => {
                    let log = self.gateway.failures();
                    ended.unwrap_or_else(|error| panic!("{error}\nthe gateway's log: {log:#?}"));
                    assert!(!self.stage.is_storm(), "a client has ended by itself");
                }
                () = sleep(second) => {}
            }
        }
    }

    /// Restarts the gateway again and again, stopping and killing it in turn.
    async fn restarts(&mut self, until: Instant, apart_s: u64) {
        let mut kill = false;
        loop {
            let next = Instant::now()
                + Duration::from_millis(self.random.of(apart_s * 500..apart_s * 1_500));
            if next >= until {
                return self.until(until).await;
            }
            self.until(next).await;
            let pause = Duration::from_millis(self.random.of(0..1_500));
            self.gateway.restart(&self.stage, kill, pause).await;
            self.watch.follow(self.gateway.pid());
            kill = !kill;
        }
    }

    /// Waits until all replicas hold the same; answers how long that took, and what is compared.
    async fn settle(&mut self) -> Settled {
        let round = self.stage.calm();
        for node in &mut self.nodes {
            node.say(&format!("calm {round}")).await;
        }
        let began = Instant::now();
        loop {
            self.until(Instant::now() + Duration::from_millis(500)).await;
            match self.compare().await {
                Ok(settled) => return Settled { took: began.elapsed(), ..settled },
                Err(differs) => assert!(began.elapsed() < EQUAL, "not equal: {differs}"),
            }
        }
    }

    async fn compare(&mut self) -> Result<Settled, String> {
        let truth = Truth::ask(&self.stage).await?;
        let replicas = self.stage.replicas.lock().expect("nobody panics with it").clone();
        let wanted: usize = REPLICAS.iter().map(|(_, count, _)| count).sum();
        if replicas.len() < wanted {
            return Err(format!("{} of {wanted} replicas in Rust", replicas.len()));
        }
        let mut settled = Settled {
            took: Duration::ZERO,
            documents: truth.documents(),
            conflicts: truth.conflicts(),
            replicas: 0,
            forgotten: 0,
        };
        let mut compare = |kind: &str, database: &str, here: &Contents, files: Files| {
            let compared = truth.compare(database, here, files);
            settled.forgotten += compared.map_err(|differs| format!("{kind} has {differs}"))?;
            settled.replicas += 1;
            Ok::<_, String>(())
        };
        for (kind, store) in &replicas {
            for database in DATABASES {
                compare(
                    kind,
                    database,
                    &Contents::of(&self.stage, store, database).await,
                    Files::Compared,
                )?;
            }
        }
        for node in &mut self.nodes {
            let told = node.look().await;
            if told["missing"] != 0 {
                return Err(format!("{} replicas of {} are missing", told["missing"], node.script));
            }
            for replica in told["replicas"].as_array().expect("a list of replicas") {
                let text = |name: &str| replica[name].as_str().expect("a text");
                let files = Files::told(text("files"));
                compare(text("kind"), text("database"), &Contents::told(replica), files)?;
            }
        }
        Ok(settled)
    }

    /// Ends all clients, and takes their counts.
    async fn end_clients(&mut self) {
        for node in &mut self.nodes {
            let told = node.look().await;
            for (what, count) in told["counts"].as_object().expect("counts") {
                let count = usize::try_from(count.as_u64().expect("a count")).expect("it fits");
                self.stage.count(what, count);
            }
        }
        self.stage.phase.send_replace(Phase::Over);
        for node in self.nodes.drain(..) {
            node.end().await;
        }
        // The watch goes on for ever.
        while self.tasks.len() > 1 {
            let ended = self.tasks.join_next().await.expect("there are some");
            ended.expect("no client panics");
        }
        self.tasks.shutdown().await;
    }
}

/// What was found equal.
struct Settled {
    took: Duration,
    documents: usize,
    conflicts: usize,
    /// Databases in replicas.
    replicas: usize,
    /// Old documents that a replica still had, since it was away when they were purged.
    forgotten: usize,
}

/// Prints the trend of each measure; fails if something is over its bound, or grows in a run that is
/// long enough to tell.
fn judge(samples: &[Sample], life: u64, seconds: u64) {
    let steady: Vec<Sample> =
        samples.iter().copied().filter(|sample| sample.life == life).collect();
    let (mut growing, mut high) = (Vec::new(), Vec::new());
    for measure in &MEASURES {
        let trend = Trend::of(&steady, measure);
        println!(
            "  {}: {:.1} {} in the middle third, {:.1} in the last, at most {:.1}; {:+.1} ± {:.1} an hour",
            measure.name,
            trend.middle,
            measure.unit,
            trend.last,
            trend.highest,
            trend.slope_per_hour,
            trend.error_per_hour
        );
        if !trend.is_flat(measure) {
            growing.push(measure.name);
        }
        if trend.highest > measure.highest {
            high.push(measure.name);
        }
    }
    assert!(high.is_empty(), "{high:?} over the bound");
    assert!(seconds < TREND_S || growing.is_empty(), "{growing:?} grows without a restart");
}

/// What must have happened, or the rest says little.
const HAPPENS: &[&str] = &[
    "Rust, in memory: edits that arrived",
    "Rust, on disk: edits that arrived",
    "backups",
    "connections dropped",
    "databases made and destroyed",
    "graceful restarts",
    "kills",
    "leaves deleted with their round",
    "plain HTTP: attachments",
    "plain HTTP: edits that arrived",
    "plain HTTP: feeds",
    "plain HTTP: long polls",
    "plain HTTP: queries",
    "told that a token has ended",
];
/// Old tombstones are purged once a minute, and the first are old after one and a half.
const HAPPENS_LATER: &[&str] = &["documents purged"];
const LATER_S: u64 = 180;
const HAPPENS_IN_NODE: &[&str] = &[
    "2015 with PouchDB 5.4.5: edits that arrived",
    "2015 with PouchDB 9, unmodified: edits that arrived",
    "adapter: cuts",
    "adapter: edits that arrived",
    "client.sync: cuts",
    "client.sync: edits that arrived",
    "http: edits that arrived",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_grows_and_all_become_equal_under_mixed_clients() {
    let (seed, seconds) = (seed(), setting("SETTEE_SOAK_S", BRIEFLY_S));
    let no_node = std::env::var_os("SETTEE_NO_NODE").is_some_and(|value| value == "1");
    let with_nodes = std::env::var_os("SETTEE_SOAK_S").is_some() && !no_node;
    println!(
        "again: SETTEE_SEED={seed} SETTEE_SOAK_S={seconds} cargo test --test soak -- --nocapture"
    );
    let dir = tempdir().unwrap();
    let mut soak = Soak::start(dir.path(), seed, seconds, with_nodes).await;
    let began = Instant::now();
    let restarts = Duration::from_secs(seconds).mul_f64(RESTARTS_PART);
    soak.restarts(began + restarts, (seconds / 24).clamp(2, 45)).await;
    let life = soak.stage.life();
    soak.until(began + Duration::from_secs(seconds)).await;
    let samples = soak.watch.samples();
    let settled = soak.settle().await;
    soak.end_clients().await;
    soak.stage.until_given_back().await;
    soak.gateway.stop();

    let counts = soak.stage.counts();
    for (what, count) in &counts {
        println!("  {what}: {count}");
    }
    println!(
        "{} replicas equal after {:?}: {} documents, {} with branches; {} forgotten",
        settled.replicas, settled.took, settled.documents, settled.conflicts, settled.forgotten
    );
    println!("slowest answer {:?}", soak.stage.slowest());
    println!("longest start {:?}, stop {:?}", soak.gateway.started, soak.gateway.stopped);
    assert_eq!(soak.gateway.failures(), Vec::<String>::new(), "the gateway's own failures");
    let checked = binary::settee(&["check", binary::arg(&soak.gateway.data)]).ok();
    println!("{checked}");
    assert!(settled.documents > 0);
    if seconds >= JUDGED_S {
        assert!(settled.conflicts > 0, "there was nothing to disagree about");
        let happened = HAPPENS.iter().chain(if with_nodes { HAPPENS_IN_NODE } else { &[] });
        let happened = happened.chain(if seconds >= LATER_S { HAPPENS_LATER } else { &[] });
        let missing: Vec<&&str> = happened.filter(|what| !counts.contains_key(**what)).collect();
        assert!(missing.is_empty(), "{missing:?} never happened");
        judge(&samples, life, seconds);
    }
}
