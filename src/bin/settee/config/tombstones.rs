//! The table `[tombstones]`: which tombstones are purged while databases are served.

use std::time::Duration;

use serde::Deserialize;
use settee::store::TombstonePolicy;

const DAY_S: u64 = 24 * 3600;

/// Which tombstones are purged while databases are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tombstones {
    pub enabled: bool,
    pub age_days: u32,
    pub client_age_days: u32,
    pub interval_s: u32,
}

impl Default for Tombstones {
    fn default() -> Self {
        let TombstonePolicy { age, client_age, interval } = TombstonePolicy::default();
        Self {
            enabled: false,
            age_days: (age.as_secs() / DAY_S) as u32,
            client_age_days: (client_age.as_secs() / DAY_S) as u32,
            interval_s: interval.as_secs() as u32,
        }
    }
}

impl Tombstones {
    pub fn policy(self) -> Option<TombstonePolicy> {
        let days = |days: u32| Duration::from_secs(DAY_S * u64::from(days));
        self.enabled.then(|| TombstonePolicy {
            age: days(self.age_days),
            client_age: days(self.client_age_days),
            interval: Duration::from_secs(self.interval_s.max(1).into()),
        })
    }
}
