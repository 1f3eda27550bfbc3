//! The table `[backup]`: how backups of a gateway are taken.

use serde::Deserialize;

/// How backups of a gateway are taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backup {
    /// 0 for no bound.
    pub mib_per_s_max: u32,
}

impl Backup {
    pub fn bytes_per_second_max(self) -> Option<u64> {
        (self.mib_per_s_max > 0).then_some(u64::from(self.mib_per_s_max) << 20)
    }
}
