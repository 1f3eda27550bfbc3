//! The table `[metrics]`: who may read `/_metrics`, beside who administers the gateway.

use serde::Deserialize;
use settee::access::Secret;
use settee::server::MetricsAccess;

/// Who may read `/_metrics`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub public: bool,
    pub token: Option<Secret>,
}

impl Metrics {
    /// Whether the token is one that nobody could know.
    pub fn has_empty_token(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.expose().is_empty())
    }

    pub fn access(&self) -> MetricsAccess {
        match &self.token {
            _ if self.public => MetricsAccess::Everybody,
            Some(token) => MetricsAccess::Token(token.expose().to_owned()),
            None => MetricsAccess::Administrators,
        }
    }
}
