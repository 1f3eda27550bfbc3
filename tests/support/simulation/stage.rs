//! What all hosts of one schedule share, and what is noted of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use settee::store::{MemoryBackend, Uuid};
use settee::{Database, DbName, DocId, Limits, Rev, Store, SyncStatus};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::random::Random;

/// Where a replica is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Gateway,
    Client(usize),
}

impl Place {
    pub fn host(self) -> String {
        match self {
            Self::Gateway => "gateway".into(),
            Self::Client(number) => format!("client-{number}"),
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Gateway => 0,
            Self::Client(number) => number as u64 + 1,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Faults happen, and everybody writes.
    Storm,
    /// No more faults and no more writes: what is there must become equal.
    Calm,
    /// All is equal; everybody ends what is open.
    Over,
}

/// What a running host is told to do.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    /// Stop gracefully.
    Stop,
    /// Take a client's grants back.
    Revoke(usize),
    /// Let so much time pass at once, as for a machine that was suspended.
    Jump(Duration),
}

/// A revision whose writer was told that it is stored.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub place: Place,
    pub database: DbName,
    pub id: DocId,
    pub rev: Rev,
}

/// How often something happened.
pub type Counts = BTreeMap<&'static str, u64>;

/// Drawn once for a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub clients: usize,
    pub databases: usize,
    pub tick: Duration,
    pub latency_max: Duration,
    pub storm: Duration,
    pub ping_interval: Duration,
    pub silence_timeout: Duration,
    pub backoff_max: Duration,
    /// Whether the gateway's bounds of what is under way are low, so that they are met.
    pub tight: bool,
}

impl Settings {
    fn draw(random: &mut Random) -> Self {
        let ms = Duration::from_millis;
        // Mostly quick to notice a dead peer, which costs less time to simulate.
        let patient = random.one_in(20);
        Self {
            clients: *random.choose(&[1, 2, 2, 2, 3, 3, 4]),
            databases: *random.choose(&[1, 1, 2, 2, 3]),
            tick: ms(*random.choose(&[20, 40, 80])),
            latency_max: ms(random.of(20..300)),
            storm: ms(random.of(1_500..4_500)),
            ping_interval: ms(if patient { 10_000 } else { random.of(500..2_000) }),
            silence_timeout: ms(if patient { 25_000 } else { random.of(2_500..5_000) }),
            backoff_max: ms(random.of(1_000..10_000)),
            tight: random.one_in(3),
        }
    }
}

pub struct Stage {
    pub seed: u64,
    pub settings: Settings,
    pub names: Vec<DbName>,
    pub phase: watch::Sender<Phase>,
    backends: BTreeMap<Place, Arc<MemoryBackend>>,
    /// Milliseconds that a client takes for each read from its connection.
    pub slow_ms: Vec<AtomicU64>,
    /// Who is refused, and how.
    pub banned: Mutex<BTreeMap<usize, u16>>,
    acknowledged: Mutex<Vec<Acknowledged>>,
    statuses: Mutex<BTreeMap<(usize, DbName), watch::Receiver<SyncStatus>>>,
    orders: Mutex<BTreeMap<Place, mpsc::UnboundedSender<Order>>>,
    counts: Mutex<Counts>,
    starts: AtomicU64,
    /// FNV-1a over everything that is noted.
    trace: Mutex<u64>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("a panic ends the process")
}

