//! Failed logins by address: after as many as may be in a minute, credentials from there are not
//! looked at for a time, which grows each time.
//!
//! Many guesses at once gain nothing: what is judged while its address has come to its bound is not
//! told, be it good or bad. Nor does giving up: the work was done, so it counts as a failure. And few
//! of an address are judged at a time, so that those of others come to their turn.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::limits::Limits;
use crate::server::error::TooMuch;

use super::network_of;
use super::requests::seconds;

const WINDOW: Duration = Duration::from_secs(60);
const DELAY_MAX: Duration = Duration::from_secs(3600);

/// How long after its last failure an address is remembered.
const MEMORY: Duration = Duration::from_secs(2 * 3600);

/// Logins of one address that are judged at a time; more wait.
const AT_ONCE_MAX: usize = 32;

/// The part of a full table that makes room at a time: looking for it is work.
const EVICTED_PART: usize = 16;

/// The failures of a gateway's clients.
pub(in crate::server) struct Logins {
    per_minute_max: u32,
    entries_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: HashMap<IpAddr, Entry>,
    judging: HashMap<IpAddr, Judging>,
}

struct Entry {
    failures: u32,
    first: Instant,
    last: Instant,
    blocked_until: Option<Instant>,
    delay: Duration,
}

/// The logins of one address that are judged or wait for it.
struct Judging {
    places: usize,
    turns: Arc<Semaphore>,
}

/// One of them.
struct Place<'a> {
    logins: &'a Logins,
    address: IpAddr,
}

