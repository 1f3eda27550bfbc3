//! The table `[compaction]`: when databases are compacted while they are served.

use std::time::Duration;

use serde::Deserialize;
use settee::store::{CompactOptions, CompactionPolicy};

/// When databases are compacted while they are served.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Compaction {
    pub enabled: bool,
    pub old_mib_min: u32,
    pub old_part_min: f64,
    pub interval_s: f64,
    pub upload_age_s: u32,
    /// 0 for no bound.
    pub mib_per_s_max: u32,
}

impl Default for Compaction {
    fn default() -> Self {
        let CompactionPolicy { old_bytes_min, old_part_min, interval, options } =
            CompactionPolicy::default();
        Self {
            enabled: true,
            old_mib_min: (old_bytes_min >> 20) as u32,
            old_part_min,
            interval_s: interval.as_secs_f64(),
            upload_age_s: options.upload_age.as_secs() as u32,
            mib_per_s_max: 0,
        }
    }
}

impl Compaction {
    pub fn policy(self) -> Option<CompactionPolicy> {
        self.enabled.then(|| CompactionPolicy {
            old_bytes_min: u64::from(self.old_mib_min) << 20,
            old_part_min: self.old_part_min,
            // What is no time is refused as none.
            interval: Duration::try_from_secs_f64(self.interval_s).unwrap_or_default(),
            options: CompactOptions {
                upload_age: Duration::from_secs(self.upload_age_s.into()),
                bytes_per_second_max: (self.mib_per_s_max > 0)
                    .then_some(u64::from(self.mib_per_s_max) << 20),
                ..CompactOptions::default()
            },
        })
    }
}