impl Stage {
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let settings = Settings::draw(&mut random);
        let names = ["notes", "tasks", "users"].map(|name| DbName::parse(name).expect("a name"));
        let places = (0..settings.clients).map(Place::Client).chain([Place::Gateway]);
        let backends = places.map(|place| {
            let uuid = Uuid(u128::from(place.number() + 1).to_be_bytes());
            (place, Arc::new(MemoryBackend::with_uuid(uuid)))
        });
        Self {
            seed,
            settings,
            names: names[..settings.databases].to_vec(),
            phase: watch::Sender::new(Phase::Storm),
            backends: backends.collect(),
            slow_ms: (0..settings.clients).map(|_| AtomicU64::new(0)).collect(),
            banned: Mutex::default(),
            acknowledged: Mutex::default(),
            statuses: Mutex::default(),
            orders: Mutex::default(),
            counts: Mutex::default(),
            starts: AtomicU64::new(0),
            trace: Mutex::new(0xcbf2_9ce4_8422_2325),
        }
    }

    /// Random numbers for one more part of the schedule.
    pub fn random(&self) -> Random {
        let start = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        Random::new(Random::new(self.seed).next() ^ Random::new(start).next())
    }

    pub fn places(&self) -> impl Iterator<Item = Place> {
        self.backends.keys().copied()
    }

    /// What is left of a place after its process has ended: all that was in its databases.
    pub fn store(&self, place: Place) -> Store {
        Store::with_backend(self.backends[&place].clone(), Limits::default())
    }

    pub async fn database(&self, store: &Store, name: &DbName) -> Database {
        store.open_or_create(name).await.expect("it opens")
    }

    pub fn is(&self, phase: Phase) -> bool {
        *self.phase.borrow() == phase
    }

    /// Waits until a phase has begun.
    pub async fn until(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        phases.wait_for(|now| *now >= phase).await.expect("the stage stays");
    }

    /// Sleeps; `false` if the storm was over before.
    pub async fn sleeps_in_storm(&self, random: &mut Random, ms: std::ops::Range<u64>) -> bool {
        tokio::select! {
            biased;
            () = self.until(Phase::Calm) => false,
            () = sleep(Duration::from_millis(random.of(ms))) => true,
        }
    }

    /// Notes something in the trace, with its time.
    pub fn trace(&self, what: &str, bytes: &[u8]) {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default().as_nanos().to_be_bytes();
        let mut trace = lock(&self.trace);
        for byte in elapsed.iter().chain(what.as_bytes()).chain(bytes) {
            *trace = (*trace ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub fn traced(&self) -> u64 {
        *lock(&self.trace)
    }

    pub fn count(&self, what: &'static str) {
        self.trace(what, &[]);
        tracing::info!(target: "simulation", what, "counted");
        assert!(super::EVENTS.contains(&what), "{what} is not listed");
        *lock(&self.counts).entry(what).or_default() += 1;
    }

    pub fn counts(&self) -> Counts {
        lock(&self.counts).clone()
    }

    pub fn acknowledge(&self, acknowledged: Acknowledged) {
        tracing::info!(target: "simulation", ?acknowledged, "acknowledged");
        self.count("writes");
        lock(&self.acknowledged).push(acknowledged);
    }

    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        lock(&self.acknowledged).clone()
    }

    /// Has a live sync's status watched instead of that of the one before.
    pub fn watch(&self, client: usize, name: &DbName, status: watch::Receiver<SyncStatus>) {
        lock(&self.statuses).insert((client, name.clone()), status);
    }

    /// Where the live syncs stand.
    pub fn statuses(&self) -> Vec<((usize, DbName), SyncStatus)> {
        let statuses = lock(&self.statuses);
        statuses.iter().map(|(at, status)| (at.clone(), status.borrow().clone())).collect()
    }

    /// The orders for a host that begins to run.
    pub fn orders(&self, place: Place) -> mpsc::UnboundedReceiver<Order> {
        let (sender, receiver) = mpsc::unbounded_channel();
        lock(&self.orders).insert(place, sender);
        receiver
    }

    /// Tells a host what to do; one that does not run hears nothing.
    pub fn order(&self, place: Place, order: Order) {
        if let Some(orders) = lock(&self.orders).get(&place) {
            let _ = orders.send(order);
        }
    }

    pub fn refusal(&self, client: usize) -> Option<u16> {
        lock(&self.banned).get(&client).copied()
    }

    /// What every place holds.
    pub fn stores(&self) -> Vec<(Place, Store)> {
        self.places().map(|place| (place, self.store(place))).collect()
    }
}
