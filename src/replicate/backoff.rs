//! How long to wait before something is tried again.

use std::time::Duration;

/// Pauses between attempts: from `first`, doubling, to `max`; each shortened by a random part of up
/// to half, so that many clients do not come back at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The pause before the second attempt.
    pub first: Duration,
    /// The longest pause.
    pub max: Duration,
}

impl Default for Backoff {
    /// From half a second to 30 seconds.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The pause after so many failures.
    pub(crate) fn jittered(&self, failures: u32) -> Duration {
        self.pause(failures, random())
    }

    /// The same with `random` from 0 to 1.
    fn pause(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let full = self.first.saturating_mul(1 << doublings).min(self.max);
        full.mul_f64(1.0 - random / 2.0)
    }
}

fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness the pauses are not jittered, and still grow.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_jittered_and_capped() {
        let backoff = Backoff::default();
        let pause = |failures| backoff.pause(failures, 0.0).as_millis();
        assert_eq!(
            [pause(1), pause(2), pause(3), pause(7), pause(1000)],
            [500, 1000, 2000, 30000, 30000]
        );
        assert_eq!(backoff.pause(1, 1.0).as_millis(), 250);
    }
}
