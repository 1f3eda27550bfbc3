//! Structures that many tasks share, in thousands of orders in which their tasks may go on: nobody
//! waits for ever, and nothing is lost, doubled or shown too late.
//!
//! The files of `src/` are compiled here once more, with shuttle's locks instead of the standard
//! library's: tasks take turns at each lock and at each await, as a random scheduler has it. A task that
//! can never go on ends the schedule with an error. `SETTEE_RACES` says how many schedules of each,
//! `SETTEE_SEED` with which seed to begin.

#[path = "support/random.rs"]
mod random;
#[path = "support/races/server.rs"]
mod server;
#[path = "support/races/store.rs"]
mod store;

/// In place of the library's module of this name.
mod sync {
    pub use shuttle::sync::{Mutex, MutexGuard};
}

use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};

use random::{seed, setting};
use shuttle::scheduler::RandomScheduler;
use shuttle::{Config, FailurePersistence, Runner};

type Race = fn();

const RACES: [(&str, Race); 7] = [
    ("a feed is let go by every loud change", store::feeds_among_quiet_writes),
    ("a feed is not let go by a quiet change", store::a_feed_and_one_quiet_write),
    ("a writer that gives up lets feeds go", store::a_writer_that_gives_up),
    ("an outbox holds its bound and keeps the order", server::senders_share_an_outbox),
    ("an outbox that is gone holds nobody", server::a_connection_ends_under_its_senders),
    ("a tail gives each reader every change once", server::readers_share_a_tail),
    ("a tail shows nothing that was purged before", server::a_purge_among_readers),
];

fn run(race: Race, seed: u64, schedules: usize, config: Config) {
    Runner::new(RandomScheduler::new_from_seed(seed, schedules), config).run(race);
}

fn main() {
    let (seed, schedules) = (seed(), setting("SETTEE_RACES", 10_000) as usize);
    println!("SETTEE_RACES={schedules} SETTEE_SEED={seed} cargo test --test races");
    for (name, race) in RACES {
        run(race, seed, schedules, Config::new());
        println!("{name}: {schedules} schedules");
    }
    let mut quiet = Config::new();
    quiet.failure_persistence = FailurePersistence::None;
    set_hook(Box::new(|_| {}));
    let lost =
        || run(store::a_reader_that_looks_before_it_listens, seed, schedules.max(1_000), quiet);
    let found = catch_unwind(AssertUnwindSafe(lost)).is_err();
    drop(take_hook());
    assert!(found, "a lost wake-up must be found");
    println!("a lost wake-up is found");
}
