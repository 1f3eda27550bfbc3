//! What all that takes part in a soak shares: where the gateway is, which documents there are, and
//! what is counted.
//!
//! Documents belong to rounds of some seconds. Each round has documents of its own, which everybody
//! edits while it lasts; some rounds later they are deleted, and later still purged. So the live
//! documents, their branches and their tombstones stay as many as they are, however long it lasts.

pub mod contents;
pub mod gateway;
pub mod janitor;
pub mod nodes;
pub mod plain;
pub mod replicas;
pub mod watch;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use settee::Store;
use tokio::sync::watch as channel;
use tokio::time::{Instant, sleep};

use super::access::token_for;

/// Databases that everybody edits.
pub const DATABASES: [&str; 3] = ["soak-0", "soak-1", "soak-2"];

/// The token of who may do everything.
pub const ADMIN: &str = "admin";

/// Seconds of a round.
pub const ROUND_S: u64 = 10;

/// Older rounds than the current one that are left alone.
pub const ROUNDS_KEPT: u64 = 2;

/// Older rounds whose acknowledged edits the gateway must know.
pub const ROUNDS_VERIFIED: u64 = 5;

/// Older rounds that are not purged.
pub const ROUNDS_NOT_PURGED: u64 = 8;

/// Longest time for an edit to reach the gateway, restarts of it included.
const ARRIVES: Duration = Duration::from_secs(90);

/// Longest time for an answer, on a machine that does other things as well. A backup waits for the
/// compaction of each database that is under way.
const ANSWERED: Duration = Duration::from_secs(300);

/// Longest time for the gateway to see that clients have gone.
const GIVEN_BACK: Duration = Duration::from_secs(60);

/// Figures that are 0 without clients.
const KEPT_FOR_CLIENTS: [&str; 4] =
    ["settee_connections{", "settee_channels{", "settee_feeds ", "settee_outbox_bytes "];

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Storm,
    /// Nothing is edited any more, but all syncs go on.
    Calm,
    Over,
}

/// An edit that was acknowledged.
#[derive(Debug, Clone)]
pub struct Edit {
    pub database: &'static str,
    pub id: String,
    pub rev: String,
}

pub struct Stage {
    /// `HOST:PORT` of the gateway, the same over its restarts.
    pub address: String,
    pub phase: channel::Sender<Phase>,
    /// Replicas in this process that are to be compared in the end.
    pub replicas: Mutex<Vec<(&'static str, Store)>>,
    http: reqwest::Client,
    counts: Mutex<BTreeMap<String, u64>>,
    /// What took longest to be answered.
    slowest: Mutex<(Duration, String)>,
    /// Even while the gateway is up; changes with each of its ends and starts.
    lives: AtomicU64,
    calm_at: AtomicU64,
}

impl Stage {
    pub fn new(address: String) -> Self {
        // A connection that was kept from before a restart would fail for no fault.
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(ANSWERED);
        Self {
            address,
            phase: channel::Sender::new(Phase::Storm),
            replicas: Mutex::default(),
            http: http.build().expect("a client can be made"),
            counts: Mutex::default(),
            slowest: Mutex::default(),
            lives: AtomicU64::new(0),
            calm_at: AtomicU64::new(0),
        }
    }

    pub fn is_storm(&self) -> bool {
        *self.phase.borrow() == Phase::Storm
    }

    pub async fn until(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        phases.wait_for(|reached| *reached >= phase).await.expect("the stage keeps the sender");
    }

    /// A pause that ends early with the storm; false then.
    pub async fn sleeps_in_storm(&self, ms: u64) -> bool {
        tokio::select! {
            () = sleep(Duration::from_millis(ms)) => {}
            () = self.until(Phase::Calm) => {}
        }
        self.is_storm()
    }

    /// The gateway ends or is there again.
    pub fn turns(&self) {
        self.lives.fetch_add(1, Ordering::SeqCst);
    }

    pub fn life(&self) -> u64 {
        self.lives.load(Ordering::SeqCst)
    }

    fn was_up_since(&self, life: u64) -> bool {
        life.is_multiple_of(2) && life == self.life()
    }

    /// Ends the storm: answers the round that stays the current one.
    pub fn calm(&self) -> u64 {
        let round = self.round();
        self.calm_at.store(round, Ordering::SeqCst);
        self.phase.send_replace(Phase::Calm);
        round
    }