/// Credentials that are being looked at. Dropped before its end it counts as a failure.
pub(in crate::server) struct Attempt<'a> {
    /// `None` for what is not counted.
    pending: Option<(Place<'a>, OwnedSemaphorePermit)>,
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

    /// What an address is counted as. Peers without one are not told apart and not counted.
    fn counted(&self, address: Option<IpAddr>) -> Option<IpAddr> {
        address.filter(|_| self.per_minute_max > 0).map(network_of)
    }

    /// Waits for its turn among those of its address; refused where too many have failed.
    pub(in crate::server) async fn begin(
        &self,
        address: Option<IpAddr>,
    ) -> Result<Attempt<'_>, TooMuch> {
        self.check(address)?;
        let Some(counted) = self.counted(address) else { return Ok(Attempt { pending: None }) };
        let (place, turns) = self.place(counted);
        let turn = turns.acquire_owned().await.expect("nobody closes it");
        // Those that went before it may have failed.
        self.check(address)?;
        Ok(Attempt { pending: Some((place, turn)) })
    }

    fn place(&self, address: IpAddr) -> (Place<'_>, Arc<Semaphore>) {
        let mut state = self.lock();
        let judging = state
            .judging
            .entry(address)
            .or_insert_with(|| Judging { places: 0, turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) });
        judging.places += 1;
        (Place { logins: self, address }, Arc::clone(&judging.turns))
    }

    /// Whether credentials from this address are looked at.
    pub(in crate::server) fn check(&self, address: Option<IpAddr>) -> Result<(), TooMuch> {
        let Some(address) = self.counted(address) else { return Ok(()) };
        let left =
            self.lock().entries.get(&address).and_then(|entry| entry.blocked(Instant::now()));
        match left {
            None => Ok(()),
            Some(left) => Err(TooMuch::FailedLogins { retry_s: seconds(left) }),
        }
    }

    /// Counts a failure; none of an address that has come to its bound.
    pub(in crate::server) fn failed(&self, address: Option<IpAddr>) {
        let Some(address) = self.counted(address) else { return };
        let now = Instant::now();
        let mut state = self.lock();
        if !state.entries.contains_key(&address) {
            state.make_room(self.entries_max, now);
        }
        let entry = state.entries.entry(address).or_insert(Entry {
            failures: 0,
            first: now,
            last: now,
            blocked_until: None,
            delay: WINDOW,
        });
        if entry.blocked(now).is_some() {
            return;
        }
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

impl Entry {
    /// For how long it is still refused.
    fn blocked(&self, now: Instant) -> Option<Duration> {
        self.blocked_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }
}

impl State {
    /// Forgets, for one more address, those that failed longest ago; whoever is refused at the
    /// moment comes last.
    fn make_room(&mut self, entries_max: usize, now: Instant) {
        if self.entries.len() < entries_max {
            return;
        }
        self.entries.retain(|_, entry| entry.last + MEMORY > now);
        let excess = (self.entries.len() + 1).saturating_sub(entries_max);
        if excess == 0 {
            return;
        }
        let rank = |(address, entry): (&IpAddr, &Entry)| {
            (entry.blocked(now).is_some(), entry.last, *address)
        };
        let mut ranked: Vec<(bool, Instant, IpAddr)> = self.entries.iter().map(rank).collect();
        ranked.sort_unstable();
        for (_, _, address) in ranked.into_iter().take(excess + entries_max / EVICTED_PART) {
            self.entries.remove(&address);
        }
    }
}

impl Attempt<'_> {
    /// Ends it with its verdict, which is told only if its address has not come to its bound.
    pub(in crate::server) fn end(mut self, failed: bool) -> Result<(), TooMuch> {
        let Some((place, _turn)) = self.pending.take() else { return Ok(()) };
        place.logins.check(Some(place.address))?;
        if failed {
            place.logins.failed(Some(place.address));
        }
        Ok(())
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if let Some((place, _)) = &self.pending {
            place.logins.failed(Some(place.address));
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut state = self.logins.lock();
        if let Some(judging) = state.judging.get_mut(&self.address) {
            judging.places -= 1;
            if judging.places == 0 {
                state.judging.remove(&self.address);
            }
        }
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
    async fn one_address_too_many_takes_the_place_of_the_oldest_that_is_not_refused() {
        let logins = logins(2, 3);
        logins.failed(Some(address(1)));
        logins.failed(Some(address(1)));
        for n in 2..=100 {
            advance(Duration::from_millis(1)).await;
            assert_eq!(logins.check(Some(address(n))), Ok(()), "nobody pays for others");
            logins.failed(Some(address(n)));
            assert!(logins.lock().entries.len() <= 3);
        }
        assert!(logins.check(Some(address(1))).is_err(), "it is still refused");
        logins.failed(Some(address(100)));
        assert!(logins.check(Some(address(100))).is_err(), "the newest keep their counts");
        for n in 101..=110 {
            logins.failed(Some(address(n)));
            logins.failed(Some(address(n)));
            assert!(logins.check(Some(address(n))).is_err());
        }
        assert_eq!(logins.lock().entries.len(), 3);
        advance(Duration::from_secs(3 * 3600)).await;
        logins.failed(Some(address(7)));
        assert_eq!(logins.lock().entries.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_up_has_failed_and_what_is_judged_counts_by_its_verdict() {
        let logins = logins(2, 100);
        for _ in 0..5 {
            logins.begin(Some(address(1))).await.unwrap().end(false).unwrap();
            logins.begin(None).await.unwrap().end(true).unwrap();
        }
        drop(logins.begin(Some(address(1))).await.unwrap());
        let late = logins.begin(Some(address(1))).await.unwrap();
        logins.begin(Some(address(1))).await.unwrap().end(true).unwrap();
        assert!(logins.begin(Some(address(1))).await.is_err());
        assert!(late.end(false).is_err(), "its verdict is not told");
        assert!(logins.lock().judging.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn few_of_an_address_are_judged_at_a_time() {
        let logins = logins(2, 100);
        let mut judged = Vec::new();
        for _ in 0..AT_ONCE_MAX {
            judged.push(logins.begin(Some(address(1))).await.unwrap());
        }
        let mut waiting = Box::pin(logins.begin(Some(address(1))));
        let mut given_up = Box::pin(logins.begin(Some(address(1))));
        assert!(futures::poll!(&mut waiting).is_pending());
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert!(logins.lock().entries.is_empty(), "who gave up waiting made no work");
        logins.begin(Some(address(2))).await.unwrap().end(false).unwrap();
        judged.pop().unwrap().end(false).unwrap();
        waiting.await.unwrap().end(false).unwrap();
        judged.pop().unwrap().end(true).unwrap();
        judged.push(logins.begin(Some(address(1))).await.unwrap());
        judged.push(logins.begin(Some(address(1))).await.unwrap());
        let mut late = Box::pin(logins.begin(Some(address(1))));
        assert!(futures::poll!(&mut late).is_pending());
        judged.pop().unwrap().end(true).unwrap();
        assert!(late.await.is_err(), "it is not judged any more");
        drop(judged);
        assert!(logins.lock().judging.is_empty());
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
