//! Which databases are active, and who is in them. Changed only under one lock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::doc::DbName;
use crate::proto::message::WireError;
use crate::store::Database;

use super::ClosingCause;
use super::activity::{Activity, DatabaseClient, Watched};

/// The databases that are active, and those that are about to be or no longer are.
pub(super) struct Table {
    pub entries: BTreeMap<DbName, Entry>,
    /// Their number, for who waits until there are none.
    pub count: watch::Sender<usize>,
    pub stopping: bool,
    /// Tells apart activations of one name.
    activations: u64,
    clients: u64,
}

pub(super) struct Entry {
    pub number: u64,
    pub ephemeral: bool,
    pub phase: Phase,
    pub clients: HashMap<u64, Arc<DatabaseClient>>,
    /// When the last client left.
    pub idle_since: Instant,
    /// Whether a task waits for the time to close it.
    pub lingering: bool,
    /// Whether it was made by the client that activated it.
    pub made: bool,
    /// What came of opening it, or nothing yet. Dropped when the entry goes, so that who waits for
    /// that looks again.
    pub outcome: watch::Sender<Outcome>,
}

pub(super) enum Phase {
    /// The application prepares it.
    Opening,
    Open(Database),
    /// The application takes leave of it.
    Closing,
}

/// What came of opening a database.
#[derive(Clone)]
pub(super) enum Outcome {
    Pending,
    Open,
    /// It is not there, and whoever activated it could not make it.
    Missing,
    TimedOut,
    Refused(WireError),
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            count: watch::Sender::new(0),
            stopping: false,
            activations: 0,
            clients: 0,
        }
    }
}

impl Table {
    /// Makes room for a database that is to be opened.
    pub(super) fn begin(
        &mut self,
        name: &DbName,
        ephemeral: bool,
    ) -> (u64, watch::Receiver<Outcome>) {
        self.activations += 1;
        let entry = Entry {
            number: self.activations,
            ephemeral,
            phase: Phase::Opening,
            clients: HashMap::new(),
            idle_since: Instant::now(),
            lingering: false,
            made: false,
            outcome: watch::Sender::new(Outcome::Pending),
        };
        self.count.send_modify(|count| *count += 1);
        let begun = (entry.number, entry.outcome.subscribe());
        self.entries.insert(name.clone(), entry);
        begun
    }

    /// The entry of one activation, unless another one has taken its place.
    pub(super) fn entry(&mut self, name: &DbName, number: u64) -> Option<&mut Entry> {
        self.entries.get_mut(name).filter(|entry| entry.number == number)
    }

    /// Lets a client in.
    pub(super) fn join(
        &mut self,
        name: &DbName,
        mut client: DatabaseClient,
        watched: &Watched,
    ) -> u64 {
        self.clients += 1;
        client.id = self.clients;
        let (id, client) = (client.id, Arc::new(client));
        watched.tell(|| Activity::ClientJoined {
            database: name.clone(),
            client: Arc::clone(&client),
        });
        if let Some(entry) = self.entries.get_mut(name) {
            entry.clients.insert(id, client);
        }
        id
    }

    /// Lets everybody go who is still in a database that closes; answers the database.
    pub(super) fn begin_closing(&mut self, name: &DbName, watched: &Watched) -> Option<Database> {
        let entry = self.entries.get_mut(name)?;
        if !matches!(entry.phase, Phase::Open(_)) {
            return None;
        }
        let Phase::Open(database) = std::mem::replace(&mut entry.phase, Phase::Closing) else {
            return None;
        };
        entry.outcome = watch::Sender::new(Outcome::Pending);
        let mut left: Vec<_> = entry.clients.drain().map(|(_, client)| client).collect();
        left.sort_unstable_by_key(|client| client.id);
        for client in left {
            watched.tell(|| Activity::ClientLeft { database: name.clone(), client });
        }
        Some(database)
    }

    /// Forgets a database that has closed.
    pub(super) fn closed(&mut self, name: &DbName, cause: ClosingCause, watched: &Watched) {
        self.forget(name);
        watched.tell(|| Activity::DatabaseClosed { database: name.clone(), cause });
    }

    pub(super) fn forget(&mut self, name: &DbName) -> Option<Entry> {
        let entry = self.entries.remove(name)?;
        self.count.send_modify(|count| *count -= 1);
        Some(entry)
    }

    pub(super) fn ephemeral(&self) -> usize {
        self.entries.values().filter(|entry| entry.ephemeral).count()
    }
}
