//! How many HTTP requests an address or a user may send.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::limits::Limits;
use crate::server::error::TooMuch;

use super::{TokioClock, network_of};

/// Seconds' worth of requests that may come at once.
const BURST_S: u32 = 10;

/// Between two looks for entries that are no longer needed, when there are as many as may be.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// The rates of a gateway.
pub(in crate::server) struct Requests {
    addresses: Option<Keyed<IpAddr>>,
    users: Option<Keyed<String>>,
}

impl Requests {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
        let max = limits.rate_entries_max;
        Self {
            addresses: Keyed::new(limits.requests_per_second_per_address_max, max),
            users: Keyed::new(limits.requests_per_second_per_user_max, max),
        }
    }

    pub(in crate::server) fn from(&self, address: Option<IpAddr>) -> Result<(), TooMuch> {
        match (&self.addresses, address) {
            (Some(rates), Some(address)) => rates.check(network_of(address)),
            _ => Ok(()),
        }
    }

    pub(in crate::server) fn of(&self, user: Option<&str>) -> Result<(), TooMuch> {
        match (&self.users, user) {
            (Some(rates), Some(user)) => rates.check(user.to_owned()),
            _ => Ok(()),
        }
    }
}

type Limiter<K> =
    RateLimiter<K, DefaultKeyedStateStore<K>, TokioClock, NoOpMiddleware<std::time::Instant>>;

struct Keyed<K: Hash + Eq + Clone> {
    /// `None` is for all that have no entry of their own.
    limiter: Limiter<Option<K>>,
    entries_max: usize,
    swept: Mutex<Option<Instant>>,
}

impl<K: Hash + Eq + Clone> Keyed<K> {
    /// None at all for a rate of 0.
    fn new(per_second: u32, entries_max: usize) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(per_second.saturating_mul(BURST_S)).unwrap_or(rate);
        let quota = Quota::per_second(rate).allow_burst(burst);
        let limiter = RateLimiter::new(quota, DefaultKeyedStateStore::default(), TokioClock);
        Some(Self { limiter, entries_max, swept: Mutex::default() })
    }

    fn check(&self, key: K) -> Result<(), TooMuch> {
        let key = if self.has_room() { Some(key) } else { None };
        self.limiter.check_key(&key).map_err(|until| TooMuch::Requests {
            retry_s: seconds(until.wait_time_from(TokioClock.now())),
        })
    }

    /// Whether another key may have an entry; those that are as good as new are forgotten for it.
    fn has_room(&self) -> bool {
        if self.limiter.len() < self.entries_max {
            return true;
        }
        let mut swept = self.swept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_INTERVAL) {
            *swept = Some(Instant::now());
            self.limiter.retain_recent();
        }
        self.limiter.len() < self.entries_max
    }
}

/// Whole seconds to wait, for a header; at least one.
pub(super) fn seconds(time: Duration) -> u64 {
    (time.as_secs() + u64::from(time.subsec_nanos() > 0)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(per_second: u32, rate_entries_max: usize) -> Requests {
        Requests::new(&Limits {
            requests_per_second_per_address_max: per_second,
            requests_per_second_per_user_max: per_second,
            rate_entries_max,
            ..Limits::default()
        })
    }

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_one_more_is_told_when_to_come_back() {
        let requests = requests(1, 10);
        for _ in 0..10 {
            requests.from(Some(address(1))).unwrap();
            requests.of(Some("anna")).unwrap();
        }
        let refused = Err(TooMuch::Requests { retry_s: 1 });
        assert_eq!(requests.from(Some(address(1))), refused);
        assert_eq!(requests.of(Some("anna")), refused);
        requests.from(Some(address(2))).unwrap();
        requests.of(Some("berta")).unwrap();
        requests.of(None).unwrap();
        tokio::time::advance(Duration::from_secs(1)).await;
        requests.from(Some(address(1))).unwrap();
        assert_eq!(requests.from(Some(address(1))), refused);
    }

    #[test]
    fn without_a_rate_nothing_is_counted() {
        let requests = requests(0, 10);
        (0..1_000).for_each(|_| requests.from(Some(address(1))).unwrap());
        assert!(requests.addresses.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_beyond_the_bound_share_an_entry() {
        let requests = requests(1, 2);
        requests.from(Some(address(1))).unwrap();
        requests.from(Some(address(2))).unwrap();
        for n in 3..13 {
            requests.from(Some(address(n))).unwrap();
        }
        assert!(requests.from(Some(address(200))).is_err(), "the eleventh of those that share");
        let entries = requests.addresses.as_ref().unwrap().limiter.len();
        assert_eq!(entries, 3, "two and the shared one");
        tokio::time::advance(Duration::from_secs(60)).await;
        requests.from(Some(address(200))).unwrap();
        let entries = requests.addresses.as_ref().unwrap().limiter.len();
        assert_eq!(entries, 1, "those that are as good as new are forgotten");
    }

    #[test]
    fn neighbours_in_an_ipv6_network_share_a_rate() {
        let requests = requests(1, 10);
        let of = |text: &str| requests.from(Some(text.parse().unwrap()));
        for n in 0..10 {
            of(&format!("2001:db8::{n}")).unwrap();
        }
        assert!(of("2001:db8::ffff").is_err());
        of("2001:db8:0:1::1").unwrap();
    }
}
