//! The table `[metrics]`: who may read `/_metrics`, beside who administers the gateway.

use serde::Deserialize;
use settee::server::MetricsAccess;

/// Who may read `/_metrics`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub public: bool,
    pub token: Option<Secret>,
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Metrics {
    /// Whether the token is one that nobody could know.
    pub fn has_empty_token(&self) -> bool {
        self.token.as_ref().is_some_and(|Secret(token)| token.is_empty())
    }

    pub fn access(&self) -> MetricsAccess {
        match &self.token {
            _ if self.public => MetricsAccess::Everybody,
            Some(Secret(token)) => MetricsAccess::Token(token.clone()),
            None => MetricsAccess::Administrators,
        }
    }
}
