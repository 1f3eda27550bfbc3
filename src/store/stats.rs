//! What a store measures of itself, for whoever watches it.
//!
//! Recording is a few additions without a lock; whoever asks gets a copy.

#[cfg(feature = "sled")]
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use super::Store;
use super::error::StoreError;

/// How measured values are spread.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread {
    /// Upper bounds, ascending, each with how many values lie within it and above the one before.
    /// The last bound is [`u64::MAX`].
    pub counts: Vec<(u64, u64)>,
    /// All values together.
    pub sum: u64,
}

/// What a backend measures of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BackendStats {
    /// Whether a flush has failed, after which every write does.
    pub poisoned: bool,
    /// Microseconds that each flush took.
    pub flush_us: Spread,
    /// Documents and other rows that shared a flush.
    pub group_rows: Spread,
}

/// What a store measures of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// What its backend measures.
    pub backend: BackendStats,
    /// Compactions of a database that were brought to their end.
    pub compactions: u64,
}

impl Store {
    /// What it measured since it was opened.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            backend: self.shared.backend.stats(),
            compactions: self.shared.compactions.load(Ordering::Relaxed),
        }
    }

    /// Bytes of its files; `None` if it has none. Looks at every file.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn disk_bytes(&self) -> Result<Option<u64>, StoreError> {
        self.shared.backend.disk_bytes().await
    }
}

/// Collects a [`Spread`].
#[cfg(feature = "sled")]
#[derive(Debug)]
pub(super) struct Meter {
    bounds: &'static [u64],
    /// One more than bounds.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

#[cfg(feature = "sled")]
impl Meter {
    /// With these upper bounds, ascending.
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.counts[place].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn spread(&self) -> Spread {
        let bounds = self.bounds.iter().copied().chain([u64::MAX]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Spread { counts: bounds.zip(counts).collect(), sum: self.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(all(test, feature = "sled"))]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_under_the_first_bound_that_holds_it() {
        let meter = Meter::new(&[1, 10]);
        [0, 1, 2, 10, 11, 500].into_iter().for_each(|value| meter.record(value));
        let spread = meter.spread();
        assert_eq!(spread.counts, [(1, 2), (10, 2), (u64::MAX, 2)]);
        assert_eq!(spread.sum, 524);
    }
}
