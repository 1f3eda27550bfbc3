//! Who is connected, and how far live feeds are.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
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
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn enter(&self, number: u64, connected: Connected) {
        lock(&self.connected).insert(number, connected);
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

type Places = Mutex<HashMap<u64, Weak<Place>>>;

/// A feed that somebody follows live.
struct Place {
    number: u64,
    database: Database,
    reached: AtomicU64,
    places: Arc<Places>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.places).remove(&self.number);
    }
}

/// The live feeds of a gateway.
#[derive(Default)]
pub(super) struct Feeds {
    next: AtomicU64,
    /// Held for moments only, and not while a place may go.
    places: Arc<Places>,
}

impl Feeds {
    pub(super) fn follow(&self, database: &Database, since: u64) -> Followed {
        let place = Arc::new(Place {
            number: self.next.fetch_add(1, Ordering::Relaxed),
            database: database.clone(),
            reached: AtomicU64::new(since),
            places: Arc::clone(&self.places),
        });
        lock(&self.places).insert(place.number, Arc::downgrade(&place));
        Followed(place)
    }

    /// How many there are, and how many changes the slowest is behind.
    pub(super) fn lag(&self) -> (usize, u64) {
        // Looked at without the lock, since a database may have to ask its backend.
        let places: Vec<Weak<Place>> = lock(&self.places).values().cloned().collect();
        let behind = |place: &Weak<Place>| {
            let place = place.upgrade()?;
            let reached = place.reached.load(Ordering::Relaxed);
            Some(place.database.newest_change().saturating_sub(reached))
        };
        (places.len(), places.iter().filter_map(behind).max().unwrap_or(0))
    }
}

/// A live feed's place, known to the gateway while this lives. As small as it can be: it is a part of
/// every call.
pub(in crate::server) struct Followed(Arc<Place>);

impl Followed {
    /// Takes note of how far the feed has been sent.
    pub(in crate::server) fn reached(&self, seq: u64) {
        self.0.reached.store(seq, Ordering::Relaxed);
    }
}
