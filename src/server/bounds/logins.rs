//! Failed logins by address: after as many as may be in a minute, credentials from there are not
//! looked at for a time, which grows each time.
//!
//! Many guesses at once gain nothing: what is judged while its address has come to its bound is not
//! told, be it good or bad.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::Limits;
use crate::server::error::TooMuch;

use super::network_of;
use super::requests::seconds;

const WINDOW: Duration = Duration::from_secs(60);
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// How long after its last failure an address is remembered.
const MEMORY: Duration = Duration::from_secs(2 * 3600);

/// Between two looks for addresses to forget, when there are as many as may be.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The failures of a gateway's clients.
pub(in crate::server) struct Logins {
    per_minute_max: u32,
    entries_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` is for all that have no entry of their own.
    entries: HashMap<Option<IpAddr>, Entry>,
    swept: Option<Instant>,
}

struct Entry {
    failures: u32,
    first: Instant,
    last: Instant,
    blocked_until: Option<Instant>,
    delay: Duration,
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins(…)")
    }
}

impl Logins {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
        Self {
            per_minute_max: limits.failed_logins_per_minute_max,
            entries_max: limits.rate_entries_max,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether credentials from this address are looked at. Peers without an address are not told
    /// apart and not counted.
    pub(in crate::server) fn check(&self, address: Option<IpAddr>) -> Result<(), TooMuch> {
        let Some(address) = address.filter(|_| self.per_minute_max > 0) else { return Ok(()) };
        let state = self.lock();
        let entry = state.entries.get(&Some(network_of(address)));
        let entry = match entry {
            None if state.entries.len() >= self.entries_max => state.entries.get(&None),
            entry => entry,
        };
        let left = entry
            .and_then(|entry| entry.blocked_until?.checked_duration_since(Instant::now()))
            .filter(|left| !left.is_zero());
        match left {
            None => Ok(()),
            Some(left) => Err(TooMuch::FailedLogins { retry_s: seconds(left) }),
        }
    }

    /// Counts a failure.
    pub(in crate::server) fn failed(&self, address: Option<IpAddr>) {
        let Some(address) = address.filter(|_| self.per_minute_max > 0) else { return };
        let mut state = self.lock();
        let key = state.key(network_of(address), self.entries_max);
        let now = Instant::now();
        let entry = state.entries.entry(key).or_insert(Entry {
            failures: 0,
            first: now,
            last: now,
            blocked_until: None,
            delay: WINDOW,
        });
        if entry.first + WINDOW <= now {
            (entry.failures, entry.first) = (0, now);
        }
        entry.last = now;
        entry.failures += 1;
        if entry.failures >= self.per_minute_max {
            tracing::warn!(%address, delay_s = entry.delay.as_secs(), "too many failed logins");
            entry.blocked_until = Some(now + entry.delay);
            entry.delay = (entry.delay * 2).min(DELAY_MAX);
            entry.failures = 0;
        }
    }
}

impl State {
    /// The key to count under: the address if there is room for it.
    fn key(&mut self, address: IpAddr, entries_max: usize) -> Option<IpAddr> {
        let key = Some(address);
        if self.entries.contains_key(&key) || self.entries.len() < entries_max {
            return key;
        }
        let now = Instant::now();
        if self.swept.is_none_or(|swept| swept + SWEEP_INTERVAL <= now) {
            self.swept = Some(now);
            self.entries.retain(|_, entry| entry.last + MEMORY > now);
        }
        if self.entries.len() < entries_max { key } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn logins(per_minute_max: u32, rate_entries_max: usize) -> Logins {
        Logins::new(&Limits {
            failed_logins_per_minute_max: per_minute_max,
            rate_entries_max,
            ..Limits::default()
        })
    }

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[tokio::test(start_paused = true)]
    async fn the_delay_grows_and_ends() {
        let logins = logins(10, 100);
        for delay_s in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
            for _ in 0..10 {
                assert_eq!(logins.check(Some(address(1))), Ok(()));
                logins.failed(Some(address(1)));
            }
            let refused = Err(TooMuch::FailedLogins { retry_s: delay_s });
            assert_eq!(logins.check(Some(address(1))), refused);
            assert_eq!(logins.check(Some(address(2))), Ok(()), "another address");
            advance(Duration::from_secs(delay_s)).await;
        }
        assert_eq!(logins.check(Some(address(1))), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_far_apart_are_no_matter() {
        let logins = logins(3, 100);
        for _ in 0..10 {
            logins.failed(Some(address(1)));
            logins.failed(Some(address(1)));
            assert_eq!(logins.check(Some(address(1))), Ok(()));
            advance(Duration::from_secs(60)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_the_bound_are_counted_together_and_forgotten_in_time() {
        let logins = logins(2, 3);
        for n in 1..=3 {
            logins.failed(Some(address(n)));
        }
        logins.failed(Some(address(4)));
        logins.failed(Some(address(5)));
        assert!(logins.check(Some(address(6))).is_err(), "as one of all others");
        assert_eq!(logins.check(Some(address(1))), Ok(()), "it has its own count");
        assert_eq!(logins.lock().entries.len(), 4);
        advance(Duration::from_secs(3 * 3600)).await;
        logins.failed(Some(address(7)));
        assert_eq!(logins.lock().entries.len(), 1);
    }

    #[test]
    fn no_bound_and_no_address_count_nothing() {
        let (unbounded, bounded) = (logins(0, 10), logins(1, 10));
        for _ in 0..5 {
            unbounded.failed(Some(address(1)));
            bounded.failed(None);
        }
        assert_eq!((unbounded.check(Some(address(1))), bounded.check(None)), (Ok(()), Ok(())));
        assert!(unbounded.lock().entries.is_empty() && bounded.lock().entries.is_empty());
    }
}
