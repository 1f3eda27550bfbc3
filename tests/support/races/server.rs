//! What a connection's tasks share: its outbox, and the newest pages of a feed.

#[path = "../../../src/server/outbox.rs"]
#[allow(dead_code, unused_imports, reason = "a connection uses the rest")]
mod outbox;
#[path = "../../../src/server/tail.rs"]
#[allow(dead_code, reason = "streams use the rest")]
mod tail;

/// In place of the table of errors.
mod error {
    pub struct CloseReason;
}

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{FutureExt as _, StreamExt as _};
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};

use crate::store::{Change, ChangeDocs, Database, Style};
use outbox::{Gone, Outbox, Outgoing, Waiting};
use tail::{Tail, Tails};

const ROOM_BYTES: usize = 300;
const LANE_BYTES: usize = 100;
/// Some fit together, some alone, the largest is larger than all the room.
const MESSAGE_BYTES: [usize; 3] = [10, 150, 500];

/// A task that sends a few messages, each with its own letter and then its number.
fn sender(outbox: Outbox, letter: char) -> JoinHandle<Result<(), Gone>> {
    spawn(async move {
        for (number, bytes) in MESSAGE_BYTES.into_iter().enumerate() {
            let text = format!("{letter}{number}{}", " ".repeat(bytes));
            // Whoever gives up while it waits leaves nothing behind.
            let _ = outbox.room(bytes).now_or_never();
            yield_now().await;
            if letter == 'a' {
                let turn = outbox.turn().await?;
                let room = outbox.all_room().await?;
                drop(turn);
                room.text(text);
            } else {
                outbox.text(text).await?;
            }
        }
        Ok(())
    })
}

fn senders(outbox: &Outbox) -> Vec<JoinHandle<Result<(), Gone>>> {
    let lane = outbox.lane(LANE_BYTES);
    let all = [('a', outbox.clone()), ('b', outbox.clone()), ('c', outbox.clone()), ('d', lane)];
    all.map(|(letter, outbox)| sender(outbox, letter)).into()
}

fn assert_bounded(waiting: &Waiting) {
    assert!(waiting.bytes() <= ROOM_BYTES, "{} bytes wait", waiting.bytes());
}

pub fn senders_share_an_outbox() {
    let (outbox, mut receiver) = Outbox::new(ROOM_BYTES);
    let waiting = outbox.waiting();
    let senders = senders(&outbox);
    drop(outbox);
    block_on(async {
        let mut seen = std::collections::BTreeMap::<char, usize>::new();
        while let Some(Outgoing::Message(message, room)) = receiver.next().await {
            let text = message.to_text().expect("it is a text");
            let (letter, number) = text.trim_end().split_at(1);
            let letter = letter.chars().next().expect("each has one");
            let next = seen.entry(letter).or_default();
            assert_eq!(number.parse(), Ok(*next), "{letter} out of order");
            *next += 1;
            assert_bounded(&waiting);
            yield_now().await;
            drop(room);
        }
        assert!(seen.values().all(|count| *count == MESSAGE_BYTES.len()), "{seen:?}");
        assert_eq!(seen.len(), senders.len());
        for sender in senders {
            assert_eq!(sender.await.expect("it ends"), Ok(()));
        }
        assert_eq!(waiting.bytes(), 0);
    });
}

pub fn a_connection_ends_under_its_senders() {
    let (outbox, mut receiver) = Outbox::new(ROOM_BYTES);
    let waiting = outbox.waiting();
    let senders = senders(&outbox);
    block_on(async {
        for _ in 0..2 {
            drop(receiver.next().await);
        }
        drop(receiver);
        for sender in senders {
            // Each ends, whether its last message was still taken or not.
            let _ = sender.await.expect("it ends");
        }
        assert_eq!(outbox.text("late".into()).await, Err(Gone));
        assert_eq!(waiting.bytes(), 0);
    });
}

const CHANGES: u64 = 5;
/// More than all pages have, so that a reader takes as many as there are.
const BYTES_MAX: usize = 1_000;

fn tail(tails: &Tails, database: &Database) -> Arc<Tail> {
    tails.of(database, Style, ChangeDocs, false)
}

fn render(change: &Change) -> String {
    change.seq.number.to_string()
}

/// Reads changes up to the last one; with each read, whether `purged` was said before it.
async fn read_all(
    tail: Arc<Tail>,
    database: Database,
    purged: Arc<AtomicBool>,
) -> Vec<(u64, bool)> {
    let mut feed = database.feed();
    let mut seen = Vec::new();
    while feed.place().number < CHANGES {
        let mut after = purged.load(Ordering::SeqCst);
        let at_once = tail.next(&mut feed, &database, BYTES_MAX, render).now_or_never();
        let pages = match at_once {
            Some(pages) => pages,
            // Whoever gives up gets the same pages later.
            None => {
                yield_now().await;
                after = purged.load(Ordering::SeqCst);
                tail.next(&mut feed, &database, BYTES_MAX, render).await
            }
        };
        for page in pages.expect("the database lives") {
            assert_eq!(page.texts.len(), page.page.rows.len());
            seen.extend(page.page.rows.iter().map(|row| (row.seq.number, after)));
        }
    }
    seen
}

/// Runs three readers while changes are made; what each of them saw.
fn read_while(
    write: impl Future<Output = ()> + Send + 'static,
    database: &Database,
    purged: &Arc<AtomicBool>,
) -> Vec<Vec<(u64, bool)>> {
    let tails = Tails::default();
    let tail = tail(&tails, database);
    let read = |_| spawn(read_all(Arc::clone(&tail), database.clone(), Arc::clone(purged)));
    let readers: Vec<_> = (0..3).map(read).collect();
    let writing = spawn(write);
    block_on(async {
        writing.await.expect("it ends");
        let mut seen = Vec::new();
        for reader in readers {
            seen.push(reader.await.expect("it ends"));
        }
        seen
    })
}

pub fn readers_share_a_tail() {
    let database = Database::new();
    let writer = database.clone();
    let write = async move {
        for number in 1..=CHANGES {
            writer.add(number);
            yield_now().await;
        }
    };
    for seen in read_while(write, &database, &Arc::default()) {
        let numbers: Vec<u64> = seen.into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, (1..=CHANGES).collect::<Vec<_>>());
    }
}

pub fn a_purge_among_readers() {
    const PURGED: u64 = 2;
    let (database, purged) = (Database::new(), Arc::new(AtomicBool::new(false)));
    let (writer, done) = (database.clone(), Arc::clone(&purged));
    let write = async move {
        writer.add(1);
        writer.add(PURGED);
        yield_now().await;
        writer.purge(PURGED);
        done.store(true, Ordering::SeqCst);
        for number in PURGED + 1..=CHANGES {
            yield_now().await;
            writer.add(number);
        }
    };
    for seen in read_while(write, &database, &purged) {
        assert!(!seen.contains(&(PURGED, true)), "shown after its purge: {seen:?}");
        let others = seen.into_iter().map(|(number, _)| number).filter(|number| *number != PURGED);
        assert!(others.eq((1..=CHANGES).filter(|number| *number != PURGED)));
    }
}
