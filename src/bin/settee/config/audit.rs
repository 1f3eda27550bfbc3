//! The table `[audit]`: where the audit trail is written.

use std::path::PathBuf;

use serde::Deserialize;

/// Where the audit trail is written; nowhere if not said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    pub path: Option<PathBuf>,
}
