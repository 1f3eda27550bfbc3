//! Who is connected, and how far live feeds are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use super::{Spoken, lock};
use crate::server::outbox::Waiting;
use crate::store::Database;

/// A WebSocket.
#[derive(Clone)]
pub(in crate::server) struct Connected {
    pub spoken: Spoken,
    pub peer: Option<SocketAddr>,
    pub since: SystemTime,
    pub waiting: Waiting,
}

impl Connected {
    pub(super) fn new(spoken: Spoken, peer: Option<SocketAddr>, waiting: Waiting) -> Self {
        Self { spoken, peer, since: SystemTime::now(), waiting }
    }
}

/// The WebSockets of a gateway.
#[derive(Default)]
pub(super) struct Roll {
    next: AtomicU64,
    /// Held for moments only.
    connected: Mutex<HashMap<u64, Connected>>,
}

impl Roll {
    pub(super) fn enter(&self, connected: Connected) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        lock(&self.connected).insert(number, connected);
        number
    }

    pub(super) fn leave(&self, number: u64) {
        lock(&self.connected).remove(&number);
    }

    /// In the order in which they came.
    pub(super) fn list(&self) -> Vec<(u64, Connected)> {
        let connected = lock(&self.connected);
        let mut list: Vec<_> = connected.iter().map(|(key, one)| (*key, one.clone())).collect();
        drop(connected);
        list.sort_unstable_by_key(|(number, _)| *number);
        list
    }
}

/// A feed that somebody follows live.
struct Place {
    database: Database,
    reached: AtomicU64,
}

/// The live feeds of a gateway.
#[derive(Default)]
pub(super) struct Feeds {
    next: AtomicU64,
    places: Arc<Mutex<HashMap<u64, Arc<Place>>>>,
}

impl Feeds {
    pub(super) fn follow(&self, database: &Database, since: u64) -> Followed {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = Arc::new(Place { database: database.clone(), reached: AtomicU64::new(since) });
        lock(&self.places).insert(number, Arc::clone(&place));
        Followed { number, place, places: Arc::clone(&self.places) }
    }

    /// How many there are, and how many changes the slowest is behind.
    pub(super) fn lag(&self) -> (usize, u64) {
        // Looked at without the lock, since a database may have to ask its backend.
        let places: Vec<Arc<Place>> = lock(&self.places).values().cloned().collect();
        let behind = |place: &Arc<Place>| {
            let reached = place.reached.load(Ordering::Relaxed);
            place.database.newest_change().saturating_sub(reached)
        };
        (places.len(), places.iter().map(behind).max().unwrap_or(0))
    }
}

/// A live feed's place, known to the gateway while this lives.
pub(in crate::server) struct Followed {
    number: u64,
    place: Arc<Place>,
    places: Arc<Mutex<HashMap<u64, Arc<Place>>>>,
}

impl Followed {
    /// Takes note of how far the feed has been sent.
    pub(in crate::server) fn reached(&self, seq: u64) {
        self.place.reached.store(seq, Ordering::Relaxed);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        lock(&self.places).remove(&self.number);
    }
}
