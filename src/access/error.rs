//! What can be wrong with rules of access.

use std::path::PathBuf;

/// Why rules of access cannot be used. Never holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// A pattern of database names that no database could match, or that cannot be read.
    #[error("{pattern:?} is no pattern of database names: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A rule without patterns or rights, or with a selector that cannot be used.
    #[error("a rule cannot be used: {reason}")]
    Rule {
        /// What is wrong with it.
        reason: String,
    },
    /// A token, user, role or key that cannot be used.
    #[error("{what} {name:?}: {reason}")]
    Entry {
        /// The kind of entry.
        what: &'static str,
        /// Its name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting that cannot be used.
    #[error("{key}: {reason}")]
    Setting {
        /// The key in the file.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of a secret or of keys that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl AccessError {
    pub(super) fn entry(
        what: &'static str,
        name: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self::Entry { what, name: name.into(), reason: reason.into() }
    }
}
