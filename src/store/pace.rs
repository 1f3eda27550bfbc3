//! A bound on how fast something reads or writes the disk.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Lets so many bytes pass in a second, on the average over some moments.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_second_max: Option<u64>,
    /// When everything that has passed was allowed to have passed.
    due: Instant,
}

impl Pace {
    /// Without a bound nothing ever waits.
    pub(super) fn new(bytes_per_second_max: Option<u64>) -> Self {
        Self { bytes_per_second_max, due: Instant::now() }
    }

    /// Waits until what was taken before may have passed, and takes more.
    pub(super) async fn take(&mut self, bytes: u64) {
        let Some(max) = self.bytes_per_second_max else { return };
        sleep_until(self.due).await;
        // Time in which nothing passed is not saved up.
        let from = self.due.max(Instant::now());
        self.due = from + Duration::from_secs_f64(bytes as f64 / max.max(1) as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_take_their_time_and_rests_are_not_saved_up() {
        let mut pace = Pace::new(Some(1_000));
        let began = Instant::now();
        for _ in 0..10 {
            pace.take(500).await;
        }
        // The last one is under way.
        assert_eq!(began.elapsed().as_millis(), 4_500);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let rested = Instant::now();
        pace.take(1_000).await;
        pace.take(1_000).await;
        pace.take(1).await;
        assert_eq!(rested.elapsed().as_secs(), 2);
        let mut unbound = Pace::new(None);
        let free = Instant::now();
        unbound.take(u64::MAX).await;
        unbound.take(u64::MAX).await;
        assert_eq!(free.elapsed(), Duration::ZERO);
    }
}
