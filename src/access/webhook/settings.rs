//! The table `[access.webhook]`.

use std::path::PathBuf;

use serde::Deserialize;

use crate::access::secret::Secret;

/// Where the application's own server is, and how it is asked.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where requests are posted, with `http://` or `https://`.
    pub url: String,
    /// Signs the requests.
    pub secret: Option<Secret>,
    /// A file that holds the secret.
    pub secret_file: Option<PathBuf>,
    /// Names of headers of the client's request that are sent; none. The application judges by what
    /// is sent alone, and answers are remembered apart for what differs in it.
    pub headers: Vec<String>,
    /// Milliseconds in which one try must be answered; 3,000.
    pub timeout_ms: u64,
    /// Further tries after one without an answer or with a status of 500 and more; 1.
    pub retries: u32,
    /// Seconds for which an answer is remembered, where it does not say itself; 30. Zero for not at
    /// all.
    pub cache_s: u64,
    /// Bytes of an answer at most; 64 KiB.
    pub answer_bytes_max: usize,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: None,
            secret_file: None,
            headers: Vec::new(),
            timeout_ms: 3_000,
            retries: 1,
            cache_s: 30,
            answer_bytes_max: 64 * 1024,
        }
    }
}