    pub fn round(&self) -> u64 {
        match self.calm_at.load(Ordering::SeqCst) {
            0 => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH);
                since.expect("the clock is set").as_secs() / ROUND_S
            }
            round => round,
        }
    }

    /// How many rounds ago the documents of this one's round were made; of the current one and of
    /// later ones, 0.
    pub fn age(&self, id: &str) -> u64 {
        self.round().saturating_sub(round_of(id))
    }

    pub fn count(&self, what: &str, more: usize) {
        let mut counts = self.counts.lock().expect("nobody panics with it");
        *counts.entry(what.to_owned()).or_default() += more as u64;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.counts.lock().expect("nobody panics with it").clone()
    }

    /// A request; `None` if the gateway was away meanwhile. Otherwise it must be answered, and not
    /// with a failure of the gateway's.
    pub async fn ask(
        &self,
        bearer: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Vec<u8>)> {
        let life = self.life();
        let url = format!("http://{}{path}", self.address);
        let mut request = self.http.request(method.clone(), url).bearer_auth(bearer);
        request = request.header("accept", "application/json");
        if let Some(body) = body {
            request = request.json(body);
        }
        self.answered(life, request, &format!("{method} {path}")).await
    }

    /// The same, with a body of bytes.
    pub async fn upload(&self, path: &str, bytes: Vec<u8>) -> Option<(u16, Vec<u8>)> {
        let life = self.life();
        let url = format!("http://{}{path}", self.address);
        let request = self.http.put(url).bearer_auth(token("plain")).body(bytes);
        let request = request.header("content-type", "text/plain");
        self.answered(life, request, &format!("PUT {path}")).await
    }

    /// The bytes of a backup; `None` if the gateway was away, or cut it, as it may where the databases
    /// change faster than it is read.
    pub async fn back_up(&self) -> Option<usize> {
        let url = format!("http://{}/_settee/backup", self.address);
        match self.attempt(self.http.get(url).bearer_auth(ADMIN), "a backup").await {
            Ok((200, body)) => Some(body.len()),
            // It is stopping.
            Ok((503, _)) | Err(_) => None,
            Ok((status, body)) => panic!("a backup: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    async fn answered(
        &self,
        life: u64,
        request: reqwest::RequestBuilder,
        what: &str,
    ) -> Option<(u16, Vec<u8>)> {
        let failure = match self.attempt(request, what).await {
            Ok((status, body)) if status < 500 && status != 429 => return Some((status, body)),
            Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
            Err(error) => format!("{error:?}"),
        };
        assert!(!self.was_up_since(life), "{what}: {failure}");
        None
    }

    async fn attempt(
        &self,
        request: reqwest::RequestBuilder,
        what: &str,
    ) -> Result<(u16, Vec<u8>), reqwest::Error> {
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            Ok::<_, reqwest::Error>((status, answer.bytes().await?.to_vec()))
        };
        let began = Instant::now();
        let answer = answer.await;
        self.took(began.elapsed(), what);
        answer
    }

    fn took(&self, time: Duration, what: &str) {
        let mut slowest = self.slowest.lock().expect("nobody panics with it");
        if time > slowest.0 {
            *slowest = (time, what.to_owned());
        }
    }

    pub fn slowest(&self) -> (Duration, String) {
        self.slowest.lock().expect("nobody panics with it").clone()
    }

    /// [`ask`](Self::ask) with a token of a user, for an answer of JSON.
    pub async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> Option<Value> {
        let (status, body) = self.ask(&token("plain"), method, path, body).await?;
        let text = String::from_utf8_lossy(&body);
        assert!(status < 300, "{path}: {status} {text}");
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")))
    }

    /// Waits until the gateway keeps nothing any more for clients that have gone.
    pub async fn until_given_back(&self) {
        let until = Instant::now() + GIVEN_BACK;
        loop {
            let kept = self.kept_for_clients().await;
            if kept.is_empty() {
                return;
            }
            assert!(Instant::now() < until, "it keeps {kept:?} for clients that have gone");
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Which of its figures of connections and what belongs to them are not 0.
    async fn kept_for_clients(&self) -> Vec<String> {
        let answer = self.ask(ADMIN, Method::GET, "/_metrics", None).await.expect("it is up");
        let text = String::from_utf8(answer.1).expect("metrics are text");
        assert_eq!(answer.0, 200, "{text}");
        let figures = |name: &'static str| text.lines().filter(move |line| line.starts_with(name));
        for name in KEPT_FOR_CLIENTS {
            assert!(figures(name).count() > 0, "no {name} in {text}");
        }
        // The connection that asks is one over HTTP.
        let own = |line: &str| line == r#"settee_connections{protocol="http"} 1"#;
        let lines = KEPT_FOR_CLIENTS.into_iter().flat_map(figures);
        let kept = lines.filter(|line| !line.ends_with(" 0") && !own(line));
        kept.map(str::to_owned).collect()
    }

    /// Which of some acknowledged edits the gateway does not know; `None` if it was away.
    pub async fn lacking(&self, edits: &[Edit]) -> Option<Vec<String>> {
        let recent = |id: &str| self.age(id) <= ROUNDS_VERIFIED;
        let mut lacking = Vec::new();
        for database in DATABASES {
            let mut asked = BTreeMap::<&str, Vec<&str>>::new();
            for edit in edits.iter().filter(|edit| edit.database == database && recent(&edit.id)) {
                asked.entry(&edit.id).or_default().push(&edit.rev);
            }
            let path = format!("/{database}/_revs_diff");
            let missing = self.json(Method::POST, &path, Some(&json!(asked))).await?;
            let missing = missing.as_object().expect("an object of documents").clone();
            // Meanwhile the round of one may have passed.
            let missing = missing.into_iter().filter(|(id, _)| recent(id));
            lacking.extend(missing.map(|(id, revs)| format!("{database}/{id}: {revs}")));
        }
        Some(lacking)
    }

    /// Waits until the gateway knows all of some acknowledged edits.
    pub async fn until_arrived(&self, kind: &str, edits: &[Edit]) {
        let until = Instant::now() + ARRIVES;
        loop {
            let lacking = self.lacking(edits).await;
            if lacking.as_ref().is_some_and(Vec::is_empty) {
                break;
            }
            assert!(Instant::now() < until, "{kind} has lost {lacking:?}");
            sleep(Duration::from_millis(200)).await;
        }
        self.count(&format!("{kind}: edits that arrived"), edits.len());
    }
}

pub fn round_of(id: &str) -> u64 {
    let round = id.strip_prefix('r').and_then(|rest| rest.split_once('-')?.0.parse().ok());
    round.unwrap_or_else(|| panic!("{id} is of no round"))
}

/// Whether documents of this id have attachments.
pub fn holds_file(id: &str) -> bool {
    id.contains("-f")
}

/// A token that lasts long enough for a request.
pub fn token(user: &str) -> String {
    token_for(user, 2 * ANSWERED)
}
