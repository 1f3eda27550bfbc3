//! The table `[log]`: what is logged, and in which form.

use serde::Deserialize;

/// What is logged, and in which form. The level is read again at SIGHUP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub format: Format,
    /// A level, or a filter as SETTEE_LOG takes it.
    pub level: String,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Human,
    Json,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::default(), level: "info".into() }
    }
}
