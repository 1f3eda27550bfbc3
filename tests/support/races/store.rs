//! Quiet changes; and a store of bare numbers, for what of the server is built on one.

#[path = "../../../src/store/quiet.rs"]
#[allow(dead_code, unused_imports, reason = "its own tests need the standard library's locks")]
mod quiet;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use tokio::sync::watch;

use crate::sync::Mutex;
use quiet::Quiet;

/// A database's changes: bare numbers, of which one is loud.
struct Writes {
    quiet: Quiet,
    last: Mutex<u64>,
    newest: watch::Sender<u64>,
    /// The loud change; 0 before it is there.
    loud: AtomicU64,
}

impl Writes {
    fn new() -> Arc<Self> {
        let (quiet, last) = (Quiet::default(), Mutex::new(0));
        Arc::new(Self { quiet, last, newest: watch::Sender::new(0), loud: AtomicU64::new(0) })
    }

    fn loud(&self) -> u64 {
        self.loud.load(Ordering::SeqCst)
    }

    /// Commits a change, which wakes feeds before its writer learns its number.
    async fn commit(&self, note: impl FnOnce(u64)) -> u64 {
        let number = {
            let mut last = self.last.lock().expect("nobody panics with it");
            *last += 1;
            note(*last);
            self.newest.send_replace(*last);
            *last
        };
        yield_now().await;
        number
    }

    async fn write_loudly(&self) {
        self.commit(|number| self.loud.store(number, Ordering::SeqCst)).await;
    }

    async fn write_quietly(&self) {
        let write = self.quiet.begin();
        let number = self.commit(|_| {}).await;
        write.made([number]);
    }

    /// As a live feed does that has looked and found nothing: waits for changes after a place; the
    /// place behind them.
    async fn read(&self, since: u64, newest: &mut watch::Receiver<u64>) -> u64 {
        loop {
            newest.changed().await.expect("the sender lives");
            self.quiet.let_go(since, newest).await.expect("the sender lives");
            newest.mark_unchanged();
            yield_now().await;
            let place = *newest.borrow();
            if place > since {
                return place;
            }
        }
    }
}

/// Waits for all tasks: one that is left over would be torn out of its locks.
fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    block_on(async {
        for task in tasks {
            task.await.expect("it ends");
        }
    });
}

pub fn feeds_among_quiet_writes() {
    let writes = Writes::new();
    let quietly = [(), ()].map(|()| {
        let writes = Arc::clone(&writes);
        spawn(async move {
            writes.write_quietly().await;
            writes.write_quietly().await;
        })
    });
    let writer = Arc::clone(&writes);
    let loudly = spawn(async move { writer.write_loudly().await });
    let feeds = [(), ()].map(|()| {
        let (writes, mut newest) = (Arc::clone(&writes), writes.newest.subscribe());
        spawn(async move {
            // It has looked: what was written before it listened does not wake it.
            let mut place = *newest.borrow_and_update();
            while writes.loud() == 0 || place < writes.loud() {
                place = writes.read(place, &mut newest).await;
                // It looks again before it waits.
                place = place.max(*newest.borrow_and_update());
            }
        })
    });
    join(quietly.into_iter().chain(feeds).chain([loudly]));
}

pub fn a_feed_and_one_quiet_write() {
    let writes = Writes::new();
    let (quiet, loud) = (Arc::clone(&writes), Arc::clone(&writes));
    let mut newest = writes.newest.subscribe();
    let quietly = spawn(async move { quiet.write_quietly().await });
    let loudly = spawn(async move { loud.write_loudly().await });
    let place = block_on(writes.read(0, &mut newest));
    assert!((1..=place).contains(&writes.loud()), "let go at {place} by a quiet change");
    join([quietly, loudly]);
}

pub fn a_writer_that_gives_up() {
    let writes = Writes::new();
    let writer = Arc::clone(&writes);
    let mut newest = writes.newest.subscribe();
    let gives_up = spawn(async move {
        let write = writer.quiet.begin();
        writer.commit(|_| {}).await;
        drop(write);
    });
    assert_eq!(block_on(writes.read(0, &mut newest)), 1);
    join([gives_up]);
}

/// What must not be done, to see that it is found: a change between the two is never heard of.
pub fn a_reader_that_looks_before_it_listens() {
    let writes = Writes::new();
    let writer = Arc::clone(&writes);
    let mut newest = writes.newest.subscribe();
    spawn(async move { writer.write_loudly().await });
    block_on(async {
        if *newest.borrow() == 0 {
            yield_now().await;
            newest.mark_unchanged();
            newest.changed().await.expect("the sender lives");
        }
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Style;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChangeDocs;

#[derive(Debug)]
pub struct StoreError;

#[derive(Debug, Clone, Copy)]
pub struct Seq {
    pub number: u64,
}

#[derive(Debug)]
pub struct Change {
    pub seq: Seq,
    pub docs: Vec<()>,
}

#[derive(Debug)]
pub struct FeedPage {
    pub rows: Vec<Change>,
    pub last_seq: Seq,
}

/// A database of numbers that are added and purged.
#[derive(Clone)]
pub struct Database {
    incarnation: Uuid,
    rows: Arc<Mutex<BTreeSet<u64>>>,
    newest: Arc<watch::Sender<u64>>,
    purges: Arc<AtomicU64>,
}

impl Database {
    pub fn new() -> Self {
        Self {
            incarnation: Uuid,
            rows: Arc::new(Mutex::new(BTreeSet::new())),
            newest: Arc::new(watch::Sender::new(0)),
            purges: Arc::default(),
        }
    }

    pub fn incarnation(&self) -> Uuid {
        self.incarnation
    }

    pub fn purges(&self) -> u64 {
        self.purges.load(Ordering::SeqCst)
    }

    pub fn add(&self, number: u64) {
        self.rows.lock().expect("nobody panics with it").insert(number);
        self.newest.send_replace(number);
    }

    pub fn purge(&self, number: u64) {
        self.rows.lock().expect("nobody panics with it").remove(&number);
        self.purges.fetch_add(1, Ordering::SeqCst);
    }

    pub fn feed(&self) -> Feed {
        Feed { database: self.clone(), since: 0, newest: self.newest.subscribe() }
    }
}

pub struct Feed {
    database: Database,
    since: u64,
    newest: watch::Receiver<u64>,
}

impl Feed {
    pub fn place(&self) -> Seq {
        Seq { number: self.since }
    }

    pub fn go_on_after(&mut self, page: &FeedPage) {
        self.since = page.last_seq.number;
    }

    /// Reads two changes at most, so that a page is not all there is.
    pub async fn next_page(&mut self, _: usize, _: usize) -> Result<FeedPage, StoreError> {
        loop {
            self.newest.mark_unchanged();
            let newest = *self.newest.borrow();
            let found: Vec<u64> = {
                let rows = self.database.rows.lock().expect("nobody panics with it");
                rows.range(self.since + 1..).take(2).copied().collect()
            };
            // Reading takes a while, and begins before it ends.
            yield_now().await;
            let last = found.last().copied().unwrap_or_default();
            let last = if found.len() == 2 { last } else { last.max(newest) };
            if last > self.since {
                self.since = last;
                let change = |number| Change { seq: Seq { number }, docs: Vec::new() };
                let rows = found.into_iter().map(change).collect();
                return Ok(FeedPage { rows, last_seq: Seq { number: last } });
            }
            self.newest.changed().await.map_err(|_| StoreError)?;
        }
    }
}
