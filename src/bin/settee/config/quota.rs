//! The tables `[[quotas]]`: how much databases may hold.

use serde::Deserialize;
use settee::store::{Quota, QuotaRule};

/// How much databases may hold whose names match.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quotas {
    pub databases: String,
    pub docs: Option<u64>,
    pub mib: Option<u32>,
}

impl From<Quotas> for QuotaRule {
    fn from(Quotas { databases, docs, mib }: Quotas) -> Self {
        let bytes_max = mib.map(|mib| u64::from(mib) << 20);
        Self { databases, quota: Quota { docs_max: docs, bytes_max } }
    }
}
