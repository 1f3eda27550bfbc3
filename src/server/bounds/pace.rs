//! How fast one connection may send: over its rate it is read no faster, and over it for too long it
//! ends.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::{Instant, sleep};

use crate::limits::Limits;

use super::TokioClock;

type Rate = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<std::time::Instant>>;

/// The rates of one connection.
pub(in crate::server) struct Pace {
    messages: Rate,
    bytes: Rate,
    bytes_burst: NonZeroU32,
    overrun: Duration,
    /// Since when every message has had to wait for its turn.
    held_since: Option<Instant>,
}

/// The connection sends too many messages, and goes on with it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::server) struct TooFast;

impl Pace {
    pub(in crate::server) fn new(limits: &Limits) -> Self {
        let at_least_one = |count: u32| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        let messages = Quota::per_second(at_least_one(limits.messages_per_second_max))
            .allow_burst(at_least_one(limits.messages_burst_max));
        let bytes_burst = at_least_one(limits.inbound_bytes_per_second_max);
        Self {
            messages: RateLimiter::direct_with_clock(messages, TokioClock),
            bytes: RateLimiter::direct_with_clock(Quota::per_second(bytes_burst), TokioClock),
            bytes_burst,
            overrun: Duration::from_millis(limits.messages_overrun_timeout_ms),
            held_since: None,
        }
    }

    /// Counts a message that has come, and waits until the next may be read.
    pub(in crate::server) async fn message(&mut self, bytes: usize) -> Result<(), TooFast> {
        match self.messages.check() {
            Ok(()) => self.held_since = None,
            Err(until) => {
                let since = *self.held_since.get_or_insert_with(Instant::now);
                if since.elapsed() > self.overrun {
                    return Err(TooFast);
                }
                sleep(until.wait_time_from(TokioClock.now())).await;
                // Whatever came in between was this connection's own, which waits here.
                let _ = self.messages.check();
            }
        }
        self.take_bytes(bytes).await;
        Ok(())
    }

    async fn take_bytes(&self, bytes: usize) {
        let mut left = u32::try_from(bytes).unwrap_or(u32::MAX);
        while let Some(part) = NonZeroU32::new(left.min(self.bytes_burst.get())) {
            match self.bytes.check_n(part).expect("a part is at most a burst") {
                Ok(()) => left -= part.get(),
                Err(until) => sleep(until.wait_time_from(TokioClock.now())).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(&Limits {
            messages_per_second_max: 10,
            messages_burst_max: 20,
            inbound_bytes_per_second_max: 1_000,
            messages_overrun_timeout_ms: 5_000,
            ..Limits::default()
        })
    }

    /// Milliseconds that messages of so many bytes wait.
    async fn waits(pace: &mut Pace, messages: usize, bytes: usize) -> u128 {
        let began = Instant::now();
        for _ in 0..messages {
            pace.message(bytes).await.unwrap();
        }
        began.elapsed().as_millis()
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_one_more_waits() {
        let mut pace = pace();
        assert_eq!(waits(&mut pace, 20, 0).await, 0);
        assert!((90..=110).contains(&waits(&mut pace, 1, 0).await));
        assert!((950..=1_050).contains(&waits(&mut pace, 10, 0).await));
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_wait_by_their_number_even_over_a_burst() {
        let mut pace = pace();
        assert_eq!(waits(&mut pace, 1, 1_000).await, 0);
        assert!((1..=10).contains(&waits(&mut pace, 1, 1).await));
        assert!((2_900..=3_100).contains(&waits(&mut pace, 1, 3_000).await));
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_on_too_fast_is_ended_and_a_rest_forgives() {
        let mut pace = pace();
        waits(&mut pace, 60, 0).await;
        sleep(Duration::from_secs(1)).await;
        waits(&mut pace, 50, 0).await;
        let began = Instant::now();
        while pace.message(0).await.is_ok() {
            assert!(began.elapsed() < Duration::from_secs(6), "it goes on for ever");
        }
    }
}
