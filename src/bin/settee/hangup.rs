//! What SIGHUP does: the file of settings is read again for what may change while the gateway runs.

use std::path::PathBuf;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

use crate::audit::Trail;
use crate::config::Config;
use crate::failure::Failure;
use crate::logs::Logs;

/// Waits for SIGHUP.
pub struct Hangup {
    signal: Signal,
    config: Option<PathBuf>,
    logs: Logs,
    trail: Option<Trail>,
}

impl Hangup {
    pub fn new(config: Option<PathBuf>, logs: Logs, trail: Option<Trail>) -> Result<Self, Failure> {
        let signal = signal(SignalKind::hangup())
            .map_err(|source| Failure::Io { doing: "take signals".into(), source })?;
        Ok(Self { signal, config, logs, trail })
    }

    /// Does what each signal asks for, for ever.
    pub async fn run(mut self) {
        while self.signal.recv().await.is_some() {
            if let Some(trail) = &self.trail {
                trail.reopen();
            }
            match self.read_again() {
                Ok(()) => info!("SIGHUP: the log's level was read again, the audit trail reopened"),
                Err(error) => warn!(%error, "SIGHUP: the settings stay as they were"),
            }
        }
        // No further signal will come; the gateway goes on.
        std::future::pending::<()>().await;
    }

    fn read_again(&self) -> Result<(), Failure> {
        let Some(path) = &self.config else { return Ok(()) };
        self.logs.change(&Config::read(path)?.log)
    }
}
